//! Propose, commit, apply, over a store that is slow to apply and quick to cover.

use super::*;
use crate::disk::FilePath;
use crate::disk::instant::InstantDisk;

/// Keeps what it was handed; each entry waits for a read of the disk first.
#[derive(Debug, Default)]
struct Slow {
    ready: bool,
    failed: bool,
    locked: bool,
    entries: Vec<(Position, Bytes)>,
    covered: Position,
}

impl Store for Slow {
    type Event = ();

    fn apply(&mut self, entry: &Committed, _now: Instant, disk: &mut StoreDisk<'_>) -> Applied {
        if self.failed {
            return Applied::Pending;
        }
        if !std::mem::take(&mut self.ready) {
            disk.submit(7, Request::Space);
            return Applied::Pending;
        }
        self.entries.push((entry.position, entry.payload.concat().into()));
        Applied::Done
    }

    fn cover(&mut self, through: Position, _now: Instant, _disk: &mut StoreDisk<'_>) {
        if !self.failed {
            self.covered = through;
        }
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

    fn has_failed(&self) -> bool {
        self.failed
    }

    fn is_locked(&self) -> bool {
        self.locked
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

/// Nobody waits for ever for a journal to leave what it has: it is known that a store covers nothing more, and what a key is missing for
/// is copied.
#[test]
fn a_store_that_covers_nothing_more_is_known_to_keep_what_is_to_be_left() {
    let mut plain = InstantDisk::default();
    let owners = [OwnerId(1), OwnerId(2)];
    let mut volume = Volume::open(config(), Rng::from_u64(1), owners.map(|owner| (owner, Slow::default())));
    run(&mut volume, &mut plain);
    for owner in owners {
        volume.propose(owner, 1, vec![Bytes::from_static(b"plain")]).unwrap();
    }
    run(&mut volume, &mut plain);
    for (failed, locked) in [(true, false), (false, true)] {
        let mut disk = plain.clone();
        let mut open = |failed, locked| {
            disk.restart();
            let seal = Some(super::super::journal::Seal { epoch: 5, older: Vec::new() });
            let stores =
                [(owners[0], Slow::default()), (owners[1], Slow { failed, locked, ..Slow::default() })];
            let mut volume = Volume::open(Config { seal, ..config() }, Rng::from_u64(2), stores);
            for _ in 0..5 {
                run(&mut volume, &mut disk);
            }
            volume
        };
        let volume = open(failed, locked);
        assert!(volume.found_unsealed() && !volume.has_left() && volume.cannot_leave(), "{failed} {locked}");
        assert_eq!(volume.locked(), usize::from(locked));
        let volume = open(false, false);
        assert!(volume.found_unsealed() && volume.has_left() && !volume.cannot_leave(), "{failed} {locked}");
        let volume = open(false, false);
        assert!(!volume.found_unsealed() && volume.has_left());
    }
}

/// Who proposes faster than a store applies is told so, and nobody else is.
#[test]
fn what_waits_for_a_store_is_bounded() {
    let mut disk = InstantDisk::default();
    let config = Config { max_batch: 1 << 20, segment_size: 4 << 20, ..config() };
    let (slow, other) = (OwnerId(1), OwnerId(2));
    let mut volume =
        Volume::open(config, Rng::from_u64(1), [slow, other].map(|owner| (owner, Slow::default())));
    run(&mut volume, &mut disk);
    let (payload, mut parked, mut taken) = (Bytes::from(vec![7; 1 << 20]), VecDeque::new(), 0);
    while volume.propose(slow, 1, vec![payload.clone()]).is_ok() {
        taken += 1;
        volume.advance(Instant::ZERO);
        while let Some(submission) = volume.poll_disk() {
            match submission.request {
                Request::Space => parked.push_back(submission),
                _ => volume.handle_disk(Instant::ZERO, disk.execute(submission)),
            }
        }
    }
    assert_eq!(taken, BUSY >> 20, "a little more than they take by themselves is the end");
    assert_eq!(volume.propose(slow, 1, vec![payload.clone()]), Err(Refused::Busy));
    assert!(volume.propose(other, 1, vec![payload.clone()]).is_ok());
    parked.into_iter().for_each(|submission| volume.handle_disk(Instant::ZERO, disk.execute(submission)));
    let events = run(&mut volume, &mut disk);
    assert!(events.iter().any(|event| matches!(event, VolumeEvent::Applied(owner, _) if *owner == slow)));
    assert!(volume.propose(slow, 1, vec![payload]).is_ok());
    assert_eq!(volume.slots[&slow].bytes, 0);
}

/// Recovery hands stores no more than they take, however much there is, and one that has failed holds up nobody.
#[test]
fn recovery_waits_for_stores_that_are_slow() {
    let mut disk = InstantDisk::default();
    let config = || Config { max_batch: 1 << 20, segment_size: 4 << 20, min_segments: 16, ..config() };
    let (slow, failed) = (OwnerId(1), OwnerId(2));
    let mut volume =
        Volume::open(config(), Rng::from_u64(1), [slow, failed].map(|owner| (owner, Slow::default())));
    run(&mut volume, &mut disk);
    let payload = Bytes::from(vec![7; 16 << 10]);
    let entries = 3 * RECOVERY_WAITING / payload.len();
    for at in 0..entries {
        volume.propose(if at % 3 == 0 { failed } else { slow }, 1, vec![payload.clone()]).unwrap();
        if at % 100 == 99 {
            // Committed; no store is given the time to apply it.
            volume.advance(Instant::ZERO);
            while let Some(submission) = volume.poll_disk() {
                if !matches!(submission.request, Request::Space) {
                    volume.handle_disk(Instant::ZERO, disk.execute(submission));
                }
            }
        }
    }
    run(&mut volume, &mut disk);
    disk.restart();
    let stores = [(slow, Slow::default()), (failed, Slow { failed: true, ..Slow::default() })];
    let mut volume = Volume::open(config(), Rng::from_u64(2), stores);
    let (mut most, mut paused, mut ready) = (0, 0, false);
    volume.advance(Instant::ZERO);
    let mut parked = VecDeque::new();
    loop {
        // The store's own reads are answered when there is nothing else to do.
        let submission = match volume.poll_disk() {
            Some(submission) if matches!(submission.request, Request::Space) => {
                parked.push_back(submission);
                continue;
            }
            other => other.or_else(|| parked.pop_front()),
        };
        let Some(submission) = submission else { break };
        volume.handle_disk(Instant::ZERO, disk.execute(submission));
        let waits: usize = volume.slots.values().flat_map(|slot| &slot.waiting).map(size).sum();
        assert_eq!(waits, volume.waiting);
        (most, paused) = (most.max(waits), paused + u64::from(volume.paused));
        ready |= std::iter::from_fn(|| volume.poll_event())
            .any(|event| matches!(event, VolumeEvent::Journal(Event::Ready { .. })));
    }
    assert!(ready && paused > 10, "{paused}");
    // The last that the journal has read may come when it is ready already.
    let bound = RECOVERY_WAITING + crate::storage::journal::WINDOW + 2 * payload.len();
    assert!(most <= bound, "{most} bytes waited");
    let positions: Vec<u64> = volume.store(slow).unwrap().entries.iter().map(|(at, _)| at.0).collect();
    let expected: Vec<u64> = (0..entries as u64).filter(|at| at % 3 > 0).map(|at| at + 1).collect();
    assert_eq!(positions, expected);
    assert_eq!(volume.waiting, 0);
}
