//! What rots in a closed block while its stream is in use: the scrubber finds it, tells it, and nothing else is lost by it.

use std::collections::BTreeSet;

use natrix_core::disk::FilePath;
use natrix_core::rng::Rng;
use natrix_core::storage::file::store::{FileStore, StoreEvent};
use natrix_core::storage::file::{Event, ScrubPace};
use natrix_core::storage::memory::MemoryStore;
use natrix_core::storage::volume::Store;
use natrix_core::storage::{OwnerId, Position};
use natrix_core::time::Duration;
use natrix_runtime_sim::disk::{DiskFault, DiskModel, SimDisk};

use super::file::{Files, load};
use super::line::Line;
use crate::storage::report::{Promise, Report, Violation};

/// A pass after the other, and none of them slow.
pub(super) const PACE: ScrubPace = ScrubPace { bytes_per_second: 1 << 20, every: Duration::ZERO };

/// More than a pass over so little takes.
const PATIENCE: u64 = 20_000;

/// Sets the pace of a stream's scrubber.
pub(super) fn set_pace(line: &mut Line<Files>, owner: OwnerId, pace: Option<ScrubPace>) {
    let now = line.now;
    line.volume.with_store(owner, |store: &mut FileStore, _| store.set_scrub(pace, now));
}

/// Lets a bit rot in a closed block of a stream, or the block be read wrong once, and has it scrubbed. `reopen` starts the stores
/// again on a disk.
pub(super) fn rot(
    line: &mut Line<Files>,
    (owner, folder): (OwnerId, FilePath),
    plain: bool,
    model: &MemoryStore,
    (rng, report): (&mut Rng, &mut Report),
    reopen: impl FnOnce(SimDisk) -> Line<Files>,
) -> Result<(), Violation> {
    // What isn't durable yet has no block to rot in, or one that a restart may cut back.
    let now = line.now;
    line.volume.with_store(owner, |store: &mut FileStore, disk| store.cover(Position(u64::MAX), now, disk));
    while line.step()? {}
    let Some(store) = line.volume.store(owner) else { return Ok(()) };
    let closed = |block: &u32| store.files().closed_len(*block).is_some();
    let blocks: Vec<u32> = store.files().blocks().into_iter().filter(closed).collect();
    if blocks.is_empty() {
        return Ok(());
    }
    let block = blocks[rng.below(blocks.len() as u64) as usize];
    let path = folder.join(&format!("{block:08x}.blk"));
    line.told();
    line.harmed = true;
    let misread = rng.chance(1, 4);
    if misread {
        let mut once = DiskModel::default().with(DiskFault::BadRead, 1_000_000);
        once.limit = DiskFault::ALL.iter().map(|fault| line.disk.hits(*fault)).sum::<u64>() + 1;
        line.disk.set_model(once);
    } else if !line.disk.damage(&path, DiskFault::BitRot) {
        return Ok(());
    }
    scrub(line, owner)?;
    let told = line.told().iter().filter(|event| is_damage(event)).count();
    report.tally.hit(if misread { "scrubbed-misread" } else { "scrubbed-rot" });
    // A header's bits are looked at when the file is opened; what they say stands in the mark behind it too.
    let harm = line.disk.faults().last().map_or(0, |harm| harm.offset);
    let text = format!("{path} {harm}, {told} told");
    if misread && told > 0 {
        return Err(Violation::new(Promise::FalseAlarm, text));
    }
    if !misread && told == 0 && harm >= 64 {
        return Err(Violation::new(Promise::Untold, text));
    }
    let lost = compare(line, owner, model).map_err(|violation| violation.at(&text))?;
    report.tally.add("scrub-lost", lost.len() as u64);
    if misread && !lost.is_empty() || plain && lost.len() > 1 {
        return Err(Violation::new(Promise::Lost, format!("{lost:?} for one bit; {text}")));
    }
    let mut disk = line.disk.clone();
    disk.crash();
    disk.set_model(DiskModel::default());
    let mut line = reopen(disk);
    line.harmed = true;
    line.recover(None)?;
    let after = compare(&mut line, owner, model).map_err(|violation| violation.at(&text))?;
    if after != lost {
        let text = format!("{after:?} is lost after a restart, {lost:?} was before; {text}");
        return Err(Violation::new(Promise::State, text));
    }
    Ok(())
}

fn is_damage(event: &StoreEvent) -> bool {
    matches!(event, StoreEvent::Files(Event::Damaged { .. } | Event::Unreadable { .. }))
}

/// Has a stream scrubbed once.
fn scrub(line: &mut Line<Files>, owner: OwnerId) -> Result<(), Violation> {
    set_pace(line, owner, Some(PACE));
    let over = |event: &StoreEvent| matches!(event, StoreEvent::Files(Event::Scrubbed { .. }));
    for _ in 0..PATIENCE {
        line.step()?;
        if line.kept().iter().any(over) {
            set_pace(line, owner, None);
            while line.step()? {}
            return Ok(());
        }
    }
    Err(Violation::new(Promise::Stuck, "a scrub doesn't end"))
}

/// Compares a stream with what it was; returns what is lost, and told so.
fn compare(line: &mut Line<Files>, owner: OwnerId, model: &MemoryStore) -> Result<BTreeSet<u64>, Violation> {
    let state = line.ask(owner, |store, disk| store.state(disk).ok())?;
    let told = |sequence: u64| state.lost.ranges.iter().any(|range| (range.0..=range.1).contains(&sequence));
    let mut lost = BTreeSet::new();
    for sequence in 1..=model.state().last_sequence {
        match (load(line, owner, sequence)?, model.load(sequence)) {
            (is, should) if is == should => {}
            (None, Some(_)) if told(sequence) => drop(lost.insert(sequence)),
            (None, Some(_)) => {
                return Err(Violation::new(Promise::Untold, format!("message {sequence} is gone")));
            }
            (is, should) => {
                let text = format!("message {sequence} is {is:?}, should be {should:?}");
                return Err(Violation::new(Promise::Content, text));
            }
        }
    }
    Ok(lost)
}
