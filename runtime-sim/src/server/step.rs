//! What a shard's thread does next, and how what it is told to do is carried out.

use natrix_core::ids::{ConnId, ShardId};
use natrix_core::planted::{self, Bug};
use natrix_core::shard::io::{CloseCause, Input, Output};
use natrix_core::shard::mailbox::ShardMessage;
use natrix_core::time::Instant;

use super::conns::Conns;
use super::{Action, Alarm, Env, SPINS_MAX, Server, ServerQueue, carry, seen};
use crate::fault::Fault;
use crate::machine::Machine;
use crate::net::Read;
use crate::queue::MILLISECOND;
use crate::trace::show_bytes;

impl<M: Machine> Server<M> {
    /// Does one thing; false if there is nothing to do.
    pub(super) fn step<Q: ServerQueue>(&mut self, env: &mut Env<'_, Q>, shard: usize) -> bool {
        let cell = &mut self.shards[shard];
        if !cell.outgoing.is_empty() {
            if planted::bug(Bug::FlushBeforePush)
                && let Some(slot) = cell.conns.pick_dirty(&mut self.rng)
            {
                self.flush(env, shard, slot);
                return true;
            }
            self.carry_on(env, shard);
            return true;
        }
        if let Some((conn, n, first)) = cell.reading.take() {
            if first > 0
                && !planted::bug(Bug::InboxNotDrained)
                && let Some(message) = cell.inbox.pop(&mut self.rng)
            {
                cell.reading = Some((conn, n, first - 1));
                self.give(env, shard, Input::FromShard(message));
            } else if self.shards[shard].conns.is_open(conn) {
                self.give(env, shard, Input::Received { conn, n });
            }
            return true;
        }
        cell.conns.expire_closing(env.net, env.queue);
        match self.choose(env, shard) {
            None => return false,
            Some(Action::Inbox) => {
                let cell = &mut self.shards[shard];
                if let Some(message) = cell.inbox.pop(&mut self.rng) {
                    self.give(env, shard, Input::FromShard(message));
                }
            }
            Some(Action::Read) => self.read(env, shard),
            Some(Action::Arrival) => {
                if let Some(input) = self.shards[shard].arrivals.pop_front() {
                    if let Input::Accepted { conn, .. } = &input {
                        self.shards[shard].conns.set_reading(*conn, true);
                    }
                    self.give(env, shard, input);
                }
            }
            Some(Action::Flush) => {
                if let Some(slot) = self.shards[shard].conns.pick_dirty(&mut self.rng) {
                    self.flush(env, shard, slot);
                }
            }
            Some(Action::Broken) => {
                if let Some((conn, end)) = self.shards[shard].conns.pop_broken() {
                    env.net.reset(env.queue, end);
                    self.give(env, shard, Input::Closed { conn, cause: CloseCause::ReadError });
                }
            }
            Some(Action::Work) => {
                if let Some(done) = self.shards[shard].work.pop_front() {
                    self.give(env, shard, Input::Work(done));
                }
            }
            Some(Action::Disk) => {
                let now = Instant::from_nanos(env.now().0);
                let own = self.tokens_of(shard);
                let disk = self.disk.as_mut();
                if let Some(completion) = disk.and_then(|disk| disk.poll_completion_of(now, own)) {
                    self.give(env, shard, Input::Disk(completion));
                }
            }
            Some(Action::Tick) => self.give(env, shard, Input::Tick),
        }
        true
    }

    /// Picks one of the things that could be done.
    fn choose<Q: ServerQueue>(&mut self, env: &Env<'_, Q>, shard: usize) -> Option<Action> {
        let cell = &self.shards[shard];
        // Connections are announced before they are broken, and broken ones have nothing to read.
        let due = cell.machine.poll_timeout().is_some_and(|due| due <= self.clock.now(env.now()).instant);
        let ready = [
            !cell.inbox.is_empty(),
            cell.conns.has_readable(),
            !cell.arrivals.is_empty(),
            cell.conns.has_dirty(),
            cell.conns.has_broken() && cell.arrivals.is_empty(),
            !cell.work.is_empty(),
            self.disk_due(shard) <= env.now(),
            due,
        ];
        let count = ready.iter().filter(|ready| **ready).count() as u64;
        if count == 0 {
            return None;
        }
        let mut pick = if count == 1 { 0 } else { self.rng.below(count) };
        for (index, _) in ready.iter().enumerate().filter(|(_, ready)| **ready) {
            if pick == 0 {
                return Some(match index {
                    0 => Action::Inbox,
                    1 => Action::Read,
                    2 => Action::Arrival,
                    3 => Action::Flush,
                    4 => Action::Broken,
                    5 => Action::Work,
                    6 => Action::Disk,
                    _ => Action::Tick,
                });
            }
            pick -= 1;
        }
        None
    }

