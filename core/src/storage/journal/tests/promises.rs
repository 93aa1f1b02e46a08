//! Single promises, on a disk that keeps everything.

use bytes::Bytes;

use super::super::{Config, Event, Journal, JournalError, Refused, Ticket};
use crate::disk::instant::InstantDisk;
use crate::disk::{DiskQueue, FilePath};
use crate::rng::Rng;
use crate::storage::{OwnerId, Position};
use crate::time::{Duration, Instant};

pub(super) struct Fixture {
    pub(super) disk: InstantDisk,
    queue: DiskQueue<Ticket>,
    pub(super) journal: Journal,
    pub(super) events: Vec<Event>,
}

pub(super) fn config() -> Config {
    Config { segment_size: 16384, max_batch: 2048, ..Config::new(FilePath::root().join("journal")) }
}

impl Fixture {
    fn open(disk: InstantDisk, seed: u64) -> Self {
        Self::open_with(disk, seed, config(), |_| {})
    }

    /// Opens with these settings; `before` is called before anything is read.
    pub(super) fn open_with(
        disk: InstantDisk,
        seed: u64,
        config: Config,
        before: impl FnOnce(&mut Journal),
    ) -> Self {
        let mut queue = DiskQueue::default();
        let mut journal = Journal::open(config, Rng::from_u64(seed), &mut queue);
        before(&mut journal);
        let mut fixture = Fixture { disk, queue, journal, events: Vec::new() };
        fixture.run();
        fixture
    }

    /// Ends the process and starts another, after `damage` to the files.
    fn restart(mut self, damage: impl FnOnce(&mut InstantDisk)) -> Self {
        self.disk.restart();
        damage(&mut self.disk);
        Fixture::open(self.disk, 2)
    }

    pub(super) fn run(&mut self) {
        self.run_at(Instant::ZERO);
    }

    fn run_at(&mut self, now: Instant) {
        loop {
            self.journal.advance(now, &mut self.queue);
            let before = self.events.len();
            self.events.extend(std::iter::from_fn(|| self.journal.poll_event()));
            let Some(submission) = self.queue.poll() else {
                if self.events.len() == before {
                    return;
                }
                continue;
            };
            let completion = self.disk.execute(submission);
            if let Some((ticket, result)) = self.queue.complete(completion) {
                self.journal.handle_disk(now, ticket, result, &mut self.queue);
            }
        }
    }

    fn append(&mut self, owner: u64, payload: &'static str) -> Position {
        self.journal.append(OwnerId(owner), 1, &[Bytes::from_static(payload.as_bytes())]).unwrap()
    }

    fn recovered(&self) -> Vec<(u64, u64)> {
        let entry = |event: &Event| match event {
            Event::Recovered { owner, position, .. } => Some((owner.0, position.0)),
            _ => None,
        };
        self.events.iter().filter_map(entry).collect()
    }
}

fn first_segment() -> FilePath {
    FilePath::root().join("journal").join("0000000000000001.jnl")
}

#[test]
fn a_flipped_bit_in_a_payload_costs_its_entry_and_tells_whose_it_was() {
    let mut fixture = Fixture::open(InstantDisk::default(), 1);
    for payload in ["one", "needle", "three"] {
        fixture.append(7, payload);
    }
    fixture.run();
    fixture.append(8, "a batch whose mark vouches for the one before");
    fixture.run();
    let fixture = fixture.restart(|disk| {
        let content = disk.content_mut(&first_segment()).unwrap();
        let at = content.windows(6).position(|window| window == b"needle").unwrap();
        content[at] ^= 4;
    });
    assert_eq!(fixture.recovered(), [(7, 1), (7, 3), (8, 4)]);
    let damage = fixture.events.iter().find_map(|event| match event {
        Event::Damaged(damage) => Some((damage.owner, damage.positions)),
        _ => None,
    });
    assert_eq!(damage, Some((Some(OwnerId(7)), Some((Position(2), Position(2))))));
}

