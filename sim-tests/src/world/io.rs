//! What clients of a run do with their sockets.

use natrix_runtime_sim::fault::Fault;
use natrix_runtime_sim::net::{End, HostId, Notice, Read};
use natrix_runtime_sim::queue::{MILLISECOND, SECOND, Schedule};

use super::{Event, Phase, World};
use crate::client::{State, Wish};
use crate::marks::Mark;
use crate::oracle::Checker;

impl World {
    /// Hands a new stream to the one who listens there.
    pub(super) fn accepted(&mut self, host: HostId, end: End, peer: HostId, notice: Notice) {
        let servers = self.servers.len();
        if usize::from(host.0) >= servers {
            self.ring.notice(&mut self.queue, &mut self.net, notice, &mut self.oracle.marks);
            return;
        }
        self.tell_server(usize::from(host.0), notice);
        let epoch = self.servers[usize::from(host.0)].epoch();
        if let Some(client) = self.clients.get_mut(usize::from(peer.0) - servers)
            && client.end == Some(end.other())
        {
            client.epoch = epoch;
        }
    }

    pub(super) fn dial(&mut self, index: usize, life: u32) {
        let now = self.now();
        let client = &mut self.clients[index];
        if client.life != life || client.state != State::Away {
            return;
        }
        if client.paused_until > now {
            return self.queue.at(client.paused_until, Event::Dial(index as u16, life));
        }
        if self.plan.roam && client.life > 0 && self.rng.chance(1, 3) {
            client.server = self.rng.below(self.servers.len() as u64) as u16;
        }
        let end = self.net.dial(&mut self.queue, client.host, HostId(client.server), index as u64);
        client.dialed(now, end);
        if client.life > 1 {
            self.oracle.marks.reach(Mark::Reconnected);
        }
        let (life, server) = (client.life, client.server);
        let delay = client.draw_interval(self.plan.load.interval);
        self.queue.at(now + delay, Event::Act(index as u16, life));
        self.say(|| format!("c{index} dials s{server}"));
    }

    pub(super) fn tell_client(&mut self, index: usize, notice: Notice) {
        let Some(client) = self.clients.get_mut(index) else { return };
        match notice {
            Notice::Connected(end, _) if client.end == Some(end) => {
                client.state = State::Greeting;
                if self.net.readable(end) > 0 {
                    self.client_reads(index);
                }
            }
            Notice::Refused(end, _) if client.end == Some(end) => self.client_lost(index),
            Notice::Readable(end, _) if client.end == Some(end) && client.profile.slow == 0 => {
                self.client_reads(index);
            }
            Notice::Writable(end, _) if client.end == Some(end) => self.client_writes(index),
            Notice::Broken(end, _) if client.end == Some(end) => {
                self.check_close(index);
                self.client_lost(index);
            }
            _ => {}
        }
    }

    /// Notes that a client's connection is gone, and lets it come back.
    pub(super) fn client_lost(&mut self, index: usize) {
        let now = self.now();
        self.clients[index].lost(now, &mut self.oracle);
        self.say(|| format!("c{index} is away"));
        let patience = if self.clients[index].profile.wrong_password { SECOND } else { 150 * MILLISECOND };
        let delay = MILLISECOND + self.rng.below(patience);
        self.queue.at(now + delay, Event::Dial(index as u16, self.clients[index].life));
    }

    /// A server may end a connection only for a reason.
    fn check_close(&mut self, index: usize) {
        let client = &self.clients[index];
        if client.has_partial() {
            self.oracle.marks.reach(Mark::EndedMidFrame);
        }
        let reason = self.plan.allowed.closes
            || self.plan.allowed.refusals
            || client.guilty
            || client.was_slow
            || client.state != State::Open;
        if !reason {
            self.oracle.violate(Checker::Close, format!("client {index} was cut off for no reason"));
        }
    }

