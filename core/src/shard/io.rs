//! The whole boundary of a shard on one page: everything that can happen to it, everything it can ask for.
//!
//! A runtime owns a [`Shard`](super::Shard) and does nothing but carry these values:
//!
//! 1. something happened: `shard.handle(now, input)`;
//! 2. drain `shard.poll_output()` to `None`, in order, after *every* `handle`:
//!    - [`Output::ToShard`] is pushed to the target's inbox at once (a push never blocks and never fails);
//!    - [`Output::Flush`] is remembered, and the bytes of [`Shard::outbound`](super::Shard::outbound) are written
//!      when the batch is over, that is after all pushes;
//! 3. sleep until `shard.poll_timeout()` or the next event; then, if the time has come, [`Input::Tick`].
//!
//! Two rules make a subscription visible to everybody once its `PING` is answered (`docs/shards.md` has the
//! argument): pushes precede flushes, as in step 2; and *a runtime that has read bytes from a socket drains the
//! shard's inbox before it hands those bytes over* with [`Input::Received`].

use std::net::SocketAddr;
use std::sync::Arc;

use super::mailbox::ShardMessage;
use crate::auth::TlsPeer;
use crate::auth::authenticator::BcryptJob;
use crate::disk::{Completion, Submission, Token};
use crate::ids::{ConnId, ShardId};
use crate::jetstream::engine::EngineId;
use crate::monitoring::{ControlReply, ControlRequest};

/// Names one of the server's listening addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listener {
    /// NATS clients over TCP, TLS by upgrade.
    Client,
}

/// Something that happened to a shard.
#[derive(Debug)]
pub enum Input {
    /// A listener is bound; `address` has the real port where the configuration asked for any. Home shard only.
    Listening {
        /// Which one.
        listener: Listener,
        /// Where.
        address: SocketAddr,
    },
    /// A listener could not be bound; the server can't do its work. Home shard only.
    ListenFailed {
        /// Which one.
        listener: Listener,
        /// The operating system's words.
        error: String,
    },
    /// Somebody connected. The runtime chose this shard, and a [`ConnId`] that no open connection of it has.
    Accepted {
        /// Through which listener.
        listener: Listener,
        /// What the connection is called from now on.
        conn: ConnId,
        /// The other end.
        peer: SocketAddr,
        /// Our end.
        local: SocketAddr,
    },
    /// The first `n` bytes of [`Shard::read_target`](super::Shard::read_target) were filled. Zero means the peer
    /// will send no more, which ends a NATS connection.
    Received {
        /// By whom.
        conn: ConnId,
        /// How many bytes.
        n: usize,
    },
    /// The socket took the first `n` bytes of [`Shard::outbound`](super::Shard::outbound).
    Written {
        /// Whose socket.
        conn: ConnId,
        /// How many bytes.
        n: usize,
    },
    /// The disk has done what [`Output::Disk`] asked, or hasn't.
    Disk(Completion),
    /// The socket is gone without our asking: reset, failed write, broken TLS. Nothing more comes of it.
    Closed {
        /// Whose socket.
        conn: ConnId,
        /// What broke.
        cause: CloseCause,
    },
    /// The handshake that [`Output::StartTls`] asked for is done; bytes are plaintext from here on.
    TlsEstablished {
        /// Whose.
        conn: ConnId,
        /// What was agreed, and who the peer proved to be.
        peer: Box<TlsPeer>,
    },
    /// The handshake failed; the runtime has closed the socket.
    TlsFailed {
        /// Whose.
        conn: ConnId,
        /// Why.
        failure: TlsFailure,
    },
    /// A computation asked for by [`Output::Work`] is done.
    Work(WorkDone),
    /// The oldest message of this shard's inbox.
    FromShard(ShardMessage),
    /// Somebody outside the protocol wants something: monitoring, lame duck, shutdown.
    Control {
        /// Comes back in [`Output::ControlReply`].
        id: u64,
        /// What is wanted.
        request: ControlRequest,
    },
    /// The time that [`Shard::poll_timeout`](super::Shard::poll_timeout) named has come.
    Tick,
}

