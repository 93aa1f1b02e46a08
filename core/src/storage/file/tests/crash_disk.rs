//! A disk that forgets what wasn't synced when it crashes, sector by sector, and names that weren't.

use std::collections::{BTreeMap, BTreeSet};

use crate::disk::instant::InstantDisk;
use crate::disk::{Completion, FileId, FilePath, Request, SECTOR, Submission, Token};
use crate::rng::Rng;

/// [`InstantDisk`], and what of it is durable.
#[derive(Debug, Default)]
pub(super) struct CrashDisk {
    disk: InstantDisk,
    open: BTreeMap<FileId, FilePath>,
    synced: BTreeMap<FilePath, Vec<u8>>,
    named: BTreeSet<FilePath>,
    /// The names of requests, if somebody wants to know.
    noted: Option<Vec<String>>,
}

impl CrashDisk {
    pub(super) fn content(&self, path: &FilePath) -> Option<&[u8]> {
        self.disk.content(path)
    }

    pub(super) fn content_mut(&mut self, path: &FilePath) -> Option<&mut Vec<u8>> {
        self.disk.content_mut(path)
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &FilePath> {
        self.disk.paths()
    }

    pub(super) fn restart(&mut self) {
        self.disk.restart();
        self.open.clear();
    }

    pub(super) fn execute(&mut self, submission: Submission) -> Completion {
        let request = submission.request.clone();
        if let Some(noted) = &mut self.noted {
            noted.extend(format!("{request:?}").split([' ', '{']).next().map(str::to_owned));
        }
        let completion = self.disk.execute(submission);
        if completion.result.is_ok() {
            match request {
                Request::Open { file, path, .. } => drop(self.open.insert(file, path)),
                Request::Sync { file } => {
                    let path = self.open[&file].clone();
                    self.keep(&path);
                }
                Request::SyncDirectory { path } => {
                    self.named.extend(self.disk.paths().filter(|file| file.parent() == path).cloned());
                }
                Request::Replace { path, .. } => {
                    self.keep(&path);
                    self.named.insert(path);
                }
                _ => {}
            }
        }
        completion
    }

    /// Notes what is asked from now on.
    pub(super) fn note_requests(&mut self) {
        self.noted = Some(Vec::new());
    }

    /// Returns what was asked since the last time.
    pub(super) fn noted(&mut self) -> Vec<String> {
        self.noted.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Lets the disk have just these files, all of them durable.
    pub(super) fn replace_all(&mut self, files: &[(FilePath, bytes::Bytes)]) {
        self.disk.restart();
        for path in self.disk.paths().cloned().collect::<Vec<_>>() {
            self.disk
                .execute(Submission { token: Token(0), request: Request::Remove { path } })
                .result
                .unwrap();
        }
        for (path, content) in files {
            let request = Request::Replace { path: path.clone(), data: vec![content.clone()] };
            self.disk.execute(Submission { token: Token(0), request }).result.unwrap();
        }
        self.synced = files.iter().map(|(path, content)| (path.clone(), content.to_vec())).collect();
        self.named = files.iter().map(|(path, _)| path.clone()).collect();
    }

    fn keep(&mut self, path: &FilePath) {
        let content = self.disk.content(path).unwrap_or_default().to_vec();
        self.synced.insert(path.clone(), content);
    }

    /// The power fails: of each file's unsynced sectors some are there, and some files without a durable name.
    pub(super) fn crash(&mut self, dice: &mut Rng) {
        for path in self.disk.paths().cloned().collect::<Vec<_>>() {
            if !self.named.contains(&path) && dice.chance(1, 2) {
                let remove = Request::Remove { path: path.clone() };
                self.disk.execute(Submission { token: Token(0), request: remove }).result.unwrap();
                self.synced.remove(&path);
                continue;
            }
            let old = self.synced.get(&path).cloned().unwrap_or_default();
            let kept = dice.below(3);
            let content = self.disk.content_mut(&path).unwrap();
            let len = if dice.chance(1, 2) { content.len() } else { old.len() };
            for (at, new) in content.chunks_mut(SECTOR).enumerate() {
                if kept == 0 || kept == 1 && dice.chance(1, 2) {
                    for (at, byte) in (at * SECTOR..).zip(new) {
                        *byte = old.get(at).copied().unwrap_or(0);
                    }
                }
            }
            let shorter = content.len();
            content.resize(len, 0);
            if len > shorter {
                content[shorter..].copy_from_slice(&old[shorter..len]);
            }
            self.synced.insert(path.clone(), content.clone());
            self.named.insert(path);
        }
    }
}
