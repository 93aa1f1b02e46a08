//! The commands of the transcripts.

use std::fmt::Write as _;

use super::world::{World, configure, context, show, usual};
use crate::config::parse_duration;
use crate::jetstream::api::write;
use crate::jetstream::context::Answer;
use crate::storage::Retention;
use crate::time::Duration;

/// Runs commands against a consumer (`name=value` words over the usual settings, `interest` or `workqueue` for its stream,
/// `memory` for one without entries),
/// one on each line or between semicolons, and returns them over what was published and told.
///
/// `store SUBJECT [xN]`, `remove N`, `purge [SUBJECT] [below N] [keep N]`; `pull REPLY [BODY]`; `ack N`, `sync N` (asks for an
/// answer), `nak N [ARGUMENT]`, `wpi N`, `term N [REASON]`, `next N REPLY [BODY]`; `tick TIME`; `listen PATTERN [GROUP]`,
/// `leave PATTERN`; `configure NAME=VALUE...`; `answer HEADERS` (to flow control); `unpin`, `reset N`, `delete`, `shutdown`,
/// `info`; `hold` (entries aren't durable), `refuse` (none can be proposed), `commit`, `crash`; `state`, `needs N SUBJECT`.
pub(super) fn run(settings: &str, stored: &str, script: &str) -> String {
    let (mut retention, mut keeps_entries, mut words) = (Retention::Limits, true, Vec::new());
    for word in settings.split_whitespace() {
        match word {
            "interest" => retention = Retention::Interest,
            "workqueue" => retention = Retention::WorkQueue,
            "memory" => keeps_entries = false,
            word => words.push(word),
        }
    }
    let mut config = usual();
    configure(&mut config, &words.join(" "));
    let stored: Vec<&str> = stored.split_whitespace().collect();
    let mut world = World::new(config, retention, keeps_entries, &stored);
    world.settle();
    let mut out = String::new();
    flush(&mut world, &mut out);
    for line in script.split([';', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
        let _ = writeln!(out, "{line}");
        command(&mut world, line, &mut out);
        world.settle();
        flush(&mut world, &mut out);
    }
    out
}

fn flush(world: &mut World, out: &mut String) {
    for message in world.out.drain(..) {
        show(&message, out);
    }
    for event in world.events.drain(..) {
        let _ = writeln!(out, "  {event:?}");
    }
}

fn number(text: &str) -> u64 {
    text.trim_start_matches('x').parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

fn command(world: &mut World, line: &str, out: &mut String) {
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (first, tail) = rest.split_once(' ').unwrap_or((rest, ""));
    let after =
        |name: &str| words.iter().position(|word| *word == name).map_or(0, |at| number(words[at + 1]));
    match name {
        "store" => {
            (0..words.get(1).map_or(1, |times| number(times))).for_each(|_| world.store(first));
        }
        "remove" => world.remove(number(first)),
        "purge" => {
            let subject = words.first().copied().filter(|word| !["below", "keep"].contains(word));
            world.purge(subject.unwrap_or(""), after("below"), after("keep"));
        }
        "pull" => world.pull(first, tail),
        "ack" => world.ack(number(first), "", tail),
        "sync" => world.ack(number(first), &format!("r.sync.{first}"), tail),
        "nak" => world.ack(number(first), "", &format!("-NAK {tail}")),
        "wpi" => world.ack(number(first), "", "+WPI"),
        "term" => world.ack(number(first), "", &format!("+TERM {tail}")),
        "next" => {
            let (reply, body) = tail.split_once(' ').unwrap_or((tail, ""));
            world.ack(number(first), reply, &format!("+NXT {body}"));
        }
        "tick" => world.tick(Duration::from_nanos(parse_duration(first).unwrap().unsigned_abs())),
        "listen" => {
            world.listeners.0.push((first.to_owned(), tail.to_owned()));
            world.consumer.interest_changed(&mut context!(world));
        }
        "leave" => {
            world.listeners.0.retain(|(pattern, _)| pattern != first);
            world.consumer.interest_changed(&mut context!(world));
        }
        "configure" => {
            let mut config = world.consumer.config().clone();
            configure(&mut config, rest);
            world.consumer.configure(config, &mut context!(world));
        }
        "unpin" => world.consumer.unpin("g", &mut context!(world)),
        "delete" => world.consumer.deleted(&mut context!(world)),
        "shutdown" => world.consumer.shut_down(&mut context!(world)),
        "reset" => {
            let mut context = context!(world);
            let result = world.consumer.reset(number(first), &mut context, &mut world.stream);
            let _ = writeln!(out, "  {result:?}");
        }
        "hold" => world.commits = false,
        "commit" => (world.commits, world.refuses) = (true, false),
        "refuse" => world.refuses = true,
        "crash" => world.crash(),
        _ => question(world, name, rest, out),
    }
}

fn question(world: &mut World, name: &str, rest: &str, out: &mut String) {
    let (first, tail) = rest.split_once(' ').unwrap_or((rest, ""));
    match name {
        "answer" => {
            let subject = if first == "fc" { world.question.clone() } else { first.to_owned() };
            let headers = format!("NATS/1.0\r\n{}\r\n\r\n", tail.replace('|', "\r\n"));
            world.consumer.flow_control_answered(
                subject.as_bytes(),
                headers.as_bytes(),
                &mut context!(world),
            );
        }
        "state" => {
            let state = world.consumer.state();
            let pair = |at: crate::storage::consumer::SequencePair| format!("{}/{}", at.consumer, at.stream);
            let _ = write!(out, "  delivered {} floor {}", pair(state.delivered), pair(state.ack_floor));
            let _ = write!(out, " pending {:?}", state.pending.keys().collect::<Vec<_>>());
            let _ = write!(out, " redelivered {:?}", state.redelivered);
            let durable = if state == *world.durable.state() { "durable" } else { "not durable" };
            let _ = writeln!(out, " {durable}");
        }
        "info" => {
            let info = loop {
                let info = world.consumer.info(&mut context!(world), &mut world.stream);
                if let Answer::Ready(info) = info {
                    break info;
                }
            };
            let json: serde_json::Value = serde_json::from_slice(&write::to_json(&info)).unwrap();
            let mut shown = Vec::new();
            for (name, value) in json.as_object().unwrap() {
                if !["config", "created", "name", "stream_name", "ts"].contains(&name.as_str()) {
                    shown.push(format!("{name} {value}"));
                }
            }
            let _ = writeln!(out, "  {}", shown.join(" ").replace('"', ""));
        }
        "needs" => {
            let needs = world.consumer.needs(number(first), tail.as_bytes());
            let _ = writeln!(out, "  {needs}");
        }
        _ => panic!("{name} {rest}"),
    }
}
