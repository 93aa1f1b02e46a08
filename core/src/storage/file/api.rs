//! What block files are asked and what they tell.

use super::super::block::RecordError;
use super::super::block::walk::{Damage, WalkError};
use super::super::{Compression, Message, OwnerId, Position};
use crate::disk::{DiskError, DiskQueue, FileId, FilePath, Request};

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
}

/// What block files tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Recovery found a block, oldest first. [`BlockFiles::index`](super::BlockFiles::index) has what is in it.
    Block {
        /// Its number.
        number: u32,
    },
    /// Something in a block can't be read any more; it is left as it is.
    Damaged {
        /// The number of the block.
        number: u32,
        /// Where, and what is lost.
        damage: Damage,
    },
    /// A block is not there, or is another's and left alone: these sequences are lost, both ends included.
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
    /// Recovery is done: all entries through this position are here, later ones are to be applied again.
    Ready {
        /// Which.
        applied: Position,
    },
    /// Everything through this position is durable here.
    Covered(Position),
    /// What was asked for by [`BlockFiles::read`](super::BlockFiles::read).
    Read(ReadId, Result<Message, ReadError>),
    /// Nothing more is written here.
    Failed(Failure),
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
    /// There is no such message.
    None,
}

impl StoreDisk for super::super::volume::StoreDisk<'_> {
    fn file(&mut self) -> FileId {
        super::super::volume::StoreDisk::file(self)
    }

    fn submit(&mut self, tag: u64, request: Request) {
        super::super::volume::StoreDisk::submit(self, tag, request);
    }
}
