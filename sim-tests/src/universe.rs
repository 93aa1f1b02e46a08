//! The subjects, patterns, users and accounts of a run, numbered, with tables of what matches what.
//!
//! Numbers make the checkers cheap, and the tables come from a matcher of this crate's own: comparing the server
//! with its own matcher would prove nothing.

/// A subject: one of the universe, or the inbox subject of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject(pub u32);

const INBOX: u32 = 1 << 31;
/// The subject of nothing.
pub const NO_SUBJECT: Subject = Subject(u32::MAX);

impl Subject {
    /// Returns the subject at which `client` waits for the answer to its request number `request`.
    pub fn inbox(client: u16, request: u16) -> Subject {
        Subject(INBOX | u32::from(client & 0x7fff) << 16 | u32::from(request))
    }

    /// Returns whose inbox subject this is.
    pub fn inbox_of(self) -> Option<u16> {
        (self.0 & INBOX != 0 && self != NO_SUBJECT).then_some((self.0 >> 16 & 0x7fff) as u16)
    }
}

/// What somebody may publish or subscribe to.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Patterns that are allowed; `None` allows all.
    pub allow: Option<Vec<&'static str>>,
    /// Patterns that are not.
    pub deny: Vec<&'static str>,
}

impl Rules {
    fn permits(&self, subject: &str) -> bool {
        self.allow.as_ref().is_none_or(|allow| allow.iter().any(|pattern| matches(pattern, subject)))
            && !self.deny.iter().any(|pattern| matches(pattern, subject))
    }

    /// Returns whether anything is forbidden.
    pub fn restricts(&self) -> bool {
        self.allow.is_some() || !self.deny.is_empty()
    }
}

/// Somebody who may log in.
#[derive(Clone, Debug)]
pub struct User {
    /// User name; the password is the same.
    pub name: &'static str,
    /// Index into [`Universe::accounts`].
    pub account: u8,
    /// What it may publish.
    pub publish: Rules,
    /// What it may subscribe to.
    pub subscribe: Rules,
}

/// All names of a run.
#[derive(Clone, Debug)]
pub struct Universe {
    subjects: Vec<&'static str>,
    patterns: Vec<&'static str>,
    /// Account names; a single one means the default account.
    pub accounts: Vec<&'static str>,
    /// Those who may log in; empty means that everybody may, without a name.
    pub users: Vec<User>,
    table: Vec<bool>,
    /// The patterns that match each subject, in order.
    patterns_of: Vec<Vec<u16>>,
    /// The pattern that matches everything, if there is one.
    everything: Option<u16>,
    may_publish: Vec<bool>,
    may_subscribe: Vec<bool>,
    may_receive: Vec<bool>,
}

/// Names of the queue groups.
pub const QUEUES: [&str; 4] = ["", "workers", "q2", "z"];

