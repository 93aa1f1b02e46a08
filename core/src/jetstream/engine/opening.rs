//! The way from a folder to streams that take messages.
//!
//! The folder is locked, so that no other server works in it, and its directories are made; then the catalogue is read, so
//! that all stores are known; then the shard's journal, whose entries find them there. A step that fails ends it: the reason
//! is told, and nothing was overwritten.

use std::collections::VecDeque;

use bytes::Bytes;

use super::said::EngineId;
use crate::disk::{
    DiskError, DiskErrorKind, DiskQueue, Entry, FilePath, OpenMode, Reply, Request, Submission,
};
use crate::storage::file::Conversion;
use crate::storage::removals::{Gone, Removals};
use crate::storage::vault;

/// The file by which a folder is locked.
const LOCK: &str = "natrix.lock";
/// Where things are in the folder of an engine.
pub(super) const META: &str = "meta";
pub(super) const CATALOGUE: &str = "catalogue";
pub(super) const JOURNAL: &str = "journal";
pub(super) const STREAMS: &str = "streams";
pub(super) const CONSUMERS: &str = "consumers";
/// The file of keys, and a second one in case the first is lost.
const KEYS: [&str; 2] = ["keys", "keys.copy"];
/// With which epoch everything in the folder is sealed, once nothing else is there: `epoch u32, crc u32`.
const MARK: &str = "store.epoch";
/// What it says when something else was found since: something is sealed, and not everything. No epoch gets as high.
const DOUBTED: u32 = u32::MAX;
/// What the copy of a damaged catalogue is called, before its checksum.
const COPY: &str = "catalogue.damaged-";
/// Where the home engine's folder is, and those of the others in it.
const HOME: &str = "natrix";
const SHARD: &str = "shard-";

/// Returns the folder of an engine.
fn folder(engine: EngineId) -> FilePath {
    match engine {
        EngineId::HOME => path(HOME),
        EngineId(number) => path(HOME).join(&format!("{SHARD}{number}")),
    }
}

/// Returns the engine whose folder has this name.
fn engine_of(name: &str) -> Option<EngineId> {
    let number = name.strip_prefix(SHARD)?.parse().ok()?;
    let ours = (1..EngineId::MOST).contains(&number) && name == format!("{SHARD}{number}");
    ours.then_some(EngineId(number))
}

/// Returns a path of our own making.
pub(super) fn path(text: &str) -> FilePath {
    FilePath::new(text).expect("a path of our own making")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    OpenLock,
    Lock,
    Directory,
    Streams,
    Consumers,
    /// What there is beside them; in the home engine's folder also those of the others.
    Top,
    Keys(usize),
    Mark,
    WriteMark,
    Leftover,
    /// The folder of consumers, for the files that are gone from it.
    Gone,
}

/// What became of the folder so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The disk is at work.
    Waiting,
    /// The folder is ours.
    Prepared,
    /// It can't be.
    Failed(String),
}

/// Makes the folder ours.
#[derive(Debug)]
pub(super) struct Opening {
    queue: DiskQueue<Step>,
    todo: VecDeque<(Step, Request)>,
    streams: Vec<String>,
    consumers: Vec<String>,
    /// There is a catalogue, or what it is made of.
    catalogue: bool,
    /// A file of keys is there, and the whole one among them.
    keys: (bool, Option<Bytes>),
    mark: Option<u32>,
    /// It is being written.
    marking: bool,
    /// How many copies of a damaged catalogue there are.
    copies: usize,
    removals: Removals,
    engine: EngineId,
    folder: FilePath,
    /// The engines of which there are folders, until somebody asks.
    folders: Option<u64>,
}

impl Opening {
    /// Begins. The home engine locks the folder for all, and says then which others there are.
    pub(super) fn start(engine: EngineId) -> Self {
        let mut queue = DiskQueue::numbered_from(engine.base());
        let lock = queue.file();
        let (home, own) = (path(HOME), folder(engine));
        let directories = [META, STREAMS, CONSUMERS].map(|name| own.join(name));
        let make = directories.map(|path| Request::CreateDirectory { path });
        // Their names are durable when those above them are synced, the folder itself last.
        let inner = (engine != EngineId::HOME).then(|| own.clone());
        let sync = inner.into_iter().chain([home.clone(), FilePath::root()]);
        let sync = sync.map(|path| Request::SyncDirectory { path });
        let mut todo: VecDeque<_> =
            make.into_iter().chain(sync).map(|request| (Step::Directory, request)).collect();
        if engine == EngineId::HOME {
            todo.push_front((Step::Lock, Request::Lock { file: lock }));
            let file = Request::Open { file: lock, path: path(LOCK), mode: OpenMode::Create };
            queue.submit(Step::OpenLock, file);
        } else if let Some((step, request)) = todo.pop_front() {
            queue.submit(step, request);
        }
        todo.push_back((Step::Streams, Request::List { path: own.join(STREAMS) }));
        todo.push_back((Step::Consumers, Request::List { path: own.join(CONSUMERS) }));
        todo.push_back((Step::Top, Request::List { path: own.clone() }));
        let (streams, consumers, keys) = (Vec::new(), Vec::new(), (false, None));
        Opening {
            queue,
            todo,
            streams,
            consumers,
            catalogue: false,
            keys,
            mark: None,
            marking: false,
            copies: 0,
            removals: Removals::default(),
            engine,
            folder: own,
            folders: None,
        }
    }

