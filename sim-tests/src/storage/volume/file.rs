//! Streams in files, against the same streams in memory.

use bytes::Bytes;
use natrix_core::disk::FilePath;
use natrix_core::rng::Rng;
use natrix_core::storage::block::key::Keys;
use natrix_core::storage::change::{Change, NewMessage};
use natrix_core::storage::file::store::{FileStore, FileStoreConfig, StoreEvent};
use natrix_core::storage::file::{Config, Event, Fetch};
use natrix_core::storage::ledger::Filter;
use natrix_core::storage::memory::MemoryStore;
use natrix_core::storage::volume::StoreDisk;
use natrix_core::storage::{
    Cipher, Compression, DeleteRange, Discard, Message, OwnerId, Position, StoreConfig,
};
use natrix_core::time::WallTime;
use natrix_runtime_sim::disk::SimDisk;

use super::{Kind, Line, rot};
use crate::storage::report::{Promise, Report, Violation};

const SUBJECTS: [&str; 6] = ["a", "b", "a.x", "a.y", "b.x", "orders.eu.paid"];

/// How the streams of a run are made.
pub(crate) struct Files {
    stream: StoreConfig,
    cipher: Cipher,
    block_size: u32,
    index_budget: usize,
    cache: usize,
    /// Blocks are read in the background.
    scrubs: bool,
    /// The server's keys so far.
    epochs: u64,
    /// There is often a cut at the end of a stream.
    cuts: bool,
}

impl Kind for Files {
    type Store = FileStore;
    type Model = MemoryStore;

    fn draw(rng: &mut Rng) -> Self {
        let compression = [Compression::None, Compression::None, Compression::S2][rng.below(3) as usize];
        let cipher = [Cipher::None, Cipher::None, Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm];
        Files {
            stream: StoreConfig {
                // No limit of bytes: a message in memory counts for less than one in a file.
                max_messages: [0, 0, 30][rng.below(3) as usize],
                max_messages_per_subject: [0, 0, 3][rng.below(3) as usize],
                discard: if rng.chance(1, 3) { Discard::New } else { Discard::Old },
                discard_new_per_subject: rng.chance(1, 4),
                first_sequence: [0, 0, 1000][rng.below(3) as usize],
                allow_message_ttl: rng.chance(1, 2),
                compression,
                ..StoreConfig::default()
            },
            cipher: cipher[rng.below(4) as usize],
            block_size: [1500, 4096][rng.below(2) as usize],
            index_budget: [500, 1 << 20][rng.below(2) as usize],
            cache: [0, 1 << 20][rng.below(2) as usize],
            scrubs: rng.chance(1, 3),
            epochs: 1,
            cuts: rng.chance(1, 4),
        }
    }

    fn open(&self, owner: OwnerId, rng: Rng, disk: &mut StoreDisk<'_>) -> FileStore {
        let files = Config {
            directory: folder(owner),
            owner,
            block_size: self.block_size,
            compression: self.stream.compression,
            first_sequence: self.stream.first_sequence,
            cache: self.cache,
            behind: if self.cache == 0 { 3000 } else { usize::MAX },
        };
        let mut keys = Keys::none(owner);
        if self.cipher != Cipher::None {
            for epoch in 1..=self.epochs {
                keys.add(epoch, self.cipher, format!("the server's key {epoch}").as_bytes());
            }
        }
        let config = FileStoreConfig { files, stream: self.stream.clone(), index_budget: self.index_budget };
        let mut store = FileStore::open(config, keys, rng, disk);
        store.convert(disk);
        store
    }

    fn is_ready(store: &FileStore) -> bool {
        store.is_ready()
    }

    fn applied(store: &FileStore) -> Position {
        store.files().applied()
    }

    fn complaint(event: &StoreEvent) -> Option<Violation> {
        let StoreEvent::Files(event) = event else { return None };
        let promise = match event {
            Event::Damaged { .. } | Event::Lost { .. } | Event::Foreign { .. } | Event::Older { .. } => {
                Promise::FalseAlarm
            }
            Event::Failed(_) => Promise::Failed,
            _ => return None,
        };
        Some(Violation::new(promise, format!("{event:?}")))
    }

    fn model(&self, _owner: OwnerId) -> MemoryStore {
        MemoryStore::new(self.stream.clone())
    }

