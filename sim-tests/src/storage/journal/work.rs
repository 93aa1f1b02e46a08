//! What the owners of a journal do: append, cover, be forgotten; in bursts, and not at all for a while.

use std::collections::VecDeque;

use bytes::Bytes;
use natrix_core::rng::Rng;
use natrix_core::storage::journal::Refused;
use natrix_core::storage::{OwnerId, Position};

use super::Run;
use super::model::Entry;
use crate::storage::report::{Promise, Violation};

/// How owners work in one life.
#[derive(Debug)]
pub(super) struct Workload {
    /// How many owners there are.
    population: u64,
    /// The first of them has this many of eight entries.
    hot_of_eight: u64,
    owners: Vec<OwnerId>,
    /// How many deeds there are at most between two disk operations.
    eagerness: u64,
    sizes: &'static [usize],
    /// The longest entry that fits.
    longest: usize,
    /// Turns without a deed that are left.
    quiet: u64,
    /// Whom the journal asked to cover, and through where.
    pub asked: VecDeque<(OwnerId, Position)>,
    /// How promptly they do, in eighths of the turns.
    promptness: u64,
}

impl Workload {
    /// The length of what a segment and a batch say of themselves, and an entry's header.
    const OVERHEAD: usize = 1024 + 64 + 28;

    pub(super) fn draw(rng: &mut Rng, segment_size: u32) -> Workload {
        const SIZES: [&[usize]; 4] = [&[7, 60, 128, 700], &[0, 1, 30], &[128], &[100, 900, 2000]];
        Workload {
            population: [1, 3, 20, 200][rng.below(4) as usize],
            hot_of_eight: [0, 4, 7][rng.below(3) as usize],
            owners: Vec::new(),
            eagerness: [2, 4, 12][rng.below(3) as usize],
            sizes: SIZES[rng.below(4) as usize],
            longest: segment_size as usize - Self::OVERHEAD,
            quiet: 0,
            asked: VecDeque::new(),
            promptness: [1, 4, 8][rng.below(3) as usize],
        }
    }

    fn owner(&mut self, rng: &mut Rng) -> OwnerId {
        let hot = !self.owners.is_empty() && rng.chance(self.hot_of_eight, 8);
        let index = if hot { 0 } else { rng.below(self.population) as usize };
        while self.owners.len() <= index {
            self.owners.push(OwnerId(rng.next_u64()));
        }
        self.owners[index]
    }
}

impl Run<'_> {
    /// Does what comes to an owner's mind before the next disk operation.
    pub(super) fn work(&mut self, workload: &mut Workload) -> Result<(), Violation> {
        if let Some((owner, through)) =
            workload.asked.pop_front_if(|_| self.rng.chance(workload.promptness, 8))
            && !self.model.is_forgotten(owner)
        {
            self.cover(owner, through);
        }
        if workload.quiet > 0 {
            workload.quiet -= 1;
            return Ok(());
        }
        if self.rng.chance(1, 40) {
            workload.quiet = self.rng.below(25);
        }
        for _ in 0..self.rng.below(workload.eagerness) {
            self.deed(workload)?;
        }
        Ok(())
    }

    fn cover(&mut self, owner: OwnerId, through: Position) {
        self.say(|| format!("{owner:?} covers {through:?}"));
        self.line.journal.covered(owner, through);
        self.model.cover(owner, through);
    }

    fn deed(&mut self, workload: &mut Workload) -> Result<(), Violation> {
        let owner = workload.owner(&mut self.rng);
        if self.rng.chance(1, 80) {
            return self.forget(owner, workload);
        }
        if self.rng.chance(1, 25) {
            let positions = self.model.coverable(owner);
            let index = self.rng.below(positions.len() as u64) as usize;
            if let Some(through) = positions.get(index) {
                self.cover(owner, *through);
            }
            return Ok(());
        }
        let mut length = workload.sizes[self.rng.below(workload.sizes.len() as u64) as usize];
        if self.rng.chance(1, 100) {
            length = workload.longest;
        }
        let mut payload = vec![0; length.min(workload.longest)];
        self.rng.fill(&mut payload);
        let (kind, payload) = (self.rng.below(0xf0) as u8, Bytes::from(payload));
        let split = self.rng.below(payload.len() as u64 + 1) as usize;
        let pieces = [payload.slice(..split), payload.slice(split..)];
        match self.line.journal.append(owner, kind, &pieces) {
            Ok(position) => {
                self.new_position(position)?;
                self.model.append(position, Entry { owner, kind, payload });
            }
            Err(refused) => self.refused(refused)?,
        }
        Ok(())
    }

    fn forget(&mut self, owner: OwnerId, workload: &mut Workload) -> Result<(), Violation> {
        match self.line.journal.forget(owner) {
            Ok(position) => {
                self.new_position(position)?;
                self.say(|| format!("{owner:?} is forgotten at {position:?}"));
                self.model.forget(owner, position);
                workload.owners.retain(|known| *known != owner);
                self.report.tally.hit("forgets");
            }
            Err(refused) => self.refused(refused)?,
        }
        Ok(())
    }

    fn new_position(&self, position: Position) -> Result<(), Violation> {
        match position > self.model.highest {
            true => Ok(()),
            false => {
                let text = format!("{position:?} is given out again, {:?} was used", self.model.highest);
                Err(Violation::new(Promise::Reused, text))
            }
        }
    }

    fn refused(&mut self, refused: Refused) -> Result<(), Violation> {
        match refused {
            Refused::Busy => self.report.tally.hit("refused-busy"),
            Refused::Full => self.report.tally.hit("refused-full"),
            // It fits, the journal was ready, and has not said that it failed.
            Refused::TooLarge | Refused::NotReady => {
                return Err(Violation::new(Promise::Failed, refused.to_string()));
            }
            Refused::Failed => self.report.tally.hit("refused-failed"),
        }
        Ok(())
    }
}
