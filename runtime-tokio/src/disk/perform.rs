//! Each request of the contract as system calls.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf, Bytes};
use natrix_core::disk::{DiskError, DiskErrorKind, Entry, FileId, FilePath, OpenMode, Reply, Request};
use rustix::fs::{AtFlags, Dir, FallocateFlags, FileType, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::{OpenFile, Shared, lock};

/// Begins the names of files that are about to take another's place: no path of the contract can have it.
const TEMPORARY: char = '\\';
/// Pieces of a vectored write.
const MOST_PIECES: usize = 1024;
/// Zeros that are written at once where a file system can't punch holes.
const ZEROS: usize = 1 << 20;

impl Shared {
    pub(super) fn perform(&self, request: Request) -> Result<Reply, DiskError> {
        match request {
            Request::Open { file, path, mode } => self.open_file(file, &path, mode),
            Request::Close { file } => {
                lock(&self.files).remove(&file);
                Ok(Reply::Done)
            }
            Request::Lock { file } => {
                let file = self.file(file)?;
                let result = rustix::fs::flock(&file.descriptor, FlockOperation::NonBlockingLockExclusive);
                done(result, &file.path)
            }
            Request::Stat { path } => self.stat(&path),
            Request::Write { file, offset, data, sync } => self.write(&*self.file(file)?, offset, data, sync),
            Request::Read { file, offset, len } => {
                let file = self.file(file)?;
                read(&file.descriptor, offset, len)
                    .map(Reply::Read)
                    .map_err(|error| failed(error, &file.path))
            }
            Request::ReadFile { path, limit } => self.read_file(&path, limit),
            Request::Sync { file } => sync(&*self.file(file)?),
            Request::Preallocate { file, len } => {
                let file = self.writable(file)?;
                done(preallocate(&file.descriptor, len), &file.path)
            }
            Request::PunchHole { file, offset, len } => {
                let file = self.writable(file)?;
                done(punch_hole(&file.descriptor, offset, len), &file.path)
            }
            Request::Truncate { file, len } => {
                let file = self.writable(file)?;
                done(rustix::fs::ftruncate(&file.descriptor, len), &file.path)
            }
            Request::Replace { path, data } => self.replace(&path, data),
            Request::Rename { from, to } => {
                let result = self.parent(&from).and_then(|old| {
                    let new = self.parent(&to)?;
                    rustix::fs::renameat(old, from.name(), new, to.name())
                });
                done(result, from.as_str())
            }
            Request::Remove { path } => done(self.remove(&path), path.as_str()),
            Request::CreateDirectory { path } => done(self.create_directory(&path), path.as_str()),
            Request::List { path } => {
                self.list(&path).map(Reply::Listed).map_err(|error| failed(error, path.as_str()))
            }
            Request::SyncDirectory { path } => {
                let result = self.directory(&path).and_then(rustix::fs::fsync);
                result.map(|()| Reply::Done).map_err(|error| sync_failed(error, path.as_str()))
            }
            Request::Space => {
                let found = rustix::fs::fstatvfs(&self.root).map_err(|error| failed(error, ""))?;
                let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
                Ok(Reply::Space { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
            }
        }
    }

    fn open_file(&self, file: FileId, path: &FilePath, mode: OpenMode) -> Result<Reply, DiskError> {
        let flags = match mode {
            OpenMode::Read => OFlags::RDONLY,
            OpenMode::ReadWrite => OFlags::RDWR,
            OpenMode::Create => OFlags::RDWR | OFlags::CREATE,
            OpenMode::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        };
        let open = || {
            let descriptor = self.at(path.as_str(), flags)?;
            let len = rustix::fs::fstat(&descriptor)?.st_size;
            Ok((descriptor, u64::try_from(len).unwrap_or(0)))
        };
        let (descriptor, len) = open().map_err(|error| failed(error, path.as_str()))?;
        let poisoned = AtomicBool::new(false);
        let opened = OpenFile { descriptor, path: path.to_string(), poisoned };
        lock(&self.files).insert(file, Arc::new(opened));
        Ok(Reply::Opened { len })
    }

    fn file(&self, file: FileId) -> Result<Arc<OpenFile>, DiskError> {
        lock(&self.files).get(&file).cloned().ok_or_else(|| failed(Errno::BADF, ""))
    }

    /// Returns a file that takes writes.
    fn writable(&self, file: FileId) -> Result<Arc<OpenFile>, DiskError> {
        let file = self.file(file)?;
        match file.is_poisoned() {
            true => Err(poisoned(&file.path)),
            false => Ok(file),
        }
    }

    fn write(
        &self,
        file: &OpenFile,
        offset: u64,
        data: Vec<Bytes>,
        synced: bool,
    ) -> Result<Reply, DiskError> {
        if file.is_poisoned() {
            return Err(poisoned(&file.path));
        }
        write_all(&file.descriptor, offset, data).map_err(|error| failed(error, &file.path))?;
        if synced { sync(file) } else { Ok(Reply::Done) }
    }

    fn stat(&self, path: &FilePath) -> Result<Reply, DiskError> {
        let stat = || {
            if *path == FilePath::root() {
                return rustix::fs::fstat(&self.root);
            }
            rustix::fs::statat(self.parent(path)?, path.name(), AtFlags::SYMLINK_NOFOLLOW)
        };
        let found = stat().map_err(|error| failed(error, path.as_str()))?;
        let directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        let len = if directory { 0 } else { u64::try_from(found.st_size).unwrap_or(0) };
        Ok(Reply::Stat { len, directory })
    }

    fn read_file(&self, path: &FilePath, limit: usize) -> Result<Reply, DiskError> {
        let fail = |error| failed(error, path.as_str());
        let file = self.at(path.as_str(), OFlags::RDONLY).map_err(fail)?;
        // One byte more tells a file that grew, or whose length was a lie, from one that fits.
        let bytes = read(&file, 0, limit.saturating_add(1)).map_err(fail)?;
        if bytes.len() > limit {
            let message = format!("longer than {limit} bytes");
            return Err(DiskError { kind: DiskErrorKind::TooLarge, path: path.to_string(), message });
        }
        Ok(Reply::Read(bytes))
    }

    /// Writes a file beside the one that it replaces, and gives it that one's name once it is durable.
    fn replace(&self, path: &FilePath, data: Vec<Bytes>) -> Result<Reply, DiskError> {
        let temporary = format!("{TEMPORARY}{}", path.name());
        let write = || {
            let parent = self.parent(path)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&parent, &*temporary, flags, Mode::from_raw_mode(0o600))?;
            write_all(&file, 0, data)?;
            Ok((parent, file))
        };
        let (parent, file) = write().map_err(|error| failed(error, path.as_str()))?;
        let sync = |result: Result<(), Errno>| result.map_err(|error| sync_failed(error, path.as_str()));
        sync(rustix::fs::fsync(&file))?;
        let renamed = rustix::fs::renameat(&parent, &*temporary, &parent, path.name());
        renamed.map_err(|error| failed(error, path.as_str()))?;
        sync(rustix::fs::fsync(
            self.directory(&path.parent()).map_err(|error| failed(error, path.as_str()))?,
        ))?;
        Ok(Reply::Done)
    }

    fn remove(&self, path: &FilePath) -> Result<(), Errno> {
        let parent = self.parent(path)?;
        match rustix::fs::unlinkat(&parent, path.name(), AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => rustix::fs::unlinkat(&parent, path.name(), AtFlags::REMOVEDIR),
            other => other,
        }
    }

    fn create_directory(&self, path: &FilePath) -> Result<(), Errno> {
        if *path == FilePath::root() {
            return Ok(());
        }
        let make = || rustix::fs::mkdirat(self.parent(path)?, path.name(), Mode::from_raw_mode(0o700));
        match make() {
            Err(Errno::NOENT) => {
                self.create_directory(&path.parent())?;
                make()
            }
            // A file of that name is no directory.
            Err(Errno::EXIST) => self.directory(path).map(drop),
            other => other,
        }
    }

    fn list(&self, path: &FilePath) -> Result<Vec<Entry>, Errno> {
        let directory = self.directory(path)?;
        let mut entries = Vec::new();
        for found in Dir::read_from(&directory)? {
            let found = found?;
            let Ok(name) = found.file_name().to_str() else { continue };
            if name.starts_with(TEMPORARY) {
                // A process ended while it wrote that. Nobody reads it, but it has what was to be there, perhaps in plain text.
                let _ = rustix::fs::unlinkat(&directory, name, AtFlags::empty());
                continue;
            }
            if FilePath::new(name).is_err() || name.is_empty() {
                continue;
            }
            // Gone meanwhile: it is not there.
            let Ok(stat) = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let len = if directory { 0 } else { u64::try_from(stat.st_size).unwrap_or(0) };
            entries.push(Entry { name: name.to_owned(), len, directory });
        }
        entries.sort();
        Ok(entries)
    }

    /// Opens something below the root, through no symbolic link.
    fn at(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { "." } else { path };
        let created = flags.contains(OFlags::CREATE);
        let mode = if created { Mode::from_raw_mode(0o600) } else { Mode::empty() };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, mode, resolve)
    }

    fn directory(&self, path: &FilePath) -> Result<OwnedFd, Errno> {
        self.at(path.as_str(), OFlags::RDONLY | OFlags::DIRECTORY)
    }

    fn parent(&self, path: &FilePath) -> Result<OwnedFd, Errno> {
        self.directory(&path.parent())
    }
}

fn write_all(file: impl AsFd, mut offset: u64, mut data: Vec<Bytes>) -> Result<(), Errno> {
    data.retain(|piece| !piece.is_empty());
    let mut first = 0;
    while first < data.len() {
        let pieces: Vec<IoSlice<'_>> =
            data[first..].iter().take(MOST_PIECES).map(|piece| IoSlice::new(piece)).collect();
        let mut written = match rustix::io::pwritev(&file, &pieces, offset) {
            Err(Errno::INTR) => continue,
            Ok(0) => return Err(Errno::IO),
            other => other?,
        };
        offset += written as u64;
        while first < data.len() && written >= data[first].len() {
            written -= data[first].len();
            first += 1;
        }
        if written > 0 {
            data[first].advance(written);
        }
    }
    Ok(())
}

fn read(file: impl AsFd, offset: u64, len: usize) -> Result<Bytes, Errno> {
    // A caller may ask for far more than there is.
    let there = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0).saturating_sub(offset);
    let mut bytes = vec![0; len.min(usize::try_from(there).unwrap_or(usize::MAX))];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::io::pread(&file, &mut bytes[filled..], offset + filled as u64) {
            Err(Errno::INTR) => {}
            Ok(0) => break,
            other => filled += other?,
        }
    }
    bytes.truncate(filled);
    Ok(bytes.into())
}

