//! A file that is replaced as a whole: on disks that fail, fill up, or lose power.

use super::*;
use crate::disk::Completion;
use crate::disk::instant::InstantDisk;
use crate::rng::Rng;
use crate::storage::OwnerId;
use crate::storage::journal::Config;
use crate::storage::volume::{Volume, VolumeEvent};
use crate::time::Duration;

/// Adds up what it is told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    applied: Position,
    sum: u64,
    forgotten: bool,
}

impl KeptState for Sum {
    const LIMIT: usize = 100;

    fn apply(&mut self, entry: &Committed) -> Result<(), String> {
        if entry.position <= self.applied {
            return Ok(());
        }
        self.applied = entry.position;
        self.sum += u64::from(entry.kind);
        if entry.kind == 9 { Err("nine".to_owned()) } else { Ok(()) }
    }

    fn applied(&self) -> Position {
        self.applied
    }

    fn encode(&self) -> Vec<u8> {
        format!("{} {}", self.applied.0, self.sum).into_bytes()
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let (applied, sum) = text.split_once(' ').ok_or("no sum")?;
        self.applied = Position(applied.parse().map_err(|_| "no position")?);
        self.sum = sum.parse().map_err(|_| "no number")?;
        Ok(())
    }

    fn forget(&mut self, _bytes: &[u8]) {
        self.forgotten = true;
    }
}

const OWNER: OwnerId = OwnerId(7);

fn path() -> FilePath {
    FilePath::root().join("sum")
}

fn open(disk: &mut InstantDisk) -> Volume<Kept<Sum>> {
    disk.restart();
    let config = Config { segment_size: 1 << 16, ..Config::new(FilePath::root().join("journal")) };
    let mut volume = Volume::open(config, Rng::from_seed([1; 32]), []);
    volume.add_with(OWNER, |disk| Kept::open(Sum::default(), path(), disk));
    settle(&mut volume, disk);
    volume
}

fn settle(volume: &mut Volume<Kept<Sum>>, disk: &mut InstantDisk) {
    settle_refusing(volume, disk, Instant::ZERO, None);
}

/// Lets the disk do what is asked of it, but for the file, which it refuses to write; returns how often it did.
fn settle_refusing(
    volume: &mut Volume<Kept<Sum>>,
    disk: &mut InstantDisk,
    now: Instant,
    refuses: Option<DiskErrorKind>,
) -> usize {
    let mut refused = 0;
    volume.advance(now);
    while let Some(submission) = volume.poll_disk() {
        let writes = matches!(&submission.request, Request::Replace { path: file, .. } if *file == path());
        let completion = match refuses.filter(|_| writes) {
            Some(kind) => Completion { token: submission.token, result: Err(failure(kind)) },
            None => disk.execute(submission),
        };
        refused += usize::from(completion.result.is_err() && writes);
        volume.handle_disk(now, completion);
        volume.advance(now);
    }
    refused
}

fn failure(kind: DiskErrorKind) -> DiskError {
    DiskError { kind, path: path().to_string(), message: "refused".to_owned() }
}

/// Returns what the store has told since it was asked last.
fn told(volume: &mut Volume<Kept<Sum>>) -> Vec<KeptEvent> {
    let events = std::iter::from_fn(|| volume.poll_event());
    events
        .filter_map(|event| match event {
            VolumeEvent::Store(_, event) => Some(event),
            _ => None,
        })
        .collect()
}

/// Returns a store that has added up three and is asked to write that.
fn asked_to_write(disk: &mut InstantDisk) -> Volume<Kept<Sum>> {
    let mut volume = open(disk);
    volume.propose(OWNER, 3, Vec::new()).unwrap();
    settle(&mut volume, disk);
    assert_eq!(told(&mut volume), [KeptEvent::Ready]);
    volume.with_store(OWNER, |kept, disk| kept.cover(Position(1), Instant::ZERO, disk));
    volume
}

fn put(disk: &mut InstantDisk, content: &'static [u8]) {
    let data = vec![Bytes::from_static(content)];
    let request = Request::Replace { path: path(), data };
    disk.execute(crate::disk::Submission { token: crate::disk::Token(0), request }).result.unwrap();
}

fn sum(volume: &Volume<Kept<Sum>>) -> u64 {
    volume.store(OWNER).map(|kept| kept.state().sum).unwrap()
}

#[test]
fn a_state_is_what_its_file_and_the_entries_behind_it_say() {
    let mut disk = InstantDisk::default();
    let mut volume = open(&mut disk);
    volume.propose(OWNER, 3, Vec::new()).unwrap();
    settle(&mut volume, &mut disk);
    let mut volume = open(&mut disk);
    assert_eq!(sum(&volume), 3, "from the journal alone");
    volume.with_store(OWNER, |kept, disk| kept.cover(Position(1), Instant::ZERO, disk));
    settle(&mut volume, &mut disk);
    assert!(volume.store(OWNER).unwrap().covered() > Position::default());
    volume.propose(OWNER, 4, Vec::new()).unwrap();
    settle(&mut volume, &mut disk);
    assert_eq!(sum(&open(&mut disk)), 7, "from both, and nothing twice");
}

