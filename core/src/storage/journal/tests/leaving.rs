//! Which files are left, and when it is said that nothing of them is there any more.

use bytes::Bytes;

use super::super::{Config, Event, Seal};
use super::promises::{Fixture, config};
use crate::disk::instant::InstantDisk;
use crate::disk::{FilePath, Request, Submission, Token};
use crate::storage::volume::SEALED;
use crate::storage::{OwnerId, Position};

const PLAIN: &str = "PlainMarker";

/// Opens a journal whose entries are sealed with a key of this epoch, while those of `older` are open.
fn open(disk: InstantDisk, epoch: u32, older: &[u32]) -> Fixture {
    let seal = (epoch > 0).then(|| Seal { epoch, older: older.to_vec() });
    let mut disk = disk;
    disk.restart();
    Fixture::open_with(disk, 1, Config { seal, ..config() }, |_| {})
}

impl Fixture {
    /// Appends entries of `owner` that look like sealed ones of this epoch, or are in plain text.
    fn put(&mut self, owner: u64, epoch: u32, count: usize) {
        for _ in 0..count {
            let kind = if epoch > 0 { 1 | SEALED } else { 1 };
            let payload = match epoch {
                0 => Bytes::from_static(PLAIN.as_bytes()),
                _ => [&epoch.to_le_bytes()[..], &[7; 20]].concat().into(),
            };
            self.journal.append(OwnerId(owner), kind, &[payload]).unwrap();
            self.run();
        }
    }

    /// Says for those who are there that they have everything, and for the others that nobody does.
    fn settle(&mut self, there: &[u64]) {
        for _ in 0..20 {
            let asked = self.events.iter().filter_map(|event| match event {
                Event::PleaseCover { owner, .. } => Some(*owner),
                _ => None,
            });
            for owner in asked.collect::<Vec<_>>() {
                match there.contains(&owner.0) {
                    true => self.journal.covered(owner, Position(u64::MAX >> 1)),
                    false => self.journal.cannot_cover(owner),
                }
            }
            self.events.clear();
            self.run();
        }
    }

    fn files(&self) -> Vec<FilePath> {
        self.disk.paths().filter(|path| path.to_string().ends_with(".jnl")).cloned().collect()
    }

    /// Returns whether any file has something in plain text, or sealed with a key of this epoch.
    fn has(&self, epoch: u32) -> bool {
        let sealed = [&epoch.to_le_bytes()[..], &[7; 20]].concat();
        let what = if epoch > 0 { &sealed[..] } else { PLAIN.as_bytes() };
        let content = |path: &FilePath| self.disk.content(path).unwrap_or_default();
        self.files().iter().any(|path| content(path).windows(what.len()).any(|window| window == what))
    }
}

#[test]
fn files_say_what_they_are_sealed_with() {
    let mut plain = open(InstantDisk::default(), 0, &[]);
    plain.put(7, 0, 3);
    assert!(plain.journal.has_left() && plain.has(0));
    let mut sealed = open(plain.disk, 5, &[]);
    assert!(sealed.journal.found_unsealed() && !sealed.journal.has_left());
    sealed.put(7, 5, 3);
    sealed.settle(&[7]);
    assert!(sealed.journal.has_left() && !sealed.journal.cannot_leave() && !sealed.has(0));
    // Nothing is to be done from then on, however often it is used again.
    let mut disk = sealed.disk;
    for _ in 0..4 {
        let mut again = open(disk, 5, &[]);
        assert!(again.journal.has_left() && !again.journal.found_unsealed());
        again.put(7, 5, 400);
        again.settle(&[7]);
        assert!(again.journal.has_left() && again.has(5));
        disk = again.disk;
    }
    // Another cipher.
    let mut other = open(disk, 6, &[5]);
    assert!(other.journal.found_unsealed());
    other.settle(&[7]);
    assert!(other.journal.has_left() && !other.has(5));
    other.put(7, 6, 3);
    // Without a key, and with it again.
    let mut without = open(other.disk, 0, &[]);
    assert!(without.journal.has_left());
    without.put(7, 0, 3);
    let again = open(without.disk, 6, &[5]);
    assert!(again.journal.found_unsealed());
}

/// A file from before the key, under a number that isn't used any more: it doesn't count, and has plain text in it.
#[test]
pub(super) fn one_file_that_is_put_back_is_enough() {
    let mut plain = open(InstantDisk::default(), 0, &[]);
    plain.put(7, 0, 400);
    let path = plain.files().remove(0);
    let kept = plain.disk.content(&path).unwrap().to_vec();
    let mut sealed = open(plain.disk, 5, &[]);
    sealed.settle(&[7]);
    sealed.put(7, 5, 10);
    sealed.settle(&[7]);
    assert!(sealed.journal.has_left() && !sealed.has(0) && !sealed.files().contains(&path));
    let mut disk = sealed.disk;
    let request = Request::Replace { path, data: vec![kept.into()] };
    disk.execute(Submission { token: Token(0), request });
    let mut again = open(disk, 5, &[]);
    assert!(again.journal.found_unsealed(), "it isn't sealed");
    again.settle(&[7]);
    assert!(again.journal.has_left() && !again.has(0));
}

/// Entries whose owner isn't there are copied as they are, and no file that has them says that it is sealed.
#[test]
pub(super) fn what_nobody_takes_is_left_again_at_each_start() {
    for older in [0, 5] {
        let mut before = open(InstantDisk::default(), older, &[]);
        before.put(7, older, 3);
        before.put(8, older, 3);
        let mut disk = before.disk;
        for _ in 0..3 {
            let mut sealed = open(disk, 6, &[5]);
            assert!(sealed.journal.found_unsealed(), "something of epoch {older}");
            sealed.settle(&[7]);
            sealed.put(7, 6, 200);
            sealed.settle(&[7]);
            assert!(!sealed.journal.has_left() && sealed.journal.cannot_leave());
            assert!(sealed.has(older), "it isn't lost");
            disk = sealed.disk;
        }
        // It is there.
        let mut sealed = open(disk, 6, &[5]);
        sealed.settle(&[7, 8]);
        assert!(sealed.journal.has_left() && !sealed.has(older));
    }
    // What no given key opens stays, and is sealed.
    let mut before = open(InstantDisk::default(), 5, &[]);
    before.put(8, 5, 3);
    let mut sealed = open(before.disk, 6, &[]);
    sealed.settle(&[]);
    assert!(sealed.journal.has_left() && sealed.has(5));
    assert!(!open(sealed.disk, 6, &[]).journal.found_unsealed());
}

/// Of an owner who isn't there, more than is copied at once.
#[test]
fn what_is_too_much_to_be_copied_is_said_to_stay() {
    let mut before = open(InstantDisk::default(), 0, &[]);
    before.put(8, 0, 200);
    let mut sealed = open(before.disk, 6, &[]);
    sealed.settle(&[]);
    assert!(!sealed.journal.has_left() && sealed.journal.cannot_leave() && sealed.has(0));
}