    pub(super) fn client_writes(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some(end) = client.end.filter(|_| matches!(client.state, State::Open | State::Greeting)) else {
            return;
        };
        if client.has_output() {
            client.out_at += self.net.write(&mut self.queue, end, &client.out[client.out_at..]);
            if !client.has_output() {
                client.out.clear();
                client.out_at = 0;
            }
        }
    }

    pub(super) fn client_reads(&mut self, index: usize) {
        let now = self.now();
        let mut scratch = std::mem::take(&mut self.scratch);
        loop {
            let client = &mut self.clients[index];
            let Some(end) = client.end.filter(|_| client.state != State::Dialing) else { break };
            if client.paused_until > now {
                self.queue.at(client.paused_until, Event::Read(index as u16, client.life));
                break;
            }
            let slow = client.profile.slow;
            let limit = if slow > 0 { slow } else { scratch.len() };
            match self.net.read(&mut self.queue, end, &mut scratch[..limit]) {
                Read::Nothing if slow == 0 => break,
                Read::Nothing => {}
                Read::Finished => {
                    self.net.close(&mut self.queue, end);
                    self.check_close(index);
                    self.client_lost(index);
                    break;
                }
                Read::Bytes(n) => {
                    let (allowed, respond) = (self.plan.allowed, self.plan.load.respond);
                    let (oracle, trace) = (&mut self.oracle, &mut self.trace);
                    if !client.receive(now, &scratch[..n], allowed, respond, oracle, trace) {
                        break;
                    }
                }
            }
            if slow > 0 {
                self.net.counters.hit(Fault::SlowReader);
                let delay = MILLISECOND + self.rng.below(20 * MILLISECOND);
                self.queue.at(now + delay, Event::Read(index as u16, self.clients[index].life));
                break;
            }
        }
        self.scratch = scratch;
        if self.phase == Phase::Working {
            self.clients[index].answer(now, &self.plan.load, &mut self.oracle);
        }
        self.client_writes(index);
    }

    pub(super) fn act(&mut self, index: usize, life: u32) {
        let now = self.now();
        let working = self.phase == Phase::Working;
        let client = &mut self.clients[index];
        if client.life != life {
            return;
        }
        if client.paused_until > now {
            return self.queue.at(client.paused_until, Event::Act(index as u16, life));
        }
        let wish = if working {
            client.act(now, &self.plan.load, &mut self.oracle)
        } else {
            client.idle(now, &mut self.oracle)
        };
        if self.clients[index].said_nonsense() {
            self.net.counters.hit(Fault::Garbage);
        }
        match wish {
            Wish::Write => self.client_writes(index),
            Wish::Leave => self.leave(index, false),
            Wish::LeaveMidFrame => self.leave(index, true),
            Wish::GiveUp => {
                self.oracle.marks.reach(Mark::ClientGaveUp);
                if !self.plan.allowed.closes
                    && !self.clients[index].guilty
                    && self.clients[index].profile.slow == 0
                {
                    let text = format!("client {index} waits for an answer for ever");
                    self.oracle.violate(Checker::Liveness, text);
                }
                self.say(|| format!("c{index} gives its server up"));
                if let Some(end) = self.clients[index].end {
                    self.net.reset(&mut self.queue, end);
                }
                self.client_lost(index);
            }
        }
        let client = &mut self.clients[index];
        if client.life == life {
            // Faults have ended: there is no hurry any more.
            let mean = if working { self.plan.load.interval } else { 250 * MILLISECOND };
            let delay = client.draw_interval(mean);
            self.queue.at(now + delay, Event::Act(index as u16, life));
        }
    }

    /// Ends a client's connection from its side.
    fn leave(&mut self, index: usize, mid_frame: bool) {
        let client = &mut self.clients[index];
        if mid_frame {
            client.out.extend_from_slice(b"PUB a.b 40\r\nhal");
            self.net.counters.hit(Fault::LeftMidFrame);
        }
        self.client_writes(index);
        self.say(|| format!("c{index} leaves"));
        if let Some(end) = self.clients[index].end {
            self.net.close(&mut self.queue, end);
        }
        self.client_lost(index);
    }
}
