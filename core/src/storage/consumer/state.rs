//! The state of a consumer and the rules by which deliveries and acknowledgements change it.
//!
//! Source: nats-server `server/filestore.go`, `consumerFileStore.UpdateDelivered` and `UpdateAcks`, whose results these
//! are; pending and redelivered are ordered here, so that an acknowledgement finds the next floor without counting up.

use std::collections::BTreeMap;

use crate::time::WallTime;

/// A message's place among what the consumer delivered, and in its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SequencePair {
    /// Counts deliveries, from 1; zero before the first.
    pub consumer: u64,
    /// The stream's sequence.
    pub stream: u64,
}

/// A message that was delivered and is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The consumer's sequence of its *first* delivery.
    pub sequence: u64,
    /// When it was delivered last.
    pub time: WallTime,
}

/// What has to be acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AckPolicy {
    /// Nothing: delivered is done.
    #[default]
    None,
    /// The last of a run: it stands for all before it.
    All,
    /// Each message.
    Explicit,
    /// As [`AckPolicy::All`]; acknowledged by the flow control of a push consumer.
    FlowControl,
}

/// The settings of a consumer that its state depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerSettings {
    /// What has to be acknowledged.
    pub ack_policy: AckPolicy,
    /// How often a message is delivered at most; zero for no limit.
    pub max_deliver: u64,
}

/// Why an entry did not change the state.
///
/// Source of the texts: nats-server `server/store.go` and `server/filestore.go`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerError {
    /// An acknowledgement, or a second delivery, where nothing is acknowledged.
    #[error("ack policy is none")]
    NoAckPolicy,
    /// The acknowledged message is not pending.
    #[error("no message found")]
    NotPending,
    /// A replacement state is older than the one that is there.
    #[error("old update ignored")]
    OldUpdate,
    /// A replacement state has acknowledged more than was delivered.
    #[error("bad ack floor for consumer")]
    AckFloorOfConsumer,
    /// The same, by the stream's sequences.
    #[error("bad ack floor for stream")]
    AckFloorOfStream,
    /// A replacement state has something pending that can't be.
    #[error("bad pending entry, sequence [{0}] out of range")]
    PendingOutOfRange(u64),
}

/// The state of a consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerState {
    /// The last delivery.
    pub delivered: SequencePair,
    /// All up to here is acknowledged.
    pub ack_floor: SequencePair,
    /// Delivered and not acknowledged, by the stream's sequence.
    pub pending: BTreeMap<u64, Pending>,
    /// How often a message was delivered *again*, by the stream's sequence.
    pub redelivered: BTreeMap<u64, u64>,
    /// Up to here only the last message of each subject is delivered; zero if all are.
    pub last_only_through: u64,
}

impl ConsumerState {
    /// Starts behind the message `stream`: nothing up to it will be delivered.
    pub fn starting_after(stream: u64) -> Self {
        let at = SequencePair { consumer: 0, stream };
        ConsumerState { delivered: at, ack_floor: at, ..ConsumerState::default() }
    }

    /// Notes that the message `stream` went out as delivery `consumer`, for the `count`th time, at `time`.
    ///
    /// # Errors
    ///
    /// [`ConsumerError::NoAckPolicy`] for a second delivery where nothing is acknowledged.
    pub(super) fn delivered(
        &mut self,
        settings: &ConsumerSettings,
        SequencePair { consumer, stream }: SequencePair,
        count: u64,
        time: WallTime,
    ) -> Result<(), ConsumerError> {
        let acknowledged = settings.ack_policy != AckPolicy::None;
        if count != 1 && !acknowledged {
            return Err(ConsumerError::NoAckPolicy);
        }
        // A replay of what an acknowledgement has overtaken.
        if consumer <= self.ack_floor.consumer {
            return Ok(());
        }
        if acknowledged {
            if stream > self.delivered.stream {
                self.pending.insert(stream, Pending { sequence: consumer, time });
            } else if let Some(pending) = self.pending.get_mut(&stream) {
                pending.time = time;
            }
        }
        self.delivered.consumer = self.delivered.consumer.max(consumer);
        self.delivered.stream = self.delivered.stream.max(stream);
        if !acknowledged {
            self.ack_floor = self.delivered;
        }
        if count > 1 {
            if settings.max_deliver > 0 && count > settings.max_deliver {
                self.pending.remove(&stream);
            }
            let again = self.redelivered.entry(stream).or_default();
            *again = (*again).max(count - 1);
        }
        Ok(())
    }

