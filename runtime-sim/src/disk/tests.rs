use bytes::Bytes;
use natrix_core::disk::instant::InstantDisk;
use natrix_core::disk::{DiskErrorKind, FileId, FilePath, OpenMode, Reply, Request, Submission, Token};
use natrix_core::rng::Rng;
use natrix_core::time::Instant;

use super::{DiskFault, DiskModel, SimDisk};

type Answer = Result<Reply, DiskErrorKind>;

fn run(disk: &mut SimDisk, request: Request) -> Answer {
    disk.submit(Instant::ZERO, Submission { token: Token(1), request });
    disk.poll_completion(Instant::MAX)
        .expect("one request, one completion")
        .result
        .map_err(|error| error.kind)
}

fn path(name: &str) -> FilePath {
    FilePath::new(name).unwrap()
}

fn open(disk: &mut SimDisk, name: &str) -> Answer {
    run(disk, Request::Open { file: FileId(1), path: path(name), mode: OpenMode::Create })
}

fn write(byte: u8, sync: bool) -> Request {
    Request::Write { file: FileId(1), offset: 0, data: vec![Bytes::from(vec![byte; 2048])], sync }
}

fn content(disk: &mut SimDisk, name: &str) -> Answer {
    run(disk, Request::ReadFile { path: path(name), limit: 1 << 20 })
}

/// A file whose name and first 2048 bytes, all 1, are durable.
fn durable(seed: u64, model: DiskModel) -> SimDisk {
    let mut disk = SimDisk::new(Rng::from_u64(seed), model);
    open(&mut disk, "f").unwrap();
    run(&mut disk, write(1, true)).unwrap();
    run(&mut disk, Request::SyncDirectory { path: FilePath::root() }).unwrap();
    disk
}

#[test]
fn without_faults_it_is_the_instant_disk() {
    for seed in 0..200 {
        let mut rng = Rng::from_u64(seed);
        let (mut disk, mut model) = (SimDisk::new(rng.child(), DiskModel::default()), InstantDisk::default());
        let names = ["a", "b", "c"];
        for name in 0..3 {
            let request = Request::Open {
                file: FileId(name),
                path: path(names[name as usize]),
                mode: OpenMode::Create,
            };
            run(&mut disk, request.clone()).unwrap();
            model.execute(Submission { token: Token(1), request }).result.unwrap();
        }
        for _ in 0..60 {
            let (file, offset, len) = (FileId(rng.below(3)), rng.below(40_000), rng.below(40_000));
            let request = match rng.below(7) {
                0 | 1 => {
                    let bytes = Bytes::from(vec![rng.next_u32() as u8; len as usize]);
                    Request::Write { file, offset, data: vec![bytes], sync: rng.chance(1, 2) }
                }
                2 => Request::Read { file, offset, len: len as usize },
                3 => Request::Truncate { file, len },
                4 => Request::PunchHole { file, offset, len },
                5 => Request::Preallocate { file, len },
                _ => Request::List { path: FilePath::root() },
            };
            let theirs = model.execute(Submission { token: Token(1), request: request.clone() }).result;
            assert_eq!(run(&mut disk, request), theirs.map_err(|error| error.kind));
        }
    }
}

#[test]
fn what_was_synced_survives_and_what_was_not_may_or_may_not() {
    let mut seen = [false; 3];
    for seed in 0..200 {
        let mut disk = durable(seed, DiskModel::default());
        run(&mut disk, write(2, false)).unwrap();
        disk.power_loss();
        let Ok(Reply::Read(bytes)) = content(&mut disk, "f") else { panic!("a durable file is there") };
        assert!(bytes.len() == 2048 && bytes.iter().all(|byte| matches!(byte, 1 | 2)));
        let new = bytes.iter().filter(|byte| **byte == 2).count();
        assert_eq!(new % 512, 0);
        seen[if new == 0 {
            0
        } else if new == 2048 {
            1
        } else {
            2
        }] = true;
    }
    assert_eq!(seen, [true; 3], "old, new and torn");
}

#[test]
fn a_crash_of_the_process_keeps_what_was_written() {
    let mut disk = durable(1, DiskModel::default());
    run(&mut disk, write(2, false)).unwrap();
    disk.crash();
    assert_eq!(content(&mut disk, "f"), Ok(Reply::Read(Bytes::from(vec![2; 2048]))));
}

#[test]
fn a_sync_covers_only_what_was_seen() {
    let lost = (0..100).any(|seed| {
        let mut disk = durable(seed, DiskModel::default());
        for request in [write(2, false), Request::Sync { file: FileId(1) }] {
            disk.submit(Instant::ZERO, Submission { token: Token(1), request });
        }
        while disk.poll_completion(Instant::MAX).is_some() {}
        disk.power_loss();
        content(&mut disk, "f") != Ok(Reply::Read(Bytes::from(vec![2; 2048])))
    });
    assert!(lost);
}

