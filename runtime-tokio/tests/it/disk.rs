//! The disk contract on real files: against the disk that is only in memory, in all its refusals, and under kill -9.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use natrix_core::disk::instant::InstantDisk;
use natrix_core::disk::{
    Completion, DiskErrorKind, DiskQueue, FileId, FilePath, OpenMode, Reply, Request, Submission, Token,
};
use natrix_runtime_tokio::disk::RealDisk;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::PATIENCE;

/// A disk of which one request at a time is asked.
struct Disk {
    disk: RealDisk,
    completions: Receiver<Completion>,
    next: u64,
    /// How many reads were answered at once.
    cached: u64,
    /// How many writes were made at once.
    quick: u64,
}

impl Disk {
    fn open(root: &Path) -> Self {
        let (sender, completions) = channel();
        // The test may be over.
        let completed = move |completion| drop(sender.send(completion));
        Disk { disk: RealDisk::open(root, 2, completed).unwrap(), completions, next: 0, cached: 0, quick: 0 }
    }

    fn ask(&mut self, request: Request) -> Result<Reply, DiskErrorKind> {
        self.next += 1;
        let submission = Submission { token: Token(self.next), request };
        let completion = if self.disk.is_quick(&submission.request) {
            self.quick += 1;
            self.disk.write_at_once(submission)
        } else {
            match self.disk.read_cached(submission) {
                Ok(completion) => {
                    self.cached += 1;
                    completion
                }
                Err(submission) => {
                    self.disk.submit(submission);
                    self.completions.recv_timeout(PATIENCE).unwrap()
                }
            }
        };
        assert_eq!(completion.token, Token(self.next));
        completion.result.map_err(|error| {
            assert!(!error.message.is_empty());
            error.kind
        })
    }
}

fn path(text: &str) -> FilePath {
    FilePath::new(text).unwrap()
}

fn open(file: u64, name: &str, mode: OpenMode) -> Request {
    Request::Open { file: FileId(file), path: path(name), mode }
}

fn write(file: u64, offset: u64, data: &[u8], sync: bool) -> Request {
    // In pieces, some of them empty.
    let (front, back) = data.split_at(data.len() / 3);
    let data = vec![Bytes::copy_from_slice(front), Bytes::new(), Bytes::copy_from_slice(back)];
    Request::Write { file: FileId(file), offset, data, sync }
}

#[test]
fn files_and_their_names_are_what_they_were_made() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = Disk::open(folder.path());
    assert_eq!(disk.ask(open(1, "a/b", OpenMode::Create)), Err(DiskErrorKind::NotFound));
    disk.ask(Request::CreateDirectory { path: path("a/deep/er") }).unwrap();
    disk.ask(Request::CreateDirectory { path: path("a/deep/er") }).unwrap();
    assert_eq!(disk.ask(open(1, "a/b", OpenMode::ReadWrite)), Err(DiskErrorKind::NotFound));
    assert_eq!(disk.ask(open(1, "a/b", OpenMode::CreateNew)), Ok(Reply::Opened { len: 0 }));
    assert_eq!(disk.ask(open(2, "a/b", OpenMode::CreateNew)), Err(DiskErrorKind::Exists));
    disk.ask(write(1, 2, b"hello", true)).unwrap();
    disk.ask(Request::Replace { path: path("a/c"), data: vec![Bytes::from_static(b"one")] }).unwrap();
    disk.ask(Request::Replace { path: path("a/c"), data: vec![Bytes::from_static(b"other")] }).unwrap();
    disk.ask(Request::SyncDirectory { path: path("a") }).unwrap();
    let Ok(Reply::Listed(entries)) = disk.ask(Request::List { path: path("a") }) else { panic!("a list") };
    let names: Vec<_> = entries.iter().map(|entry| (&*entry.name, entry.len, entry.directory)).collect();
    assert_eq!(names, [("b", 7, false), ("c", 5, false), ("deep", 0, true)]);
    let read = |name: &str, limit| Request::ReadFile { path: path(name), limit };
    assert_eq!(disk.ask(read("a/c", 5)), Ok(Reply::Read(Bytes::from_static(b"other"))));
    assert_eq!(disk.ask(read("a/c", 4)), Err(DiskErrorKind::TooLarge));
    disk.ask(Request::Rename { from: path("a/c"), to: path("a/b") }).unwrap();
    assert_eq!(disk.ask(Request::Stat { path: path("a/b") }), Ok(Reply::Stat { len: 5, directory: false }));
    disk.ask(Request::Remove { path: path("a/b") }).unwrap();
    disk.ask(Request::Remove { path: path("a/deep/er") }).unwrap();
    assert_eq!(disk.ask(Request::Remove { path: path("a") }), Err(DiskErrorKind::Exists), "it is not empty");
    let Ok(Reply::Space { free, total }) = disk.ask(Request::Space) else { panic!("space") };
    assert!(0 < free && free <= total);
    disk.ask(Request::Close { file: FileId(1) }).unwrap();
    assert_eq!(disk.ask(Request::Sync { file: FileId(1) }), Err(DiskErrorKind::Other), "it is closed");
}

