//! The shard journal, crashed at every disk operation of a run, and in the middle of recoveries.
//!
//! ```text
//! model.rs   what must be there, may be there, and must not come back
//! line.rs    a journal on its disk; recovery
//! vouch.rs   which entries something later on the disk vouches for
//! fork.rs    crash points
//! work.rs    what owners do
//! ```
//!
//! A run has several lives: each ends with a crash of the run's own disk, and the next begins with a recovery, every
//! operation of which is a crash point too.

mod fork;
mod line;
mod model;
mod vouch;
mod work;

use natrix_core::disk::FilePath;
use natrix_core::rng::Rng;
use natrix_core::storage::Position;
use natrix_core::storage::journal::{Config, Event, JournalError};
use natrix_core::time::{Duration, Instant};
use natrix_runtime_sim::disk::{DiskFault, DiskModel, SimDisk};

use super::Settings;
use super::report::{Promise, Report, Violation};
use line::Line;
use model::{Model, Outcome, Terms};
use vouch::Vouchers;
use work::Workload;

/// What may happen to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    /// Crashes alone.
    Crashes,
    /// What a crash leaves is damaged.
    Damage,
    /// Requests fail, or are said to be done and aren't.
    Faults,
}

/// Writes that are said to be done and aren't: what they cost may be lost, if it is told.
const LIES: [DiskFault; 3] = [DiskFault::LostWrite, DiskFault::TornWrite, DiskFault::MisdirectedWrite];

/// Reads that don't give what is on the disk.
const MISREAD: [DiskFault; 3] = [DiskFault::MisdirectedRead, DiskFault::ReadError, DiskFault::BadRead];

/// Faults that the caller is told of: nothing is lost by them.
const TOLD: [DiskFault; 5] =
    [DiskFault::Slow, DiskFault::WriteError, DiskFault::ShortWrite, DiskFault::SyncFailed, DiskFault::Full];

/// What time does to disks.
pub(super) const AT_REST: [DiskFault; 7] = [
    DiskFault::BitRot,
    DiskFault::UnreadableSector,
    DiskFault::StaleFile,
    DiskFault::StaleChunk,
    DiskFault::MissingFile,
    DiskFault::TruncatedFile,
    DiskFault::SwappedFiles,
];

type Hits = [u64; DiskFault::ALL.len()];

fn hits(disk: &SimDisk) -> Hits {
    std::array::from_fn(|index| disk.hits(DiskFault::ALL[index]))
}

/// One run.
struct Run<'a> {
    rng: Rng,
    flavour: Flavour,
    config: Config,
    model: Model,
    vouchers: Vouchers,
    line: Line,
    /// What the recovery of this life has said so far.
    outcome: Outcome,
    /// The power was cut since the journal was last ready; the end of a process costs less.
    power_cut: bool,
    ready: bool,
    /// Something was harmed that the caller wasn't told of.
    harmed: bool,
    /// How often this life read what isn't there. What makes no sense is read twice, so once costs nothing.
    misread: u64,
    /// What a crash of the run itself leaves may be damaged.
    aging: bool,
    report: &'a mut Report,
    print: bool,
}

pub(super) fn run(
    flavour: Flavour,
    rng: &mut Rng,
    settings: Settings,
    report: &mut Report,
) -> Result<(), Violation> {
    let mut rng = rng.child();
    let config = config(&mut rng);
    let disk_model = match flavour {
        Flavour::Faults => swarm(&mut rng),
        _ => DiskModel::default(),
    };
    let disk = SimDisk::new(rng.child(), disk_model.clone());
    let line = Line::open(config.clone(), rng.child(), disk, Instant::ZERO, std::iter::empty());
    let aging = flavour == Flavour::Faults
        && LIES.iter().any(|fault| disk_model.chance(*fault) > 0)
        && rng.chance(1, 2);
    let print = settings.print;
    let mut run = Run {
        rng,
        flavour,
        config,
        model: Model::default(),
        vouchers: Vouchers::default(),
        line,
        outcome: Outcome::default(),
        power_cut: true,
        ready: false,
        harmed: false,
        misread: 0,
        aging,
        report,
        print,
    };
    let outcome = run.lives();
    let disk = &run.line.disk;
    let (hits, operations) = (hits(disk), disk.operations());
    for (sum, hits) in run.report.faults.iter_mut().zip(hits) {
        *sum += hits;
    }
    run.report.operations = operations;
    run.report.fold(operations);
    outcome.map_err(|violation| violation.at(format!("operation {operations}, {:?}", run.config)))
}

