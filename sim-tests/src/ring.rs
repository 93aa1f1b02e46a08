//! Peers that pass a token round a ring: a server-to-server protocol for tests, so that the faults of links
//! between servers are felt and checked before servers are linked.
//!
//! A frame is `length u16, kind u8, hop u64`, then padding that follows from the hop, little-endian. Who gets
//! `TOKEN h` for the first time owns the token, answers `ACK h`, and passes `TOKEN h+1` on until that is
//! acknowledged, over as many streams as it takes.
//!
//! Invariant: hops are accepted in steps of one by the whole ring; a second token, or a frame that was not sent,
//! is a violation.

use natrix_runtime_sim::net::{End, HostId, NetEvent, Network, Notice, Read};
use natrix_runtime_sim::queue::{MILLISECOND, SECOND, Schedule, SimTime};

use crate::marks::{Mark, Marks};

/// Lets one peer look at its timers.
#[derive(Clone, Copy, Debug)]
pub struct RingEvent(pub u16);

/// Set in the owners of ends that belong to the ring.
pub const RING_BIT: u64 = 1 << 62;

const TOKEN: u8 = 1;
const ACK: u8 = 2;
const HEAD: usize = 11;
/// A peer that waits so long for an answer dials again.
const PATIENCE: u64 = 2 * SECOND;
const TICK: u64 = 20 * MILLISECOND;

#[derive(Debug)]
struct Peer {
    host: HostId,
    /// The highest hop that it accepted.
    accepted: u64,
    /// The hop that it has to pass on, until acknowledged.
    passing: Option<u64>,
    dialed: Option<End>,
    up: bool,
    /// When the token was last sent or the stream dialed.
    sent: SimTime,
    /// Whether the token was sent on the present stream.
    sent_here: bool,
    streams: Vec<Stream>,
}

#[derive(Debug)]
struct Stream {
    end: End,
    /// What was read and isn't a whole frame yet.
    read: Vec<u8>,
    /// What the socket hasn't taken yet.
    unwritten: Vec<u8>,
}

impl Stream {
    fn new(end: End) -> Stream {
        Stream { end, read: Vec::new(), unwritten: Vec::new() }
    }

    fn write<Q: Schedule<NetEvent>>(&mut self, queue: &mut Q, net: &mut Network, bytes: &[u8]) {
        self.unwritten.extend_from_slice(bytes);
        let taken = net.write(queue, self.end, &self.unwritten);
        self.unwritten.drain(..taken);
    }
}

/// All peers.
#[derive(Debug)]
pub struct Ring {
    peers: Vec<Peer>,
    hop: u64,
    /// What went wrong.
    pub violation: Option<String>,
}

impl Peer {
    fn stream(&mut self, end: End) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.end == end)
    }
}

fn padding(hop: u64) -> usize {
    (hop.wrapping_mul(0x9e37_79b9) >> 8) as usize % 700
}

fn frame(kind: u8, hop: u64) -> Vec<u8> {
    let length = HEAD + padding(hop);
    let mut frame = Vec::with_capacity(length);
    frame.extend_from_slice(&(length as u16).to_le_bytes());
    frame.push(kind);
    frame.extend_from_slice(&hop.to_le_bytes());
    frame.extend((HEAD..length).map(|index| (hop as usize * 7 + index * 13) as u8));
    frame
}

impl Ring {
    /// Makes a ring of one peer for each host; the first one holds the token.
    pub fn new(hosts: &[HostId]) -> Ring {
        let mut peers: Vec<Peer> = hosts
            .iter()
            .map(|host| Peer {
                host: *host,
                accepted: 0,
                passing: None,
                dialed: None,
                up: false,
                sent: SimTime(0),
                sent_here: false,
                streams: Vec::new(),
            })
            .collect();
        if let Some(first) = peers.first_mut() {
            first.passing = Some(1);
        }
        Ring { peers, hop: 0, violation: None }
    }

    /// Starts all peers.
    pub fn start<Q: Schedule<NetEvent> + Schedule<RingEvent>>(&mut self, queue: &mut Q, net: &mut Network) {
        for (index, peer) in self.peers.iter().enumerate() {
            net.set_listening(peer.host, true);
            queue.at(SimTime(0), RingEvent(index as u16));
        }
    }

    /// Returns how often the token was passed.
    pub fn hop(&self) -> u64 {
        self.hop
    }

    /// Returns how many peers there are.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Returns the stream that a peer dialed, so that faults can cut it.
    pub fn stream(&self, peer: usize) -> Option<End> {
        self.peers.get(peer).and_then(|peer| peer.dialed)
    }

    /// Looks at a peer's timers.
    pub fn tick<Q: Schedule<NetEvent> + Schedule<RingEvent>>(
        &mut self,
        queue: &mut Q,
        net: &mut Network,
        event: RingEvent,
        marks: &mut Marks,
    ) {
        let index = usize::from(event.0);
        let now = Schedule::<RingEvent>::now(queue);
        let next = self.peers[(index + 1) % self.peers.len()].host;
        let peer = &mut self.peers[index];
        if peer.passing.is_some() {
            match peer.dialed {
                None => {
                    let owner = RING_BIT | index as u64;
                    peer.dialed = Some(net.dial(queue, peer.host, next, owner));
                    (peer.up, peer.sent_here, peer.sent) = (false, false, now);
                }
                Some(end) if now - peer.sent > PATIENCE => {
                    net.reset(queue, end);
                    peer.dialed = None;
                    if peer.sent_here {
                        marks.reach(Mark::RingResent);
                    }
                }
                Some(end) if peer.up && !peer.sent_here => send_token(peer, queue, net, end, now),
                Some(_) => {}
            }
        }
        queue.at(now + TICK, event);
    }

