//! Many messages, readers and subscriptions at once: readers that are too slow, and what is left when all have gone.

use std::io::IoSlice;

use super::monitoring::{connz, stats};
use super::*;

/// Returns a publication on `x` with a payload of so many bytes.
fn publication(payload: usize) -> Vec<u8> {
    [format!("PUB x {payload}\r\n").into_bytes(), vec![b'x'; payload], b"\r\n".to_vec()].concat()
}

/// A shard, a reader of `x` whose socket takes what the test says, and a publisher.
struct Slow {
    server: Server,
    reader: ConnId,
    publisher: ConnId,
    /// The publisher is not read from.
    held: bool,
    /// The reader's connection was closed.
    closed: bool,
}

impl Slow {
    fn new(options: Options) -> Self {
        let mut server = Server::new(1, options);
        let (reader, publisher) = (server.connect(0), server.connect(0));
        server.send(reader, b"CONNECT {\"verbose\":false}\r\nSUB x 1\r\n");
        server.send(publisher, b"CONNECT {\"verbose\":false}\r\n");
        let (reader, publisher) = (server.clients[reader].1, server.clients[publisher].1);
        Slow { server, reader, publisher, held: false, closed: false }
    }

    fn handle(&mut self, input: Input) {
        let shard = &mut self.server.shards[0];
        shard.handle(self.server.now, input);
        while let Some(output) = shard.poll_output() {
            match output {
                Output::PauseReading { conn } if conn == self.publisher => self.held = true,
                Output::ResumeReading { conn } if conn == self.publisher => self.held = false,
                Output::Close { conn, .. } if conn == self.reader => self.closed = true,
                _ => {}
            }
        }
    }

    fn publish(&mut self, payload: usize) {
        assert!(!self.held, "it is read from");
        let bytes = publication(payload);
        let (conn, n) = (self.publisher, bytes.len());
        self.server.shards[0].read_target(conn)[..n].copy_from_slice(&bytes);
        self.handle(Input::Received { conn, n });
    }

    /// Returns how many bytes wait for the reader.
    fn pending(&self) -> usize {
        self.server.shards[0].outbound(self.reader).remaining()
    }

    /// Has the reader's socket take so many bytes, if there are so many, and returns how many it took.
    fn take(&mut self, most: usize) -> usize {
        let n = most.min(self.pending());
        if n > 0 {
            self.handle(Input::Written { conn: self.reader, n });
        }
        n
    }

    fn wait(&mut self, time: Duration) {
        self.server.now.instant += time;
        self.handle(Input::Tick);
    }
}

#[test]
fn a_reader_that_reads_gets_everything_however_much_it_is() {
    const MESSAGES: usize = 100;
    let mut slow = Slow::new(Options { max_pending: 200_000, ..Options::default() });
    let (mut taken, mut holds) = (0, 0);
    for _ in 0..MESSAGES {
        slow.publish(20_000);
        // Half as fast as it is published to, unless the publisher is made to wait.
        taken += slow.take(10_000);
        holds += usize::from(slow.held);
        while slow.held {
            slow.wait(Duration::from_millis(1));
            taken += slow.take(8_000);
        }
        assert!(!slow.closed, "after {taken} bytes");
    }
    while slow.pending() > 0 {
        taken += slow.take(10_000);
    }
    assert_eq!(taken, MESSAGES * (b"MSG x 1 20000\r\n".len() + 20_000 + 2));
    assert!(holds > 10, "{holds}");
}

#[test]
fn whoever_reads_too_slowly_is_remembered_with_the_reason() {
    let reason = |slow: &mut Slow| {
        let closed = connz(&mut slow.server, "state=closed");
        assert_eq!(closed.len(), 1, "{closed:?}");
        closed[0]["reason"].as_str().unwrap().to_owned()
    };
    let deadline = Duration::from_secs(30);
    let options = Options { max_pending: 100_000, write_deadline: deadline, ..Options::default() };
    let mut slow = Slow::new(options);
    for at in 1..=6 {
        slow.publish(20_000);
        assert_eq!(slow.closed, at >= 5, "after {at}");
        slow.wait(Duration::from_millis(10));
    }
    assert_eq!(reason(&mut slow), "Slow Consumer (Pending Bytes)");

    let deadline = Duration::from_millis(10);
    let mut slow = Slow::new(Options { write_deadline: deadline, ..Options::default() });
    slow.publish(20_000);
    slow.wait(Duration::from_millis(9));
    assert!(!slow.closed);
    slow.wait(Duration::from_millis(1));
    assert!(slow.closed);
    assert_eq!(reason(&mut slow), "Slow Consumer (Write Deadline)");
}

#[test]
fn a_publisher_is_held_for_a_moment_by_a_reader_that_is_far_behind() {
    let mut slow = Slow::new(Options { max_pending: 200_000, ..Options::default() });
    let stalls = |slow: &mut Slow| {
        let reader = connz(&mut slow.server, "").swap_remove(0);
        (reader["stalls"].as_u64().unwrap_or(0), stats(&mut slow.server).stalled_clients)
    };
    while slow.pending() <= 150_000 {
        slow.publish(20_000);
        assert!(!slow.held, "{} bytes wait", slow.pending());
    }
    assert_eq!(stalls(&mut slow), (0, 0));
    slow.publish(20_000);
    assert!(slow.held && !slow.closed, "what it published is delivered all the same");
    assert!(slow.pending() > 180_000);
    slow.wait(Duration::from_millis(2));
    assert!(slow.held);
    slow.wait(Duration::from_millis(3));
    assert!(!slow.held, "it goes on, though nothing was read");
    assert_eq!(stalls(&mut slow), (1, 1));
    slow.take(slow.pending());
    slow.publish(20_000);
    assert!(!slow.held);
}

