//! What goes wrong in a run, done.

use natrix_core::monitoring::ControlRequest;
use natrix_runtime_sim::fault::Fault;
use natrix_runtime_sim::queue::{MILLISECOND, Schedule};
use natrix_runtime_sim::server::{Crash, Env};

use super::{Event, Phase, World};
use crate::client::State;
use crate::marks::Mark;
use crate::nemesis::Deed;

/// The owner of ends that stand still: no client has that number.
const FROZEN: u64 = u32::MAX as u64;

impl World {
    pub(super) fn do_deed(&mut self, index: usize) {
        if self.phase != Phase::Working {
            return;
        }
        let now = self.now();
        let deed = self.deeds[index].1.clone();
        self.say(|| format!("deed: {}", show(&deed)));
        match deed {
            Deed::Block(fault, links) => {
                self.net.counters.hit(fault);
                for (from, to) in links {
                    self.net.link(from, to).blocked += 1;
                }
            }
            Deed::Unblock(links) => {
                for (from, to) in links {
                    let link = self.net.link(from, to);
                    link.blocked = link.blocked.saturating_sub(1);
                }
            }
            Deed::Clog(links, length) => {
                for (from, to) in links {
                    self.net.link(from, to).clogged_until = now + length;
                }
            }
            Deed::Pause(server, length) => {
                self.net.counters.hit(Fault::PauseProcess);
                self.servers[usize::from(server)].pause(now + length);
            }
            Deed::PauseShard(server, shard, length) => {
                self.net.counters.hit(Fault::PauseShard);
                self.servers[usize::from(server)].pause_shard(usize::from(shard), now + length);
            }
            Deed::PauseClient(client, length) => {
                self.net.counters.hit(Fault::PauseClient);
                self.clients[usize::from(client)].paused_until = now + length;
            }
            Deed::Crash(server, how, outputs, again) => {
                let server = usize::from(server);
                match outputs {
                    0 => self.crash(server, how, again),
                    outputs => self.servers[server].crash_after(outputs),
                }
            }
            Deed::Restart(server, again) => self.restart(usize::from(server), again),
            Deed::Jump(server, by) => {
                let fault = if by < 0 { Fault::WallJumpBack } else { Fault::WallJumpForward };
                self.net.counters.hit(fault);
                self.servers[usize::from(server)].clock.jump_wall(by);
            }
            Deed::Drift(server, ppm) => {
                self.net.counters.hit(Fault::ClockDrift);
                self.servers[usize::from(server)].clock.set_drift(now, ppm);
            }
            Deed::Cut(client) => {
                let client = usize::from(client);
                if let Some(end) = self.clients[client].end {
                    // Both directions lose what is in flight from a random byte on.
                    self.net.reset(&mut self.queue, end);
                    self.client_lost(client);
                }
            }
            Deed::Vanish(client) => {
                let client = usize::from(client);
                if let Some(end) = self.clients[client].end {
                    self.net.vanish(end);
                    self.client_lost(client);
                }
            }
            Deed::Freeze(client) => {
                let client = usize::from(client);
                if self.clients[client].state == State::Open
                    && let Some(end) = self.clients[client].end
                    && self.net.set_owner(end, FROZEN)
                {
                    self.net.counters.hit(Fault::Frozen);
                    self.client_lost(client);
                }
            }
            Deed::CutRing(peer) => {
                if let Some(end) = self.ring.stream(usize::from(peer)) {
                    self.net.reset(&mut self.queue, end.other());
                }
            }
            Deed::Storm(server) => {
                self.net.counters.hit(Fault::ConnectStorm);
                for client in 0..self.clients.len() {
                    let state = &self.clients[client];
                    if state.server != server || state.state == State::Away {
                        continue;
                    }
                    if let Some(end) = state.end {
                        self.net.close(&mut self.queue, end);
                    }
                    self.clients[client].lost(now, &mut self.oracle);
                    self.queue.at(now + MILLISECOND, Event::Dial(client as u16, self.clients[client].life));
                }
            }
            Deed::LameDuck(server) => {
                let server = usize::from(server);
                for shard in 0..self.servers[server].shards() {
                    let (queue, net, trace) = (&mut self.queue, &mut self.net, &mut self.trace);
                    self.servers[server].control(
                        &mut Env { queue, net, trace },
                        shard,
                        ControlRequest::LameDuck,
                    );
                }
            }
        }
    }

    /// Ends a server's process and plans its return, to die again so many times.
    pub(super) fn crash(&mut self, server: usize, how: Crash, again: u8) {
        let now = self.now();
        let (queue, net, trace) = (&mut self.queue, &mut self.net, &mut self.trace);
        self.servers[server].crash(&mut Env { queue, net, trace }, how);
        self.say(|| format!("s{server} is dead ({how:?})"));
        let delay = MILLISECOND + self.rng.below(if again > 0 { 20 } else { 400 } * MILLISECOND);
        self.queue.at(now + delay, Event::Restart(server as u16, again));
        self.hear_notices();
    }

    pub(super) fn restart(&mut self, server: usize, again: u8) {
        if self.servers[server].is_up() {
            return;
        }
        self.start_server(server);
        self.oracle.marks.reach(Mark::ServerRestarted);
        if again > 0 && self.phase == Phase::Working {
            self.net.counters.hit(Fault::RestartStorm);
            let outputs = 1 + self.rng.below(60) as u32;
            self.servers[server].crash_after(outputs);
            // In case it never gets so far.
            let now = self.now();
            let delay = 1 + self.rng.below(5 * MILLISECOND);
            self.queue.at(now + delay, Event::Restart(server as u16, again - 1));
        }
    }
}

fn show(deed: &Deed) -> String {
    match deed {
        Deed::Block(fault, links) => format!("{} blocks {} links", fault.name(), links.len()),
        Deed::Unblock(links) => format!("unblock {} links", links.len()),
        other => format!("{other:?}"),
    }
}