    /// Returns the engine's folder.
    pub(super) fn folder(&self) -> &FilePath {
        &self.folder
    }

    /// Returns where something of the engine's is.
    pub(super) fn place(&self, name: &str) -> FilePath {
        self.folder.join(name)
    }

    /// Returns the engines of which there are folders, once.
    pub(super) fn take_folders(&mut self) -> Option<u64> {
        self.folders.take()
    }

    /// Returns the names of what was in the folder of streams.
    pub(super) fn streams(&self) -> impl Iterator<Item = &String> {
        self.streams.iter()
    }

    /// Returns the names of what was in the folder of consumers.
    pub(super) fn consumers(&self) -> impl Iterator<Item = &String> {
        self.consumers.iter()
    }

    /// Returns whether anything was ever kept in the folder.
    pub(super) fn has_something(&self) -> bool {
        self.catalogue || !self.streams.is_empty() || !self.consumers.is_empty()
    }

    /// Returns how many copies of a damaged catalogue there are, of before.
    pub(super) fn copies(&self) -> usize {
        self.copies
    }

    /// Returns the file of keys, if there is one; one that is damaged where neither is whole.
    pub(super) fn keys(&self) -> Option<&[u8]> {
        match &self.keys {
            (_, Some(whole)) => Some(whole),
            (true, None) => Some(&[]),
            (false, None) => None,
        }
    }

    /// Returns with which epoch everything in the folder is sealed, as its mark says.
    pub(super) fn mark(&self) -> Option<u32> {
        self.mark
    }

    /// Returns whether something was sealed here, as far as the mark says.
    pub(super) fn was_sealed(&self) -> bool {
        self.mark.is_some_and(|epoch| epoch != 0)
    }

    /// Takes back that something is sealed, and returns whether that takes a while: [`Progress::Prepared`] says when it is
    /// durable. Nothing is to be written in plain text before.
    pub(super) fn unmark(&mut self) -> bool {
        let marked = self.was_sealed();
        if marked {
            let request = self.mark_as(0);
            self.queue.submit(Step::Directory, request);
        }
        marked
    }

    /// Writes the file of keys; [`Progress::Prepared`] says when that is durable.
    pub(super) fn write_keys(&mut self, keys: &[u8]) {
        let keys = Bytes::copy_from_slice(keys);
        for name in KEYS.into_iter().rev() {
            let (path, data) = (self.place(name), vec![keys.clone()]);
            self.todo.push_back((Step::Directory, Request::Replace { path, data }));
        }
        if let Some((step, request)) = self.todo.pop_front() {
            self.queue.submit(step, request);
        }
    }

    /// Returns whether the mark is being written: one at a time, or the first might be the last.
    pub(super) fn is_marking(&self) -> bool {
        self.marking
    }

    /// Notes with which epoch everything is sealed.
    pub(super) fn write_mark(&mut self, epoch: u32) {
        self.marking = true;
        let request = self.mark_as(epoch);
        self.queue.submit(Step::WriteMark, request);
    }

    /// Takes back that everything is: something else was found, and the next start is to know of it should this one end before
    /// that is told to be sealed.
    pub(super) fn take_back_mark(&mut self) {
        self.write_mark(DOUBTED);
    }

    fn mark_as(&mut self, epoch: u32) -> Request {
        self.mark = Some(epoch);
        let epoch = epoch.to_le_bytes();
        let bytes = [epoch, crc32c::crc32c(&epoch).to_le_bytes()].concat();
        Request::Replace { path: self.place(MARK), data: vec![Bytes::from(bytes)] }
    }

    /// Removes the file of a consumer that nobody needs.
    pub(super) fn remove(&mut self, path: FilePath) {
        self.removals.begun(true);
        self.queue.submit(Step::Leftover, Request::Remove { path });
    }

    /// Sees to it that files of consumers which were removed stay away, and tells whether they do.
    pub(super) fn make_sure(&mut self) -> Conversion {
        match self.removals.settle() {
            Gone::Sure => return Conversion::Done,
            Gone::No => return Conversion::Kept,
            Gone::Wait => {}
            Gone::Ask => {
                let path = self.place(CONSUMERS);
                self.queue.submit(Step::Gone, Request::SyncDirectory { path });
            }
        }
        Conversion::UnderWay
    }

