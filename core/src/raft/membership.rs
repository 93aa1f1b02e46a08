//! Who belongs to the group, as the log says it.
//!
//! A change counts from the moment that its entry is in the log, committed or not (Raft dissertation, section 4.1), and
//! stops counting when the entry is cut off. One server joins or leaves at a time, so that any two majorities share a
//! member; several are replaced at once through a *joint* configuration, in which both majorities have to agree.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use super::wire::{Entry, EntryKind, NodeId, PeerState, WireError};

/// A configuration of the group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Those whose majority decides.
    voters: BTreeSet<NodeId>,
    /// In a joint configuration, those whose majority has to agree too: the members before.
    outgoing: BTreeSet<NodeId>,
}

impl Membership {
    /// Makes a configuration of `voters` alone.
    pub fn new(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Membership { voters: voters.into_iter().collect(), outgoing: BTreeSet::new() }
    }

    /// Returns whether `node` has a vote, in either half.
    pub fn contains(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Returns all members, in order.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.voters.union(&self.outgoing).copied()
    }

    /// Returns the members of the configuration that is aimed at.
    pub fn voters(&self) -> &BTreeSet<NodeId> {
        &self.voters
    }

    /// Returns whether two majorities have to agree.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Returns whether those for whom `agrees` holds are a majority, in a joint configuration of both halves.
    pub fn majority(&self, mut agrees: impl FnMut(NodeId) -> bool) -> bool {
        let mut of =
            |half: &BTreeSet<NodeId>| half.iter().filter(|node| agrees(**node)).count() > half.len() / 2;
        of(&self.voters) && (self.outgoing.is_empty() || of(&self.outgoing))
    }

    /// Returns whether those for whom `agrees` holds are so many that no majority exists without one of them.
    pub fn blocks(&self, mut agrees: impl FnMut(NodeId) -> bool) -> bool {
        !self.majority(|node| !agrees(node))
    }

    /// Returns the highest value that a majority has reached, in a joint configuration that both have.
    pub fn reached(&self, mut value: impl FnMut(NodeId) -> u64) -> u64 {
        let mut of = |half: &BTreeSet<NodeId>| {
            let mut values: SmallVec<[u64; 8]> = half.iter().map(|node| value(*node)).collect();
            values.sort_unstable_by(|a, b| b.cmp(a));
            values.get(half.len() / 2).copied().unwrap_or(0)
        };
        let voters = of(&self.voters);
        if self.outgoing.is_empty() { voters } else { voters.min(of(&self.outgoing)) }
    }

    /// Returns the configuration that holds once `entry` is in the log; `None` if the entry changes nothing.
    ///
    /// # Errors
    ///
    /// [`WireError`] if the entry's bytes are no configuration.
    pub fn after(&self, entry: &Entry) -> Result<Option<Self>, WireError> {
        let node = || {
            let name = <[u8; NodeId::LEN]>::try_from(&entry.data[..]);
            name.map(NodeId).map_err(|_| WireError::Length { what: "peer", len: entry.data.len() })
        };
        Ok(Some(match entry.kind {
            EntryKind::AddPeer => {
                let mut next = self.clone();
                next.voters.insert(node()?);
                next
            }
            EntryKind::RemovePeer => {
                let mut next = self.clone();
                next.voters.remove(&node()?);
                next
            }
            EntryKind::PeerState => Membership::new(PeerState::decode(&entry.data)?.peers),
            EntryKind::JointPeers => Self::decode_joint(&entry.data)?,
            _ => return Ok(None),
        }))
    }

    /// Returns the entry that says this configuration.
    pub fn entry(&self) -> Entry {
        let state = |half: &BTreeSet<NodeId>| PeerState {
            cluster_size: half.len() as u32,
            peers: half.iter().copied().collect(),
            domain_extension: 0,
        };
        let mut data = Vec::new();
        if !self.is_joint() {
            state(&self.voters).encode(&mut data);
            return Entry { kind: EntryKind::PeerState, data: data.into() };
        }
        // The length of the first half is known from its own count.
        state(&self.outgoing).encode(&mut data);
        state(&self.voters).encode(&mut data);
        Entry { kind: EntryKind::JointPeers, data: data.into() }
    }

    /// Returns the joint configuration on the way from this one to `target`.
    pub fn towards(&self, target: BTreeSet<NodeId>) -> Self {
        Membership { voters: target, outgoing: self.voters.clone() }
    }

    fn decode_joint(data: &[u8]) -> Result<Self, WireError> {
        let outgoing = PeerState::decode(data)?;
        let split = 10 + outgoing.peers.len() * NodeId::LEN;
        let rest = data.get(split..).ok_or(WireError::Length { what: "joint peers", len: data.len() })?;
        let voters = PeerState::decode(rest)?;
        Ok(Membership {
            voters: voters.peers.into_iter().collect(),
            outgoing: outgoing.peers.into_iter().collect(),
        })
    }
}

/// The configurations that the log says, by the index of their entries.
///
/// Invariant: indexes rise; the first is what a snapshot, or the start of the group, says.
#[derive(Clone, Debug)]
pub struct MembershipLog {
    versions: Vec<(u64, Membership)>,
}

