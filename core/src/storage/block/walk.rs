//! A whole block, from its bytes: messages also from frames, what is lost, and where a torn tail is to be cut.

use super::super::Position;
use super::frame::{Frame, FrameError};
use super::header::{HEADER_LEN, Header, HeaderError};
use super::key::{Keys, SealError};
use super::mark::Mark;
use super::place::{Context, Place};
use super::record::Record;
use super::scan::{Found, Item, Scan};
use crate::planted::{self, Bug};

/// Where a message is found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Where its record starts, or the frame that it is in.
    pub offset: u32,
    /// How long that is, in bytes.
    pub len: u32,
    /// Whether it is in a frame.
    pub framed: bool,
}

impl At {
    /// Returns it as an index has it: the offset, and whether that is a frame's in the highest bit.
    pub fn place(&self) -> u32 {
        super::index::place(self.offset, self.framed)
    }
}

/// Takes what a block holds, in order.
pub trait Visitor {
    /// A message, verified.
    fn message(&mut self, at: At, record: &Record<'_>);
    /// These sequences are gone, both ends included.
    fn deleted(&mut self, first: u64, last: u64);
    /// These sequences never had messages.
    fn skipped(&mut self, first: u64, count: u64);
}

/// A place in a block that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it starts.
    pub offset: u32,
    /// How long it is, in bytes.
    pub len: u32,
    /// The sequences that are lost, both ends included; `None` if no message was there.
    pub sequences: Option<(u64, u64)>,
    /// Whether more may be lost behind them: nothing in the block says where they end.
    pub open: bool,
}

/// What a walk found besides messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// What the header said, if it is whole.
    pub header: Option<Header>,
    /// Why it isn't.
    pub header_error: Option<HeaderError>,
    /// The newest mark.
    pub mark: Option<Mark>,
    /// Where the bytes behind the newest mark start: what stands before it is what `applied` says.
    pub mark_end: u32,
    /// The highest position of which a mark says that what stands before it is applied.
    pub applied: Position,
    /// Where the good bytes end: the file's length is to be this.
    pub end: u32,
    /// How many bytes lie behind `end`: a torn tail, of which nothing was ever said to be synced.
    pub torn: u32,
    /// What a record written at `end` is relative to.
    pub context: Context,
    /// What is lost, in order.
    pub damage: Vec<Damage>,
}

/// Why a block can't be walked. Nothing of it may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// It is another stream's, or another block.
    #[error("block {expected}: {error}")]
    Foreign {
        /// What it should be.
        expected: u32,
        /// What it is.
        error: HeaderError,
    },
    /// It is sealed with another key.
    #[error("block {block}: sealed with a key of epoch {epoch} that is not the one given")]
    WrongKey {
        /// Which.
        block: u32,
        /// The epoch.
        epoch: u64,
    },
}

/// Walks the block at `place`. `hint` is what its first record is taken to be relative to where neither header nor mark
/// says; `synced` is how many of its bytes somebody else (its index, the journal) knows to be synced.
///
/// # Errors
///
/// [`WalkError`]; the visitor may have been told of some messages then.
pub fn walk(
    bytes: &[u8],
    place: Place,
    hint: Context,
    synced: u32,
    keys: &Keys,
    visitor: &mut dyn Visitor,
) -> Result<Walked, WalkError> {
    let mut walked = Walked::default();
    let mut context = hint;
    match Header::decode(bytes, place.owner(), place.block()) {
        Ok(header) => {
            context = Context { next_sequence: header.first_sequence, base_time: header.base_time };
            walked.header = Some(header);
        }
        Err(error @ HeaderError::Foreign { .. }) => {
            return Err(WalkError::Foreign { expected: place.block(), error });
        }
        Err(error) => walked.header_error = Some(error),
    }
    let mut walk = Walk {
        place,
        keys,
        synced,
        surveyed: false,
        opened: false,
        pending: None,
        expected: context.next_sequence,
        walked,
        visitor,
    };
    let mut scan = Scan::new(bytes, place, HEADER_LEN, context);
    loop {
        let before = scan.context();
        let Some(found) = scan.next() else { break };
        if matches!(found.item, Item::Bad(_)) && walk.is_torn(&scan, bytes.len(), found.offset) {
            walk.walked.end = found.offset;
            walk.walked.context = before;
            break;
        }
        walk.take(&found)?;
        walk.walked.end = found.offset + found.len;
        walk.walked.context = scan.context();
    }
    let mut walked = walk.walked;
    walked.end = walked.end.max(HEADER_LEN.min(bytes.len()) as u32);
    if walked.end as usize == HEADER_LEN.min(bytes.len()) && walked.mark.is_none() {
        walked.context = context;
    }
    if planted::bug(Bug::BlockTailCutTooShort) && (walked.end as usize) < bytes.len() {
        walked.end += 1;
    }
    if planted::bug(Bug::BlockTailCutTooLong) && (walked.end as usize) < bytes.len() {
        walked.end = walked.end.saturating_sub(16).max(HEADER_LEN as u32);
    }
    walked.torn = bytes.len() as u32 - walked.end;
    Ok(walked)
}

