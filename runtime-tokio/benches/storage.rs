//! What this machine's disk does, what the shard journal makes of it, and what writing a block directly would.
//!
//! `cargo bench -p natrix-runtime-tokio --bench storage [-- FOLDER]`; the folder decides which disk is measured.

use std::io::IoSlice;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use natrix_core::disk::{Completion, DiskQueue, FileId, FilePath, OpenMode, Request, Submission, Token};
use natrix_core::rng::Rng;
use natrix_core::storage::OwnerId;
use natrix_core::storage::journal::{Config, Event, Journal, Ticket};
use natrix_runtime_tokio::disk::RealDisk;
use rustix::io::{ReadWriteFlags, pwritev, pwritev2};

const SPAN: Duration = Duration::from_secs(2);

fn disk(folder: &Path) -> (RealDisk, Receiver<Completion>) {
    let (sender, completions) = channel();
    // The bench may be over.
    let completed = move |completion| drop(sender.send(completion));
    (RealDisk::open(folder, 2, completed).expect("a folder to write to"), completions)
}

/// Writes `batch` messages of `len` bytes at once, synced, one write after the other; returns messages a second.
fn direct(folder: &Path, name: &str, batch: usize, len: usize, preallocated: u64) -> f64 {
    let (disk, completions) = disk(folder);
    let mut token = 0;
    let mut ask = |request| {
        token += 1;
        disk.submit(Submission { token: Token(token), request });
        completions.recv().expect("an answer").result.expect("the disk works");
    };
    let file = FileId(1);
    ask(Request::Open { file, path: FilePath::root().join(name), mode: OpenMode::Create });
    if preallocated > 0 {
        ask(Request::Preallocate { file, len: preallocated });
        ask(Request::Sync { file });
    }
    let data = Bytes::from(vec![7; batch * len]);
    let (begun, mut written) = (Instant::now(), 0u64);
    while begun.elapsed() < SPAN {
        let offset = written * data.len() as u64;
        ask(Request::Write { file, offset, data: vec![data.clone()], sync: true });
        written += 1;
    }
    (written * batch as u64) as f64 / begun.elapsed().as_secs_f64()
}

/// Writes `len` bytes again and again to a file that was made as long before, `writers` at once, each durable when it is done:
/// by a sync behind the write, or by a flag of the write; returns writes a second.
fn raw(folder: &Path, name: &str, len: usize, writers: u64, flag: bool) -> f64 {
    const SIZE: u64 = 64 << 20;
    let file = std::fs::File::create(folder.join(name)).expect("a file to write to");
    // Written once, so that no write of the measure has to find room.
    file.write_all_at(&vec![1; SIZE as usize], 0).expect("there is room");
    file.sync_all().expect("the disk works");
    let (data, next, begun) = (vec![7; len], AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                while begun.elapsed() < SPAN {
                    let offset = next.fetch_add(1, Ordering::Relaxed) * len as u64 % (SIZE - len as u64);
                    let pieces = [IoSlice::new(&data)];
                    if flag {
                        pwritev2(&file, &pieces, offset, ReadWriteFlags::DSYNC).expect("the disk works");
                    } else {
                        pwritev(&file, &pieces, offset).expect("the disk works");
                        rustix::fs::fdatasync(&file).expect("the disk works");
                    }
                }
            });
        }
    });
    next.into_inner() as f64 / begun.elapsed().as_secs_f64()
}

/// Keeps `in_flight` entries of `len` bytes waiting for the journal, which has so many writes under way; returns entries committed
/// a second.
fn journal(folder: &Path, name: &str, (in_flight, writes): (u64, usize), len: usize) -> f64 {
    let (disk, completions) = disk(folder);
    let mut queue = DiskQueue::<Ticket>::default();
    let start = Instant::now();
    let now = || natrix_core::time::Instant::from_nanos(start.elapsed().as_nanos() as u64);
    let config = Config { writes_in_flight: writes, ..Config::new(FilePath::root().join(name)) };
    let mut journal = Journal::open(config, Rng::from_u64(1), &mut queue);
    let payload = [Bytes::from(vec![7; len])];
    let (mut begun, mut committed, mut appended, mut first) = (None, 0u64, 0u64, 0u64);
    loop {
        journal.advance(now(), &mut queue);
        while let Some(event) = journal.poll_event() {
            match event {
                Event::Ready { next_position } => {
                    first = next_position.0;
                    begun = Some(Instant::now());
                }
                Event::Committed { through } => committed = through.0 + 1 - first,
                Event::PleaseCover { owner, through } => journal.covered(owner, through),
                _ => {}
            }
        }
        if let Some(begun) = begun {
            if begun.elapsed() >= SPAN {
                return committed as f64 / begun.elapsed().as_secs_f64();
            }
            while appended - committed < in_flight && journal.append(OwnerId(1), 1, &payload).is_ok() {
                appended += 1;
            }
            journal.advance(now(), &mut queue);
        }
        while let Some(submission) = queue.poll() {
            disk.submit(submission);
        }
        let Ok(completion) = completions.recv_timeout(Duration::from_millis(100)) else { continue };
        if let Some((ticket, result)) = queue.complete(completion) {
            journal.handle_disk(now(), ticket, result, &mut queue);
        }
    }
}

fn main() {
    let given = std::env::args().skip(1).find(|word| !word.starts_with("--")).map(PathBuf::from);
    let parent = given.unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    let folder = tempfile::tempdir_in(&parent).expect("a folder to write to");
    let path = folder.path();
    println!("each figure from {} s", SPAN.as_secs());
    let grown = direct(path, "grown", 1, 4096, 0);
    let kept = direct(path, "kept", 1, 4096, 64 << 20);
    println!(
        "4 KiB written and synced: {grown:.0} a second to a file that grows, {kept:.0} to one that was made as long"
    );
    let large = direct(path, "large", 1, 1 << 20, 0);
    println!("1 MiB written and synced: {large:.0} a second");
    println!("| message | in flight | its block directly | the journal | ratio |");
    println!("|--:|--:|--:|--:|--:|");
    for len in [128, 1024] {
        for in_flight in [1, 1000] {
            let block = direct(path, &format!("block-{len}-{in_flight}"), in_flight, len, 0);
            let journal = journal(path, &format!("journal-{len}-{in_flight}"), (in_flight as u64, 1), len);
            println!("| {len} B | {in_flight} | {block:.0}/s | {journal:.0}/s | {:.2} |", journal / block);
        }
    }
    println!("| written and synced at once | under way | write, then fdatasync | write with RWF_DSYNC |");
    println!("|--:|--:|--:|--:|");
    for len in [4096, 128 << 10] {
        for writers in [1, 2, 4] {
            let each = [false, true].map(|flag| raw(path, "raw", len, writers, flag));
            println!("| {len} B | {writers} | {:.0}/s | {:.0}/s |", each[0], each[1]);
        }
    }
    println!("| message | in flight | the journal, 1 write under way | 2 | 4 |");
    println!("|--:|--:|--:|--:|--:|");
    for in_flight in [1, 1000] {
        let each = [1, 2, 4].map(|writes| {
            journal(path, &format!("under-way-{in_flight}-{writes}"), (in_flight, writes), 128)
        });
        println!("| 128 B | {in_flight} | {:.0}/s | {:.0}/s | {:.0}/s |", each[0], each[1], each[2]);
    }
}
