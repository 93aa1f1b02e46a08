//! A network of byte streams, as TCP shows one to its users: late, in pieces of any size, cut at any byte, but
//! never out of order, never with a gap and never twice.
//!
//! Loss is a retransmission timeout, a partition is loss that lasts, and a stream that was lost for too long is
//! given up. An end that vanished without a word leaves the other half-open until something it sends is answered
//! by a reset. Everything is per direction, so that a link can fail one way only.
//!
//! Sans-IO like the rest: [`Network::handle`] takes the events that [`Network`] itself put on the queue, and
//! [`Network::poll_notice`] says what the owners of the ends should know.
//!
//! Invariants: a pipe's `bytes` are its readable bytes followed by those in flight, and `flight` sums to the
//! latter; at most one [`NetEvent::Arrive`] per pipe is on the queue, for its oldest segment.

mod link;
mod pipe;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub use link::{Link, LinkShape};
use natrix_core::rng::Rng;
use pipe::{Pipe, Segment, SegmentKind};

use crate::fault::{Counters, Fault};
use crate::queue::{MILLISECOND, SECOND, Schedule, SimTime};

/// A machine with an address of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(pub u16);

/// One end of a stream. Ends come in pairs; the other one's `index` differs in the lowest bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    index: u32,
    generation: u32,
}

impl End {
    /// Returns the other end of the stream.
    pub fn other(self) -> End {
        End { index: self.index ^ 1, ..self }
    }

    /// Returns a small number that no other end has while this one is in use.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// Returns both numbers as one, for traces.
    pub fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }
}

/// What the network puts on the queue for itself.
#[derive(Clone, Copy, Debug)]
pub enum NetEvent {
    /// The oldest segment written by this end reaches the other one.
    Arrive(End),
    /// This end hears that there is room again for what it writes.
    Window(End),
}

impl NetEvent {
    /// Returns the event as numbers, for traces.
    pub fn numbers(self) -> (u8, u64) {
        match self {
            NetEvent::Arrive(end) => (1, end.number()),
            NetEvent::Window(end) => (2, end.number()),
        }
    }
}

/// What the owner of an end should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A listening host has a new stream; [`Network::set_owner`] says whose it is.
    Accepted {
        /// The listening host.
        host: HostId,
        /// Its end.
        end: End,
        /// Who dialed.
        peer: HostId,
    },
    /// A dialed stream is up.
    Connected(End, u64),
    /// A dialed stream never came up; the end is gone.
    Refused(End, u64),
    /// There are new bytes to be read, or the end of them.
    Readable(End, u64),
    /// There is room again after a write that was cut short.
    Writable(End, u64),
    /// The stream is dead: reset by the other side or given up. The end is gone.
    Broken(End, u64),
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes, at least one.
    Bytes(usize),
    /// The other side will send no more.
    Finished,
    /// Nothing yet.
    Nothing,
}

/// How streams behave, whatever the link.
#[derive(Clone, Copy, Debug)]
pub struct StreamShape {
    /// Bytes that may be under way or unread in one direction, smallest and largest; drawn for each direction.
    pub capacity: (usize, usize),
    /// A write is cut into segments of at most so many bytes; zero for no limit.
    pub segment: usize,
    /// First retransmission timeout; doubled for each further one.
    pub retransmit: u64,
    /// So many lost transmissions of one segment break the stream.
    pub attempts: u8,
}

impl Default for StreamShape {
    fn default() -> Self {
        StreamShape {
            capacity: (64 << 10, 256 << 10),
            segment: 0,
            retransmit: 200 * MILLISECOND,
            attempts: 8,
        }
    }
}

/// The longest time between two transmissions of one segment.
const RETRANSMIT_MAX: u64 = 8 * SECOND;
/// The owner of an end that nobody has claimed.
const NOBODY: u64 = u64::MAX;
/// A write leaves in at most so many segments, however short they are to be.
const SEGMENTS_PER_WRITE: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndState {
    /// Dialed, and not answered yet.
    Dialing,
    /// The other end of that, before it hears of it.
    Unborn,
    Open,
    /// Closed by its owner or dead: nothing is read or written any more.
    Gone,
}

/// What a segment was to its reader.
enum Received {
    /// Something to read.
    News,
    Nothing,
    /// The last of its direction.
    Over,
}