/// Reads what is in memory of a file, up to its end; `None` if not all of that is.
///
/// # Errors
///
/// If the operating system or the file system has no such read.
pub(super) fn read_cached(file: impl AsFd, offset: u64, len: usize) -> Result<Option<Bytes>, Errno> {
    let mut bytes = vec![0; len];
    let pieces = &mut [IoSliceMut::new(&mut bytes)];
    match rustix::io::preadv2(&file, pieces, offset, ReadWriteFlags::NOWAIT) {
        Ok(filled) if filled == len => Ok(Some(bytes.into())),
        Ok(filled) => {
            let Ok(found) = rustix::fs::fstat(&file) else { return Ok(None) };
            let end = u64::try_from(found.st_size).unwrap_or(0);
            let whole = offset.saturating_add(filled as u64) >= end;
            bytes.truncate(filled);
            Ok(whole.then(|| bytes.into()))
        }
        Err(error @ (Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)) => Err(error),
        // Whatever it is, who reads it again will see.
        Err(_) => Ok(None),
    }
}

fn sync(file: &OpenFile) -> Result<Reply, DiskError> {
    if file.is_poisoned() {
        return Err(poisoned(&file.path));
    }
    rustix::fs::fdatasync(&file.descriptor).map(|()| Reply::Done).map_err(|error| {
        file.poisoned.store(true, Ordering::Release);
        sync_failed(error, &file.path)
    })
}

