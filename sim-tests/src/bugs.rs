//! The planted bugs, the scenario that each is looked for in, and the checkers that may see it.

use natrix_core::planted::Bug;

use crate::oracle::{Checker, Violation};
use crate::scenario;
use crate::world::Settings;

/// A planted bug and where to look for it.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    /// The bug.
    pub bug: Bug,
    /// Its name on the command line.
    pub name: &'static str,
    /// The scenario that catches it.
    pub scenario: &'static str,
    /// The checkers one of which must see it.
    pub checkers: &'static [Checker],
}

macro_rules! planted {
    ($($bug:ident $name:literal in $scenario:literal by $($checker:ident)*;)*) => {
        /// All planted bugs.
        pub const PLANTED: &[Planted] = &[$(Planted {
            bug: Bug::$bug,
            name: $name,
            scenario: $scenario,
            checkers: &[$(Checker::$checker,)*],
        },)*];
    };
}

planted! {
    InboxRingPerPair "inbox-ring-per-pair" in "races" by PingAfterSub QueueLost NoResponders;
    InboxNotDrained "inbox-not-drained" in "races" by PingAfterSub;
    FlushBeforePush "flush-before-push" in "races" by PingAfterSub;
    InboxReordered "inbox-reordered" in "calm" by Order PingAfterSub Duplicate;
    InterestBatchedPastMessage "interest-batched-past-message" in "races" by PingAfterSub NoResponders;
    InterestNeverWithdrawn "interest-never-withdrawn" in "requests" by Leak NoResponders QueueLost;
    QueueMemberLost "queue-member-lost" in "queue-groups" by QueueLost;
    BouncedTwice "bounced-twice" in "queue-groups" by QueueOnce Duplicate;
    QueueOncePerShard "queue-once-per-shard" in "queue-groups" by QueueOnce;
    StaleMatchCache "stale-match-cache" in "churn" by PingAfterSub Unsubscribe QueueLost;
    DenyIgnoredOnDelivery "deny-ignored-on-delivery" in "permissions" by Permission;
    AutoUnsubscribeOffByOne "auto-unsubscribe-off-by-one" in "auto-unsubscribe" by AutoUnsubscribe;
    SlowConsumerNeverClosed "slow-consumer-never-closed" in "slow-readers" by Memory;
    EchoIgnored "echo-ignored" in "calm" by Echo;
    AccountLeak "account-leak" in "accounts" by Account PingAfterSub;
    NoRespondersTooEager "no-responders-too-eager" in "requests" by NoResponders;
    NoRespondersNever "no-responders-never" in "requests" by NoResponders;
    PartialLineLost "partial-line-lost" in "calm" by Close Protocol Liveness Integrity;
    DeliverTwice "deliver-twice" in "calm" by Duplicate Order;
    StalledForever "stalled-forever" in "calm" by Liveness Close;
    CreditLost "credit-lost" in "large-payloads" by Liveness Close;
    StaleNeverClosed "stale-never-closed" in "clocks" by Leak;
    UnboundedHandle "unbounded-handle" in "floods" by Work;
}

/// How a planted bug was caught.
#[derive(Clone, Debug)]
pub struct Caught {
    /// After so many seeds, the last one included.
    pub seeds: u64,
    /// The seed.
    pub seed: u64,
    /// What was seen.
    pub violation: Violation,
}

impl Planted {
    /// Looks for the bug from seed `start` on, in at most `seeds` seeds.
    pub fn hunt(&self, start: u64, seeds: u64) -> Option<Caught> {
        let scenario = scenario::find(self.scenario)?;
        (start..start + seeds).find_map(|seed| {
            let settings = Settings { bug: Some(self.bug), ..Settings::default() };
            let (report, _) = scenario.run(seed, settings);
            let seen =
                report.violations.into_iter().find(|violation| self.checkers.contains(&violation.checker));
            seen.map(|violation| Caught { seeds: seed - start + 1, seed, violation })
        })
    }
}

/// Returns the planted bug of that name.
pub fn find(name: &str) -> Option<&'static Planted> {
    PLANTED.iter().find(|planted| planted.name == name)
}
