//! What clients were told, and whether one thing after another could have been like that: linearizability.
//!
//! The application is a few registers and the list of everything ever written to them. A write sets a register to a value
//! that no other write has, and puts it at the end of the list; a read sees all registers, and the list. Of a write
//! whose client heard nothing more, nobody knows whether it was done.
//!
//! Neither check knows of indexes, terms or leaders.
//!
//! - The list: whoever asks after a write was confirmed, or after a list was read, sees a list that begins with all of that. As
//!   a list says where each value stands, this is exact, and is looked at with every answer.
//! - The registers: a value's *zone* is from the first end of a call that wrote or read it to the last beginning of one. If
//!   the first end comes first, the register had the value all that time, else it had it at some moment in between. Calls
//!   can be put in a row if and only if no two zones of the first kind overlap, and none of the second is inside one of
//!   the first (Gibbons and Korach, "Testing shared memories", 1997). Looked at when all is over.

use std::collections::BTreeMap;

/// How many registers there are.
pub(super) const REGISTERS: usize = 4;

/// Returns the register that a value is for.
pub(super) fn register_of(value: u64) -> usize {
    (value % REGISTERS as u64) as usize
}

/// What a read sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// The last value of each register; zero before the first.
    pub(super) registers: [u64; REGISTERS],
    /// How many values the list has.
    pub(super) length: u64,
    /// The hash of the list.
    pub(super) list: u64,
}

/// A call that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// When it began; no two things happen at once.
    begun: u64,
    /// The least place in the list that it may have: twice the length of the longest list that anybody was told of.
    least: u64,
}

/// Calls of one value of one register.
#[derive(Clone, Copy, Debug)]
struct Zone {
    first_end: u64,
    last_begin: u64,
    /// When its write began; `None` while only reads are known.
    written: Option<u64>,
    /// Somebody knows that the value was there.
    known: bool,
    /// Its write was handed on, and may have been done more than once.
    handed_on: bool,
}

impl Default for Zone {
    fn default() -> Self {
        Zone { first_end: u64::MAX, last_begin: 0, written: None, known: false, handed_on: false }
    }
}

/// Everything that clients did and were told.
#[derive(Debug)]
pub(super) struct History {
    /// Counts beginnings and ends.
    clock: u64,
    told: u64,
    lists: BTreeMap<u64, u64>,
    registers: [BTreeMap<u64, Zone>; REGISTERS],
    calls: BTreeMap<u64, Call>,
}

impl Default for History {
    fn default() -> Self {
        // What was there before the first call is as if it had been written before.
        let before = Zone { first_end: 0, last_begin: 0, written: Some(0), known: true, handed_on: false };
        History {
            clock: 0,
            told: 0,
            lists: BTreeMap::new(),
            registers: std::array::from_fn(|_| BTreeMap::from([(0, before)])),
            calls: BTreeMap::new(),
        }
    }
}

impl History {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// A client reads.
    pub(super) fn begin(&mut self) -> Call {
        Call { begun: self.tick(), least: self.told }
    }

    /// A client writes `value`.
    pub(super) fn begin_write(&mut self, value: u64) {
        let call = self.begin();
        self.calls.insert(value, call);
        let zone = self.registers[register_of(value)].entry(value).or_default();
        zone.written = Some(call.begun);
        zone.last_begin = zone.last_begin.max(call.begun);
    }

    /// The write of `value` was handed on to the leader.
    ///
    /// That message may come twice, and each is proposed: the value may be there again after others. So its calls say nothing.
    pub(super) fn handed_on(&mut self, value: u64) {
        self.registers[register_of(value)].entry(value).or_default().handed_on = true;
    }

    /// A client is told that `value` was written, as the `length`th of the list, whose hash it is told too.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub(super) fn end_write(&mut self, value: u64, length: u64, list: u64) -> Result<(), String> {
        let Some(call) = self.calls.remove(&value) else { return Ok(()) };
        let now = self.tick();
        let zone = self.registers[register_of(value)].entry(value).or_default();
        zone.first_end = zone.first_end.min(now);
        zone.known = true;
        self.end(call, 2 * length - 1, length, list)
    }

    /// A client's read is answered.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub(super) fn end_read(&mut self, call: Call, view: &View) -> Result<(), String> {
        let now = self.tick();
        for (register, value) in self.registers.iter_mut().zip(view.registers) {
            let zone = register.entry(value).or_default();
            zone.first_end = zone.first_end.min(now);
            zone.last_begin = zone.last_begin.max(call.begun);
            zone.known = true;
        }
        self.end(call, 2 * view.length, view.length, view.list)
    }

    fn end(&mut self, call: Call, place: u64, length: u64, list: u64) -> Result<(), String> {
        if place < call.least {
            let least = call.least / 2;
            return Err(format!(
                "a client is told of {length} values, and another of {least} before it asked"
            ));
        }
        self.told = self.told.max(place);
        if *self.lists.entry(length).or_insert(list) != list {
            return Err(format!("there are two lists of {length} values"));
        }
        Ok(())
    }

    /// Looks whether the calls of each register can be put in a row.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub(super) fn registers_are_linear(&self) -> Result<(), String> {
        self.registers.iter().enumerate().try_for_each(|(number, zones)| linear(number, zones))
    }
}

