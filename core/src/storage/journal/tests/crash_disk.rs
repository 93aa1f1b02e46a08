//! A disk that loses what the contract lets it lose. Small beside `SimDisk`; here so that the journal's own tests need no
//! other crate.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::disk::{
    Completion, DiskError, DiskErrorKind, Entry, FileId, FilePath, OpenMode, Reply, Request, SECTOR,
    Submission,
};
use crate::rng::Rng;

#[derive(Clone, Debug, Default)]
struct File {
    /// What reads see.
    cached: Vec<u8>,
    /// What a power cut leaves.
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl File {
    fn sync(&mut self, sectors: impl Iterator<Item = usize>) {
        self.durable.resize(self.cached.len(), 0);
        for sector in sectors {
            let start = sector * SECTOR;
            let end = (start + SECTOR).min(self.cached.len());
            self.durable[start..end].copy_from_slice(&self.cached[start..end]);
        }
    }

    fn lose_power(&mut self, rng: &mut Rng) {
        self.durable.resize(self.cached.len(), 0);
        let kept = std::mem::take(&mut self.dirty);
        // All, none, or any subset: the first two are rare by chance.
        let one_in = [1, 2, 1_000_000][rng.below(3) as usize];
        let kept: Vec<_> = kept.into_iter().filter(|_| rng.chance(1, one_in)).collect();
        self.sync(kept.into_iter());
        self.cached.clone_from(&self.durable);
    }
}

/// How often, one in so many, something fails; zero for never.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub write: u64,
    pub sync: u64,
    pub full: u64,
}

/// A name that goes, and one that comes.
type NameChange = (Option<FilePath>, Option<(FilePath, usize)>);

/// Files in memory with a difference between written and durable.
#[derive(Debug, Default)]
pub(super) struct CrashDisk {
    inodes: Vec<File>,
    names: BTreeMap<FilePath, usize>,
    durable_names: BTreeMap<FilePath, usize>,
    pending_names: Vec<NameChange>,
    open: BTreeMap<FileId, usize>,
    pub faults: Faults,
    pub operations: u64,
}

impl CrashDisk {
    pub(super) fn execute(&mut self, submission: Submission, rng: &mut Rng) -> Completion {
        self.operations += 1;
        Completion { token: submission.token, result: self.perform(submission.request, rng) }
    }

    /// The process ends; what is under way may be written in part.
    pub(super) fn crash(&mut self, power: bool, under_way: Vec<Submission>, rng: &mut Rng) {
        for submission in under_way {
            if rng.chance(1, 2)
                && let Request::Write { file, offset, data, .. } = submission.request
            {
                let data = data.concat();
                for (index, sector) in data.chunks(SECTOR).enumerate() {
                    if rng.chance(3, 4) {
                        self.write(file, offset as usize + index * SECTOR, sector);
                    }
                }
            }
        }
        self.open.clear();
        if !power {
            return;
        }
        for file in &mut self.inodes {
            file.lose_power(rng);
        }
        for change in std::mem::take(&mut self.pending_names) {
            if rng.chance(1, 2) {
                apply(&mut self.durable_names, change);
            }
        }
        self.names.clone_from(&self.durable_names);
    }

