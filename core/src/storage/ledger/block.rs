//! A run of sequences that are stored together: where each message is, in 20 bytes.

use std::collections::BTreeMap;

use super::subjects::SubjectId;
use crate::time::WallTime;

/// No message.
const NOBODY: SubjectId = SubjectId::MAX;

/// What is known of one sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) offset: u32,
    pub(super) size: u32,
    subject: SubjectId,
    /// The time in two halves, so that a slot is 20 bytes.
    time: [u32; 2],
}

impl Slot {
    pub(super) const EMPTY: Slot = Slot { offset: 0, size: 0, subject: NOBODY, time: [0; 2] };

    pub(super) fn new(offset: u32, size: u32, subject: SubjectId, time: WallTime) -> Self {
        let time = time.as_unix_nanos() as u64;
        Slot { offset, size, subject, time: [time as u32, (time >> 32) as u32] }
    }

    pub(super) fn subject(&self) -> Option<SubjectId> {
        (self.subject != NOBODY).then_some(self.subject)
    }

    pub(super) fn time(&self) -> WallTime {
        WallTime::from_unix_nanos((u64::from(self.time[1]) << 32 | u64::from(self.time[0])) as i64)
    }
}

/// The slots of a block, and, once somebody looked for subjects in it, which of them each subject has.
#[derive(Clone, Debug, Default)]
pub(super) struct BlockIndex {
    pub(super) slots: Vec<Slot>,
    by_subject: Option<BTreeMap<SubjectId, Vec<u32>>>,
}

impl BlockIndex {
    /// Returns the slots of one subject, in order. Made at the first question, kept up to date from then on.
    pub(super) fn of_subject(&mut self, subject: SubjectId) -> &[u32] {
        let slots = &self.slots;
        let by_subject = self.by_subject.get_or_insert_with(|| {
            let mut all: BTreeMap<SubjectId, Vec<u32>> = BTreeMap::new();
            for (at, slot) in slots.iter().enumerate() {
                if let Some(subject) = slot.subject() {
                    all.entry(subject).or_default().push(at as u32);
                }
            }
            all
        });
        by_subject.get(&subject).map_or(&[], Vec::as_slice)
    }

    pub(super) fn push(&mut self, slot: Slot) {
        if let (Some(by_subject), Some(subject)) = (&mut self.by_subject, slot.subject()) {
            by_subject.entry(subject).or_default().push(self.slots.len() as u32);
        }
        self.slots.push(slot);
    }

    pub(super) fn take(&mut self, at: usize) -> Slot {
        let slot = std::mem::replace(&mut self.slots[at], Slot::EMPTY);
        if let (Some(by_subject), Some(subject)) = (&mut self.by_subject, slot.subject())
            && let Some(slots) = by_subject.get_mut(&subject)
            && let Ok(place) = slots.binary_search(&(at as u32))
        {
            slots.remove(place);
            if slots.is_empty() {
                by_subject.remove(&subject);
            }
        }
        slot
    }
}

/// A block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) number: u32,
    /// The sequence of its first slot.
    pub(super) first: u64,
    /// How many sequences it has, with and without messages.
    pub(super) len: u64,
    pub(super) messages: u64,
    /// `None` while it is not in memory.
    pub(super) index: Option<BlockIndex>,
}

impl Block {
    pub(super) fn new(number: u32, first: u64) -> Self {
        Block { number, first, len: 0, messages: 0, index: Some(BlockIndex::default()) }
    }

    /// The sequence behind its last slot.
    pub(super) fn end(&self) -> u64 {
        self.first + self.len
    }
}
