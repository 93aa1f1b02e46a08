//! Reading a backup as its bytes come. They may be anything: each number is bounded before anything is made of it.

use bytes::{Bytes, BytesMut};

use super::{CONSUMERS, STATE};
use crate::jetstream::api::backup::{BackupConsumer, BackupState};
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::stream::time_to_live;
use crate::protocol::headers;
use crate::protocol::json::JsonError;
use crate::storage::archive::{ArchiveReader, Entry, Part};
use crate::storage::s2::{self, S2Error};
use crate::subject::is_valid_literal_subject;
use crate::time::WallTime;

/// The longest description of a stream that is read, in bytes.
const MAX_STATE: u64 = 1 << 20;
/// The longest consumer that is read, in bytes: half a million messages that aren't acknowledged.
const MAX_CONSUMER: u64 = 32 << 20;
/// The longest subject that is stored, in bytes.
const MAX_SUBJECT: usize = (1 << 16) - 1;

/// No sequence is higher than this: that many more fit in any number.
///
/// Differs: the reference takes any.
pub const MAX_SEQUENCE: u64 = 1 << 62;

/// What a restore allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest headers and payload of a message that a client may send, in bytes.
    pub max_payload: u64,
    /// The same, of the stream; `None` for no limit.
    pub max_message_size: Option<u64>,
}

/// What a backup says next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// What the stream was.
    State(BackupState),
    /// A consumer that it had, by its name.
    Consumer(String, Box<BackupConsumer>),
    /// A message that it had. Their sequences rise, with gaps.
    Message(RestoredMessage),
    /// That is all.
    End,
}

/// A message of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredMessage {
    /// Its sequence.
    pub sequence: u64,
    /// When it was stored.
    pub time: WallTime,
    /// Its subject.
    pub subject: Bytes,
    /// Its headers.
    pub headers: Bytes,
    /// Its payload.
    pub payload: Bytes,
    /// How many seconds it lives, by its headers; zero if they don't say.
    pub ttl: u64,
}

/// Why a backup can't be used, in the reference's words where it has any.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The texts say it.
pub enum BackupError {
    #[error("EOF")]
    Ended,
    #[error("unexpected EOF")]
    EndedEarly,
    #[error(transparent)]
    Compression(#[from] S2Error),
    #[error("archive: invalid archive stream")]
    Archive,
    #[error("not a backup of a server 2.15 or later: back the stream up again with one")]
    OtherFormat,
    #[error("expected state.json first")]
    NoState,
    #[error("expected state.json contents")]
    StateTooLong,
    #[error("error in state.json: {}", said(.0))]
    State(JsonError),
    #[error("expected consumer, found {0:?}")]
    NoConsumer(String),
    #[error("consumer {0:?} is too large")]
    ConsumerTooLong(String),
    #[error("failed to decode consumer {:?} state: {}", .0, said(.1))]
    Consumer(String, JsonError),
    #[error("failed to read consumer {0:?} state: archive: invalid archive stream")]
    ConsumerCut(String),
    #[error("expected message sequence")]
    NoSequence,
    #[error("message sequence {0} exceeds maximum payload size")]
    LongerThanPayload(u64),
    #[error("message sequence {0} exceeds maximum message size")]
    LongerThanMessage(u64),
    #[error("message sequence {0} out of order")]
    OutOfOrder(u64),
    #[error("message sequence {0} has no subject that can be published to")]
    Subject(u64),
    #[error("failed to read message sequence {0}: archive: invalid archive stream")]
    MessageCut(u64),
    #[error("failed to parse message TTL: {0}")]
    TimeToLive(ApiError),
}

/// Says what is wrong with JSON as the reference does here: of the beginning of it, in fewer words than elsewhere.
fn said(error: &JsonError) -> String {
    match error {
        JsonError::Truncated => "unexpected EOF".to_owned(),
        other => other.to_string(),
    }
}

/// Where a reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    State,
    Consumers(u64),
    Messages,
    Ended,
}

