//! The kinds of trouble there are, and how often each came.
//!
//! A kind counts as hit when it did something (a segment was held back, a process died), not when dice were
//! thrown. Which kinds a run may use is its [`Swarm`]: every seed switches a random subset on, because faults that
//! are always there together hide what one of them does alone.

use natrix_core::rng::Rng;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All kinds, in the order of their numbers.
            pub const ALL: &[Fault] = &[$(Fault::$name,)*];

            /// Returns the kind's name in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Fault::$name => $text,)*
                }
            }
        }
    };
}

faults! {
    /// A segment took far longer than the link's usual latency.
    DelaySpike = "delay-spike",
    /// A segment was lost, and came after a retransmission timeout.
    Loss = "loss",
    /// A write left in several segments.
    Split = "split",
    /// Several writes arrived as one read.
    Coalesce = "coalesce",
    /// A segment waited for its turn on a narrow link.
    Bandwidth = "bandwidth",
    /// A segment waited on a clogged link.
    Clog = "clog",
    /// Two sides can't reach each other.
    PartitionTwoWay = "partition-two-way",
    /// One side can't reach the other, which still can.
    PartitionOneWay = "partition-one-way",
    /// One host is cut off.
    PartitionIsolate = "partition-isolate",
    /// Two halves that only one host still reaches both of.
    PartitionBridge = "partition-bridge",
    /// The links of some hosts stopped one by one and healed in another order.
    PartitionSwizzle = "partition-swizzle",
    /// A segment was held back by a partition.
    HeldByPartition = "held-by-partition",
    /// A connection was given up after too many retransmissions.
    ConnectionTimeout = "connection-timeout",
    /// A connection was cut with bytes in flight, at any byte.
    CutMidFrame = "cut-mid-frame",
    /// One end vanished and the other doesn't know.
    HalfOpen = "half-open",
    /// One end stands still for ever while its kernel goes on: nothing is read, nothing is answered.
    Frozen = "frozen",
    /// A reader reads slowly or not at all.
    SlowReader = "slow-reader",
    /// Socket buffers are tiny.
    TinySocketBuffers = "tiny-socket-buffers",
    /// A socket took fewer bytes than offered.
    PartialWrite = "partial-write",
    /// A wall clock is off.
    ClockSkew = "clock-skew",
    /// A clock runs fast or slow.
    ClockDrift = "clock-drift",
    /// A wall clock jumped forwards.
    WallJumpForward = "wall-jump-forward",
    /// A wall clock jumped backwards.
    WallJumpBack = "wall-jump-back",
    /// A whole process stood still.
    PauseProcess = "pause-process",
    /// One shard's thread stood still while the others ran.
    PauseShard = "pause-shard",
    /// A client stood still.
    PauseClient = "pause-client",
    /// A shard's thread lost its processor between two steps, for longer than a network takes.
    Preempted = "preempted",
    /// Another shard ran between two pushes of one `handle`.
    ShardsInterleaved = "shards-interleaved",
    /// A process died between two outputs of one `handle`.
    CrashAtOutput = "crash-at-output",
    /// A process died between two events.
    CrashIdle = "crash-idle",
    /// A host lost its power: nobody is told.
    PowerLoss = "power-loss",
    /// A process died again right after it had started.
    RestartStorm = "restart-storm",
    /// A dial found nobody listening.
    Refused = "refused",
    /// A client said nonsense.
    Garbage = "garbage",
    /// A client left in the middle of a frame.
    LeftMidFrame = "left-mid-frame",
    /// Many clients connected at once.
    ConnectStorm = "connect-storm",
    /// A fault point in the code took the rare path.
    FaultPoint = "fault-point",
    /// Settings were other than the default.
    RandomSettings = "random-settings",
}

/// How often each kind of fault came.
#[derive(Clone, Debug)]
pub struct Counters([u64; Fault::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Counters([0; Fault::ALL.len()])
    }
}

impl Counters {
    /// Counts one more of `fault`.
    #[inline]
    pub fn hit(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    /// Counts `times` more of `fault`.
    pub fn add(&mut self, fault: Fault, times: u64) {
        self.0[fault as usize] += times;
    }

    /// Returns how often `fault` came.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Adds what another run counted.
    pub fn merge(&mut self, other: &Counters) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

/// The kinds of fault that a run may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swarm(u64);

impl Swarm {
    /// No faults at all.
    pub const CALM: Swarm = Swarm(0);

    /// Makes the set of exactly `faults`.
    pub fn of(faults: &[Fault]) -> Swarm {
        Swarm(faults.iter().fold(0, |mask, fault| mask | 1 << *fault as u64))
    }

    /// Keeps each member with the chance of one half.
    pub fn sample(self, rng: &mut Rng) -> Swarm {
        Swarm(self.0 & rng.next_u64())
    }

    /// Adds the members of another set.
    pub fn and(self, other: Swarm) -> Swarm {
        Swarm(self.0 | other.0)
    }

    /// Returns whether `fault` may be used.
    pub fn has(self, fault: Fault) -> bool {
        self.0 & 1 << fault as u64 != 0
    }

    /// Returns the members' names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Fault::ALL.iter().filter(move |fault| self.has(**fault)).map(|fault| fault.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swarm_samples_only_its_members() {
        let whole = Swarm::of(&[Fault::Loss, Fault::Clog, Fault::CrashIdle]);
        let mut rng = Rng::from_u64(1);
        let samples: Vec<Swarm> = (0..64).map(|_| whole.sample(&mut rng)).collect();
        assert!(samples.iter().all(|sample| sample.and(whole) == whole));
        assert!(samples.contains(&Swarm::CALM) && samples.contains(&whole));
        assert_eq!(whole.names().collect::<Vec<_>>(), ["loss", "clog", "crash-idle"]);
    }

    #[test]
    fn all_kinds_fit_the_mask_and_have_names_of_their_own() {
        assert!(Fault::ALL.len() <= 64);
        let names: std::collections::BTreeSet<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), Fault::ALL.len());
    }
}