    fn entry(&self, rng: &mut Rng, model: &MemoryStore, step: u64) -> (u8, Vec<Bytes>) {
        let last = model.state().last_sequence;
        let (kind, payload) = self.change(rng, step, last).encode();
        (kind, payload.into_vec())
    }

    fn apply(model: &mut MemoryStore, _position: Position, kind: u8, payload: &[Bytes]) {
        let change = Change::decode(kind, payload).expect("what was encoded is decoded");
        model.apply(change);
        while model.poll_removed().is_some() {}
    }

    fn compare(
        line: &mut Line<Self>,
        owner: OwnerId,
        model: &mut MemoryStore,
        rng: &mut Rng,
    ) -> Result<(), Violation> {
        let differs = |what: &str, is: String, should: String| {
            Err(Violation::new(Promise::State, format!("{what} is {is}, should be {should}")))
        };
        let mut state = line.ask(owner, |store, disk| store.state(disk).ok())?;
        let expected = model.state();
        // A message in memory counts for less than one in a file.
        state.bytes = expected.bytes;
        if state != expected {
            return differs("the state", format!("{state:?}"), format!("{expected:?}"));
        }
        let deleted = line.ask(owner, |store, disk| store.ask(|ledger| ledger.deleted(), disk).ok())?;
        if deleted != model.deleted() {
            return differs("what is deleted", format!("{deleted:?}"), format!("{:?}", model.deleted()));
        }
        for sequence in state.first_sequence.saturating_sub(2)..=state.last_sequence + 1 {
            let (is, should) = (load(line, owner, sequence)?, model.load(sequence));
            if is != should {
                return differs(&format!("message {sequence}"), format!("{is:?}"), format!("{should:?}"));
            }
        }
        let from = rng.below(state.last_sequence + 2);
        for filter in [&b"a"[..], b">", b"a.*"] {
            let filter = Filter::Subject(filter);
            let pending = line.ask(owner, |store, disk| {
                store.ask(|ledger| ledger.pending(filter, from, false), disk).ok()
            })?;
            let should = model.pending(filter, from, false);
            if pending != should {
                let what = format!("what is pending for {filter:?} from {from}");
                return differs(&what, format!("{pending:?}"), format!("{should:?}"));
            }
        }
        Ok(())
    }

    fn grow_older(&mut self, rng: &mut Rng) {
        self.epochs += u64::from(rng.chance(1, 3));
    }

    fn begin(&self, line: &mut Line<Self>, owner: OwnerId) {
        if self.scrubs {
            rot::set_pace(line, owner, Some(rot::PACE));
        }
    }

    fn mark(event: &StoreEvent) -> Option<&'static str> {
        matches!(event, StoreEvent::Files(Event::Scrubbed { blocks: 1.., .. })).then_some("scrubbed")
    }

    fn at_end(
        &self,
        line: &mut Line<Self>,
        owner: OwnerId,
        model: &MemoryStore,
        dice: (&mut Rng, &mut Report),
        reopen: impl FnOnce(SimDisk) -> Line<Self>,
    ) -> Result<(), Violation> {
        let plain = self.cipher == Cipher::None && self.stream.compression == Compression::None;
        if !self.scrubs {
            return if plain { erase(line, owner, model, dice) } else { Ok(()) };
        }
        rot::rot(line, (owner, folder(owner)), plain, model, dice, reopen)
    }
}

fn folder(owner: OwnerId) -> FilePath {
    FilePath::root().join("streams").join(&format!("{:016x}", owner.0))
}

impl Files {
    fn change(&self, rng: &mut Rng, step: u64, last: u64) -> Change {
        let near = |rng: &mut Rng| (last + 3).saturating_sub(rng.below(last.min(30) + 2));
        if self.cuts && rng.chance(1, 8) {
            return Change::Truncate { sequence: near(rng) };
        }
        match rng.below(100) {
            0..66 => Change::Store(message(rng, step)),
            66..68 => Change::Skip {
                sequence: 0,
                count: [1, 3, 400][rng.below(3) as usize],
                time: time(0),
                unwanted: false,
            },
            68..84 => Change::Remove { sequence: near(rng), erase: rng.chance(1, 4) },
            84..87 => Change::Expire { sequences: (0..rng.below(4)).map(|_| near(rng)).collect() },
            87..91 => {
                let subject = ["a", "a.*", ">", "b.x", "nobody", "*"][rng.below(6) as usize];
                let below = if rng.chance(1, 2) { 0 } else { near(rng) };
                Change::Purge { subject: Bytes::from_static(subject.as_bytes()), below, keep: rng.below(4) }
            }
            91 => Change::Compact { sequence: if rng.chance(1, 6) { 0 } else { near(rng) } },
            92..94 => Change::Truncate { sequence: if rng.chance(1, 12) { 0 } else { near(rng) } },
            94..97 => {
                let ranges = vec![DeleteRange { first: near(rng), count: rng.below(20) }];
                Change::SyncDeleted { ranges }
            }
            _ => Change::Configure(Box::new(StoreConfig {
                max_messages: [0, 0, 30][rng.below(3) as usize],
                max_messages_per_subject: [0, 0, 5][rng.below(3) as usize],
                ..self.stream.clone()
            })),
        }
    }
}