#[test]
fn a_seen_write_that_is_synced_survives() {
    for seed in 0..100 {
        let mut disk = durable(seed, DiskModel::default());
        run(&mut disk, write(2, false)).unwrap();
        run(&mut disk, Request::Sync { file: FileId(1) }).unwrap();
        disk.power_loss();
        assert_eq!(content(&mut disk, "f"), Ok(Reply::Read(Bytes::from(vec![2; 2048]))));
    }
}

#[test]
fn a_replaced_file_is_old_or_new_and_new_once_it_is_said() {
    let new = || Request::Replace { path: path("f"), data: vec![Bytes::from_static(b"new")] };
    for seed in 0..100 {
        let mut disk = durable(seed, DiskModel::default());
        disk.submit(Instant::ZERO, Submission { token: Token(1), request: new() });
        let mut done = disk.clone();
        disk.power_loss();
        let Ok(Reply::Read(bytes)) = content(&mut disk, "f") else { panic!("it was there") };
        assert!(bytes == vec![1; 2048] || bytes == "new");
        done.poll_completion(Instant::MAX).unwrap().result.unwrap();
        done.power_loss();
        assert_eq!(content(&mut done, "f"), Ok(Reply::Read(Bytes::from_static(b"new"))));
    }
}

#[test]
fn a_name_is_lost_or_kept_until_its_directory_is_synced() {
    let kept = |seed| {
        let mut disk = SimDisk::new(Rng::from_u64(seed), DiskModel::default());
        open(&mut disk, "f").unwrap();
        run(&mut disk, write(1, true)).unwrap();
        disk.power_loss();
        content(&mut disk, "f").is_ok()
    };
    assert!((0..50).any(kept) && !(0..50).all(kept));
}

#[test]
fn after_a_failed_sync_a_later_one_proves_nothing() {
    for request in [Request::Sync { file: FileId(1) }, write(2, true)] {
        let mut disk = durable(1, DiskModel::default());
        run(&mut disk, write(2, false)).unwrap();
        disk.set_model(DiskModel::default().with(DiskFault::SyncFailed, 1_000_000));
        assert_eq!(run(&mut disk, request), Err(DiskErrorKind::SyncFailed));
        disk.set_model(DiskModel::default());
        run(&mut disk, Request::Sync { file: FileId(1) }).unwrap();
        assert_eq!(content(&mut disk, "f"), Ok(Reply::Read(Bytes::from(vec![2; 2048]))));
        disk.power_loss();
        assert_eq!(content(&mut disk, "f"), Ok(Reply::Read(Bytes::from(vec![1; 2048]))));
    }
}

#[test]
fn every_fault_comes_and_is_counted() {
    for fault in DiskFault::ALL {
        let mut disk = durable(3, DiskModel::default());
        open(&mut disk, "g").unwrap();
        for byte in 0..40 {
            run(&mut disk, write(byte, false)).unwrap();
            run(&mut disk, Request::Sync { file: FileId(1) }).unwrap();
        }
        disk.set_model(DiskModel::default().with(*fault, 1_000_000));
        let _ = run(&mut disk, write(9, false));
        let _ = run(&mut disk, Request::Sync { file: FileId(1) });
        let _ = content(&mut disk, "g");
        let at_rest = disk.damage(&path("g"), *fault) || disk.damage(&path("f"), *fault);
        assert!(disk.hits(*fault) > 0, "{fault:?}");
        assert!(!at_rest || !disk.faults().is_empty());
    }
}

#[test]
fn a_file_of_synced_writes_goes_back_to_an_older_version_too() {
    for fault in [DiskFault::StaleFile, DiskFault::StaleChunk] {
        let mut disk = durable(2, DiskModel::default());
        for byte in 2..40 {
            run(&mut disk, write(byte, true)).unwrap();
        }
        assert!(disk.damage(&path("f"), fault));
        let Ok(Reply::Read(bytes)) = content(&mut disk, "f") else { panic!("it is there") };
        assert!(bytes.iter().any(|byte| *byte != 39), "{fault:?}");
    }
}

#[test]
fn a_renamed_file_is_harmed_under_its_new_name() {
    let mut disk = durable(1, DiskModel::default());
    run(&mut disk, Request::Rename { from: path("f"), to: path("g") }).unwrap();
    disk.set_model(DiskModel::default().with(DiskFault::LostWrite, 1_000_000));
    run(&mut disk, write(2, true)).unwrap();
    assert_eq!(disk.faults()[0].path, path("g"));
}

#[test]
fn spoiled_sectors_are_unreadable_until_they_are_written() {
    let mut disk = durable(1, DiskModel::default());
    assert!(disk.spoil(&path("f"), 0..2) && !disk.spoil(&path("g"), 0..2));
    open(&mut disk, "f").unwrap();
    let read = |offset| Request::Read { file: FileId(1), offset, len: 512 };
    assert_eq!(run(&mut disk, read(512)), Err(DiskErrorKind::Io));
    assert!(run(&mut disk, read(1024)).is_ok());
    run(&mut disk, write(2, true)).unwrap();
    assert!(run(&mut disk, read(512)).is_ok());
}
