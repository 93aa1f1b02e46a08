//! What API requests say, but for those that create and update.
//!
//! Some requests may be empty, some must be, and some take anything that isn't JSON for nothing: each as in the reference.
//!
//! Source: nats-server `server/jetstream_api.go`, the types `JSApi*Request` and the functions `js*Request`.

use super::consumer_config::is_valid_group_name;
use super::error::{ApiError, ErrorKind};
use super::read::{Keys, ReadJson, unmarshal, unmarshal_request};
use super::write::ZERO_TIME;
use crate::protocol::json::{JsonError, Member, Object};
use crate::time::{Duration, WallTime};

/// Tells whether a request says nothing: no byte, or an object without members.
pub fn is_empty(body: &[u8]) -> bool {
    body.is_empty()
        || Object::parse("", body)
            .is_ok_and(|object| is_object_or_list(body) && object.members().next().is_none())
}

/// Refuses a request that says something, where there is nothing to say.
///
/// # Errors
///
/// [`ErrorKind::NotEmptyRequest`].
pub fn expect_empty(body: &[u8]) -> Result<(), ApiError> {
    if is_empty(body) { Ok(()) } else { Err(ErrorKind::NotEmptyRequest.error()) }
}

/// Tells whether a text begins as an object or a list does; where a request need not say anything, nothing else is read.
fn is_object_or_list(body: &[u8]) -> bool {
    let first = body.iter().find(|byte| !b" \t\n\r".contains(byte));
    matches!(first, Some(b'{' | b'['))
}

fn optional<T: ReadJson>(body: &[u8], strict: bool) -> Result<T, ApiError> {
    if is_object_or_list(body) { unmarshal_request(body, strict) } else { Ok(T::default()) }
}

fn required<T: ReadJson>(body: &[u8], strict: bool) -> Result<T, ApiError> {
    if is_empty(body) { Err(ErrorKind::BadRequest.error()) } else { unmarshal_request(body, strict) }
}

/// A request for a page of names or descriptions of streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsRequest {
    /// How many to leave out.
    pub offset: u64,
    /// Only streams that may have messages of this subject; empty for all.
    pub subject: String,
}

/// A request for a page of names of streams: the reference's errors name the type.
#[derive(Default)]
struct StreamNamesRequest(StreamsRequest);

impl StreamsRequest {
    /// Reads a request for names.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidJson`].
    pub fn parse_names(body: &[u8], strict: bool) -> Result<Self, ApiError> {
        optional::<StreamNamesRequest>(body, strict).map(|request| request.0)
    }

    /// Reads a request for descriptions.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidJson`].
    pub fn parse_list(body: &[u8], strict: bool) -> Result<Self, ApiError> {
        optional(body, strict)
    }
}

impl ReadJson for StreamsRequest {
    const GO_TYPE: &'static str = "server.JSApiStreamListRequest";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "offset" => read_offset(member, &mut self.offset),
            "subject" => member.string(&mut self.subject),
            _ => keys.unknown(member),
        }
    }
}

impl ReadJson for StreamNamesRequest {
    const GO_TYPE: &'static str = "server.JSApiStreamNamesRequest";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        self.0.read(member, keys)
    }
}

/// Reads where a page begins; before the beginning is the beginning.
fn read_offset(member: &Member<'_>, offset: &mut u64) -> Result<(), JsonError> {
    let mut said = i64::try_from(*offset).unwrap_or(i64::MAX);
    member.integer(&mut said)?;
    *offset = u64::try_from(said).unwrap_or(0);
    Ok(())
}

/// A request for a page of names or descriptions of consumers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumersRequest {
    /// How many to leave out.
    pub offset: u64,
}

impl ConsumersRequest {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidJson`].
    pub fn parse(body: &[u8], strict: bool) -> Result<Self, ApiError> {
        optional(body, strict)
    }
}

impl ReadJson for ConsumersRequest {
    const GO_TYPE: &'static str = "server.JSApiConsumersRequest";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "offset" => read_offset(member, &mut self.offset),
            _ => keys.unknown(member),
        }
    }
}

/// A request for what there is to say about a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamInfoRequest {
    /// How many subjects to leave out.
    pub offset: u64,
    /// Whether to list the sequences without messages.
    pub deleted_details: bool,
    /// Which subjects to list, with how many messages each has; empty for none.
    pub subjects_filter: String,
}

impl StreamInfoRequest {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidJson`].
    pub fn parse(body: &[u8], strict: bool) -> Result<Self, ApiError> {
        optional(body, strict)
    }
}

