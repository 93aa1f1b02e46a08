//! What the tests of this room share: scripts, and files and an environment in memory.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Source, TlsOptions};

/// Reads a script and returns its cases: what stands after each line of `===`.
#[expect(clippy::disallowed_methods, reason = "a test may read its script")]
pub(super) fn cases(path: &Path) -> Vec<String> {
    let script = std::fs::read_to_string(path).unwrap();
    script.split("\n===\n").skip(1).map(str::to_owned).collect()
}

/// Files and an environment in memory.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) env: BTreeMap<String, String>,
}

impl Memory {
    /// Makes one of a case of a script: first `nats.conf`, then after each line `--- name` another file, or the
    /// value of a variable if the name begins with `$`.
    pub(super) fn from_case(case: &str) -> Self {
        let mut memory = Memory::default();
        for (index, part) in format!("nats.conf\n{case}").split("\n--- ").enumerate() {
            let (name, text) = part.split_once('\n').unwrap_or((part, ""));
            match name.strip_prefix('$') {
                Some(name) => memory.env.insert(name.to_owned(), text.to_owned()).map(String::into_bytes),
                None => memory.files.insert(name.to_owned(), text.as_bytes().to_vec()),
            };
            assert!(index > 0 || memory.files.contains_key("nats.conf"));
        }
        memory
    }
}

impl Source for Memory {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        match self.files.get(path) {
            Some(bytes) => Ok(bytes.clone()),
            None if path.ends_with(".d") => Err("is a directory".to_owned()),
            None => Err("no such file or directory".to_owned()),
        }
    }

    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    /// Only looks whether the files are there, and words that as the reference does.
    fn check_tls(&self, tls: &TlsOptions) -> Result<(), String> {
        for pair in &tls.certificates {
            for file in [&pair.cert_file, &pair.key_file] {
                super::source::read(self, file)
                    .map_err(|reason| format!("error parsing X509 certificate/key pair: {reason}"))?;
            }
        }
        Ok(())
    }
}