impl MembershipLog {
    /// Starts with what is known at `index`.
    pub fn new(index: u64, membership: Membership) -> Self {
        MembershipLog { versions: vec![(index, membership)] }
    }

    /// Returns the configuration in force: the last one, committed or not.
    pub fn current(&self) -> &Membership {
        &self.versions.last().expect("there is always one").1
    }

    /// Returns the index of the entry that said it.
    pub fn since(&self) -> u64 {
        self.versions.last().expect("there is always one").0
    }

    /// Returns the configuration that held at `index`.
    pub fn at(&self, index: u64) -> &Membership {
        let behind = self.versions.partition_point(|(since, _)| *since <= index);
        &self.versions[behind.saturating_sub(1)].1
    }

    /// Takes an entry that was put into the log at `index`.
    ///
    /// # Errors
    ///
    /// [`WireError`] if its bytes are no configuration; nothing changes.
    pub fn pushed(&mut self, index: u64, entry: &Entry) -> Result<(), WireError> {
        if entry.kind == EntryKind::Normal {
            return Ok(());
        }
        if let Some(next) = self.current().after(entry)? {
            self.versions.push((index, next));
        }
        Ok(())
    }

    /// Forgets what entries from `index` on said.
    pub fn truncated_from(&mut self, index: u64) {
        let keep = self.versions.partition_point(|(since, _)| *since < index).max(1);
        self.versions.truncate(keep);
    }

    /// Forgets what was before the configuration that held at `index`.
    pub fn compacted(&mut self, index: u64) {
        let behind = self.versions.partition_point(|(since, _)| *since <= index);
        self.versions.drain(..behind.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId([number; 8])
    }

    fn peer(kind: EntryKind, number: u8) -> Entry {
        Entry { kind, data: Bytes::copy_from_slice(&[number; 8]) }
    }

    #[test]
    fn a_majority_of_each_half_is_needed_in_a_joint_configuration() {
        let old = Membership::new([1, 2, 3].map(node));
        let joint = old.towards([3, 4, 5].map(node).into());
        let agree = |numbers: &[u8]| joint.majority(|member| numbers.contains(&member.0[0]));
        assert!(!agree(&[1, 2]) && !agree(&[4, 5]) && agree(&[1, 3, 4]) && agree(&[1, 2, 4, 5]));
        assert_eq!(joint.members().count(), 5);
        assert_eq!(joint.reached(|member| u64::from(member.0[0])), 2);
        assert!(joint.blocks(|member| [1, 2].contains(&member.0[0])));
        assert!(!joint.blocks(|member| [1, 5].contains(&member.0[0])));
    }

    #[test]
    fn a_configuration_counts_until_its_entry_is_cut_off() {
        let mut log = MembershipLog::new(0, Membership::new([1, 2, 3].map(node)));
        log.pushed(5, &peer(EntryKind::AddPeer, 4)).unwrap();
        log.pushed(6, &Entry::normal("x")).unwrap();
        log.pushed(9, &peer(EntryKind::RemovePeer, 1)).unwrap();
        assert_eq!((log.current().members().count(), log.since()), (3, 9));
        assert!(log.at(8).contains(node(1)) && !log.at(4).contains(node(4)));
        log.truncated_from(9);
        assert_eq!((log.current().members().count(), log.since()), (4, 5));
        log.compacted(7);
        log.truncated_from(5);
        assert!(log.current().contains(node(4)), "what a snapshot stands for can't be cut off");
    }

    #[test]
    fn bytes_that_name_nobody_change_nothing() {
        let mut log = MembershipLog::new(0, Membership::new([node(1)]));
        for kind in [EntryKind::AddPeer, EntryKind::PeerState, EntryKind::JointPeers] {
            assert!(log.pushed(1, &Entry { kind, data: Bytes::from_static(b"short") }).is_err());
        }
        assert_eq!(log.since(), 0);
    }

    proptest! {
        #[test]
        fn a_configuration_survives_its_entry(old in btree_set(0..9u8, 1..5), new in btree_set(0..9u8, 1..5)) {
            let old = Membership::new(old.into_iter().map(node));
            let joint = old.towards(new.into_iter().map(node).collect());
            for configuration in [old.clone(), joint] {
                prop_assert_eq!(old.after(&configuration.entry()), Ok(Some(configuration)));
            }
        }

        #[test]
        fn majorities_of_neighbouring_configurations_share_a_member(
            members in btree_set(0..9u8, 1..7), joins in 0..9u8, choice: [u16; 2]
        ) {
            let old = Membership::new(members.into_iter().map(node));
            let new = old.after(&peer(EntryKind::AddPeer, joins)).unwrap().unwrap();
            let chosen = |mask: u16| move |member: NodeId| mask & (1 << member.0[0]) != 0;
            if old.majority(chosen(choice[0])) && new.majority(chosen(choice[1])) {
                prop_assert!(new.members().any(|member| chosen(choice[0])(member) && chosen(choice[1])(member)));
            }
        }
    }
}
