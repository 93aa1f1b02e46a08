//! What each request does when it takes effect, and what the disk does wrong then.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use natrix_core::disk::{
    DiskError, DiskErrorKind, Entry, FileId, FilePath, OpenMode, Reply, Request, SECTOR,
};

use super::{Change, Data, DataChange, DiskFault, File, Handle, Harm, NameChange, Node, SimDisk, sectors};

impl SimDisk {
    pub(super) fn perform(
        &mut self,
        request: Request,
        covers: &[u64],
        changes: &mut Vec<Change>,
    ) -> Result<Reply, DiskError> {
        match request {
            Request::Open { file, path, mode } => return self.open_file(file, path, mode, changes),
            Request::Close { file } => {
                if let Some(handle) = self.open.remove(&file) {
                    self.locked.remove(&handle.file);
                }
            }
            Request::Lock { file } => {
                let handle = self.handle(file)?;
                if !self.locked.insert(handle.file) {
                    return Err(error(DiskErrorKind::Locked, &handle.path));
                }
            }
            Request::Stat { path } => {
                let (len, directory) = match self.node(&path) {
                    None => return Err(error(DiskErrorKind::NotFound, &path)),
                    Some(Node::Directory) => (0, true),
                    Some(Node::File(file)) => (self.files[&file].seen.len(), false),
                };
                return Ok(Reply::Stat { len, directory });
            }
            Request::Write { file, offset, data, sync } => {
                self.write(&self.writable(file)?, offset, join(&data), sync, changes)?;
            }
            Request::Read { file, offset, len } => {
                let handle = self.handle(file)?;
                return self.read(handle.file, &handle.path, offset, len);
            }
            Request::ReadFile { path, limit } => {
                let file = self.file_at(&path)?;
                let len = usize::try_from(self.files[&file].seen.len()).unwrap_or(usize::MAX);
                if len > limit {
                    return Err(error(DiskErrorKind::TooLarge, &path));
                }
                return self.read(file, &path, 0, len);
            }
            Request::Sync { file } => self.sync(&self.handle(file)?, covers)?,
            Request::Preallocate { file, len } => {
                let handle = self.writable(file)?;
                self.check_space(&handle.path, len)?;
                if self.files[&handle.file].seen.len() < len {
                    self.change(handle.file, Data::Length(len), false, changes);
                }
            }
            Request::PunchHole { file, offset, len } => {
                let handle = self.writable(file)?;
                self.change(handle.file, Data::Zero { offset, len }, false, changes);
            }
            Request::Truncate { file, len } => {
                let handle = self.writable(file)?;
                self.change(handle.file, Data::Length(len), false, changes);
            }
            Request::Replace { path, data } => self.replace(path, &join(&data), changes)?,
            Request::Rename { from, to } => {
                let node = self.node(&from).ok_or_else(|| error(DiskErrorKind::NotFound, &from))?;
                self.need_parent(&to)?;
                if from != to {
                    // What is harmed from now on is known by the new name.
                    for handle in self.open.values_mut().filter(|handle| handle.path == from) {
                        handle.path = to.clone();
                    }
                    self.rename(Some(from), Some((to, node)), false, changes);
                }
            }
            Request::Remove { path } => {
                let node = self.node(&path).ok_or_else(|| error(DiskErrorKind::NotFound, &path))?;
                if node == Node::Directory && self.names.keys().any(|name| name.parent() == path) {
                    return Err(error(DiskErrorKind::Other, &path));
                }
                self.rename(Some(path), None, false, changes);
            }
            Request::CreateDirectory { path } => self.create_directories(&path, changes)?,
            Request::List { path } => return self.list(&path),
            Request::SyncDirectory { path } => {
                if self.node(&path) != Some(Node::Directory) {
                    return Err(error(DiskErrorKind::NotFound, &path));
                }
                let covered = self.name_log.iter_mut().filter(|change| covers.contains(&change.id));
                covered.for_each(|change| change.durable = true);
                self.settle_names();
            }
            Request::Space => {
                let free = self.model.capacity.saturating_sub(self.used());
                return Ok(Reply::Space { free, total: self.model.capacity });
            }
        }
        Ok(Reply::Done)
    }

