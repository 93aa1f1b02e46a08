//! A disk that forgets what wasn't synced when it crashes, sector by sector, and names that weren't.

use std::collections::{BTreeMap, BTreeSet};

use crate::disk::instant::InstantDisk;
use crate::disk::{
    Completion, DiskError, DiskErrorKind, FileId, FilePath, OpenMode, Reply, Request, SECTOR, Submission,
    Token,
};
use crate::rng::Rng;

/// [`InstantDisk`], and what of it is durable.
#[derive(Debug, Default)]
pub(super) struct CrashDisk {
    disk: InstantDisk,
    open: BTreeMap<FileId, FilePath>,
    synced: BTreeMap<FilePath, Vec<u8>>,
    named: BTreeSet<FilePath>,
    /// A file that is read wrong the next time, and where.
    misread: Option<(FilePath, usize)>,
    /// Files whose removal a power cut may undo, and what of them is durable.
    removed: BTreeMap<FilePath, Vec<u8>>,
    /// Folders, likewise.
    removed_folders: BTreeSet<FilePath>,
    /// A sector of a file that can't be read.
    pub(super) unreadable: Option<(FilePath, usize)>,
    /// No space is left.
    pub(super) full: bool,
    /// In how many syncs, of files or folders, one fails; none at zero.
    pub(super) sync_fails: usize,
    /// How much of files stays in memory for ever, as a sync failed.
    forgotten: BTreeMap<FilePath, usize>,
    /// What the last request wrote and synced: until the next, the power may still fail in the middle of it.
    in_the_middle: Option<FilePath>,
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

    /// Returns how many files are open.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Returns whether there is a folder at `path`.
    pub(super) fn has_folder(&mut self, path: &FilePath) -> bool {
        let request = Request::List { path: path.clone() };
        self.disk.execute(Submission { token: Token(0), request }).result.is_ok()
    }

    pub(super) fn restart(&mut self) {
        self.disk.restart();
        self.open.clear();
    }

    pub(super) fn execute(&mut self, submission: Submission) -> Completion {
        let request = submission.request.clone();
        let takes_space = match &request {
            Request::Open { path, mode, .. } => {
                *mode == OpenMode::Create && self.disk.content(path).is_none()
            }
            Request::Write { .. } | Request::Replace { .. } | Request::CreateDirectory { .. } => true,
            _ => false,
        };
        if self.touches_unreadable(&request) {
            let path = self.unreadable.as_ref().map(|(path, _)| path.to_string()).unwrap_or_default();
            let error = DiskError { kind: DiskErrorKind::Io, path, message: "input/output error".to_owned() };
            return Completion { token: submission.token, result: Err(error) };
        }
        if self.full && takes_space {
            let (kind, path) = (DiskErrorKind::Full, self.path_of(&request));
            let path = path.to_string();
            let error = DiskError { kind, path, message: "no space left on device".to_owned() };
            return Completion { token: submission.token, result: Err(error) };
        }
        if let Some(path) = self.in_the_middle.take() {
            self.keep(&path);
        }
        if let Some(completion) = self.fail_sync(&submission) {
            return completion;
        }
        if let Request::Remove { path } = &request {
            let names = self.disk.paths().any(|file| file.parent() == *path);
            assert!(!names, "{path} is removed with what is in it");
            match self.disk.content(path).is_some() {
                true => {
                    let durable = self.synced.remove(path).filter(|_| self.named.remove(path));
                    self.removed.extend(durable.map(|content| (path.clone(), content)));
                }
                false => drop(self.removed_folders.insert(path.clone())),
            }
        }
        if let Some(noted) = &mut self.noted {
            noted.extend(format!("{request:?}").split([' ', '{']).next().map(str::to_owned));
        }
        let mut completion = self.disk.execute(submission);
        if let (Request::ReadFile { path, .. }, Ok(Reply::Read(bytes))) = (&request, &mut completion.result)
            && let Some((_, at)) = self.misread.take_if(|(wrong, _)| wrong == path)
        {
            let mut wrong = bytes.to_vec();
            if let Some(byte) = wrong.get_mut(at) {
                *byte ^= 16;
            }
            *bytes = wrong.into();
        }
        if let (Request::Read { file, offset, .. }, Ok(Reply::Read(bytes))) =
            (&request, &mut completion.result)
            && let Some((_, at)) = self.misread.take_if(|(wrong, at)| {
                let within = (*offset..*offset + bytes.len() as u64).contains(&(*at as u64));
                within && self.open.get(file) == Some(wrong)
            })
        {
            let mut wrong = bytes.to_vec();
            wrong[at - *offset as usize] ^= 16;
            *bytes = wrong.into();
        }
        if completion.result.is_ok() {
            match request {
                Request::Open { file, path, .. } => drop(self.open.insert(file, path)),
                Request::Close { file } => drop(self.open.remove(&file)),
                Request::Sync { file } => {
                    let path = self.open[&file].clone();
                    self.keep(&path);
                }
                Request::SyncDirectory { path } => {
                    self.named.extend(self.disk.paths().filter(|file| file.parent() == path).cloned());
                    self.removed.retain(|file, _| file.parent() != path);
                    self.removed_folders.retain(|folder| folder.parent() != path);
                }
                Request::Write { file, offset, sync, .. } => {
                    let path = self.open[&file].clone();
                    if let Some(lost) = self.forgotten.get_mut(&path) {
                        *lost = (*lost).min(offset as usize);
                    }
                    self.in_the_middle = sync.then_some(path);
                }
                Request::Replace { path, .. } => {
                    self.forgotten.remove(&path);
                    self.keep(&path);
                    self.named.insert(path);
                }
                _ => {}
            }
        }
        completion
    }

