//! What a store makes of bytes that it didn't write: it ends, takes no more memory than they, and serves only what was written.
//!
//! Shared by the fuzz targets of this folder and by tests of `natrix-core`, which run them over the seed corpus. Whoever includes
//! it provides `api`, the crate.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::api::disk::instant::InstantDisk;
use super::api::disk::{DiskQueue, FilePath, SECTOR};
use super::api::rng::Rng;
use super::api::storage::block::frame::{Codec, Plain};
use super::api::storage::block::index::{Index, Stamp};
use super::api::storage::block::key::Keys;
use super::api::storage::block::walk::{At, Visitor, walk};
use super::api::storage::block::{Context, Header, Mark, Place, Record};
use super::api::storage::change::{Change, NewMessage};
use super::api::storage::consumer::ConsumerEntry;
use super::api::storage::file::store::{FileStore, FileStoreConfig, Wait};
use super::api::storage::file::{Config as Files, Fetch};
use super::api::storage::journal::{Config, Event, Journal, Ticket};
use super::api::storage::volume::{Applied, Committed, Store, StoreDisk, Tag};
use super::api::storage::{Cipher, Compression, OwnerId, Position, StoreConfig};
use super::api::time::{Instant, WallTime};

const OWNER: OwnerId = OwnerId(7);
const PAYLOAD: [u8; 32] = [9; 32];

/// Changes `bytes` as the input says, three of its bytes for each change (where u16, what u8); returns what is left of it.
fn edit<'a>(bytes: &mut [u8], edits: usize, mut input: &'a [u8]) -> &'a [u8] {
    for _ in 0..edits {
        let Some((edit, behind)) = input.split_first_chunk::<3>().filter(|_| !bytes.is_empty()) else {
            break;
        };
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % bytes.len();
        bytes[at] = edit[2];
        input = behind;
    }
    input
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Entries of streams and consumers: what is taken means the same when it is written and read again.
///
/// Input: the kind, then the entry.
pub fn check_change(data: &[u8]) -> bool {
    let Some((kind, entry)) = data.split_first() else { return false };
    let bytes = Bytes::copy_from_slice(entry);
    let change = Change::decode(*kind, std::slice::from_ref(&bytes));
    if let Ok(change) = &change {
        let (kind, payload) = change.encode();
        assert_eq!(Change::decode(kind, &payload).as_ref(), Ok(change));
        let joined = [Bytes::from(payload.concat())];
        assert_eq!(Change::decode(kind, &joined).as_ref(), Ok(change), "as recovery finds it");
    }
    let settings = StoreConfig::decode(&bytes);
    if let Some(settings) = &settings {
        assert_eq!(StoreConfig::decode(&settings.encode()).as_ref(), Some(settings));
    }
    let consumer = ConsumerEntry::decode(*kind, entry);
    if let Ok(consumer) = &consumer {
        let mut out = Vec::new();
        let kind = consumer.encode(&mut out);
        assert_eq!(ConsumerEntry::decode(kind, &out).as_ref(), Ok(consumer));
    }
    change.is_ok() || settings.is_some() || consumer.is_ok()
}

/// An index file, whose checksums are put right first so that the tables are reached: decoding takes no more memory than the
/// bytes, and what is read can be asked.
pub fn check_index(data: &[u8]) -> bool {
    let place = Place::new(OWNER, 1);
    let stamp = Stamp { len: 1 << 20, tail: 5 };
    let keys = Keys::none(OWNER);
    let _ = Index::decode(data, &place, stamp, &keys);
    if data.len() < 104 {
        return false;
    }
    let mut bytes = data.to_vec();
    bytes[..8].copy_from_slice(b"NTRXIDX2");
    bytes[8..16].copy_from_slice(&OWNER.0.to_le_bytes());
    put_u32(&mut bytes, 16, 1);
    put_u32(&mut bytes, 20, stamp.len);
    put_u32(&mut bytes, 24, stamp.tail);
    put_u32(&mut bytes, 28, 0);
    let body = crc32c::crc32c_append(crc32c::crc32c(&[0; 24]), &bytes[104..]);
    put_u32(&mut bytes, 96, body);
    let head = crc32c::crc32c(&bytes[..100]);
    put_u32(&mut bytes, 100, head);
    let Ok(index) = Index::decode(&bytes, &place, stamp, &keys) else { return false };
    assert!(index.memory() <= 32 * bytes.len() + 1024);
    for (sequence, slot) in index.iter() {
        assert_eq!(index.slot(sequence), Some(slot));
        assert!(index.subject(slot.subject).is_some());
    }
    true
}

