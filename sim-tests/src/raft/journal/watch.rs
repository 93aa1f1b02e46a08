//! What is looked at after every call of a host, and when a member has started.

use natrix_core::raft::group::Output;
use natrix_core::raft::host::HostOutput;

use super::faults::Trouble;
use super::node::{Node, group_of, owner};
use super::world::World;
use crate::raft::checker::Rule;

impl World {
    /// Looks at everything that the call may have changed.
    pub(super) fn look(&mut self, number: usize, outputs: &[HostOutput]) {
        let now = self.now;
        let Some(host) = &self.nodes[number].host else { return };
        for output in outputs {
            if let HostOutput::Group(owner, Output::Send { to, message }) = output
                && let Some(group) = host.group(*owner)
            {
                self.checkers[group_of(*owner)].message(now, number, group, message, *to);
            }
        }
        let mut healed = 0;
        let Node { host: Some(host), seats, .. } = &mut self.nodes[number] else { return };
        for (at, seat) in seats.iter_mut().enumerate() {
            let Some(group) = host.group(owner(at)) else { continue };
            let log = group.log();
            let mut known = log.last().index;
            while known > log.base().index && seat.terms.get(&known) != log.term_at(known).as_ref() {
                known -= 1;
            }
            seat.terms.retain(|index, _| *index <= known && *index > log.base().index);
            for entry in log.from(known + 1, usize::MAX, usize::MAX) {
                self.checkers[at].entry(now, number, entry, log.term_at(entry.index - 1));
                seat.terms.insert(entry.index, entry.term);
            }
            self.checkers[at].look(now, number, group, false, |_| None);
            healed += u64::from(seat.doubted && !group.in_doubt());
            seat.doubted = group.in_doubt();
        }
        self.counters.add(Trouble::Healed, healed);
        let node = &mut self.nodes[number];
        let well = !node.recovering && !node.seats.iter().any(|seat| seat.doubted);
        if well && !node.waits_for_harm && !node.rots && node.lie.is_none() {
            node.harmed = false;
        }
    }

    /// A member has started: is what it has what it had?
    pub(super) fn started(&mut self, number: usize, at: usize) {
        let now = self.now;
        let node = &mut self.nodes[number];
        let (id, harmed) = (node.id, node.harmed);
        let Some(group) = node.host.as_ref().and_then(|host| host.group(owner(at))) else { return };
        let seat = &mut node.seats[at];
        let checker = &mut self.checkers[at];
        seat.doubted = group.in_doubt();
        let kept = seat.kept.take();
        let doubted_before = kept.is_some_and(|(_, doubted)| doubted);
        if seat.lost {
            self.counters.hit(Trouble::LossNoticed);
        } else if harmed {
            self.counters.hit(Trouble::HarmWithoutLoss);
        }
        if group.in_doubt() && harmed {
            checker.forgot(number, id);
        }
        if seat.lost && !harmed && !doubted_before {
            checker.violate(Rule::FalseAlarm, now, format!("n{number} lost something on a whole disk"));
        }
        if std::mem::take(&mut seat.told_doubt) && !group.in_doubt() {
            checker.violate(
                Rule::Kept,
                now,
                format!("n{number} was in doubt, had that written down, and isn't"),
            );
        }
        if let Some((place, _)) = kept.filter(|_| !group.in_doubt()) {
            let snapshot = group.snapshot().is_some_and(|snapshot| snapshot.place.index >= place.index);
            let has = group.log().term_at(place.index) == Some(place.term) || snapshot || place.index == 0;
            if !has {
                let text = format!("n{number} had {place:?}, has {:?} and no doubt", group.log().last());
                checker.violate(Rule::Kept, now, text);
            }
        }
        checker.started(now, number, group);
        seat.terms =
            group.log().from(0, usize::MAX, usize::MAX).map(|entry| (entry.index, entry.term)).collect();
        let all = node.seats.len();
        let running =
            (0..all).filter(|at| node.host.as_ref().is_some_and(|host| host.group(owner(*at)).is_some()));
        node.recovering = running.count() < all;
        node.failures = if node.recovering { node.failures } else { 0 };
    }
}
