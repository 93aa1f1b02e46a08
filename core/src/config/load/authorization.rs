//! The `authorization` block and lists of users.

use std::collections::BTreeSet;

use super::{Checked, Loader, non_empty, secret, timeout};
use crate::config::nkey::{KeyKind, is_any_public_key, is_public_key};
use crate::config::options::{ConnectionType, NkeyUser, Permissions, User};
use crate::config::text::quoted;
use crate::config::value::{Token, Value, in_order};

/// What a list of users says.
#[derive(Default)]
pub(super) struct Users {
    pub(super) users: Vec<User>,
    pub(super) nkey_users: Vec<NkeyUser>,
}

impl Users {
    /// Hands the permissions of the block to those who have none of their own.
    pub(super) fn apply_default(&mut self, default: Option<&Permissions>) {
        let users = self.users.iter_mut().map(|user| &mut user.permissions);
        for permissions in users.chain(self.nkey_users.iter_mut().map(|user| &mut user.permissions)) {
            if permissions.is_none() {
                *permissions = default.cloned();
            }
        }
    }
}

impl Loader<'_> {
    pub(super) fn authorization(&mut self, token: &Token) -> Checked<()> {
        let (mut username, mut password, mut auth_token) = (String::new(), String::new(), String::new());
        let mut listed: Option<Users> = None;
        let mut default_permissions = None;
        let mut auth_timeout = None;
        let mut proxy_required = false;
        self.entries(token.map()?, |loader, key, entry| {
            match key.to_lowercase().as_str() {
                "user" | "username" => entry.string()?.clone_into(&mut username),
                "pass" | "password" => entry.string()?.clone_into(&mut password),
                "token" => entry.string()?.clone_into(&mut auth_token),
                "timeout" => {
                    let seconds = entry.seconds("authorization")?;
                    if seconds > 60.0 {
                        loader.warn(entry.problem(format!(
                            "invalid use of field {}: timeout of {} ({seconds:.6} seconds) is high, consider \
                             keeping it under 60 seconds. possibly caused by unquoted duration; use '1m' \
                             instead of 1m, for example",
                            quoted(key),
                            entry.value
                        )));
                    }
                    auth_timeout = timeout(seconds);
                }
                "users" => listed = Some(loader.users(entry)?),
                "default_permission" | "default_permissions" | "permissions" => {
                    default_permissions = Some(loader.permissions(entry)?);
                }
                "proxy_required" => proxy_required = entry.bool()?,
                "auth_callout" | "auth_hook" => return Err(entry.unsupported(key)),
                _ => return entry.unknown(key),
            }
            Ok(())
        });

        let mut taken = self.taken_names();
        let options = &mut self.draft.options;
        options.authorization_block = true;
        options.username = non_empty(&username);
        options.password = secret(&password);
        options.token = secret(&auth_token);
        options.proxy_required = proxy_required;
        self.draft.auth_timeout = auth_timeout;
        if (!username.is_empty() || !password.is_empty()) && !auth_token.is_empty() {
            return Err(token.problem("Cannot have a user/pass and token"));
        }
        if listed.is_some() || !taken.is_empty() {
            if !username.is_empty() {
                return Err(token.problem("Can not have a single user/pass and a users array"));
            }
            if !auth_token.is_empty() {
                return Err(token.problem("Can not have a token and a users array"));
            }
        }
        let mut listed = listed.unwrap_or_default();
        listed.apply_default(default_permissions.as_ref());
        for user in &listed.users {
            if !taken.insert(user.username.clone()) {
                return Err(token.problem(format!("Duplicate user {} detected", quoted(&user.username))));
            }
        }
        options.users.append(&mut listed.users);
        for user in &listed.nkey_users {
            if !taken.insert(user.nkey.clone()) {
                return Err(token.problem(format!("Duplicate nkey {} detected", quoted(&user.nkey))));
            }
        }
        options.nkey_users.append(&mut listed.nkey_users);
        Ok(())
    }

    /// Reads an array of users; the first user that isn't one ends it.
    pub(super) fn users(&mut self, token: &Token) -> Checked<Users> {
        let Value::Array(items) = &token.value else {
            return Err(token.problem(format!("Expected users field to be an array, got {}", token.value)));
        };
        let mut all = Users::default();
        for item in items {
            let Value::Map(entries) = &item.value else {
                self.error(
                    item.problem(format!("Expected user entry to be a map/struct, got {}", item.value)),
                );
                continue;
            };
            let (mut nkey, mut username, mut password) = (String::new(), String::new(), String::new());
            let (mut permissions, mut allowed_connection_types) = (None, None);
            let mut proxy_required = false;
            self.entries(entries, |loader, key, entry| {
                match key.to_lowercase().as_str() {
                    "nkey" => entry.string()?.clone_into(&mut nkey),
                    "user" | "username" => entry.string()?.clone_into(&mut username),
                    "pass" | "password" => entry.string()?.clone_into(&mut password),
                    "permission" | "permissions" | "authorization" => {
                        permissions = Some(loader.permissions(entry)?);
                    }
                    "allowed_connection_types" | "connection_types" | "clients" => {
                        allowed_connection_types = loader.connection_types(entry)?;
                    }
                    "proxy_required" => proxy_required = entry.bool()?,
                    _ => return entry.unknown(key),
                }
                Ok(())
            });
            // The reference names the place of whichever field it saw last.
            let place = in_order(entries).last().map_or(item, |(_, last)| last);
            if nkey.is_empty() {
                if username.is_empty() {
                    return Err(place.problem("User entry requires a user"));
                }
                all.users.push(User {
                    username,
                    password: crate::config::Secret::new(password),
                    account: None,
                    permissions,
                    allowed_connection_types,
                    proxy_required,
                });
                continue;
            }
            if !is_public_key(&nkey, KeyKind::User) {
                return Err(place.problem("Not a valid public nkey for a user"));
            }
            if !username.is_empty() || !password.is_empty() {
                return Err(place.problem("Nkey users do not take usernames or passwords"));
            }
            all.nkey_users.push(NkeyUser {
                nkey,
                account: None,
                permissions,
                allowed_connection_types,
                proxy_required,
            });
        }
        Ok(all)
    }

    /// Reads the `proxies` block: the keys of those that are trusted.
    pub(super) fn proxies(&mut self, token: &Token) -> Checked<()> {
        let Value::Map(entries) = &token.value else {
            return Err(token
                .problem(format!("expected proxies to be a map/struct, got {}", token.value.type_name())));
        };
        let mut keys = Vec::new();
        self.entries(entries, |loader, key, entry| {
            match key.to_lowercase().as_str() {
                "trusted" => keys = loader.trusted_proxies(entry)?,
                _ => return entry.unknown(key),
            }
            Ok(())
        });
        self.draft.options.trusted_proxies = Some(keys);
        Ok(())
    }

    fn trusted_proxies(&mut self, token: &Token) -> Checked<Vec<String>> {
        const FIELD: &str = "expected proxies' trusted";
        let Value::Array(items) = &token.value else {
            let found = token.value.type_name();
            return Err(token.problem(format!("{FIELD} field to be an array, got {found}")));
        };
        let mut keys = Vec::new();
        for item in items {
            let Value::Map(entries) = &item.value else {
                let found = item.value.type_name();
                self.error(item.problem(format!("{FIELD} entry to be a map/struct, got {found}")));
                continue;
            };
            self.entries(entries, |_, key, entry| {
                match key.to_lowercase().as_str() {
                    "key" | "public_key" => {
                        let text = entry.string()?;
                        if !is_any_public_key(text) {
                            return Err(entry.problem(format!("invalid proxy key {}", quoted(text))));
                        }
                        keys.push(text.to_owned());
                    }
                    _ => return entry.unknown(key),
                }
                Ok(())
            });
        }
        Ok(keys)
    }

    fn connection_types(&mut self, token: &Token) -> Checked<Option<BTreeSet<ConnectionType>>> {
        const FIELD: &str = "error parsing allowed connection types: unsupported type";
        let mut names = Vec::new();
        match &token.value {
            Value::String(name) => names.push(name.as_str()),
            Value::Array(items) => {
                for item in items {
                    match &item.value {
                        Value::String(name) => names.push(name),
                        other => {
                            self.error(item.problem(format!("{FIELD} in array {}", other.type_name())));
                        }
                    }
                }
            }
            other => return Err(token.problem(format!("{FIELD} {}", other.type_name()))),
        }
        let (mut types, mut unknown) = (BTreeSet::new(), Vec::new());
        for name in names {
            match ConnectionType::from_name(name) {
                Some(kind) => {
                    types.insert(kind);
                }
                None => unknown.push(quoted(&name.to_uppercase())),
            }
        }
        if !unknown.is_empty() {
            return Err(token.problem(format!("invalid connection types [{}]", unknown.join(" "))));
        }
        // An empty list restricts nothing.
        Ok(Some(types).filter(|types| !types.is_empty()))
    }
}