fn record(sequence: u64) -> Record<'static> {
    Record {
        sequence,
        time: 1000 + sequence as i64,
        subject: b"a.b",
        headers: b"",
        payload: &PAYLOAD,
        ttl: 0,
        due: None,
        erased: false,
    }
}

fn good_block(place: &Place, keys: &Keys, framed: bool) -> Vec<u8> {
    let header = Header {
        owner: OWNER,
        block: 1,
        cipher: keys.cipher(),
        compression: Compression::None,
        first_sequence: 1,
        base_time: 0,
        key_epoch: keys.epoch(),
        rewrites: 0,
        previous: 0,
    };
    let mut out = header.encode().to_vec();
    let mut context = Context { next_sequence: 1, base_time: 0 };
    for batch in 0..4 {
        let offset = out.len() as u32;
        let mark = Mark {
            next_sequence: context.next_sequence,
            base_time: 0,
            previous_base_time: 0,
            applied: Position(batch),
            synced: offset,
            first_sequence: 1,
            last_time: 1000,
        };
        mark.encode(&mut out, place, offset);
        let (mut records, first) = (Vec::new(), context);
        for _ in 0..5 {
            let into = if framed { &mut records } else { &mut out };
            let offset = into.len() as u32;
            record(context.next_sequence).encode(into, place, offset, &mut context).expect("small");
        }
        if framed {
            let codec = Codec { keys, compression: Compression::S2 };
            let plain = Plain { records: &records, first, next_sequence: context.next_sequence };
            let offset = out.len() as u32;
            codec.encode(&mut out, place, offset, plain, &mut Rng::from_u64(batch));
        }
    }
    out
}

struct InOrder(u64);

impl Visitor for InOrder {
    fn message(&mut self, _: At, message: &Record<'_>) {
        assert!(message.sequence > self.0, "in order");
        self.0 = message.sequence;
        assert_eq!(*message, record(message.sequence), "only what was written");
    }
    fn deleted(&mut self, _: u64, _: u64) {
        panic!("nothing was deleted");
    }
    fn skipped(&mut self, _: u64, _: u64) {
        panic!("nothing was skipped");
    }
}

/// A block: the walk ends, accounts for all of its bytes, and serves only what was written.
///
/// Input: the first byte picks a good block to damage, or none, and how often; then changes, then bytes that are appended.
pub fn check_block(data: &[u8]) -> bool {
    let Some((first, rest)) = data.split_first() else { return false };
    let place = Place::new(OWNER, 1);
    let mut keys = Keys::none(OWNER);
    if first & 2 != 0 {
        keys.add(1, Cipher::ChaCha20Poly1305, b"key");
    }
    let mut bytes = if first & 1 != 0 { good_block(&place, &keys, first & 6 != 0) } else { Vec::new() };
    let rest = edit(&mut bytes, usize::from(first >> 4), rest);
    bytes.extend_from_slice(rest);
    let synced = if first & 8 != 0 { bytes.len() as u32 } else { 0 };
    let mut served = InOrder(0);
    if let Ok(walked) = walk(&bytes, place, Context::default(), synced, &keys, &mut served) {
        assert_eq!(walked.end as usize + walked.torn as usize, bytes.len());
    }
    served.0 > 0
}

struct World {
    disk: InstantDisk,
    queue: DiskQueue<Tag>,
    store: FileStore,
}

