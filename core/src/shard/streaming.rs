//! JetStream's turn in each `handle`.

use super::Shard;
use super::io::{LogLevel, Output};
use crate::jetstream::engine::Notice;
use crate::time::Now;

/// How often what streams and consumers say to each other goes round in one `handle`.
const ROUNDS: usize = 8;

impl Shard {
    /// Lets streams and consumers deal with what has come for them, and does what they ask.
    pub(super) fn stream(&mut self, now: Now) {
        let Some(jetstream) = &mut self.jetstream else { return };
        // What they publish may come back to them: a stream that republishes, a consumer that feeds a stream. Who sends things
        // round for ever has a tick for every few rounds, and so have all others.
        for _ in 0..ROUNDS {
            while let Some(message) = self.exchange.poll_arrived() {
                jetstream.arrived(now, &mut self.exchange, message);
            }
            jetstream.advance(now, &mut self.exchange);
            if !self.exchange.has_arrived() {
                break;
            }
        }
        self.ask_disk();
        self.listen_if_ready();
        while let Some(notice) = self.jetstream.as_mut().and_then(|jetstream| jetstream.poll_notice()) {
            let (level, text) = match notice {
                Notice::Info(text) => (LogLevel::Info, text),
                Notice::Warning(text) => (LogLevel::Warn, text),
                Notice::Error(text) => (LogLevel::Error, text),
                Notice::Fatal(text) => {
                    self.log(LogLevel::Fatal, format!("Can't start JetStream: {text}"));
                    self.outputs.push_back(Output::Failed);
                    continue;
                }
            };
            self.log(level, text);
        }
    }

    /// Has clients accepted once the subjects of all streams are subscribed, so that none of them finds nobody there.
    pub(super) fn listen_if_ready(&mut self) {
        if self.jetstream.as_ref().is_none_or(|jetstream| jetstream.listens()) {
            self.outputs.extend(self.listen.take());
        }
    }

    pub(super) fn ask_disk(&mut self) {
        let Some(jetstream) = &mut self.jetstream else { return };
        while let Some(submission) = jetstream.poll_disk() {
            self.outputs.push_back(Output::Disk(submission));
        }
    }
}