#[derive(Debug)]
struct EndSlot {
    host: HostId,
    owner: u64,
    state: EndState,
    generation: u32,
    pipe: Pipe,
}

/// All hosts, links and streams.
#[derive(Debug)]
pub struct Network {
    hosts: Vec<Host>,
    links: Vec<Link>,
    ends: Vec<EndSlot>,
    free: Vec<u32>,
    notices: VecDeque<Notice>,
    rng: Rng,
    shape: StreamShape,
    /// What happened, by kind.
    pub counters: Counters,
}

#[derive(Clone, Copy, Debug)]
struct Host {
    listening: bool,
    /// Without power a host answers nothing at all.
    up: bool,
}

impl Network {
    /// Makes a network of `hosts` hosts, all up, with links of the given shape.
    pub fn new(hosts: u16, link: LinkShape, shape: StreamShape, rng: Rng) -> Self {
        let count = usize::from(hosts);
        Network {
            hosts: vec![Host { listening: false, up: true }; count],
            links: vec![Link::new(link); count * count],
            ends: Vec::with_capacity(64),
            free: Vec::new(),
            notices: VecDeque::with_capacity(16),
            rng,
            shape,
            counters: Counters::default(),
        }
    }

    /// Returns the number of hosts.
    pub fn hosts(&self) -> u16 {
        self.hosts.len() as u16
    }

    /// Returns the link from one host to another.
    pub fn link(&mut self, from: HostId, to: HostId) -> &mut Link {
        let index = self.link_index(from, to);
        &mut self.links[index]
    }

    /// Returns all links, for faults that concern every one.
    pub fn links(&mut self) -> &mut [Link] {
        &mut self.links
    }

    /// Changes how streams made from now on behave.
    pub fn set_shape(&mut self, shape: StreamShape) {
        self.shape = shape;
    }

    /// Lets a host accept streams, or refuse them.
    pub fn set_listening(&mut self, host: HostId, listening: bool) {
        self.hosts[usize::from(host.0)].listening = listening;
    }

    /// Gives a host power, or takes it: without it nothing that reaches the host is answered.
    pub fn set_up(&mut self, host: HostId, up: bool) {
        self.hosts[usize::from(host.0)].up = up;
    }

    /// Says who is told about `end`; false if the stream is over already.
    pub fn set_owner(&mut self, end: End, owner: u64) -> bool {
        let Some(slot) = self.slot(end).filter(|slot| slot.state != EndState::Gone) else { return false };
        slot.owner = owner;
        true
    }

    /// Starts a stream; [`Notice::Connected`] or [`Notice::Refused`] will say how it went.
    pub fn dial<Q: Schedule<NetEvent>>(
        &mut self,
        queue: &mut Q,
        from: HostId,
        to: HostId,
        owner: u64,
    ) -> End {
        let index = self.free.pop().unwrap_or_else(|| {
            for _ in 0..2 {
                self.ends.push(EndSlot::unused());
            }
            (self.ends.len() - 2) as u32
        });
        let generation = self.ends[index as usize].generation;
        for (index, host, state, owner) in
            [(index, from, EndState::Dialing, owner), (index + 1, to, EndState::Unborn, NOBODY)]
        {
            let capacity = self.draw_capacity();
            let slot = &mut self.ends[index as usize];
            (slot.host, slot.state, slot.owner) = (host, state, owner);
            slot.pipe.start(capacity);
        }
        let end = End { index, generation };
        self.transmit(queue, end, SegmentKind::Syn, 0);
        end
    }

    /// Writes bytes and returns how many were taken; after fewer than all, [`Notice::Writable`] will come.
    pub fn write<Q: Schedule<NetEvent>>(&mut self, queue: &mut Q, end: End, bytes: &[u8]) -> usize {
        let segment = self.shape.segment;
        let Some(slot) = self.slot(end).filter(|slot| slot.state == EndState::Open) else {
            // As a socket does: what is written after the other side is lost is taken and leads nowhere.
            return bytes.len();
        };
        let taken = slot.pipe.accept(bytes);
        if taken < bytes.len() {
            self.counters.hit(Fault::PartialWrite);
        }
        let mut left = taken;
        for count in 1..=SEGMENTS_PER_WRITE {
            if left == 0 {
                break;
            }
            let length = match segment {
                0 => left,
                _ if count == SEGMENTS_PER_WRITE => left,
                longest => left.min(1 + self.rng.below(longest as u64) as usize),
            };
            if length < left {
                self.counters.hit(Fault::Split);
            }
            self.transmit(queue, end, SegmentKind::Data, length as u32);
            left -= length;
        }
        taken
    }

