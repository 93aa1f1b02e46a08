//! One shard's loop: what its thread does, all of it.
//!
//! Each pass
//!
//! 1. drains the inbox;
//! 2. ticks, if the shard's time or one of the loop's own has come;
//! 3. reads from every socket that is ready, draining the inbox again before the bytes are handed over;
//! 4. writes to the disk what takes no waiting, and lets the shard go on with what came of that;
//! 5. lets the shard go on with what it couldn't finish, a few times;
//! 6. writes what the shard has for its sockets, each once, after every push of this pass;
//! 7. sleeps, or, where the next is likely to come sooner than it would fall asleep, gives way and looks again.
//!
//! The steps 1, 3 and 6 are in this order because of the promise of `natrix_core::shard::io`: what another shard
//! said before a byte was written to a socket is known before that byte is acted upon.
//!
//! Invariant: a slot is in `slots` from `Accepted` until its socket is dropped, so a `ConnId` never names two.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Buf;
use natrix_core::disk::{Completion, Submission};
use natrix_core::ids::{ConnId, ShardId};
use natrix_core::shard::Shard;
use natrix_core::shard::io::{CLOSE_FLUSH_LIMIT, CloseCause, Input, Output, TlsFailure};
use natrix_core::time::Instant;
use tokio::sync::watch;
use tokio::time::Sleep;

use crate::busy_poll::BusyPoll;
use crate::connection::{Closing, Connection, Phase, Transport, poll_write_buf};
use crate::disk::RealDisk;
use crate::inbox::Event;
use crate::platform::Platform;
use crate::server::Shared;
use crate::tls::{NOT_PINNED, Rewind, Tls, handshake_error};
use crate::{acceptor, inbox};

/// Reads of one socket in one pass. Most of the time the second finds nothing, and asks to be woken. A publisher that
/// fills read after read is worth some: what they bring is written to each subscriber at once, and a write costs as much
/// as dozens of messages (a queue group of 8: 0.22, 0.15, 0.13, 0.12 CPU s/M with 1, 2, 4, 8 reads).
const READS_PER_PASS: usize = 4;
/// Ticks after the reads of a pass, while the shard has a backlog, for the same reason (fan-out to 1,000: 0.26, 0.20,
/// 0.11, 0.09 CPU s/M with 0, 1, 3, 7 ticks; at 7 the first subscriber waits for 3 ms).
const TICKS_PER_PASS: usize = 3;
/// Reads from the disk that needed no waiting, in one pass: a chain of them must not keep sockets waiting.
const ARRIVALS_PER_PASS: usize = 64;
/// Writes to the disk in one pass that are made here rather than by its threads: they take some tens of microseconds each.
const WRITES_PER_PASS: usize = 8;
/// Where bytes go that nobody wants.
const SCRATCH: usize = 4096;

/// A shard, its sockets, and what is promised to them.
pub(crate) struct ShardLoop<P: Platform> {
    me: ShardId,
    shard: Shard,
    platform: P,
    shared: Arc<Shared<P::Accepted>>,
    tls: Option<Tls>,
    disk: Option<RealDisk>,
    slots: Vec<Option<Connection<P::Stream>>>,
    generations: Vec<u32>,
    free: Vec<u32>,
    /// What was read without waiting, and isn't handed in yet.
    arrived: VecDeque<Completion>,
    /// Writes to the disk that this thread makes after its reads, so that what all sockets brought goes into few of them.
    quick: VecDeque<Submission>,
    /// Slots with bytes to write at the end of the pass.
    dirty: Vec<u32>,
    /// Slots that are to be looked at in the next pass though no waker said so.
    again: Vec<u32>,
    deadlines: BinaryHeap<Reverse<(Instant, ConnId)>>,
    stop_listening: watch::Sender<bool>,
    stopped: bool,
    batch: Vec<Event<P::Accepted>>,
    ready: Vec<u32>,
    busy_poll: BusyPoll,
}