#[test]
pub(super) fn damage_to_what_recovery_wrote_again_is_told() {
    let mut fixture = Fixture::open(InstantDisk::default(), 1);
    fixture.append(7, "one");
    fixture.run();
    fixture.append(7, "no later batch says that this one is synced");
    fixture.run();
    // Written again to a segment of its own, where it stands alone from now on.
    let fixture = fixture.restart(|_| {});
    assert_eq!(fixture.recovered(), [(7, 1), (7, 2)]);
    let fixture = fixture.restart(|disk| {
        // The second was prepared before.
        let path = FilePath::root().join("journal").join("0000000000000003.jnl");
        disk.content_mut(&path).unwrap()[1024..1200].fill(0);
    });
    assert_eq!(fixture.recovered(), [(7, 1)]);
    let told = fixture.events.iter().any(|event| match event {
        Event::Damaged(damage) => {
            let original = damage.positions.is_some_and(|(first, last)| first.0 <= 2 && 2 <= last.0);
            original && damage.copies.is_some()
        }
        _ => false,
    });
    assert!(told, "{:?}", fixture.events);
}

/// What was committed last, with nothing written behind it: a batch without entries says that it is durable, once.
#[test]
pub(super) fn damage_to_the_newest_batch_is_told_when_it_was_vouched_for() {
    const WAIT: Duration = Duration::from_millis(10);
    for place in 0..3 {
        let config = Config { vouch_after: Some(WAIT), ..config() };
        let mut fixture = Fixture::open_with(InstantDisk::default(), 1, config, |_| {});
        assert_eq!(fixture.journal.poll_timeout(), None, "nothing was written");
        fixture.append(7, "one");
        fixture.run();
        fixture.append(8, "a needle");
        fixture.run();
        // The second vouched for the first, and nobody was told to write before.
        let due = fixture.journal.poll_timeout();
        assert_eq!(due, Some(Instant::ZERO + WAIT));
        let written = fixture.disk.content(&first_segment()).unwrap().to_vec();
        fixture.run_at(Instant::ZERO + WAIT);
        assert_ne!(fixture.disk.content(&first_segment()), Some(&written[..]));
        assert_eq!(fixture.journal.poll_timeout(), None, "once");
        let fixture = fixture.restart(|disk| {
            let content = disk.content_mut(&first_segment()).unwrap();
            let at = content.windows(6).position(|window| window == b"needle").unwrap();
            // In the payload, in the header of the entry, in that of the batch.
            content[at - [0, 20, 60][place]] ^= 4;
        });
        let told = fixture.events.iter().any(|event| match event {
            Event::Damaged(damage) => {
                damage.may_concern(OwnerId(8), Position(1)) || damage.positions.is_none()
            }
            _ => false,
        });
        assert!(told, "{place}: {:?}", fixture.events);
        assert!(fixture.recovered().contains(&(7, 1)));
        // The batch's header alone costs nothing.
        assert_eq!(fixture.recovered().contains(&(8, 2)), place == 2);
    }
}

#[test]
fn a_journal_that_writes_is_not_asked_to_vouch() {
    let wait = Duration::from_millis(10);
    let config = Config { vouch_after: Some(wait), ..config() };
    let mut fixture = Fixture::open_with(InstantDisk::default(), 1, config, |_| {});
    let batches = |fixture: &Fixture| {
        let content = fixture.disk.content(&first_segment()).unwrap();
        content.windows(4).filter(|window| *window == b"nBat").count()
    };
    for at in 1..=20 {
        fixture.append(7, "an entry");
        fixture.run_at(Instant::ZERO + wait / 2 * at);
    }
    assert_eq!(batches(&fixture), 21, "the first of all, and one for each entry");
    fixture.run_at(Instant::ZERO + wait * 100);
    fixture.run_at(Instant::ZERO + wait * 200);
    assert_eq!(batches(&fixture), 22);
    // A start writes again what nothing vouched for, and vouches for that.
    fixture.append(7, "an entry");
    fixture.run_at(Instant::ZERO + wait * 200);
    fixture.disk.restart();
    let config = Config { vouch_after: Some(wait), ..self::config() };
    let fixture = Fixture::open_with(fixture.disk, 2, config, |_| {});
    assert_eq!(fixture.recovered().len(), 21);
    assert_eq!(fixture.journal.poll_timeout(), Some(Instant::ZERO + wait));
}

