//! A shard's sockets: which slot is whose, and which wait to be read, written or mourned.

use natrix_core::ids::ConnId;
use natrix_core::rng::Rng;

use crate::net::{End, NetEvent, Network};
use crate::queue::{Schedule, SimTime};

/// Whether a socket has bytes waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// None.
    Idle,
    /// Some, to be written when the batch is over.
    Dirty,
    /// Some, and the socket takes no more for now.
    Blocked,
}

#[derive(Debug)]
struct Conn {
    end: Option<End>,
    generation: u32,
    writing: Writing,
    /// In `unwritten`.
    listed: bool,
    /// May be read from.
    reading: bool,
    /// Has something to be read, as far as known.
    readable: bool,
    /// In `readable`.
    queued: bool,
}

/// The last bytes of a connection that the shard has forgotten.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) end: End,
    pub(super) bytes: Vec<u8>,
    pub(super) written: usize,
    pub(super) deadline: SimTime,
}

#[derive(Debug, Default)]
pub(super) struct Conns {
    slots: Vec<Conn>,
    free: Vec<u32>,
    open: usize,
    readable: Vec<u32>,
    /// Slots that are not idle.
    unwritten: Vec<u32>,
    dirty: usize,
    broken: Vec<(ConnId, End)>,
    closing: Vec<Closing>,
    turn: usize,
}

impl Conns {
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Returns all ends, for a process that dies.
    pub(super) fn ends(&mut self) -> Vec<End> {
        let open = self.slots.iter().filter_map(|conn| conn.end);
        open.chain(self.closing.iter().map(|closing| closing.end)).collect()
    }

