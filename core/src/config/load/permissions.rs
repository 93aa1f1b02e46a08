//! Permission blocks.

use std::time::Duration;

use super::{Checked, Loader, Problem};
use crate::config::duration::parse_duration;
use crate::config::options::{Permissions, ResponsePermission, SubjectRules};
use crate::config::text::quoted;
use crate::config::value::{Position, Token, Value};

impl Loader<'_> {
    /// Reads the permissions of a user or an account.
    pub(super) fn permissions(&mut self, token: &Token) -> Checked<Permissions> {
        let Value::Map(entries) = &token.value else {
            return Err(
                token.problem(format!("Expected permissions to be a map/struct, got {}", token.value))
            );
        };
        let mut permissions = Permissions::default();
        self.entries(entries, |loader, key, entry| {
            match key.to_lowercase().as_str() {
                "pub" | "publish" | "import" => permissions.publish = loader.subject_rules(entry, false)?,
                "sub" | "subscribe" | "export" => {
                    permissions.subscribe = loader.subject_rules(entry, true)?;
                }
                "publish_allow_responses" | "allow_responses" => {
                    permissions.responses = match entry.value {
                        Value::Bool(on) => on.then(ResponsePermission::default),
                        _ => Some(response_permission(loader, entry)?),
                    }
                }
                _ => {
                    return entry.unknown_as(format!("Unknown field {} parsing permissions", quoted(key)));
                }
            }
            Ok(())
        });
        if permissions.responses.is_some() {
            // Who may answer wherever asked may publish nothing else unless that is said.
            permissions.publish.get_or_insert_default().allow.get_or_insert_default();
        }
        Ok(permissions)
    }

    fn subject_rules(&mut self, token: &Token, queues: bool) -> Checked<Option<SubjectRules>> {
        let Value::Map(entries) = &token.value else {
            // The reference loses the place of what is written directly here.
            let allow = Some(subjects(&token.value, None, queues)?).filter(|subjects| !subjects.is_empty());
            return Ok(Some(SubjectRules { allow, deny: None }));
        };
        if entries.is_empty() {
            return Ok(None);
        }
        let mut rules = SubjectRules::default();
        self.entries(entries, |_, key, entry| {
            let list = match key.to_lowercase().as_str() {
                "allow" => &mut rules.allow,
                "deny" => &mut rules.deny,
                _ => {
                    return entry.unknown_as(format!(
                        "Unknown field name {} parsing subject permissions, only 'allow' or 'deny' are permitted",
                        quoted(key)
                    ));
                }
            };
            // An empty list is no list: it allows everything.
            *list = Some(subjects(&entry.value, Some(&entry.position), queues)?)
                .filter(|subjects| !subjects.is_empty());
            Ok(())
        });
        Ok(Some(rules))
    }
}

fn problem(place: Option<&Position>, reason: String) -> Problem {
    match place {
        Some(position) => position.problem(reason),
        None => Problem(reason),
    }
}

fn subjects(value: &Value, place: Option<&Position>, queues: bool) -> Checked<Vec<String>> {
    let subjects = match value {
        Value::String(subject) => vec![subject.clone()],
        Value::Array(items) => {
            let mut subjects = Vec::with_capacity(items.len());
            for item in items {
                let Value::String(subject) = &item.value else {
                    return Err(item.problem("Subject in permissions array cannot be cast to string"));
                };
                subjects.push(subject.clone());
            }
            subjects
        }
        other => {
            let reason = format!(
                "Expected subject permissions to be a subject, or array of subjects, got {}",
                other.type_name()
            );
            return Err(problem(place, reason));
        }
    };
    for subject in &subjects {
        check_subject(subject, queues).map_err(|reason| problem(place, reason))?;
    }
    Ok(subjects)
}

/// Checks a subject, which may be followed by a queue where `queues` says so.
fn check_subject(subject: &str, queues: bool) -> Result<(), String> {
    if is_valid_subject(subject) {
        return Ok(());
    }
    let words: Vec<_> = subject.split_whitespace().collect();
    match words.as_slice() {
        [subject, _] if queues && !is_valid_subject(subject) => {
            Err(format!("subject {} is not a valid subject", quoted(subject)))
        }
        [_, queue] if queues && !is_valid_subject(queue) => {
            Err(format!("queue {} is not a valid queue", quoted(queue)))
        }
        [_, _] if queues => Ok(()),
        _ => Err(format!("subject {} is not a valid subject", quoted(subject))),
    }
}

fn is_valid_subject(subject: &str) -> bool {
    crate::subject::is_valid_subject(subject.as_bytes())
}

fn response_permission(loader: &mut Loader<'_>, token: &Token) -> Checked<ResponsePermission> {
    let Value::Map(entries) = &token.value else {
        return Err(token.problem("error parsing response permissions, expected a boolean or a map"));
    };
    let mut response = ResponsePermission::default();
    loader.entries(entries, |_, key, entry| {
        match key.to_lowercase().as_str() {
            // Zero is the default, less is no limit.
            "max" | "max_msgs" | "max_messages" | "max_responses" => match entry.integer()? {
                0 => {}
                ..0 => response.max_messages = None,
                count => response.max_messages = Some(u32::try_from(count).unwrap_or(u32::MAX)),
            },
            "expires" | "expiration" | "ttl" => {
                let Value::String(text) = &entry.value else {
                    return Err(entry.problem("error parsing expires, not a duration string"));
                };
                match parse_duration(text) {
                    Err(reason) => return Err(entry.problem(format!("error parsing expires: {reason}"))),
                    Ok(0) => {}
                    Ok(nanos) => response.expires = u64::try_from(nanos).ok().map(Duration::from_nanos),
                }
            }
            _ => return entry.unknown_as(format!("Unknown field {} parsing permissions", quoted(key))),
        }
        Ok(())
    });
    Ok(response)
}