#[test]
fn a_bad_batch_header_costs_nothing_that_can_still_be_read() {
    let mut fixture = Fixture::open(InstantDisk::default(), 1);
    for _ in 0..3 {
        fixture.append(7, "payload");
        fixture.append(8, "payload");
        fixture.run();
    }
    // The first of a segment too, which nothing stands before that says which positions to look for.
    for (batch, seed) in [(1, 1), (0, 2)] {
        let mut fixture = Fixture::open(fixture.disk.clone(), seed);
        fixture.disk.restart();
        let fixture = fixture.restart(|disk| {
            let content = disk.content_mut(&first_segment()).unwrap();
            let batches = content.windows(4).enumerate().filter(|(_, window)| *window == b"nBat");
            let at = batches.map(|(at, _)| at).nth(batch).unwrap();
            content[at + 5] ^= 1;
        });
        let positions: Vec<_> = fixture.recovered().into_iter().map(|(_, position)| position).collect();
        assert_eq!(positions, [1, 2, 3, 4, 5, 6], "batch {batch}");
        assert!(fixture.events.iter().any(|event| matches!(event, Event::Damaged(_))));
    }
}

#[test]
fn a_segment_of_another_journal_is_not_touched() {
    let mut fixture = Fixture::open(InstantDisk::default(), 1);
    fixture.append(1, "ours");
    fixture.run();
    let mut other = Fixture::open(InstantDisk::default(), 9);
    other.append(1, "theirs");
    other.run();
    let theirs = other.disk.content(&first_segment()).unwrap().to_vec();
    let mut renumbered = theirs.clone();
    let name = FilePath::root().join("journal").join("0000000000000005.jnl");
    for copy in [0, 512] {
        renumbered[copy + 8] = 5;
        let crc = crc32c::crc32c(&renumbered[copy..copy + 64]);
        renumbered[copy + 64..copy + 68].copy_from_slice(&crc.to_le_bytes());
    }
    let mut disk = fixture.disk;
    disk.restart();
    let before = disk.content(&first_segment()).unwrap().to_vec();
    let replace = crate::disk::Request::Replace { path: name, data: vec![renumbered.into()] };
    disk.execute(crate::disk::Submission { token: crate::disk::Token(0), request: replace });
    let mut fixture = Fixture::open(disk, 3);
    assert!(
        matches!(fixture.events[..], [Event::Failed(JournalError::Foreign { .. })]),
        "{:?}",
        fixture.events
    );
    assert_eq!(fixture.journal.append(OwnerId(1), 1, &[]), Err(Refused::Failed));
    fixture.run();
    assert_eq!(fixture.disk.content(&first_segment()).unwrap(), before);
}

/// Both copies of the only header are gone, for zeros or for something else: what is there is not begun over.
#[test]
pub(super) fn a_journal_that_lost_its_header_is_not_begun_anew() {
    for fill in [0, 0xee] {
        let mut fixture = Fixture::open(InstantDisk::default(), 1);
        fixture.append(1, "ours");
        fixture.run();
        let mut disk = fixture.disk;
        disk.restart();
        for copy in [0, 512] {
            disk.content_mut(&first_segment()).unwrap()[copy..copy + 64].fill(fill);
        }
        let before = disk.content(&first_segment()).unwrap().to_vec();
        let fixture = Fixture::open(disk, 3);
        assert!(
            matches!(fixture.events[..], [Event::Failed(JournalError::Headless { .. })]),
            "{:?}",
            fixture.events
        );
        assert_eq!(fixture.disk.content(&first_segment()).unwrap(), before);
    }
}

/// The first write of all stopped short, or was torn: nothing was ever in it.
#[test]
fn a_journal_that_was_never_begun_is_begun_anew() {
    for (keep, len) in [(0, 0), (0, 40), (512, 550), (1024, 1072)] {
        let fixture = Fixture::open(InstantDisk::default(), 1);
        let fixture = fixture.restart(|disk| {
            let content = disk.content_mut(&first_segment()).unwrap();
            content[..keep].fill(0);
            content[len..].fill(0);
        });
        let ready = fixture.events.iter().any(|event| matches!(event, Event::Ready { .. }));
        assert!(ready, "{keep}..{len}: {:?}", fixture.events);
    }
}

