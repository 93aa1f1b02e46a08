//! What was proposed and isn't applied yet.

use bytes::Bytes;

use super::super::api::error::ApiError;
use super::settings::Settings;
use crate::storage::Scheduling;

/// Names a request, so that its answer finds who asked. The caller's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A message that is to be published again when it is stored.
#[derive(Debug)]
pub(super) struct Republishing {
    pub(super) to: Bytes,
    pub(super) headers: Bytes,
    pub(super) payload: Bytes,
    /// The last sequence that the message's subject had before it.
    pub(super) last_sequence: u64,
    pub(super) time: crate::time::WallTime,
}

/// A message on its way into the stream, or past it.
#[derive(Debug, Default)]
pub(super) struct Storing {
    pub(super) sequence: u64,
    pub(super) subject: Bytes,
    /// Where the acknowledgement goes; empty for nowhere.
    pub(super) reply: Bytes,
    /// What it counts for in bytes; zero for one that nobody wants.
    pub(super) size: u64,
    /// Whether it pushes out another of its subject.
    pub(super) replaces: bool,
    /// Whether nobody wants it: its sequence is used, and that is all.
    pub(super) unwanted: bool,
    /// Whether it has a time to live of its own.
    pub(super) has_ttl: bool,
    /// What it is to the schedules.
    pub(super) scheduling: Scheduling,
    pub(super) republishing: Option<Box<Republishing>>,
    /// Why it is answered with an error although it will be stored: its rollup isn't coming.
    pub(super) failed: Option<Box<ApiError>>,
}

/// A change on its way.
#[derive(Debug)]
pub(super) enum Flight {
    /// A message, or the sequence of one that nobody wants.
    Store(Storing),
    /// The removal of what a message replaces, or of the schedule that it ends. There may be one of each behind a message.
    Rollup {
        /// The subject; empty for all.
        subject: Bytes,
        /// How many of the subject are left: the message itself, unless nobody wanted it or it has another subject.
        keeps: u64,
        /// The message, once it is stored: it is answered when both are done.
        stored: Option<Storing>,
    },
    /// The removal of one message by request.
    Remove(Ticket, [u64; 1]),
    /// The removal of messages whose time is over, or that everybody has.
    Expire(Vec<u64>),
    /// A purge, perhaps by request; what it makes the last sequence at least.
    Purge(Option<Ticket>, Bytes, u64),
    /// New settings; with the old ones, should they stay.
    Configure(Ticket, Box<Settings>),
}

/// What a flight makes of the head's bounds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Effect {
    /// The last sequence is at least this.
    pub(super) last: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) replaces: bool,
    /// Whether it takes away messages that aren't counted.
    pub(super) removes: bool,
    /// Whether these may be any.
    pub(super) broad: bool,
}

impl Flight {
    pub(super) fn effect(&self) -> Effect {
        let nothing = Effect::default();
        match self {
            Flight::Store(storing) => Effect {
                last: storing.sequence,
                messages: u64::from(!storing.unwanted && !storing.replaces),
                bytes: storing.size,
                replaces: storing.replaces,
                ..nothing
            },
            Flight::Rollup { subject, .. } => Effect { removes: true, broad: subject.is_empty(), ..nothing },
            Flight::Remove(..) | Flight::Expire(_) => Effect { removes: true, ..nothing },
            Flight::Purge(_, _, last) => Effect { last: *last, removes: true, broad: true, ..nothing },
            Flight::Configure(..) => Effect { removes: true, broad: true, ..nothing },
        }
    }

    /// Returns the messages that it removes by their sequences.
    pub(super) fn leaving(&self) -> &[u64] {
        match self {
            Flight::Remove(_, sequence) => sequence,
            Flight::Expire(sequences) => sequences,
            _ => &[],
        }
    }

    /// Returns the one subject that it is about, if there is one.
    pub(super) fn subject(&self) -> Option<&Bytes> {
        match self {
            Flight::Store(storing) if !storing.unwanted => Some(&storing.subject),
            Flight::Rollup { subject, .. } if !subject.is_empty() => Some(subject),
            _ => None,
        }
    }

    /// Tells whether it stores a message.
    pub(super) fn stores(&self) -> bool {
        matches!(self, Flight::Store(storing) if !storing.unwanted)
    }

    /// Tells whether it leaves of its subject only what [`Flight::keeps`] says.
    pub(super) fn rolls_up(&self) -> bool {
        matches!(self, Flight::Rollup { .. })
    }

    pub(super) fn keeps(&self) -> u64 {
        if let Flight::Rollup { keeps, .. } = self { *keeps } else { 0 }
    }
}