#[test]
fn what_a_process_was_writing_when_it_ended_is_gone_once_somebody_looks() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = Disk::open(folder.path());
    disk.ask(Request::Replace { path: path("file"), data: vec![Bytes::from_static(b"whole")] }).unwrap();
    let temporary = format!("{}/{}", folder.path().display(), "\\file");
    std::fs::write(temporary, "half").unwrap();
    let Ok(Reply::Listed(entries)) = disk.ask(Request::List { path: FilePath::root() }) else {
        panic!("a list")
    };
    assert_eq!(entries.len(), 1);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn no_link_leads_out_of_the_folder_and_files_are_their_owners() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("secret"), "x").unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.path().join("door")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), folder.path().join("file")).unwrap();
    let mut disk = Disk::open(folder.path());
    assert!(disk.ask(open(1, "door/secret", OpenMode::Read)).is_err());
    assert!(disk.ask(open(1, "file", OpenMode::ReadWrite)).is_err());
    assert!(disk.ask(Request::ReadFile { path: path("file"), limit: 9 }).is_err());
    assert!(disk.ask(Request::List { path: path("door") }).is_err());
    assert!(disk.ask(Request::Replace { path: path("door/new"), data: Vec::new() }).is_err());
    disk.ask(Request::CreateDirectory { path: path("d") }).unwrap();
    disk.ask(open(1, "d/f", OpenMode::Create)).unwrap();
    disk.ask(Request::Replace { path: path("d/r"), data: Vec::new() }).unwrap();
    let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode("d"), mode("d/f"), mode("d/r")], [0o700, 0o600, 0o600]);
}

#[test]
fn what_is_in_memory_is_read_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = Disk::open(folder.path());
    disk.ask(open(1, "f", OpenMode::Create)).unwrap();
    disk.ask(write(1, 0, &[7; 40_000], true)).unwrap();
    let read = |file, offset, len| Request::Read { file: FileId(file), offset, len };
    let bytes = |len| Ok(Reply::Read(Bytes::from(vec![7; len])));
    assert_eq!(disk.ask(read(1, 5, 100)), bytes(100));
    let at_once = disk.cached;
    if at_once == 0 {
        // Some file systems don't know.
        return eprintln!("the rest skipped: nothing is read at once from {}", folder.path().display());
    }
    assert_eq!(disk.ask(read(1, 39_990, 100)), bytes(10));
    assert_eq!(disk.ask(read(1, 40_000, 100)), bytes(0));
    assert_eq!(disk.cached, at_once + 2);
    assert_eq!(disk.ask(read(1, 0, 40_000)), bytes(40_000));
    assert_eq!(disk.ask(read(2, 0, 1)), Err(DiskErrorKind::Other));
    assert_eq!(disk.cached, at_once + 2, "one is long, the other of no file");
}

#[test]
fn writes_that_are_not_synced_are_made_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = Disk::open(folder.path());
    disk.ask(open(1, "file", OpenMode::Create)).unwrap();
    disk.ask(open(2, "other", OpenMode::Create)).unwrap();
    disk.ask(Request::Close { file: FileId(2) }).unwrap();
    disk.ask(write(1, 4, b"quick", false)).unwrap();
    assert_eq!(disk.quick, 1);
    disk.ask(write(1, 0, b"sync", true)).unwrap();
    disk.ask(write(1, 9, &[7; 300_000], false)).unwrap();
    assert_eq!(disk.quick, 1, "one waits for the disk, the other is long");
    assert_eq!(disk.ask(write(2, 0, b"closed", false)), Err(DiskErrorKind::Other));
    let content = std::fs::read(folder.path().join("file")).unwrap();
    assert_eq!((&content[..9], content.len()), (&b"syncquick"[..], 300_009));
}

#[test]
fn a_lock_is_seen_by_others_until_it_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let (mut one, mut other) = (Disk::open(folder.path()), Disk::open(folder.path()));
    one.ask(open(1, "lock", OpenMode::Create)).unwrap();
    other.ask(open(1, "lock", OpenMode::Create)).unwrap();
    one.ask(Request::Lock { file: FileId(1) }).unwrap();
    assert_eq!(other.ask(Request::Lock { file: FileId(1) }), Err(DiskErrorKind::Locked));
    one.ask(Request::Close { file: FileId(1) }).unwrap();
    other.ask(Request::Lock { file: FileId(1) }).unwrap();
}

