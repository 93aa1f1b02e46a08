//! The disk as core sees it: what can be asked, what is promised, and what a caller must expect to go wrong.
//!
//! A machine pushes [`Request`]s into a [`DiskQueue`] and is handed [`Completion`]s. Who carries them out is the
//! runtime's: files and threads in `runtime-tokio`, `SimDisk` with its faults in `runtime-sim`, [`instant::InstantDisk`]
//! in unit tests and microbenchmarks.
//!
//! # What is promised
//!
//! - Each request has exactly one completion, unless the process ends first.
//! - A request that was submitted after the completion of another was *seen* takes effect after it: a read then sees
//!   the written bytes, a list sees the renamed name.
//! - [`Request::Sync`] covers exactly the writes and truncations of that file whose completion was seen before the sync
//!   was submitted. [`Request::Write`] with `sync` covers its own bytes, and the file's length as far as it needs it.
//! - [`Request::SyncDirectory`] covers the names created, renamed and removed in that directory whose completion was seen
//!   before. A file that was created and synced may still be gone after a power cut until its directory is synced.
//! - [`Request::Replace`] is atomic and durable when it completes: afterwards, and after any crash in the middle, the
//!   file has the old content or the new.
//!
//! # What is not
//!
//! - Order between two requests of which neither's completion was seen when the other was submitted: they may take
//!   effect either way round, and after a crash any subset of them, in any pieces (a piece is a sector of 512 bytes).
//! - Anything about unsynced bytes after a power cut: old content, new content, zeros, or nothing for each sector.
//! - That what was synced can be read back. Bits rot, sectors become unreadable, writes go to the wrong place or
//!   nowhere at all, whole files go back to an older version or go missing. Readers verify everything.
//!
//! # What a failure means
//!
//! A failed write may have written any part of its bytes. After a failed sync nothing is known of the unsynced bytes of
//! that file, now or ever: the kernel may have marked them clean (Rebello et al., ATC 2020), so a later sync that
//! succeeds proves nothing, and a read may come from memory that is not on disk. The file takes no more writes.
//! [`DiskErrorKind::Full`] passes when there is space again; the caller may try again with the same bytes.

pub mod instant;
mod path;
mod queue;

use bytes::Bytes;

pub use path::{FilePath, PathError};
pub use queue::DiskQueue;

/// The unit in which unsynced bytes survive a power cut or don't, in bytes.
pub const SECTOR: usize = 512;

/// Names an outstanding request; [`DiskQueue`] hands them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Names an open file; the caller chooses it, unique among its open files (see [`DiskQueue::file`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

/// How a file is opened. Paths are relative to the folder that the disk was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist; read only.
    Read,
    /// Must exist.
    ReadWrite,
    /// Is created if it doesn't exist; what it contains stays.
    Create,
    /// Must not exist.
    CreateNew,
}

