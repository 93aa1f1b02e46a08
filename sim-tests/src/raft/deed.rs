//! What happens to a group from outside: a fault, a request of a client, a change that somebody asks for.
//!
//! A seed draws deeds as it goes; they are noted, so that a run can be repeated with some of them left out. Whatever else
//! a run draws (delays, how long a sync takes, time-outs) comes from streams of its own, one for each link and node: a
//! deed that is left out changes no more than what it was the cause of.

use natrix_core::rng::Rng;

use super::disk::Damage;
use super::plan::Fault;

/// Something done to the group. Times are in nanoseconds, nodes are numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Links go, each from one node to another after a while, and come back: those of one node, or all.
    Cut {
        /// From, to, after.
        cuts: Vec<(usize, usize, u64)>,
        /// Whose links come back, after.
        mends: Vec<(Option<usize>, u64)>,
    },
    /// A node stops, and goes on later.
    Pause {
        /// Which.
        node: usize,
        /// For how long.
        long: u64,
    },
    /// A process dies, and comes back with what was synced, and some of the rest.
    Crash {
        /// Whose.
        node: usize,
        /// After how long.
        back: u64,
        /// Decides what of the rest.
        dice: u64,
    },
    /// A write fails; whoever watches over the process starts it again.
    DiskFails {
        /// Whose.
        node: usize,
        /// After how long.
        back: u64,
        /// As of a crash.
        dice: u64,
    },
    /// A disk finishes nothing for a while.
    Stall {
        /// Whose.
        node: usize,
        /// For how long.
        long: u64,
    },
    /// A process dies and finds its disk damaged.
    Damage {
        /// Whose.
        node: usize,
        /// What of it.
        kind: Damage,
        /// After how long it comes back.
        back: u64,
        /// Decides what is lost.
        dice: u64,
    },
    /// The application lacks something that it had applied, for a while.
    Hole {
        /// Whose.
        node: usize,
        /// For how long.
        long: u64,
    },
    /// The application takes nothing, for a while.
    PauseApply {
        /// Whose.
        node: usize,
        /// For how long.
        long: u64,
    },
    /// A leader, looked for from `near` on, is asked to hand over.
    Transfer {
        /// Where to look first.
        near: usize,
        /// To whom.
        to: usize,
    },
    /// A node is told to stand for election.
    Campaign {
        /// Which.
        node: usize,
    },
    /// A leader is asked to add a member.
    Add {
        /// Where to look first.
        near: usize,
        /// Whom.
        node: usize,
    },
    /// A leader is asked to remove a member.
    Remove {
        /// Where to look first.
        near: usize,
        /// Whom.
        node: usize,
    },
    /// A leader is asked to replace the members.
    Replace {
        /// Where to look first.
        near: usize,
        /// By whom.
        nodes: Vec<usize>,
    },
    /// A client proposes some entries at once.
    Propose {
        /// Where it looks for a leader first.
        near: usize,
        /// How many.
        count: usize,
        /// How many bytes each.
        size: usize,
        /// By way of another member, if it doesn't find one.
        forward: bool,
    },
    /// A client reads.
    Read {
        /// Where it looks for a leader first.
        near: usize,
    },
    /// Something is wrong with a message: the one of this number on its way from one node to another.
    Odd {
        /// From whom.
        from: usize,
        /// To whom.
        to: usize,
        /// Which, counted from one.
        number: u64,
        /// What.
        what: Oddity,
    },
}

/// What may be wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// It is lost.
    Lost,
    /// It takes so much longer.
    Late(u64),
    /// It comes again, so much later.
    Again(u64),
    /// It takes so much longer, and comes again so much later.
    LateAndAgain(u64, u64),
}

