//! States that runs must sometimes reach.

macro_rules! marks {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A state that must sometimes be reached.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Mark { $($(#[$doc])* $name,)* }

        impl Mark {
            /// All marks, in the order of their numbers.
            pub const ALL: &[Mark] = &[$(Mark::$name,)*];

            /// Returns its name in reports.
            pub fn name(self) -> &'static str {
                match self { $(Mark::$name => $text,)* }
            }
        }
    };
}

marks! {
    /// Somebody was elected.
    Elected = "elected",
    /// A leader was told to hand over, and the other was elected.
    Transferred = "transferred",
    /// A leader gave up because it heard no majority.
    QuorumLost = "quorum-lost",
    /// A leader learned of a later one.
    Deposed = "deposed",
    /// Two members led at once, in different terms.
    TwoLeaders = "two-leaders",
    /// Entries were cut off a log.
    Truncated = "truncated",
    /// A snapshot was made.
    Snapshot = "snapshot-made",
    /// A snapshot from another member was applied.
    Restored = "snapshot-restored",
    /// A snapshot went in several pieces.
    Chunks = "snapshot-in-pieces",
    /// A log was compacted.
    Compacted = "compacted",
    /// A joint configuration was committed.
    Joint = "joint-committed",
    /// A member was removed and learned it.
    Removed = "removed",
    /// A node that was to be added did not catch up in time.
    AddFailed = "add-failed",
    /// A leader removed itself.
    LeaderRemoved = "leader-removed",
    /// A member started in doubt about what it had said.
    InDoubt = "in-doubt",
    /// A member's doubt ended.
    Healed = "doubt-ended",
    /// A member took over while its application lacked nothing, another had a hole.
    HoleWaited = "hole-waited",
    /// A read was answered.
    Read = "read-answered",
    /// A read was given up with its leader.
    ReadFailed = "read-failed",
    /// A proposal was refused for lack of room.
    Busy = "busy",
    /// A proposal was lost with its leader.
    ProposalLost = "proposal-lost",
    /// A proposal went by way of a follower.
    Forwarded = "forwarded",
    /// A group with nothing to do slept.
    Slept = "slept",
    /// A member was woken because its node doesn't hear another.
    WokenBySuspicion = "woken-by-suspicion",
    /// A member was woken by another that hears no leader.
    WokenByCandidate = "woken-by-candidate",
    /// A group was woken by a client.
    WokenByRequest = "woken-by-request",
    /// A member found more in its log than it had synced.
    UnsyncedKept = "unsynced-kept",
}

/// Which marks were reached, and how often.
#[derive(Clone, Debug)]
pub struct Marks([u64; Mark::ALL.len()]);

impl Default for Marks {
    fn default() -> Self {
        Marks([0; Mark::ALL.len()])
    }
}

impl Marks {
    pub(super) fn reach(&mut self, mark: Mark) {
        self.0[mark as usize] += 1;
    }

    /// Returns how often `mark` was reached.
    pub fn of(&self, mark: Mark) -> u64 {
        self.0[mark as usize]
    }

    /// Adds another run's.
    pub fn merge(&mut self, other: &Marks) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}