fn preallocate(file: &OwnedFd, len: u64) -> Result<(), Errno> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
        Err(Errno::OPNOTSUPP) => {
            let there = u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
            if there < len { rustix::fs::ftruncate(file, len) } else { Ok(()) }
        }
        other => other,
    }
}

fn punch_hole(file: &OwnedFd, offset: u64, len: u64) -> Result<(), Errno> {
    match rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len) {
        Err(Errno::OPNOTSUPP) => {
            let there = u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
            let (mut at, end) = (offset, offset.saturating_add(len).min(there));
            let zeros = Bytes::from(vec![0; ZEROS.min(usize::try_from(len).unwrap_or(ZEROS))]);
            while at < end {
                let piece = zeros.slice(..zeros.len().min((end - at) as usize));
                let written = piece.len() as u64;
                write_all(file, at, vec![piece])?;
                at += written;
            }
            Ok(())
        }
        other => other,
    }
}

fn done(result: Result<(), Errno>, path: &str) -> Result<Reply, DiskError> {
    result.map(|()| Reply::Done).map_err(|error| failed(error, path))
}

fn failed(error: Errno, path: &str) -> DiskError {
    let kind = match error {
        Errno::NOENT => DiskErrorKind::NotFound,
        Errno::EXIST | Errno::NOTEMPTY => DiskErrorKind::Exists,
        Errno::WOULDBLOCK => DiskErrorKind::Locked,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => DiskErrorKind::Permission,
        Errno::NOSPC | Errno::DQUOT => DiskErrorKind::Full,
        Errno::FBIG => DiskErrorKind::TooLarge,
        Errno::IO => DiskErrorKind::Io,
        _ => DiskErrorKind::Other,
    };
    let message = std::io::Error::from(error).to_string();
    DiskError { kind, path: path.to_owned(), message }
}

fn sync_failed(error: Errno, path: &str) -> DiskError {
    DiskError { kind: DiskErrorKind::SyncFailed, ..failed(error, path) }
}

fn poisoned(path: &str) -> DiskError {
    let message = "closed to writes after a failed sync".to_owned();
    DiskError { kind: DiskErrorKind::SyncFailed, path: path.to_owned(), message }
}