impl<P: Platform> ShardLoop<P> {
    pub(crate) fn new(
        me: ShardId,
        shard: Shard,
        platform: P,
        shared: Arc<Shared<P::Accepted>>,
        tls: Option<Tls>,
        disk: Option<RealDisk>,
    ) -> Self {
        ShardLoop {
            me,
            shard,
            platform,
            shared,
            tls,
            disk,
            slots: Vec::new(),
            generations: Vec::new(),
            free: Vec::new(),
            arrived: VecDeque::new(),
            quick: VecDeque::new(),
            dirty: Vec::new(),
            again: Vec::new(),
            deadlines: BinaryHeap::new(),
            stop_listening: watch::Sender::new(false),
            stopped: false,
            batch: Vec::new(),
            ready: Vec::new(),
            busy_poll: BusyPoll::default(),
        }
    }

    /// Runs until the shard has stopped and its last sockets are closed.
    pub(crate) async fn run(mut self) {
        self.carry_out();
        let mut sleep = Box::pin(tokio::time::sleep_until(tokio::time::Instant::now()));
        poll_fn(|cx| self.pass(cx, sleep.as_mut())).await;
        self.shared.shard_ended();
    }

    fn pass(&mut self, cx: &mut Context<'_>, mut sleep: Pin<&mut Sleep>) -> Poll<()> {
        let doorbell = Arc::clone(&self.inbox().doorbell);
        doorbell.awake(cx.waker());
        if self.busy_poll.is_waiting() && (!self.inbox().is_empty() || doorbell.has_ready()) {
            self.busy_poll.ends(self.platform.now().instant);
        }
        self.drain_inbox();
        self.tick();
        let mut ready = std::mem::take(&mut self.ready);
        doorbell.swap_ready(&mut ready);
        ready.append(&mut self.again);
        for slot in ready.drain(..) {
            self.attend(slot);
        }
        self.ready = ready;
        self.handle_arrivals();
        for _ in 0..TICKS_PER_PASS {
            // Zero stands for a backlog, not for a time.
            if self.shard.poll_timeout() != Some(Instant::ZERO) {
                break;
            }
            self.handle(Input::Tick);
        }
        self.flush_all();

        if self.stopped && self.slots.iter().all(Option::is_none) {
            return Poll::Ready(());
        }
        let left = !self.again.is_empty() || !self.arrived.is_empty() || !self.quick.is_empty();
        if left || self.is_due() {
            // There is more to do: the reactor has its turn, then the next pass comes.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.busy_poll.waits_awake(self.platform.now().instant) && self.platform.give_way() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        doorbell.about_to_sleep();
        if !self.inbox().is_empty() || doorbell.has_ready() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(due) = self.next_deadline() {
            let due = self.platform.deadline(due);
            if sleep.deadline() != due {
                sleep.as_mut().reset(due);
            }
            if sleep.poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    fn inbox(&self) -> &inbox::Inbox<P::Accepted> {
        &self.shared.inboxes[self.me.index()]
    }

    fn next_deadline(&self) -> Option<Instant> {
        let own = self.deadlines.peek().map(|Reverse((due, _))| *due);
        self.shard.poll_timeout().into_iter().chain(own).min()
    }

    fn is_due(&self) -> bool {
        self.next_deadline().is_some_and(|due| due <= self.platform.now().instant)
    }

    fn handle(&mut self, input: Input) {
        self.shard.handle(self.platform.now(), input);
        self.carry_out();
    }

    fn drain_inbox(&mut self) {
        if self.inbox().is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        self.shared.inboxes[self.me.index()].swap(&mut batch);
        for event in batch.drain(..) {
            match event {
                Event::Message(message) => self.handle(Input::FromShard(message)),
                Event::Accepted { listener, socket, peer, local } => match self.platform.adopt(socket) {
                    Ok(stream) => {
                        let conn = self.open(stream);
                        self.handle(Input::Accepted { listener, conn, peer, local });
                    }
                    // It was reset before anybody looked at it.
                    Err(_) => {
                        self.shared.loads[self.me.index()].fetch_sub(1, Ordering::Relaxed);
                    }
                },
                Event::Listening { listener, address } => {
                    self.handle(Input::Listening { listener, address });
                    self.shared.observer.listening(address);
                }
                Event::ListenFailed { listener, error } => {
                    self.handle(Input::ListenFailed { listener, error });
                }
                Event::Disk(completion) => self.handle(Input::Disk(completion)),
                Event::Work(done) => self.handle(Input::Work(done)),
                Event::Control { id, request } => self.handle(Input::Control { id, request }),
            }
        }
        self.batch = batch;
    }

    fn tick(&mut self) {
        let now = self.platform.now().instant;
        while let Some(Reverse((due, conn))) = self.deadlines.peek().copied()
            && due <= now
        {
            self.deadlines.pop();
            let overdue =
                self.connection(conn).is_some_and(|found| found.deadline.is_some_and(|due| due <= now));
            if overdue {
                self.give_up(conn);
            }
        }
        if self.shard.poll_timeout().is_some_and(|due| due <= now) {
            self.handle(Input::Tick);
        }
    }

    /// Does what the shard asks. Pushes happen here, at once; flushes at the end of the pass.
    fn carry_out(&mut self) {
        while let Some(output) = self.shard.poll_output() {
            match output {
                Output::Flush { conn } => self.mark_dirty(conn),
                Output::Disk(submission) => self.ask_disk(submission),
                Output::ToShard(shard, message) => {
                    self.shared.inboxes[shard.index()].push(Event::Message(message));
                }
                Output::PauseReading { conn } => {
                    if let Some(connection) = self.connection(conn) {
                        connection.paused = true;
                    }
                }
                Output::ResumeReading { conn } => {
                    if let Some(connection) = self.connection(conn) {
                        connection.paused = false;
                        self.again.push(conn.slot);
                    }
                }
                Output::Close { conn, last_bytes } => self.close(conn, last_bytes),
                Output::StartTls { conn, received } => self.start_tls(conn, received),
                Output::Log(record) => self.shared.observer.log(record),
                Output::ControlReply { id, reply } => self.shared.answer(id, reply),
                Output::Work(request) => {
                    let (shared, me) = (Arc::clone(&self.shared), self.me);
                    self.platform
                        .compute(move || shared.inboxes[me.index()].push(Event::Work(request.run())));
                }
                Output::Listen { listener, host, port } => {
                    let stop = self.stop_listening.subscribe();
                    let (platform, shared) = (self.platform.clone(), Arc::clone(&self.shared));
                    self.platform.spawn(acceptor::run(platform, shared, listener, host, port, stop));
                }
                Output::StopListening { .. } => {
                    self.stop_listening.send_replace(true);
                }
                Output::Failed => self.shared.observer.failed(),
                Output::Stopped => self.stopped = true,
            }
        }
    }

    /// Has a request carried out: at once, at the end of the pass, or by a thread of the disk.
    fn ask_disk(&mut self, submission: Submission) {
        let Some(disk) = &self.disk else { unreachable!("a shard without streams asks nothing of a disk") };
        if disk.is_quick(&submission.request) {
            return self.quick.push_back(submission);
        }
        match disk.read_cached(submission) {
            Ok(completion) => self.arrived.push_back(completion),
            Err(submission) => disk.submit(submission),
        }
    }

    /// Makes the writes that take no waiting, and hands in what came of them and of such reads.
    fn handle_arrivals(&mut self) {
        let mut writes = 0;
        for _ in 0..ARRIVALS_PER_PASS {
            let completion = match (self.arrived.pop_front(), &mut self.disk) {
                (Some(completion), _) => completion,
                (None, Some(disk)) if writes < WRITES_PER_PASS => {
                    let Some(submission) = self.quick.pop_front() else { return };
                    writes += 1;
                    disk.write_at_once(submission)
                }
                (None, _) => return,
            };
            self.handle(Input::Disk(completion));
        }
    }

    fn open(&mut self, stream: P::Stream) -> ConnId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.generations.push(0);
            u32::try_from(self.slots.len() - 1).expect("a shard has fewer than 2^32 sockets")
        });
        let generation = &mut self.generations[slot as usize];
        *generation += 1;
        let id = ConnId { slot, generation: *generation };
        let doorbell = &self.shared.inboxes[self.me.index()].doorbell;
        self.slots[slot as usize] = Some(Connection::new(id, stream, doorbell));
        self.again.push(slot);
        id
    }