    pub(super) fn poll_disk(&mut self) -> Option<Submission> {
        self.queue.poll()
    }

    pub(super) fn handle_disk(&mut self, completion: crate::disk::Completion) -> Progress {
        let Some((step, result)) = self.queue.complete(completion) else { return Progress::Waiting };
        let names =
            |entries: Vec<Entry>| -> Vec<String> { entries.into_iter().map(|entry| entry.name).collect() };
        match step {
            Step::Leftover => self.removals.was_removed(&result),
            Step::Gone => self.removals.are_gone(&result),
            Step::WriteMark => self.marking = false,
            _ => {}
        }
        let result = match (step, result) {
            (Step::Streams, Ok(Reply::Listed(entries))) => {
                self.streams = names(entries);
                Ok(Reply::Done)
            }
            (Step::Consumers, Ok(Reply::Listed(entries))) => {
                self.consumers = names(entries);
                Ok(Reply::Done)
            }
            (Step::Top, Ok(Reply::Listed(entries))) => {
                let there = names(entries);
                self.read_what_is_there(&there);
                if self.engine == EngineId::HOME {
                    let engines = there.iter().filter_map(|name| engine_of(name));
                    let all = engines.fold(EngineId::HOME.bit(), |all, engine| all | engine.bit());
                    self.folders = Some(all);
                }
                Ok(Reply::Done)
            }
            // One that can't be read is as good as none: the other is asked.
            (Step::Keys(_), read) => {
                if let Ok(Reply::Read(bytes)) = read
                    && self.keys.1.is_none()
                    && vault::is_whole(&bytes)
                {
                    self.keys.1 = Some(bytes);
                }
                Ok(Reply::Done)
            }
            (Step::Mark, read) => {
                if let Ok(Reply::Read(bytes)) = read
                    && let Some((epoch, crc)) = bytes.split_first_chunk::<4>()
                    && crc == crc32c::crc32c(epoch).to_le_bytes()
                {
                    self.mark = Some(u32::from_le_bytes(*epoch));
                }
                Ok(Reply::Done)
            }
            (_, result) => result,
        };
        match (step, result) {
            // What can't be removed is found again at the next start, and what isn't marked is looked at again.
            (Step::Leftover | Step::WriteMark | Step::Gone, _) => Progress::Waiting,
            (step, Err(error)) => Progress::Failed(reason(step, &error)),
            (_, Ok(_)) => match self.todo.pop_front() {
                Some((step, request)) => {
                    self.queue.submit(step, request);
                    Progress::Waiting
                }
                None => Progress::Prepared,
            },
        }
    }
}

impl Opening {
    fn read_what_is_there(&mut self, names: &[String]) {
        let there = |name: &str| names.iter().any(|there| there == name);
        let folder = self.folder.clone();
        let read = |name: &str| Request::ReadFile { path: folder.join(name), limit: vault::FILE_LIMIT };
        self.catalogue = there(CATALOGUE);
        for (at, name) in KEYS.into_iter().enumerate().filter(|(_, name)| there(name)) {
            self.keys.0 = true;
            self.todo.push_back((Step::Keys(at), read(name)));
        }
        if there(MARK) {
            self.todo.push_back((Step::Mark, read(MARK)));
        }
        self.copies = names.iter().filter(|name| name.starts_with(COPY)).count();
    }
}

fn reason(step: Step, error: &DiskError) -> String {
    match (step, error.kind) {
        (Step::Lock, DiskErrorKind::Locked) => {
            format!(
                "{}: another server works in this folder; stop it, or choose another store_dir",
                error.path
            )
        }
        (_, DiskErrorKind::Permission) => {
            format!("{error}; give the server's user the folder, or choose another store_dir")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::instant::InstantDisk;

    fn run(opening: &mut Opening, disk: &mut InstantDisk) -> Progress {
        let mut progress = Progress::Waiting;
        while let Some(submission) = opening.poll_disk() {
            progress = opening.handle_disk(disk.execute(submission));
        }
        progress
    }

    #[test]
    fn a_folder_has_one_server() {
        let mut disk = InstantDisk::default();
        assert_eq!(run(&mut Opening::start(EngineId::HOME), &mut disk), Progress::Prepared);
        let Progress::Failed(reason) = run(&mut Opening::start(EngineId::HOME), &mut disk) else {
            panic!("two servers")
        };
        assert!(reason.contains("another server works in this folder"), "{reason}");
        disk.restart();
        assert_eq!(run(&mut Opening::start(EngineId::HOME), &mut disk), Progress::Prepared);
    }
}
