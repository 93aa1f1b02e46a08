//! What a stream learns from its messages after a start: the ids of those within the window.
//!
//! Messages with an id wait until that is done; all others are taken meanwhile.

use super::super::context::{Answer, Messages};
use super::publish::{Stop, ask};
use super::{STEPS, Settings, Stream};
use crate::planted::{self, Bug};
use crate::protocol::headers;
use crate::storage::ledger::Filter;
use crate::time::Now;

/// How far the messages were read.
#[derive(Debug)]
pub(super) struct Recovering {
    /// The next sequence to look at; `None` until it is known where the window begins.
    next: Option<u64>,
    /// The last that was there at the start. What came since has no ids, or waits.
    last: u64,
}

impl Recovering {
    pub(super) fn new(settings: &Settings, last: u64) -> Option<Self> {
        (!settings.duplicate_window.is_zero() && last > 0 && !planted::bug(Bug::JsDedupForgottenAtRestart))
            .then_some(Recovering { next: None, last })
    }
}

impl Stream {
    /// Reads on, and tells whether there is more to read at once.
    pub(super) fn recover(&mut self, now: Now, messages: &mut impl Messages) -> bool {
        for _ in 0..STEPS {
            match self.recover_one(now, messages) {
                Ok(true) => {}
                Ok(false) => {
                    self.recovering = None;
                    return false;
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads the next message; `false` if that was all.
    fn recover_one(&mut self, now: Now, messages: &mut impl Messages) -> Result<bool, Stop> {
        let Some(Recovering { next, last }) = &mut self.recovering else { return Ok(false) };
        let window = self.settings.duplicate_window;
        let from = match *next {
            Some(from) => from,
            None => {
                let nanos = i64::try_from(window.as_nanos()).unwrap_or(i64::MAX);
                let since = now.wall.as_unix_nanos().saturating_sub(nanos);
                let since = crate::time::WallTime::from_unix_nanos(since);
                ask(messages, |ledger| ledger.sequence_from_time(since))?
            }
        };
        let found = ask(messages, |ledger| ledger.next(Filter::All, from))?;
        let Some(sequence) = found.filter(|sequence| sequence <= last) else { return Ok(false) };
        *next = Some(sequence);
        let Answer::Ready(message) = messages.load(sequence) else { return Err(Stop::Disk) };
        *next = Some(sequence + 1);
        if let Some(message) = message
            && let Some(id) = headers::get(&message.headers, b"Nats-Msg-Id")
            && !id.is_empty()
        {
            self.dedup.remember(id, sequence, message.time, window);
        }
        Ok(true)
    }
}
