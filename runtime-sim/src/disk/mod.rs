//! A disk in virtual time that keeps what the contract of [`natrix_core::disk`] promises, and nothing more.
//!
//! What a process sees and what would survive a power cut are two states. Between them lies a log of changes for
//! each file, and one for the names: in the order in which they took effect, each durable or not. A durable change at the
//! front of a log moves to the surviving state; a power cut keeps the other durable ones and a seeded choice of the rest.
//! A request takes effect at the moment it completes, after a random latency, hence in any order.
//!
//! A clone is a fork: it shares content by chunks, so that it costs what is unsynced, not what is stored.

mod content;
mod effect;
mod model;
mod rest;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use natrix_core::disk::{Completion, DiskError, FileId, FilePath, Reply, Request, SECTOR, Submission, Token};
use natrix_core::rng::Rng;
use natrix_core::time::{Duration, Instant};

use content::Content;
pub use model::{DiskFault, DiskModel, Harm};
pub use rest::Copies;

/// A simulated disk; see the module.
#[derive(Clone, Debug)]
pub struct SimDisk {
    rng: Rng,
    model: DiskModel,
    now: Instant,
    operations: u64,
    in_flight: BTreeMap<(Instant, u64), InFlight>,
    submitted: u64,
    done: VecDeque<Done>,
    files: BTreeMap<u64, Arc<File>>,
    next_file: u64,
    names: Arc<BTreeMap<FilePath, Node>>,
    durable_names: Arc<BTreeMap<FilePath, Node>>,
    name_log: VecDeque<NameChange>,
    next_change: u64,
    open: BTreeMap<FileId, Handle>,
    locked: BTreeSet<u64>,
    full_until: Instant,
    hits: [u64; DiskFault::ALL.len()],
    harms: Vec<Harm>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File(u64),
}

#[derive(Clone, Debug)]
struct Handle {
    file: u64,
    path: FilePath,
    writable: bool,
}

#[derive(Clone, Debug)]
struct InFlight {
    token: Token,
    request: Request,
    /// The changes that it makes durable, if it is a sync: those that were seen when it was submitted.
    covers: Vec<u64>,
}

/// A request that took effect, and whose completion waits to be seen.
#[derive(Clone, Debug)]
struct Done {
    token: Token,
    result: Result<Reply, DiskError>,
    changes: Vec<Change>,
}

/// A change whose completion waits to be seen.
#[derive(Clone, Copy, Debug)]
enum Change {
    Data(u64, u64),
    Name(u64),
}

#[derive(Clone, Debug, Default)]
struct File {
    seen: Content,
    durable: Content,
    older: Option<Content>,
    log: VecDeque<DataChange>,
    unreadable: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
struct DataChange {
    id: u64,
    seen: bool,
    durable: bool,
    what: Data,
}

#[derive(Clone, Debug)]
enum Data {
    Write { offset: u64, bytes: Bytes },
    Zero { offset: u64, len: u64 },
    Length(u64),
}

#[derive(Clone, Debug)]
struct NameChange {
    id: u64,
    seen: bool,
    durable: bool,
    remove: Option<FilePath>,
    add: Option<(FilePath, Node)>,
}

impl SimDisk {
    /// Makes an empty disk.
    pub fn new(rng: Rng, model: DiskModel) -> Self {
        SimDisk {
            rng,
            model,
            now: Instant::ZERO,
            operations: 0,
            in_flight: BTreeMap::new(),
            submitted: 0,
            done: VecDeque::new(),
            files: BTreeMap::new(),
            next_file: 0,
            names: Arc::default(),
            durable_names: Arc::default(),
            name_log: VecDeque::new(),
            next_change: 0,
            open: BTreeMap::new(),
            locked: BTreeSet::new(),
            full_until: Instant::ZERO,
            hits: [0; DiskFault::ALL.len()],
            harms: Vec::new(),
        }
    }

    /// Changes how the disk behaves from now on.
    pub fn set_model(&mut self, model: DiskModel) {
        self.model = model;
        // Whoever ends all faults has made room, too.
        self.full_until = Instant::ZERO;
    }

    /// Draws from another seed from now on: forks of one run that crash alike are to lose different things.
    pub fn reseed(&mut self, rng: Rng) {
        self.rng = rng;
    }

