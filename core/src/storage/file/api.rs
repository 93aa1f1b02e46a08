//! What block files are asked and what they tell.

use bytes::Bytes;

use super::super::block::RecordError;
use super::super::block::index::Index;
use super::super::block::walk::{Damage, WalkError};
use super::super::{Compression, Message, OwnerId, Position};
use crate::disk::{DiskError, DiskQueue, FileId, FilePath, Request};
use crate::time::WallTime;

/// The disk as the block files of one stream have it.
pub trait StoreDisk {
    /// Returns a name for a file that no other has or had.
    fn file(&mut self) -> FileId;
    /// Queues a request; its completion comes back with `tag`.
    fn submit(&mut self, tag: u64, request: Request);
}

impl StoreDisk for DiskQueue<u64> {
    fn file(&mut self) -> FileId {
        DiskQueue::file(self)
    }

    fn submit(&mut self, tag: u64, request: Request) {
        DiskQueue::submit(self, tag, request);
    }
}

/// What block files are made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where they are; nobody else writes there.
    pub directory: FilePath,
    /// Whose they are.
    pub owner: OwnerId,
    /// The length at which a block is closed, in bytes.
    pub block_size: u32,
    /// How frames are compressed.
    pub compression: Compression,
    /// The sequence of the first message, in a stream that is new.
    pub first_sequence: u64,
    /// How many bytes of blocks are kept in memory for reading.
    pub cache: usize,
    /// How many bytes may wait for the disk in memory, a block's and those behind it, before entries wait too.
    pub behind: usize,
}

/// What block files tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Recovery knows where the stream stands (what was applied may turn out to be more), and its settings there. Blocks follow.
    Begun(Ready, Option<Bytes>),
    /// Recovery found a block, newest first.
    Block(Box<RecoveredBlock>),
    /// Something in a block can't be read any more; it is left as it is.
    Damaged {
        /// The number of the block.
        number: u32,
        /// Where, and what is lost.
        damage: Damage,
    },
    /// A block is not there, is older or shorter than it was, or is another's and left alone: these sequences are lost as far
    /// as nothing else has them, both ends included.
    Lost {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// The end of the newest block was being written when the process ended. It is cut, and replayed from the journal.
    TornTail {
        /// The number of the block.
        number: u32,
        /// How many bytes.
        bytes: u32,
    },
    /// A file in the folder isn't ours, or is another stream's. It is left alone.
    Foreign {
        /// Its path.
        path: String,
    },
    /// A block was written anew and has gone back to what it was before. Nothing of it is served: what was removed or erased
    /// since is in it. What it has is lost.
    Older {
        /// Its path.
        path: String,
    },
    /// The manifest is damaged: blocks are used without it.
    ManifestDamaged {
        /// Its path.
        path: String,
    },
    /// The disk has no space, or an error. It is asked again and again: told once until it does what was asked.
    Refused(DiskError),
    /// Recovery is done.
    Ready(Ready),
    /// Everything through this position is durable here.
    Covered(Position),
    /// What was asked for by [`BlockFiles::read`](super::BlockFiles::read).
    Read(ReadId, Result<Message, ReadError>),
    /// What was asked for by [`BlockFiles::load_index`](super::BlockFiles::load_index).
    Index {
        /// The number of the block.
        number: u32,
        /// What is in it.
        index: Box<Index>,
    },
    /// There is no index any more that was asked for: the block was removed meanwhile.
    NoIndex {
        /// The number of the block.
        number: u32,
    },
    /// A block was written anew; what was asked for by [`BlockFiles::rewrite`](super::BlockFiles::rewrite).
    Rewritten {
        /// The number of the block.
        number: u32,
        /// What is in it now.
        index: Box<Index>,
    },
    /// All blocks that were there were read in the background, once.
    Scrubbed {
        /// How many.
        blocks: u64,
        /// How long they are together.
        bytes: u64,
    },
    /// A block can't be read as a whole; messages of it may be.
    Unreadable {
        /// The number of the block.
        number: u32,
        /// Why.
        error: DiskError,
    },
    /// Nothing more is written here.
    Failed(Failure),
}

/// A block as recovery found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredBlock {
    /// Its number.
    pub number: u32,
    /// The sequence after the last of the block before, when it was begun.
    pub first: u64,
    /// Sequences from here on are not its own: they were cut off.
    pub end: u64,
    /// What is in it.
    pub index: Index,
    /// It has no index file that says the same, nor gets one: it has damage.
    pub bare: bool,
}

/// Where a stream stands after recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// All entries through this position are here, later ones are to be applied again.
    pub applied: Position,
    /// What is below isn't in the stream any more.
    pub floor: u64,
    /// The sequence that the next message gets.
    pub next_sequence: u64,
    /// When the newest message was stored, whether it is still there or not; `None` if there was none.
    pub last_time: Option<WallTime>,
}

/// Why block files can't go on. Nothing was overwritten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The disk failed.
    #[error("stream store: {0}; check the disk, then restart: the journal has what is missing here")]
    Disk(#[from] DiskError),
    /// A block can't be used with what we were given.
    #[error("stream store: {path}: {error}; give the key that it was written with, or restore the file")]
    Block {
        /// The file.
        path: String,
        /// Why.
        error: WalkError,
    },
    /// A block was damaged while it was in use.
    #[error("stream store: {path}: damaged since it was opened; restart to use what is left of it")]
    Damaged {
        /// The file.
        path: String,
    },
    /// A committed entry makes no sense.
    #[error("stream store: {path}: an entry of kind {kind} makes no sense; start the version that wrote it")]
    Entry {
        /// The stream's folder.
        path: String,
        /// The entry's kind.
        kind: u8,
    },
    /// The folder is another stream's.
    #[error("stream store: {path}: belongs to another stream; move it back to where it came from")]
    Foreign {
        /// The file that says so.
        path: String,
    },
}

/// Names a read that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId(pub u64);

/// Why a message is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is damaged.
    #[error("block {block}: message {sequence}: {error}")]
    Record {
        /// The block.
        block: u32,
        /// The message.
        sequence: u64,
        /// What is wrong with it.
        error: RecordError,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The answer to [`BlockFiles::read`](super::BlockFiles::read).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// Here it is.
    Ready(Result<Message, ReadError>),
    /// It comes as [`Event::Read`].
    Pending(ReadId),
}

impl StoreDisk for super::super::volume::StoreDisk<'_> {
    fn file(&mut self) -> FileId {
        super::super::volume::StoreDisk::file(self)
    }

    fn submit(&mut self, tag: u64, request: Request) {
        super::super::volume::StoreDisk::submit(self, tag, request);
    }
}
