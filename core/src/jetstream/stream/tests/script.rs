//! What a stream does, as text: each command over what came of it.
//!
//! ```text
//! stream [SETTING ...] a new one
//! pub SUBJECT [PAYLOAD] [Key=Value ...]   the reply is the number of the command; `_` is a blank in a value
//! tell SUBJECT [PAYLOAD] [Key=Value ...]  the same without a reply
//! raw SUBJECT BLOCK    with a header block: `|` is the end of a line
//! to REPLY SUBJECT     with a reply of its own
//! long SUBJECT SIZE    with a header block of that many bytes, large SUBJECT SIZE with such a payload
//! inbound COUNT        how many messages may wait
//! refuse-second        the journal takes one change more, and not the next
//! commit [COUNT]       the journal commits, and the store applies
//! settle               until nothing is in flight
//! sleep SECONDS
//! refuse | take        the journal takes nothing from now on, or takes it again
//! disagree             the store refuses the oldest change, and applies the others
//! busy | ready         the journal takes nothing for now, or goes on
//! fail                 the journal fails
//! wait | go            the disk makes everything wait, or answers again
//! budget BYTES
//! del SEQ [noerase]
//! purge [SUBJECT] [below=N] [keep=N]
//! set [SETTING ...]    other settings, all of them
//! consumer NAME FLOOR [FILTER ...] ; forget NAME ; ack NAME SEQ ; through NAME SEQ ; orphans
//! full                 the server has no room
//! many COUNT           so many messages to m.0, m.1 ..., without replies
//! restart
//! headers SEQ          a message's headers
//! state                what the stream holds, state-in-short how many messages
//! ```

use std::fmt::Write as _;

use bytes::Bytes;

use super::super::{Budget, Event, Inbound, Request, Settings, Wanting};
use super::{World, block, config, consumer, reads};
use crate::jetstream::api::error::ErrorKind;
use crate::storage::journal::Refused;
use crate::time::Duration;