/// Why a handshake failed; shown in the reference's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFailure {
    /// It was not over in the time that it may take.
    #[error("TLS handshake timeout")]
    TimedOut,
    /// In the TLS library's words.
    #[error("TLS handshake error: {0}")]
    Error(String),
}

/// Why a socket ended that we had not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// Reading failed.
    ReadError,
    /// Writing failed.
    WriteError,
}

/// What a shard asks of its runtime.
#[derive(Debug)]
pub enum Output {
    /// Bind a listener and give what it accepts to the shards, by load. Home shard only.
    Listen {
        /// Which one.
        listener: Listener,
        /// Host name or address to bind.
        host: String,
        /// Port; zero for any.
        port: u16,
    },
    /// Stop accepting on a listener and close it. Home shard only.
    StopListening {
        /// Which one.
        listener: Listener,
    },
    /// Write what is queued so far in plaintext, then start the server's side of a TLS handshake.
    ///
    /// Nothing is read for the shard until it is over. `received` was read already and belongs to the handshake.
    StartTls {
        /// On which connection.
        conn: ConnId,
        /// Bytes of the client's hello that came as plaintext.
        received: Vec<u8>,
    },
    /// [`Shard::outbound`](super::Shard::outbound) was empty and no longer is: write until it is empty again,
    /// telling each success with [`Input::Written`]. Not repeated while bytes remain.
    Flush {
        /// Whose bytes.
        conn: ConnId,
    },
    /// End a connection. Its id means nothing to the shard from here on, and no input about it is wanted.
    Close {
        /// Which.
        conn: ConnId,
        /// Bytes to be written before that, what `outbound` still held: an error text for the peer, mostly.
        /// The runtime tries for at most [`CLOSE_FLUSH_LIMIT`], then closes all the same.
        last_bytes: Vec<u8>,
    },
    /// Read no more from this connection until [`Output::ResumeReading`].
    PauseReading {
        /// Which.
        conn: ConnId,
    },
    /// Read again.
    ResumeReading {
        /// Which.
        conn: ConnId,
    },
    /// Compute something that takes too long for the loop, on another thread; then [`Input::Work`].
    Work(WorkRequest),
    /// Have the disk do something, and say what came of it by [`Input::Disk`]. The contract is `natrix_core::disk`'s; the
    /// folder is `jetstream` in the server's store directory, the same for all shards.
    Disk(Submission),
    /// Push a message to another shard's inbox.
    ToShard(ShardId, ShardMessage),
    /// The answer to [`Input::Control`].
    ControlReply {
        /// The request's.
        id: u64,
        /// The answer.
        reply: ControlReply,
    },
    /// Tell the operator.
    Log(LogRecord),
    /// The server can't do its work, and the log says why: end the process.
    Failed,
    /// The shard has closed all it had and wants no more; the process may end when all shards have said so.
    Stopped,
}

/// Returns which of so many shards asked something of a disk, for a runtime whose shards share one.
pub fn disk_shard(token: Token, shards: u16) -> ShardId {
    EngineId::of_token(token).shard(shards)
}

/// How long a runtime tries to write [`Output::Close`]'s last bytes.
pub const CLOSE_FLUSH_LIMIT: std::time::Duration = std::time::Duration::from_secs(1);

/// A computation to be done elsewhere.
#[derive(Debug)]
pub struct WorkRequest {
    /// Comes back in [`WorkDone`].
    pub conn: ConnId,
    /// What to compute; pure.
    pub job: BcryptJob,
}

impl WorkRequest {
    /// Does the computation, on whatever thread calls it.
    pub fn run(self) -> WorkDone {
        WorkDone { conn: self.conn, matched: self.job.run() }
    }
}

/// A computation that is done.
#[derive(Clone, Copy, Debug)]
pub struct WorkDone {
    /// For which connection.
    pub conn: ConnId,
    /// Whether the password was the right one.
    pub matched: bool,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `[TRC]`: protocol operations.
    Trace,
    /// `[DBG]`
    Debug,
    /// `[INF]`
    Info,
    /// `[WRN]`
    Warn,
    /// `[ERR]`
    Error,
    /// `[FTL]`: the process can't go on.
    Fatal,
}

/// One line for the log, without time, process id and level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// How much it matters.
    pub level: LogLevel,
    /// The line, never with a secret in it.
    pub text: Arc<str>,
}