    fn read<Q: ServerQueue>(&mut self, env: &mut Env<'_, Q>, shard: usize) {
        let cell = &mut self.shards[shard];
        let Some((conn, end)) = cell.conns.pick_readable(&mut self.rng) else { return };
        let target = cell.machine.read_target(conn);
        let mut limit = target.len();
        debug_assert!(limit > 0, "a read target has room");
        if self.pace.read_limit > 0 {
            limit = limit.min(1 + self.rng.below(self.pace.read_limit as u64) as usize);
        }
        let inbox = cell.inbox.to_drain(&mut self.rng);
        match env.net.read(env.queue, end, &mut target[..limit]) {
            Read::Bytes(n) => {
                let time = env.queue.now();
                env.trace.bytes(&target[..n]);
                env.trace.say(time, || {
                    format!("s{}.{shard} {conn} read {}", self.id, show_bytes(&target[..n], 200))
                });
                cell.reading = Some((conn, n, inbox));
            }
            Read::Finished => {
                cell.conns.no_more_to_read(conn);
                cell.reading = Some((conn, 0, inbox));
            }
            Read::Nothing => cell.conns.no_more_to_read(conn),
        }
    }

    /// Writes what waits for one connection.
    fn flush<Q: ServerQueue>(&mut self, env: &mut Env<'_, Q>, shard: usize, slot: usize) {
        let cell = &mut self.shards[shard];
        let Some((conn, end)) = cell.conns.get(slot) else { return };
        let limit = match self.pace.write_limit {
            0 => usize::MAX,
            limit => 1 + self.rng.below(limit as u64) as usize,
        };
        let outcome = carry::write_out(env, cell.machine.outbound(conn), end, limit);
        cell.conns.set_writing(slot, outcome.state);
        let time = env.now();
        env.trace.say(time, || format!("s{}.{shard} {conn} wrote {} bytes", self.id, outcome.written));
        if outcome.written > 0 {
            self.give(env, shard, Input::Written { conn, n: outcome.written });
        }
    }

    /// Hands one input over and takes the outputs.
    fn give<Q: ServerQueue>(&mut self, env: &mut Env<'_, Q>, shard: usize, input: Input) {
        let time = env.now();
        let (kind, a, b) = carry::input_numbers(&input);
        env.trace.event(time, kind, (shard as u64) << 48 | u64::from(self.id) << 56 | a, b);
        env.trace.say(time, || format!("s{}.{shard} <- {}", self.id, carry::show_input(&input)));
        if matches!(input, Input::Tick) {
            self.ticks += 1;
            let cell = &mut self.shards[shard];
            // Ticks for their own sake come microseconds apart; a deadline that is ever due again is a busy loop.
            cell.spins = if time - cell.ticked < MILLISECOND { cell.spins + 1 } else { 0 };
            cell.ticked = time;
            if cell.spins > SPINS_MAX {
                self.alarms.push(Alarm::Spin { shard: ShardId(shard as u16) });
            }
        } else {
            self.handled += 1;
            self.shards[shard].spins = 0;
        }
        if let Input::FromShard(message) = &input {
            self.seen |= 1 << (carry::message_number(message) & 0xff);
        }
        if let Input::Closed { conn, .. } | Input::TlsFailed { conn, .. } = &input {
            self.shards[shard].conns.free(*conn);
        }
        if self.shards.len() > 1
            && self.shards.iter().enumerate().any(|(other, cell)| other != shard && !cell.outgoing.is_empty())
        {
            env.net.counters.hit(Fault::ShardsInterleaved);
        }
        let now = self.clock.now(time);
        self.shards[shard].machine.handle(now, input);
        self.drain(env, shard);
        self.check(shard);
    }

    /// Takes all outputs; carries out those before the first push, and that push.
    pub(super) fn drain<Q: ServerQueue>(&mut self, env: &mut Env<'_, Q>, shard: usize) {
        let cell = &mut self.shards[shard];
        let mut outputs = 0;
        while let Some(output) = cell.machine.poll_output() {
            outputs += 1;
            cell.outgoing.push_back(output);
        }
        let work = planted::take_work();
        if outputs > self.bounds.outputs || work > self.bounds.work {
            self.alarms.push(Alarm::Work { shard: ShardId(shard as u16), outputs, work });
        }
        if outputs > 0 {
            self.carry_on(env, shard);
        }
    }

