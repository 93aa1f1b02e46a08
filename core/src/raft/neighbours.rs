//! Which of the other nodes are there: one heartbeat for each pair of nodes, whatever groups they share.
//!
//! Groups that sleep don't hear from their leaders (`group/sleep.rs`); [`Neighbours`] hears for all of them. Its owner
//! sends the [`Beat`]s, hands in those that come, and tells every group of the node whom it suspects and whom it trusts
//! again ([`Group::suspect`], [`Group::trust`]); a group that is made later is told of all that are suspected then.
//!
//! # Invariants
//!
//! - A node is suspected until its first beat, and while none came for the patience that is set. So a sleeping group
//!   waits no longer for a leader than one that is awake.
//! - A node that has another life than before (it was started anew, or a group that slept there has stopped, see
//!   [`Neighbours::begin_life`]) is suspected for a moment, however soon it is back: who slept there might sleep no more.
//! - A life only rises, so that a beat that comes late says nothing.
//!
//! [`Group::suspect`]: super::group::Group::suspect
//! [`Group::trust`]: super::group::Group::trust

use std::collections::{BTreeMap, VecDeque};

use super::wire::{Beat, NodeId};
use crate::time::{Duration, Instant};

/// How often nodes hear of each other.
#[derive(Clone, Copy, Debug)]
pub struct NeighboursConfig {
    /// How often a node says that it is there.
    pub beat: Duration,
    /// After how long without that it is suspected; the groups' shortest election time-out.
    pub patience: Duration,
}

impl Default for NeighboursConfig {
    fn default() -> Self {
        NeighboursConfig { beat: Duration::from_millis(100), patience: Duration::from_millis(500) }
    }
}

/// What [`Neighbours`] asks of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourOutput {
    /// Send a beat.
    Beat {
        /// To whom.
        to: NodeId,
        /// What.
        beat: Beat,
    },
    /// Tell all groups that the node is suspected.
    Suspect(NodeId),
    /// Tell all groups that it isn't any more.
    Trust(NodeId),
}

#[derive(Clone, Copy, Debug, Default)]
struct Neighbour {
    heard: Option<Instant>,
    life: u64,
    trusted: bool,
}

/// The nodes that share groups with this one.
#[derive(Debug)]
pub struct Neighbours {
    id: NodeId,
    config: NeighboursConfig,
    life: u64,
    others: BTreeMap<NodeId, Neighbour>,
    beat_due: Instant,
    outputs: VecDeque<NeighbourOutput>,
}

impl Neighbours {
    /// Starts with nobody. `life` is higher than in any run of this node before; the wall clock will do.
    pub fn new(id: NodeId, config: NeighboursConfig, life: u64, now: Instant) -> Self {
        Neighbours { id, config, life, others: BTreeMap::new(), beat_due: now, outputs: VecDeque::new() }
    }

    /// Begins to talk with `node`, which is suspected until it is heard. For one that is known nothing changes.
    pub fn add(&mut self, node: NodeId) {
        if node != self.id && !self.others.contains_key(&node) {
            self.others.insert(node, Neighbour::default());
            self.outputs.push_back(NeighbourOutput::Suspect(node));
        }
    }

    /// Ends that: no group is shared with `node` any more.
    pub fn remove(&mut self, node: NodeId) {
        self.others.remove(&node);
    }

    /// Lets the others know that what slept here may not be there any more, as a group has stopped or its disk failed.
    pub fn begin_life(&mut self, now: Instant) {
        self.life += 1;
        self.beat_due = now;
    }

    /// Takes another node's beat.
    pub fn handle_beat(&mut self, now: Instant, beat: Beat) {
        let Some(node) = self.others.get_mut(&beat.node) else { return };
        if beat.life < node.life {
            return;
        }
        if beat.life > node.life && node.trusted {
            self.outputs.push_back(NeighbourOutput::Suspect(beat.node));
            node.trusted = false;
        }
        (node.life, node.heard) = (beat.life, Some(now));
        if !node.trusted {
            node.trusted = true;
            self.outputs.push_back(NeighbourOutput::Trust(beat.node));
        }
    }

