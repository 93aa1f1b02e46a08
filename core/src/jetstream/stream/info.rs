//! What a stream says of itself.

use super::super::api::request::StreamInfoRequest;
use super::super::api::response::{MAX_SUBJECT_DETAILS, Page, StreamState};
use super::super::context::{Answer, Messages};
use crate::storage::DeleteRange;
use crate::storage::ledger::{Filter, SubjectPage};

/// The most sequences without messages that are listed.
///
/// Differs: the reference lists them all. A backup may say that there are more of them than anybody has memory for.
const MAX_DELETED_DETAILS: usize = 1 << 20;

/// Returns what a stream with so many consumers holds, and which page of its subjects that names: all zero if none were
/// asked for, or found. Asked again after a wait, it looks again.
///
/// Source: nats-server `server/jetstream_api.go`, `jsStreamInfoRequest`.
pub fn info(
    messages: &mut impl Messages,
    request: &StreamInfoRequest,
    consumers: u64,
) -> Answer<(StreamState, Page)> {
    messages.ask(|ledger| {
        let mut state = StreamState::of(&ledger.state()?, consumers);
        if request.deleted_details {
            let each = |range: DeleteRange| range.first..range.first + range.count;
            state.deleted = ledger.deleted()?.into_iter().flat_map(each).take(MAX_DELETED_DETAILS).collect();
        }
        if request.subjects_filter.is_empty() {
            return Ok((state, Page::default()));
        }
        let filter = Filter::Subject(request.subjects_filter.as_bytes());
        let offset = usize::try_from(request.offset).unwrap_or(usize::MAX);
        let SubjectPage { total, subjects } = ledger.subject_page(filter, offset, MAX_SUBJECT_DETAILS);
        let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        state.subjects = subjects.into_iter().map(|(subject, count)| (name(&subject), count)).collect();
        let page = Page { total, offset, limit: MAX_SUBJECT_DETAILS };
        Ok((state, if total > 0 { page } else { Page::default() }))
    })
}
