//! What is done to a stream by request: removing a message, purging, other settings.

use bytes::Bytes;

use super::super::api::error::{ApiError, ErrorKind};
use super::flight::{Flight, Ticket};
use super::settings::Settings;
use super::{Event, Stream};
use crate::storage::change::Change;

/// A request that changes the stream. Its answer is an [`Event::Done`] with the same ticket.
#[derive(Clone, Debug)]
pub enum Request {
    /// Remove one message: the API's `STREAM.MSG.DELETE`.
    Remove {
        /// Which.
        sequence: u64,
        /// Whether its bytes are overwritten.
        erase: bool,
    },
    /// Remove many: the API's `STREAM.PURGE`.
    Purge {
        /// Whose subject this matches, perhaps with wildcards; empty for all.
        subject: Bytes,
        /// Only below this sequence; zero for no bound.
        below: u64,
        /// But for the last so many.
        keep: u64,
    },
    /// Take other settings: the API's `STREAM.UPDATE`. Where messages begin to go by interest, all consumers are to be told
    /// again when it is done ([`Stream::set_consumer`]): until then nobody counted what they have.
    Configure(Box<Settings>),
}

impl Stream {
    /// Proposes what was asked for, or says why not.
    pub(super) fn carry_out_request(&mut self, ticket: Ticket, request: Request) {
        if let Err(error) = self.check_request(&request) {
            self.events.push_back(Event::Done { ticket, result: Err(error) });
            return;
        }
        match request {
            // Nothing that is on its way will be there.
            Request::Remove { sequence, .. } if sequence > self.head.last() => {
                let result = Err(ErrorKind::SequenceNotFound.with(sequence));
                self.events.push_back(Event::Done { ticket, result });
            }
            Request::Remove { sequence, erase } => {
                self.propose(Flight::Remove(ticket, [sequence]), Change::Remove { sequence, erase });
            }
            Request::Purge { subject, below, keep } => self.purge(Some(ticket), subject, below, keep),
            Request::Configure(settings) => {
                let change = Change::Configure(Box::new(settings.store.clone()));
                let before = std::mem::replace(&mut self.settings, settings);
                self.propose(Flight::Configure(ticket, before), change);
            }
        }
    }

    /// Proposes a purge. One beyond the last sequence uses up those before it, as in the reference.
    pub(super) fn purge(&mut self, ticket: Option<Ticket>, subject: Bytes, below: u64, keep: u64) {
        let everything = subject.is_empty() || subject == ">";
        let last = if everything && below > 1 { below - 1 } else { 0 };
        let flight = Flight::Purge(ticket, subject.clone(), last);
        self.propose(flight, Change::Purge { subject, below, keep });
    }

    fn check_request(&self, request: &Request) -> Result<(), ApiError> {
        let settings = &self.settings;
        match request {
            Request::Configure(_) => Ok(()),
            _ if settings.sealed => Err(ErrorKind::StreamSealed.error()),
            Request::Remove { .. } if settings.deny_delete => {
                Err(ErrorKind::StreamMessageDeleteFailed.with("message delete not permitted"))
            }
            Request::Purge { .. } if settings.deny_purge => {
                Err(ErrorKind::StreamPurgeFailed.with("stream purge not permitted"))
            }
            Request::Purge { below, keep, .. } if *below > 0 && *keep > 0 => {
                Err(ErrorKind::BadRequest.error())
            }
            _ => Ok(()),
        }
    }
}