    fn connection(&mut self, conn: ConnId) -> Option<&mut Connection<P::Stream>> {
        self.slots.get_mut(conn.slot as usize)?.as_mut().filter(|found| found.id == conn)
    }

    fn drop_connection(&mut self, conn: ConnId) {
        if self.connection(conn).is_some() {
            self.slots[conn.slot as usize] = None;
            self.free.push(conn.slot);
            self.shared.loads[self.me.index()].fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn mark_dirty(&mut self, conn: ConnId) {
        if let Some(connection) = self.connection(conn)
            && !std::mem::replace(&mut connection.dirty, true)
        {
            self.dirty.push(conn.slot);
        }
    }

    fn set_deadline(&mut self, conn: ConnId, after: std::time::Duration) {
        let due = self.platform.now().instant + after;
        if let Some(connection) = self.connection(conn) {
            connection.deadline = Some(due);
            self.deadlines.push(Reverse((due, conn)));
        }
    }

    /// Looks at a socket that is ready for something, or was never looked at.
    fn attend(&mut self, slot: u32) {
        let Some(connection) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        connection.slot_waker.taken();
        let conn = connection.id;
        match connection.phase {
            Phase::Open(_) => {
                if connection.write_blocked {
                    connection.write_blocked = false;
                    self.mark_dirty(conn);
                }
                self.read(conn);
            }
            Phase::BeforeTls { .. } | Phase::Handshake(_) => self.handshake(conn),
            Phase::Closing(_) => self.go_on_closing(conn),
            Phase::Moving => unreachable!("no phase is left between two"),
        }
    }

    fn read(&mut self, conn: ConnId) {
        for _ in 0..READS_PER_PASS {
            let Some(Some(connection)) = self.slots.get_mut(conn.slot as usize) else { return };
            let Connection { id, phase: Phase::Open(transport), paused, waker, .. } = connection else {
                return;
            };
            if *id != conn || *paused {
                return;
            }
            let target = self.shard.read_target(conn);
            match transport.poll_read(&mut Context::from_waker(waker), target) {
                Poll::Pending => return,
                Poll::Ready(Ok(n)) => {
                    self.drain_inbox();
                    self.handle(Input::Received { conn, n });
                    if n == 0 {
                        return;
                    }
                }
                Poll::Ready(Err(_)) => {
                    self.drop_connection(conn);
                    self.handle(Input::Closed { conn, cause: CloseCause::ReadError });
                    return;
                }
            }
        }
        self.again.push(conn.slot);
    }

    fn flush_all(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            let Some(connection) = self.slots[slot as usize].as_mut() else { continue };
            connection.dirty = false;
            let conn = connection.id;
            if matches!(connection.phase, Phase::Open(_)) && !connection.write_blocked {
                self.write(conn);
            }
        }
        // What writing made dirty is written in the next pass.
        dirty.append(&mut self.dirty);
        if !dirty.is_empty() {
            self.again.extend(&dirty);
        }
        self.dirty = dirty;
    }

    fn write(&mut self, conn: ConnId) {
        loop {
            let Some(Some(connection)) = self.slots.get_mut(conn.slot as usize) else { return };
            let Connection { id, phase: Phase::Open(transport), write_blocked, waker, .. } = connection
            else {
                return;
            };
            if *id != conn {
                return;
            }
            let mut cx = Context::from_waker(waker);
            let view = self.shard.outbound(conn);
            let result = match view.has_remaining() {
                true => transport.poll_write(&mut cx, &view),
                false => transport.poll_flush(&mut cx).map_ok(|()| 0),
            };
            match result {
                Poll::Pending => {
                    *write_blocked = true;
                    return;
                }
                Poll::Ready(Ok(0)) => return,
                Poll::Ready(Ok(n)) => self.handle(Input::Written { conn, n }),
                Poll::Ready(Err(_)) => {
                    self.drop_connection(conn);
                    self.handle(Input::Closed { conn, cause: CloseCause::WriteError });
                    return;
                }
            }
        }
    }

    fn close(&mut self, conn: ConnId, last_bytes: Vec<u8>) {
        let Some(connection) = self.connection(conn) else { return };
        match std::mem::replace(&mut connection.phase, Phase::Moving) {
            Phase::Open(transport) => {
                connection.phase = Phase::Closing(Closing::new(transport, last_bytes));
                self.set_deadline(conn, CLOSE_FLUSH_LIMIT);
                // Other shards' messages go first, and so do this pass's flushes.
                self.again.push(conn.slot);
            }
            // Nobody could read a word in the middle of a handshake.
            _ => self.drop_connection(conn),
        }
    }

    fn go_on_closing(&mut self, conn: ConnId) {
        let Some(Some(connection)) = self.slots.get_mut(conn.slot as usize) else { return };
        let Connection { phase: Phase::Closing(closing), waker, .. } = connection else { return };
        let mut scratch = [0; SCRATCH];
        if closing.poll(&mut Context::from_waker(waker), &mut scratch).is_ready() {
            self.drop_connection(conn);
        }
    }

    fn start_tls(&mut self, conn: ConnId, received: Vec<u8>) {
        let left = self.shard.outbound(conn).remaining();
        let Some(tls) = &self.tls else { return };
        let timeout = tls.timeout;
        let Some(connection) = self.connection(conn) else { return };
        match std::mem::replace(&mut connection.phase, Phase::Moving) {
            Phase::Open(Transport::Plain(stream)) => {
                connection.phase = Phase::BeforeTls { stream, left, received };
                self.set_deadline(conn, timeout);
                self.again.push(conn.slot);
            }
            other => connection.phase = other,
        }
    }

    /// Goes on with what comes before encrypted bytes: plain ones to be written, then the handshake.
    fn handshake(&mut self, conn: ConnId) {
        loop {
            let Some(Some(connection)) = self.slots.get_mut(conn.slot as usize) else { return };
            let Connection { phase, waker, deadline, .. } = connection;
            let mut cx = Context::from_waker(waker);
            match std::mem::replace(phase, Phase::Moving) {
                Phase::BeforeTls { stream, left: 0, received } => {
                    let Some(tls) = &self.tls else { return };
                    *phase = Phase::Handshake(Box::new(tls.acceptor.accept(Rewind::new(received, stream))));
                }
                Phase::BeforeTls { mut stream, left, received } => {
                    let view = self.shard.outbound(conn).take(left);
                    let result = poll_write_buf(&mut stream, &mut cx, &view);
                    *phase = Phase::BeforeTls { stream, left, received };
                    match result {
                        Poll::Pending => return,
                        Poll::Ready(Ok(n)) if n > 0 => {
                            if let Phase::BeforeTls { left, .. } = phase {
                                *left -= n;
                            }
                            self.handle(Input::Written { conn, n });
                        }
                        Poll::Ready(_) => {
                            self.drop_connection(conn);
                            self.handle(Input::Closed { conn, cause: CloseCause::WriteError });
                            return;
                        }
                    }
                }
                Phase::Handshake(mut accept) => match Pin::new(&mut *accept).poll(&mut cx) {
                    Poll::Pending => {
                        *phase = Phase::Handshake(accept);
                        return;
                    }
                    Poll::Ready(Ok(stream)) => {
                        let peer = self.tls.as_ref().and_then(|tls| tls.accept_peer(stream.get_ref().1));
                        *phase = Phase::Open(Transport::Tls(Box::new(stream)));
                        *deadline = None;
                        match peer {
                            Some(peer) => {
                                self.handle(Input::TlsEstablished { conn, peer: Box::new(peer) });
                                self.mark_dirty(conn);
                                self.again.push(conn.slot);
                            }
                            None => self.tls_failed(conn, TlsFailure::Error(NOT_PINNED.to_owned())),
                        }
                        return;
                    }
                    Poll::Ready(Err(error)) => {
                        self.tls_failed(conn, TlsFailure::Error(handshake_error(&error)));
                        return;
                    }
                },
                other => {
                    *phase = other;
                    return;
                }
            }
        }
    }

    fn tls_failed(&mut self, conn: ConnId, failure: TlsFailure) {
        self.drop_connection(conn);
        self.handle(Input::TlsFailed { conn, failure });
    }

    /// A deadline of the loop's own has passed.
    fn give_up(&mut self, conn: ConnId) {
        match self.connection(conn).map(|connection| &connection.phase) {
            Some(Phase::BeforeTls { .. } | Phase::Handshake(_)) => {
                self.tls_failed(conn, TlsFailure::TimedOut);
            }
            Some(Phase::Closing(_)) => self.drop_connection(conn),
            _ => {}
        }
    }
}
