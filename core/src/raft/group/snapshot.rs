//! Snapshots: the application's, those that are sent, those that arrive.
//!
//! A snapshot is written before the log that it stands for is dropped. One that arrives is gathered piece by piece; its
//! checksum is looked at before anything is done with it, and until it is durable this member hands out nothing and does
//! not stand for election.

use bytes::{Bytes, BytesMut};

use super::chunk::{Chunk, SnapshotKey};
use super::progress::Mode;
use super::{Group, Message, Output, Record, RequestError, Snapshot, State, WriteId};
use crate::planted::{Bug, bug};
use crate::raft::log::Place;
use crate::raft::membership::MembershipLog;
use crate::raft::wire::{AppendEntries, AppendExtension, AppendResponse, NodeId, ResponseExtension};
use crate::time::Instant;

/// A snapshot on its way to this member.
#[derive(Debug)]
pub(super) struct Incoming {
    key: SnapshotKey,
    data: BytesMut,
    /// The write that makes it durable, once it is whole.
    writing: Option<(WriteId, Snapshot)>,
}

impl Group {
    /// Takes the application's state as it is after `index` was applied, in place of the log through there.
    ///
    /// # Errors
    ///
    /// [`RequestError::Member`] if `index` isn't applied, or a snapshot stands for it already or is being written;
    /// [`RequestError::Failed`] after the disk failed.
    pub fn take_snapshot(&mut self, now: Instant, index: u64, data: Bytes) -> Result<(), RequestError> {
        self.now = self.now.max(now);
        if self.failed {
            return Err(RequestError::Failed);
        }
        let written = self.following.incoming.as_ref().and_then(|incoming| incoming.writing.as_ref());
        let known = self.snapshot.iter().chain(written.map(|(_, snapshot)| snapshot));
        let older = known.map(|snapshot| snapshot.place.index).max().is_some_and(|known| known >= index);
        let Some(term) = self.log.term_at(index).filter(|_| index <= self.applied && !older) else {
            return Err(RequestError::Member);
        };
        if self.is_installing() {
            return Err(RequestError::Busy);
        }
        self.wanted_snapshot = false;
        let members = match bug(Bug::RaftSnapshotHasCurrentMembers) {
            true => self.members.current().clone(),
            false => self.members.at(index).clone(),
        };
        let snapshot = Snapshot { place: Place { term, index }, members, data };
        self.flush_log();
        let id = self.persist(Record::Snapshot(snapshot.clone()));
        self.writes_snapshot(id, snapshot);
        Ok(())
    }

    /// Notes that `snapshot` is being written.
    fn writes_snapshot(&mut self, id: WriteId, snapshot: Snapshot) {
        let checksum = crc32c::crc32c(&snapshot.data);
        let key = SnapshotKey { place: snapshot.place, total: snapshot.data.len() as u64, checksum };
        let incoming = Incoming { key, data: BytesMut::new(), writing: Some((id, snapshot)) };
        self.following.incoming = Some(incoming);
        if bug(Bug::RaftCompactsBeforeSnapshot) {
            self.compact_behind(key.place);
        }
    }

    /// Returns whether a snapshot is being written that this member needs before it can go on.
    pub(super) fn is_installing(&self) -> bool {
        let writing = self.following.incoming.as_ref().and_then(|incoming| incoming.writing.as_ref());
        writing.is_some_and(|(_, snapshot)| snapshot.place.index > self.applied)
    }

    /// Goes on once a snapshot is durable.
    pub(super) fn snapshot_written(&mut self) {
        let Some(incoming) = &self.following.incoming else { return };
        let Some((id, snapshot)) = &incoming.writing else { return };
        if !self.is_written(*id) {
            return;
        }
        let snapshot = snapshot.clone();
        self.following.incoming = None;
        let place = snapshot.place;
        if self.is_of_another_history(place) {
            // Something else was committed while it was written.
            return;
        }
        if place.index > self.delivered && !bug(Bug::RaftSnapshotNotApplied) {
            self.delivered = place.index;
            self.applied = place.index;
            self.outputs.push_back(Output::Restore(snapshot.clone()));
        }
        if self.log.term_at(place.index) != Some(place.term) {
            self.restart_log(&snapshot);
        }
        self.snapshot = Some(snapshot);
        self.commit_through(place.index);
        self.compact_behind(place);
        if let (Some(leader), State::Follower) = (self.leader, &self.state) {
            self.matched_snapshot(place.index);
            self.acknowledge(leader);
        }
    }

