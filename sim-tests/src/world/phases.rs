//! From faults to quiet: the end of a run, where nothing may be missing any more.

use natrix_runtime_sim::queue::{MILLISECOND, SECOND, Schedule, SimTime};

use super::{Event, Phase, World};
use crate::client::State;
use crate::oracle::Checker;
use crate::plan::LIVENESS_BOUND;
use natrix_core::ids::ShardId;

impl World {
    pub(super) fn next_phase(&mut self) {
        let now = self.now();
        let again = match self.phase {
            Phase::Working => {
                self.heal();
                self.started = now;
                self.phase = Phase::Settling(now + LIVENESS_BOUND);
                50 * MILLISECOND
            }
            Phase::Settling(deadline) => match self.unsettled() {
                None => {
                    self.say(|| "probe".to_owned());
                    for index in 0..self.clients.len() {
                        if self.clients[index].state == State::Open && !self.clients[index].guilty {
                            self.clients[index].probe(now, &mut self.oracle);
                            self.client_writes(index);
                        }
                    }
                    self.phase = Phase::Probing(now + LIVENESS_BOUND);
                    50 * MILLISECOND
                }
                Some(why) => return self.wait(deadline, &why),
            },
            Phase::Probing(deadline) => {
                if let Some(why) = self.unanswered() {
                    return self.wait(deadline, &why);
                }
                self.phase = Phase::Quiet;
                3 * SECOND
            }
            Phase::Quiet => {
                for index in 0..self.clients.len() {
                    if self.clients[index].state == State::Open && !self.clients[index].guilty {
                        self.clients[index].ping(now, &mut self.oracle);
                        self.client_writes(index);
                    }
                }
                self.phase = Phase::Last(now + LIVENESS_BOUND);
                50 * MILLISECOND
            }
            Phase::Last(deadline) => {
                if let Some(why) = self.unanswered() {
                    return self.wait(deadline, &why);
                }
                self.oracle.finish();
                self.check_interest();
                if !self.ring.is_empty() && self.ring.hop() < self.ring.len() as u64 {
                    self.oracle.violate(Checker::Ring, "the token never went round");
                }
                self.phase = Phase::Over;
                return;
            }
            Phase::Over => return,
        };
        self.queue.at(now + again, Event::Phase);
    }

    /// Looks again soon, unless it took too long already.
    fn wait(&mut self, deadline: SimTime, why: &str) {
        let now = self.now();
        if now >= deadline {
            let checker = if why.contains("open connections") { Checker::Leak } else { Checker::Liveness };
            return self.oracle.violate(checker, format!("faults ended long ago, and {why}"));
        }
        let passed = now - self.started;
        self.queue.at(now + (50 * MILLISECOND).max(passed / 8), Event::Phase);
    }

    /// Ends all faults and all work.
    fn heal(&mut self) {
        let now = self.now();
        self.say(|| "faults end".to_owned());
        for link in self.net.links() {
            (link.blocked, link.clogged_until) = (0, SimTime(0));
            (link.shape.loss_ppm, link.shape.spike_ppm) = (0, 0);
        }
        for server in 0..self.servers.len() {
            self.servers[server].crash_after(u32::MAX);
            if !self.servers[server].is_up() {
                self.queue.at(now + MILLISECOND, Event::Restart(server as u16, 0));
            }
        }
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            client.verify(now);
            if client.profile.slow > 0 {
                client.profile.slow = 0;
                self.queue.at(now + MILLISECOND, Event::Read(index as u16, client.life));
            }
            let client = &mut self.clients[index];
            if client.guilty
                && !client.profile.wrong_password
                && let Some(end) = client.end
            {
                self.net.close(&mut self.queue, end);
                self.client_lost(index);
            }
        }
    }

    /// Returns what is not as it should be some time after the last fault.
    fn unsettled(&self) -> Option<String> {
        if let Some(server) = self.servers.iter().position(|server| !server.is_up()) {
            return Some(format!("server {server} is down"));
        }
        if !self.plan.allowed.refusals
            && let Some(client) = self.clients.iter().find(|client| {
                !client.profile.wrong_password && (client.state != State::Open || !client.verified)
            })
        {
            return Some(format!("client {} is {:?}", client.id, client.state));
        }
        if self.ring.hop() < self.ring.len() as u64 {
            return Some("the token never went round".to_owned());
        }
        for (index, server) in self.servers.iter().enumerate() {
            let known = |client: &&crate::client::Client| {
                usize::from(client.server) == index && !matches!(client.state, State::Away)
            };
            let (theirs, ours) = (server.open_connections(), self.clients.iter().filter(known).count());
            if theirs > ours {
                return Some(format!("server {index} has {theirs} open connections of {ours} clients"));
            }
        }
        None
    }

    /// At rest, each shard knows of the others' interests exactly what they have told and not taken back.
    fn check_interest(&mut self) {
        for (server, process) in self.servers.iter().enumerate().filter(|(_, process)| process.is_up()) {
            for (teller, shard) in process.machines().enumerate() {
                let told = shard.interests_told();
                for (listener, other) in process.machines().enumerate().filter(|(at, _)| *at != teller) {
                    let known = other.interests_of(ShardId(teller as u16));
                    if known != told {
                        let text = format!(
                            "shard {listener} of server {server} knows {known} interests of shard {teller}, which has {told}"
                        );
                        return self.oracle.violate(Checker::Leak, text);
                    }
                }
            }
        }
    }

    fn unanswered(&self) -> Option<String> {
        let waits = |client: &&crate::client::Client| {
            client.state == State::Open && client.waits_for_pong() && !client.guilty
        };
        let client = self.clients.iter().find(waits)?;
        Some(format!("client {} has no answer to its PING", client.id))
    }
}
