//! One group of one member on a host, over a disk in memory that is restarted and harmed.

use bytes::Bytes;

use super::*;
use crate::disk::instant::InstantDisk;
use crate::disk::{Submission, Token};
use crate::raft::group::{Config, Output};
use crate::raft::store::StoreConfig;
use crate::raft::wire::NodeId;
use crate::storage::journal;
use crate::time::Duration;

const OWNER: OwnerId = OwnerId(7);
const ME: NodeId = NodeId(*b"member-0");

/// A host, its disk, and what its application has.
struct World {
    host: Host,
    disk: InstantDisk,
    now: Instant,
    applied: u64,
    /// What the last start found: whether it was new, whether something was lost.
    found: Option<(bool, bool)>,
    notices: Vec<Notice>,
    config: Config,
}

fn open(now: Instant, config: &Config, expected: bool) -> Host {
    let root = FilePath::root();
    let journal = journal::Config {
        segment_size: 1 << 15,
        first_segment: 1 << 14,
        max_segments: 3,
        copy_below: 1 << 10,
        seal: None,
        ..journal::Config::new(root.join("journal"))
    };
    let store = StoreConfig { max_entry: 2000, snapshot_file: 3000, ..StoreConfig::new(root.join("raft")) };
    let vouch_after = Duration::from_millis(20);
    let config_of_host = HostConfig { journal, store, witness: OwnerId(1), vouch_after };
    let members = Membership::new([ME]);
    let spec = GroupSpec { owner: OWNER, id: ME, config: config.clone(), members, expected };
    Host::open(config_of_host, [spec], Rng::from_u64(now.as_nanos()), now)
}

impl World {
    fn new() -> Self {
        let config = Config { snapshot_entries: 40, keep_entries: 5, ..Config::default() };
        let mut disk = InstantDisk::default();
        disk.restart();
        let host = open(Instant::ZERO, &config, false);
        let now = Instant::ZERO;
        let mut world = World { host, disk, now, applied: 0, found: None, notices: Vec::new(), config };
        world.settle();
        assert_eq!(world.found, Some((true, false)));
        world.lead();
        world
    }

    /// The process ends, and another begins; `harm` is what happened to the disk meanwhile.
    fn restart(&mut self, harm: impl FnOnce(&mut InstantDisk)) {
        self.disk.restart();
        harm(&mut self.disk);
        (self.found, self.applied) = (None, 0);
        self.notices.clear();
        self.host = open(self.now, &self.config, true);
        self.settle();
        assert!(self.found.is_some(), "what is left is known");
    }

    fn lost(&self) -> bool {
        self.found.is_some_and(|(_, lost)| lost)
    }

    fn settle(&mut self) {
        while let Some(output) = self.host.poll_output() {
            match output {
                HostOutput::Disk(submission) => {
                    let completion = self.disk.execute(submission);
                    self.host.handle(self.now, HostInput::Disk(completion));
                }
                HostOutput::Group(_, Output::Apply(entries)) => {
                    for entry in entries {
                        assert_eq!(entry.index, self.applied + 1);
                        self.applied = entry.index;
                    }
                    let applied = self.applied;
                    self.host.act(self.now, OWNER, |group, now| group.applied_through(now, applied));
                }
                HostOutput::Group(_, Output::Restore(snapshot)) => self.applied = snapshot.place.index,
                HostOutput::Group(_, Output::WantSnapshot) => self.snapshot(100),
                HostOutput::Found { group, fresh, lost } => {
                    self.found = Some((fresh, lost));
                    self.host.start(self.now, group, 0);
                }
                HostOutput::Notice(notice) => self.notices.push(notice),
                HostOutput::Failed(error) => panic!("{error}"),
                HostOutput::Group(..) | HostOutput::Created(_) => {}
            }
        }
    }