impl ReadJson for StreamInfoRequest {
    const GO_TYPE: &'static str = "server.JSApiStreamInfoRequest";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "offset" => read_offset(member, &mut self.offset),
            "deleted_details" => member.boolean(&mut self.deleted_details),
            "subjects_filter" => member.string(&mut self.subjects_filter),
            _ => keys.unknown(member),
        }
    }
}

/// A request to remove messages of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PurgeRequest {
    /// Only messages before this sequence; zero for all.
    pub sequence: u64,
    /// Only messages of this subject; empty for all.
    pub subject: String,
    /// How many messages to leave; not together with `sequence`.
    pub keep: u64,
}

impl PurgeRequest {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidJson`], [`ErrorKind::BadRequest`].
    pub fn parse(body: &[u8], strict: bool) -> Result<Self, ApiError> {
        let request: PurgeRequest = optional(body, strict)?;
        match request.sequence > 0 && request.keep > 0 {
            true => Err(ErrorKind::BadRequest.error()),
            false => Ok(request),
        }
    }
}

impl ReadJson for PurgeRequest {
    const GO_TYPE: &'static str = "server.JSApiStreamPurgeRequest";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "seq" => member.number(&mut self.sequence, "uint64"),
            "filter" => member.string(&mut self.subject),
            "keep" => member.number(&mut self.keep, "uint64"),
            _ => keys.unknown(member),
        }
    }
}

/// A request to delete a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageDeleteRequest {
    /// Its sequence.
    pub sequence: u64,
    /// Whether its bytes may stay where they are.
    pub no_erase: bool,
}

impl MessageDeleteRequest {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadRequest`] if it is empty, [`ErrorKind::InvalidJson`].
    pub fn parse(body: &[u8], strict: bool) -> Result<Self, ApiError> {
        required(body, strict)
    }
}

impl ReadJson for MessageDeleteRequest {
    const GO_TYPE: &'static str = "server.JSApiMsgDeleteRequest";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "seq" => member.number(&mut self.sequence, "uint64"),
            "no_erase" => member.boolean(&mut self.no_erase),
            _ => keys.unknown(member),
        }
    }
}

/// A request for a message, or for several of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageGetRequest {
    /// This sequence, or with `next_by_subject` this one or later; zero for none.
    pub sequence: u64,
    /// The last message of this subject.
    pub last_by_subject: String,
    /// The next message of this subject.
    pub next_by_subject: String,
    /// How many.
    pub batch: i64,
    /// How many bytes at most; zero for the server's limit.
    pub max_bytes: i64,
    /// The first message of or after this time.
    pub start_time: Option<WallTime>,
    /// The last message of each subject of these.
    pub multi_last: Vec<String>,
    /// Nothing behind this sequence; zero for no limit.
    pub up_to_sequence: u64,
    /// Nothing behind this time.
    pub up_to_time: Option<WallTime>,
    /// Whether headers are left out.
    pub no_headers: bool,
}

impl MessageGetRequest {
    /// Reads a request that is answered in JSON, with one message.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadRequest`] if it is empty, or contradicts itself; [`ErrorKind::InvalidJson`].
    pub fn parse(body: &[u8], strict: bool) -> Result<Self, ApiError> {
        let request: MessageGetRequest = required(body, strict)?;
        let (has_last, has_next) = (!request.last_by_subject.is_empty(), !request.next_by_subject.is_empty());
        let (has_sequence, has_time) = (request.sequence > 0, request.start_time.is_some());
        let says_nothing = !(has_sequence || has_last || has_next || has_time);
        let conflicts =
            [(has_sequence, has_last), (has_sequence, has_time), (has_time, has_last), (has_last, has_next)];
        let is_bad = request.batch > 0
            || request.max_bytes > 0
            || says_nothing
            || conflicts.iter().any(|(one, other)| *one && *other);
        if is_bad { Err(ErrorKind::BadRequest.error()) } else { Ok(request) }
    }

