//! What goes wrong, and when: a list of deeds drawn from the swarm before the run begins.

use natrix_core::rng::Rng;
use natrix_runtime_sim::fault::Fault;
use natrix_runtime_sim::net::HostId;
use natrix_runtime_sim::queue::{MILLISECOND, SECOND, SimTime};
use natrix_runtime_sim::server::Crash;

use crate::plan::Plan;

/// One thing that goes wrong, or stops doing so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Segments of these links get lost.
    Block(Fault, Vec<(HostId, HostId)>),
    /// They get through again.
    Unblock(Vec<(HostId, HostId)>),
    /// Segments of these links wait for so long.
    Clog(Vec<(HostId, HostId)>, u64),
    /// A server stands still for so long.
    Pause(u16, u64),
    /// One shard of a server does.
    PauseShard(u16, u16, u64),
    /// A client does.
    PauseClient(u16, u64),
    /// A server dies, after so many more outputs, and again so many times right after its restart.
    Crash(u16, Crash, u32, u8),
    /// A server comes back, to die again so many times.
    Restart(u16, u8),
    /// A server's wall clock jumps.
    Jump(u16, i64),
    /// A server's oscillator changes its rate.
    Drift(u16, i64),
    /// A client's connection is reset in both directions.
    Cut(u16),
    /// A client is gone without a word.
    Vanish(u16),
    /// A client stands still for ever, its connection open, and another takes its place.
    Freeze(u16),
    /// A stream between two peers is cut.
    CutRing(u16),
    /// All clients of a server come back at once.
    Storm(u16),
    /// A server goes into lame duck mode.
    LameDuck(u16),
}

/// Draws what goes wrong in a run.
pub fn draw(plan: &Plan, rng: &mut Rng) -> Vec<(SimTime, Deed)> {
    let mut draft = Draft { plan, rng, deeds: Vec::new() };
    for fault in Fault::ALL {
        if plan.swarm.has(*fault) {
            for _ in 0..=draft.rng.below(3) {
                draft.add(*fault);
            }
        }
    }
    if plan.lame_duck {
        let server = draft.server();
        let at = draft.time();
        draft.deeds.push((at, Deed::LameDuck(server)));
    }
    draft.deeds.sort_by_key(|(time, _)| *time);
    draft.deeds
}

struct Draft<'a> {
    plan: &'a Plan,
    rng: &'a mut Rng,
    deeds: Vec<(SimTime, Deed)>,
}