/// Reads a backup.
#[derive(Debug)]
pub struct BackupReader {
    limits: Limits,
    compressed: s2::Reader,
    archive: ArchiveReader,
    /// What the archive begins with, and how much of that has come: by it formats are told apart.
    preamble: [u8; 8],
    seen: usize,
    stage: Stage,
    /// The entry that is being read, and what of it has come.
    entry: Option<Entry>,
    data: BytesMut,
    last_sequence: u64,
}

impl BackupReader {
    /// Begins to read.
    pub fn new(limits: Limits) -> Self {
        BackupReader {
            limits,
            compressed: s2::Reader::default(),
            archive: ArchiveReader::default(),
            seen: 0,
            preamble: [0; 8],
            stage: Stage::State,
            entry: None,
            data: BytesMut::new(),
            last_sequence: 0,
        }
    }

    /// Takes the next bytes: when [`BackupReader::poll`] wants more, so that only what one block holds is kept.
    pub fn push(&mut self, bytes: &[u8]) {
        // Behind the end nobody looks.
        if self.stage != Stage::Ended {
            self.compressed.push(bytes);
        }
    }

    /// Returns what comes next; `None` until there are more bytes, and for ever behind the end.
    ///
    /// # Errors
    ///
    /// [`BackupError`]; nothing more is to be asked then.
    pub fn poll(&mut self) -> Result<Option<Item>, BackupError> {
        while self.stage != Stage::Ended {
            let part = match self.archive.poll() {
                Ok(part) => part,
                Err(_) if self.preamble != *b"NATSARC1" => return Err(BackupError::OtherFormat),
                Err(_) => return Err(BackupError::Archive),
            };
            match part {
                Some(Part::Entry(entry)) => {
                    self.check(&entry)?;
                    self.data = BytesMut::new();
                    self.entry = Some(entry);
                }
                Some(Part::Data(bytes)) => self.data.extend_from_slice(&bytes),
                None => match self.compressed.poll()? {
                    Some(block) => self.decompressed(&block),
                    None => return Ok(None),
                },
            }
            if let Some(entry) =
                self.entry.take_if(|entry| self.data.len() as u64 == entry.headers + entry.payload)
            {
                return self.item(&entry).map(Some);
            }
        }
        Ok(None)
    }

    fn decompressed(&mut self, block: &[u8]) {
        let (start, rest) = block.split_at(block.len().min(self.preamble.len() - self.seen));
        self.preamble[self.seen..self.seen + start.len()].copy_from_slice(start);
        self.seen += start.len();
        // What may be something else waits until that can be told.
        if !start.is_empty() && self.seen == self.preamble.len() {
            self.archive.push(&self.preamble);
        }
        self.archive.push(rest);
    }

    /// Looks at an entry before its data is taken.
    fn check(&mut self, entry: &Entry) -> Result<(), BackupError> {
        let length = entry.headers.saturating_add(entry.payload);
        match self.stage {
            Stage::State if entry.name != STATE => Err(BackupError::NoState),
            Stage::State if length > MAX_STATE => Err(BackupError::StateTooLong),
            Stage::Consumers(_) => {
                let name = text(&entry.name);
                match name.strip_prefix(CONSUMERS) {
                    None => Err(BackupError::NoConsumer(name)),
                    Some(name) if length > MAX_CONSUMER => Err(BackupError::ConsumerTooLong(name.to_owned())),
                    Some(_) => Ok(()),
                }
            }
            Stage::Messages => self.check_message(entry, length),
            Stage::State | Stage::Ended => Ok(()),
        }
    }