    /// Takes a request.
    pub fn submit(&mut self, now: Instant, submission: Submission) {
        self.now = self.now.max(now);
        let jitter = u64::try_from(self.model.jitter.as_nanos()).unwrap_or(u64::MAX);
        let mut latency = self.model.latency + Duration::from_nanos(self.rng.below(jitter.saturating_add(1)));
        if self.strikes(DiskFault::Slow, &FilePath::root()) {
            latency *= 100;
        }
        let covers = match &submission.request {
            Request::Sync { file } => self.open.get(file).map_or_else(Vec::new, |handle| {
                let log = &self.files[&handle.file].log;
                log.iter().filter(|change| change.seen).map(|change| change.id).collect()
            }),
            Request::SyncDirectory { path } => self
                .name_log
                .iter()
                .filter(|change| change.seen && change.is_in(path))
                .map(|c| c.id)
                .collect(),
            _ => Vec::new(),
        };
        self.submitted += 1;
        let request = InFlight { token: submission.token, request: submission.request, covers };
        self.in_flight.insert((self.now + latency, self.submitted), request);
    }

    /// Returns when the next request takes effect or the next completion can be had; `None` if there is neither.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.poll_timeout_of(|_| true)
    }

    /// Returns the same for those requests alone whose tokens are `wanted`: of one of several that share the disk.
    pub fn poll_timeout_of(&self, wanted: impl Fn(Token) -> bool) -> Option<Instant> {
        if self.done.iter().any(|done| wanted(done.token)) {
            return Some(self.now);
        }
        self.in_flight.iter().find(|(_, request)| wanted(request.token)).map(|((due, _), _)| *due)
    }

    /// Lets the next request that is due take effect without its completion being seen; `false` if none is due.
    ///
    /// An explorer that crashes before and after this has crashed at either side of the operation.
    pub fn take_effect(&mut self, now: Instant) -> bool {
        let Some(entry) = self.in_flight.first_entry().filter(|entry| entry.key().0 <= now) else {
            return false;
        };
        self.now = self.now.max(entry.key().0);
        let InFlight { token, request, covers } = entry.remove();
        self.operations += 1;
        let mut changes = Vec::new();
        let result = self.perform(request, &covers, &mut changes);
        self.done.push_back(Done { token, result, changes });
        true
    }

    /// Returns the next completion that is due; with this it is seen, and later syncs cover what it did.
    pub fn poll_completion(&mut self, now: Instant) -> Option<Completion> {
        self.poll_completion_of(now, |_| true)
    }

    /// Returns the next completion among those whose tokens are `wanted`.
    pub fn poll_completion_of(&mut self, now: Instant, wanted: impl Fn(Token) -> bool) -> Option<Completion> {
        let found = loop {
            match self.done.iter().position(|done| wanted(done.token)) {
                Some(found) => break found,
                // What others asked for takes effect in its turn.
                None if self.take_effect(now) => {}
                None => return None,
            }
        };
        let Done { token, result, changes } = self.done.remove(found)?;
        for change in changes {
            match change {
                Change::Data(file, id) => {
                    if let Some(file) = self.files.get_mut(&file) {
                        let log = &mut Arc::make_mut(file).log;
                        log.iter_mut().filter(|change| change.id == id).for_each(|change| change.seen = true);
                    }
                }
                Change::Name(id) => {
                    let found = self.name_log.iter_mut().filter(|change| change.id == id);
                    found.for_each(|change| change.seen = true);
                }
            }
        }
        Some(Completion { token, result })
    }

    /// Returns how many requests have taken effect, ever.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Returns how often a kind of fault came.
    pub fn hits(&self, fault: DiskFault) -> u64 {
        self.hits[fault as usize]
    }

    /// Returns what the disk harmed, oldest first.
    pub fn faults(&self) -> &[Harm] {
        &self.harms
    }

    /// Ends the process: what took effect stays as it was seen; what was in flight takes effect, partly, or not at all.
    pub fn crash(&mut self) {
        for (_, in_flight) in std::mem::take(&mut self.in_flight) {
            self.cut_short(in_flight.request);
        }
        self.forget_process();
    }