    /// Reads a request that is answered with the messages themselves. An error is the text of a status 408.
    ///
    /// Source: nats-server `server/stream.go`, `processDirectGetRequest`.
    ///
    /// # Errors
    ///
    /// `Empty Request`, `Malformed Request`, `Bad Request`.
    pub fn parse_direct(body: &[u8]) -> Result<Self, &'static str> {
        if body.is_empty() {
            return Err("Empty Request");
        }
        let request: MessageGetRequest = unmarshal(body).map_err(|_| "Malformed Request")?;
        let (has_last, has_next) = (!request.last_by_subject.is_empty(), !request.next_by_subject.is_empty());
        let (has_sequence, has_time) = (request.sequence > 0, request.start_time.is_some());
        let has_many = !request.multi_last.is_empty();
        if !(has_sequence || has_last || has_next || has_many || has_time) {
            return Err("Empty Request");
        }
        let conflicts = [
            (has_sequence, has_last),
            (has_sequence, has_time),
            (has_time, has_last),
            (has_last, has_next),
            (has_last, request.batch > 0),
            (has_last, has_many),
            (has_next, has_many),
            (request.up_to_sequence > 0, request.up_to_time.is_some()),
        ];
        let is_bad = conflicts.iter().any(|(one, other)| *one && *other);
        if is_bad { Err("Bad Request") } else { Ok(request) }
    }

    /// Reads a request for the last message of the subject that the request's own subject ends in. An error is the text of a
    /// status 408.
    ///
    /// Source: nats-server `server/stream.go`, `processDirectGetLastBySubjectRequest`.
    ///
    /// # Errors
    ///
    /// `Malformed Request`, `Bad Request`.
    pub fn parse_direct_last(subject: &str, body: &[u8]) -> Result<Self, &'static str> {
        let request: MessageGetRequest = match body {
            b"" => MessageGetRequest::default(),
            body => unmarshal(body).map_err(|_| "Malformed Request")?,
        };
        let allowed = MessageGetRequest {
            max_bytes: request.max_bytes,
            no_headers: request.no_headers,
            ..MessageGetRequest::default()
        };
        if subject.is_empty() || request != allowed {
            return Err("Bad Request");
        }
        Ok(MessageGetRequest { last_by_subject: subject.to_owned(), ..allowed })
    }
}

impl ReadJson for MessageGetRequest {
    const GO_TYPE: &'static str = "server.JSApiMsgGetRequest";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "seq" => member.number(&mut self.sequence, "uint64"),
            "last_by_subj" => member.string(&mut self.last_by_subject),
            "next_by_subj" => member.string(&mut self.next_by_subject),
            "batch" => member.integer(&mut self.batch),
            "max_bytes" => member.integer(&mut self.max_bytes),
            "start_time" => member.optional_time(&mut self.start_time),
            "multi_last" => member.strings(&mut self.multi_last),
            "up_to_seq" => member.number(&mut self.up_to_sequence, "uint64"),
            "up_to_time" => member.optional_time(&mut self.up_to_time),
            "no_hdr" => member.boolean(&mut self.no_headers),
            _ => keys.unknown(member),
        }
    }
}

/// A request to pause a consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PauseRequest {
    /// Until when; `None` to go on.
    pub pause_until: Option<WallTime>,
}

impl PauseRequest {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidJson`].
    pub fn parse(body: &[u8], strict: bool) -> Result<Self, ApiError> {
        let mut request: PauseRequest = optional(body, strict)?;
        request.pause_until = request.pause_until.filter(|until| *until != ZERO_TIME);
        Ok(request)
    }
}

impl ReadJson for PauseRequest {
    const GO_TYPE: &'static str = "server.JSApiConsumerPauseRequest";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "pause_until" => {
                let mut until = self.pause_until.unwrap_or(ZERO_TIME);
                member.time(&mut until)?;
                self.pause_until = Some(until);
                Ok(())
            }
            _ => keys.unknown(member),
        }
    }
}

/// A request that the pinned client of a group be pinned no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnpinRequest {
    /// The group.
    pub group: String,
}

impl UnpinRequest {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidJson`], [`ErrorKind::ConsumerInvalidGroupName`].
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let request: UnpinRequest = unmarshal(body).map_err(|error| ErrorKind::InvalidJson.with(error))?;
        if request.group.is_empty() {
            return Err(ErrorKind::InvalidJson.with("consumer group not specified"));
        }
        match is_valid_group_name(&request.group) {
            true => Ok(request),
            false => Err(ErrorKind::ConsumerInvalidGroupName.error()),
        }
    }
}

