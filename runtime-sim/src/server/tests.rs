//! A server of toys: what its threads do with sockets, with each other and with their end.

mod echo;

use echo::{CLIENT, Echo, Misdeed, QUIT, SERVER, World, narrow};

use super::*;
use crate::net::{Read, StreamShape};
use crate::queue::MILLISECOND;

#[test]
fn bytes_are_echoed_however_they_are_cut() {
    let bytes: Vec<u8> = (0..5000).map(|index| (index % 251) as u8).collect();
    for seed in 0..20 {
        let (pace, shape) = narrow();
        let mut world = World::new(seed, 3, pace, shape);
        let ends = [world.dial(), world.dial(), world.dial()];
        for end in ends {
            assert_eq!(world.echo(end, &bytes), bytes);
        }
        world.rest();
        for machine in world.server.machines() {
            assert_eq!(machine.told.iter().sum::<usize>(), 3 * bytes.len(), "every shard is told of all");
            assert_eq!(machine.ticks, 1);
        }
        assert!(world.net.counters.of(Fault::ShardsInterleaved) > 0);
        assert_eq!(world.server.alarms, []);
    }
}

#[test]
fn equal_seeds_give_equal_hashes() {
    let run = |seed| {
        let (pace, shape) = narrow();
        let mut world = World::new(seed, 3, pace, shape);
        let end = world.dial();
        world.echo(end, &[5; 3000]);
        world.trace.hash()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn what_a_socket_does_not_take_waits_for_its_window() {
    let shape = StreamShape { capacity: (300, 300), ..StreamShape::default() };
    let mut world = World::new(1, 1, Pace::default(), shape);
    let end = world.dial();
    let mut sent = 0;
    for _ in 0..4 {
        sent += world.net.write(&mut world.queue, end, &[7; 300]);
        world.rest();
    }
    let waiting = |world: &World| world.server.machines().flat_map(|m| m.waiting.values().flatten()).count();
    // At rest, so nobody tries a socket again and again that takes nothing.
    assert_eq!((sent, waiting(&world)), (1200, 900));
    let mut back = Vec::new();
    while world.net.readable(end) > 0 {
        back.extend(world.read(end));
        world.rest();
    }
    assert_eq!((back, waiting(&world)), (vec![7; 1200], 0));
}

#[test]
fn last_bytes_are_written_before_a_connection_ends() {
    let pace = Pace { read_limit: 20, ..Pace::default() };
    let shape = StreamShape { capacity: (100, 100), ..StreamShape::default() };
    let mut world = World::new(1, 1, pace, shape);
    let end = world.dial();
    let mut words = vec![7; 89];
    words.push(QUIT);
    assert_eq!(world.echo(end, &words), words);
    world.rest();
    assert_eq!(world.net.read(&mut world.queue, end, &mut [0; 9]), Read::Finished);
    assert_eq!((world.server.closes, world.server.open_connections()), (1, 0));
}

#[test]
fn last_bytes_that_nobody_reads_are_given_up() {
    let shape = StreamShape { capacity: (100, 100), ..StreamShape::default() };
    let mut world = World::new(1, 1, Pace::default(), shape);
    let end = world.dial();
    for words in [[7; 100], [QUIT; 100]] {
        assert_eq!(world.net.write(&mut world.queue, end, &words), 100);
        while world.net.writable(end) == 0 {
            assert!(world.step(), "the server reads");
        }
    }
    let closed = loop {
        if world.server.closes > 0 {
            break world.now();
        }
        assert!(world.step(), "the server closes");
    };
    world.rest();
    assert!(world.heard.contains(&Notice::Broken(end, 1)), "what doesn't go out in time is cut off");
    assert!(world.now() >= closed + CLOSE_FLUSH_LIMIT);
    assert!(world.server.shards[0].conns.ends().is_empty(), "nothing is left of it");
}

#[test]
fn a_connection_that_is_reset_at_once_is_announced_before_it_is_mourned() {
    for seed in 0..20 {
        let mut world = World::plain(seed, 2);
        world.rest();
        let handled = world.server.handled;
        // The kernel accepts whatever the process does.
        world.server.pause(world.now() + MILLISECOND);
        let end = world.dial();
        world.net.write(&mut world.queue, end, b"hello");
        world.net.reset(&mut world.queue, end);
        // The toy panics if it hears of the end of what it doesn't know.
        world.rest();
        assert_eq!(world.server.handled - handled, 2, "it has come and gone");
        assert_eq!(world.server.open_connections(), 0);
        assert!(world.server.machines().all(|machine| machine.waiting.is_empty()));
    }
}

#[test]
fn a_crash_resets_and_a_restart_knows_nothing() {
    let mut world = World::plain(1, 2);
    let end = world.dial();
    assert_eq!(world.echo(end, b"hello"), b"hello");
    world.with_env(|server, env| server.crash(env, Crash::Process));
    assert_eq!((world.server.is_up(), world.server.shards()), (false, 0));
    world.rest();
    assert!(world.heard.contains(&Notice::Broken(end, 1)));
    let end = world.net.dial(&mut world.queue, CLIENT, SERVER, 1);
    world.rest();
    assert!(world.heard.contains(&Notice::Refused(end, 1)));
    world.start(2);
    let end = world.dial();
    assert_eq!(world.echo(end, b"again"), b"again");
    assert_eq!(world.server.epoch(), 2);
    let knows = |machine: &Echo| machine.told.iter().sum::<usize>();
    assert!(world.server.machines().all(|machine| knows(machine) <= 5), "five bytes since the restart");
}

#[test]
fn nothing_of_an_earlier_life_is_done_in_the_next() {
    for seed in 0..50 {
        let mut world = World::plain(seed, 3);
        let end = world.dial();
        world.net.write(&mut world.queue, end, &[7; 600]);
        // In the middle of it: messages in inboxes, steps to be taken, bytes in sockets.
        while world.server.handled < 3 + seed % 4 {
            assert!(world.step());
        }
        world.with_env(|server, env| server.crash(env, Crash::Process));
        world.start(3);
        let (ticks, handled) = (world.server.ticks, world.server.handled);
        world.rest();
        // It hears where it listens, and each shard has its tick.
        assert_eq!((world.server.handled - handled, world.server.ticks - ticks), (1, 3));
        assert!(world.server.machines().all(|machine| machine.told == [0; 3]));
    }
}

#[test]
fn a_crash_loses_what_was_not_written_and_what_was_under_way() {
    let shape = StreamShape { capacity: (500, 500), segment: 40, ..StreamShape::default() };
    let bytes: Vec<u8> = (0..200).collect();
    let mut cut_short = 0;
    for seed in 0..30 {
        let mut world = World::new(seed, 1, Pace { write_limit: 9, ..Pace::default() }, shape);
        let end = world.dial();
        world.net.write(&mut world.queue, end, &bytes);
        let mut back = Vec::new();
        while back.is_empty() {
            assert!(world.step());
            back.extend(world.read(end));
        }
        world.with_env(|server, env| server.crash(env, Crash::Process));
        while world.step() {
            back.extend(world.read(end));
        }
        assert!(bytes.starts_with(&back), "a beginning, and nothing else");
        assert!(world.heard.contains(&Notice::Broken(end, 1)));
        cut_short += usize::from(back.len() < bytes.len());
    }
    assert_eq!(cut_short, 30);
}

#[test]
fn a_power_loss_tells_nobody() {
    let mut world = World::plain(1, 2);
    let end = world.dial();
    world.with_env(|server, env| server.crash(env, Crash::Power));
    world.rest();
    assert!(!world.heard.contains(&Notice::Broken(end, 1)));
    world.net.write(&mut world.queue, end, b"anybody?");
    world.rest();
    assert!(world.heard.contains(&Notice::Broken(end, 1)), "given up after retransmissions");
}

#[test]
fn a_process_can_die_between_any_two_outputs() {
    // One read of a connection of four shards is a flush and three pushes.
    for outputs in 1..=4 {
        let mut world = World::plain(u64::from(outputs), 4);
        let end = world.dial();
        world.rest();
        world.server.crash_after(outputs);
        world.net.write(&mut world.queue, end, b"x");
        while !world.server.wants_crash() {
            assert!(world.step(), "it dies");
        }
        let cells = &world.server.shards;
        let pushed = |cell: &Cell<Echo>| cell.inbox.len() + usize::from(cell.machine.told.contains(&1));
        let left: usize = cells.iter().map(|cell| cell.outgoing.len()).sum();
        let reader = cells.iter().position(|cell| !cell.machine.known.is_empty()).expect("it was read");
        let pushed: usize =
            cells.iter().enumerate().filter(|(i, _)| *i != reader).map(|(_, cell)| pushed(cell)).sum();
        assert_eq!((pushed, left), (outputs as usize - 1, 4 - outputs as usize));
        world.with_env(|server, env| server.crash(env, Crash::Process));
        let fault = if outputs < 4 { Fault::CrashAtOutput } else { Fault::CrashIdle };
        assert_eq!(world.net.counters.of(fault), u64::from(outputs < 4), "{outputs}");
        world.rest();
        assert_eq!(world.read(end), b"", "a flush is not a write");
    }
}

#[test]
fn a_paused_process_does_nothing_and_then_goes_on() {
    let mut world = World::plain(1, 2);
    let end = world.dial();
    let until = world.now() + SECOND;
    world.server.pause(until);
    let handled = world.server.handled;
    world.net.write(&mut world.queue, end, b"late");
    while world.queue.peek_time().is_some_and(|next| next < until) {
        world.step();
    }
    assert_eq!(world.server.handled, handled);
    world.rest();
    assert_eq!(world.read(end), b"late");
    assert!(world.now() >= until);
}

#[test]
fn a_paused_shard_holds_up_nobody_but_its_own() {
    let mut world = World::plain(1, 2);
    let ends = world.dial_all_shards();
    let until = world.now() + SECOND;
    world.server.pause_shard(1, until);
    assert_eq!(world.echo(ends[0], b"soon"), b"soon");
    assert!(world.now() < until);
    assert_eq!(world.server.shards[1].inbox.len(), 1, "what it is told waits for it");
    assert_eq!(world.echo(ends[1], b"late"), b"late");
    assert!(world.now() >= until);
    assert_eq!(world.server.shards[1].machine.known, [[4, 4]], "and comes before what it reads");
}

#[test]
fn what_no_server_may_do_raises_an_alarm() {
    let alarm = |misdeed, bounds| {
        let mut world = World::plain(3, 2);
        world.server.bounds = bounds;
        for cell in &mut world.server.shards {
            cell.machine.misdeed = misdeed;
        }
        let end = world.dial();
        world.net.write(&mut world.queue, end, &[QUIT; 50]);
        for _ in 0..20_000 {
            if !world.server.alarms.is_empty() || !world.step() {
                break;
            }
        }
        world.server.alarms.first().cloned()
    };
    let fine = Bounds::default();
    assert_eq!(alarm(None, fine), None);
    assert!(matches!(alarm(Some(Misdeed::Spins), fine), Some(Alarm::Spin { .. })));
    assert!(matches!(alarm(Some(Misdeed::ClosesTwice), fine), Some(Alarm::UnknownConn { .. })));
    assert!(matches!(
        alarm(None, Bounds { inbox: 0, ..fine }),
        Some(Alarm::Inbox { messages: 1, shard: ShardId(_) })
    ));
    assert!(matches!(alarm(None, Bounds { outputs: 1, ..fine }), Some(Alarm::Work { outputs: 2, .. })));
}

#[test]
fn bytes_that_pile_up_for_one_connection_raise_an_alarm() {
    let shape = StreamShape { capacity: (100, 100), ..StreamShape::default() };
    let mut world = World::new(1, 1, Pace::default(), shape);
    world.server.bounds.pending = 150;
    let end = world.dial();
    for total in [100, 200] {
        world.net.write(&mut world.queue, end, &[7; 100]);
        world.rest();
        assert_eq!(world.server.alarms, [], "{total} bytes, of which the socket has 100");
    }
    world.net.write(&mut world.queue, end, &[7; 100]);
    world.rest();
    assert!(matches!(world.server.alarms[..], [Alarm::Pending { bytes: 200, .. }]));
}

mod order {
    //! The inbox and the two rules of `natrix_core::shard::io`: seen to be kept, and with the planted bug that breaks
    //! each, seen to be broken.

    use super::*;

    /// Whether nobody hears an echo before every other shard could know of it.
    fn pushes_precede_flushes(seed: u64) -> bool {
        let pace = Pace { preempt_one_in: 4, preempt: 5 * MILLISECOND, ..Pace::default() };
        let mut world = World::new(seed, 3, pace, narrow().1);
        let end = world.dial();
        let (mut sent, mut back) = (0, 0);
        while back < 60 {
            if sent < 60 {
                sent += world.net.write(&mut world.queue, end, b"x");
            }
            assert!(world.step());
            back += world.read(end).len();
            let cells = &world.server.shards;
            let reader = cells.iter().position(|cell| !cell.machine.known.is_empty()).unwrap_or(0);
            // Every read is one message for each other shard; so many reads have been echoed in whole.
            let echoed = cells[reader].machine.known.iter().filter(|known| known[reader] <= back).count();
            let pushed = |cell: &Cell<Echo>| cell.inbox.len() + cell.machine.heard;
            let others = cells.iter().enumerate().filter(|(index, _)| *index != reader);
            if others.map(|(_, cell)| pushed(cell)).any(|pushed| pushed < echoed) {
                return false;
            }
        }
        true
    }

    /// Whether a shard that reads knows all that its client can know.
    fn bytes_wait_for_the_inbox(seed: u64) -> bool {
        let mut world = World::new(seed, 2, Pace { wake: MILLISECOND, ..Pace::default() }, narrow().1);
        let ends = world.dial_all_shards();
        (1..20).all(|round| {
            world.echo(ends[0], b"x");
            world.echo(ends[1], b"y");
            world.server.shards[1].machine.known[round - 1][0] == round
        })
    }

    /// Whether the last shard hears from the first before it hears of that from the one between them.
    fn messages_keep_their_order_across_senders(seed: u64) -> bool {
        let mut world = World::new(seed, 3, narrow().0, StreamShape::default());
        world.server.shards[1].machine.relays = true;
        let ends = world.dial_all_shards();
        let mut kept = true;
        for _ in 0..60 {
            world.net.write(&mut world.queue, ends[0], b"x");
            for _ in 0..8 {
                world.step();
                let told = &world.server.shards[2].machine.told;
                kept &= told[0] >= told[1];
            }
        }
        world.rest();
        assert_eq!(world.server.shards[2].machine.told, [60, 60, 0]);
        kept
    }

    #[test]
    fn both_rules_and_the_order_of_the_inbox_are_kept() {
        for seed in 0..100 {
            assert!(pushes_precede_flushes(seed), "seed {seed}");
            assert!(bytes_wait_for_the_inbox(seed), "seed {seed}");
            assert!(messages_keep_their_order_across_senders(seed), "seed {seed}");
        }
    }

    #[cfg(feature = "planted-bugs")]
    #[test]
    fn each_bug_of_the_runtime_breaks_its_rule() {
        use natrix_core::planted::{self, Bug};

        let broken = |bug, kept: fn(u64) -> bool| {
            planted::arm(Some(bug), 0, 1, 1);
            let broken = (0..100).any(|seed| !kept(seed));
            planted::disarm();
            broken
        };
        assert!(broken(Bug::FlushBeforePush, pushes_precede_flushes));
        assert!(broken(Bug::InboxNotDrained, bytes_wait_for_the_inbox));
        assert!(broken(Bug::InboxRingPerPair, messages_keep_their_order_across_senders));
        assert!(broken(Bug::InboxReordered, messages_keep_their_order_across_senders));
    }
}