    /// Hears about a stream of the ring.
    pub fn notice<Q: Schedule<NetEvent> + Schedule<RingEvent>>(
        &mut self,
        queue: &mut Q,
        net: &mut Network,
        notice: Notice,
        marks: &mut Marks,
    ) {
        let now = Schedule::<RingEvent>::now(queue);
        match notice {
            Notice::Accepted { host, end, .. } => {
                if let Some(index) = self.peers.iter().position(|peer| peer.host == host)
                    && net.set_owner(end, RING_BIT | index as u64)
                {
                    self.peers[index].streams.push(Stream::new(end));
                }
            }
            Notice::Connected(end, owner) => {
                let peer = &mut self.peers[(owner & 0xffff) as usize];
                if peer.dialed == Some(end) {
                    peer.up = true;
                    peer.streams.push(Stream::new(end));
                    send_token(peer, queue, net, end, now);
                }
            }
            Notice::Refused(end, owner) | Notice::Broken(end, owner) => {
                self.drop_stream((owner & 0xffff) as usize, end, marks);
            }
            Notice::Readable(end, owner) => self.read(queue, net, (owner & 0xffff) as usize, end, marks),
            Notice::Writable(end, owner) => {
                if let Some(stream) = self.peers[(owner & 0xffff) as usize].stream(end) {
                    stream.write(queue, net, &[]);
                }
            }
        }
    }

    fn drop_stream(&mut self, index: usize, end: End, marks: &mut Marks) {
        let peer = &mut self.peers[index];
        peer.streams.retain(|stream| stream.end != end);
        if peer.dialed == Some(end) {
            peer.dialed = None;
            if peer.sent_here && peer.passing.is_some() {
                marks.reach(Mark::RingResent);
            }
        }
    }

    fn read<Q: Schedule<NetEvent> + Schedule<RingEvent>>(
        &mut self,
        queue: &mut Q,
        net: &mut Network,
        index: usize,
        end: End,
        marks: &mut Marks,
    ) {
        let mut block = [0; 2048];
        loop {
            let read = net.read(queue, end, &mut block);
            let Some(stream) = self.peers[index].stream(end) else { return };
            match read {
                Read::Bytes(n) => stream.read.extend_from_slice(&block[..n]),
                Read::Nothing => break,
                Read::Finished => {
                    net.close(queue, end);
                    return self.drop_stream(index, end, marks);
                }
            }
        }
        while let Some((kind, hop)) = self.next_frame(index, end) {
            self.hear(queue, net, index, end, (kind, hop), marks);
        }
    }

    fn next_frame(&mut self, index: usize, end: End) -> Option<(u8, u64)> {
        let buffer = &mut self.peers[index].stream(end)?.read;
        let length = usize::from(u16::from_le_bytes(*buffer.first_chunk()?));
        if length < HEAD {
            self.violation = Some(format!("peer {index}: frame of {length} bytes"));
            return None;
        }
        let bytes: Vec<u8> = buffer.get(..length)?.to_vec();
        buffer.drain(..length);
        let (kind, hop) = (bytes[2], bytes[3..].first_chunk().map_or(0, |hop| u64::from_le_bytes(*hop)));
        if bytes != frame(kind, hop) {
            self.violation = Some(format!("peer {index}: a frame that nobody sent"));
            return None;
        }
        Some((kind, hop))
    }

    fn hear<Q: Schedule<NetEvent> + Schedule<RingEvent>>(
        &mut self,
        queue: &mut Q,
        net: &mut Network,
        index: usize,
        end: End,
        (kind, hop): (u8, u64),
        marks: &mut Marks,
    ) {
        let peers = self.peers.len() as u64;
        let peer = &mut self.peers[index];
        match kind {
            TOKEN => {
                if hop > peer.accepted {
                    if hop != self.hop + 1 {
                        self.violation =
                            Some(format!("peer {index} accepts hop {hop} when the ring is at {}", self.hop));
                    }
                    self.hop = hop;
                    if hop.is_multiple_of(peers) {
                        marks.reach(Mark::RingLap);
                    }
                    (peer.accepted, peer.passing, peer.sent_here) = (hop, Some(hop + 1), false);
                }
                if let Some(stream) = peer.stream(end) {
                    stream.write(queue, net, &frame(ACK, hop));
                }
            }
            ACK => {
                if peer.passing == Some(hop) {
                    peer.passing = None;
                }
            }
            kind => self.violation = Some(format!("peer {index}: frame of kind {kind}")),
        }
    }
}

fn send_token<Q: Schedule<NetEvent>>(
    peer: &mut Peer,
    queue: &mut Q,
    net: &mut Network,
    end: End,
    now: SimTime,
) {
    if let Some(hop) = peer.passing
        && let Some(stream) = peer.stream(end)
    {
        stream.write(queue, net, &frame(TOKEN, hop));
        (peer.sent, peer.sent_here) = (now, true);
    }
}
