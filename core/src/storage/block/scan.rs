//! Record after record, and the next one behind bad bytes.
//!
//! The next record is where the head says, if its check holds: the record alone is lost then. If it doesn't hold, each
//! offset behind it is tried for a record that verifies: one that says its sequence, or one with a sequence and a base that
//! could stand there. Head check and checksum are 48 bits together, and the seed is the owner's secret.

use super::frame::Frame;
use super::mark::{Mark, decode_deleted, decode_skipped};
use super::place::{Context, Place};
use super::record::{Head, Kind, MIN_MESSAGE, Record};
use crate::planted::{self, Bug};

/// How many sequences are tried at an offset; behind a longer gap the next mark or frame says where we are.
const MAX_TRIES: u64 = 512;

/// How far from one mark to the next in a block, in bytes: what a search can cost.
pub const MARK_EVERY: u32 = 64 * 1024;

/// How many bases of times a search knows.
const MAX_BASES: usize = 8;

/// What a scan finds, with where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Where it starts.
    pub offset: u32,
    /// How long it is, in bytes.
    pub len: u32,
    /// What it is.
    pub item: Item<'a>,
}

/// What stands at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A message, verified.
    Message(Record<'a>),
    /// A mark.
    Mark(Mark),
    /// Ranges that are gone.
    Deleted(Vec<(u64, u64)>),
    /// Sequences that never had messages.
    Skipped {
        /// The first.
        first: u64,
        /// How many.
        count: u64,
    },
    /// A group of records, whose bytes are whole; whether its seal holds is for the keys to tell.
    Frame(Frame<'a>),
    /// Bytes that don't verify.
    Bad(Bad),
}

/// What is known of bytes that don't verify.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bad {
    /// The sequences that were there, both ends included; `None` if none were, or while it is open.
    pub sequences: Option<(u64, u64)>,
    /// Whether what stands right behind it doesn't say where the lost sequences end: the next message does, or the next
    /// block.
    pub open: bool,
}

/// Walks the records of a block, or of an opened frame.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    bytes: &'a [u8],
    place: Place,
    at: usize,
    context: Context,
    /// How many messages may have been lost since the context was sure.
    slack: u64,
    /// What times may count from behind damage; empty until it was looked for.
    bases: Vec<i64>,
}

impl<'a> Scan<'a> {
    /// Starts at offset `at` of `bytes`, which are all of what the offsets count in.
    pub fn new(bytes: &'a [u8], place: Place, at: usize, context: Context) -> Self {
        // Offsets are 32 bits; what lies behind them can't have been written by us.
        let bytes = &bytes[..bytes.len().min(u32::MAX as usize)];
        Scan { bytes, place, at: at.min(bytes.len()), context, slack: 0, bases: Vec::new() }
    }

    /// Returns what the next record is relative to.
    pub fn context(&self) -> Context {
        self.context
    }

    /// Returns where the next record starts.
    pub fn offset(&self) -> u32 {
        self.at as u32
    }