    fn snapshot(&mut self, len: usize) {
        let applied = self.applied;
        let taken = self.host.act(self.now, OWNER, |group, now| {
            group.take_snapshot(now, applied, Bytes::from(vec![applied as u8; len]))
        });
        assert_eq!(taken, Some(Ok(())));
    }

    /// Lets time pass until the member leads and all is vouched for.
    fn lead(&mut self) {
        for _ in 0..200 {
            self.now += Duration::from_millis(10);
            self.host.handle(self.now, HostInput::Tick);
            self.settle();
            let leads = self.host.group(OWNER).is_some_and(Group::is_leader);
            if leads && self.host.is_vouched() {
                return;
            }
        }
        panic!("it leads within two seconds");
    }

    fn propose(&mut self, count: usize, len: usize) {
        for _ in 0..count {
            let data = Bytes::from(vec![7; len]);
            let proposed = self.host.act(self.now, OWNER, |group, now| group.propose(now, data));
            assert!(matches!(proposed, Some(Ok(_))), "{proposed:?}");
            self.settle();
        }
    }

    fn last(&self) -> u64 {
        self.host.group(OWNER).unwrap().log().last().index
    }

    fn path(&self, suffix: &str) -> FilePath {
        self.disk.paths().find(|path| path.as_str().ends_with(suffix)).unwrap().clone()
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let mut world = World::new();
    world.propose(10, 100);
    let last = world.last();
    assert_eq!(world.applied, last);
    for _ in 0..3 {
        world.restart(|_| {});
        assert_eq!((world.found, world.last()), (Some((false, false)), last), "from the journal alone");
    }
    world.lead();
    world.propose(1, 5000);
    let last = world.last();
    world.restart(|_| {});
    assert_eq!((world.lost(), world.last()), (false, last), "an entry in several pieces");
}

#[test]
fn a_long_log_is_covered_and_the_journal_stays_short() {
    let mut world = World::new();
    world.config.snapshot_entries = u64::MAX;
    world.restart(|_| {});
    world.lead();
    world.propose(600, 300);
    let last = world.last();
    let segments = world.disk.paths().filter(|path| path.as_str().ends_with(".jnl")).count();
    assert!(segments <= 6, "{segments} segments for 200 KB");
    let file = world.path(".log");
    let len = world.disk.content(&file).unwrap().len();
    assert!((100_000..400_000).contains(&len), "{len} bytes of 180,000");
    world.restart(|_| {});
    assert_eq!(
        (world.lost(), world.last(), world.host.group(OWNER).unwrap().log().base().index),
        (false, last, 0)
    );
}

#[test]
fn entries_in_several_pieces_are_covered_like_others() {
    let mut world = World::new();
    world.config.snapshot_entries = u64::MAX;
    world.restart(|_| {});
    world.lead();
    for _ in 0..60 {
        world.propose(1, 9000);
        let last = world.last();
        world.restart(|_| {});
        assert_eq!((world.lost(), world.last()), (false, last));
        world.lead();
    }
    let segments = world.disk.paths().filter(|path| path.as_str().ends_with(".jnl")).count();
    assert!(segments <= 8, "{segments} segments for 540 KB");
}

#[test]
fn snapshots_short_and_long_stand_for_the_log() {
    let mut world = World::new();
    world.propose(100, 300);
    assert!(world.host.group(OWNER).unwrap().log().base().index > 30, "the log is compacted");
    for len in [10, 5000, 6000, 20, 7000] {
        world.propose(1, 10);
        world.snapshot(len);
        world.settle();
        let (last, applied) = (world.last(), world.applied);
        world.restart(|_| {});
        let group = world.host.group(OWNER).unwrap();
        let snapshot = group.snapshot().unwrap();
        assert_eq!((snapshot.place.index, snapshot.data.len()), (applied, len));
        assert_eq!((world.lost(), world.last()), (false, last));
        world.lead();
    }
    let slots = world.disk.paths().filter(|path| path.as_str().ends_with(".snapshot")).count();
    assert_eq!(slots, 1, "the file that nobody refers to is gone");
}

#[test]
fn no_flipped_bit_is_overlooked() {
    let mut base = World::new();
    base.propose(90, 400);
    base.propose(1, 10);
    base.snapshot(5000);
    base.settle();
    base.propose(8, 100);
    base.lead();
    let (last, term) = (base.last(), base.host.group(OWNER).unwrap().term());
    let disk = base.disk.clone();
    let files: Vec<FilePath> = disk.paths().cloned().collect();
    assert!(
        [".log", ".snapshot", "witness"]
            .iter()
            .all(|end| files.iter().any(|path| path.as_str().ends_with(end)))
    );
    let mut told = BTreeMap::new();
    for path in files {
        let len = disk.content(&path).unwrap().len();
        for step in 0..60 {
            let at = (step * 7919 + step * len / 60) % len;
            base.disk = disk.clone();
            base.restart(|disk| disk.content_mut(&path).unwrap()[at] ^= 1 << (step % 8));
            let group = base.host.group(OWNER).unwrap();
            let whole =
                group.log().last().index == last && group.term() == term && group.snapshot().is_some();
            assert!(whole || base.lost(), "{path} at {at}: {group:?}");
            *told.entry(path.clone()).or_insert(0) += u32::from(base.lost());
        }
    }
    for (path, count) in told {
        let plain = path.as_str().ends_with(".log") || path.as_str().ends_with(".snapshot");
        assert!(!plain || count > 0, "{path}: some of it is needed");
    }
}

#[test]
fn a_file_that_is_missing_or_older_is_noticed() {
    let mut world = World::new();
    world.config.snapshot_entries = u64::MAX;
    world.restart(|_| {});
    world.lead();
    world.propose(200, 300);
    let file = world.path(".log");
    let older = world.disk.content(&file).unwrap().to_vec();
    world.propose(200, 300);
    world.lead();
    let (disk, last) = (world.disk.clone(), world.last());
    world.restart(|disk| {
        *disk.content_mut(&file).unwrap() = older;
    });
    assert!(world.lost(), "an older file");
    for missing in disk.paths() {
        world.disk = disk.clone();
        world.restart(|disk| {
            let request = Request::Remove { path: missing.clone() };
            disk.execute(Submission { token: Token(0), request }).result.unwrap();
        });
        // A segment that was only made ready has nothing.
        let unused = missing.as_str().ends_with(".jnl") && world.last() >= last;
        assert!(world.lost() || unused, "{missing} is missing");
    }
    world.disk = InstantDisk::default();
    world.restart(|_| {});
    assert_eq!(world.found, Some((false, true)), "nothing is left of a member that was here");
    assert!(world.host.group(OWNER).unwrap().in_doubt());
}

#[test]
fn a_loss_is_not_forgotten_before_the_group_has_written_it_down() {
    let mut world = World::new();
    world.propose(10, 100);
    world.lead();
    world.restart(|disk| {
        let witness = FilePath::root().join("raft").join("witness");
        disk.content_mut(&witness).unwrap()[9] ^= 1;
    });
    assert!(world.lost() && world.host.group(OWNER).unwrap().in_doubt());
    // The witness is right again by then, so only the journal can still know.
    world.now += Duration::from_millis(50);
    world.host.handle(world.now, HostInput::Tick);
    world.settle();
    world.restart(|_| {});
    assert!(world.host.group(OWNER).unwrap().in_doubt());
}

#[test]
fn a_group_that_is_forgotten_leaves_nothing() {
    let mut world = World::new();
    world.propose(200, 300);
    world.snapshot(9000);
    world.settle();
    world.host.forget(world.now, OWNER).unwrap();
    world.settle();
    let left: Vec<_> = world.disk.paths().map(|path| path.as_str().to_owned()).collect();
    assert!(left.iter().all(|path| path.ends_with(".jnl") || path.ends_with("witness")), "{left:?}");
}
