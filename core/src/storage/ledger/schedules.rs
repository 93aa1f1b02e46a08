//! The messages that are schedules (ADR-51), and when each is due next.
//!
//! That a message is a schedule, and when it is due first, is in its record. When it is due *next* isn't part of the stream's
//! state: whoever carries schedules out says it ([`Ledger::schedule_again`]), and finds it out anew after a start.

use std::collections::BTreeMap;

use super::Ledger;
use super::subjects::SubjectId;
use crate::collections::TimeHashWheel;
use crate::storage::Scheduling;
use crate::time::WallTime;

/// A schedule whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueSchedule {
    /// The sequence of its message.
    pub sequence: u64,
    /// When it was due.
    pub due: WallTime,
    /// Whether nobody has said so since [`Ledger::doubt_schedules`]: it may have been carried out before, and another message on
    /// its subject may have taken its place.
    pub recovered: bool,
}

#[derive(Clone, Copy, Debug)]
struct Schedule {
    subject: SubjectId,
    due: WallTime,
    recovered: bool,
}

/// The schedules of a stream: one a subject.
///
/// Invariant: the three tables have the same schedules.
#[derive(Clone, Debug, Default)]
pub(super) struct Schedules {
    known: BTreeMap<u64, Schedule>,
    subjects: BTreeMap<SubjectId, u64>,
    wheel: TimeHashWheel,
}

impl Schedules {
    /// Notes a message behind all others.
    pub(super) fn appended(&mut self, subject: SubjectId, sequence: u64, scheduling: Scheduling) {
        if scheduling != Scheduling::Scheduled
            && let Some(before) = self.subjects.get(&subject).copied()
        {
            self.remove(before);
        }
        if let Scheduling::Schedule { due } = scheduling {
            self.add(sequence, Schedule { subject, due, recovered: false });
        }
    }

    /// Notes a schedule that recovery has found. The newest of a subject comes first.
    pub(super) fn found(&mut self, subject: SubjectId, sequence: u64, due: WallTime) {
        if !self.subjects.contains_key(&subject) {
            self.add(sequence, Schedule { subject, due, recovered: false });
        }
    }

    fn add(&mut self, sequence: u64, schedule: Schedule) {
        self.wheel.add(sequence, schedule.due);
        self.subjects.insert(schedule.subject, sequence);
        self.known.insert(sequence, schedule);
    }

    pub(super) fn remove(&mut self, sequence: u64) {
        if let Some(schedule) = self.known.remove(&sequence) {
            self.subjects.remove(&schedule.subject);
            let _ = self.wheel.remove(sequence, schedule.due);
        }
    }

    pub(super) fn remove_above(&mut self, last: u64) {
        while let Some(sequence) = self.known.last_key_value().map(|(sequence, _)| *sequence)
            && sequence > last
        {
            self.remove(sequence);
        }
    }
}

impl Ledger {
    /// Returns up to `max` schedules whose time has come, in the order of their sequences. They stay due until
    /// [`Ledger::schedule_again`] says otherwise, or their messages are gone.
    pub fn due_schedules(&mut self, now: WallTime, max: usize) -> Vec<DueSchedule> {
        let Schedules { known, wheel, .. } = &mut self.schedules;
        let mut due = Vec::new();
        wheel.expire(now, |deadline| {
            due.push(deadline.sequence);
            false
        });
        due.sort_unstable();
        due.truncate(max);
        let schedule = |sequence: &u64| {
            known.get(sequence).map(|Schedule { due, recovered, .. }| DueSchedule {
                sequence: *sequence,
                due: *due,
                recovered: *recovered,
            })
        };
        due.iter().filter_map(schedule).collect()
    }

    /// Returns when a schedule is due next; `None` if there is none.
    pub fn next_schedule(&self) -> Option<WallTime> {
        self.schedules.wheel.next(WallTime::from_unix_nanos(i64::MAX))
    }

    /// Says that it isn't known what became of the schedules that there are: whoever carries them out has just begun. They were read
    /// from files, or from the journal.
    pub fn doubt_schedules(&mut self) {
        self.schedules.known.values_mut().for_each(|schedule| schedule.recovered = true);
    }

    /// Says when a schedule is due next.
    pub fn schedule_again(&mut self, sequence: u64, due: WallTime) {
        let Schedules { known, wheel, .. } = &mut self.schedules;
        if let Some(schedule) = known.get_mut(&sequence) {
            let _ = wheel.remove(sequence, schedule.due);
            wheel.add(sequence, due);
            (schedule.due, schedule.recovered) = (due, false);
        }
    }

    /// Says that a message is no schedule any more: something took its place on its subject, or nothing can be made of it.
    pub fn unschedule(&mut self, sequence: u64) {
        self.schedules.remove(sequence);
    }

    /// Takes schedules as if recovery had found them, the newest first.
    #[cfg(test)]
    pub(crate) fn recover_schedules(&mut self, found: impl Iterator<Item = (u64, WallTime)>) {
        self.schedules = Schedules::default();
        for (sequence, due) in found {
            if let Ok(Some(subject)) = self.subject_id_of(sequence) {
                self.schedules.found(subject, sequence, due);
            }
        }
    }

    /// Returns how many schedules there are.
    pub fn schedules(&self) -> usize {
        self.schedules.known.len()
    }
}