fn config(rng: &mut Rng) -> Config {
    let lazy = rng.chance(1, 4);
    let segment_size = [4096, 4096, 8192, 16384][rng.below(4) as usize];
    let min_segments = 2 + rng.below(2) as usize;
    Config {
        segment_size,
        first_segment: [4096, segment_size][rng.below(2) as usize],
        max_batch: [400, 1500, 4000][rng.below(3) as usize],
        max_waiting: [4000, 1 << 20][rng.below(2) as usize],
        writes_in_flight: 1 + rng.below(3) as usize,
        sync_interval: lazy.then_some(Duration::from_millis(1 + rng.below(20))),
        max_unsynced: [1500, 8000][rng.below(2) as usize],
        // Without a throw of its own, so that the others stay as they are.
        vouch_after: (segment_size == 16384 && min_segments == 3).then_some(Duration::from_millis(5)),
        min_segments,
        max_segments: min_segments + rng.below(4) as usize,
        copy_below: [0, 300, 1000, 2500][rng.below(4) as usize],
        seal: None,
        directory: FilePath::root().join("journal"),
    }
}

/// A random choice of the faults that strike requests.
fn swarm(rng: &mut Rng) -> DiskModel {
    let mut model = DiskModel::default();
    model.limit = 1 + rng.below(8);
    // Half of the runs have only faults that the caller is told of: they are held to everything.
    let silent = rng.chance(1, 2);
    let faults = LIES.iter().chain(&MISREAD).filter(|_| silent);
    for fault in TOLD.iter().chain(faults) {
        if rng.chance(1, 2) {
            model = model.with(*fault, [3_000, 20_000, 100_000][rng.below(3) as usize]);
        }
    }
    model
}