    pub(super) fn open_slot(&mut self, end: End) -> ConnId {
        self.open += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Conn {
                end: None,
                generation: 0,
                writing: Writing::Idle,
                listed: false,
                reading: false,
                readable: false,
                queued: false,
            });
            self.slots.len() as u32 - 1
        });
        let conn = &mut self.slots[slot as usize];
        conn.generation += 1;
        // Nothing is read before the shard has heard of it.
        (conn.end, conn.writing, conn.reading, conn.readable) = (Some(end), Writing::Idle, false, false);
        ConnId { slot, generation: conn.generation }
    }

    /// Forgets a connection and returns its end; `None` if there is no such connection.
    pub(super) fn free(&mut self, conn: ConnId) -> Option<End> {
        let slot = self.slot(conn)?;
        let end = slot.end.take();
        if slot.writing == Writing::Dirty {
            self.dirty -= 1;
        }
        self.slots[conn.slot as usize].writing = Writing::Idle;
        self.open -= 1;
        self.broken.retain(|(broken, _)| *broken != conn);
        self.free.push(conn.slot);
        end
    }

    pub(super) fn is_open(&self, conn: ConnId) -> bool {
        self.slots
            .get(conn.slot as usize)
            .is_some_and(|slot| slot.end.is_some() && slot.generation == conn.generation)
    }

    pub(super) fn get(&self, slot: usize) -> Option<(ConnId, End)> {
        let conn = self.slots.get(slot)?;
        Some((ConnId { slot: slot as u32, generation: conn.generation }, conn.end?))
    }

    pub(super) fn mark_readable(&mut self, slot: usize, end: End) -> bool {
        let Some(conn) = self.slots.get_mut(slot).filter(|conn| conn.end == Some(end)) else { return false };
        conn.readable = true;
        if conn.reading && !conn.queued {
            conn.queued = true;
            self.readable.push(slot as u32);
        }
        true
    }

    pub(super) fn mark_writable(&mut self, slot: usize, end: End) -> bool {
        // What is closing tries again at every step.
        if self.closing.iter().any(|closing| closing.end == end) {
            return true;
        }
        let Some(conn) = self.slots.get_mut(slot).filter(|conn| conn.end == Some(end)) else { return false };
        if conn.writing == Writing::Blocked {
            conn.writing = Writing::Dirty;
            self.dirty += 1;
        }
        true
    }

    pub(super) fn mark_broken(&mut self, slot: usize, end: End) -> bool {
        self.closing.retain(|closing| closing.end != end);
        let Some((conn, _)) = self.get(slot).filter(|(_, open)| *open == end) else { return false };
        if !self.broken.iter().any(|(broken, _)| *broken == conn) {
            self.broken.push((conn, end));
        }
        true
    }

    pub(super) fn mark_dirty(&mut self, conn: ConnId) -> bool {
        let Some(slot) = self.slot(conn) else { return false };
        if slot.writing == Writing::Idle {
            self.set_writing(conn.slot as usize, Writing::Dirty);
        }
        true
    }

    pub(super) fn set_writing(&mut self, slot: usize, writing: Writing) {
        let conn = &mut self.slots[slot];
        self.dirty -= usize::from(conn.writing == Writing::Dirty);
        self.dirty += usize::from(writing == Writing::Dirty);
        conn.writing = writing;
        if writing != Writing::Idle && !conn.listed {
            conn.listed = true;
            self.unwritten.push(slot as u32);
        }
    }

    pub(super) fn set_reading(&mut self, conn: ConnId, reading: bool) -> bool {
        let Some(slot) = self.slot(conn) else { return false };
        slot.reading = reading;
        if reading
            && slot.readable
            && let Some(end) = slot.end
        {
            self.mark_readable(conn.slot as usize, end);
        }
        true
    }

    pub(super) fn no_more_to_read(&mut self, conn: ConnId) {
        if let Some(slot) = self.slot(conn) {
            slot.readable = false;
            if slot.queued {
                slot.queued = false;
                self.readable.retain(|queued| *queued != conn.slot);
            }
        }
    }

    pub(super) fn has_readable(&self) -> bool {
        !self.readable.is_empty()
    }

    pub(super) fn has_dirty(&self) -> bool {
        self.dirty > 0
    }

    pub(super) fn has_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// Picks a connection to read from; it stays listed until it turns out to have nothing.
    pub(super) fn pick_readable(&mut self, rng: &mut Rng) -> Option<(ConnId, End)> {
        while !self.readable.is_empty() {
            let index = rng.below(self.readable.len() as u64) as usize;
            let slot = self.readable[index] as usize;
            match self.get(slot) {
                Some(found) if self.slots[slot].reading && self.slots[slot].readable => return Some(found),
                _ => {
                    self.slots[slot].queued = false;
                    self.readable.swap_remove(index);
                }
            }
        }
        None
    }

    pub(super) fn pick_dirty(&mut self, rng: &mut Rng) -> Option<usize> {
        if self.dirty == 0 {
            return None;
        }
        let start = rng.below(self.unwritten.len() as u64) as usize;
        let len = self.unwritten.len();
        let index = (start..len).chain(0..start);
        let found = index.map(|index| self.unwritten[index] as usize);
        found.into_iter().find(|slot| self.slots[*slot].writing == Writing::Dirty)
    }

    pub(super) fn pop_broken(&mut self) -> Option<(ConnId, End)> {
        self.broken.pop()
    }

    /// Returns the next of the connections with bytes waiting, each in its turn.
    pub(super) fn next_unwritten(&mut self) -> Option<ConnId> {
        while !self.unwritten.is_empty() {
            self.turn = (self.turn + 1) % self.unwritten.len();
            let slot = self.unwritten[self.turn] as usize;
            match self.get(slot) {
                Some((conn, _)) if self.slots[slot].writing != Writing::Idle => return Some(conn),
                _ => {
                    self.slots[slot].listed = false;
                    self.unwritten.swap_remove(self.turn);
                }
            }
        }
        None
    }

    pub(super) fn close_later(&mut self, closing: Closing) {
        self.closing.push(closing);
    }

    pub(super) fn closing_deadline(&self) -> SimTime {
        self.closing.iter().map(|closing| closing.deadline).min().unwrap_or(SimTime::MAX)
    }

    /// Writes more of the last bytes, and closes what is through or late.
    pub(super) fn expire_closing<Q: Schedule<NetEvent>>(&mut self, net: &mut Network, queue: &mut Q) {
        let now = queue.now();
        self.closing.retain_mut(|closing| {
            closing.written += net.write(queue, closing.end, &closing.bytes[closing.written..]);
            let over = closing.written == closing.bytes.len();
            match (over, now >= closing.deadline) {
                (true, _) => net.close(queue, closing.end),
                (false, true) => net.reset(queue, closing.end),
                (false, false) => return true,
            }
            false
        });
    }

    fn slot(&mut self, conn: ConnId) -> Option<&mut Conn> {
        let slot = self.slots.get_mut(conn.slot as usize)?;
        (slot.end.is_some() && slot.generation == conn.generation).then_some(slot)
    }
}
