//! Publish to deliver allocates nothing once warm.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use bytes::Buf;
use natrix_core::config::Options;
use natrix_core::ids::{ConnId, ShardId};
use natrix_core::shard::io::{Input, Listener, Output};
use natrix_core::shard::{Boot, ServerIdentity, Shard};
use natrix_core::time::{Instant, Now, WallTime};

/// Counts this thread's allocations.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator as it came; counting touches a thread-local number that
// needs neither allocation nor destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NOW: Now = Now { instant: Instant::ZERO, wall: WallTime::from_unix_nanos(0) };

struct Server(Shard);

impl Server {
    fn new() -> Self {
        let options = Arc::new(Options::default());
        let identity = Arc::new(ServerIdentity::from_seed([1; 32], &options));
        let boot = Boot { shard: ShardId::HOME, shards: 1, seed: [2; 32], options, identity };
        Server(Shard::new(NOW, boot))
    }

    fn connect(&mut self, slot: u32) -> ConnId {
        let conn = ConnId { slot, generation: 1 };
        let address = "127.0.0.1:1".parse().unwrap();
        self.0
            .handle(NOW, Input::Accepted { listener: Listener::Client, conn, peer: address, local: address });
        self.send(conn, b"CONNECT {\"verbose\":false,\"headers\":true}\r\n");
        conn
    }

    /// Hands over what fits one read, and writes all that comes of it.
    fn send(&mut self, conn: ConnId, bytes: &[u8]) -> usize {
        self.0.read_target(conn)[..bytes.len()].copy_from_slice(bytes);
        self.0.handle(NOW, Input::Received { conn, n: bytes.len() });
        let mut written = 0;
        while let Some(output) = self.0.poll_output() {
            if let Output::Flush { conn } = output {
                let n = self.0.outbound(conn).remaining();
                self.0.handle(NOW, Input::Written { conn, n });
                written += n;
            }
        }
        written
    }
}

fn allocations_of(run: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    run();
    COUNT.get() - before
}

#[test]
fn the_counter_counts() {
    assert!(allocations_of(|| drop(std::hint::black_box(vec![1u8]))) > 0);
}

#[test]
fn a_warm_publish_allocates_nothing() {
    let mut server = Server::new();
    let (publisher, subscriber) = (server.connect(0), server.connect(1));
    let members: Vec<ConnId> = (2..6).map(|slot| server.connect(slot)).collect();
    server.send(subscriber, b"SUB orders.* 1\r\nSUB > 2\r\n");
    for member in members {
        server.send(member, b"SUB orders.new group 1\r\n");
    }
    let batch =
        b"PUB orders.new 5\r\nhello\r\nHPUB orders.new reply 12 17\r\nNATS/1.0\r\n\r\nhello\r\n".repeat(300);
    for _ in 0..20 {
        server.send(publisher, &batch);
    }
    let mut written = 0;
    let count = allocations_of(|| {
        for _ in 0..100 {
            written += server.send(publisher, &batch);
        }
    });
    assert!(written > 100 * batch.len(), "the messages were delivered");
    assert_eq!(count, 0, "60,000 messages, 180,000 deliveries");
}