impl World {
    fn open(disk: InstantDisk) -> World {
        let files = Files {
            directory: FilePath::root().join("stream"),
            owner: OWNER,
            block_size: 600,
            compression: Compression::None,
            first_sequence: 1,
            cache: 0,
            behind: usize::MAX,
        };
        let config = FileStoreConfig { files, stream: StoreConfig::default(), index_budget: 1 << 20 };
        let (rng, mut queue) = (Rng::from_u64(1), DiskQueue::default());
        let store = FileStore::open(config, Keys::none(OWNER), rng, &mut StoreDisk::new(&mut queue, OWNER));
        let mut world = World { disk, queue, store };
        world.settle();
        world
    }

    fn settle(&mut self) {
        for _ in 0..100_000 {
            while self.store.poll_event().is_some() {}
            let Some(submission) = self.queue.poll() else { return };
            let Some((Tag::Store(_, tag), result)) = self.queue.complete(self.disk.execute(submission))
            else {
                continue;
            };
            let mut disk = StoreDisk::new(&mut self.queue, OWNER);
            self.store.handle_disk(tag, result, Instant::ZERO, &mut disk);
        }
        panic!("it goes on for ever");
    }

    fn load(&mut self, sequence: u64) -> Option<Vec<u8>> {
        for _ in 0..100 {
            match self.store.load(sequence, &mut StoreDisk::new(&mut self.queue, OWNER)) {
                Ok(Some(Fetch::Ready(Ok(message)))) => return Some(message.payload.to_vec()),
                Ok(Some(Fetch::Ready(Err(_))) | None) | Err(Wait::Failed | Wait::Recovery) => return None,
                Ok(Some(Fetch::Pending(_))) | Err(Wait::Index(_)) => self.settle(),
            }
        }
        // What can't be read is told by an event, and asked for again here.
        None
    }
}

/// Returns a stream of twenty messages in some blocks.
fn good_stream() -> InstantDisk {
    let mut world = World::open(InstantDisk::default());
    for at in 1..=20u64 {
        let message = NewMessage {
            time: WallTime::from_unix_nanos(at as i64),
            subject: Bytes::from_static(b"a.b"),
            payload: Bytes::from(vec![at as u8; 60]),
            checked: true,
            ..NewMessage::default()
        };
        let (kind, payload) = Change::Store(message).encode();
        let entry = Committed { position: Position(at), kind, payload, gaps: false };
        let mut disk = StoreDisk::new(&mut world.queue, OWNER);
        assert_eq!(world.store.apply(&entry, Instant::ZERO, &mut disk), Applied::Done);
        world.settle();
    }
    world.store.cover(Position(20), Instant::ZERO, &mut StoreDisk::new(&mut world.queue, OWNER));
    world.settle();
    let mut disk = world.disk;
    disk.restart();
    disk
}

/// A manifest that says something else than the blocks, its checksums put right: the stream opens or says why not, and serves only
/// what was written. Returns whether it opens.
///
/// Input: how many changes, then those of the body (where u16, what u8), or, with none, the body.
pub fn check_manifest(data: &[u8]) -> bool {
    const HEAD: usize = 20;
    let Some((edits, rest)) = data.split_first() else { return false };
    let mut disk = good_stream();
    let path = FilePath::root().join("stream").join("stream.manifest");
    let manifest = disk.content_mut(&path).expect("there is one");
    let len = u32::from_le_bytes([manifest[16], manifest[17], manifest[18], manifest[19]]) as usize;
    let mut body = manifest[HEAD..HEAD + len].to_vec();
    if *edits == 0 {
        body = rest.to_vec();
    } else {
        edit(&mut body, usize::from(*edits), rest);
    }
    let mut copy = manifest[..HEAD].to_vec();
    put_u32(&mut copy, 16, body.len() as u32);
    copy.extend_from_slice(&body);
    copy.extend_from_slice(&crc32c::crc32c(&copy).to_le_bytes());
    let second = copy.len().next_multiple_of(SECTOR);
    manifest.clear();
    manifest.extend_from_slice(&copy);
    manifest.resize(second, 0);
    manifest.extend_from_slice(&copy);
    let mut world = World::open(disk);
    assert!(world.store.is_ready() || world.store.has_failed(), "it opens or says why not");
    for sequence in 1..=20 {
        if let Some(payload) = world.load(sequence) {
            assert_eq!(payload, [sequence as u8; 60], "only what was written");
        }
    }
    world.store.is_ready()
}

