//! Crash points: the disk is cloned, crashed and recovered from, and the run goes on.

use natrix_core::rng::Rng;
use natrix_core::storage::Position;
use natrix_core::storage::journal::JournalError;
use natrix_runtime_sim::disk::{DiskFault, DiskModel, SimDisk};

use super::line::{Line, Stop};
use super::{AT_REST, Flavour, LIES, MISREAD, Run, hits};
use crate::storage::report::{Promise, Violation};

/// Crashes in a row, the first included.
const CRASHES: u32 = 4;

impl Run<'_> {
    /// Crashes here, recovers and compares; perhaps crashes again in the recovery, and so on.
    pub(super) fn crash_point(&mut self, done: bool) -> Result<(), Violation> {
        let mut rng = self.rng.child();
        let mut disk = self.line.disk.clone();
        disk.reseed(rng.child());
        disk.set_model(DiskModel::default());
        let at = disk.operations();
        let before = hits(&disk);
        let outcome = self.crashes(&mut disk, &mut rng);
        self.report.count_faults(&disk, &before);
        outcome.map_err(|violation| {
            let harm = disk.faults().last();
            violation.at(format!("crash at {at}, done {done}, last harm {harm:?}"))
        })
    }

    fn crashes(&mut self, disk: &mut SimDisk, rng: &mut Rng) -> Result<(), Violation> {
        let mut terms = self.terms();
        let (mut power_cut, mut harmed, mut misread) = (self.power_cut, self.harmed, 0);
        // What recoveries have told; what was reported before is less after a power cut.
        let mut floor = Position(0);
        if !self.ready {
            floor = self.outcome.told(&self.model);
        }
        let mut now = self.line.now;
        for crash in 1..=CRASHES {
            let last = crash == CRASHES;
            self.report.crash_points += 1;
            let power = rng.chance(4, 5);
            match power {
                true => disk.power_loss(),
                false => disk.crash(),
            }
            power_cut |= power;
            if self.flavour == Flavour::Damage && crash == 1 && rng.chance(1, 2) {
                harmed |= self.harm_in_fork(disk, rng);
            }
            let faults = self.flavour == Flavour::Faults && !last && rng.chance(1, 4);
            disk.set_model(if faults { recovery_faults(disk, rng) } else { DiskModel::default() });
            let stop = (!last && rng.chance(1, 3))
                .then(|| Stop { operation: rng.below(45), done: rng.chance(1, 2) });
            let before = hits(disk);
            let covered: Vec<_> = self.model.covered(harmed || faults).collect();
            let forked = disk.clone();
            let mut line = Line::open(self.config.clone(), rng.child(), forked, now, covered.into_iter());
            let outcome = line.recover(&self.model, harmed || faults, stop)?;
            (*disk, now) = (line.disk, line.now);
            let came = |faults: &[DiskFault]| -> u64 {
                faults.iter().map(|fault| disk.hits(*fault) - before[*fault as usize]).sum()
            };
            misread += came(&MISREAD);
            harmed |= misread > 1 || came(&LIES) > 0;
            let reported = if power_cut { self.model.durable } else { self.model.committed };
            terms.certain = reported.max(floor);
            terms.vouched = harmed.then(|| match misread {
                0 | 1 => self.vouchers.through(disk, power_cut),
                _ => Position(0),
            });
            terms.missing = disk.hits(DiskFault::MissingFile) + disk.hits(DiskFault::StaleFile) > 0;
            if let Some(error) = &outcome.failed {
                let spoiled = disk.hits(DiskFault::UnreadableSector) > 0;
                if spoiled && matches!(error, JournalError::Disk(_)) && outcome.found.is_empty() {
                    // Not one header can be read, and that is told.
                    self.report.tally.hit("no-header");
                    return Ok(());
                }
                if misread > 1 && matches!(error, JournalError::Foreign { .. }) {
                    // Not one header was read, twice, now or in the crash before: another journal was begun there.
                    return Ok(());
                }
                if harmed && matches!(error, JournalError::Headless { .. }) && outcome.found.is_empty() {
                    // Not one header is there, and that is told.
                    self.report.tally.hit("headless");
                    return Ok(());
                }
                if hits(disk) == before {
                    return Err(Violation::new(Promise::Failed, format!("{error} in crash {crash}")));
                }
                self.report.tally.hit("recovery-failed");
            }
            if outcome.next.is_some() {
                let lost = self.model.check(&outcome, &terms).map_err(|violation| {
                    violation.at(format!("crash {crash}, power cut {power_cut}, harmed {harmed}"))
                })?;
                self.count(&outcome, lost);
            }
            if stop.is_none() && outcome.failed.is_none() {
                break;
            }
            self.report.tally.hit("crash-in-recovery");
            floor = floor.max(outcome.told(&self.model));
            terms.told.extend(outcome.damage);
        }
        Ok(())
    }

    fn harm_in_fork(&self, disk: &mut SimDisk, rng: &mut Rng) -> bool {
        let paths: Vec<_> = self.vouchers.paths().collect();
        let Some(path) = paths.get(rng.below(paths.len() as u64) as usize) else { return false };
        if rng.chance(1, 12) {
            // Both copies of a segment's header.
            return disk.spoil(path, 0..2);
        }
        let fault = AT_REST[rng.below(AT_REST.len() as u64) as usize];
        disk.damage(path, fault)
    }

    /// Does one thing to the run's own disk that time does to disks; returns whether there was anything to do it to.
    pub(super) fn harm(&mut self, disk: &mut SimDisk) -> bool {
        let mut rng = self.rng.child();
        self.harm_in_fork(disk, &mut rng)
    }
}

/// Faults that may come while recovery reads and writes.
fn recovery_faults(disk: &SimDisk, rng: &mut Rng) -> DiskModel {
    let faults = [
        DiskFault::ReadError,
        DiskFault::BadRead,
        DiskFault::MisdirectedRead,
        DiskFault::WriteError,
        DiskFault::ShortWrite,
        DiskFault::SyncFailed,
        DiskFault::Full,
    ];
    let fault = faults[rng.below(faults.len() as u64) as usize];
    let mut model = DiskModel::default().with(fault, 100_000);
    model.limit = hits(disk).iter().sum::<u64>() + 1 + rng.below(4);
    model
}
