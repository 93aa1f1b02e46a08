//! What a configuration means must not depend on blank lines around it, and what is taken must run.
//!
//! Shared by the fuzz target of this folder and by tests of `natrix-core`, which run it over the seed corpus. Whoever
//! includes it provides `api`, the crate.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::api::config::{LoadError, Loaded, Overrides, Source, TlsOptions, load};
use super::api::ids::ShardId;
use super::api::shard::{Boot, ServerIdentity, Shard};
use super::api::time::{Instant, Now, WallTime};

/// Files and an environment in memory.
///
/// The bytes before the first line `--- NAME` are `nats.conf`; those behind one are another file, or the value of an
/// environment variable if its name begins with `$`.
struct Folder {
    files: BTreeMap<String, Vec<u8>>,
    variables: BTreeMap<String, String>,
}

impl Folder {
    fn new(data: &[u8]) -> Self {
        let mut folder = Folder { files: BTreeMap::new(), variables: BTreeMap::new() };
        let (mut name, mut text) = ("nats.conf".to_owned(), Vec::new());
        for line in data.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_prefix(b"--- ") {
                Some(next) => {
                    folder.put(std::mem::take(&mut name), std::mem::take(&mut text));
                    name = String::from_utf8_lossy(next).trim().to_owned();
                }
                None => text.extend_from_slice(line),
            }
        }
        folder.put(name, text);
        folder
    }

    fn put(&mut self, name: String, text: Vec<u8>) {
        match name.strip_prefix('$') {
            Some(name) => {
                let value = String::from_utf8_lossy(&text).trim_end().to_owned();
                self.variables.insert(name.to_owned(), value);
            }
            None => {
                self.files.insert(name, text);
            }
        }
    }
}

impl Source for Folder {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.files.get(path).cloned().ok_or_else(|| "no such file or directory".to_owned())
    }

    fn env(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn check_tls(&self, tls: &TlsOptions) -> Result<(), String> {
        tls.certificates.iter().try_for_each(|pair| self.read(&pair.cert_file).map(drop))
    }
}

/// What is to stay the same: the digest of the values and how much was wrong with them.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Taken { digest: Option<String>, warnings: usize },
    Refused { warnings: usize, errors: usize },
    NotTheLanguage,
}

fn meaning(loaded: &Result<Loaded, LoadError>) -> Meaning {
    match loaded {
        Ok(loaded) => Meaning::Taken {
            digest: loaded.digest().map(str::to_owned),
            warnings: loaded.report.warnings.len(),
        },
        Err(LoadError::Invalid(report)) => {
            Meaning::Refused { warnings: report.warnings.len(), errors: report.errors.len() }
        }
        Err(LoadError::Parse(error)) => {
            // Must not panic, whatever it is about.
            let _ = error.to_string();
            Meaning::NotTheLanguage
        }
    }
}

/// Loads what `data` says, in several ways, and starts a shard with it; returns whether there was one to start.
///
/// # Panics
///
/// If the ways disagree.
pub(crate) fn check(data: &[u8]) -> bool {
    let mut folder = Folder::new(data);
    let loaded = load(&folder, "nats.conf");
    let first = meaning(&loaded);

    let text = folder.files.get("nats.conf").cloned().unwrap_or_default();
    let below = [b"\n", &text[..]].concat();
    folder.files.insert("nats.conf".to_owned(), below);
    assert_eq!(meaning(&load(&folder, "nats.conf")), first, "a blank line before it");
    // A last line without an end may hold what a line end would make an error of, to the reference too: a lone quote.
    if text.ends_with(b"\n") && matches!(first, Meaning::Taken { .. }) {
        let above = [&text[..], b"\n"].concat();
        folder.files.insert("nats.conf".to_owned(), above);
        assert_eq!(meaning(&load(&folder, "nats.conf")), first, "a blank line behind it");
    }
    folder.files.insert("nats.conf".to_owned(), text);

    let Ok(Ok(options)) = loaded.map(|loaded| loaded.into_options(&folder, &Overrides::default())) else {
        return false;
    };
    let options = Arc::new(options);
    let identity = Arc::new(ServerIdentity::from_seed([7; 32], &options));
    let now = Now { instant: Instant::ZERO, wall: WallTime::from_unix_nanos(0) };
    let boot = Boot { shard: ShardId::HOME, shards: 1, seed: [7; 32], options, identity };
    let mut shard = Shard::new(now, boot);
    assert!(shard.poll_output().is_some(), "a server that doesn't want to listen");
    true
}
