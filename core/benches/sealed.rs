//! What it costs to seal what is stored: messages from the proposal through journal and block, over a disk in memory.
//!
//! `cargo bench -p natrix-core --bench sealed` prints the median of some runs of each figure, in processor time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use natrix_core::disk::FilePath;
use natrix_core::disk::instant::InstantDisk;
use natrix_core::rng::Rng;
use natrix_core::storage::change::{Change, NewMessage};
use natrix_core::storage::file::store::{FileStore, FileStoreConfig};
use natrix_core::storage::vault::{Given, Sessions, Vault};
use natrix_core::storage::volume::Volume;
use natrix_core::storage::{Cipher, Compression, OwnerId, StoreConfig, file, journal};
use natrix_core::time::{Instant, WallTime};
use rustix::time::{ClockId, clock_gettime};

const OWNER: OwnerId = OwnerId(7);
const MESSAGES: u64 = 200_000;
/// How many are proposed before the disk does anything.
const IN_FLIGHT: u64 = 1000;
const RUNS: usize = 7;

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn settle(volume: &mut Volume<FileStore>, disk: &mut InstantDisk) {
    volume.advance(Instant::ZERO);
    while let Some(submission) = volume.poll_disk() {
        let completion = disk.execute(submission);
        volume.handle_disk(Instant::ZERO, completion);
        volume.advance(Instant::ZERO);
    }
    while volume.poll_event().is_some() {}
}

/// Returns the processor time of a message, in nanoseconds.
fn run(cipher: Cipher, size: usize) -> f64 {
    let mut rng = Rng::from_u64(1);
    let key = (cipher != Cipher::None).then_some(&b"the server's key"[..]);
    let (vault, _) = Vault::open(None, Given { key, previous: None, cipher }, &mut rng).expect("it is new");
    let vault = Arc::new(vault);
    let mut disk = InstantDisk::default();
    let config = journal::Config::new(FilePath::new("journal").expect("a path"));
    let mut volume = Volume::open(config, rng.child(), []);
    volume.set_sessions(Sessions::begin(Arc::clone(&vault), &mut rng));
    let files = file::Config {
        directory: FilePath::new("streams/S").expect("a path"),
        owner: OWNER,
        block_size: 8 << 20,
        compression: Compression::None,
        first_sequence: 1,
        cache: 1 << 20,
        behind: usize::MAX,
    };
    let stream = StoreConfig { max_messages: 50_000, ..StoreConfig::default() };
    let config = FileStoreConfig { files, stream, index_budget: 64 << 20 };
    let (keys, child) = (vault.keys(OWNER), rng.child());
    volume.add_with(OWNER, |disk| FileStore::open(config, keys, child, disk));
    settle(&mut volume, &mut disk);
    let payload = Bytes::from(vec![b'x'; size]);
    let before = processor_time();
    for at in 0..MESSAGES {
        let message = NewMessage {
            time: WallTime::from_unix_nanos(1_700_000_000_000_000_000 + at as i64 * 1000),
            subject: Bytes::from_static(b"orders.a"),
            payload: payload.clone(),
            checked: true,
            ..NewMessage::default()
        };
        let (kind, payload) = Change::Store(message).encode();
        volume.propose(OWNER, kind, payload).expect("there is room");
        if at % IN_FLIGHT == IN_FLIGHT - 1 {
            settle(&mut volume, &mut disk);
        }
    }
    settle(&mut volume, &mut disk);
    (processor_time() - before).as_nanos() as f64 / MESSAGES as f64
}

fn main() {
    println!("{:>6} {:>10} {:>18} {:>12}", "bytes", "plain", "ChaCha20-Poly1305", "AES-256-GCM");
    for size in [128, 1024, 16 << 10] {
        let median = |cipher| {
            let mut runs: Vec<f64> = (0..RUNS).map(|_| run(cipher, size)).collect();
            runs.sort_by(f64::total_cmp);
            runs[RUNS / 2]
        };
        let [plain, chacha, aes] = [Cipher::None, Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm].map(median);
        println!(
            "{size:>6} {plain:>7.0} ns {chacha:>9.0} ns ({:.2}) {aes:>6.0} ns ({:.2})",
            chacha / plain,
            aes / plain
        );
    }
}