    /// Flips a bit of a file, if it has any: in memory and on disk.
    pub(super) fn flip(&mut self, path: &FilePath, bit: u64) -> bool {
        let Some(file) = self.names.get(path).map(|inode| &mut self.inodes[*inode]) else { return false };
        if file.cached.is_empty() {
            return false;
        }
        let at = (bit / 8) as usize % file.cached.len();
        file.cached[at] ^= 1 << (bit % 8);
        file.durable.resize(file.cached.len(), 0);
        file.durable[at] = file.cached[at];
        true
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &FilePath> {
        self.names.keys()
    }

    fn write(&mut self, file: FileId, offset: usize, data: &[u8]) -> Vec<usize> {
        let file = &mut self.inodes[self.open[&file]];
        let end = offset + data.len();
        if file.cached.len() < end {
            file.cached.resize(end, 0);
        }
        file.cached[offset..end].copy_from_slice(data);
        let sectors: Vec<_> = (offset / SECTOR..end.div_ceil(SECTOR)).collect();
        file.dirty.extend(&sectors);
        sectors
    }

    fn change_name(&mut self, removed: Option<FilePath>, added: Option<(FilePath, usize)>) {
        apply(&mut self.names, (removed.clone(), added.clone()));
        self.pending_names.push((removed, added));
    }

    fn perform(&mut self, request: Request, rng: &mut Rng) -> Result<Reply, DiskError> {
        let fails = |one_in: u64, rng: &mut Rng| one_in > 0 && rng.chance(1, one_in);
        match request {
            Request::Open { file, path, mode } => {
                let inode = match self.names.get(&path) {
                    Some(_) if mode == OpenMode::CreateNew => return Err(error(DiskErrorKind::Exists)),
                    Some(inode) => *inode,
                    None if mode == OpenMode::ReadWrite => return Err(error(DiskErrorKind::NotFound)),
                    None => {
                        self.inodes.push(File::default());
                        self.change_name(None, Some((path, self.inodes.len() - 1)));
                        self.inodes.len() - 1
                    }
                };
                self.open.insert(file, inode);
                Ok(Reply::Opened { len: self.inodes[inode].cached.len() as u64 })
            }
            Request::Write { file, offset, data, sync } => {
                let data = data.concat();
                if fails(self.faults.full, rng) {
                    return Err(error(DiskErrorKind::Full));
                }
                if fails(self.faults.write, rng) {
                    let half = data.len() / 2;
                    self.write(file, offset as usize, &data[..half]);
                    return Err(error(DiskErrorKind::Io));
                }
                let sectors = self.write(file, offset as usize, &data);
                if !sync {
                    return Ok(Reply::Done);
                }
                let failed = fails(self.faults.sync, rng);
                let file = &mut self.inodes[self.open[&file]];
                if failed {
                    // The pages are clean, and were never written.
                    file.dirty.clear();
                    return Err(error(DiskErrorKind::SyncFailed));
                }
                file.sync(sectors.iter().copied());
                file.dirty.retain(|sector| !sectors.contains(sector));
                Ok(Reply::Done)
            }
            Request::Sync { file } => {
                let failed = fails(self.faults.sync, rng);
                let file = &mut self.inodes[self.open[&file]];
                let dirty = std::mem::take(&mut file.dirty);
                if failed {
                    return Err(error(DiskErrorKind::SyncFailed));
                }
                file.sync(dirty.into_iter());
                Ok(Reply::Done)
            }
            Request::Read { file, offset, len } => {
                let content = &self.inodes[self.open[&file]].cached;
                let start = (offset as usize).min(content.len());
                Ok(Reply::Read(Bytes::copy_from_slice(&content[start..(start + len).min(content.len())])))
            }
            Request::Preallocate { file, len } => {
                if fails(self.faults.full, rng) {
                    return Err(error(DiskErrorKind::Full));
                }
                let file = &mut self.inodes[self.open[&file]];
                file.cached.resize(file.cached.len().max(len as usize), 0);
                Ok(Reply::Done)
            }
            Request::Rename { from, to } => {
                let inode = self.names.get(&from).copied().ok_or_else(|| error(DiskErrorKind::NotFound))?;
                self.change_name(Some(from), Some((to, inode)));
                Ok(Reply::Done)
            }
            Request::Remove { path } => {
                self.change_name(Some(path), None);
                Ok(Reply::Done)
            }
            Request::SyncDirectory { .. } => {
                self.pending_names.clear();
                self.durable_names.clone_from(&self.names);
                Ok(Reply::Done)
            }
            Request::List { .. } => {
                let entry = |(path, inode): (&FilePath, &usize)| Entry {
                    name: path.name().to_owned(),
                    len: self.inodes[*inode].cached.len() as u64,
                    directory: false,
                };
                Ok(Reply::Listed(self.names.iter().map(entry).collect()))
            }
            Request::Close { file } => {
                self.open.remove(&file);
                Ok(Reply::Done)
            }
            Request::CreateDirectory { .. } => Ok(Reply::Done),
            request => panic!("the journal doesn't ask for {request:?}"),
        }
    }
}

fn apply(names: &mut BTreeMap<FilePath, usize>, (removed, added): NameChange) {
    if let Some(path) = removed {
        names.remove(&path);
    }
    names.extend(added);
}

fn error(kind: DiskErrorKind) -> DiskError {
    DiskError { kind, path: "journal".to_owned(), message: format!("{kind:?}") }
}
