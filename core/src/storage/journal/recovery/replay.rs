//! Everything that is live, in the order of positions.

use bytes::Bytes;

use super::super::batch::{ENTRY_HEADER, EntryHeader, KIND_FORGET};
use super::super::chain::Link;
use super::super::scan::{Progress, Scanner};
use super::super::{Damage, Event, Journal, JournalError, Phase, Ticket, WINDOW};
use super::{Copy, Recovery, Stage};
use crate::disk::{DiskError, DiskQueue, Reply};
use crate::planted::{self, Bug};
use crate::storage::Position;

impl Journal {
    pub(super) fn replay<O: From<Ticket>>(
        &mut self,
        recovery: &mut Recovery,
        arrived: Option<Result<Reply, DiskError>>,
        disk: &mut DiskQueue<O>,
    ) -> Result<bool, JournalError> {
        if let Some(result) = arrived {
            let copying = recovery.copy_reader.as_mut().filter(|(_, reader)| reader.is_waiting());
            match (copying, &mut recovery.stage) {
                (Some((_, reader)), _) => reader.completed(result, disk),
                (None, Stage::Replay(_, Some(scanner))) => scanner.reader.completed(result, disk),
                _ => {}
            }
        }
        // Whoever takes the entries says by draining them that there is room for more.
        if self.events.iter().any(|event| matches!(event, Event::Recovered { .. })) {
            return Ok(false);
        }
        let mut budget = WINDOW;
        while let Some(entry) = recovery.due.front() {
            let position = entry.header.position;
            if let Some((&first, _)) =
                recovery.copies.first_key_value().filter(|(first, _)| **first <= position)
            {
                if !self.replay_copy(recovery, first, first < position, disk) {
                    return Ok(false);
                }
                continue;
            }
            let Some(entry) = recovery.due.pop_front() else { break };
            if position <= recovery.replayed && !planted::bug(Bug::JournalVoidReplayed) {
                // Written again behind the end of its segment, where that was lost.
                continue;
            }
            recovery.replayed = position;
            // Only what is told counts: nobody would say that there is room again for what its owner has already.
            if self.recovered(&entry.header, entry.payload()) {
                budget = budget.saturating_sub(entry.raw.len());
            }
            if budget == 0 {
                return Ok(false);
            }
        }
        match &mut recovery.stage {
            Stage::Replay(index, scanner) => {
                let Some(Link { found, extent, .. }) = recovery.chain.get(*index) else {
                    recovery.stage = Stage::ReplayTail;
                    return Ok(true);
                };
                let segment = self.segments.get(found.number);
                let needed = segment.is_some_and(|segment| !segment.live.is_empty());
                if !needed {
                    *scanner = None;
                    *index += 1;
                    return Ok(true);
                }
                let reader = || Recovery::reader(found.file);
                let seed = self.seed;
                let start = || Scanner::new(seed, found.number, reader(), *extent);
                match scanner.get_or_insert_with(start).step(disk) {
                    Progress::Wait => return Ok(false),
                    Progress::End => {
                        *scanner = None;
                        *index += 1;
                    }
                    Progress::Found(batch) => {
                        recovery.due.extend(batch.entries.into_iter().filter(|entry| !entry.copy));
                        // The survey could read what can't be read now.
                        for damage in batch.damage {
                            self.tell_once(recovery, damage);
                        }
                    }
                }
                Ok(true)
            }
            Stage::ReplayTail => {
                recovery.due.append(&mut recovery.tail_entries);
                recovery.stage = Stage::ReplayRest;
                Ok(true)
            }
            _ => {
                if let Some((&first, _)) = recovery.copies.first_key_value() {
                    return Ok(self.replay_copy(recovery, first, true, disk));
                }
                self.phase = Phase::Running;
                if self.leaving.is_wanted() {
                    // Before anything is copied to the head, or a file used again.
                    self.leave_behind();
                }
                self.events.push_back(Event::Ready { next_position: self.filling.next() });
                Ok(false)
            }
        }
    }

    /// Replays what was copied forward; returns whether it could be done now. Where the original is still there, `tell` is false.
    fn replay_copy<O: From<Ticket>>(
        &mut self,
        recovery: &mut Recovery,
        position: Position,
        tell: bool,
        disk: &mut DiskQueue<O>,
    ) -> bool {
        let raw = match recovery.copies.get(&position) {
            Some(Copy::Memory(raw)) => raw.clone(),
            Some(Copy::Disk { file, offset, size }) if tell => {
                if recovery.copy_reader.as_ref().is_none_or(|(open, _)| open != file) {
                    recovery.copy_reader = Some((*file, Recovery::reader(*file)));
                }
                let Some((_, reader)) = &mut recovery.copy_reader else { return false };
                let Some(raw) = reader.get(*offset, *size, recovery.segment_size, disk) else { return false };
                raw
            }
            _ => Bytes::new(),
        };
        // What was read from another place verifies too, if an entry stands there.
        let right = |header: &EntryHeader| {
            header.position == position && header.size() == raw.len() || planted::bug(Bug::JournalCopyTrusted)
        };
        let header = EntryHeader::decode(&raw).filter(|header| tell && right(header));
        let header = header.filter(|header| header.verify(self.seed, &raw));
        match (header, recovery.copies.get(&position)) {
            (Some(header), _) => {
                self.recovered(&header, raw.slice(ENTRY_HEADER..));
            }
            (None, Some(Copy::Disk { file, offset, size })) if tell => {
                let (file, offset, size) = (*file, *offset, *size);
                let reader = recovery.copy_reader.as_mut().filter(|(open, _)| *open == file);
                if reader.is_some_and(|(_, reader)| reader.reads_again(offset, &raw)) {
                    return self.replay_copy(recovery, position, tell, disk);
                }
                let link = recovery.chain.iter().find(|link| link.found.file == file);
                let segment = link.map_or(0, |link| link.found.number);
                let (length, positions) = (size as u32, Some((position, position)));
                self.tell(Damage { segment, offset, length, owner: None, positions, copies: None });
            }
            _ => {}
        }
        recovery.copies.remove(&position);
        true
    }

    /// Tells an entry, and returns true, unless its owner has it or is forgotten.
    fn recovered(&mut self, header: &EntryHeader, payload: Bytes) -> bool {
        let (owner, position, kind) = (header.owner, header.position, header.kind);
        let wanted = kind != KIND_FORGET && self.segments.wants(owner, position);
        if wanted {
            self.events.push_back(Event::Recovered { owner, position, kind, payload });
        }
        wanted
    }
}
