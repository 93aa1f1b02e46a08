//! What a stream says of itself.

use super::super::context::{Answer, Messages};
use crate::storage::ledger::Filter;
use crate::storage::{DeleteRange, StreamState};

/// The most subjects that one answer has.
///
/// Source: nats-server `server/jetstream_api.go`, `JSMaxSubjectDetails`.
pub const MOST_SUBJECTS: usize = 100_000;

/// What is asked of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Whether each deleted sequence is wanted.
    pub deleted: bool,
    /// Which subjects are wanted; empty for none.
    pub subjects: String,
    /// How many of them to pass over.
    pub offset: usize,
}

/// A stream in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The numbers.
    pub state: StreamState,
    /// The runs of sequences without messages, if they were asked for.
    pub deleted: Option<Vec<DeleteRange>>,
    /// Subjects, in order, with how many messages they have, if they were asked for.
    pub subjects: Option<SubjectPage>,
}

/// Some of the subjects that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectPage {
    /// How many there are in all.
    pub total: usize,
    /// These.
    pub page: Vec<(Box<[u8]>, u64)>,
}

/// Tells what was asked. Asked again after a wait, it looks again.
pub fn tell(messages: &mut impl Messages, asked: &Asked) -> Answer<Told> {
    messages.ask(|ledger| {
        let state = ledger.state()?;
        let deleted = if asked.deleted { Some(ledger.deleted()?) } else { None };
        let subjects = (!asked.subjects.is_empty()).then(|| {
            let filter = Filter::Subject(asked.subjects.as_bytes());
            let (total, page) = ledger.subject_page(filter, asked.offset, MOST_SUBJECTS);
            SubjectPage { total, page }
        });
        Ok(Told { state, deleted, subjects })
    })
}
