//! States that must sometimes be reached: a checker that is never near its edge proves nothing.

macro_rules! marks {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A state that must sometimes be reached.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Mark {
            $($(#[$doc])* $name,)*
        }

        impl Mark {
            /// All marks, in the order of their numbers.
            pub const ALL: &[Mark] = &[$(Mark::$name,)*];

            /// Returns the mark's name in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Mark::$name => $text,)*
                }
            }
        }
    };
}

marks! {
    /// A message reached a subscription before its PING was answered.
    DeliveredBeforePong = "delivered-before-pong",
    /// A subscription was known to stand because somebody heard a later message of its connection.
    EstablishedByCausality = "established-by-causality",
    /// A message arrived for a subscription that had been given up already, before the server knew.
    DeliveredAfterUnsub = "delivered-after-unsub",
    /// A subscription with a maximum got the last message that it would.
    AutoUnsubscribed = "auto-unsubscribed",
    /// A queue group of at least two got a message.
    QueueOfSeveral = "queue-of-several",
    /// A queue member left while its group went on.
    QueueMemberLeft = "queue-member-left",
    /// A queue message was bounced by one shard to another.
    QueueBounced = "queue-bounced",
    /// A request was answered.
    RequestAnswered = "request-answered",
    /// A request was answered with 503.
    NoResponders = "no-responders",
    /// One shard told another that a request reached nobody.
    Unreached = "unreached-on-other-shard",
    /// A publish was refused.
    PublishDenied = "publish-denied",
    /// A subscription was refused.
    SubscribeDenied = "subscribe-denied",
    /// A wildcard subscription was spared what its user may not see.
    DeliveryFiltered = "delivery-filtered",
    /// A payload was larger than a read block.
    LargePayload = "large-payload",
    /// A message had headers.
    Headers = "headers",
    /// A headers message went to somebody who can't read headers.
    HeadersStripped = "headers-stripped",
    /// A connection was closed as a slow consumer.
    SlowConsumer = "slow-consumer",
    /// A connection was closed as stale.
    Stale = "stale",
    /// A connection was one too many.
    TooManyConnections = "too-many-connections",
    /// A connection was closed for what it said.
    ProtocolError = "protocol-error",
    /// A message went from one shard to another.
    CrossShard = "cross-shard",
    /// A shard was told to hold a publisher.
    Stall = "stall",
    /// A shard paused reading a connection.
    ReadingPaused = "reading-paused",
    /// A client noticed by itself that its server had gone silent.
    ClientGaveUp = "client-gave-up",
    /// A client came back after its connection was lost.
    Reconnected = "reconnected",
    /// A server came back after a crash with clients waiting.
    ServerRestarted = "server-restarted",
    /// INFO said lame duck.
    LameDuck = "lame-duck",
    /// A connection ended with bytes of an operation that was not whole.
    EndedMidFrame = "ended-mid-frame",
    /// A frame of the peer protocol was cut, and sent again on another stream.
    RingResent = "ring-resent",
    /// The token of the peer protocol went round.
    RingLap = "ring-lap",
    /// A login was refused.
    LoginRefused = "login-refused",
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
    /// Notes that a state was reached.
    #[inline]
    pub fn reach(&mut self, mark: Mark) {
        self.0[mark as usize] += 1;
    }

    /// Returns how often it was.
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