struct Walk<'a> {
    place: Place,
    keys: &'a Keys,
    synced: u32,
    /// Whether `synced` has what all marks say.
    surveyed: bool,
    /// Whether a seal has held.
    opened: bool,
    /// The damage of which it isn't known which sequences were lost.
    pending: Option<usize>,
    /// The sequence after the last that is accounted for.
    expected: u64,
    walked: Walked,
    visitor: &'a mut dyn Visitor,
}

impl Walk<'_> {
    /// Returns whether bad bytes at `offset` are a tail that was never said to be synced; `scan` stands behind them.
    fn is_torn(&mut self, scan: &Scan<'_>, len: usize, offset: u32) -> bool {
        if offset >= self.synced && !self.surveyed {
            let mut survey = scan.clone();
            while let Some(found) = survey.next() {
                if let Item::Mark(mark) = found.item {
                    // A mark can only know of bytes before itself.
                    self.synced = self.synced.max(mark.synced.min(found.offset));
                }
            }
            self.surveyed = true;
        }
        offset >= self.synced || offset as usize >= len
    }

    fn take(&mut self, found: &Found<'_>) -> Result<(), WalkError> {
        match &found.item {
            Item::Message(record) => {
                let at = At { offset: found.offset, len: found.len, framed: false };
                self.message(at, record);
            }
            Item::Mark(mark) => {
                self.resolve(mark.next_sequence);
                self.synced = self.synced.max(mark.synced.min(found.offset));
                self.walked.applied = self.walked.applied.max(mark.applied);
                self.walked.mark = Some(*mark);
                self.walked.mark_end = found.offset + found.len;
                self.expected = self.expected.max(mark.next_sequence);
            }
            Item::Deleted(ranges) => {
                for (first, last) in ranges {
                    if !planted::bug(Bug::TombstoneLost) {
                        self.visitor.deleted(*first, *last);
                    }
                }
            }
            Item::Skipped { first, count } => {
                self.visitor.skipped(*first, *count);
                self.resolve(*first);
                self.expected = self.expected.max(first.saturating_add(*count));
            }
            Item::Frame(frame) => self.frame(found, frame)?,
            Item::Bad(bad) => self.damage(found.offset, found.len, bad.sequences, bad.open),
        }
        Ok(())
    }

    fn message(&mut self, at: At, record: &Record<'_>) {
        self.resolve(record.sequence);
        self.expected = record.sequence.saturating_add(1);
        match record.erased {
            true => self.visitor.deleted(record.sequence, record.sequence),
            false => self.visitor.message(at, record),
        }
    }

    fn frame(&mut self, found: &Found<'_>, frame: &Frame<'_>) -> Result<(), WalkError> {
        self.resolve(frame.first_sequence);
        let all = frame.next_sequence.checked_sub(1).filter(|last| *last >= frame.first_sequence);
        let all = all.map(|last| (frame.first_sequence, last));
        let records = match frame.open(&self.place, found.offset, self.keys) {
            Ok(records) => records,
            // Whole bytes under a seal that doesn't hold: it is the key, unless the key has opened another.
            Err(FrameError::Seal(SealError::Broken)) if self.opened => {
                self.damage(found.offset, found.len, all, false);
                return Ok(());
            }
            Err(FrameError::Seal(_)) => {
                return Err(WalkError::WrongKey { block: self.place.block(), epoch: frame.key_epoch });
            }
            Err(FrameError::Compression) => {
                self.damage(found.offset, found.len, all, false);
                return Ok(());
            }
        };
        self.opened = true;
        let at = At { offset: found.offset, len: found.len, framed: true };
        let mut inner = Scan::new(&records, self.place, 0, frame.context());
        while let Some(inner_found) = inner.next() {
            match inner_found.item {
                Item::Message(record) => self.message(at, &record),
                // Sealed and whole, and yet not what we write in frames.
                _ => {
                    self.damage(
                        found.offset,
                        found.len,
                        Some((self.expected, frame.next_sequence.saturating_sub(1))),
                        false,
                    );
                    break;
                }
            }
        }
        self.expected = frame.next_sequence;
        Ok(())
    }

    fn damage(&mut self, offset: u32, len: u32, sequences: Option<(u64, u64)>, open: bool) {
        if let Some((_, last)) = sequences {
            self.resolve(last.saturating_add(1).min(sequences.map_or(0, |(first, _)| first)));
            self.expected = self.expected.max(last.saturating_add(1));
        }
        if open && self.pending.is_none() {
            self.pending = Some(self.walked.damage.len());
        }
        self.walked.damage.push(Damage { offset, len, sequences, open });
    }

    /// Learns that `sequence` comes next: what was open ends before it.
    fn resolve(&mut self, sequence: u64) {
        let Some(damage) = self.pending.take().and_then(|at| self.walked.damage.get_mut(at)) else { return };
        damage.open = false;
        damage.sequences =
            sequence.checked_sub(1).filter(|last| *last >= self.expected).map(|last| (self.expected, last));
    }
}