fn seconds(ns: u64) -> String {
    match ns {
        0..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

impl Deed {
    /// Says it in words.
    pub fn words(&self) -> String {
        match self {
            Deed::Cut { cuts, mends } => {
                let links: Vec<String> = cuts.iter().map(|(from, to, _)| format!("n{from}>n{to}")).collect();
                let until = mends.iter().map(|(_, after)| *after).max().unwrap_or(0);
                format!("links go for {}: {}", seconds(until), links.join(" "))
            }
            Deed::Pause { node, long } => format!("n{node} is paused for {}", seconds(*long)),
            Deed::Crash { node, back, .. } => {
                format!(
                    "n{node} dies; what it had not synced may be lost; it is back after {}",
                    seconds(*back)
                )
            }
            Deed::DiskFails { node, back, .. } => {
                format!("a write of n{node} fails; it is started again after {}", seconds(*back))
            }
            Deed::Stall { node, long } => {
                format!("the disk of n{node} finishes nothing for {}", seconds(*long))
            }
            Deed::Damage { node, kind, back, .. } => {
                format!("n{node} dies and its {}; it is back after {}", kind.words(), seconds(*back))
            }
            Deed::Hole { node, long } => {
                format!("the application of n{node} lacks something for {}", seconds(*long))
            }
            Deed::PauseApply { node, long } => {
                format!("the application of n{node} takes nothing for {}", seconds(*long))
            }
            Deed::Transfer { to, .. } => format!("the leader is asked to hand over to n{to}"),
            Deed::Campaign { node } => format!("n{node} is told to stand for election"),
            Deed::Add { node, .. } => format!("the leader is asked to add n{node}"),
            Deed::Remove { node, .. } => format!("the leader is asked to remove n{node}"),
            Deed::Replace { nodes, .. } => {
                let nodes: Vec<String> = nodes.iter().map(|node| format!("n{node}")).collect();
                format!("the leader is asked to make {} the members", nodes.join(", "))
            }
            Deed::Propose { count, size, forward, .. } => {
                let way = if *forward { " by way of a member" } else { "" };
                format!("a client proposes {count} times {size} bytes{way}")
            }
            Deed::Read { .. } => "a client reads".to_owned(),
            Deed::Odd { from, to, number, what } => {
                let what = match what {
                    Oddity::Lost => "is lost".to_owned(),
                    Oddity::Late(by) => format!("takes {} longer", seconds(*by)),
                    Oddity::Again(after) => format!("comes twice, the second time {} later", seconds(*after)),
                    Oddity::LateAndAgain(by, after) => {
                        format!("takes {} longer and comes again {} later", seconds(*by), seconds(*after))
                    }
                };
                format!("message {number} from n{from} to n{to} {what}")
            }
        }
    }

    /// Returns whether it is a client's, and does no harm.
    pub fn is_request(&self) -> bool {
        matches!(self, Deed::Propose { .. } | Deed::Read { .. })
    }

    /// Returns the fault that it is.
    pub(super) fn fault(&self) -> Option<Fault> {
        Some(match self {
            Deed::Cut { .. } => Fault::Partition,
            Deed::Pause { .. } => Fault::Pause,
            Deed::Crash { .. } => Fault::Crash,
            Deed::DiskFails { .. } => Fault::DiskFails,
            Deed::Stall { .. } => Fault::DiskStalls,
            Deed::Damage { kind: Damage::Log, .. } => Fault::LogDamage,
            Deed::Damage { kind: Damage::Snapshot, .. } => Fault::SnapshotDamage,
            Deed::Damage { kind: Damage::Vote, .. } => Fault::VoteDamage,
            Deed::Damage { kind: Damage::Wiped, .. } => Fault::Wiped,
            Deed::Hole { .. } => Fault::Hole,
            Deed::PauseApply { .. } => Fault::PauseApply,
            Deed::Transfer { .. } => Fault::Transfer,
            Deed::Campaign { .. } => Fault::Campaign,
            Deed::Add { .. } => Fault::Add,
            Deed::Remove { .. } => Fault::Remove,
            Deed::Replace { .. } => Fault::Replace,
            Deed::Propose { .. } | Deed::Read { .. } | Deed::Odd { .. } => return None,
        })
    }

    /// Returns the line of Rust that makes it.
    pub fn code(&self) -> String {
        format!("Deed::{self:?}")
            .replace('[', "vec![")
            .replace("what: ", "what: Oddity::")
            .replace("kind: ", "kind: Damage::")
    }
}

/// What a stream of random numbers is for.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(super) enum Purpose {
    /// Delays of one link.
    Link = 1,
    /// A node's disk and application.
    Node = 2,
    /// A member in one of its lives.
    Life = 3,
    /// How fast a clock runs.
    Clock = 4,
    /// What comes when faults have ended.
    Finish = 5,
    /// What is wrong with messages.
    Odd = 6,
    /// Whether groups sleep.
    Sleep = 7,
}

/// Returns the stream of a seed for a purpose.
pub(super) fn stream(seed: u64, purpose: Purpose, one: usize, two: usize) -> Rng {
    let mut bytes = [0; 32];
    for (at, word) in [seed, purpose as u64, one as u64, two as u64].into_iter().enumerate() {
        bytes[at * 8..][..8].copy_from_slice(&word.to_le_bytes());
    }
    Rng::from_seed(bytes)
}