    fn touches_unreadable(&self, request: &Request) -> bool {
        let Some((bad, sector)) = &self.unreadable else { return false };
        let from = (sector * SECTOR) as u64;
        match request {
            Request::ReadFile { path, .. } => path == bad,
            Request::Read { file, offset, len } => {
                let within = offset + *len as u64 > from && *offset < from + SECTOR as u64;
                within && self.open.get(file) == Some(bad)
            }
            _ => false,
        }
    }

    fn path_of(&self, request: &Request) -> FilePath {
        match request {
            Request::Write { file, .. } => self.open[file].clone(),
            Request::Open { path, .. }
            | Request::Replace { path, .. }
            | Request::CreateDirectory { path } => path.clone(),
            other => unreachable!("{other:?} takes no space"),
        }
    }

    /// Returns whether nothing is to be read wrong any more.
    pub(super) fn has_misread(&self) -> bool {
        self.misread.is_none()
    }

    /// Reads a byte of a file wrong the next time it is read.
    pub(super) fn misread_once(&mut self, path: &FilePath, at: usize) {
        self.misread = Some((path.clone(), at));
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
        (self.removed, self.removed_folders) = (BTreeMap::new(), BTreeSet::new());
    }

    fn keep(&mut self, path: &FilePath) {
        let mut content = self.disk.content(path).unwrap_or_default().to_vec();
        let old = self.synced.get(path).map_or(&[][..], |old| old);
        let lost = self.forgotten.get(path).copied().unwrap_or_default();
        for (at, byte) in content.iter_mut().enumerate().take(lost) {
            *byte = old.get(at).copied().unwrap_or(0);
        }
        self.synced.insert(path.clone(), content);
    }

    /// Fails a sync, if it is its turn: what it should have kept stays readable, and no later one brings it to the disk.
    fn fail_sync(&mut self, submission: &Submission) -> Option<Completion> {
        let path = match &submission.request {
            Request::Sync { file } => self.open[file].clone(),
            Request::SyncDirectory { path } => path.clone(),
            _ => return None,
        };
        self.sync_fails = self.sync_fails.checked_sub(1)?;
        if self.sync_fails > 0 {
            return None;
        }
        if let Some(content) = self.disk.content(&path) {
            self.forgotten.insert(path.clone(), content.len());
        }
        let (kind, path) = (DiskErrorKind::SyncFailed, path.to_string());
        let error = DiskError { kind, path, message: "input/output error".to_owned() };
        Some(Completion { token: submission.token, result: Err(error) })
    }

    /// The power fails: of each file's unsynced sectors some are there, and some files without a durable name.
    pub(super) fn crash(&mut self, dice: &mut Rng) {
        self.forgotten.clear();
        self.in_the_middle = None;
        let mut again = Vec::new();
        for path in std::mem::take(&mut self.removed_folders) {
            again.extend(dice.chance(1, 2).then_some(Request::CreateDirectory { path }));
        }
        for (path, content) in std::mem::take(&mut self.removed) {
            if dice.chance(1, 2) && self.disk.content(&path).is_none() {
                again.push(Request::CreateDirectory { path: path.parent() });
                again.push(Request::Replace { path: path.clone(), data: vec![content.clone().into()] });
                self.synced.insert(path.clone(), content);
                self.named.insert(path);
            }
        }
        for request in again {
            self.disk.execute(Submission { token: Token(0), request }).result.unwrap();
        }
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