#[test]
fn a_file_that_is_read_badly_once_is_read_again() {
    let mut disk = InstantDisk::default();
    put(&mut disk, b"5 12");
    for bad in [
        Ok(Reply::Read(Bytes::from_static(b"nonsense"))),
        Err(DiskError { kind: DiskErrorKind::Io, path: path().to_string(), message: "once".to_owned() }),
    ] {
        disk.restart();
        let config = Config { segment_size: 1 << 16, ..Config::new(FilePath::root().join("journal")) };
        let mut volume = Volume::open(config, Rng::from_seed([1; 32]), []);
        volume.add_with(OWNER, |disk| Kept::open(Sum::default(), path(), disk));
        let mut bad = Some(bad);
        volume.advance(Instant::ZERO);
        while let Some(submission) = volume.poll_disk() {
            let reads =
                matches!(&submission.request, Request::ReadFile { path: read, .. } if *read == path());
            let mut completion = disk.execute(submission);
            if let Some(bad) = bad.take_if(|_| reads) {
                completion.result = bad;
            }
            volume.handle_disk(Instant::ZERO, completion);
            volume.advance(Instant::ZERO);
        }
        assert!(bad.is_none() && volume.store(OWNER).unwrap().is_ready());
        assert_eq!((sum(&volume), volume.store(OWNER).unwrap().state().forgotten), (12, false));
    }
}

#[test]
fn a_disk_that_was_full_for_a_while_costs_nothing() {
    let mut disk = InstantDisk::default();
    let mut volume = asked_to_write(&mut disk);
    let (mut now, full) = (Instant::ZERO, Some(DiskErrorKind::Full));
    for round in 0..20 {
        assert_eq!(settle_refusing(&mut volume, &mut disk, now, full), 1, "once at a time");
        let expected =
            if round == 0 { vec![KeptEvent::Refused(failure(DiskErrorKind::Full))] } else { vec![] };
        assert_eq!(told(&mut volume), expected, "round {round}");
        // Whoever asks meanwhile doesn't make it faster.
        volume.with_store(OWNER, |kept, disk| kept.cover(Position(1), Instant::ZERO, disk));
        if round == 10 {
            volume.propose(OWNER, 4, Vec::new()).unwrap();
        }
        let early = now + Duration::from_millis(499);
        assert_eq!(settle_refusing(&mut volume, &mut disk, early, full), 0);
        let kept = volume.store(OWNER).unwrap();
        assert!(kept.is_writing() && kept.covered() == Position::default());
        now += Duration::from_millis(500);
        assert_eq!(volume.poll_timeout(), Some(now));
    }
    settle_refusing(&mut volume, &mut disk, now, None);
    let kept = volume.store(OWNER).unwrap();
    assert!(!kept.is_writing() && kept.covered() == kept.state().applied);
    assert_eq!((told(&mut volume), volume.poll_timeout()), (vec![], None));
    // What came meanwhile is in it, too.
    let expected = format!("{} 7", volume.store(OWNER).unwrap().covered().0);
    assert_eq!(disk.content(&path()), Some(expected.as_bytes()));
    assert_eq!(sum(&open(&mut disk)), 7);
}

#[test]
fn a_write_that_fails_is_made_eight_times() {
    for kind in [DiskErrorKind::Io, DiskErrorKind::SyncFailed] {
        for failures in [7, 8] {
            let mut disk = InstantDisk::default();
            let mut volume = asked_to_write(&mut disk);
            let mut now = Instant::ZERO;
            for _ in 0..failures {
                assert_eq!(settle_refusing(&mut volume, &mut disk, now, Some(kind)), 1);
                assert_eq!(volume.store(OWNER).unwrap().covered(), Position::default());
                now += SPACE_RETRY;
            }
            let mut expected = vec![KeptEvent::Refused(failure(kind))];
            expected.extend((failures == 8).then(|| KeptEvent::Failed(failure(kind))));
            assert_eq!(told(&mut volume), expected);
            settle_refusing(&mut volume, &mut disk, now, None);
            assert_eq!(disk.content(&path()).is_some(), failures == 7);
            // Who asks once more begins anew.
            volume.with_store(OWNER, |kept, disk| kept.cover(Position(1), now, disk));
            settle(&mut volume, &mut disk);
            assert_eq!(sum(&open(&mut disk)), 3);
            assert!(disk.content(&path()).is_some());
        }
    }
}

#[test]
fn what_trying_again_does_not_change_is_told_at_once() {
    let mut disk = InstantDisk::default();
    let mut volume = asked_to_write(&mut disk);
    let kind = DiskErrorKind::Permission;
    assert_eq!(settle_refusing(&mut volume, &mut disk, Instant::ZERO, Some(kind)), 1);
    assert_eq!(told(&mut volume), [KeptEvent::Failed(failure(kind))]);
    assert!(volume.poll_timeout().is_none() && !volume.store(OWNER).unwrap().is_writing());
}

/// The planted bug that concerns it is caught.
#[cfg(feature = "planted-bugs")]
#[test]
fn a_planted_bug_is_caught() {
    use crate::planted::{arm, disarm};
    arm(Some(Bug::StoreFailsWhenFull), 0, 1, 1);
    let result = std::panic::catch_unwind(a_disk_that_was_full_for_a_while_costs_nothing);
    disarm();
    assert!(result.is_err());
}

#[test]
fn a_damaged_file_is_told_of_and_left_alone() {
    let mut disk = InstantDisk::default();
    put(&mut disk, b"nonsense");
    let mut volume = open(&mut disk);
    let events: Vec<String> =
        std::iter::from_fn(|| volume.poll_event()).map(|event| format!("{event:?}")).collect();
    assert!(events.iter().any(|event| event.contains("Damaged") && event.contains("no sum")), "{events:?}");
    assert!(volume.store(OWNER).unwrap().state().forgotten);
    assert_eq!(disk.content(&path()), Some(&b"nonsense"[..]));
}
