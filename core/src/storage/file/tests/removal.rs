//! A stream that is no more leaves nothing behind, wherever the power fails on the way, and however often.

use super::crash_disk::CrashDisk;
use super::damage::{filled, store};
use super::world::OWNER;
use crate::disk::{Completion, DiskError, DiskErrorKind, DiskQueue, FilePath, Request, Submission, Token};
use crate::rng::Rng;
use crate::storage::CODECS;
use crate::storage::file::{Removal, RemovalEvent};
use crate::storage::volume::{Store, StoreDisk, Tag};

/// Removes the folder, within so many answers of the disk, after a crash; returns whether it is done.
fn remove(disk: &mut CrashDisk, folder: &FilePath, most: usize) -> bool {
    disk.restart();
    let mut queue = DiskQueue::default();
    let mut removal = Removal::begin(folder.clone(), &mut StoreDisk::new(&mut queue, OWNER));
    for _ in 0..most {
        let Some(submission) = queue.poll() else { break };
        let Some((Tag::Store(_, tag), result)) = queue.complete(disk.execute(submission)) else { continue };
        removal.handle_disk(tag, result, &mut StoreDisk::new(&mut queue, OWNER));
    }
    match removal.poll_event() {
        None => false,
        Some(RemovalEvent::Removed) => true,
        Some(RemovalEvent::Failed(error)) => panic!("{error}"),
    }
}

#[test]
pub(super) fn a_removed_stream_leaves_nothing_wherever_the_power_fails() {
    let (mut cut_short, mut whole) = (0, 0);
    for steps in 0..60 {
        let mut world = filled(CODECS[steps % CODECS.len()]);
        // Writes, reads and a block that is written anew are under way.
        for at in 150..170 + steps as u64 % 7 * 10 {
            world.commit(store(at, 150));
        }
        world.cover();
        world.pump(steps % 11);
        let inner = world.config.files.directory.join("consumers");
        for request in [
            Request::CreateDirectory { path: inner.clone() },
            Request::Replace { path: inner.join("C"), data: Vec::new() },
        ] {
            world.disk.execute(Submission { token: Token(0), request }).result.unwrap();
        }
        let folder = world.config.files.directory.clone();
        let (mut disk, removed) = world.destroy(steps);
        let mut dice = Rng::from_u64(steps as u64);
        if removed {
            whole += 1;
            assert_eq!(disk.open(), 0, "files are left open");
        } else {
            cut_short += 1;
            for attempt in 0.. {
                disk.crash(&mut dice);
                if remove(&mut disk, &folder, 3 * attempt) {
                    break;
                }
            }
        }
        // No power cut brings anything back.
        disk.crash(&mut dice);
        assert_eq!(disk.paths().collect::<Vec<_>>(), Vec::<&FilePath>::new(), "{steps}");
        assert!(!disk.has_folder(&folder), "{steps}");
    }
    assert!(cut_short > 20 && whole > 20, "{cut_short} were cut short, {whole} not");
}

#[test]
fn what_somebody_puts_into_a_folder_that_is_removed_goes_with_it() {
    for codec in CODECS {
        let world = filled(codec);
        let folder = world.config.files.directory.clone();
        let (mut disk, _) = world.destroy(0);
        disk.restart();
        let mut queue = DiskQueue::default();
        let mut removal = Removal::begin(folder.clone(), &mut StoreDisk::new(&mut queue, OWNER));
        let (mut puts, mut refused) = (0, 0);
        while let Some(submission) = queue.poll() {
            let full = disk.paths().any(|path| path.parent() == folder);
            let token = submission.token;
            // When the folder was just found empty.
            let emptied = matches!(&submission.request, Request::SyncDirectory { path } if *path == folder);
            let completion = match &submission.request {
                Request::Remove { path } if *path == folder && full => {
                    refused += 1;
                    let (kind, message) = (DiskErrorKind::Io, "directory not empty".to_owned());
                    Completion { token, result: Err(DiskError { kind, path: path.to_string(), message }) }
                }
                _ => disk.execute(submission),
            };
            let Some((Tag::Store(_, tag), result)) = queue.complete(completion) else { continue };
            if emptied && puts < 50 {
                puts += 1;
                let request = Request::Replace { path: folder.join("g"), data: Vec::new() };
                disk.execute(Submission { token: Token(0), request }).result.unwrap();
            }
            removal.handle_disk(tag, result, &mut StoreDisk::new(&mut queue, OWNER));
        }
        assert_eq!(removal.poll_event(), Some(RemovalEvent::Removed));
        assert_eq!((puts, refused, disk.has_folder(&folder)), (50, 50, false));
    }
}

#[test]
fn what_is_not_there_is_removed() {
    let folder = FilePath::new("streams/none").unwrap();
    assert!(remove(&mut CrashDisk::default(), &folder, 100));
}