#[test]
fn without_stalls_a_reader_that_is_far_behind_misses_messages() {
    let options = Options { max_pending: 200_000, no_fast_producer_stall: true, ..Options::default() };
    let mut slow = Slow::new(options);
    for _ in 0..20 {
        slow.publish(20_000);
        assert!(!slow.held && !slow.closed, "{} bytes wait", slow.pending());
    }
    assert_eq!(slow.pending(), 8 * (b"MSG x 1 20000\r\n".len() + 20_000 + 2));
    assert_eq!(stats(&mut slow.server).stalled_clients, 0);
    // With that read it hears what comes next.
    slow.take(slow.pending());
    slow.publish(20_000);
    assert!(slow.pending() > 20_000);
}

#[test]
fn a_large_message_is_in_memory_once_for_all_its_readers() {
    for size in [48_000, 200_000] {
        let mut server = Server::new(1, Options::default());
        let publisher = server.connect(0);
        server.send(publisher, b"CONNECT {\"verbose\":false}\r\n");
        let mut readers = Vec::new();
        for _ in 0..30 {
            let reader = server.connect(0);
            server.send(reader, b"CONNECT {\"verbose\":false}\r\nSUB x 1\r\n");
            readers.push(server.clients[reader].1);
        }
        let (conn, bytes) = (server.clients[publisher].1, publication(size));
        let (shard, mut rest) = (&mut server.shards[0], &bytes[..]);
        while !rest.is_empty() {
            let target = shard.read_target(conn);
            let n = target.len().min(rest.len());
            target[..n].copy_from_slice(&rest[..n]);
            rest = &rest[n..];
            shard.handle(server.now, Input::Received { conn, n });
            while shard.poll_output().is_some() {}
        }
        let place = |reader: &ConnId| {
            let view = shard.outbound(*reader);
            let mut slices = [IoSlice::new(&[]); 8];
            let count = view.chunks_vectored(&mut slices);
            slices[..count].iter().find(|slice| slice.len() >= size).map(|slice| slice.as_ptr())
        };
        let places: Vec<Option<*const u8>> = readers.iter().map(place).collect();
        assert!(places[0].is_some() && places.iter().all(|place| *place == places[0]), "{places:?}");
        for conn in readers {
            let n = shard.outbound(conn).remaining();
            shard.handle(server.now, Input::Written { conn, n });
            assert_eq!(shard.outbound(conn).remaining(), 0);
        }
    }
}

#[test]
fn nothing_is_left_of_clients_that_have_gone() {
    for shards in [1, 2] {
        let mut server = Server::new(shards, Options::default());
        server.advance(Duration::from_millis(1));
        // Connections, subscriptions, what the lists have, of other shards too, and what those were told.
        let counts = |server: &Server| {
            let count = |shard: &Shard| {
                let exchange = &shard.exchange;
                let listed = exchange.accounts.iter().map(|account| account.sublist.count()).sum::<u64>();
                (shard.connections(), exchange.subscriptions.len(), listed, exchange.interests_told())
            };
            server.shards.iter().map(count).collect::<Vec<_>>()
        };
        let before = counts(&server);
        for _ in 0..3 {
            let clients: Vec<usize> = (0..20).map(|n| server.connect(n % usize::from(shards))).collect();
            for client in &clients {
                let hello = format!(
                    "CONNECT {{\"verbose\":false}}\r\nSUB a.{client} 1\r\nSUB a.> q 2\r\nUNSUB 2 5\r\nPUB a.b 1\r\nx\r\n"
                );
                server.send(*client, hello.as_bytes());
            }
            let during = counts(&server);
            let (connections, subscriptions) =
                during.iter().fold((0, 0), |sum, shard| (sum.0 + shard.0, sum.1 + shard.1));
            assert!(connections == 20 && subscriptions > 20, "{during:?}");
            for client in clients {
                let (shard, conn, ..) = server.clients[client];
                // It says goodbye, or its socket breaks.
                let end = match client % 3 {
                    0 => Input::Closed { conn, cause: CloseCause::WriteError },
                    _ => Input::Received { conn, n: 0 },
                };
                server.handle(shard, end);
            }
            server.advance(Duration::from_millis(1));
            assert_eq!(counts(&server), before, "{shards} shards");
        }
    }
}

#[test]
fn members_that_want_one_message_each_get_all_there_are() {
    const MEMBERS: usize = 100;
    for shards in [1, 2] {
        let mut server = Server::new(shards, Options::default());
        let (reader, publisher) = (server.connect(0), server.connect(usize::from(shards) - 1));
        for client in [reader, publisher] {
            server.send(client, b"CONNECT {\"verbose\":false}\r\n");
        }
        for n in 0..MEMBERS {
            let members = format!("SUB x one a{n}\r\nUNSUB a{n} 1\r\nSUB x other b{n}\r\nUNSUB b{n} 1\r\n");
            server.send(reader, members.as_bytes());
        }
        server.took(reader);
        server.send(publisher, &publication(1).repeat(MEMBERS));
        let took = server.took(reader);
        for group in ["a", "b"] {
            let lines = took.lines().filter_map(|line| line.strip_prefix("MSG x "));
            let mut members: Vec<&str> = lines.filter(|line| line.starts_with(group)).collect();
            let messages = members.len();
            members.sort_unstable();
            members.dedup();
            assert_eq!((messages, members.len()), (MEMBERS, MEMBERS), "{group} on {shards} shards");
        }
        server.send(publisher, &publication(1));
        assert_eq!(server.took(reader), "", "nobody is left");
    }
}