#[test]
fn owners_of_little_are_copied_forward_and_the_journal_stays_small() {
    let mut fixture = Fixture::open(InstantDisk::default(), 1);
    for owner in 100..110 {
        fixture.append(owner, "now and then");
    }
    let hot = OwnerId(1);
    for round in 0..2000 {
        let position = fixture.journal.append(hot, 1, &[Bytes::from(vec![round as u8; 128])]).unwrap();
        fixture.run();
        fixture.journal.covered(hot, position);
    }
    assert!(fixture.journal.segments() <= 3, "{} segments", fixture.journal.segments());
    let mut fixture = fixture.restart(|_| {});
    fixture.run();
    let little: Vec<_> = fixture.recovered().into_iter().filter(|(owner, _)| *owner != 1).collect();
    assert_eq!(little, (0..10).map(|index| (100 + index, 1 + index)).collect::<Vec<_>>());
}

#[test]
pub(super) fn what_is_damaged_meanwhile_is_asked_for_before_its_segment_goes() {
    for covers in [true, false] {
        let mut fixture = Fixture::open(InstantDisk::default(), 1);
        let idle = fixture.append(7, "a needle");
        let hot = OwnerId(1);
        let mut most = 0;
        for round in 0..3000 {
            let position = fixture.journal.append(hot, 1, &[Bytes::from(vec![round as u8; 128])]).unwrap();
            fixture.run();
            fixture.journal.covered(hot, position);
            if round == 0 {
                let content = fixture.disk.content_mut(&first_segment()).unwrap();
                let at = content.windows(6).position(|window| window == b"needle").unwrap();
                content[at] ^= 4;
            }
            let asked = |event: &Event| matches!(event, Event::PleaseCover { owner, .. } if owner.0 == 7);
            if covers && fixture.events.iter().any(asked) {
                fixture.journal.covered(OwnerId(7), idle);
            }
            most = most.max(fixture.journal.segments());
        }
        let told = fixture.events.iter().position(|event| matches!(event, Event::Damaged(_)));
        let asked = fixture.events.iter().position(
            |event| matches!(event, Event::PleaseCover { owner, through } if owner.0 == 7 && *through == idle),
        );
        assert!(told.is_some() && asked > told, "told {told:?}, asked {asked:?}");
        // Whoever doesn't answer isn't waited for for ever.
        let limit = if covers { 4 } else { config().max_segments + 2 };
        assert!(most <= limit && fixture.journal.segments() <= 4, "{most} segments");
    }
}

/// Fills segments until there are so many.
fn fill(fixture: &mut Fixture, segments: usize) {
    while fixture.journal.segments() < segments {
        fixture.append(1, "an entry of a hot owner that keeps everything in the journal and covers nothing");
        fixture.run();
    }
}

fn segment(number: u64) -> FilePath {
    FilePath::root().join("journal").join(&format!("{number:016x}.jnl"))
}

#[test]
fn positions_of_a_newest_segment_that_is_missing_are_not_used_again() {
    let mut fixture = Fixture::open(InstantDisk::default(), 1);
    fill(&mut fixture, 2);
    // Another life, so that the newest segment has positions far behind those before.
    let mut fixture = fixture.restart(|_| {});
    let highest = fixture.append(1, "in the segment that goes missing");
    fixture.run();
    let newest = (1..20).rev().find(|number| {
        let content = fixture.disk.content(&segment(*number));
        content.is_some_and(|content| content.starts_with(b"NTRXJNL1"))
    });
    let fixture = fixture.restart(|disk| {
        let remove = crate::disk::Request::Remove { path: segment(newest.unwrap()) };
        disk.execute(crate::disk::Submission { token: crate::disk::Token(0), request: remove });
    });
    let next = fixture.events.iter().find_map(|event| match event {
        Event::Ready { next_position } => Some(*next_position),
        _ => None,
    });
    assert!(next.unwrap() > highest, "{next:?}, {highest:?}");
}