fn open_journal(disk: &mut InstantDisk, mut hear: impl FnMut(Event)) -> (Journal, DiskQueue<Ticket>) {
    let config = Config {
        segment_size: 4096,
        first_segment: 4096,
        max_batch: 600,
        ..Config::new(FilePath::root().join("journal"))
    };
    let mut queue = DiskQueue::default();
    let mut journal = Journal::open(config, Rng::from_u64(3), &mut queue);
    run_journal(&mut journal, &mut queue, disk, &mut hear);
    (journal, queue)
}

fn run_journal(
    journal: &mut Journal,
    queue: &mut DiskQueue<Ticket>,
    disk: &mut InstantDisk,
    hear: &mut impl FnMut(Event),
) {
    for _ in 0..100_000 {
        journal.advance(Instant::ZERO, queue);
        let mut heard = false;
        while let Some(event) = journal.poll_event() {
            heard = true;
            hear(event);
        }
        let Some(submission) = queue.poll() else {
            if heard {
                continue;
            }
            return;
        };
        if let Some((ticket, result)) = queue.complete(disk.execute(submission)) {
            journal.handle_disk(Instant::ZERO, ticket, result, queue);
        }
    }
    panic!("it goes on for ever");
}

/// What a journal was given, by position.
type Given = BTreeMap<Position, (OwnerId, u8, Vec<u8>)>;

/// Returns a journal of some segments.
fn good_journal() -> (InstantDisk, Given) {
    let (mut disk, mut given) = (InstantDisk::default(), Given::new());
    let (mut journal, mut queue) = open_journal(&mut disk, |_| {});
    for at in 0..60u64 {
        let (owner, kind) = (OwnerId(1 + at % 3), at as u8 % 5);
        let payload = vec![at as u8; 20 + (at as usize * 37) % 200];
        let pieces = [Bytes::from(payload.clone())];
        let position = journal.append(owner, kind, &pieces).expect("there is room");
        given.insert(position, (owner, kind, payload));
        if at % 7 == 0 {
            run_journal(&mut journal, &mut queue, &mut disk, &mut |_| {});
        }
        if at == 30 {
            // So that entries are copied forward, and segments let go.
            journal.covered(OwnerId(2), position);
        }
    }
    run_journal(&mut journal, &mut queue, &mut disk, &mut |_| {});
    disk.restart();
    (disk, given)
}

/// Segments of a journal of which bytes were changed: recovery ends, and what it tells is what was written, of each owner in order
/// and once. Returns whether it tells anything.
///
/// Input: how many changes, then which file (u8), where (u16) and what (u8); then bytes that the newest file ends in.
pub fn check_journal(data: &[u8]) -> bool {
    let Some((edits, mut rest)) = data.split_first() else { return false };
    let (mut disk, given) = good_journal();
    let paths: Vec<FilePath> = disk.paths().cloned().collect();
    for _ in 0..*edits {
        let Some((file, behind)) = rest.split_first() else { break };
        let content = disk.content_mut(&paths[usize::from(*file) % paths.len()]).expect("it is there");
        rest = edit(content, 1, behind);
    }
    if let Some(content) = paths.last().and_then(|path| disk.content_mut(path)) {
        let from = content.len().saturating_sub(rest.len());
        let len = content.len() - from;
        content[from..].copy_from_slice(&rest[..len]);
    }
    let mut last: BTreeMap<OwnerId, Position> = BTreeMap::new();
    let (mut ended, mut told) = (false, false);
    let _ = open_journal(&mut disk, |event| match event {
        Event::Recovered { owner, position, kind, payload } => {
            let expected = given.get(&position).expect("nothing but what was given");
            assert_eq!((owner, kind, &payload[..]), (expected.0, expected.1, &expected.2[..]));
            assert!(last.insert(owner, position).is_none_or(|before| before < position), "in order, once");
            told = true;
        }
        Event::Ready { .. } | Event::Failed(_) => ended = true,
        _ => {}
    });
    assert!(ended, "recovery ends");
    told
}
