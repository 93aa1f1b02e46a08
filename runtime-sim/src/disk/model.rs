//! What a simulated disk may do wrong, how likely, and how often it did.

use natrix_core::disk::FilePath;
use natrix_core::time::Duration;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A kind of disk fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DiskFault {
            $($(#[$doc])* $name,)*
        }

        impl DiskFault {
            /// All kinds, in the order of their numbers.
            pub const ALL: &[DiskFault] = &[$(DiskFault::$name,)*];
        }
    };
}

faults! {
    /// A request took a hundred times as long.
    Slow,
    /// A write was reported as done and went nowhere.
    LostWrite,
    /// A write was reported as done and only some of its sectors were written.
    TornWrite,
    /// A write went to another place in its file, or to another file.
    MisdirectedWrite,
    /// A read came from another place in its file.
    MisdirectedRead,
    /// A read failed once.
    ReadError,
    /// A read gave a flipped bit once.
    BadRead,
    /// A write failed, with any of its sectors written.
    WriteError,
    /// A write failed with only its beginning written.
    ShortWrite,
    /// A sync failed, and its pages count as clean from then on.
    SyncFailed,
    /// No space was left, for a while.
    Full,
    /// A bit of what was synced flipped.
    BitRot,
    /// A sector can't be read until it is written again.
    UnreadableSector,
    /// A file went back to an older synced version.
    StaleFile,
    /// A part of a file went back to an older synced version.
    StaleChunk,
    /// A file went missing.
    MissingFile,
    /// A file lost its end.
    TruncatedFile,
    /// Two files have each other's content.
    SwappedFiles,
}

/// How a simulated disk behaves.
#[derive(Clone, Debug)]
pub struct DiskModel {
    /// The least time a request takes.
    pub latency: Duration,
    /// What a request takes more, at most, uniformly.
    pub jitter: Duration,
    /// The size of the disk, in bytes.
    pub capacity: u64,
    /// How long the disk stays full.
    pub full_for: Duration,
    /// At most this many faults in all.
    pub limit: u64,
    /// Only files whose path contains this; empty for all.
    pub only: &'static str,
    chances: [u32; DiskFault::ALL.len()],
}

impl Default for DiskModel {
    fn default() -> Self {
        DiskModel {
            latency: Duration::from_micros(50),
            jitter: Duration::from_micros(450),
            capacity: 1 << 40,
            full_for: Duration::from_millis(100),
            limit: u64::MAX,
            only: "",
            chances: [0; DiskFault::ALL.len()],
        }
    }
}

impl DiskModel {
    /// Sets the chance of a fault, in a million requests that it could hit.
    pub fn with(mut self, fault: DiskFault, in_a_million: u32) -> Self {
        self.chances[fault as usize] = in_a_million;
        self
    }

    /// Returns the chance of a fault, in a million requests that it could hit.
    pub fn chance(&self, fault: DiskFault) -> u32 {
        self.chances[fault as usize]
    }
}

/// A range of a file that the disk harmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Harm {
    /// Which file, under the name it had then.
    pub path: FilePath,
    /// Where the range starts, in bytes.
    pub offset: u64,
    /// How long it is, in bytes; `u64::MAX` for all behind the offset.
    pub len: u64,
    /// What happened to it.
    pub fault: DiskFault,
}