#[test]
fn a_segment_under_the_name_of_another_is_told() {
    let mut fixture = Fixture::open(InstantDisk::default(), 1);
    fixture.append(1, "in the only segment");
    fixture.run();
    let fixture = fixture.restart(|disk| {
        let first = std::mem::take(disk.content_mut(&segment(1)).unwrap());
        let second = std::mem::replace(disk.content_mut(&segment(2)).unwrap(), first);
        *disk.content_mut(&segment(1)).unwrap() = second;
    });
    let told = fixture.events.iter().any(|event| match event {
        Event::Damaged(damage) => damage.segment == 1,
        _ => false,
    });
    assert!(told, "{:?}", fixture.events);
}

#[test]
fn who_is_forgotten_is_told_when_that_is_durable() {
    let mut fixture = Fixture::open(InstantDisk::default(), 1);
    fixture.append(7, "to be forgotten");
    fixture.run();
    fixture.journal.forget(OwnerId(7)).unwrap();
    fixture.run();
    // Nothing vouches for the last batch: it is written again before anything is told of it.
    fixture.disk.restart();
    let mut queue = DiskQueue::default();
    let journal = Journal::open(config(), Rng::from_u64(2), &mut queue);
    let mut fixture = Fixture { disk: fixture.disk, queue, journal, events: Vec::new() };
    let mut written = false;
    while let Some(submission) = fixture.queue.poll() {
        written |= matches!(submission.request, crate::disk::Request::Write { .. });
        let completion = fixture.disk.execute(submission);
        if let Some((ticket, result)) = fixture.queue.complete(completion) {
            fixture.journal.handle_disk(Instant::ZERO, ticket, result, &mut fixture.queue);
        }
        let events: Vec<Event> = std::iter::from_fn(|| fixture.journal.poll_event()).collect();
        let told = events.iter().any(|event| matches!(event, Event::Forgotten { .. }));
        assert!(written || !told, "told before it was written again");
        fixture.events.extend(events);
        fixture.journal.advance(Instant::ZERO, &mut fixture.queue);
    }
    assert!(fixture.events.contains(&Event::Forgotten { owner: OwnerId(7) }), "{:?}", fixture.events);
}

#[test]
fn a_sync_under_way_is_not_due() {
    let config = Config { sync_interval: Some(Duration::from_millis(5)), ..config() };
    let mut queue = DiskQueue::default();
    let journal = Journal::open(config, Rng::from_u64(1), &mut queue);
    let mut fixture = Fixture { disk: InstantDisk::default(), queue, journal, events: Vec::new() };
    fixture.run();
    fixture.append(1, "written");
    fixture.run();
    let due = fixture.journal.poll_timeout().unwrap();
    fixture.journal.advance(due, &mut fixture.queue);
    let sync = fixture.queue.poll().unwrap();
    assert!(matches!(sync.request, crate::disk::Request::Sync { .. }), "{sync:?}");
    fixture.append(1, "written while the sync is under way");
    fixture.journal.advance(due, &mut fixture.queue);
    let write = fixture.queue.poll().unwrap();
    let completion = fixture.disk.execute(write);
    let (ticket, result) = fixture.queue.complete(completion).unwrap();
    fixture.journal.handle_disk(due, ticket, result, &mut fixture.queue);
    assert_eq!(fixture.journal.poll_timeout(), None);
}

#[test]
fn recovery_ends_however_much_of_what_it_reads_its_owner_has() {
    let long = || Config { segment_size: 16 << 20, max_batch: 16 << 20, ..config() };
    let mut fixture = Fixture::open_with(InstantDisk::default(), 1, long(), |_| {});
    let payload = [Bytes::from(vec![7; 64 << 10])];
    let mut last = Position(0);
    for _ in 0..(15 << 20) / payload[0].len() {
        last = fixture.journal.append(OwnerId(7), 1, &payload).unwrap();
    }
    fixture.run();
    fixture.disk.restart();
    let fixture = Fixture::open_with(fixture.disk, 2, long(), |journal| journal.covered(OwnerId(7), last));
    // Nobody calls a journal that waits for nothing.
    assert!(fixture.journal.is_ready(), "{:?}", fixture.events);
    assert!(fixture.recovered().is_empty());
}