#[test]
fn a_full_disk_says_so() {
    // A device that is always full stands in for a disk that is: every write to it fails as one there does.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("full");
    let made = Command::new("mknod").arg(&file).args(["c", "1", "7"]).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this machine lets nobody make a device like /dev/full");
        return;
    }
    let mut disk = Disk::open(folder.path());
    if disk.ask(open(1, "full", OpenMode::ReadWrite)).is_err() {
        eprintln!("skipped: devices can't be opened in {}", folder.path().display());
        return;
    }
    assert_eq!(disk.ask(write(1, 0, b"more", false)), Err(DiskErrorKind::Full));
}

/// Run by [`what_was_reported_is_there_after_kill_9`] in a process of its own, which that ends; alone it has nothing to do.
#[test]
fn a_process_that_writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os("NATRIX_DISK_TEST_FOLDER") else { return };
    let mut disk = Disk::open(Path::new(&folder));
    disk.ask(open(1, "log", OpenMode::Create)).unwrap();
    for number in 0u64.. {
        disk.ask(write(1, number * 8, &number.to_le_bytes(), true)).unwrap();
        let mut out = std::io::stdout();
        writeln!(out, "wrote {number}").and_then(|()| out.flush()).unwrap();
    }
}

#[test]
fn what_was_reported_is_there_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "disk::a_process_that_writes_until_it_is_killed", "--nocapture"])
        .env("NATRIX_DISK_TEST_FOLDER", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut reported = None;
    while reported < Some(200) {
        let line = lines.next().expect("it writes until it is killed").unwrap();
        reported = line.strip_prefix("wrote ").map(|number| number.parse::<u64>().unwrap()).or(reported);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let late = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("wrote ")?.parse().ok());
    let reported = late.max().max(reported).unwrap();
    let log = std::fs::read(folder.path().join("log")).unwrap();
    assert!(log.len() as u64 / 8 > reported, "{} bytes for {reported} numbers", log.len());
    for (number, bytes) in log.chunks_exact(8).enumerate().take(reported as usize + 1) {
        assert_eq!(bytes, (number as u64).to_le_bytes());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, u16, Vec<u8>, bool),
    Read(u64, u16, u16),
    Truncate(u64, u16),
    Preallocate(u64, u16),
    Punch(u64, u16, u16),
    Sync(u64),
    Replace(u64, Vec<u8>),
    ReadFile(u64),
    List,
}

fn any_step() -> impl Strategy<Value = Step> {
    let file = || 1..4u64;
    let place = || 0..9_000u16;
    let data = || vec(any::<u8>(), 0..3_000);
    prop_oneof![
        4 => (file(), place(), data(), any::<bool>()).prop_map(|(f, at, data, sync)| Step::Write(f, at, data, sync)),
        3 => (file(), place(), place()).prop_map(|(f, at, len)| Step::Read(f, at, len)),
        1 => (file(), place()).prop_map(|(f, len)| Step::Truncate(f, len)),
        1 => (file(), place()).prop_map(|(f, len)| Step::Preallocate(f, len)),
        1 => (file(), place(), 1..9_000u16).prop_map(|(f, at, len)| Step::Punch(f, at, len)),
        1 => file().prop_map(Step::Sync),
        1 => (4..6u64, data()).prop_map(|(f, data)| Step::Replace(f, data)),
        1 => (1..6u64).prop_map(Step::ReadFile),
        1 => Just(Step::List),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn real_files_answer_as_the_disk_in_memory_does(steps in vec(any_step(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let mut real = Disk::open(folder.path());
        let (mut model, mut queue) = (InstantDisk::default(), DiskQueue::<()>::default());
        let mut both = |request: Request| {
            let answer = real.ask(request.clone());
            queue.submit((), request);
            let expected = model.execute(queue.poll().unwrap()).result.map_err(|error| error.kind);
            (answer, expected)
        };
        for file in 1..4 {
            let (answer, expected) = both(open(file, &format!("f{file}"), OpenMode::Create));
            prop_assert_eq!(answer, expected);
        }
        for step in steps {
            let id = FileId;
            let name = |file: u64| path(&format!("f{file}"));
            let request = match step {
                Step::Write(file, at, data, sync) => write(file, at.into(), &data, sync),
                Step::Read(file, at, len) => Request::Read { file: id(file), offset: at.into(), len: len.into() },
                Step::Truncate(file, len) => Request::Truncate { file: id(file), len: len.into() },
                Step::Preallocate(file, len) => Request::Preallocate { file: id(file), len: u64::from(len) + 1 },
                Step::Punch(file, at, len) => {
                    Request::PunchHole { file: id(file), offset: at.into(), len: len.into() }
                }
                Step::Sync(file) => Request::Sync { file: id(file) },
                Step::Replace(file, data) => Request::Replace { path: name(file), data: vec![data.into()] },
                Step::ReadFile(file) => Request::ReadFile { path: name(file), limit: 1 << 20 },
                Step::List => Request::List { path: FilePath::root() },
            };
            let (answer, expected) = both(request);
            prop_assert_eq!(answer, expected);
        }
    }
}