    /// The snapshot replaces the log.
    fn restart_log(&mut self, snapshot: &Snapshot) {
        let place = snapshot.place;
        self.log.restart_behind(place);
        self.log_restarted(place);
        self.members = MembershipLog::new(place.index, snapshot.members.clone());
        self.persist(Record::Reset { base: place });
    }

    /// Drops entries that the snapshot stands for, but some for members that lag a little.
    fn compact_behind(&mut self, place: Place) {
        let keep = self.config.keep_entries;
        let through = place.index.saturating_sub(keep);
        if through <= self.log.base().index {
            return;
        }
        self.log.compact(through);
        self.members.compacted(through);
        let base = self.log.base();
        self.persist(Record::Compact { base });
    }

    /// Asks the application for a snapshot if the log behind the last is long.
    pub(super) fn want_snapshot(&mut self) {
        let since = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.place.index);
        let long = self.applied.saturating_sub(since) > self.config.snapshot_entries;
        let large = self.log.bytes() > self.config.snapshot_bytes && self.applied > since;
        if (long || large) && !self.wanted_snapshot && self.following.incoming.is_none() {
            self.wanted_snapshot = true;
            self.outputs.push_back(Output::WantSnapshot);
        }
    }

    /// Begins to send the snapshot to a member whose entries are gone; returns whether there is one.
    pub(super) fn begin_transfer(&mut self, to: NodeId) -> bool {
        let Some(snapshot) = &self.snapshot else { return false };
        let index = snapshot.place.index;
        let State::Leader(leading) = &mut self.state else { return false };
        let Some(progress) = leading.peers.get_mut(&to) else { return false };
        progress.transfer(index);
        true
    }

    /// Sends pieces of the snapshot, as many as may be under way; with `beat` at least something.
    pub(super) fn send_chunks(&mut self, to: NodeId, beat: bool) {
        let Some(snapshot) = self.snapshot.clone() else { return };
        let (size, window) = (self.config.chunk_bytes as u64, self.config.max_chunks_in_flight as u64);
        let total = snapshot.data.len() as u64;
        let State::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.peers.get_mut(&to) else { return };
        let Mode::Snapshot(transfer) = &mut progress.mode else { return };
        if transfer.index != snapshot.place.index {
            // A later one is here; its first piece starts it at the other end too.
            progress.transfer(snapshot.place.index);
            return self.send_chunks(to, true);
        }
        if beat && transfer.acked == transfer.seen {
            // Nothing arrived since the last heartbeat: send again what isn't known to be there.
            transfer.acked = transfer.said;
            transfer.sent = transfer.acked;
        }
        transfer.seen = if beat { transfer.acked } else { transfer.seen };
        let end = total.min(transfer.acked + size * window);
        let mut offsets = Vec::new();
        while transfer.sent < end {
            offsets.push(transfer.sent);
            transfer.sent = (transfer.sent + size).min(end);
        }
        if offsets.is_empty() && beat {
            // Also an empty snapshot has one piece.
            offsets.push(transfer.acked.min(total));
        }
        let checksum = crc32c::crc32c(&snapshot.data);
        let key = SnapshotKey { place: snapshot.place, total, checksum };
        for offset in offsets {
            let end = (offset + size).min(total);
            let data = snapshot.data.slice(offset as usize..end as usize);
            let chunk = Chunk { key, members: snapshot.members.clone(), offset, data };
            self.send_chunk(to, &chunk);
        }
    }

    fn send_chunk(&mut self, to: NodeId, chunk: &Chunk) {
        let State::Leader(leading) = &self.state else { return };
        let append = AppendEntries {
            leader: self.id,
            term: self.term,
            commit: self.commit,
            previous_term: chunk.key.place.term,
            previous_index: chunk.key.place.index,
            entries: vec![chunk.entry()],
            leader_term: Some(self.term),
            extension: Some(AppendExtension { round: leading.round, sleep: false }),
        };
        self.send(to, Message::Append(append));
    }

    /// A member said how much of the snapshot it has.
    pub(super) fn chunks_taken(&mut self, peer: NodeId, extension: ResponseExtension) {
        let State::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.peers.get_mut(&peer) else { return };
        let Mode::Snapshot(transfer) = &mut progress.mode else { return };
        if transfer.index != extension.snapshot_index {
            return;
        }
        transfer.said = extension.snapshot_offset;
        let late = bug(Bug::RaftLateAnswersCount);
        if transfer.said > transfer.acked || late {
            transfer.acked = transfer.said;
            transfer.sent = if late { transfer.acked } else { transfer.sent.max(transfer.acked) };
            self.send_chunks(peer, false);
        }
    }

    /// Takes a piece of a snapshot.
    pub(super) fn take_chunk(&mut self, leader: NodeId, chunk: &Chunk) {
        let place = chunk.key.place;
        if self.is_of_another_history(place) {
            return;
        }
        let known = place.index <= self.commit && self.log.stable() >= place.index;
        if known || (self.log.term_at(place.index) == Some(place.term) && self.log.stable() >= place.index) {
            // What it stands for is here.
            self.matched_snapshot(place.index);
            self.commit_through(place.index);
            return self.acknowledge(leader);
        }
        let writing = self.following.incoming.as_ref().is_some_and(|incoming| incoming.writing.is_some());
        if writing {
            return self.tell_offset(leader);
        }
        if self.following.incoming.as_ref().is_none_or(|incoming| incoming.key != chunk.key) {
            let data = BytesMut::new();
            self.following.incoming = Some(Incoming { key: chunk.key, data, writing: None });
        }
        let Some(incoming) = &mut self.following.incoming else { return };
        if chunk.offset == incoming.data.len() as u64 || bug(Bug::RaftChunksOutOfOrder) {
            incoming.data.extend_from_slice(&chunk.data);
        }
        if incoming.data.len() as u64 >= chunk.key.total {
            self.snapshot_whole(chunk);
        }
        self.tell_offset(leader);
    }

    /// Returns whether a snapshot of `place` goes against what is committed here: no leader has one, and to take it would be to
    /// lose what was committed.
    fn is_of_another_history(&self, place: Place) -> bool {
        let committed = self.log.term_at(place.index.min(self.commit));
        committed.is_some_and(
            |term| if place.index <= self.commit { term != place.term } else { term > place.term },
        )
    }

    fn snapshot_whole(&mut self, chunk: &Chunk) {
        let Some(incoming) = &mut self.following.incoming else { return };
        let whole = incoming.data.split().freeze();
        if crc32c::crc32c(&whole) != chunk.key.checksum {
            return;
        }
        let snapshot = Snapshot { place: chunk.key.place, members: chunk.members.clone(), data: whole };
        self.flush_log();
        let id = self.persist(Record::Snapshot(snapshot.clone()));
        self.writes_snapshot(id, snapshot);
    }

    fn tell_offset(&mut self, leader: NodeId) {
        let Some(incoming) = &self.following.incoming else { return };
        let offset = match &incoming.writing {
            Some((_, snapshot)) => snapshot.data.len(),
            None => incoming.data.len(),
        };
        let extension = ResponseExtension {
            round: self.heard_round(),
            snapshot_index: incoming.key.place.index,
            snapshot_offset: offset as u64,
            uncounted: self.doubt.about_vote(),
            ..ResponseExtension::default()
        };
        let reply = AppendResponse {
            term: self.term,
            index: 0,
            peer: self.id,
            success: true,
            extension: Some(extension),
        };
        self.send(leader, Message::AppendReply(reply));
    }
}
