//! Bits that rot in what says how far consumers are: in their files, and in their entries in the streams' journals.
//!
//! Only where something later vouches for it: what stands behind a journal's last mark may be a torn tail, which is cut without a
//! word, and has the streams' entries with it.

use std::collections::BTreeSet;
use std::ops::Range;

use natrix_core::disk::FilePath;
use natrix_core::rng::Rng;
use natrix_runtime_sim::disk::SimDisk;

/// What a bit has rotted in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rotten {
    /// A consumer's file. The server says which.
    File(FilePath),
    /// An entry of a consumer. Where it was the last of it, nobody can say whose.
    Entry(FilePath),
}

/// Lets a bit rot in a consumer's file or entry; returns which, if there is one.
pub(super) fn rot(disk: &mut SimDisk, rng: &mut Rng) -> Option<Rotten> {
    let paths = |part: &str| -> Vec<FilePath> {
        disk.paths().filter(|path| path.as_str().contains(part)).cloned().collect()
    };
    let files = paths("/consumers/");
    let whole = |path: &FilePath| 0..disk.content(path).map_or(0, |content| content.len());
    let files = files.into_iter().map(|path| (whole(&path), Rotten::File(path))).collect::<Vec<_>>();
    let consumers = consumers(disk, &paths("/meta/"), &paths("/catalogue"));
    let mut entries = Vec::new();
    for path in paths("/journal/") {
        let content = disk.content(&path).unwrap_or_default();
        let of_consumers = journal(&content).into_iter().filter(|entry| consumers.contains(&entry.owner));
        entries.extend(of_consumers.map(|entry| (entry.place, Rotten::Entry(path.clone()))));
    }
    let places = if rng.chance(1, 2) || entries.is_empty() { files } else { entries };
    let nth = rng.below(places.len().max(1) as u64) as usize;
    let (place, rotten) = places.into_iter().nth(nth).filter(|(place, _)| !place.is_empty())?;
    let (Rotten::File(path) | Rotten::Entry(path)) = &rotten;
    let at = place.start as u64 + rng.below(place.len() as u64);
    disk.flip(path, at, rng.below(8) as u32).then_some(rotten)
}

/// An entry of a journal.
struct Entry {
    owner: u64,
    kind: u8,
    place: Range<usize>,
    payload: Vec<u8>,
}

/// Returns the entries of a segment that its own marks vouch for.
fn journal(content: &[u8]) -> Vec<Entry> {
    const START: usize = 1024;
    const HEADER: usize = 48;
    const ENTRY: usize = 28;
    let long = |at: usize| Some(u64::from_le_bytes(content.get(at..at + 8)?.try_into().ok()?));
    let short = |at: usize| Some(u32::from_le_bytes(content.get(at..at + 4)?.try_into().ok()?) as usize);
    let (mut entries, mut mark, mut at, mut next) = (Vec::new(), 0, START, 0);
    while content.get(at..at + 4) == Some(b"nBat") {
        let (Some(len), Some(first), Some(synced), Some(own)) =
            (short(at + 4), long(at + 8), short(at + 16), short(at + 24))
        else {
            break;
        };
        // What stands behind the newest batch is of an older life.
        if first < next || at + HEADER + len > content.len() {
            break;
        }
        (next, mark) = (first + own as u64, mark.max(synced));
        let (mut from, end) = (at + HEADER, at + HEADER + len);
        while from + ENTRY <= end {
            let (Some(owner), Some(size)) = (long(from), short(from + 20)) else { break };
            let to = (from + ENTRY + size).min(end);
            let payload = content[from + ENTRY..to.max(from + ENTRY)].to_vec();
            entries.push(Entry { owner, kind: content[from + 16], place: from..to, payload });
            from = to;
        }
        at = end.next_multiple_of(8);
    }
    entries.retain(|entry| entry.place.end <= mark);
    entries
}

/// Returns the owners that catalogues say are consumers, sealed or not.
fn consumers(disk: &SimDisk, journals: &[FilePath], files: &[FilePath]) -> BTreeSet<u64> {
    let is_consumer = |kind: u8| matches!(kind, 2 | 5);
    let mut owners = BTreeSet::new();
    for path in journals {
        let entries = journal(&disk.content(path).unwrap_or_default());
        owners
            .extend(entries.iter().filter(|entry| is_consumer(entry.kind)).map(|entry| leb(&entry.payload)));
    }
    for path in files {
        let content = disk.content(path).unwrap_or_default();
        let mut rest = content.get(8..).unwrap_or_default();
        while let Some((head, behind)) = rest.split_at_checked(9) {
            let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let Some((bytes, behind)) = behind.split_at_checked(len) else { break };
            owners.extend(is_consumer(head[4]).then(|| leb(bytes)));
            rest = behind;
        }
    }
    owners
}

/// Reads a number of variable length.
fn leb(bytes: &[u8]) -> u64 {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * at as u32).unwrap_or_default();
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
