//! What goes into a [`Host`](super::Host) and comes out of it.

use crate::disk::{Completion, DiskError, Submission};
use crate::raft::group::{Config, Message, Output};
use crate::raft::membership::Membership;
use crate::raft::store::StoreConfig;
use crate::raft::wire::NodeId;
use crate::storage::OwnerId;
use crate::storage::journal::{self, Damage, JournalError};
use crate::time::Duration;

/// How a host keeps what its groups ask it to.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// The journal.
    pub journal: journal::Config,
    /// The files of members.
    pub store: StoreConfig,
    /// Who the witness is in the journal; no group has this name there.
    pub witness: OwnerId,
    /// How long after something was proposed the witness is written, at most so often.
    pub vouch_after: Duration,
}

/// A group that has a member here.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// Who it is in the journal.
    pub owner: OwnerId,
    /// This member's name.
    pub id: NodeId,
    /// How it behaves.
    pub config: Config,
    /// Who the members were when the group was made; none for a member that is to be added to a group.
    pub members: Membership,
    /// The member was here before: [`Output::Created`](HostOutput::Created) was told. If nothing of it is found, it has lost
    /// everything that it promised.
    pub expected: bool,
}

/// Something that happened.
#[derive(Debug)]
pub enum HostInput {
    /// Another member of a group said something.
    Message {
        /// Which group's member it was said to.
        group: OwnerId,
        /// What.
        message: Message,
    },
    /// The disk has done what it was asked, or hasn't.
    Disk(Completion),
    /// A time-out may be due.
    Tick,
}

/// What the host asks for, and tells.
#[derive(Debug)]
pub enum HostOutput {
    /// The disk is to do something.
    Disk(Submission),
    /// A group asks for something; never [`Output::Persist`], which the host does.
    Group(OwnerId, Output),
    /// What is left of a member is known: [`Host::start`](super::Host::start) may be called.
    Found {
        /// Which group's.
        group: OwnerId,
        /// It never was here before.
        fresh: bool,
        /// It may lack something that it promised.
        lost: bool,
    },
    /// A new member's first record is durable: it is to be expected from now on.
    Created(OwnerId),
    /// Something for the operator to know.
    Notice(Notice),
    /// The journal takes nothing more: no group takes part until the host is opened again.
    Failed(JournalError),
}

/// Something for the operator to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The journal is damaged.
    Journal(Damage),
    /// The end of the journal is lost.
    EndLost,
    /// A member's file can't be used.
    File {
        /// Its path.
        path: String,
        /// Why.
        reason: String,
    },
    /// A file can't be written; it is tried again.
    NotWritten(DiskError),
    /// There is no space; nothing new is taken until there is.
    Full,
    /// There is space again.
    SpaceBack,
    /// The journal has records of a group that nobody named. They stay.
    Unclaimed(OwnerId),
}
