//! Two hosts that talk through every kind of trouble, and what TCP promises them all the same.

use super::*;
use crate::queue::EventQueue;

struct World {
    queue: EventQueue<NetEvent>,
    net: Network,
    rng: Rng,
}

const CLIENT: HostId = HostId(0);
const SERVER: HostId = HostId(1);

impl World {
    fn new(seed: u64, link: LinkShape, shape: StreamShape) -> World {
        let mut rng = Rng::from_u64(seed);
        let queue = EventQueue::new(&mut rng);
        let mut net = Network::new(2, link, shape, rng.child());
        net.set_listening(SERVER, true);
        World { queue, net, rng }
    }

    /// Runs until something is to be told, or nothing is left to happen.
    fn notice(&mut self) -> Option<Notice> {
        loop {
            if let Some(notice) = self.net.poll_notice() {
                return Some(notice);
            }
            let event = self.queue.pop()?;
            self.net.handle(&mut self.queue, event);
        }
    }

    fn connect(&mut self) -> (End, End) {
        let dialed = self.net.dial(&mut self.queue, CLIENT, SERVER, 1);
        let mut accepted = None;
        loop {
            match self.notice().expect("a dial is answered") {
                Notice::Accepted { end, .. } => {
                    assert!(self.net.set_owner(end, 2));
                    accepted = Some(end);
                }
                Notice::Connected(end, 1) => {
                    assert_eq!(end, dialed);
                    return (dialed, accepted.expect("accepted before connected"));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Sends `length` numbered bytes from one end to the other and returns what came.
    fn transfer(&mut self, from: End, to: End, length: usize) -> Vec<u8> {
        let bytes: Vec<u8> = (0..length).map(|index| (index * 31 % 251) as u8).collect();
        let (mut sent, mut got) = (0, Vec::new());
        let mut block = [0; 4096];
        while got.len() < length {
            if sent < length {
                let until = length.min(sent + 1 + self.rng.below(3000) as usize);
                sent += self.net.write(&mut self.queue, from, &bytes[sent..until]);
            }
            match self.queue.pop() {
                Some(event) => self.net.handle(&mut self.queue, event),
                None if sent == length && self.net.readable(to) == 0 => break,
                None => {}
            }
            while self.net.poll_notice().is_some() {}
            let limit = 1 + self.rng.below(block.len() as u64) as usize;
            if let Read::Bytes(n) = self.net.read(&mut self.queue, to, &mut block[..limit]) {
                got.extend_from_slice(&block[..n]);
            }
        }
        assert_eq!(got, bytes[..got.len()]);
        got
    }
}

fn rough() -> (LinkShape, StreamShape) {
    let link = LinkShape {
        loss_ppm: 200_000,
        spike_ppm: 50_000,
        spike: 30 * MILLISECOND,
        nanos_per_byte: 100,
        ..LinkShape::default()
    };
    (link, StreamShape { capacity: (100, 5000), segment: 700, attempts: 60, ..StreamShape::default() })
}

#[test]
fn a_stream_on_a_rough_link_is_late_and_whole() {
    let (link, shape) = rough();
    for seed in 0..20 {
        let mut world = World::new(seed, link, shape);
        let (client, server) = world.connect();
        assert_eq!(world.transfer(client, server, 40_000).len(), 40_000);
        assert_eq!(world.transfer(server, client, 10_000).len(), 10_000);
        for fault in [Fault::Loss, Fault::Split, Fault::Coalesce, Fault::DelaySpike, Fault::PartialWrite] {
            assert!(world.net.counters.of(fault) > 0, "{fault:?}");
        }
    }
}

#[test]
fn a_partition_holds_bytes_back_and_healing_lets_them_through() {
    let mut world = World::new(1, LinkShape::default(), StreamShape::default());
    let (client, server) = world.connect();
    world.net.link(CLIENT, SERVER).blocked = 1;
    world.net.write(&mut world.queue, client, b"hello");
    let event = world.queue.pop().expect("the segment arrives");
    world.net.handle(&mut world.queue, event);
    assert_eq!(world.net.readable(server), 0);
    assert_eq!(world.net.counters.of(Fault::HeldByPartition), 1);
    world.net.link(CLIENT, SERVER).blocked = 0;
    assert_eq!(world.notice(), Some(Notice::Readable(server, 2)));
    assert_eq!(world.net.readable(server), 5);
}

#[test]
fn a_partition_in_one_direction_leaves_the_other_alone() {
    let mut world = World::new(1, LinkShape::default(), StreamShape::default());
    let (client, server) = world.connect();
    world.net.link(CLIENT, SERVER).blocked = 1;
    assert_eq!(world.transfer(server, client, 1000).len(), 1000);
}

#[test]
fn a_partition_that_lasts_breaks_the_stream_of_who_writes() {
    let mut world = World::new(1, LinkShape::default(), StreamShape::default());
    let (client, _) = world.connect();
    world.net.link(CLIENT, SERVER).blocked = 1;
    world.net.write(&mut world.queue, client, b"hello");
    assert_eq!(world.notice(), Some(Notice::Broken(client, 1)));
    assert_eq!(world.net.counters.of(Fault::ConnectionTimeout), 1);
}

#[test]
fn a_closed_stream_is_read_to_its_end_and_a_reset_one_only_in_part() {
    let mut whole = 0;
    for seed in 0..50 {
        let slow = LinkShape { jitter: 5 * MILLISECOND, ..LinkShape::default() };
        let shape = StreamShape { segment: 40, ..StreamShape::default() };
        let mut world = World::new(seed, slow, shape);
        let (client, server) = world.connect();
        world.net.write(&mut world.queue, client, &[7; 1000]);
        world.net.close(&mut world.queue, client);
        let mut got = Vec::new();
        let mut block = [0; 300];
        loop {
            match world.net.read(&mut world.queue, server, &mut block) {
                Read::Bytes(n) => got.extend_from_slice(&block[..n]),
                Read::Finished => break,
                Read::Nothing => assert!(matches!(world.notice(), Some(Notice::Readable(..)))),
            }
        }
        assert_eq!(got, [7; 1000]);

        let mut world = World::new(seed, slow, shape);
        let (client, server) = world.connect();
        world.net.write(&mut world.queue, client, &[7; 1000]);
        world.net.reset(&mut world.queue, client);
        let mut got = 0;
        loop {
            match world.notice() {
                Some(Notice::Readable(..)) => {
                    while let Read::Bytes(n) = world.net.read(&mut world.queue, server, &mut block) {
                        got += n;
                    }
                }
                other => break assert_eq!(other, Some(Notice::Broken(server, 2))),
            }
        }
        whole += usize::from(got == 1000);
    }
    assert_eq!(whole, 0);
}

#[test]
fn a_vanished_end_is_noticed_by_who_writes_to_it_and_by_nobody_else() {
    let mut world = World::new(1, LinkShape::default(), StreamShape::default());
    let (client, server) = world.connect();
    world.net.vanish(client);
    assert_eq!(world.notice(), None);
    assert_eq!(world.net.write(&mut world.queue, server, b"PING\r\n"), 6);
    assert_eq!(world.notice(), Some(Notice::Broken(server, 2)));
}

#[test]
fn a_dial_is_refused_when_nobody_listens_or_nobody_hears() {
    let mut world = World::new(1, LinkShape::default(), StreamShape::default());
    world.net.set_listening(SERVER, false);
    let dialed = world.net.dial(&mut world.queue, CLIENT, SERVER, 1);
    assert_eq!(world.notice(), Some(Notice::Refused(dialed, 1)));
    world.net.set_listening(SERVER, true);
    world.net.set_up(SERVER, false);
    let dialed = world.net.dial(&mut world.queue, CLIENT, SERVER, 1);
    assert_eq!(world.notice(), Some(Notice::Refused(dialed, 1)));
    assert_eq!(world.net.free.len() * 2, world.net.ends.len());
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer() {
    let shape = StreamShape { capacity: (1000, 1000), ..StreamShape::default() };
    let mut world = World::new(1, LinkShape::default(), shape);
    let (client, server) = world.connect();
    assert_eq!(world.net.write(&mut world.queue, client, &[0; 1500]), 1000);
    assert_eq!(world.net.write(&mut world.queue, client, &[0; 1500]), 0);
    assert_eq!(world.notice(), Some(Notice::Readable(server, 2)));
    let mut block = [0; 600];
    assert_eq!(world.net.read(&mut world.queue, server, &mut block), Read::Bytes(600));
    assert_eq!(world.notice(), Some(Notice::Writable(client, 1)));
    assert_eq!(world.net.writable(client), 600);
}

#[test]
fn equal_seeds_give_equal_runs() {
    let run = |seed| {
        let (link, shape) = rough();
        let mut world = World::new(seed, link, shape);
        let (client, server) = world.connect();
        world.transfer(client, server, 20_000);
        Schedule::<NetEvent>::now(&world.queue)
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}
