//! A client connection: what it asked for, what it may do, what waits for it, when something is due.

use std::net::SocketAddr;
use std::time::Duration;

use hashbrown::HashTable;

use super::ClosedReason;
use super::chunk::Chunk;
use super::keepalive::Keepalive;
use super::outbound::{OutboundQueue, SegmentPool};
use super::read_block::OwnBuffer;
use crate::auth::permissions::Permissions;
use crate::ids::ConnId;
use crate::protocol::connect::ConnectOptions;
use crate::time::{Instant, Now, WallTime};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The home shard has not answered yet whether it may stay.
    Admission,
    /// TLS comes first, INFO after it; at this time INFO is sent all the same.
    TlsFirst {
        /// When.
        info_at: Instant,
    },
    /// INFO is sent, and the first byte will tell whether TLS or plain text follows.
    TlsOrPlain,
    /// The runtime is busy with a TLS handshake.
    Handshake {
        /// Whether INFO is still to be sent behind it.
        info_after: bool,
    },
    /// It has to CONNECT before anything else.
    Connecting,
    /// It may publish and subscribe.
    Open,
}

/// Why a connection's bytes are kept and no more are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parked {
    /// The home shard is asked.
    Admission,
    /// A password is being checked.
    Password,
    /// The home shard is asked whether its account has room.
    Account,
    /// It publishes faster than somebody reads.
    Stalled {
        /// When it goes on all the same.
        until: Instant,
    },
    /// Another shard owes too much already.
    Owed,
    /// It had its share of this `handle`.
    Backlog,
}

/// The header line of a message whose payload is on its way into a buffer of its own.
#[derive(Debug)]
pub(crate) struct LargeMessage {
    pub(crate) subject: Box<[u8]>,
    pub(crate) reply: Box<[u8]>,
    pub(crate) header_len: usize,
    /// Payload and CRLF.
    pub(crate) buffer: OwnBuffer,
}

/// What /connz and log lines call a client; it has no part in what the server does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Label {
    pub(crate) user: String,
    /// What log lines add to address and id, from its first CONNECT on.
    pub(crate) in_log: String,
    /// Whether the user has an nkey.
    pub(crate) by_nkey: bool,
    /// The public key of the trusted proxy that it came through.
    pub(crate) proxy: Option<std::sync::Arc<str>>,
}

/// What has to be written by when.
#[derive(Clone, Copy, Debug)]
struct WriteMark {
    due: Instant,
    /// All that was queued when the mark was set: so much has to be written.
    queued: u64,
    /// What was written then.
    written: u64,
}

/// Whether a socket takes its bytes in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// It does.
    No,
    /// It took some of them.
    Slow,
    /// It took none.
    Stuck,
}

/// Messages and payload bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Traffic {
    pub(crate) fn count(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

/// One client connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: ConnId,
    /// Unique in the server; zero until the home shard has answered.
    pub(crate) cid: u64,
    pub(crate) account: u32,
    pub(crate) echo: bool,
    pub(crate) headers: bool,
    pub(crate) verbose: bool,
    pub(crate) pedantic: bool,
    pub(crate) no_responders: bool,
    /// Whether it wants INFO when something changes (CONNECT's `protocol` of 1).
    pub(crate) wants_info: bool,
    pub(crate) connected: bool,
    /// The home shard counts it.
    pub(crate) counted: bool,
    /// The home shard counts it among the connections of this account.
    pub(crate) counted_in: Option<u32>,
    /// The TLS handshake came before INFO.
    pub(crate) tls_first: bool,
    /// It was not held yet since its last read.
    pub(crate) may_stall: bool,
    pub(crate) first_pong_sent: bool,
    /// `Output::Flush` was given, and not all is written yet.
    pub(crate) flush_asked: bool,
    /// It will be closed when this `handle` is through; nothing more is queued for it.
    pub(crate) doomed: Option<ClosedReason>,
    pub(crate) phase: Phase,
    pub(crate) parked: Option<Parked>,
    pub(crate) outbound: OutboundQueue,
    /// What is written by this time tells whether the peer reads: see [`Client::write_progress`].
    write_mark: Option<WriteMark>,
    total_queued: u64,
    total_written: u64,

    /// Bytes of an operation that isn't whole yet, or of all that came while parked.
    pub(crate) unfinished: Vec<u8>,
    /// The next read continues `unfinished`, whose first so many bytes were there before.
    pub(crate) reads_into_unfinished: Option<usize>,
    pub(crate) large: Option<Box<LargeMessage>>,

    /// Its subscriptions by sid, as keys of the exchange's table.
    pub(crate) sids: HashTable<u32>,
    pub(crate) permissions: Option<Box<Permissions>>,
    pub(crate) keepalive: Option<Box<Keepalive>>,
    pub(crate) auth_deadline: Option<Instant>,
    /// The earliest deadline that the shard's timers know of.
    pub(crate) armed: Option<Instant>,

    pub(crate) peer: SocketAddr,
    pub(crate) nonce: Option<Box<str>>,
    /// What it said in CONNECT, less its secrets.
    pub(crate) connect: Box<ConnectOptions>,
    pub(crate) label: Box<Label>,
    pub(crate) tls_peer: Option<Box<crate::auth::TlsPeer>>,
    pub(crate) started: WallTime,
    pub(crate) started_at: Instant,
    /// When it last published, was sent a message, or changed what it is interested in.
    pub(crate) last_active: WallTime,
    /// How many messages it had been sent when that was last looked at.
    sent_when_active: u64,
    pub(crate) received: Traffic,
    pub(crate) sent: Traffic,
    pub(crate) stalls: u64,
}

