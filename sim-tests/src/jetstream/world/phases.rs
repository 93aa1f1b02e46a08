//! The phases of a run: work, then everybody comes to an end, everything is looked at, fetched, and looked at again.

use natrix_runtime_sim::disk::DiskModel;
use natrix_runtime_sim::queue::{MILLISECOND, SECOND, Schedule as _, SimTime};
use natrix_runtime_sim::server::Crash;

use super::{Admin, Client, Event, Mode, Oracle, Role, Rule, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Work,
    /// Everybody comes to an end, for the first or the last look.
    Settle(bool, SimTime),
    Audit(bool, SimTime),
    Drain(SimTime),
    Over,
}

/// Longest virtual time that anything may take once faults have ended.
const BOUND: u64 = 120 * SECOND;

impl World {
    pub(super) fn mode(&self) -> Mode {
        match self.phase {
            Phase::Work => Mode::Work,
            Phase::Settle(..) | Phase::Over => Mode::Settle,
            Phase::Audit(..) => Mode::Audit,
            Phase::Drain(_) => Mode::Drain,
        }
    }

    pub(super) fn next_phase(&mut self) {
        let now = self.now();
        let deadline = now + BOUND;
        match self.phase {
            Phase::Work => {
                self.say(|| "faults end".to_owned());
                self.server.crash_after(u32::MAX);
                if let Some(disk) = &mut self.server.disk {
                    disk.set_model(DiskModel::default());
                }
                self.phase = Phase::Settle(false, deadline);
                // A store that failed stays so until the operator has seen to the disk and starts the server again.
                let trouble = self.plan.trouble;
                if trouble.full_disk || trouble.failed_writes || trouble.bad_reads {
                    self.crash(Crash::Process);
                }
            }
            Phase::Settle(last, deadline) => match self.unsettled() {
                Some(why) => return self.wait(deadline, &why),
                None => {
                    // What was acknowledged last is still to be written and removed.
                    let since = *self.quiet_since.get_or_insert(now);
                    if now - since < SECOND {
                        return self.wait(deadline, "it isn't quiet");
                    }
                    self.phase = Phase::Audit(last, now + BOUND);
                    let (admin, oracle) = self.admin();
                    admin.start_audit(oracle, last);
                }
            },
            Phase::Audit(last, deadline) => {
                let (admin, _) = self.admin();
                let busy = !admin.is_audited();
                if busy || self.clients[0].is_busy() {
                    return self.wait(deadline, "the look at everything isn't over");
                }
                let (admin, oracle) = self.admin();
                admin.conclude(oracle);
                self.say(|| "looked at everything".to_owned());
                if last {
                    self.look_for_plain_text();
                }
                self.phase = if last { Phase::Over } else { Phase::Drain(deadline + BOUND) };
            }
            Phase::Drain(deadline) => {
                let consumers = self.plan.consumers.len();
                let (admin, _) = self.admin();
                if let Some(consumer) = admin.unclean(consumers) {
                    return self.wait(deadline, &format!("consumer {consumer} has something left"));
                }
                self.phase = Phase::Settle(true, now + BOUND);
                for client in &mut self.clients {
                    if let Role::Scheduler(script) = &mut client.role {
                        script.look_again();
                    }
                }
                if self.plan.last_cut {
                    self.crash(Crash::Power);
                }
            }
            Phase::Over => return,
        }
        self.quiet_since = None;
        self.queue.at(now + 20 * MILLISECOND, Event::Phase);
    }

    fn admin(&mut self) -> (&mut Admin, &mut Oracle) {
        let Some(Client { role: Role::Admin(admin), .. }) = self.clients.first_mut() else {
            unreachable!("the first client is the admin")
        };
        (admin, &mut self.oracle)
    }

    fn wait(&mut self, deadline: SimTime, why: &str) {
        let now = self.now();
        if now >= deadline {
            return self.oracle.violate(Rule::Liveness, format!("faults ended long ago, and {why}"));
        }
        self.queue.at(now + 20 * MILLISECOND, Event::Phase);
    }

    /// Returns what is still under way.
    fn unsettled(&mut self) -> Option<String> {
        let why = self.what_is_unsettled();
        if why.is_some() {
            self.quiet_since = None;
        }
        why
    }

    fn what_is_unsettled(&self) -> Option<String> {
        if !self.server.is_up() {
            return Some("the server is down".to_owned());
        }
        if self.clients.iter().any(|client| client.conn.epoch != self.server.epoch()) {
            return Some("a client isn't back".to_owned());
        }
        if let Some(folder) = self.owed.first() {
            return Some(format!("it wasn't told that all in {folder} is encrypted"));
        }
        let busy = |client: &&Client| !client.conn.is_open() || client.is_busy();
        self.clients.iter().find(busy).map(|client| format!("client {} is busy", client.conn.id))
    }
}