    /// Returns how many bytes a write would take now.
    pub fn writable(&mut self, end: End) -> usize {
        self.slot(end).map_or(usize::MAX, |slot| slot.pipe.room())
    }

    /// Reads what has arrived.
    pub fn read<Q: Schedule<NetEvent>>(&mut self, queue: &mut Q, end: End, out: &mut [u8]) -> Read {
        if self.slot(end).is_none_or(|slot| slot.state == EndState::Gone) {
            return Read::Nothing;
        }
        let writer = end.other();
        let pipe = &mut self.ends[writer.index as usize].pipe;
        let n = pipe.take(out);
        if n == 0 {
            return if pipe.finished() { Read::Finished } else { Read::Nothing };
        }
        if pipe.take_window_update() {
            let delay = self.latency(queue.now(), end, 0);
            queue.at(queue.now() + delay, NetEvent::Window(writer));
        }
        Read::Bytes(n)
    }

    /// Returns how many bytes wait to be read.
    pub fn readable(&mut self, end: End) -> usize {
        self.slot(end.other()).map_or(0, |slot| slot.pipe.readable())
    }

    /// Ends a stream after what was written; what the other side still sends is answered with a reset.
    pub fn close<Q: Schedule<NetEvent>>(&mut self, queue: &mut Q, end: End) {
        let Some(slot) = self.slot(end) else { return };
        match slot.state {
            EndState::Gone => return,
            EndState::Open => self.transmit(queue, end, SegmentKind::Fin, 0),
            EndState::Dialing | EndState::Unborn => self.transmit(queue, end, SegmentKind::Reset, 0),
        }
        self.gone(end);
    }

    /// Ends a stream at once: what was written and hasn't arrived is lost from a random byte on.
    pub fn reset<Q: Schedule<NetEvent>>(&mut self, queue: &mut Q, end: End) {
        let Some(slot) = self.slot(end).filter(|slot| slot.state != EndState::Gone) else { return };
        if slot.pipe.in_flight() > 0 {
            let kept = self.rng.below(self.ends[end.index as usize].pipe.in_flight() as u64);
            self.ends[end.index as usize].pipe.cut(kept as usize);
            self.counters.hit(Fault::CutMidFrame);
        }
        self.transmit(queue, end, SegmentKind::Reset, 0);
        self.gone(end);
    }

    /// Takes an end away without telling anybody: its host lost power, or a middlebox forgot the stream.
    pub fn vanish(&mut self, end: End) {
        if self.slot(end).is_some_and(|slot| slot.state != EndState::Gone) {
            self.counters.hit(Fault::HalfOpen);
            let pipe = &mut self.ends[end.index as usize].pipe;
            pipe.cut(0);
            self.gone(end);
        }
    }

    /// Does what was put on the queue.
    pub fn handle<Q: Schedule<NetEvent>>(&mut self, queue: &mut Q, event: NetEvent) {
        match event {
            NetEvent::Arrive(writer) => self.arrive(queue, writer),
            NetEvent::Window(writer) => self.window(queue, writer),
        }
    }

