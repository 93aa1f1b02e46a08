//! One group's member on the shard, and what it waits for.

use std::collections::VecDeque;

use super::io::{GroupSpec, HostOutput};
use crate::raft::group::{Group, Output, Record, WriteId};
use crate::raft::store::{Found, Part};
use crate::storage::Position;
use crate::time::Instant;

/// How far a member is.
#[derive(Debug)]
pub(super) enum Phase {
    /// What is left of it isn't known yet.
    Recovering,
    /// It is, and the owner may start it.
    Found(Box<Found>),
    Running(Box<Group>),
}

/// One group's member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) spec: GroupSpec,
    pub(super) phase: Phase,
    /// Its store was told that the journal has told all.
    pub(super) finishing: bool,
    /// It is new, and its first record isn't durable yet.
    pub(super) creating: bool,
    /// The first record of this life is durable: what was found lost is found lost again, until the group says otherwise.
    pub(super) begun: bool,
    /// Records that are not entries yet, oldest first.
    pub(super) records: VecDeque<(WriteId, Record)>,
    /// The first of them waits for a file of its own.
    pub(super) waits: bool,
    /// Entries that the journal hasn't taken yet; they are before all records.
    pub(super) parts: VecDeque<Part>,
    /// Entries that aren't committed yet, and the writes that are done with them.
    pub(super) in_flight: VecDeque<(Position, Option<WriteId>)>,
    /// Its deadline, as the host has it.
    pub(super) deadline: Option<Instant>,
}

impl Member {
    pub(super) fn new(spec: GroupSpec) -> Self {
        Member {
            spec,
            phase: Phase::Recovering,
            finishing: false,
            creating: false,
            begun: false,
            records: VecDeque::new(),
            waits: false,
            parts: VecDeque::new(),
            in_flight: VecDeque::new(),
            deadline: None,
        }
    }

    pub(super) fn group(&self) -> Option<&Group> {
        if let Phase::Running(group) = &self.phase { Some(group) } else { None }
    }

    pub(super) fn group_mut(&mut self) -> Option<&mut Group> {
        if let Phase::Running(group) = &mut self.phase { Some(group) } else { None }
    }

    /// Takes what the group asks for: records to be written here, the rest to `outputs`.
    pub(super) fn drain(&mut self, outputs: &mut VecDeque<HostOutput>) {
        let owner = self.spec.owner;
        let Phase::Running(group) = &mut self.phase else { return };
        while let Some(output) = group.poll_output() {
            match output {
                Output::Persist { id, record } => self.records.push_back((id, record)),
                output => outputs.push_back(HostOutput::Group(owner, output)),
            }
        }
    }
}