impl Client {
    pub(crate) fn new(id: ConnId, peer: SocketAddr, now: Now) -> Self {
        Client {
            id,
            cid: 0,
            account: 0,
            echo: true,
            headers: false,
            verbose: true,
            pedantic: true,
            no_responders: false,
            wants_info: false,
            connected: false,
            counted: false,
            counted_in: None,
            tls_first: false,
            may_stall: true,
            first_pong_sent: false,
            flush_asked: false,
            doomed: None,
            phase: Phase::Admission,
            parked: Some(Parked::Admission),
            outbound: OutboundQueue::default(),
            write_mark: None,
            total_queued: 0,
            total_written: 0,
            unfinished: Vec::new(),
            reads_into_unfinished: None,
            large: None,
            sids: HashTable::new(),
            permissions: None,
            keepalive: None,
            auth_deadline: None,
            armed: None,
            peer,
            nonce: None,
            connect: Box::default(),
            label: Box::default(),
            tls_peer: None,
            started: now.wall,
            started_at: now.instant,
            last_active: now.wall,
            sent_when_active: 0,
            received: Traffic::default(),
            sent: Traffic::default(),
            stalls: 0,
        }
    }

    /// Takes a read target that nothing was read into off the unfinished bytes again.
    pub(crate) fn forget_target(&mut self) {
        if let Some(kept) = self.reads_into_unfinished.take() {
            self.unfinished.truncate(kept);
        }
    }

    /// Queues a copy of `bytes`, unless the connection is doomed.
    pub(crate) fn queue(&mut self, pool: &mut SegmentPool, bytes: &[u8]) {
        if self.doomed.is_none() {
            self.outbound.copy(pool, bytes);
            self.total_queued += bytes.len() as u64;
        }
    }

    /// Queues a message: the pieces of its line, then its payload.
    pub(crate) fn queue_message(
        &mut self,
        pool: &mut SegmentPool,
        line: [&[u8]; 3],
        payload: &[u8],
        shared: Option<Chunk>,
    ) {
        let line_len: usize = line.iter().map(|piece| piece.len()).sum();
        let copied = if shared.is_some() { 0 } else { payload.len() };
        let tail = self.outbound.tail(pool, line_len + copied);
        for piece in line {
            tail.extend_from_slice(piece);
        }
        match shared {
            None => {
                tail.extend_from_slice(payload);
                self.outbound.appended(line_len + copied);
            }
            Some(chunk) => {
                self.outbound.appended(line_len);
                self.outbound.share(chunk);
            }
        }
        self.total_queued += (line_len + payload.len()) as u64;
    }

    /// Notes that the socket took `n` bytes.
    pub(crate) fn written(&mut self, now: Now, pool: &mut SegmentPool, n: usize) {
        // Not when each message was queued: this is once for all that go in one write.
        if self.sent_when_active != self.sent.messages {
            self.sent_when_active = self.sent.messages;
            self.last_active = now.wall;
        }
        self.outbound.written(pool, n);
        self.total_written += n as u64;
        if self.outbound.pending() == 0 {
            self.flush_asked = false;
            self.write_mark = None;
        }
    }

    /// Tells whether what waited a `deadline` ago is still not written.
    ///
    /// The reference gives each write call that long. Here a mark is set when bytes begin to wait, and again each
    /// time that what lay before it is through: a peer that reads slowly but steadily passes, as it does there.
    pub(crate) fn write_overdue(&mut self, now: Instant, deadline: Duration) -> Overdue {
        match self.write_mark {
            Some(WriteMark { due, queued, written }) if self.total_written < queued => {
                match (due <= now, self.total_written > written) {
                    (false, _) => Overdue::No,
                    (true, true) => Overdue::Slow,
                    (true, false) => Overdue::Stuck,
                }
            }
            _ if self.outbound.pending() == 0 => Overdue::No,
            _ => {
                self.mark_write(now, deadline);
                Overdue::No
            }
        }
    }

    /// Gives what waits now so long again.
    pub(crate) fn mark_write(&mut self, now: Instant, deadline: Duration) {
        let (queued, written) = (self.total_queued, self.total_written);
        self.write_mark = Some(WriteMark { due: now + deadline, queued, written });
    }

    /// Notes that bytes wait from now on.
    pub(crate) fn write_started(&mut self, now: Instant, deadline: Duration) {
        if self.write_mark.is_none() {
            self.mark_write(now, deadline);
        }
    }

    /// Returns when something is due: authentication, PING, written bytes, the end of a stall.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let stalled = match self.parked {
            Some(Parked::Stalled { until }) => Some(until),
            _ => None,
        };
        let info = match self.phase {
            Phase::TlsFirst { info_at } => Some(info_at),
            _ => None,
        };
        let ping = self.keepalive.as_ref().and_then(|keepalive| keepalive.poll_timeout());
        let write = self.write_mark.map(|mark| mark.due);
        [self.auth_deadline, ping, write, stalled, info].into_iter().flatten().min()
    }
}