/// Erases a message, and looks for it in the blocks.
fn erase(
    line: &mut Line<Files>,
    owner: OwnerId,
    model: &MemoryStore,
    (rng, report): (&mut Rng, &mut Report),
) -> Result<(), Violation> {
    let last = model.state().last_sequence;
    let from = rng.below(last + 1);
    // One that no other is like.
    let telling = |message: &Message| {
        message.payload.len() >= 100 && message.payload.windows(2).any(|pair| pair[0] != pair[1])
    };
    let found = (from..=last).chain(1..from).find_map(|sequence| model.load(sequence).filter(telling));
    let Some(message) = found else { return Ok(()) };
    let (kind, entry) = Change::Remove { sequence: message.sequence, erase: true }.encode();
    let Ok(position) = line.volume.propose(owner, kind, entry) else { return Ok(()) };
    while line.step()? {}
    if line.applied(owner) < position {
        return Err(Violation::new(Promise::Stuck, format!("{position:?} is never applied")));
    }
    report.tally.hit("erased");
    let blocks = line.volume.store(owner).map(|store| store.files().blocks()).unwrap_or_default();
    for block in blocks {
        let path = folder(owner).join(&format!("{block:08x}.blk"));
        let content = line.disk.content(&path).unwrap_or_default();
        if content.windows(100).any(|bytes| bytes == &message.payload[..100]) {
            let text = format!("message {} was erased and stands in {path}", message.sequence);
            return Err(Violation::new(Promise::Phantom, text));
        }
    }
    Ok(())
}

fn time(step: u64) -> WallTime {
    WallTime::from_unix_nanos(1_700_000_000_000_000_000 + step as i64 * 1_000_000_000)
}

fn message(rng: &mut Rng, step: u64) -> NewMessage {
    let subject = SUBJECTS[rng.below(SUBJECTS.len() as u64) as usize];
    let headers: &'static [u8] = if rng.chance(1, 4) { b"NATS/1.0\r\nname: derek\r\n\r\n" } else { b"" };
    let mut payload = vec![step as u8; [0, 10, 100, 100, 700, 2500][rng.below(6) as usize]];
    if rng.chance(1, 2) {
        rng.fill(&mut payload);
    }
    NewMessage {
        sequence: 0,
        time: time(step),
        subject: Bytes::from_static(subject.as_bytes()),
        headers: Bytes::from_static(headers),
        payload: Bytes::from(payload),
        ttl: if rng.chance(1, 8) { 1 + rng.below(50) } else { 0 },
        rollup: rng.chance(1, 20),
        checked: true,
        scheduling: natrix_core::storage::Scheduling::None,
    }
}

pub(super) fn load(
    line: &mut Line<Files>,
    owner: OwnerId,
    sequence: u64,
) -> Result<Option<Message>, Violation> {
    let fetch = line.ask(owner, |store, disk| store.load(sequence, disk).ok())?;
    let result = match fetch {
        None => return Ok(None),
        Some(Fetch::Ready(result)) => result,
        Some(Fetch::Pending(id)) => loop {
            let read = line.told().into_iter().find_map(|event| match event {
                StoreEvent::Read(read, result) if read == id => Some(result),
                _ => None,
            });
            if let Some(result) = read {
                break result;
            }
            if !line.step()? {
                return Err(Violation::new(Promise::Stuck, format!("message {sequence} is never read")));
            }
        },
    };
    result.map(Some).map_err(|error| {
        Violation::new(Promise::Content, format!("message {sequence} can't be read: {error}"))
    })
}
