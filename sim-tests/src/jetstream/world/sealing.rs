//! What the server tells of encryption, and what is on its disks.

use std::collections::BTreeSet;

use natrix_runtime_sim::disk::SimDisk;

use super::super::report::Rule;
use super::World;

/// What stands in messages and settings, and nowhere when they are sealed.
const PLAIN_TEXT: &[&str] = &["xxxxxxxx", "\"name\":", "\"subjects\":"];

impl World {
    /// Takes what the server tells: where it is done nothing is in plain text.
    pub(super) fn hear_of_encryption(&mut self) {
        for folder in std::mem::take(&mut self.server.encrypted) {
            self.oracle.tally.hit("encrypted");
            if self.owed.remove(&folder) {
                self.oracle.tally.hit("encrypted-as-owed");
            }
            if let Some(found) = self.plain_text_in(&folder) {
                self.oracle.violate(Rule::Plain, found);
            }
        }
        for folder in std::mem::take(&mut self.server.unencrypted) {
            // What has rotted is left as it is until the next start.
            if self.rotten.0 && self.owed.remove(&folder) {
                self.oracle.tally.hit("encrypted-but-for-damage");
            }
        }
    }

    /// Returns what is in plain text in a folder. Those of other shards in it speak for themselves.
    fn plain_text_in(&self, folder: &str) -> Option<String> {
        let disk = self.server.disk.as_ref()?;
        disk.paths().filter(|path| folder_of(path.as_str()) == Some(folder)).find_map(|path| {
            let content = disk.content(path).unwrap_or_default();
            let has = |text: &&str| content.windows(text.len()).any(|window| window == text.as_bytes());
            PLAIN_TEXT.iter().find(|text| has(text)).map(|text| format!("{path}: {text}"))
        })
    }

    /// Returns the folders of all shards that have something.
    fn folders(&self) -> BTreeSet<String> {
        let paths = self.server.disk.iter().flat_map(SimDisk::paths);
        let kept = |path: &str| {
            let rest = path.strip_prefix(folder_of(path)?)?;
            let something =
                ["/catalogue", "/streams/", "/consumers/"].iter().any(|name| rest.starts_with(name));
            something.then(|| folder_of(path).unwrap_or_default().to_owned())
        };
        paths.filter_map(|path| kept(path.as_str())).collect()
    }

    /// Notes of which folders the server is to tell that they are encrypted, before it is started with a key.
    pub(super) fn note_owed(&mut self, cipher_changes: bool) {
        for folder in self.folders() {
            if !self.owed.contains(&folder) && (cipher_changes || self.plain_text_in(&folder).is_some()) {
                self.owed.insert(folder);
            }
        }
    }

    /// Looks whether nothing is in plain text at the end, if there is a key.
    pub(super) fn look_for_plain_text(&mut self) {
        if !self.operator.has_key() {
            return;
        }
        for folder in self.folders() {
            if let Some(found) = self.plain_text_in(&folder) {
                self.oracle.violate(Rule::Plain, format!("{found}, at the end"));
            }
        }
    }
}

/// Returns the folder of the shard that a file is of.
fn folder_of(path: &str) -> Option<&str> {
    let home = "natrix";
    let rest = path.strip_prefix(home)?.strip_prefix('/')?;
    let first = rest.split('/').next()?;
    match first.starts_with("shard-") {
        true => path.get(..home.len() + 1 + first.len()),
        false => path.get(..home.len()),
    }
}