    /// Acts on what is due at or before `now`; too early a call does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        for (node, other) in &mut self.others {
            let silent = other.heard.is_none_or(|heard| now.since(heard) >= self.config.patience);
            if other.trusted && silent {
                other.trusted = false;
                self.outputs.push_back(NeighbourOutput::Suspect(*node));
            }
        }
        if self.beat_due <= now {
            self.beat_due = now + self.config.beat;
            let beat = Beat { node: self.id, life: self.life };
            self.outputs.extend(self.others.keys().map(|to| NeighbourOutput::Beat { to: *to, beat }));
        }
    }

    /// Returns the next output, oldest first; drain to `None` after every call of another method.
    pub fn poll_output(&mut self) -> Option<NeighbourOutput> {
        self.outputs.pop_front()
    }

    /// Returns when [`Neighbours::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Instant {
        let patience = self.config.patience;
        let trusted = self.others.values().filter(|other| other.trusted);
        let silent = trusted.filter_map(|other| other.heard).min().map(|heard| heard + patience);
        silent.map_or(self.beat_due, |silent| silent.min(self.beat_due))
    }

    /// Returns those that are suspected, in order: what a group is told that is made now.
    pub fn suspected(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.others.iter().filter(|(_, other)| !other.trusted).map(|(node, _)| *node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(*b"AAAAAAAA");
    const B: NodeId = NodeId(*b"BBBBBBBB");

    fn ms(at: u64) -> Instant {
        Instant::from_nanos(at * 1_000_000)
    }

    /// A, which knows B, from the start of its life 7.
    fn pair() -> Neighbours {
        let mut pair = Neighbours::new(A, NeighboursConfig::default(), 7, ms(0));
        pair.add(B);
        pair.add(A);
        pair
    }

    fn said(pair: &mut Neighbours) -> Vec<String> {
        let word = |output| match output {
            NeighbourOutput::Beat { to, beat } => format!("{}>{to} {}", beat.node, beat.life),
            NeighbourOutput::Suspect(node) => format!("suspect {node}"),
            NeighbourOutput::Trust(node) => format!("trust {node}"),
        };
        std::iter::from_fn(|| pair.poll_output()).map(word).collect()
    }

    fn hears(pair: &mut Neighbours, at: u64, life: u64) -> Vec<String> {
        pair.handle_beat(ms(at), Beat { node: B, life });
        said(pair)
    }

    fn passes(pair: &mut Neighbours, at: u64) -> Vec<String> {
        pair.handle_timeout(ms(at));
        said(pair)
    }

    #[test]
    fn a_node_is_suspected_until_it_is_heard_and_when_it_falls_silent() {
        let mut pair = pair();
        assert_eq!(passes(&mut pair, 0), ["suspect BBBBBBBB", "AAAAAAAA>BBBBBBBB 7"]);
        assert_eq!(hears(&mut pair, 50, 3), ["trust BBBBBBBB"]);
        assert_eq!(passes(&mut pair, 99), [] as [&str; 0]);
        assert_eq!(passes(&mut pair, 100), ["AAAAAAAA>BBBBBBBB 7"]);
        assert!(hears(&mut pair, 150, 3).is_empty());
        pair.handle_timeout(ms(600));
        assert_eq!(said(&mut pair), ["AAAAAAAA>BBBBBBBB 7"]);
        assert_eq!(pair.poll_timeout(), ms(650), "half a second after it was heard");
        assert_eq!(passes(&mut pair, 650), ["suspect BBBBBBBB"]);
        assert_eq!(pair.suspected().collect::<Vec<_>>(), [B]);
        assert_eq!(hears(&mut pair, 660, 3), ["trust BBBBBBBB"]);
    }

    #[test]
    fn a_new_life_is_suspicious_and_an_old_one_is_no_news() {
        let mut pair = pair();
        passes(&mut pair, 0);
        hears(&mut pair, 10, 3);
        assert_eq!(hears(&mut pair, 20, 4), ["suspect BBBBBBBB", "trust BBBBBBBB"]);
        assert!(hears(&mut pair, 400, 3).is_empty());
        pair.handle_timeout(ms(519));
        assert_eq!(said(&mut pair), ["AAAAAAAA>BBBBBBBB 7"]);
        assert_eq!(passes(&mut pair, 520), ["suspect BBBBBBBB"], "the late beat did not count");
    }

    #[test]
    fn whoever_stops_a_group_says_so_at_once() {
        let mut pair = pair();
        passes(&mut pair, 0);
        pair.begin_life(ms(30));
        assert_eq!(pair.poll_timeout(), ms(30));
        assert_eq!(passes(&mut pair, 30), ["AAAAAAAA>BBBBBBBB 8"]);
        pair.remove(B);
        assert_eq!(passes(&mut pair, 900), [] as [&str; 0]);
        assert!(hears(&mut pair, 901, 9).is_empty(), "nobody knows it");
    }
}