fn linear(number: usize, zones: &BTreeMap<u64, Zone>) -> Result<(), String> {
    let known = || zones.iter().filter(|(_, zone)| zone.known && !zone.handed_on);
    for (value, zone) in known() {
        if zone.written.is_none_or(|written| written > zone.first_end) {
            return Err(format!("register {number} had {value} before anybody wrote it"));
        }
    }
    let mut whole: Vec<_> = known().filter(|(_, zone)| zone.first_end < zone.last_begin).collect();
    whole.sort_unstable_by_key(|(_, zone)| zone.first_end);
    for pair in whole.windows(2) {
        let [(one, first), (other, second)] = pair else { continue };
        if second.first_end < first.last_begin {
            return Err(format!("register {number} had {one} and {other} at once"));
        }
    }
    for (value, zone) in known().filter(|(_, zone)| zone.first_end >= zone.last_begin) {
        // The last that begins before it; zones of the first kind don't overlap.
        let at = whole.partition_point(|(_, other)| other.first_end < zone.last_begin);
        let Some((other, around)) = at.checked_sub(1).map(|at| whole[at]) else { continue };
        if zone.first_end < around.last_begin {
            return Err(format!("register {number} had {value} while it had {other} all the time"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use natrix_core::rng::Rng;

    use super::*;

    /// A call on one register: when it began and ended, what it wrote or read.
    #[derive(Clone, Copy, Debug)]
    struct Step {
        begun: u64,
        ended: Option<u64>,
        write: bool,
        value: u64,
    }

    /// Tries every row of the calls.
    fn can_be_in_a_row(steps: &[Step], done: u32, now: u64) -> bool {
        let left = |at: usize| done & (1 << at) == 0;
        if (0..steps.len()).all(|at| !left(at) || steps[at].ended.is_none()) {
            return true;
        }
        let soonest = (0..steps.len()).filter(|at| left(*at)).filter_map(|at| steps[at].ended).min();
        (0..steps.len()).filter(|at| left(*at)).any(|at| {
            let step = steps[at];
            let next = if step.write { step.value } else { now };
            step.begun < soonest.unwrap_or(u64::MAX)
                && (step.write || step.value == now)
                && can_be_in_a_row(steps, done | (1 << at), next)
        })
    }

    fn zones(steps: &[Step]) -> BTreeMap<u64, Zone> {
        let mut zones = History::default().registers[0].clone();
        for step in steps {
            let zone = zones.entry(step.value).or_default();
            zone.last_begin = zone.last_begin.max(step.begun);
            zone.first_end = zone.first_end.min(step.ended.unwrap_or(u64::MAX));
            zone.known |= step.ended.is_some();
            if step.write {
                zone.written = Some(step.begun);
            }
        }
        zones
    }

    /// Draws a history: writes of different values, some without an answer, and reads of whatever.
    fn drawn(rng: &mut Rng) -> Vec<Step> {
        let mut times: Vec<u64> = (1..=14).collect();
        let mut time = |rng: &mut Rng| times.remove(rng.below(times.len() as u64) as usize);
        let writes = 1 + rng.below(4);
        (0..2 + rng.below(5))
            .map(|at| {
                let (one, other) = (time(rng), time(rng));
                let write = at < writes;
                let value = if write { at + 1 } else { rng.below(writes + 1) };
                let ended = (!write || rng.chance(3, 4)).then_some(one.max(other));
                Step { begun: one.min(other), ended, write, value }
            })
            .collect()
    }

    #[test]
    fn a_write_that_was_handed_on_may_be_done_twice() {
        let two_writes_and_reads = |handed_on| {
            let mut history = History::default();
            let (one, other) = (4, 8);
            history.begin_write(one);
            if handed_on {
                history.handed_on(one);
            }
            history.begin_write(other);
            for (length, value) in [(1, one), (2, other), (3, one)] {
                let call = history.begin();
                let registers = [value, 0, 0, 0];
                history.end_read(call, &View { registers, length, list: length }).unwrap();
            }
            history.registers_are_linear().is_ok()
        };
        assert!(two_writes_and_reads(true));
        assert!(!two_writes_and_reads(false));
    }

    #[test]
    fn zones_say_what_trying_every_row_says() {
        let mut rng = Rng::from_u64(1);
        let mut linear_ones = 0;
        for _ in 0..20_000 {
            let steps = drawn(&mut rng);
            let (zoned, tried) = (linear(0, &zones(&steps)).is_ok(), can_be_in_a_row(&steps, 0, 0));
            assert_eq!(zoned, tried, "{steps:?}");
            linear_ones += u32::from(tried);
        }
        assert!((1_000..19_000).contains(&linear_ones), "both kinds: {linear_ones}");
    }

    #[test]
    fn a_list_that_is_shorter_than_one_told_before_is_old() {
        let mut history = History::default();
        history.begin_write(5);
        let early = history.begin();
        history.end_write(5, 1, 77).unwrap();
        assert!(history.end_read(early, &View::default()).is_ok(), "it asked before");
        let late = history.begin();
        assert!(history.end_read(late, &View::default()).is_err());
    }

    #[test]
    fn two_lists_of_one_length_are_two_histories() {
        let mut history = History::default();
        let (one, other) = (history.begin(), history.begin());
        history.begin_write(1);
        let seen = |list| View { registers: [0, 1, 0, 0], length: 1, list };
        history.end_read(one, &seen(7)).unwrap();
        assert!(history.end_read(other, &seen(8)).is_err());
    }

    #[test]
    fn an_old_value_after_a_new_one_is_seen() {
        let mut history = History::default();
        for (value, length) in [(4, 1), (8, 2)] {
            history.begin_write(value);
            history.end_write(value, length, value).unwrap();
        }
        assert!(history.registers_are_linear().is_ok());
        let call = history.begin();
        let old = View { registers: [4, 0, 0, 0], length: 2, list: 8 };
        history.end_read(call, &old).unwrap();
        let said = history.registers_are_linear().unwrap_err();
        assert!(said.starts_with("register 0 had"), "{said}");
    }
}