impl Run<'_> {
    fn lives(&mut self) -> Result<(), Violation> {
        let lives = 2 + self.rng.below(4);
        for life in 0..lives {
            let operations = self.line.disk.operations() + 8 + self.rng.below(120);
            let mut workload = Workload::draw(&mut self.rng, self.config.segment_size);
            self.say(|| format!("life {life}: {workload:?}"));
            self.live(&mut workload, operations)?;
            match &self.outcome.failed {
                // Not one header was read, twice: another journal was begun there.
                Some(JournalError::Foreign { .. }) if self.harmed => return Ok(()),
                Some(JournalError::Headless { .. }) if self.harmed && self.outcome.found.is_empty() => {
                    self.report.tally.hit("headless");
                    return Ok(());
                }
                _ => {}
            }
            self.end_life();
        }
        self.line.disk.set_model(DiskModel::default());
        let mut terms = self.terms();
        let outcome = self.line.recover(&self.model, self.harmed, None)?;
        if self.harmed && matches!(outcome.failed, Some(JournalError::Headless { .. })) {
            self.report.tally.hit("headless");
            return Ok(());
        }
        self.excuse(&mut terms);
        self.model.check(&outcome, &terms).map(|_| ())
    }

    /// Lets the journal work until so many disk operations are done, or it has failed.
    fn live(&mut self, workload: &mut Workload, operations: u64) -> Result<(), Violation> {
        let mut idle = 0;
        while self.line.disk.operations() < operations && self.outcome.failed.is_none() {
            self.turn(workload)?;
            match self.line.next() {
                _ if self.outcome.failed.is_some() => break,
                Some(true) => {
                    idle = 0;
                    self.operation()?;
                    continue;
                }
                Some(false) => {}
                None if !self.ready => {
                    return Err(Violation::new(Promise::Stuck, format!("{:?}", self.outcome)));
                }
                // Time passes although nobody waits for it.
                None => self.line.now += Duration::from_millis(self.rng.below(30)),
            }
            idle += 1;
            if idle > 5_000 {
                let text = format!("nothing is written; {} live", self.model.live());
                return Err(Violation::new(Promise::Stuck, text));
            }
        }
        if self.outcome.failed.is_some() {
            self.report.tally.hit("journal-failed");
            if hits(&self.line.disk).iter().all(|hits| *hits == 0) {
                return Err(Violation::new(Promise::Failed, format!("{:?}", self.outcome.failed)));
            }
        }
        Ok(())
    }

    /// Lets owners work and the journal go on, as far as they get without the disk.
    fn turn(&mut self, workload: &mut Workload) -> Result<(), Violation> {
        self.line.advance();
        while self.hear(workload)? {
            self.line.advance();
        }
        if self.ready && self.outcome.failed.is_none() {
            self.work(workload)?;
            self.line.advance();
            self.hear(workload)?;
        }
        let (committed, durable) = (self.model.committed, self.model.durable);
        let harms = self.line.disk.faults().len();
        let (vouchers, ready) = (&mut self.vouchers, self.ready);
        let through = if ready { durable } else { Position(0) };
        let print = self.print;
        self.line.submit(|submission| {
            if print {
                println!("       {}", crate::storage::report::brief(submission));
            }
            vouchers.submitted(submission, committed, through, harms);
        });
        Ok(())
    }

    /// The next disk operation takes effect, between two crash points.
    fn operation(&mut self) -> Result<(), Violation> {
        self.crash_point(false)?;
        let before = hits(&self.line.disk);
        self.line.disk.take_effect(self.line.now);
        self.note_harm(before);
        self.crash_point(true)?;
        let Some((token, well)) = self.line.complete() else { return Ok(()) };
        self.vouchers.synced_write = false;
        if let Some(synced) = self.vouchers.completed(token, well) {
            self.model.durable(synced);
        }
        Ok(())
    }

    fn note_harm(&mut self, before: Hits) {
        let came = |faults: &[DiskFault]| -> u64 {
            faults.iter().map(|fault| self.line.disk.hits(*fault) - before[*fault as usize]).sum()
        };
        self.misread += came(&MISREAD);
        self.harmed |= self.misread > 1 || came(&LIES) > 0;
    }

    /// Takes what the journal has to tell; returns whether it had anything.
    fn hear(&mut self, workload: &mut Workload) -> Result<bool, Violation> {
        let mut heard = false;
        while let Some(event) = self.line.journal.poll_event() {
            heard = true;
            self.say(|| match &event {
                Event::Recovered { position, .. } => format!("Recovered {position:?}"),
                event => format!("{event:?}"),
            });
            if self.ready
                && let Event::Damaged(damage) = event
            {
                if !self.harmed {
                    return Err(Violation::new(Promise::FalseAlarm, format!("{damage:?}")));
                }
                self.model.told.push(damage);
                continue;
            }
            let Some(event) = self.outcome.hear(event, &self.model, self.harmed)? else {
                if let Some(next) = self.outcome.next.filter(|_| !self.ready) {
                    self.recovered(next)?;
                }
                continue;
            };
            match event {
                Event::Committed { through } => {
                    self.report.tally.hit("committed");
                    self.model.committed = self.model.committed.max(through);
                    let synced = std::mem::take(&mut self.vouchers.synced_write);
                    if self.config.sync_interval.is_none() || synced {
                        self.model.durable(through);
                    }
                }
                Event::PleaseCover { owner, through } => {
                    self.report.tally.hit("asked-to-cover");
                    workload.asked.push_back((owner, through));
                }
                Event::SegmentLeft { .. } => self.report.tally.hit("segment-left"),
                Event::Full => self.report.tally.hit("full"),
                Event::SpaceBack => self.report.tally.hit("space-back"),
                _ => {}
            }
        }
        Ok(heard)
    }

    /// The recovery at the beginning of a life is done.
    fn recovered(&mut self, next: Position) -> Result<(), Violation> {
        let mut terms = self.terms();
        self.excuse(&mut terms);
        let lost = self.model.check(&self.outcome, &terms)?;
        self.count(&Outcome::default(), lost);
        self.model.settle(&self.outcome, next);
        self.report.tally.hit("lives");
        self.ready = true;
        self.power_cut = false;
        Ok(())
    }

    /// What a recovery from the present disk is held to, if it isn't harmed further.
    fn terms(&self) -> Terms {
        let certain = if self.power_cut { self.model.durable } else { self.model.committed };
        let mut terms = Terms { certain, vouched: None, missing: false, told: Vec::new() };
        if !self.ready {
            terms.certain = terms.certain.max(self.outcome.told(&self.model));
            terms.told.clone_from(&self.outcome.damage);
        }
        terms
    }

    /// Says what the present disk may be excused for.
    fn excuse(&self, terms: &mut Terms) {
        if self.harmed {
            let read_well = self.misread < 2;
            let disk = &self.line.disk;
            terms.vouched =
                Some(if read_well { self.vouchers.through(disk, self.power_cut) } else { Position(0) });
            terms.missing = disk.hits(DiskFault::MissingFile) + disk.hits(DiskFault::StaleFile) > 0;
        }
    }

    fn count(&mut self, outcome: &Outcome, lost: u64) {
        self.report.recovered += outcome.found.len() as u64;
        let tally = &mut self.report.tally;
        tally.add("torn-tail", outcome.torn);
        tally.add("damage-told", outcome.damage.len() as u64);
        tally.add("owner-forgotten", outcome.forgotten.len() as u64);
        tally.add("entry-lost-and-told", lost);
        self.report.fold(outcome.found.len() as u64);
        self.report.fold(outcome.next.map_or(0, |next| next.0));
    }

    /// The process ends, or the power is cut.
    fn end_life(&mut self) {
        let power = self.rng.chance(3, 4);
        self.power_cut |= power;
        let mut disk = self.line.disk.clone();
        match power {
            true => disk.power_loss(),
            false => disk.crash(),
        }
        self.say(|| format!("power cut: {power}"));
        if self.aging {
            self.harmed |= self.harm(&mut disk);
        }
        if !self.ready {
            // The next recovery is held to what this one has told.
            let mut terms = self.terms();
            self.model.told.append(&mut terms.told);
            match self.power_cut {
                true => self.model.durable(terms.certain),
                false => self.model.committed = self.model.committed.max(terms.certain),
            }
        }
        self.misread = 0;
        self.ready = false;
        self.outcome = Outcome::default();
        self.vouchers.restart(power);
        let covered: Vec<_> = self.model.covered(self.flavour == Flavour::Faults).collect();
        self.line =
            Line::open(self.config.clone(), self.rng.child(), disk, self.line.now, covered.into_iter());
    }

    fn say(&self, text: impl FnOnce() -> String) {
        if self.print {
            println!("{:>6} {}", self.line.disk.operations(), text());
        }
    }
}
