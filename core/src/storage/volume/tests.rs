//! Propose, commit, apply, over a store that is slow to apply and quick to cover.

use super::*;
use crate::disk::FilePath;
use crate::disk::instant::InstantDisk;

/// Keeps what it was handed; each entry waits for a read of the disk first.
#[derive(Debug, Default)]
struct Slow {
    ready: bool,
    entries: Vec<(Position, Bytes)>,
    covered: Position,
}

impl Store for Slow {
    type Event = ();

    fn apply(&mut self, entry: &Committed, _now: Instant, disk: &mut StoreDisk<'_>) -> Applied {
        if !std::mem::take(&mut self.ready) {
            disk.submit(7, Request::Space);
            return Applied::Pending;
        }
        self.entries.push((entry.position, entry.payload.concat().into()));
        Applied::Done
    }

    fn cover(&mut self, through: Position, _now: Instant, _disk: &mut StoreDisk<'_>) {
        self.covered = through;
    }

    fn covered(&self) -> Position {
        self.covered
    }

    fn handle_disk(&mut self, tag: u64, _: Result<Reply, DiskError>, _: Instant, _: &mut StoreDisk<'_>) {
        self.ready = tag == 7;
    }

    fn handle_timeout(&mut self, _now: Instant, _disk: &mut StoreDisk<'_>) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_event(&mut self) -> Option<()> {
        None
    }
}

fn config() -> Config {
    Config { segment_size: 4096, max_batch: 1024, ..Config::new(FilePath::root().join("journal")) }
}

fn run(volume: &mut Volume<Slow>, disk: &mut InstantDisk) -> Vec<VolumeEvent<()>> {
    let now = Instant::ZERO;
    volume.advance(now);
    while let Some(submission) = volume.poll_disk() {
        volume.handle_disk(now, disk.execute(submission));
    }
    std::iter::from_fn(|| volume.poll_event()).collect()
}

#[test]
fn entries_are_applied_in_order_once_committed_and_again_after_a_restart() {
    let mut disk = InstantDisk::default();
    let (one, two) = (OwnerId(1), OwnerId(2));
    let stores = || [(one, Slow::default()), (two, Slow::default())];
    let mut volume = Volume::open(config(), Rng::from_u64(1), stores());
    assert!(
        run(&mut volume, &mut disk)
            .iter()
            .any(|event| matches!(event, VolumeEvent::Journal(Event::Ready { next_position: Position(1) })))
    );
    for owner in [one, two, one] {
        volume.propose(owner, 1, vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")]).unwrap();
    }
    assert!(volume.store(one).unwrap().entries.is_empty(), "nothing is readable before it is committed");
    let events = run(&mut volume, &mut disk);
    assert!(events.contains(&VolumeEvent::Applied(one, Position(3))), "{events:?}");
    let entries = |volume: &Volume<Slow>, owner| volume.store(owner).unwrap().entries.clone();
    let payload = Bytes::from_static(b"ab");
    assert_eq!(entries(&volume, one), [(Position(1), payload.clone()), (Position(3), payload.clone())]);

    disk.restart();
    let covered = Slow { covered: Position(1), ..Slow::default() };
    let mut volume = Volume::open(config(), Rng::from_u64(2), [(one, covered)]);
    let events = run(&mut volume, &mut disk);
    assert!(events.contains(&VolumeEvent::Unclaimed(two)), "{events:?}");
    assert_eq!(entries(&volume, one), [(Position(3), payload)]);
}