impl Universe {
    /// Works the tables out.
    pub fn new(
        subjects: &[&'static str],
        patterns: &[&'static str],
        accounts: &[&'static str],
        users: Vec<User>,
    ) -> Universe {
        let cross = |rows: usize, decide: &dyn Fn(usize, usize) -> bool, columns: usize| {
            (0..rows)
                .flat_map(|row| (0..columns).map(move |column| (row, column)))
                .map(|(row, column)| decide(row, column))
                .collect::<Vec<bool>>()
        };
        let table = cross(patterns.len(), &|p, s| matches(patterns[p], subjects[s]), subjects.len());
        let may_publish = cross(users.len(), &|u, s| users[u].publish.permits(subjects[s]), subjects.len());
        let may_subscribe =
            cross(users.len(), &|u, p| users[u].subscribe.permits(patterns[p]), patterns.len());
        let may_receive = cross(
            users.len(),
            &|u, s| !users[u].subscribe.deny.iter().any(|deny| matches(deny, subjects[s])),
            subjects.len(),
        );
        let patterns_of = (0..subjects.len())
            .map(|subject| {
                let hits = (0..patterns.len()).filter(|pattern| table[pattern * subjects.len() + subject]);
                hits.map(|pattern| pattern as u16).collect()
            })
            .collect();
        Universe {
            patterns_of,
            everything: patterns.iter().position(|pattern| *pattern == ">").map(|pattern| pattern as u16),
            subjects: subjects.to_vec(),
            patterns: patterns.to_vec(),
            accounts: accounts.to_vec(),
            users,
            table,
            may_publish,
            may_subscribe,
            may_receive,
        }
    }

    /// Returns the number of subjects that are not inboxes.
    pub fn subjects(&self) -> usize {
        self.subjects.len()
    }

    /// Returns the number of patterns that are not inboxes; the inbox pattern of client `c` comes `c` places later.
    pub fn patterns(&self) -> usize {
        self.patterns.len()
    }

    /// Appends a subject's name.
    pub fn write_subject(&self, subject: Subject, out: &mut Vec<u8>) {
        match subject.inbox_of() {
            None => out.extend_from_slice(self.subjects[subject.0 as usize].as_bytes()),
            Some(client) => {
                out.extend_from_slice(b"_INBOX.c");
                crate::wire::push_decimal(out, u64::from(client));
                out.push(b'.');
                crate::wire::push_decimal(out, u64::from(subject.0 & 0xffff));
            }
        }
    }

    /// Appends a pattern's name.
    pub fn write_pattern(&self, pattern: u16, out: &mut Vec<u8>) {
        match self.patterns.get(usize::from(pattern)) {
            Some(name) => out.extend_from_slice(name.as_bytes()),
            None => {
                out.extend_from_slice(b"_INBOX.c");
                crate::wire::push_decimal(out, u64::from(pattern) - self.patterns.len() as u64);
                out.extend_from_slice(b".*");
            }
        }
    }

    /// Returns whether `name` is the name of `subject`.
    pub fn is_named(&self, subject: Subject, name: &[u8], scratch: &mut Vec<u8>) -> bool {
        if subject.inbox_of().is_none() {
            return self.subjects.get(subject.0 as usize).is_some_and(|own| own.as_bytes() == name);
        }
        scratch.clear();
        self.write_subject(subject, scratch);
        scratch == name
    }

    /// Returns whether a subscription to `pattern` gets what is published to `subject`.
    pub fn matches(&self, pattern: u16, subject: Subject) -> bool {
        let pattern = usize::from(pattern);
        match subject.inbox_of() {
            None if pattern < self.patterns.len() => {
                self.table[pattern * self.subjects.len() + subject.0 as usize]
            }
            None => false,
            Some(client) => {
                pattern == self.patterns.len() + usize::from(client)
                    || self.patterns.get(pattern) == Some(&">")
            }
        }
    }

    /// Calls `each` with the patterns that match a subject, in order.
    pub fn for_patterns(&self, subject: Subject, mut each: impl FnMut(u16)) {
        match subject.inbox_of() {
            None => self.patterns_of[subject.0 as usize].iter().for_each(|pattern| each(*pattern)),
            Some(client) => {
                if let Some(everything) = self.everything {
                    each(everything);
                }
                each(self.patterns.len() as u16 + client);
            }
        }
    }

    /// Returns a matching pattern's place in the order of [`Universe::for_patterns`].
    pub fn place_of(&self, pattern: u16, subject: Subject) -> Option<usize> {
        match subject.inbox_of() {
            None => self.patterns_of[subject.0 as usize].iter().position(|known| *known == pattern),
            Some(_) if Some(pattern) == self.everything => Some(0),
            Some(_) => Some(usize::from(self.everything.is_some())),
        }
    }

    /// Returns whether a user may publish to a subject.
    pub fn may_publish(&self, user: u8, subject: Subject) -> bool {
        if subject.inbox_of().is_some() {
            // Rules make no difference between inboxes.
            return self.users.get(usize::from(user)).is_none_or(|user| user.publish.permits("_INBOX.c0.0"));
        }
        self.users.is_empty()
            || self.may_publish[usize::from(user) * self.subjects.len() + subject.0 as usize]
    }

    /// Returns whether a user may subscribe to a pattern.
    pub fn may_subscribe(&self, user: u8, pattern: u16) -> bool {
        if usize::from(pattern) >= self.patterns.len() {
            return self
                .users
                .get(usize::from(user))
                .is_none_or(|user| user.subscribe.permits("_INBOX.c0.*"));
        }
        self.users.is_empty()
            || self.may_subscribe[usize::from(user) * self.patterns.len() + usize::from(pattern)]
    }

    /// Returns whether a user may be sent a message, wide as its subscription may be.
    pub fn may_receive(&self, user: u8, subject: Subject) -> bool {
        subject.inbox_of().is_some()
            || self.users.is_empty()
            || self.may_receive[usize::from(user) * self.subjects.len() + subject.0 as usize]
    }

    /// Returns the account of a user.
    pub fn account(&self, user: u8) -> u8 {
        self.users.get(usize::from(user)).map_or(0, |user| user.account)
    }
}

/// Returns whether `pattern` matches `subject`, token by token; wildcards in `subject` are taken literally.
pub fn matches(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(expected), Some(token)) if expected == token => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_nats_has_it() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*.b", "a.b", true),
            ("a.*", "a.*", true),
            ("a.*", "a.>", false),
            ("a.>", "a.*", true),
        ] {
            assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn inbox_subjects_have_names_and_owners() {
        let universe = Universe::new(&["a"], &["a", ">"], &["$G"], Vec::new());
        let subject = Subject::inbox(3, 41);
        assert!(universe.is_named(subject, b"_INBOX.c3.41", &mut Vec::new()));
        assert_eq!(subject.inbox_of(), Some(3));
        assert!(
            universe.matches(5, subject) && universe.matches(1, subject) && !universe.matches(4, subject)
        );
        assert_eq!(NO_SUBJECT.inbox_of(), None);
    }
}