    /// Returns the next thing, `None` at the end of the bytes.
    #[allow(clippy::should_implement_trait, reason = "an iterator can't be asked for its context in between")]
    pub fn next(&mut self) -> Option<Found<'a>> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let (sequence, base) = (self.context.next_sequence, self.context.base_time);
        if let Some((found, context)) = self.verified(self.at, sequence, base) {
            return Some(self.step(found, context));
        }
        if self.slack > 0
            && let Some((found, context)) = self.try_at(self.at, self.slack)
        {
            return Some(self.step(found, context));
        }
        Some(self.bad())
    }

    fn step(&mut self, found: Found<'a>, context: Context) -> Found<'a> {
        if !matches!(found.item, Item::Deleted(_) | Item::Skipped { .. }) {
            self.slack = 0;
        }
        self.context = context;
        self.at += found.len as usize;
        found
    }

    /// Reads what verifies at `at` if its sequence (where it doesn't say) and base are these.
    fn verified(&self, at: usize, sequence: u64, base: i64) -> Option<(Found<'a>, Context)> {
        let head = Head::parse(&self.bytes[at..])?;
        self.verified_head(&head, at, sequence, base)
    }

    fn verified_head(
        &self,
        head: &Head,
        at: usize,
        sequence: u64,
        base: i64,
    ) -> Option<(Found<'a>, Context)> {
        let (bytes, offset) = (&self.bytes[at..], at as u32);
        let seed = match head.kind {
            Kind::Message => head.sequence.unwrap_or(sequence),
            _ => 0,
        };
        if !head.holds(&self.place, offset, seed, base)
            || !head.verifies(bytes, &self.place, offset, seed, base)
        {
            return None;
        }
        let body = head.body(bytes);
        let mut context = self.context;
        let item = match head.kind {
            Kind::Message => {
                context = Context { next_sequence: seed.checked_add(1)?, base_time: base };
                Item::Message(head.message(bytes, seed, base))
            }
            Kind::Mark => {
                let mark = Mark::decode(body).ok()?;
                context = mark.context();
                Item::Mark(mark)
            }
            Kind::Deleted => Item::Deleted(decode_deleted(body).ok()?),
            Kind::Skipped => {
                let (first, count) = decode_skipped(body).ok()?;
                Item::Skipped { first, count }
            }
            Kind::Frame => {
                let frame = Frame::decode(body)?;
                context.next_sequence = frame.next_sequence;
                Item::Frame(frame)
            }
        };
        Some((Found { offset, len: head.total as u32, item }, context))
    }

    /// Returns the bad bytes at `at` and goes on behind them.
    fn bad(&mut self) -> Found<'a> {
        let start = self.at;
        let (sequence, base) = (self.context.next_sequence, self.context.base_time);
        let found =
            |end: usize, bad| Found { offset: start as u32, len: (end - start) as u32, item: Item::Bad(bad) };
        if planted::bug(Bug::DamageDropsRestOfBlock) {
            self.at = self.bytes.len();
            return found(self.at, Bad { sequences: None, open: true });
        }
        // The head holds: the length does, and the sequence is known. A check of 16 bits can hold by chance, so what
        // stands behind it has to agree.
        if let Some(head) = Head::parse(&self.bytes[start..])
            && head.kind == Kind::Message
            && let lost = head.sequence.unwrap_or(sequence)
            && head.holds(&self.place, start as u32, lost, base)
            && let end = start + head.total
            && (end == self.bytes.len() || self.verified(end, lost.wrapping_add(1), base).is_some())
        {
            self.at = end;
            self.context.next_sequence = lost.wrapping_add(1);
            return found(end, Bad { sequences: Some((lost, lost)), open: false });
        }
        self.find_bases(start);
        for at in start + 1..self.bytes.len() {
            let most = self.slack + ((at - start) / MIN_MESSAGE) as u64;
            if let Some((next, context)) = self.try_at(at, most) {
                // What comes next says its sequence or has one that verifies; a mark says the one behind it.
                let first = match &next.item {
                    Item::Message(record) => Some(record.sequence),
                    Item::Frame(frame) => Some(frame.first_sequence),
                    Item::Mark(mark) => Some(mark.next_sequence),
                    _ => None,
                };
                let open = first.is_none();
                let last = first.and_then(|first| first.checked_sub(1));
                let sequences = last.filter(|last| *last >= sequence).map(|last| (sequence, last));
                self.at = at;
                self.slack = if open { most } else { 0 };
                self.context.base_time = context.base_time;
                self.context.next_sequence = first.unwrap_or(sequence);
                return found(at, Bad { sequences, open });
            }
        }
        self.at = self.bytes.len();
        found(self.at, Bad { sequences: None, open: true })
    }

    /// Returns what verifies at `at`, `most` messages at most having been lost before it.
    fn try_at(&self, at: usize, most: u64) -> Option<(Found<'a>, Context)> {
        let head = Head::parse(&self.bytes[at..])?;
        if head.kind != Kind::Message {
            return self.verified_head(&head, at, 0, self.context.base_time);
        }
        let first = self.context.next_sequence;
        let tries = if head.sequence.is_some() { 0 } else { most.min(MAX_TRIES) };
        self.bases.iter().find_map(|base| {
            (0..=tries)
                .filter_map(|more| first.checked_add(more))
                .find_map(|sequence| self.verified_head(&head, at, sequence, *base))
        })
    }

    /// Finds what times may count from behind `start`: what they did before, and what the marks behind say.
    fn find_bases(&mut self, start: usize) {
        if !self.bases.is_empty() {
            if !self.bases.contains(&self.context.base_time) {
                self.bases.insert(0, self.context.base_time);
                self.bases.truncate(MAX_BASES);
            }
            return;
        }
        let mut bases = vec![self.context.base_time];
        let mut at = start;
        while at < self.bytes.len() && bases.len() < MAX_BASES {
            if self.bytes[at] == Kind::Mark as u8
                && let Some((Found { item: Item::Mark(mark), len, .. }, _)) = self.verified(at, 0, 0)
            {
                for base in [mark.previous_base_time, mark.base_time] {
                    if !bases.contains(&base) {
                        bases.push(base);
                    }
                }
                at += len as usize;
                continue;
            }
            at += 1;
        }
        self.bases = bases;
    }
}

/// Returns the frame at the front of `bytes`, which an index says to stand at `offset`, if its checksum holds.
pub fn frame_at<'a>(bytes: &'a [u8], place: &Place, offset: u32) -> Option<Frame<'a>> {
    let head = Head::parse(bytes).filter(|head| head.kind == Kind::Frame)?;
    let whole = head.holds(place, offset, 0, 0) && head.verifies(bytes, place, offset, 0, 0);
    whole.then(|| Frame::decode(head.body(bytes))).flatten()
}
