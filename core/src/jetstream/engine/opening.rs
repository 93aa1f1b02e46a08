//! The way from a folder to streams that take messages.
//!
//! The folder is locked, so that no other server works in it, and its directories are made; then the catalogue is read, so
//! that all stores are known; then the shard's journal, whose entries find them there. A step that fails ends it: the reason
//! is told, and nothing was overwritten.

use std::collections::VecDeque;

use super::said::EngineId;
use crate::disk::{
    DiskError, DiskErrorKind, DiskQueue, Entry, FilePath, OpenMode, Reply, Request, Submission,
};

/// The file by which a folder is locked.
const LOCK: &str = "natrix.lock";
/// Where things are in the folder of an engine.
pub(super) const META: &str = "meta";
pub(super) const CATALOGUE: &str = "catalogue";
pub(super) const JOURNAL: &str = "journal";
pub(super) const STREAMS: &str = "streams";
pub(super) const CONSUMERS: &str = "consumers";
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
    Folders,
    Leftover,
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
    folder: FilePath,
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
            todo.push_back((Step::Folders, Request::List { path: home }));
            let file = Request::Open { file: lock, path: path(LOCK), mode: OpenMode::Create };
            queue.submit(Step::OpenLock, file);
        } else if let Some((step, request)) = todo.pop_front() {
            queue.submit(step, request);
        }
        todo.push_back((Step::Streams, Request::List { path: own.join(STREAMS) }));
        todo.push_back((Step::Consumers, Request::List { path: own.join(CONSUMERS) }));
        Opening { queue, todo, streams: Vec::new(), consumers: Vec::new(), folder: own, folders: None }
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

    /// Removes a file that nobody needs.
    pub(super) fn remove(&mut self, path: FilePath) {
        self.queue.submit(Step::Leftover, Request::Remove { path });
    }

    pub(super) fn poll_disk(&mut self) -> Option<Submission> {
        self.queue.poll()
    }

    pub(super) fn handle_disk(&mut self, completion: crate::disk::Completion) -> Progress {
        let Some((step, result)) = self.queue.complete(completion) else { return Progress::Waiting };
        let names =
            |entries: Vec<Entry>| -> Vec<String> { entries.into_iter().map(|entry| entry.name).collect() };
        let result = match (step, result) {
            (Step::Streams, Ok(Reply::Listed(entries))) => {
                self.streams = names(entries);
                Ok(Reply::Done)
            }
            (Step::Consumers, Ok(Reply::Listed(entries))) => {
                self.consumers = names(entries);
                Ok(Reply::Done)
            }
            (Step::Folders, Ok(Reply::Listed(entries))) => {
                let engines = names(entries).into_iter().filter_map(|name: String| engine_of(&name));
                self.folders = Some(engines.fold(EngineId::HOME.bit(), |all, engine| all | engine.bit()));
                Ok(Reply::Done)
            }
            (_, result) => result,
        };
        match (step, result) {
            // What can't be removed is found again at the next start.
            (Step::Leftover, _) => Progress::Waiting,
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
