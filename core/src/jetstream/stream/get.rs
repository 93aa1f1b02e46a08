//! Reading one message: which one is meant, and where it is.

use bytes::Bytes;

use super::super::api::request::MessageGetRequest;
use super::super::context::{Answer, Messages};
use super::publish::{Stop, ask};
use crate::storage::Message;
use crate::storage::ledger::Filter;
use crate::time::WallTime;

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At this sequence.
    Sequence(u64),
    /// At the first message that isn't older.
    Time(WallTime),
}

/// Which message is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// That one.
    At(Start),
    /// The first from there on whose subject this matches, perhaps with wildcards.
    Next {
        /// The subject.
        filter: Bytes,
        /// From where on.
        from: Start,
    },
    /// The last whose subject this matches, perhaps with wildcards.
    Last(Bytes),
}

impl Start {
    /// Returns the sequence.
    pub(super) fn sequence(self, messages: &mut impl Messages) -> Result<u64, Stop> {
        match self {
            Start::Sequence(sequence) => Ok(sequence),
            Start::Time(time) => ask(messages, |ledger| ledger.sequence_from_time(time)),
        }
    }
}

impl Which {
    /// Says which one a request means, of one that makes sense.
    pub fn of(request: &MessageGetRequest) -> Which {
        let from = request.start_time.map_or(Start::Sequence(request.sequence), Start::Time);
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        match (&*request.last_by_subject, &*request.next_by_subject) {
            ("", "") => Which::At(from),
            ("", filter) => Which::Next { filter: bytes(filter), from },
            (filter, _) => Which::Last(bytes(filter)),
        }
    }
}

/// Returns the message that is meant, if it is there. Asked again after a wait, it looks again.
pub fn get(messages: &mut impl Messages, which: &Which) -> Answer<Option<Message>> {
    match find(messages, which) {
        Ok(Some(sequence)) => messages.load(sequence),
        Ok(None) => Answer::Ready(None),
        Err(_) => Answer::Wait,
    }
}

fn find(messages: &mut impl Messages, which: &Which) -> Result<Option<u64>, Stop> {
    match which {
        Which::At(start) => start.sequence(messages).map(Some),
        Which::Next { filter, from } => {
            let from = from.sequence(messages)?;
            ask(messages, |ledger| ledger.next(Filter::Subject(filter), from))
        }
        Which::Last(filter) => ask(messages, |ledger| ledger.previous(Filter::Subject(filter), u64::MAX - 1)),
    }
}