/// Runs a script. Lines that begin with `#` say what it shows.
fn run(script: &str) -> String {
    let mut text = String::new();
    let mut world = World::new(&config(&[]));
    let mut at = 0;
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with('#') {
            let _ = writeln!(text, "{line}");
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if words[0] == "stream" {
            let _ = writeln!(text, "\n{line}");
            world = World::new(&config(&words[1..]));
            world.advance();
            at = 0;
            continue;
        }
        at += 1;
        let _ = writeln!(text, "{at}. {line}");
        if reads::command(&mut world, &words, &mut text) {
            tell(&mut world, &mut text);
            continue;
        }
        world = command(world, at, &words, &mut text);
        tell(&mut world, &mut text);
    }
    text
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test may read its script")]
fn scripts() {
    insta::glob!("../testdata", "*.txt", |path| {
        insta::assert_snapshot!(run(&std::fs::read_to_string(path).unwrap()));
    });
}

fn command(mut world: World, at: usize, words: &[&str], text: &mut String) -> World {
    let number = |place: usize| words.get(place).map_or(0, |word| word.parse().unwrap());
    let after = |name: &str| {
        words.iter().find_map(|word| word.strip_prefix(name)).map_or(0, |value| value.parse().unwrap())
    };
    match words[0] {
        "pub" | "tell" => {
            let payload = words.get(2).copied().filter(|word| !word.contains('=')).unwrap_or("");
            let reply = if words[0] == "pub" { at.to_string() } else { String::new() };
            world.publish(words[1], &reply, &block(&words[2..]), payload);
        }
        "raw" => {
            let block = words[2].replace('_', " ").replace('|', "\r\n");
            world.publish(words[1], &at.to_string(), block.as_bytes(), "");
        }
        "to" => world.publish(words[2], words[1], b"", ""),
        "long" => {
            let block = block(&[&format!("K={}", "x".repeat(number(2) as usize - 17))]);
            world.publish(words[1], &at.to_string(), &block, "");
        }
        "large" => world.publish(words[1], &at.to_string(), b"", &"x".repeat(number(2) as usize)),
        "inbound" => {
            world.stream.set_inbound(Inbound { messages: number(1) as usize, bytes: 1 << 20 });
        }
        "refuse-second" => world.take_one = true,
        "commit" => world.commit(if words.len() > 1 { number(1) as usize } else { usize::MAX }),
        "settle" => world.settle(),
        "sleep" => world.sleep(Duration::from_secs(number(1))),
        "refuse" => world.refuses = Some(Refused::Full),
        "take" => world.refuses = None,
        "fail" => {
            world.journal.clear();
            world.stream.fail(&mut world.out, ErrorKind::StreamStoreFailed.with(Refused::Failed));
        }
        "disagree" => world.disagree(),
        "busy" => world.busy = true,
        "ready" => {
            world.busy = false;
            world.propose();
            world.advance();
        }
        "wait" => world.disk.waits = true,
        "go" => {
            world.disk.waits = false;
            world.advance();
        }
        "budget" => {
            world.budget = number(1);
            world.account();
        }
        "full" => {
            world.stream.set_budget(Budget { server_exceeded: true, account_left: u64::MAX });
        }
        "del" => {
            let erase = !words.contains(&"noerase");
            world.request(at as u64, Request::Remove { sequence: number(1), erase });
        }
        "purge" => {
            let subject = words.get(1).copied().filter(|word| !word.contains('=')).unwrap_or("");
            let subject = Bytes::copy_from_slice(subject.as_bytes());
            world
                .request(at as u64, Request::Purge { subject, below: after("below="), keep: after("keep=") });
        }
        "set" => {
            let settings = Settings::new(&config(&words[1..]), "").unwrap();
            world.request(at as u64, Request::Configure(Box::new(settings)));
        }
        "consumer" => {
            let filters = words[3..].iter().map(|filter| Bytes::copy_from_slice(filter.as_bytes())).collect();
            let wanting = Wanting { filters, floor: number(2), ..Wanting::default() };
            world.stream.set_consumer(consumer(words[1]), wanting);
            world.advance();
        }
        "forget" => {
            world.stream.remove_consumer(consumer(words[1]));
            world.propose();
            world.advance();
        }
        "ack" => {
            world.stream.acknowledged(consumer(words[1]), number(2));
            world.advance();
        }
        "through" => {
            world.stream.acknowledged_through(consumer(words[1]), number(2));
            world.advance();
        }
        "orphans" => {
            world.stream.check_orphans();
            world.advance();
        }
        "many" => {
            for subject in 0..number(1) {
                world.publish(&format!("m.{subject}"), "", b"", "");
            }
        }
        "headers" => {
            let message = world.disk.store.load(number(1));
            let shown = message.map_or("gone".into(), |message| {
                String::from_utf8_lossy(&message.headers).replace("\r\n", "|")
            });
            let _ = writeln!(text, "   {shown}");
        }
        "restart" => world = world.restart(),
        "state-in-short" => {
            let content = world.content();
            let _ = writeln!(text, "   {}", content.lines().next().unwrap_or(""));
        }
        "state" => {
            let content = world.content();
            for line in content.lines() {
                let _ = writeln!(text, "   {line}");
            }
        }
        other => panic!("no command {other}"),
    }
    world
}

fn tell(world: &mut World, text: &mut String) {
    for sent in world.out.drain(..) {
        let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace("\r\n", "|");
        let (to, headers, payload) = (show(&sent.to), show(&sent.headers), show(&sent.payload));
        let gap = if headers.is_empty() || payload.is_empty() { "" } else { " " };
        let _ = writeln!(text, "   -> {to}: {headers}{gap}{payload}");
    }
    for event in world.events() {
        // What is stored is told for each message; the state shows it.
        let line = match event {
            Event::Stored { .. } => continue,
            Event::Purged { subject, removed } => {
                format!("purged {removed} of {:?}", String::from_utf8_lossy(&subject))
            }
            Event::Done { ticket, result: Ok(removed) } => format!("{}: done, {removed} removed", ticket.0),
            Event::Done { ticket, result: Err(error) } => format!("{}: {error}", ticket.0),
        };
        let _ = writeln!(text, "   {line}");
    }
}