    /// Lets a request that was in flight at a crash take effect, partly, or not at all.
    pub(super) fn cut_short(&mut self, request: Request) {
        if self.rng.chance(1, 2) {
            return;
        }
        match request {
            Request::Write { file, offset, data, .. } => {
                let Ok(handle) = self.writable(file) else { return };
                self.write_some(handle.file, offset, &join(&data), &mut Vec::new());
            }
            // A sync in flight may have done any part of its work; none is the hardest for the caller.
            Request::Sync { .. } | Request::SyncDirectory { .. } => {}
            other => drop(self.perform(other, &[], &mut Vec::new())),
        }
    }

    fn open_file(
        &mut self,
        id: FileId,
        path: FilePath,
        mode: OpenMode,
        changes: &mut Vec<Change>,
    ) -> Result<Reply, DiskError> {
        let file = match (self.node(&path), mode) {
            (Some(Node::Directory), _) => return Err(error(DiskErrorKind::Other, &path)),
            (Some(Node::File(_)), OpenMode::CreateNew) => return Err(error(DiskErrorKind::Exists, &path)),
            (Some(Node::File(file)), _) => file,
            (None, OpenMode::Read | OpenMode::ReadWrite) => {
                return Err(error(DiskErrorKind::NotFound, &path));
            }
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                self.need_parent(&path)?;
                let file = self.new_file(File::default());
                self.rename(None, Some((path.clone(), Node::File(file))), false, changes);
                file
            }
        };
        let len = self.files[&file].seen.len();
        self.open.insert(id, Handle { file, path, writable: mode != OpenMode::Read });
        Ok(Reply::Opened { len })
    }

    fn write(
        &mut self,
        handle: &Handle,
        offset: u64,
        bytes: Bytes,
        sync: bool,
        changes: &mut Vec<Change>,
    ) -> Result<(), DiskError> {
        let (file, path, len) = (handle.file, &handle.path, bytes.len() as u64);
        let end = offset.checked_add(len).ok_or_else(|| error(DiskErrorKind::Other, path))?;
        let grows = end.saturating_sub(self.files[&file].seen.len());
        self.check_space(path, grows)?;
        if self.strikes(DiskFault::WriteError, path) {
            self.write_some(file, offset, &bytes, changes);
            self.harm(path, offset, len, DiskFault::WriteError);
            return Err(error(DiskErrorKind::Io, path));
        }
        if self.strikes(DiskFault::ShortWrite, path) {
            let short = bytes.slice(..self.rng.below(len + 1) as usize);
            self.change(file, Data::Write { offset, bytes: short }, false, changes);
            self.harm(path, offset, len, DiskFault::ShortWrite);
            return Err(error(DiskErrorKind::Io, path));
        }
        if self.strikes(DiskFault::LostWrite, path) {
            self.harm(path, offset, len, DiskFault::LostWrite);
            return Ok(());
        }
        if self.strikes(DiskFault::TornWrite, path) {
            self.write_some(file, offset, &bytes, changes);
            self.harm(path, offset, len, DiskFault::TornWrite);
            return Ok(());
        }
        if self.strikes(DiskFault::MisdirectedWrite, path) {
            self.harm(path, offset, len, DiskFault::MisdirectedWrite);
            let nth = self.rng.below(self.files.len() as u64) as usize;
            let victim = *self.files.keys().nth(nth).expect("the file itself is one");
            let there = self.rng.below(self.files[&victim].seen.len() / SECTOR as u64 + 1) * SECTOR as u64;
            for path in self.paths_of(victim) {
                self.harm(&path, there, len, DiskFault::MisdirectedWrite);
            }
            self.change(victim, Data::Write { offset: there, bytes }, sync, changes);
            return Ok(());
        }
        let file_state = Arc::make_mut(self.files.get_mut(&file).expect("an open file is there"));
        file_state.unreadable.retain(|sector| {
            let start = sector * SECTOR as u64;
            start < offset || start >= end
        });
        if sync && self.strikes(DiskFault::SyncFailed, path) {
            self.change(file, Data::Write { offset, bytes }, false, changes);
            return Err(self.fail_sync(handle));
        }
        if sync {
            self.keep_older(file);
        }
        self.change(file, Data::Write { offset, bytes }, sync, changes);
        Ok(())
    }

    /// Keeps what is durable now, in some cases, for the file to go back to.
    fn keep_older(&mut self, file: u64) {
        if self.rng.chance(1, 8) {
            let file = Arc::make_mut(self.files.get_mut(&file).expect("an open file is there"));
            file.older = Some(file.durable.clone());
        }
    }

    /// Writes a random choice of the sectors.
    fn write_some(&mut self, file: u64, offset: u64, bytes: &Bytes, changes: &mut Vec<Change>) {
        for (at, piece) in sectors(offset, bytes) {
            if self.rng.chance(1, 2) {
                let bytes = bytes.slice_ref(piece);
                self.change(file, Data::Write { offset: at, bytes }, false, changes);
            }
        }
    }

    fn read(&mut self, file: u64, path: &FilePath, offset: u64, len: usize) -> Result<Reply, DiskError> {
        if self.strikes(DiskFault::ReadError, path) {
            return Err(error(DiskErrorKind::Io, path));
        }
        let end = offset.saturating_add(len as u64);
        let state = &self.files[&file];
        let (first, last) = (offset / SECTOR as u64, end.div_ceil(SECTOR as u64));
        if first < last && state.unreadable.range(first..last).next().is_some() {
            return Err(error(DiskErrorKind::Io, path));
        }
        let whole = state.seen.len();
        let mut bytes = state.seen.read(offset, len);
        if self.strikes(DiskFault::MisdirectedRead, path) {
            let there = self.rng.below(whole.saturating_sub(bytes.len() as u64) + 1);
            bytes = self.files[&file].seen.read(there, bytes.len());
        }
        if !bytes.is_empty() && self.strikes(DiskFault::BadRead, path) {
            let at = self.rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << self.rng.below(8);
        }
        Ok(Reply::Read(bytes.into()))
    }

    fn sync(&mut self, handle: &Handle, covers: &[u64]) -> Result<(), DiskError> {
        if self.strikes(DiskFault::SyncFailed, &handle.path) {
            return Err(self.fail_sync(handle));
        }
        self.keep_older(handle.file);
        let file = Arc::make_mut(self.files.get_mut(&handle.file).expect("an open file is there"));
        file.log
            .iter_mut()
            .filter(|change| covers.contains(&change.id))
            .for_each(|change| change.durable = true);
        file.settle();
        Ok(())
    }

    /// Marks pages clean that aren't on disk: what is read from memory, no later sync brings there.
    fn fail_sync(&mut self, handle: &Handle) -> DiskError {
        let file = Arc::make_mut(self.files.get_mut(&handle.file).expect("an open file is there"));
        file.log.retain(|change| change.durable);
        file.settle();
        self.harm(&handle.path, 0, u64::MAX, DiskFault::SyncFailed);
        error(DiskErrorKind::SyncFailed, &handle.path)
    }

    fn replace(&mut self, path: FilePath, data: &Bytes, changes: &mut Vec<Change>) -> Result<(), DiskError> {
        self.need_parent(&path)?;
        if self.node(&path) == Some(Node::Directory) {
            return Err(error(DiskErrorKind::Other, &path));
        }
        self.check_space(&path, data.len() as u64)?;
        if self.strikes(DiskFault::WriteError, &path) {
            return Err(error(DiskErrorKind::Io, &path));
        }
        let mut file = File::default();
        file.seen.write(0, data);
        file.durable = file.seen.clone();
        file.older = self.file_at(&path).ok().map(|old| self.files[&old].durable.clone());
        let file = self.new_file(file);
        // Syncing the directory for the new name makes every name before it durable too; keeping them in doubt is
        // harder for the caller and within the contract.
        self.rename(None, Some((path, Node::File(file))), true, changes);
        Ok(())
    }

    fn create_directories(&mut self, path: &FilePath, changes: &mut Vec<Change>) -> Result<(), DiskError> {
        let mut missing = Vec::new();
        let mut at = path.clone();
        while at != FilePath::root() {
            match self.node(&at) {
                Some(Node::Directory) => break,
                Some(Node::File(_)) => return Err(error(DiskErrorKind::Exists, &at)),
                None => missing.push(at.clone()),
            }
            at = at.parent();
        }
        for path in missing.into_iter().rev() {
            self.rename(None, Some((path, Node::Directory)), false, changes);
        }
        Ok(())
    }

    fn list(&self, path: &FilePath) -> Result<Reply, DiskError> {
        if self.node(path) != Some(Node::Directory) {
            return Err(error(DiskErrorKind::NotFound, path));
        }
        let inside = self.names.iter().filter(|(name, _)| name.parent() == *path);
        let mut entries: Vec<Entry> = inside
            .map(|(name, node)| {
                let (len, directory) = match node {
                    Node::Directory => (0, true),
                    Node::File(file) => (self.files[file].seen.len(), false),
                };
                Entry { name: name.name().to_owned(), len, directory }
            })
            .collect();
        entries.sort();
        Ok(Reply::Listed(entries))
    }

    fn change(&mut self, file: u64, what: Data, durable: bool, changes: &mut Vec<Change>) {
        self.next_change += 1;
        let id = self.next_change;
        let state = Arc::make_mut(self.files.get_mut(&file).expect("an open file is there"));
        what.apply(&mut state.seen);
        state.log.push_back(DataChange { id, seen: false, durable, what });
        state.settle();
        changes.push(Change::Data(file, id));
    }

    fn rename(
        &mut self,
        remove: Option<FilePath>,
        add: Option<(FilePath, Node)>,
        durable: bool,
        changes: &mut Vec<Change>,
    ) {
        self.next_change += 1;
        let change = NameChange { id: self.next_change, seen: false, durable, remove, add };
        change.clone().apply(Arc::make_mut(&mut self.names));
        self.name_log.push_back(change);
        changes.push(Change::Name(self.next_change));
        self.settle_names();
    }

    fn settle_names(&mut self) {
        while self.name_log.front().is_some_and(|change| change.durable) {
            let change = self.name_log.pop_front().expect("it was there");
            change.apply(Arc::make_mut(&mut self.durable_names));
        }
    }

    fn check_space(&mut self, path: &FilePath, more: u64) -> Result<(), DiskError> {
        if self.strikes(DiskFault::Full, path) {
            self.full_until = self.now + self.model.full_for;
        }
        match self.now < self.full_until || more > 0 && self.used() + more > self.model.capacity {
            true => Err(error(DiskErrorKind::Full, path)),
            false => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.files.values().map(|file| file.seen.len()).sum()
    }

    fn new_file(&mut self, file: File) -> u64 {
        self.next_file += 1;
        self.files.insert(self.next_file, Arc::new(file));
        self.next_file
    }

    fn node(&self, path: &FilePath) -> Option<Node> {
        match *path == FilePath::root() {
            true => Some(Node::Directory),
            false => self.names.get(path).copied(),
        }
    }

    fn file_at(&self, path: &FilePath) -> Result<u64, DiskError> {
        match self.node(path) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory) => Err(error(DiskErrorKind::Other, path)),
            None => Err(error(DiskErrorKind::NotFound, path)),
        }
    }

    fn need_parent(&self, path: &FilePath) -> Result<(), DiskError> {
        match self.node(&path.parent()) {
            Some(Node::Directory) => Ok(()),
            _ => Err(error(DiskErrorKind::NotFound, path)),
        }
    }

    fn handle(&self, file: FileId) -> Result<Handle, DiskError> {
        self.open.get(&file).cloned().ok_or_else(|| error(DiskErrorKind::Other, &FilePath::root()))
    }

    fn writable(&self, file: FileId) -> Result<Handle, DiskError> {
        let handle = self.handle(file)?;
        match handle.writable {
            true => Ok(handle),
            false => Err(error(DiskErrorKind::Other, &handle.path)),
        }
    }

    fn paths_of(&self, file: u64) -> Vec<FilePath> {
        self.names
            .iter()
            .filter(|(_, node)| **node == Node::File(file))
            .map(|(path, _)| path.clone())
            .collect()
    }

    fn harm(&mut self, path: &FilePath, offset: u64, len: u64, fault: DiskFault) {
        self.harms.push(Harm { path: path.clone(), offset, len, fault });
    }

    /// Returns the paths of all files.
    pub fn paths(&self) -> impl Iterator<Item = &FilePath> {
        self.names.iter().filter(|(_, node)| matches!(node, Node::File(_))).map(|(path, _)| path)
    }

    /// Returns what whoever reads a file sees, or `None` if there is no such file: for those who look behind the store's back.
    pub fn content(&self, path: &FilePath) -> Option<Vec<u8>> {
        let file = &self.files[&self.file_at(path).ok()?];
        Some(file.seen.read(0, usize::try_from(file.seen.len()).ok()?))
    }

    /// Makes these sectors of `path` unreadable; returns whether there is such a file.
    pub fn spoil(&mut self, path: &FilePath, sectors: std::ops::Range<u64>) -> bool {
        let Ok(id) = self.file_at(path) else { return false };
        let (offset, len) = (sectors.start * SECTOR as u64, (sectors.end - sectors.start) * SECTOR as u64);
        let file = Arc::make_mut(self.files.get_mut(&id).expect("it has a name"));
        file.unreadable.extend(sectors);
        self.hits[DiskFault::UnreadableSector as usize] += 1;
        self.harm(path, offset, len, DiskFault::UnreadableSector);
        true
    }

    /// Flips a bit of `range` of `path`; returns whether there is one.
    pub fn rot(&mut self, path: &FilePath, range: std::ops::Range<u64>) -> bool {
        let Ok(id) = self.file_at(path) else { return false };
        let file = Arc::make_mut(self.files.get_mut(&id).expect("it has a name"));
        let end = range.end.min(file.durable.len());
        if range.start >= end {
            return false;
        }
        let (at, bit) = (range.start + self.rng.below(end - range.start), 1 << self.rng.below(8));
        for content in [&mut file.seen, &mut file.durable] {
            let byte = content.read(at, 1);
            byte.first().into_iter().for_each(|byte| content.write(at, &[byte ^ bit]));
        }
        self.hits[DiskFault::BitRot as usize] += 1;
        self.harm(path, at, 1, DiskFault::BitRot);
        true
    }

    /// Does to what is stored what time does to disks: a fault "at rest", of `path`, at once.
    ///
    /// [`DiskFault::SwappedFiles`] takes the file behind it in the order of names as its other. Returns whether
    /// there was anything to harm; faults that strike requests are for the model.
    pub fn damage(&mut self, path: &FilePath, fault: DiskFault) -> bool {
        let Ok(id) = self.file_at(path) else { return false };
        let mut file = (*self.files[&id]).clone();
        let len = file.durable.len();
        let (mut from, mut harmed) = (0, u64::MAX);
        match fault {
            DiskFault::BitRot => return self.rot(path, 0..len),
            DiskFault::UnreadableSector if len > 0 => {
                let sector = self.rng.below(len) / SECTOR as u64;
                file.unreadable.insert(sector);
                (from, harmed) = (sector * SECTOR as u64, SECTOR as u64);
            }
            DiskFault::StaleFile | DiskFault::StaleChunk => {
                let Some(older) = file.older.clone() else { return false };
                if fault == DiskFault::StaleFile {
                    (file.seen, file.durable) = (older.clone(), older);
                    file.log.clear();
                } else {
                    from = self.rng.below(older.len() + 1) / SECTOR as u64 * SECTOR as u64;
                    let bytes = older.read(from, 8 * SECTOR);
                    harmed = bytes.len() as u64;
                    file.seen.write(from, &bytes);
                    file.durable.write(from, &bytes);
                }
            }
            DiskFault::TruncatedFile if len > 0 => {
                from = self.rng.below(len);
                file.seen.set_len(from);
                file.durable.set_len(from);
                file.log.clear();
            }
            DiskFault::MissingFile => {
                Arc::make_mut(&mut self.names).remove(path);
                self.name_log.clear();
                self.durable_names = Arc::clone(&self.names);
            }
            DiskFault::SwappedFiles => {
                let files = self.names.iter().filter(|(_, node)| matches!(node, Node::File(_)));
                let other = files.map(|(name, _)| name.clone()).find(|name| name > path);
                let Some(other) = other else { return false };
                let names = Arc::make_mut(&mut self.names);
                let theirs = names.insert(path.clone(), names[&other]).expect("it was found");
                names.insert(other.clone(), theirs);
                self.name_log.clear();
                self.durable_names = Arc::clone(&self.names);
                self.harm(&other, 0, u64::MAX, fault);
            }
            _ => return false,
        }
        self.files.insert(id, Arc::new(file));
        self.hits[fault as usize] += 1;
        self.harm(path, from, harmed, fault);
        true
    }
}

impl File {
    fn settle(&mut self) {
        while self.log.front().is_some_and(|change| change.durable) {
            let change = self.log.pop_front().expect("it was there");
            change.what.apply(&mut self.durable);
        }
    }
}

fn join(data: &[Bytes]) -> Bytes {
    match data {
        [whole] => whole.clone(),
        pieces => {
            let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
            pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
            whole.freeze()
        }
    }
}

fn error(kind: DiskErrorKind, path: &FilePath) -> DiskError {
    let message = match kind {
        DiskErrorKind::NotFound => "no such file or directory",
        DiskErrorKind::Exists => "file exists",
        DiskErrorKind::Locked => "locked by another process",
        DiskErrorKind::TooLarge => "file too large",
        DiskErrorKind::Full => "no space left on device",
        DiskErrorKind::Io | DiskErrorKind::SyncFailed => "input/output error",
        _ => "invalid argument",
    };
    DiskError { kind, path: path.to_string(), message: message.to_owned() }
}
