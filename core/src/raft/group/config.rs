//! The settings of a group.

use crate::time::Duration;

/// How a group behaves; all members should have the same.
#[derive(Clone, Debug)]
pub struct Config {
    /// The shortest time without a leader after which a member stands for election. A member that has heard a leader
    /// within this time votes for nobody else.
    ///
    /// Differs: 4 s in the reference. With pre-votes a needless try costs nothing, so a dead leader may be noticed soon.
    pub election_min: Duration,
    /// The longest.
    pub election_max: Duration,
    /// How often a leader says that it is there. 1 s in the reference.
    pub heartbeat: Duration,
    /// How many entries go in one message, at most 65,535.
    pub max_batch_entries: usize,
    /// How many bytes of entries go in one message, unless one entry is larger.
    pub max_batch_bytes: usize,
    /// How many messages with entries may be under way to one member.
    pub max_in_flight: usize,
    /// How many bytes of them.
    pub max_in_flight_bytes: usize,
    /// How many bytes of proposals may wait to be committed before more are refused.
    pub max_uncommitted_bytes: usize,
    /// How many entries may be committed and not applied; a leader then refuses proposals, a follower takes no entries.
    pub max_unapplied: u64,
    /// How many entries are handed out at once.
    pub max_apply: usize,
    /// How many bytes of a snapshot go in one message.
    pub chunk_bytes: usize,
    /// How many bytes of a snapshot may be under way to one member.
    pub max_chunks_in_flight: usize,
    /// How many entries behind the snapshot make [`Output::WantSnapshot`](super::Output::WantSnapshot).
    pub snapshot_entries: u64,
    /// How many bytes.
    pub snapshot_bytes: usize,
    /// How many applied entries are kept behind a snapshot, for members that lag a little.
    pub keep_entries: u64,
    /// How long a node that is to be added may take to catch up, and a removed one is told of its removal.
    pub change_timeout: Duration,
    /// After how long without anything to do a group sleeps; `None`: never. Needs an owner that tells its groups which nodes
    /// it doesn't hear: [`Group::suspect`](super::Group::suspect).
    pub sleep_after: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1000),
            heartbeat: Duration::from_millis(100),
            max_batch_entries: 1024,
            max_batch_bytes: 256 * 1024,
            max_in_flight: 128,
            max_in_flight_bytes: 8 * 1024 * 1024,
            max_uncommitted_bytes: 64 * 1024 * 1024,
            max_unapplied: 100_000,
            max_apply: 1024,
            chunk_bytes: 256 * 1024,
            max_chunks_in_flight: 4,
            snapshot_entries: 20_000,
            snapshot_bytes: 64 * 1024 * 1024,
            keep_entries: 1_000,
            change_timeout: Duration::from_secs(10),
            sleep_after: None,
        }
    }
}
