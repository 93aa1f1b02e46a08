//! A disk in memory on which everything succeeds at once: for unit tests and microbenchmarks.
//!
//! It has no crashes and no faults; what survives those is for `SimDisk` in `runtime-sim` to show.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    Completion, DiskError, DiskErrorKind, Entry, FileId, FilePath, OpenMode, Reply, Request, Submission,
};

/// Files by path, and which of them are open under what name.
///
/// A removed file that is still open is written to nowhere and reads as empty: its callers close it next. One that was replaced
/// is to whoever has it open what it was.
#[derive(Clone, Debug, Default)]
pub struct InstantDisk {
    files: BTreeMap<FilePath, Vec<u8>>,
    directories: BTreeSet<FilePath>,
    open: BTreeMap<FileId, FilePath>,
    /// What files that are open had when another took their place.
    replaced: BTreeMap<FileId, Vec<u8>>,
    locked: BTreeSet<FilePath>,
}

impl InstantDisk {
    /// Returns the content of a file, for tests that look behind the machine's back.
    pub fn content(&self, path: &FilePath) -> Option<&[u8]> {
        self.files.get(path).map(Vec::as_slice)
    }

    /// Returns the content of a file to be damaged by a test.
    pub fn content_mut(&mut self, path: &FilePath) -> Option<&mut Vec<u8>> {
        self.files.get_mut(path)
    }

    /// Returns every file's path.
    pub fn paths(&self) -> impl Iterator<Item = &FilePath> {
        self.files.keys()
    }

    /// Forgets what is open and locked, as the end of a process does.
    pub fn restart(&mut self) {
        self.open.clear();
        self.replaced.clear();
        self.locked.clear();
    }

    /// Does what was asked.
    pub fn execute(&mut self, submission: Submission) -> Completion {
        Completion { token: submission.token, result: self.perform(submission.request) }
    }

    fn perform(&mut self, request: Request) -> Result<Reply, DiskError> {
        match request {
            Request::Open { file, path, mode } => return self.open(file, path, mode),
            Request::Close { file } => {
                self.replaced.remove(&file);
                if let Some(path) = self.open.remove(&file) {
                    self.locked.remove(&path);
                }
            }
            Request::Lock { file } => {
                let path = self.path(file)?.clone();
                if !self.locked.insert(path.clone()) {
                    return Err(error(DiskErrorKind::Locked, &path));
                }
            }
            Request::Stat { path } => return self.stat(&path),
            Request::Write { file, offset, data, sync: _ } => self.write(file, offset, &data)?,
            Request::Read { file, offset, len } => {
                let content = self.file(file)?;
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
                let end = start.saturating_add(len).min(content.len());
                return Ok(Reply::Read(Bytes::copy_from_slice(&content[start..end])));
            }
            Request::ReadFile { path, limit } => {
                let content = self.files.get(&path).ok_or_else(|| error(DiskErrorKind::NotFound, &path))?;
                if content.len() > limit {
                    return Err(error(DiskErrorKind::TooLarge, &path));
                }
                return Ok(Reply::Read(Bytes::copy_from_slice(content)));
            }
            Request::Sync { file } => drop(self.file(file)?),
            Request::Preallocate { file, len } => {
                let content = self.file(file)?;
                content.resize(content.len().max(size(len)), 0);
            }
            Request::PunchHole { file, offset, len } => {
                let content = self.file(file)?;
                let start = size(offset).min(content.len());
                let end = start.saturating_add(size(len)).min(content.len());
                content[start..end].fill(0);
            }
            Request::Truncate { file, len } => self.file(file)?.resize(size(len), 0),
            Request::Replace { path, data } => {
                let before = self.files.insert(path.clone(), data.concat());
                let open = self.open.iter().filter(|(_, open)| **open == path).map(|(file, _)| *file);
                for file in open {
                    self.replaced.entry(file).or_insert_with(|| before.clone().unwrap_or_default());
                }
            }
            Request::Rename { from, to } => {
                let content =
                    self.files.remove(&from).ok_or_else(|| error(DiskErrorKind::NotFound, &from))?;
                for path in self.open.values_mut().filter(|path| **path == from) {
                    *path = to.clone();
                }
                self.files.insert(to, content);
            }
            Request::Remove { path } => {
                if self.files.remove(&path).is_none() && !self.directories.remove(&path) {
                    return Err(error(DiskErrorKind::NotFound, &path));
                }
            }
            Request::CreateDirectory { mut path } => {
                while path != FilePath::root() && self.directories.insert(path.clone()) {
                    path = path.parent();
                }
            }
            Request::List { path } => return self.list(&path),
            Request::SyncDirectory { .. } => {}
            Request::Space => return Ok(Reply::Space { free: 1 << 40, total: 1 << 41 }),
        }
        Ok(Reply::Done)
    }

