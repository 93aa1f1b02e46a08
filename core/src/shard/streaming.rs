//! JetStream's turn in each `handle`.

use super::Shard;
use super::io::{LogLevel, Output};
use super::mailbox::ShardMessage;
use crate::delivery::Speaker;
use crate::ids::ShardId;
use crate::jetstream::engine::{EngineId, EngineMessage, JetStream, Notice};
use crate::time::Now;

/// How often what streams and consumers say to each other goes round in one `handle`.
const ROUNDS: usize = 8;

impl Shard {
    /// Lets streams and consumers deal with what has come for them, and does what they ask.
    pub(super) fn stream(&mut self, now: Now) {
        if self.jetstream.is_empty() {
            return;
        }
        // What they publish may come back to them: a stream that republishes, a consumer that feeds a stream. Who sends things
        // round for ever has a tick for every few rounds, and so have all others.
        for _ in 0..ROUNDS {
            self.pass_to_engines(now);
            let changed = self.exchange.take_changed_interest();
            for jetstream in &mut self.jetstream {
                jetstream.advance(now, &mut self.exchange, &changed);
            }
            if !self.engines_have_more() {
                break;
            }
        }
        if let Some(folders) = self.jetstream.iter_mut().find_map(JetStream::take_folders) {
            self.tell_all(|_| ShardMessage::OpenStores { folders });
            self.open_stores(now, folders);
        }
        self.ask_disk();
        self.listen_if_ready();
        while let Some(notice) = self.jetstream.iter_mut().find_map(JetStream::poll_notice) {
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

    /// Tells whether something waits for an engine of this shard.
    pub(super) fn engines_have_more(&self) -> bool {
        self.exchange.has_arrived() || !self.heard.is_empty()
    }

    /// Takes what another shard says to an engine of this one, behind what was said here before.
    pub(super) fn engines_told(&mut self, message: EngineMessage) {
        self.listen_to_speakers();
        self.heard.push_back(message);
    }

    /// Says to another shard what an engine has for it.
    pub(super) fn let_speak(&mut self, to: ShardId, speaker: Speaker) {
        if let Some(message) = self.next_said(to, speaker) {
            self.say(to, ShardMessage::JetStream(message));
        }
    }

    fn listen_to_speakers(&mut self) {
        while let Some(speaker) = self.exchange.poll_speaker() {
            let message = self.next_said(self.me, speaker);
            self.heard.extend(message);
        }
    }

    fn next_said(&mut self, to: ShardId, speaker: Speaker) -> Option<EngineMessage> {
        let shards = self.shards;
        let engine = self.jetstream.iter_mut().find(|engine| engine.id() == EngineId(speaker.0))?;
        engine.take_said(to, shards)
    }

    fn pass_to_engines(&mut self, now: Now) {
        self.listen_to_speakers();
        while let Some(message) = self.heard.pop_front() {
            if let Some(engine) = self.jetstream.iter_mut().find(|engine| engine.id() == message.to) {
                engine.hear(now, &mut self.exchange, *message.said);
            }
            self.listen_to_speakers();
        }
        let (engines, exchange) = (&mut self.jetstream, &mut self.exchange);
        while let Some(message) = exchange.poll_arrived() {
            let engine = match &mut engines[..] {
                [only] => Some(only),
                many => many.iter_mut().find(|engine| engine.serves(message.service)),
            };
            if let Some(engine) = engine {
                engine.arrived(now, exchange, message);
            }
        }
    }

    /// Opens the stores of this shard, and those of shards that are no more: the home shard has locked the folder.
    pub(super) fn open_stores(&mut self, now: Now, folders: u64) {
        let (me, shards) = (self.me, self.shards);
        let mine = EngineId::all(folders).filter(|engine| engine.shard(shards) == me);
        let own = (me != ShardId::HOME).then_some(EngineId(me.0));
        let adopted = mine.filter(|engine| *engine != EngineId(me.0));
        for engine in own.into_iter().chain(adopted) {
            let from = (&*self.options, &*self.identity.name);
            let (accounts, rng) = (&self.settings.accounts, self.rng.child());
            self.jetstream.extend(JetStream::new(now, engine, from, accounts, &mut self.exchange, rng));
        }
        for jetstream in &mut self.jetstream {
            jetstream.know_all(folders, shards);
        }
        self.ask_disk();
    }

    /// Has clients accepted once the subjects of all streams are subscribed, so that none of them finds nobody there.
    pub(super) fn listen_if_ready(&mut self) {
        if self.jetstream.iter().all(JetStream::listens) {
            self.outputs.extend(self.listen.take());
        }
    }

    pub(super) fn ask_disk(&mut self) {
        for jetstream in &mut self.jetstream {
            while let Some(submission) = jetstream.poll_disk() {
                self.outputs.push_back(Output::Disk(submission));
            }
        }
    }
}