impl Draft<'_> {
    fn time(&mut self) -> SimTime {
        SimTime(self.plan.duration / 20 + self.rng.below(self.plan.duration * 9 / 10))
    }

    /// Mostly short, sometimes longer than anybody waits.
    fn length(&mut self) -> u64 {
        match self.rng.below(6) {
            0 => self.rng.below(6 * SECOND),
            1 => self.rng.below(SECOND),
            _ => MILLISECOND + self.rng.below(60 * MILLISECOND),
        }
    }

    fn server(&mut self) -> u16 {
        self.rng.below(self.plan.shards.len() as u64) as u16
    }

    fn client(&mut self) -> u16 {
        self.rng.below(self.plan.profiles.len().max(1) as u64) as u16
    }

    fn hosts(&self) -> u16 {
        self.plan.shards.len() as u16 + self.plan.profiles.len() as u16 + self.plan.ring
    }

    /// Draws a side for every host, and at least one on each.
    fn halves(&mut self) -> Vec<bool> {
        let hosts = usize::from(self.hosts());
        let mut side: Vec<bool> = (0..hosts).map(|_| self.rng.chance(1, 2)).collect();
        side[0] = true;
        side[hosts - 1] = false;
        side
    }

    fn links(&self, cut: impl Fn(usize, usize) -> bool) -> Vec<(HostId, HostId)> {
        let hosts = usize::from(self.hosts());
        let pairs = (0..hosts).flat_map(|from| (0..hosts).map(move |to| (from, to)));
        pairs
            .filter(|(from, to)| cut(*from, *to))
            .map(|(a, b)| (HostId(a as u16), HostId(b as u16)))
            .collect()
    }

    fn block(&mut self, fault: Fault, links: Vec<(HostId, HostId)>) {
        let (start, length) = (self.time(), self.length());
        self.deeds.push((start, Deed::Block(fault, links.clone())));
        self.deeds.push((start + length, Deed::Unblock(links)));
    }

    fn add(&mut self, fault: Fault) {
        let at = self.time();
        let deed = match fault {
            Fault::PartitionTwoWay => {
                let side = self.halves();
                let links = self.links(|from, to| side[from] != side[to]);
                return self.block(fault, links);
            }
            Fault::PartitionOneWay => {
                let side = self.halves();
                let links = self.links(|from, to| side[from] && !side[to]);
                return self.block(fault, links);
            }
            Fault::PartitionIsolate => {
                let alone = self.rng.below(u64::from(self.hosts())) as usize;
                let links = self.links(|from, to| (from == alone) != (to == alone));
                return self.block(fault, links);
            }
            Fault::PartitionBridge => {
                let side = self.halves();
                let bridge = self.rng.below(u64::from(self.hosts())) as usize;
                let links = self.links(|a, b| side[a] != side[b] && a != bridge && b != bridge);
                return self.block(fault, links);
            }
            Fault::PartitionSwizzle => return self.swizzle(),
            Fault::Clog => {
                let (from, to) = (self.server(), self.rng.below(u64::from(self.hosts())) as u16);
                let both = [(HostId(from), HostId(to)), (HostId(to), HostId(from))];
                let length = self.length();
                Deed::Clog(both[..1 + self.rng.below(2) as usize].to_vec(), length)
            }
            Fault::PauseProcess => Deed::Pause(self.server(), self.length()),
            Fault::PauseShard => {
                let server = self.server();
                let shard = self.rng.below(u64::from(self.plan.shards[usize::from(server)])) as u16;
                Deed::PauseShard(server, shard, self.length())
            }
            Fault::PauseClient => Deed::PauseClient(self.client(), self.length()),
            Fault::CrashAtOutput => {
                let outputs = 1 + self.rng.below(400) as u32;
                Deed::Crash(self.server(), Crash::Process, outputs, 0)
            }
            Fault::CrashIdle => Deed::Crash(self.server(), Crash::Process, 0, 0),
            Fault::PowerLoss => Deed::Crash(self.server(), Crash::Power, 0, 0),
            Fault::RestartStorm => {
                let again = 2 + self.rng.below(4) as u8;
                Deed::Crash(self.server(), Crash::Process, 0, again)
            }
            Fault::WallJumpForward => Deed::Jump(self.server(), self.rng.below(86_400 * SECOND) as i64),
            Fault::WallJumpBack => Deed::Jump(self.server(), -(self.rng.below(86_400 * SECOND) as i64)),
            Fault::ClockDrift => Deed::Drift(self.server(), self.rng.below(2000) as i64 - 1000),
            Fault::CutMidFrame if self.plan.ring > 0 && self.rng.chance(1, 2) => {
                Deed::CutRing(self.rng.below(u64::from(self.plan.ring)) as u16)
            }
            Fault::CutMidFrame => Deed::Cut(self.client()),
            Fault::HalfOpen => Deed::Vanish(self.client()),
            Fault::Frozen => Deed::Freeze(self.client()),
            Fault::ConnectStorm => Deed::Storm(self.server()),
            _ => return,
        };
        self.deeds.push((at, deed));
    }

    /// Cuts some hosts off one after the other, and heals them in another order.
    fn swizzle(&mut self) {
        let mut start = self.time();
        let mut cuts = Vec::new();
        for host in 0..usize::from(self.hosts()) {
            if self.rng.chance(1, 3) {
                let links = self.links(|from, to| (from == host) != (to == host));
                self.deeds.push((start, Deed::Block(Fault::PartitionSwizzle, links.clone())));
                cuts.push(links);
                start += self.rng.below(20 * MILLISECOND);
            }
        }
        while !cuts.is_empty() {
            let links = cuts.swap_remove(self.rng.below(cuts.len() as u64) as usize);
            start += self.rng.below(40 * MILLISECOND);
            self.deeds.push((start, Deed::Unblock(links)));
        }
    }
}