    fn open(&mut self, file: FileId, path: FilePath, mode: OpenMode) -> Result<Reply, DiskError> {
        let exists = self.files.contains_key(&path);
        match mode {
            OpenMode::Read | OpenMode::ReadWrite if !exists => {
                return Err(error(DiskErrorKind::NotFound, &path));
            }
            OpenMode::CreateNew if exists => return Err(error(DiskErrorKind::Exists, &path)),
            _ => {}
        }
        let len = self.files.entry(path.clone()).or_default().len() as u64;
        self.open.insert(file, path);
        Ok(Reply::Opened { len })
    }

    fn write(&mut self, file: FileId, offset: u64, data: &[Bytes]) -> Result<(), DiskError> {
        let content = self.file(file)?;
        let mut at = size(offset);
        for piece in data {
            let end = at + piece.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[at..end].copy_from_slice(piece);
            at = end;
        }
        Ok(())
    }

    fn stat(&self, path: &FilePath) -> Result<Reply, DiskError> {
        if let Some(content) = self.files.get(path) {
            return Ok(Reply::Stat { len: content.len() as u64, directory: false });
        }
        match *path == FilePath::root() || self.directories.contains(path) {
            true => Ok(Reply::Stat { len: 0, directory: true }),
            false => Err(error(DiskErrorKind::NotFound, path)),
        }
    }

    fn list(&self, path: &FilePath) -> Result<Reply, DiskError> {
        self.stat(path)?;
        let files = self.files.iter().filter(|(file, _)| file.parent() == *path);
        let files = files.map(|(file, content)| (file, content.len() as u64, false));
        let directories = self.directories.iter().filter(|directory| directory.parent() == *path);
        let directories = directories.map(|directory| (directory, 0, true));
        let mut entries: Vec<_> = files
            .chain(directories)
            .map(|(path, len, directory)| Entry { name: path.name().to_owned(), len, directory })
            .collect();
        entries.sort();
        Ok(Reply::Listed(entries))
    }

    fn path(&self, file: FileId) -> Result<&FilePath, DiskError> {
        self.open.get(&file).ok_or_else(|| error(DiskErrorKind::Other, &FilePath::root()))
    }

    fn file(&mut self, file: FileId) -> Result<&mut Vec<u8>, DiskError> {
        let path = self.path(file)?.clone();
        if let Some(before) = self.replaced.get_mut(&file) {
            return Ok(before);
        }
        self.files.get_mut(&path).ok_or_else(|| error(DiskErrorKind::NotFound, &path))
    }
}

/// Lengths of files that fit in memory fit in a `usize`.
fn size(len: u64) -> usize {
    usize::try_from(len).expect("a file in memory is no longer than memory")
}

fn error(kind: DiskErrorKind, path: &FilePath) -> DiskError {
    let message = match kind {
        DiskErrorKind::NotFound => "no such file or directory",
        DiskErrorKind::Exists => "file exists",
        DiskErrorKind::Locked => "locked by another process",
        DiskErrorKind::TooLarge => "file too large",
        _ => "bad file descriptor",
    };
    DiskError { kind, path: path.to_string(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::{DiskQueue, Token};
    use super::*;

    fn run(disk: &mut InstantDisk, request: Request) -> Result<Reply, DiskErrorKind> {
        let completion = disk.execute(Submission { token: Token(1), request });
        completion.result.map_err(|error| error.kind)
    }

    #[test]
    fn what_is_written_is_read_under_every_name_it_has() {
        let mut disk = InstantDisk::default();
        let mut queue = DiskQueue::<()>::default();
        let (file, path) = (queue.file(), FilePath::new("a/b").unwrap());
        run(&mut disk, Request::CreateDirectory { path: path.parent() }).unwrap();
        let open = |mode| Request::Open { file, path: path.clone(), mode };
        assert_eq!(run(&mut disk, open(OpenMode::Read)), Err(DiskErrorKind::NotFound));
        assert_eq!(run(&mut disk, open(OpenMode::CreateNew)), Ok(Reply::Opened { len: 0 }));
        let data = vec![Bytes::from_static(b"he"), Bytes::from_static(b"llo")];
        run(&mut disk, Request::Write { file, offset: 2, data, sync: true }).unwrap();
        let read = |offset, len| Request::Read { file, offset, len };
        let bytes = |text: &'static [u8]| Ok(Reply::Read(Bytes::from_static(text)));
        assert_eq!(run(&mut disk, read(0, 4)), bytes(b"\0\0he"));
        let to = FilePath::new("c").unwrap();
        run(&mut disk, Request::Rename { from: path.clone(), to: to.clone() }).unwrap();
        assert_eq!(run(&mut disk, read(5, 100)), bytes(b"lo"));
        run(&mut disk, Request::Replace { path: to.clone(), data: vec![Bytes::from_static(b"another")] })
            .unwrap();
        assert_eq!(run(&mut disk, read(5, 100)), bytes(b"lo"));
        let listed = run(&mut disk, Request::List { path: FilePath::root() });
        let entry = |name: &str, len, directory| Entry { name: name.to_owned(), len, directory };
        assert_eq!(listed, Ok(Reply::Listed(vec![entry("a", 0, true), entry("c", 7, false)])));
        assert_eq!(run(&mut disk, Request::ReadFile { path: to, limit: 6 }), Err(DiskErrorKind::TooLarge));
    }
}
