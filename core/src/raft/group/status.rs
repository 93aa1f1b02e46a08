//! How a member is: whether it is up to date, and what a leader knows of the others.

use super::{Group, NodeId, State};
use crate::time::Instant;

/// What a member knows of another, or of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub node: NodeId,
    /// How many entries it lacks; `None` if this member can't know that, as it doesn't lead.
    pub lag: Option<u64>,
    /// When it was heard last; `None` for this member itself, and for those of whom it doesn't hear.
    pub heard: Option<Instant>,
    /// Whether it has been heard within an election time-out, and lacks nothing as far as that is known.
    pub current: bool,
}

impl Group {
    /// Returns whether this member has everything that it knows the group to have, and has applied what is committed of it.
    ///
    /// A follower that doesn't hear its leader, or may have lost something, isn't current.
    pub fn is_current(&self) -> bool {
        if self.failed || self.hole || self.doubt.any() || self.is_installing() {
            return false;
        }
        match &self.state {
            State::Leader(leading) => leading.announced && self.applied == self.commit,
            State::Follower => {
                (self.asleep || self.hears(self.leader_heard))
                    && self.following.has_all()
                    && self.applied >= self.commit.max(self.following.told())
            }
            _ => false,
        }
    }

    /// Returns what is known of each member, in the order of their names.
    ///
    /// Only a leader knows of all; a follower hears of its leader alone.
    pub fn peer_status(&self) -> Vec<PeerStatus> {
        self.members.current().members().map(|node| self.status_of(node)).collect()
    }

    fn status_of(&self, node: NodeId) -> PeerStatus {
        if node == self.id {
            return PeerStatus { node, lag: Some(0), heard: None, current: self.is_current() };
        }
        let State::Leader(leading) = &self.state else {
            let heard = self.leader_heard.filter(|_| self.leader == Some(node));
            let current = heard.is_some() && (self.asleep || self.hears(heard));
            return PeerStatus { node, lag: None, heard, current };
        };
        let progress = leading.peers.get(&node);
        let lag = self.last().index - progress.map_or(0, |progress| progress.matched);
        let heard = progress.and_then(|progress| progress.heard);
        PeerStatus { node, lag: Some(lag), heard, current: lag == 0 && (self.asleep || self.hears(heard)) }
    }

    /// Returns whether that was within the shortest election time-out.
    fn hears(&self, heard: Option<Instant>) -> bool {
        heard.is_some_and(|heard| self.now.since(heard) < self.config.election_min)
    }
}
