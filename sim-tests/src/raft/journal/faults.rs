//! The kinds of trouble, how often each came, and what a seed makes of a run.

use natrix_core::raft::group::Config;
use natrix_core::rng::Rng;
use natrix_core::time::Duration;
use natrix_runtime_sim::disk::{DiskFault, DiskModel};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A kind of trouble, or a state that trouble should lead to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Trouble { $($(#[$doc])* $name,)* }

        impl Trouble {
            /// All kinds, in the order of their numbers.
            pub const ALL: &[Trouble] = &[$(Trouble::$name,)*];

            /// Returns its name in reports.
            pub fn name(self) -> &'static str {
                match self { $(Trouble::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// A message is lost.
    Loss = "loss",
    /// A message takes long.
    Delay = "delay-spike",
    /// A node hears nobody, and nobody hears it.
    Isolate = "isolate",
    /// A process dies between two events.
    Crash = "crash",
    /// A node loses its power between two events.
    PowerCut = "power-cut",
    /// A process dies at an operation of its disk, before or after its completion is seen.
    CrashAtOperation = "crash-at-operation",
    /// A node loses its power so.
    PowerCutAtOperation = "power-cut-at-operation",
    /// All nodes lose their power at once.
    PowerCutOfAll = "power-cut-of-all",
    /// A node dies while it finds out what is left.
    CrashInRecovery = "crash-in-recovery",
    /// A bit of a file flipped.
    BitRot = "bit-rot",
    /// A sector can't be read.
    UnreadableSector = "unreadable-sector",
    /// A file is as it was before.
    StaleFile = "stale-file",
    /// A part of a file is.
    StaleChunk = "stale-chunk",
    /// A file is gone.
    MissingFile = "missing-file",
    /// A file has lost its end.
    TruncatedFile = "truncated-file",
    /// Two files have each other's content.
    SwappedFiles = "swapped-files",
    /// Nothing is left.
    Wiped = "wiped",
    /// A write failed.
    WriteError = "write-error",
    /// A write failed in the middle.
    ShortWrite = "short-write",
    /// A sync failed.
    SyncFailed = "sync-failed",
    /// There was no space.
    Full = "full-disk",
    /// A read failed once.
    ReadError = "read-error",
    /// A read was wrong once.
    BadRead = "bad-read",
    /// A request took a hundred times as long.
    Slow = "slow-request",
    /// A write was reported as done, and went nowhere.
    LostWrite = "lost-write",
    /// One was, and only some of its sectors were written.
    TornWrite = "torn-write",
    /// One was, and went to another place or file.
    MisdirectedWrite = "misdirected-write",
    /// A node died soon after it had found that something is lost.
    CrashAfterLoss = "crash-after-loss",
    /// A file was harmed while the process ran, and went on.
    HarmWhileRunning = "harm-while-running",
    /// What was written last was harmed.
    RecentHarm = "(recent write harmed)",
    /// A member noticed that it had lost something.
    LossNoticed = "(loss noticed)",
    /// The end of a journal was missed.
    EndMissed = "(end missed)",
    /// A member was harmed, and noticed nothing as it needed nothing of it.
    HarmWithoutLoss = "(harm without loss)",
    /// A doubt ended.
    Healed = "(doubt ended)",
    /// A member had a file.
    Covered = "(file written)",
    /// A snapshot got a file.
    LongSnapshot = "(snapshot's file written)",
    /// A snapshot was taken from another member.
    Restored = "(snapshot restored)",
    /// A journal gave up, and the host was opened again.
    JournalFailed = "(journal failed)",
    /// A journal that was harmed couldn't be opened, and the operator gave the node an empty disk.
    Replaced = "(disk replaced)",
}

/// How often each kind came.
#[derive(Clone, Copy, Debug)]
pub struct Counters([u64; Trouble::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Counters([0; Trouble::ALL.len()])
    }
}

impl Counters {
    pub(super) fn hit(&mut self, kind: Trouble) {
        self.0[kind as usize] += 1;
    }

    pub(super) fn add(&mut self, kind: Trouble, times: u64) {
        self.0[kind as usize] += times;
    }

    /// Returns how often `kind` came.
    pub fn of(&self, kind: Trouble) -> u64 {
        self.0[kind as usize]
    }

    /// Adds what another run counted.
    pub fn merge(&mut self, other: &Counters) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine += theirs);
    }
}

/// What can happen to a file where it lies.
pub(super) const HARMS: [(Trouble, DiskFault); 7] = [
    (Trouble::BitRot, DiskFault::BitRot),
    (Trouble::UnreadableSector, DiskFault::UnreadableSector),
    (Trouble::StaleFile, DiskFault::StaleFile),
    (Trouble::StaleChunk, DiskFault::StaleChunk),
    (Trouble::MissingFile, DiskFault::MissingFile),
    (Trouble::TruncatedFile, DiskFault::TruncatedFile),
    (Trouble::SwappedFiles, DiskFault::SwappedFiles),
];

/// What can happen to a request, and how often it does, in a million.
pub(super) const PASSING: [(Trouble, DiskFault, u32); 7] = [
    (Trouble::WriteError, DiskFault::WriteError, 1500),
    (Trouble::ShortWrite, DiskFault::ShortWrite, 1500),
    (Trouble::SyncFailed, DiskFault::SyncFailed, 1500),
    (Trouble::Full, DiskFault::Full, 2000),
    (Trouble::ReadError, DiskFault::ReadError, 10_000),
    (Trouble::BadRead, DiskFault::BadRead, 10_000),
    (Trouble::Slow, DiskFault::Slow, 5000),
];

/// How a disk may lie: it says that a write is done.
pub(super) const LIES: [(Trouble, DiskFault); 3] = [
    (Trouble::LostWrite, DiskFault::LostWrite),
    (Trouble::TornWrite, DiskFault::TornWrite),
    (Trouble::MisdirectedWrite, DiskFault::MisdirectedWrite),
];

/// What a seed makes of a run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) nodes: usize,
    pub(super) groups: usize,
    kinds: u64,
    pub(super) config: Config,
    /// For how long there is trouble, and how often, in nanoseconds.
    pub(super) lasts: u64,
    pub(super) every: u64,
    pub(super) propose_every: u64,
    pub(super) longest: u64,
    pub(super) model: DiskModel,
}

pub(super) const MS: u64 = 1_000_000;

impl Plan {
    pub(super) fn new(seed: u64, rng: &mut Rng) -> Plan {
        let kinds = rng.next_u64();
        let has = |kind: Trouble| kinds & 1 << kind as u64 != 0;
        let chance = |kind, chance| if has(kind) { chance } else { 0 };
        let passing = PASSING.iter().map(|(kind, fault, most)| (*fault, chance(*kind, *most)));
        let mut model =
            passing.fold(DiskModel::default(), |model, (fault, chance)| model.with(fault, chance));
        model.full_for = Duration::from_millis(60);
        // Some disks let requests overtake each other all the time: a removal is still under way when the next snapshot comes.
        if has(Trouble::Slow) && rng.chance(1, 3) {
            model = model.with(DiskFault::Slow, 100_000);
        }
        Plan {
            seed,
            nodes: if rng.chance(2, 3) { 3 } else { 5 },
            groups: 1 + rng.below(3) as usize,
            kinds,
            config: Config {
                snapshot_entries: [3, 10, 40, 200, 5000][rng.below(5) as usize],
                keep_entries: [0, 5, 50][rng.below(3) as usize],
                chunk_bytes: 400,
                ..Config::default()
            },
            lasts: (3 + rng.below(5)) * 1000 * MS,
            every: (50 + rng.below(500)) * MS,
            propose_every: (3 + rng.below(15)) * MS,
            longest: 1 + rng.below(1500),
            model,
        }
    }

    pub(super) fn has(&self, kind: Trouble) -> bool {
        self.kinds & 1 << kind as u64 != 0
    }
}