    /// Returns the next thing an owner should know, oldest first.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    fn window<Q: Schedule<NetEvent>>(&mut self, queue: &mut Q, writer: End) {
        let Some(slot) = self.slot(writer).filter(|slot| slot.state == EndState::Open) else { return };
        let owner = slot.owner;
        if self.cut_off(queue.now(), writer.other()) {
            // A lost window update is asked for again, for ever.
            let delay = self.shape.retransmit;
            queue.at(queue.now() + delay, NetEvent::Window(writer));
            return;
        }
        self.notices.push_back(Notice::Writable(writer, owner));
    }

    fn arrive<Q: Schedule<NetEvent>>(&mut self, queue: &mut Q, writer: End) {
        let now = queue.now();
        if self.slot(writer).is_none() {
            return;
        }
        let reader = writer.other();
        let pipe = &mut self.ends[writer.index as usize].pipe;
        pipe.arriving = false;
        let Some(segment) = pipe.oldest() else { return };
        if segment.arrive > now {
            return self.expect(queue, writer);
        }
        let (from, to) = (self.ends[writer.index as usize].host, self.ends[reader.index as usize].host);
        let link = self.links[self.link_index(from, to)];
        if link.clogged_until > now {
            self.counters.hit(Fault::Clog);
            self.ends[writer.index as usize].pipe.postpone(link.clogged_until);
            return self.expect(queue, writer);
        }
        let blocked = link.blocked > 0 || !self.hosts[usize::from(to.0)].up;
        if blocked || (link.shape.loss_ppm > 0 && self.rng.chance(u64::from(link.shape.loss_ppm), 1_000_000))
        {
            return self.lost(queue, writer, segment, blocked);
        }
        self.ends[writer.index as usize].pipe.attempts = 0;
        let mut arrived = 0;
        while let Some(segment) = self.ends[writer.index as usize].pipe.pop_due(now) {
            match self.receive(queue, writer, segment) {
                Received::News => arrived += 1,
                Received::Nothing => {}
                Received::Over => return,
            }
        }
        if arrived > 0 && self.ends[reader.index as usize].state == EndState::Open {
            if arrived > 1 {
                self.counters.hit(Fault::Coalesce);
            }
            let owner = self.ends[reader.index as usize].owner;
            self.notices.push_back(Notice::Readable(reader, owner));
        }
        self.expect(queue, writer);
    }

    /// Lets one segment reach the reader.
    fn receive<Q: Schedule<NetEvent>>(&mut self, queue: &mut Q, writer: End, segment: Segment) -> Received {
        let reader = writer.other();
        let slot = &mut self.ends[reader.index as usize];
        match (segment.kind, slot.state) {
            (SegmentKind::Reset, EndState::Gone) | (SegmentKind::Fin, EndState::Gone) => {
                self.retire(writer);
                Received::Over
            }
            (SegmentKind::Reset, state) => {
                let owner = slot.owner;
                if owner != NOBODY {
                    self.notices.push_back(match state {
                        EndState::Dialing => Notice::Refused(reader, owner),
                        _ => Notice::Broken(reader, owner),
                    });
                }
                self.gone(reader);
                Received::Over
            }
            (SegmentKind::Syn, _) => {
                let host = slot.host;
                if !self.hosts[usize::from(host.0)].listening {
                    self.counters.hit(Fault::Refused);
                    self.transmit(queue, reader, SegmentKind::Reset, 0);
                    self.gone(reader);
                    return Received::Over;
                }
                slot.state = EndState::Open;
                let peer = self.ends[writer.index as usize].host;
                self.notices.push_back(Notice::Accepted { host, end: reader, peer });
                self.transmit(queue, reader, SegmentKind::SynAck, 0);
                Received::Nothing
            }
            (SegmentKind::SynAck, EndState::Dialing) => {
                slot.state = EndState::Open;
                let owner = slot.owner;
                self.notices.push_back(Notice::Connected(reader, owner));
                // Bytes that came while the answer was under way are readable now.
                if self.ends[writer.index as usize].pipe.readable() > 0 {
                    Received::News
                } else {
                    Received::Nothing
                }
            }
            (SegmentKind::SynAck, _) => Received::Nothing,
            (SegmentKind::Data, EndState::Gone) => {
                // Nobody is there to read this: the writer is told, unless it is gone too.
                if self.ends[writer.index as usize].state != EndState::Gone {
                    self.transmit(queue, reader, SegmentKind::Reset, 0);
                    return Received::Over;
                }
                self.retire(writer);
                Received::Over
            }
            (SegmentKind::Data, _) => {
                self.ends[writer.index as usize].pipe.arrived(segment.length as usize);
                Received::News
            }
            (SegmentKind::Fin, _) => {
                self.ends[writer.index as usize].pipe.finish();
                Received::News
            }
        }
    }

    /// Deals with a segment that didn't get through: again later, or never.
    fn lost<Q: Schedule<NetEvent>>(&mut self, queue: &mut Q, writer: End, segment: Segment, blocked: bool) {
        self.counters.hit(if blocked { Fault::HeldByPartition } else { Fault::Loss });
        // A reset is sent once; who misses it is left with half a connection.
        if segment.kind == SegmentKind::Reset {
            self.counters.hit(Fault::HalfOpen);
            self.ends[writer.index as usize].pipe.cut(0);
            return;
        }
        let shape = self.shape;
        let slot = &mut self.ends[writer.index as usize];
        slot.pipe.attempts += 1;
        if slot.pipe.attempts > shape.attempts {
            self.counters.hit(Fault::ConnectionTimeout);
            let (state, owner) = (slot.state, slot.owner);
            slot.pipe.cut(0);
            match state {
                EndState::Gone | EndState::Unborn => {}
                EndState::Dialing => self.notices.push_back(Notice::Refused(writer, owner)),
                EndState::Open if owner == NOBODY => {}
                EndState::Open => self.notices.push_back(Notice::Broken(writer, owner)),
            }
            return self.gone(writer);
        }
        let backoff = shape.retransmit << (slot.pipe.attempts - 1).min(16);
        slot.pipe.postpone(queue.now() + backoff.min(RETRANSMIT_MAX));
        self.expect(queue, writer);
    }

    /// Puts a segment on its way.
    fn transmit<Q: Schedule<NetEvent>>(
        &mut self,
        queue: &mut Q,
        writer: End,
        kind: SegmentKind,
        length: u32,
    ) {
        let now = queue.now();
        let delay = self.latency(now, writer, u64::from(length));
        self.ends[writer.index as usize].pipe.send(Segment { arrive: now + delay, length, kind });
        self.expect(queue, writer);
    }

    /// Makes sure that the arrival of the oldest segment is on the queue.
    fn expect<Q: Schedule<NetEvent>>(&mut self, queue: &mut Q, writer: End) {
        let pipe = &mut self.ends[writer.index as usize].pipe;
        if !pipe.arriving
            && let Some(segment) = pipe.oldest()
        {
            pipe.arriving = true;
            queue.at(segment.arrive, NetEvent::Arrive(writer));
        }
    }

    /// Draws the time that so many bytes take from `writer`'s host to the other.
    fn latency(&mut self, now: SimTime, writer: End, bytes: u64) -> u64 {
        let (from, to) =
            (self.ends[writer.index as usize].host, self.ends[writer.other().index as usize].host);
        let index = self.link_index(from, to);
        self.links[index].delay(now, bytes, &mut self.rng, &mut self.counters)
    }

    fn cut_off(&mut self, now: SimTime, from: End) -> bool {
        let (from, to) = (self.ends[from.index as usize].host, self.ends[from.other().index as usize].host);
        let link = *self.link(from, to);
        link.blocked > 0 || link.clogged_until > now || !self.hosts[usize::from(to.0)].up
    }

    /// Marks an end as gone, and frees the stream when both are.
    fn gone(&mut self, end: End) {
        self.ends[end.index as usize].state = EndState::Gone;
        // A dial that is given up before the other side heard of it never was.
        if matches!(self.ends[end.other().index as usize].state, EndState::Gone | EndState::Unborn) {
            self.retire(end);
        }
    }

    /// Forgets a stream whose ends are both gone.
    fn retire(&mut self, end: End) {
        let first = end.index & !1;
        if self.slot(end).is_none() {
            return;
        }
        for index in [first, first + 1] {
            let slot = &mut self.ends[index as usize];
            slot.generation += 1;
            slot.pipe.clear();
            slot.state = EndState::Gone;
        }
        self.free.push(first);
    }

    fn slot(&mut self, end: End) -> Option<&mut EndSlot> {
        self.ends.get_mut(end.index as usize).filter(|slot| slot.generation == end.generation)
    }

    fn link_index(&self, from: HostId, to: HostId) -> usize {
        usize::from(from.0) * self.hosts.len() + usize::from(to.0)
    }

    fn draw_capacity(&mut self) -> usize {
        let (least, most) = self.shape.capacity;
        least + self.rng.below((most - least) as u64 + 1) as usize
    }
}

impl EndSlot {
    fn unused() -> EndSlot {
        EndSlot {
            host: HostId(0),
            owner: NOBODY,
            state: EndState::Gone,
            generation: 0,
            pipe: Pipe::default(),
        }
    }
}
