//! One suite that streams in memory and in files both pass.
//!
//! A script of commands runs on a stream in memory, and on streams in files: blocks of a few messages, room for hardly an
//! index, with and without restarts, cipher and compression. What a stream in memory answers is a snapshot; what one in
//! files answers is compared with a stream in memory that counts bytes as files do.
//!
//! ```text
//! script.rs     the commands, and their transcripts
//! files.rs      a stream in files on a disk in memory, which can be started again in several ways
//! limits.rs     what may be stored, and what has to go for it
//! removal.rs    removing, erasing, purging, compacting, truncating, skipping
//! questions.rs  next, previous, last, pending, counts, times
//! expiry.rs     ages, times to live, markers, schedules
//! upkeep.rs     what only streams in files do: blocks that come and go, space, reads
//! ```

mod expiry;
mod files;
mod limits;
mod questions;
mod removal;
mod script;
mod upkeep;

use files::{Files, Restart};
use script::run;

use super::change::{Change, Outcome};
use super::ledger::Ledger;
use super::memory::MemoryStore;
use super::{Cipher, Compression, Lookup, Message, StoreConfig};

/// What both are.
trait Stream {
    fn apply(&mut self, change: Change) -> Outcome;
    fn ask<T>(&mut self, question: impl Fn(&mut Ledger) -> Lookup<T>) -> T;
    fn load(&mut self, sequence: u64) -> Option<Message>;
    /// Another command is done; or somebody asks for a restart.
    fn rest(&mut self, asked: bool);
}

impl Stream for MemoryStore {
    fn apply(&mut self, change: Change) -> Outcome {
        MemoryStore::apply(self, change)
    }

    fn ask<T>(&mut self, question: impl Fn(&mut Ledger) -> Lookup<T>) -> T {
        MemoryStore::ask(self, question)
    }

    fn load(&mut self, sequence: u64) -> Option<Message> {
        MemoryStore::load(self, sequence)
    }

    fn rest(&mut self, _asked: bool) {}
}

/// How streams in files are run: sealed how, and started again when.
const VARIANTS: [(Cipher, Compression, Option<Restart>); 5] = [
    (Cipher::None, Compression::None, None),
    (Cipher::ChaCha20Poly1305, Compression::None, Some(Restart::Clean)),
    (Cipher::Aes256Gcm, Compression::S2, Some(Restart::Killed)),
    (Cipher::None, Compression::None, Some(Restart::WithoutIndexes)),
    (Cipher::None, Compression::S2, Some(Restart::BlocksAlone)),
];

/// Runs a script on a stream in memory and on streams in files, and returns its transcript.
fn transcript(config: &StoreConfig, script: &str) -> String {
    let memory = run(&mut MemoryStore::new(config.clone()), script);
    let model = run(&mut MemoryStore::counting_as_file(config.clone()), script);
    for (cipher, compression, restart) in VARIANTS {
        // Settings are in the manifest.
        if restart == Some(Restart::BlocksAlone) && script.contains("configure") {
            continue;
        }
        let mut files = Files::new(config, (cipher, compression), restart);
        assert_eq!(run(&mut files, script), model, "{cipher:?} {compression:?} {restart:?}");
    }
    if config.max_bytes > 0 || script.contains("max_bytes") {
        return format!("in memory\n{memory}in files\n{model}");
    }
    let without_bytes = |transcript: &str| -> Vec<String> {
        transcript.lines().map(|line| line.split(" bytes: ").nth(1).unwrap_or(line).to_owned()).collect()
    };
    assert_eq!(without_bytes(&memory), without_bytes(&model));
    memory
}

/// Runs scripts, each on a stream of its own with settings of its own.
fn transcripts(scripts: &[(StoreConfig, &str)]) -> String {
    let all: Vec<String> = scripts.iter().map(|(config, script)| transcript(config, script)).collect();
    all.join("\n")
}

fn config() -> StoreConfig {
    StoreConfig::default()
}
