//! The `accounts` block.

use super::authorization::Users;
use super::{Checked, Loader};
use crate::config::nkey::{KeyKind, is_public_key};
use crate::config::options::{Account, AccountLimits, GLOBAL_ACCOUNT};
use crate::config::text::quoted;
use crate::config::value::{Token, Value, in_order};

impl Loader<'_> {
    pub(super) fn accounts(&mut self, token: &Token) -> Checked<()> {
        match &token.value {
            Value::Array(items) => {
                for item in items {
                    if let Err(problem) = self.account_name(item) {
                        self.error(problem);
                    }
                }
                Ok(())
            }
            Value::Map(entries) => {
                for (name, entry) in in_order(entries) {
                    // What variables refer to is no account.
                    if entry.used_variable {
                        continue;
                    }
                    if let Err(problem) = self.account(name, entry) {
                        self.error(problem);
                    }
                }
                Ok(())
            }
            // Differs: the reference ignores anything else without a word.
            _ => Err(token.problem("Expected map entries for accounts")),
        }
    }

    /// Adds an account of which only the name is given.
    fn account_name(&mut self, token: &Token) -> Checked<()> {
        let name = token.string()?;
        if name == GLOBAL_ACCOUNT {
            return Err(token.problem(format!("{} is a Reserved Account", quoted(name))));
        }
        let accounts = &mut self.draft.options.accounts;
        if accounts.iter().any(|account| account.name == name) {
            return Err(token.problem(format!("Duplicate Account Entry: {name}")));
        }
        accounts.push(Account { name: name.to_owned(), ..Account::default() });
        Ok(())
    }

    fn account(&mut self, name: &str, token: &Token) -> Checked<()> {
        let Value::Map(entries) = &token.value else {
            return Err(token.problem("Expected map entries for accounts"));
        };
        if name == GLOBAL_ACCOUNT {
            return Err(token.problem(format!("{} is a Reserved Account", quoted(name))));
        }
        let mut account = Account { name: name.to_owned(), ..Account::default() };
        let mut listed: Option<(Users, &Token)> = None;
        for (key, entry) in in_order(entries) {
            let field = match key.to_lowercase().as_str() {
                "nkey" => account_nkey(entry).map(|nkey| account.nkey = Some(nkey)),
                "users" => self.users(entry).map(|users| listed = Some((users, entry))),
                "default_permissions" => {
                    self.permissions(entry).map(|default| account.default_permissions = Some(default))
                }
                "limits" => self.account_limits(entry).map(|limits| account.limits = limits),
                "imports" | "exports" | "mappings" | "maps" if is_empty(entry) => Ok(()),
                "jetstream" => self.account_jetstream(entry).map(|limits| account.jetstream = limits),
                "imports" | "exports" | "mappings" | "maps" | "msg_trace" | "trace_dest" => {
                    Err(entry.unsupported(key))
                }
                _ => entry.unknown(key),
            };
            if let Err(problem) = field {
                self.error(problem);
            }
        }
        let default_permissions = account.default_permissions.clone();
        self.draft.options.accounts.push(account);
        match listed {
            Some((mut users, place)) => {
                users.apply_default(default_permissions.as_ref());
                self.account_users(name, users, place)
            }
            None => Ok(()),
        }
    }

    fn account_users(&mut self, name: &str, listed: Users, place: &Token) -> Checked<()> {
        let mut taken = self.taken_names();
        let options = &self.draft.options;
        if !listed.users.is_empty() || !listed.nkey_users.is_empty() {
            if options.username.is_some() {
                return Err(place.problem("Can not have a single user/pass and accounts"));
            }
            if options.token.is_some() {
                return Err(place.problem("Can not have a token and accounts"));
            }
        }
        for mut user in listed.nkey_users {
            if !taken.insert(user.nkey.clone()) {
                self.error(place.problem(format!("Duplicate nkey {} detected", quoted(&user.nkey))));
                continue;
            }
            user.account = Some(name.to_owned());
            self.draft.options.nkey_users.push(user);
        }
        for mut user in listed.users {
            if !taken.insert(user.username.clone()) {
                self.error(place.problem(format!("Duplicate user {} detected", quoted(&user.username))));
                continue;
            }
            user.account = Some(name.to_owned());
            self.draft.options.users.push(user);
        }
        Ok(())
    }

    fn account_limits(&mut self, token: &Token) -> Checked<AccountLimits> {
        let Value::Map(entries) = &token.value else {
            return Err(
                token.problem(format!("Expected account limits to be a map/struct, got {}", token.value))
            );
        };
        let mut limits = AccountLimits::default();
        self.entries(entries, |_, key, entry| {
            let limit = match key.to_lowercase().as_str() {
                "max_connections" | "max_conn" => &mut limits.max_connections,
                "max_subscriptions" | "max_subs" => &mut limits.max_subscriptions,
                "max_payload" | "max_pay" => &mut limits.max_payload,
                "max_leafnodes" | "max_leafs" => &mut limits.max_leafnodes,
                _ => {
                    return entry.unknown_as(format!("Unknown field {} parsing account limits", quoted(key)));
                }
            };
            // Zero allows nothing; -1 is no limit.
            *limit = match entry.integer()? {
                ..0 => None,
                count => Some(u32::try_from(count).unwrap_or(u32::MAX)),
            };
            Ok(())
        });
        Ok(limits)
    }
}

fn account_nkey(token: &Token) -> Checked<String> {
    match &token.value {
        Value::String(nkey) if is_public_key(nkey, KeyKind::Account) => Ok(nkey.clone()),
        other => {
            Err(token
                .problem(format!("Not a valid public nkey for an account: {}", quoted(&other.to_string()))))
        }
    }
}

fn is_empty(token: &Token) -> bool {
    match &token.value {
        Value::Array(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        _ => false,
    }
}