impl ReadJson for UnpinRequest {
    const GO_TYPE: &'static str = "server.JSApiConsumerUnpinRequest";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "group" => member.string(&mut self.group),
            _ => keys.unknown(member),
        }
    }
}

/// A request that a consumer start again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResetRequest {
    /// At this sequence; zero for behind the last one that is acknowledged with all before it.
    pub sequence: u64,
}

impl ResetRequest {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidJson`].
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        match body {
            b"" => Ok(ResetRequest::default()),
            body => unmarshal(body).map_err(|error| ErrorKind::InvalidJson.with(error)),
        }
    }
}

impl ReadJson for ResetRequest {
    const GO_TYPE: &'static str = "server.JSApiConsumerResetRequest";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "seq" => member.number(&mut self.sequence, "uint64"),
            _ => keys.unknown(member),
        }
    }
}

/// A pull request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextRequest {
    /// How many messages; as said, which may be less than one.
    pub batch: i64,
    /// How many bytes at most; less than one for no limit.
    pub max_bytes: i64,
    /// How long it may wait; `None` for as long as somebody listens. What was negative is zero: it is over already.
    pub expires: Option<Duration>,
    /// Whether it doesn't wait.
    pub no_wait: bool,
    /// How often to say that nothing has come; zero for never.
    pub heartbeat: Duration,
    /// What it says to priority groups; `None` if it isn't JSON, and so is not asked for it.
    pub priority: Option<PriorityRequest>,
}

/// What a pull request says to priority groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriorityRequest {
    /// Its group; empty for none.
    pub group: String,
    /// Only if so many messages are pending.
    pub min_pending: i64,
    /// Only if so many messages are unacknowledged.
    pub min_ack_pending: i64,
    /// The id that its client was given when it was pinned.
    pub id: String,
    /// Its place in the order, from 0 to 9, lowest first.
    pub priority: i64,
}

/// A pull request as it is read.
#[derive(Default)]
struct NextBody {
    request: NextRequest,
    priority: PriorityRequest,
    expires: i64,
    heartbeat: i64,
}

impl NextRequest {
    /// Reads a pull request: nothing, a number, or JSON. Anything else is a request for one message.
    ///
    /// Source: nats-server `server/consumer.go`, `nextReqFromMsg`.
    ///
    /// # Errors
    ///
    /// What stands in a status 400 behind `Bad Request - `.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let body = body.trim_ascii();
        let one = NextRequest { batch: 1, ..NextRequest::default() };
        if !body.starts_with(b"{") {
            let number = std::str::from_utf8(body).ok().and_then(|text| text.parse().ok());
            return Ok(NextRequest { batch: number.unwrap_or(1), ..one });
        }
        let said: NextBody = unmarshal(body).map_err(|error| error.to_string())?;
        if said.heartbeat > 0 && said.heartbeat.saturating_mul(2) > said.expires {
            return Err("heartbeat value too large".to_owned());
        }
        let span = |nanos: i64| Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
        Ok(NextRequest {
            expires: (said.expires != 0).then(|| span(said.expires)),
            heartbeat: span(said.heartbeat),
            priority: Some(said.priority),
            ..said.request
        })
    }
}

impl ReadJson for NextBody {
    // The reference reads into a pointer to a pointer, and so has no name for it.
    const GO_TYPE: &'static str = "";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "expires" => member.number(&mut self.expires, "time.Duration"),
            "batch" => member.integer(&mut self.request.batch),
            "max_bytes" => member.integer(&mut self.request.max_bytes),
            "no_wait" => member.boolean(&mut self.request.no_wait),
            "idle_heartbeat" => member.number(&mut self.heartbeat, "time.Duration"),
            "group" => member.string(&mut self.priority.group),
            "min_pending" => member.number(&mut self.priority.min_pending, "int64"),
            "min_ack_pending" => member.number(&mut self.priority.min_ack_pending, "int64"),
            "id" => member.string(&mut self.priority.id),
            "priority" => member.integer(&mut self.priority.priority),
            _ => keys.unknown(member),
        }
    }
}

#[cfg(test)]
mod tests;