/// Something for the disk to do.
#[derive(Clone, Debug)]
pub enum Request {
    /// Opens a file under the name `file`. Answer: [`Reply::Opened`].
    Open {
        /// What it is called from now on.
        file: FileId,
        /// Where it is.
        path: FilePath,
        /// What is expected of it.
        mode: OpenMode,
    },
    /// Closes a file that has no outstanding request. Unsynced bytes stay unsynced. Answer: [`Reply::Done`].
    Close {
        /// Which one.
        file: FileId,
    },
    /// Locks a file against other processes until it is closed or the process ends. Answer: [`Reply::Done`], or the
    /// error [`DiskErrorKind::Locked`].
    Lock {
        /// Which one.
        file: FileId,
    },
    /// Asks for length and kind. Answer: [`Reply::Stat`].
    Stat {
        /// Of what.
        path: FilePath,
    },
    /// Writes `data` at `offset`, behind the end if that is where it points (the gap reads as zeros). Answer:
    /// [`Reply::Done`].
    ///
    /// Appending is writing at the length that the caller knows: whoever appends is the only writer and has it.
    Write {
        /// Which file.
        file: FileId,
        /// Where, in bytes.
        offset: u64,
        /// What, in order; pieces, so that nobody has to copy them together.
        data: Vec<Bytes>,
        /// Whether it is durable when it completes.
        sync: bool,
    },
    /// Reads up to `len` bytes at `offset`; fewer only at the end of the file. Answer: [`Reply::Read`].
    Read {
        /// Which file.
        file: FileId,
        /// Where, in bytes.
        offset: u64,
        /// How many bytes at most.
        len: usize,
    },
    /// Reads a whole file of at most `limit` bytes. Answer: [`Reply::Read`], or the error [`DiskErrorKind::TooLarge`].
    ReadFile {
        /// Which one.
        path: FilePath,
        /// The most that the caller is prepared to hold, in bytes.
        limit: usize,
    },
    /// Makes durable what was written to a file, and its length. Answer: [`Reply::Done`].
    Sync {
        /// Which one.
        file: FileId,
    },
    /// Reserves space for the first `len` bytes and makes the file at least that long, new bytes zero. Answer:
    /// [`Reply::Done`].
    Preallocate {
        /// Which file.
        file: FileId,
        /// Its length afterwards, in bytes, if it was shorter.
        len: u64,
    },
    /// Gives back the space of a range, which then reads as zeros; a file system that can't do it writes zeros.
    /// Answer: [`Reply::Done`].
    PunchHole {
        /// Which file.
        file: FileId,
        /// Where it starts, in bytes.
        offset: u64,
        /// How long it is, in bytes.
        len: u64,
    },
    /// Sets the length. Answer: [`Reply::Done`].
    Truncate {
        /// Which file.
        file: FileId,
        /// Its length afterwards, in bytes; zeros behind a shorter one.
        len: u64,
    },
    /// Puts `data` in the place of a file's content, or creates it, atomically and durably. Answer: [`Reply::Done`].
    Replace {
        /// Which file.
        path: FilePath,
        /// All of its content.
        data: Vec<Bytes>,
    },
    /// Gives a file another name, in place of any file that has it. Answer: [`Reply::Done`].
    Rename {
        /// The old name.
        from: FilePath,
        /// The new one.
        to: FilePath,
    },
    /// Removes a file, or an empty directory. Answer: [`Reply::Done`].
    Remove {
        /// Which one.
        path: FilePath,
    },
    /// Creates a directory and those above it; no error if it is there. Answer: [`Reply::Done`].
    CreateDirectory {
        /// Which one.
        path: FilePath,
    },
    /// Lists a directory, in which nothing is being replaced: what a [`Request::Replace`] left behind that never ended may be removed
    /// on the way. Answer: [`Reply::Listed`], by name.
    List {
        /// Which one.
        path: FilePath,
    },
    /// Makes durable what names a directory has. Answer: [`Reply::Done`].
    SyncDirectory {
        /// Which one.
        path: FilePath,
    },
    /// Asks how much space is left. Answer: [`Reply::Space`].
    Space,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Done,
    /// The file is open and this long, in bytes.
    Opened {
        /// Its length.
        len: u64,
    },
    /// What was read.
    Read(Bytes),
    /// What is there.
    Stat {
        /// Its length in bytes; zero for a directory.
        len: u64,
        /// Whether it is a directory.
        directory: bool,
    },
    /// What a directory has, by name.
    Listed(Vec<Entry>),
    /// What is left.
    Space {
        /// For us, in bytes.
        free: u64,
        /// In all, in bytes.
        total: u64,
    },
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name alone. Names that aren't valid paths of ours are left out and counted nowhere.
    pub name: String,
    /// Length in bytes; zero for a directory.
    pub len: u64,
    /// Whether it is a directory.
    pub directory: bool,
}

/// A request by its name.
#[derive(Debug)]
pub struct Submission {
    /// Comes back in the completion.
    pub token: Token,
    /// What is to be done.
    pub request: Request,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Completion {
    /// To which.
    pub token: Token,
    /// How it went.
    pub result: Result<Reply, DiskError>,
}

/// Why the disk did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct DiskError {
    /// What the caller can make of it.
    pub kind: DiskErrorKind,
    /// The file, as the operator knows it.
    pub path: String,
    /// The operating system's words.
    pub message: String,
}

/// What a caller can make of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskErrorKind {
    /// There is no such file.
    NotFound,
    /// There is such a file already.
    Exists,
    /// Another process holds the lock.
    Locked,
    /// We may not.
    Permission,
    /// No space is left, or a quota is used up. Passes.
    Full,
    /// The file is longer than the caller is prepared to hold.
    TooLarge,
    /// The medium failed: a read, or a write, and then any part of it may be written.
    Io,
    /// A sync failed: nothing is known any more of what was not synced before.
    SyncFailed,
    /// Something else, that trying again won't change.
    Other,
}