    /// Notes that the message `stream`, delivered as `consumer`, is acknowledged.
    ///
    /// # Errors
    ///
    /// [`ConsumerError::NoAckPolicy`] where nothing is acknowledged, [`ConsumerError::NotPending`] if it isn't pending;
    /// that it was delivered again is forgotten all the same.
    pub(super) fn acknowledged(
        &mut self,
        settings: &ConsumerSettings,
        SequencePair { mut consumer, stream }: SequencePair,
    ) -> Result<(), ConsumerError> {
        if settings.ack_policy == AckPolicy::None {
            return Err(ConsumerError::NoAckPolicy);
        }
        self.redelivered.remove(&stream);
        if consumer <= self.ack_floor.consumer {
            return Ok(());
        }
        let Some(pending) = self.pending.get(&stream) else {
            return Err(ConsumerError::NotPending);
        };
        if matches!(settings.ack_policy, AckPolicy::All | AckPolicy::FlowControl) {
            self.ack_floor = SequencePair { consumer, stream };
            forget_through(&mut self.pending, stream);
            forget_through(&mut self.redelivered, stream);
            return Ok(());
        }
        // An acknowledgement of a later delivery is one of the first.
        if pending.sequence > 0 {
            consumer = consumer.min(pending.sequence);
        }
        self.pending.remove(&stream);
        if self.pending.is_empty() {
            self.ack_floor = self.delivered;
        } else if consumer == self.ack_floor.consumer + 1 {
            self.ack_floor = SequencePair { consumer, stream };
            // What was delivered before the next pending message is acknowledged, so the floor is just below it.
            if self.delivered.consumer > consumer
                && let Some((&next, pending)) = self.pending.range(stream + 1..).next()
                && pending.sequence > 0
            {
                self.ack_floor = SequencePair { consumer: pending.sequence - 1, stream: next - 1 };
            }
        }
        Ok(())
    }

    /// Notes that nothing up to `stream` will be delivered, if that is news.
    pub(super) fn skipped_to(&mut self, settings: &ConsumerSettings, stream: u64) {
        if stream > self.delivered.stream {
            self.delivered.stream = stream;
            if settings.ack_policy == AckPolicy::None {
                self.ack_floor.stream = stream;
            }
        }
    }

    /// Forgets what was delivered again below the message `stream`.
    pub(super) fn forget_redelivered_below(&mut self, stream: u64) {
        self.redelivered = self.redelivered.split_off(&stream);
    }

    /// Returns whether this can be the state of a consumer.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in the reference's words.
    pub fn check(&self) -> Result<(), ConsumerError> {
        if self.ack_floor.consumer > self.delivered.consumer {
            return Err(ConsumerError::AckFloorOfConsumer);
        }
        if self.ack_floor.stream > self.delivered.stream {
            return Err(ConsumerError::AckFloorOfStream);
        }
        let mut out_of_range = self
            .pending
            .keys()
            .filter(|stream| **stream <= self.ack_floor.stream || **stream > self.delivered.stream);
        out_of_range.next().map_or(Ok(()), |stream| Err(ConsumerError::PendingOutOfRange(*stream)))
    }

    /// Returns whether this state lies before `other`.
    pub(super) fn is_older_than(&self, other: &ConsumerState) -> bool {
        self.delivered.consumer < other.delivered.consumer || self.ack_floor.stream < other.ack_floor.stream
    }
}

/// Removes what has a sequence of at most `stream`; costs what it removes, or what it keeps.
pub(super) fn forget_through<T>(map: &mut BTreeMap<u64, T>, stream: u64) {
    *map = match stream.checked_add(1) {
        Some(next) => map.split_off(&next),
        None => BTreeMap::new(),
    };
}