    fn check_message(&mut self, entry: &Entry, length: u64) -> Result<(), BackupError> {
        let sequence = entry.sequence;
        if sequence == 0 {
            // The end says nothing else.
            return if entry.time == 0 && length == 0 { Ok(()) } else { Err(BackupError::NoSequence) };
        }
        if length > self.limits.max_payload {
            return Err(BackupError::LongerThanPayload(sequence));
        }
        if self.limits.max_message_size.is_some_and(|most| length > most) {
            return Err(BackupError::LongerThanMessage(sequence));
        }
        if sequence <= self.last_sequence || sequence > MAX_SEQUENCE {
            return Err(BackupError::OutOfOrder(sequence));
        }
        // Differs: the reference stores it under whatever subject.
        match entry.name.len() <= MAX_SUBJECT && is_valid_literal_subject(&entry.name) {
            true => Ok(()),
            false => Err(BackupError::Subject(sequence)),
        }
    }

    /// Makes of an entry what it says.
    fn item(&mut self, entry: &Entry) -> Result<Item, BackupError> {
        let mut data = std::mem::take(&mut self.data).freeze();
        match self.stage {
            Stage::State => {
                let state = BackupState::parse(&data).map_err(BackupError::State)?;
                self.last_sequence = state.first_sequence.saturating_sub(1);
                self.expect(u64::try_from(state.consumers).unwrap_or(0));
                Ok(Item::State(state))
            }
            Stage::Consumers(left) => {
                self.expect(left - 1);
                let name = text(&entry.name).split_off(CONSUMERS.len());
                match BackupConsumer::parse(&data) {
                    Ok(consumer) => Ok(Item::Consumer(name, Box::new(consumer))),
                    Err(error) => Err(BackupError::Consumer(name, error)),
                }
            }
            Stage::Messages if entry.sequence == 0 => {
                self.stage = Stage::Ended;
                (self.compressed, self.archive) = (s2::Reader::default(), ArchiveReader::default());
                Ok(Item::End)
            }
            Stage::Messages | Stage::Ended => {
                // It was checked that this is no more than there is.
                let headers = data.split_to(entry.headers as usize);
                self.last_sequence = entry.sequence;
                Ok(Item::Message(RestoredMessage {
                    sequence: entry.sequence,
                    time: WallTime::from_unix_nanos(entry.time),
                    subject: entry.name.clone(),
                    ttl: message_ttl(&headers)?,
                    headers,
                    payload: data,
                }))
            }
        }
    }

    fn expect(&mut self, consumers: u64) {
        self.stage = if consumers == 0 { Stage::Messages } else { Stage::Consumers(consumers) };
    }

    /// Says that there are no more bytes; to be asked when [`BackupReader::poll`] has nothing more.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn finish(&self) -> Result<(), BackupError> {
        if self.stage == Stage::Ended {
            return Ok(());
        }
        if !self.compressed.is_whole() {
            return Err(BackupError::Compression(S2Error::Corrupt));
        }
        match (&self.entry, self.stage, self.seen) {
            (_, _, 0) => Err(BackupError::Ended),
            (_, _, 1..8) => Err(BackupError::EndedEarly),
            (Some(_), Stage::State, _) => Err(BackupError::StateTooLong),
            (Some(entry), Stage::Consumers(_), _) => {
                Err(BackupError::ConsumerCut(text(&entry.name).split_off(CONSUMERS.len())))
            }
            (Some(entry), ..) => Err(BackupError::MessageCut(entry.sequence)),
            (None, ..) => {
                self.archive.finish().map_err(|_| BackupError::Archive).and(Err(BackupError::Ended))
            }
        }
    }
}

/// A name for an error; what is no text in it doesn't matter then.
fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Returns how many seconds a message lives by its headers.
fn message_ttl(block: &[u8]) -> Result<u64, BackupError> {
    match headers::get(block, b"Nats-TTL").filter(|ttl| !ttl.is_empty()) {
        None => Ok(0),
        Some(ttl) => {
            time_to_live(ttl).ok_or_else(|| BackupError::TimeToLive(ErrorKind::MessageTtlInvalid.error()))
        }
    }
}
