//! The witness: a number that stands in the journal and, when it is durable there, in a file beside it.
//!
//! What stands in the journal's newest batch is vouched for by nothing that is written later: when it is damaged, or the newest
//! segment is gone or an older one, nothing in the journal shows that. So some time after something was proposed, one entry
//! more is, with the next number, and then the file. A journal whose last number is lower than the file's has lost its end.
//! That costs one replaced file for each such pause, whatever the number of groups.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::disk::{DiskError, DiskErrorKind, FilePath, Reply, Request};
use crate::storage::Position;
use crate::storage::volume::{Applied, Committed, Store, StoreDisk};
use crate::time::{Duration, Instant};

const MAGIC: &[u8; 8] = b"NTRXWIT1";
const CREATED: u64 = 1;
const NAMED: u64 = 2;
const READ: u64 = 3;
const WRITTEN: u64 = 4;
/// For requests of which nobody waits to hear.
pub(super) const IGNORED: u64 = 5;
const READS: u32 = 4;
const AGAIN: Duration = Duration::from_millis(500);

/// What the witness tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WitnessEvent {
    /// The file is read.
    Read,
    /// The journal wants to be rid of the last number: the next is to be proposed.
    Wanted,
    /// The file can't be written; it is tried again.
    Failed(DiskErrorKind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    Unread,
    /// There is none.
    Missing,
    /// There is one, and it makes no sense.
    Unreadable,
    Says(u64),
}

/// The witness of a shard's journal.
#[derive(Debug)]
pub(super) struct Witness {
    path: FilePath,
    file: File,
    reads: u32,
    /// The highest number in the journal.
    journal: u64,
    /// The number that is being written, and whether it has to be again.
    writing: Option<u64>,
    again_at: Option<Instant>,
    /// Entries are this life's, not found ones.
    live: bool,
    covered: Position,
    events: VecDeque<WitnessEvent>,
}

fn encode(number: u64) -> Bytes {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out.into()
}

fn decode(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    (encode(number)[..] == *bytes).then_some(number)
}

impl Witness {
    /// Makes `directory`, and reads the file in it.
    pub(super) fn open(directory: &FilePath, disk: &mut StoreDisk<'_>) -> Self {
        disk.submit(CREATED, Request::CreateDirectory { path: directory.clone() });
        Witness {
            path: directory.join("witness"),
            file: File::Unread,
            reads: 0,
            journal: 0,
            writing: None,
            again_at: None,
            live: false,
            covered: Position::default(),
            events: VecDeque::new(),
        }
    }

    fn read(&mut self, disk: &mut StoreDisk<'_>) {
        self.reads += 1;
        disk.submit(READ, Request::ReadFile { path: self.path.clone(), limit: 4096 });
    }

    fn was_read(&mut self, result: Result<Reply, DiskError>, disk: &mut StoreDisk<'_>) {
        self.file = match result {
            Ok(Reply::Read(bytes)) => decode(&bytes).map_or(File::Unreadable, File::Says),
            Err(error) if error.kind == DiskErrorKind::NotFound => File::Missing,
            _ => File::Unreadable,
        };
        if self.file == File::Unreadable && self.reads < READS {
            self.file = File::Unread;
            return self.read(disk);
        }
        self.events.push_back(WitnessEvent::Read);
    }

    /// Returns whether the file is read.
    pub(super) fn is_read(&self) -> bool {
        self.file != File::Unread
    }

    /// Returns whether the journal has lost its end, or may have: asked when all that it has is told.
    pub(super) fn tells_loss(&self) -> bool {
        match self.file {
            File::Says(number) => self.journal < number,
            // The first number is in the journal before there is a file.
            File::Missing => self.journal > 1,
            File::Unread | File::Unreadable => true,
        }
    }

    /// From now on entries are this life's.
    pub(super) fn begin(&mut self, disk: &mut StoreDisk<'_>) {
        self.live = true;
        if self.file == File::Missing && self.journal > 0 {
            // A second number in the journal would be one too many without a file.
            self.write(self.journal, disk);
        }
    }

    /// Returns the next number.
    pub(super) fn next(&self) -> u64 {
        let file = if let File::Says(number) = self.file { number } else { 0 };
        self.journal.max(file) + 1
    }

    /// Returns whether no number is on its way to the file.
    pub(super) fn is_idle(&self) -> bool {
        self.writing.is_none()
    }

    /// Writes a number to the file.
    pub(super) fn write(&mut self, number: u64, disk: &mut StoreDisk<'_>) {
        self.writing = Some(number);
        let data = vec![encode(number)];
        disk.submit(WRITTEN, Request::Replace { path: self.path.clone(), data });
    }
}

impl Store for Witness {
    type Event = WitnessEvent;

    fn apply(&mut self, entry: &Committed, _now: Instant, disk: &mut StoreDisk<'_>) -> Applied {
        let payload = entry.payload.concat();
        let Some(number) = payload.get(..8).and_then(|bytes| bytes.try_into().ok()) else {
            return Applied::Done;
        };
        self.journal = self.journal.max(u64::from_le_bytes(number));
        // Numbers before are not needed; this one is, until the next.
        self.covered = self.covered.max(Position(entry.position.0 - 1));
        if self.live {
            self.write(self.journal, disk);
        }
        Applied::Done
    }

    fn cover(&mut self, _through: Position, _now: Instant, _disk: &mut StoreDisk<'_>) {
        self.events.push_back(WitnessEvent::Wanted);
    }

    fn covered(&self) -> Position {
        self.covered
    }

    fn handle_disk(
        &mut self,
        tag: u64,
        result: Result<Reply, DiskError>,
        now: Instant,
        disk: &mut StoreDisk<'_>,
    ) {
        match tag {
            CREATED => {
                disk.submit(NAMED, Request::SyncDirectory { path: self.path.parent().parent() });
            }
            NAMED => self.read(disk),
            READ => self.was_read(result, disk),
            WRITTEN => match (result, self.writing) {
                (Ok(_), Some(number)) if number >= self.journal => {
                    self.file = File::Says(number);
                    self.writing = None;
                }
                // Another number came meanwhile, and its own write is under way.
                (Ok(_), _) => {}
                (Err(error), _) => {
                    self.again_at = Some(now + AGAIN);
                    self.events.push_back(WitnessEvent::Failed(error.kind));
                }
            },
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant, disk: &mut StoreDisk<'_>) {
        if self.again_at.is_some_and(|due| due <= now) {
            self.again_at = None;
            self.write(self.journal, disk);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.again_at
    }

    fn poll_event(&mut self) -> Option<WitnessEvent> {
        self.events.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_from_its_own_bytes_alone() {
        let bytes = encode(77);
        assert_eq!(decode(&bytes), Some(77));
        for at in 0..bytes.len() {
            let mut bad = bytes.to_vec();
            bad[at] ^= 1;
            assert_eq!(decode(&bad), None);
            assert_eq!(decode(&bytes[..at]), None);
        }
    }
}