    /// Cuts the power: of what wasn't durable a seeded choice survives, in sectors.
    pub fn power_loss(&mut self) {
        for (_, in_flight) in std::mem::take(&mut self.in_flight) {
            self.cut_short(in_flight.request);
        }
        let mut names = (*self.durable_names).clone();
        for change in std::mem::take(&mut self.name_log) {
            if change.durable || self.rng.chance(1, 2) {
                change.apply(&mut names);
            }
        }
        let mut kept: BTreeMap<FilePath, Node> = BTreeMap::new();
        // A directory's path is the beginning of the paths in it and comes before them.
        for (path, node) in names {
            let parent = path.parent();
            if parent == FilePath::root() || kept.get(&parent) == Some(&Node::Directory) {
                kept.insert(path, node);
            }
        }
        self.names = Arc::new(kept);
        self.durable_names = Arc::clone(&self.names);
        for file in self.files.values_mut() {
            // How much survives is drawn for each file: nothing, everything, or sector by sector.
            let kept_of_eight = [0, 8, 4, 1, 7][self.rng.below(5) as usize];
            let file = Arc::make_mut(file);
            for change in std::mem::take(&mut file.log) {
                match change.durable {
                    true => change.what.apply(&mut file.durable),
                    false => change.what.survive(&mut file.durable, &mut self.rng, kept_of_eight),
                }
            }
            file.seen = file.durable.clone();
        }
        self.forget_process();
    }

    fn forget_process(&mut self) {
        self.done.clear();
        self.open.clear();
        self.locked.clear();
        // A name that a log may still bring back keeps its file.
        let mut named: BTreeSet<u64> = BTreeSet::new();
        let logged = self.name_log.iter().filter_map(|change| change.add.as_ref().map(|(_, node)| *node));
        for node in self.names.values().chain(self.durable_names.values()).copied().chain(logged) {
            if let Node::File(file) = node {
                named.insert(file);
            }
        }
        self.files.retain(|file, _| named.contains(file));
        // A new process has seen whatever it finds: its syncs cover the old one's pages.
        for file in self.files.values_mut().filter(|file| !file.log.is_empty()) {
            Arc::make_mut(file).log.iter_mut().for_each(|change| change.seen = true);
        }
        self.name_log.iter_mut().for_each(|change| change.seen = true);
    }

    /// Decides whether a fault strikes a file here, and counts it.
    fn strikes(&mut self, fault: DiskFault, path: &FilePath) -> bool {
        let chance = self.model.chance(fault);
        let strikes = chance > 0
            && self.rng.chance(u64::from(chance), 1_000_000)
            && path.as_str().contains(self.model.only)
            && self.hits.iter().sum::<u64>() < self.model.limit;
        self.hits[fault as usize] += u64::from(strikes);
        strikes
    }
}

impl NameChange {
    fn is_in(&self, directory: &FilePath) -> bool {
        let added = self.add.as_ref().map(|(path, _)| path);
        added.or(self.remove.as_ref()).is_some_and(|path| path.parent() == *directory)
    }

    fn apply(self, names: &mut BTreeMap<FilePath, Node>) {
        if let Some(path) = self.remove {
            names.remove(&path);
        }
        if let Some((path, node)) = self.add {
            names.insert(path, node);
        }
    }
}

impl Data {
    fn apply(&self, content: &mut Content) {
        match self {
            Data::Write { offset, bytes } => content.write(*offset, bytes),
            Data::Zero { offset, len } => content.zero(*offset, *len),
            Data::Length(len) => content.set_len(*len),
        }
    }

    /// Applies what a power cut leaves of an unsynced change.
    fn survive(&self, content: &mut Content, rng: &mut Rng, of_eight: u64) {
        let Data::Write { offset, bytes } = self else {
            if rng.chance(of_eight, 8) {
                self.apply(content);
            }
            return;
        };
        for (at, piece) in sectors(*offset, bytes) {
            match rng.chance(of_eight, 8) {
                true => content.write(at, piece),
                // The length came to disk, the bytes didn't.
                false if at >= content.len() && rng.chance(of_eight, 16) => {
                    content.set_len(at + piece.len() as u64);
                }
                false => {}
            }
        }
    }
}

/// Cuts a write into the pieces that survive or don't.
fn sectors(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = offset + at as u64;
        let take = (SECTOR - (start % SECTOR as u64) as usize).min(bytes.len() - at);
        at += take;
        (take > 0).then(|| (start, &bytes[at - take..at]))
    })
}