    /// Carries out outputs up to the next push, or to the end.
    fn carry_on<Q: ServerQueue>(&mut self, env: &mut Env<'_, Q>, shard: usize) {
        while let Some(output) = self.shards[shard].outgoing.pop_front() {
            let pushed = self.carry(env, shard, output);
            if let Some(left) = &mut self.crash_after {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    (self.crashed, self.crash_after) = (true, None);
                    return;
                }
            }
            if pushed && !self.shards[shard].outgoing.is_empty() {
                return;
            }
        }
    }

    /// Carries out one output; true if it was a push.
    fn carry<Q: ServerQueue>(&mut self, env: &mut Env<'_, Q>, shard: usize, output: Output) -> bool {
        let time = env.now();
        let (kind, a, b) = carry::output_numbers(&output);
        env.trace.event(time, kind, (shard as u64) << 48 | u64::from(self.id) << 56 | a, b);
        if !matches!(output, Output::Flush { .. }) {
            env.trace.say(time, || format!("s{}.{shard} -> {}", self.id, carry::show_output(&output)));
        }
        match output {
            Output::ToShard(target, message) => {
                self.push(env, shard, target, message);
                return true;
            }
            Output::Flush { conn } => self.expect_conn(shard, conn, |conns| conns.mark_dirty(conn)),
            Output::Close { conn, last_bytes } => {
                self.closes += 1;
                let cell = &mut self.shards[shard];
                match cell.conns.free(conn) {
                    Some(end) => carry::close(env, &mut cell.conns, end, last_bytes),
                    None => self.alarms.push(Alarm::UnknownConn { shard: ShardId(shard as u16), conn }),
                }
                let deadline = self.shards[shard].conns.closing_deadline();
                self.wake(env, shard, deadline);
            }
            Output::PauseReading { conn } => {
                self.seen |= seen::PAUSED;
                self.expect_conn(shard, conn, |conns| conns.set_reading(conn, false));
            }
            Output::ResumeReading { conn } => {
                self.expect_conn(shard, conn, |conns| conns.set_reading(conn, true));
            }
            Output::Work(request) => self.shards[shard].work.push_back(request.run()),
            Output::Listen { listener, port, .. } => {
                env.net.set_listening(self.host, true);
                let address = carry::address(self.host, port);
                self.shards[shard].arrivals.push_back(Input::Listening { listener, address });
                self.wake(env, shard, time);
            }
            Output::StopListening { .. } => env.net.set_listening(self.host, false),
            Output::Stopped => self.stopped += 1,
            Output::Failed => {
                // It ends by itself, as a process that was killed does.
                (self.crashed, self.failures) = (true, self.failures + 1);
            }
            Output::Disk(submission) => {
                let disk = self.disk.as_mut().expect("a server with streams was given a disk");
                disk.submit(Instant::from_nanos(time.0), submission);
                let due = self.disk_due(shard);
                self.wake(env, shard, due);
            }
            Output::Log(record) => {
                if record.text.contains("Slow Consumer") {
                    self.seen |= seen::SLOW;
                }
                let text = &record.text;
                if let Some(rest) = text.strip_prefix("JetStream has encrypted all that is stored in \"")
                    && let Some((folder, _)) = rest.split_once('"')
                {
                    self.encrypted.push(folder.to_owned());
                }
                if let Some(rest) = text.strip_prefix("JetStream has not encrypted all that is stored in \"")
                    && let Some((folder, _)) = rest.split_once('"')
                {
                    self.unencrypted.push(folder.to_owned());
                }
                if let Some(rest) = text.strip_prefix("JetStream consumer \"")
                    && text.ends_with("what it may not have is delivered again")
                    && let Some((name, _)) = rest.split_once('"')
                {
                    self.uncertain.push(name.to_owned());
                }
                self.restarts_asked += u32::from(record.text.contains("check the disk, then restart"));
            }
            // Nobody asked for TLS, and nobody reads the answers.
            Output::StartTls { .. } | Output::ControlReply { .. } => {}
        }
        false
    }

    fn expect_conn(&mut self, shard: usize, conn: ConnId, act: impl FnOnce(&mut Conns) -> bool) {
        if !act(&mut self.shards[shard].conns) {
            self.alarms.push(Alarm::UnknownConn { shard: ShardId(shard as u16), conn });
        }
    }

    fn push<Q: ServerQueue>(
        &mut self,
        env: &mut Env<'_, Q>,
        shard: usize,
        target: ShardId,
        message: ShardMessage,
    ) {
        let Some(cell) = self.shards.get_mut(target.index()) else { return };
        cell.inbox.push(ShardId(shard as u16), message);
        let messages = cell.inbox.len();
        if messages > self.bounds.inbox {
            self.alarms.push(Alarm::Inbox { shard: target, messages });
        }
        let delay = self.rng.below(self.pace.wake + 1);
        let time = env.now() + delay;
        self.wake(env, target.index(), time);
    }

    /// Looks at one connection with bytes waiting, another one each time: too much stays too much until it is seen.
    fn check(&mut self, shard: usize) {
        let cell = &mut self.shards[shard];
        if let Some(conn) = cell.conns.next_unwritten() {
            let bytes = bytes::Buf::remaining(&cell.machine.outbound(conn));
            if bytes > self.bounds.pending {
                self.alarms.push(Alarm::Pending { shard: ShardId(shard as u16), conn, bytes });
            }
        }
    }
}
