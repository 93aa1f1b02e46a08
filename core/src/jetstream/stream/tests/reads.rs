//! Reading, as commands of the scripts.
//!
//! ```text
//! get WHICH               one message; WHICH is `seq=N`, `time=SECONDS`, `last=SUBJECT`, or `next=SUBJECT` with one of the first
//! direct WHICH [batch=N] [max=BYTES] [nohdr]
//! multi SUBJECT ... [from=N] [upto=N | before=SECONDS] [batch=N] [max=BYTES]
//! cold                    from now on each message has to wait for the disk when it is read for the first time
//! resume                  what waits for the disk goes on
//! info [deleted] [subjects=SUBJECT] [offset=N]
//! ```
//!
//! Seconds are counted from when the test began.

use std::fmt::Write as _;

use bytes::Bytes;

use super::super::{DirectGet, Progress, Selection, Start, Which, get, info};
use super::World;
use crate::jetstream::context::Answer;
use crate::time::{Duration, WallTime};

/// Finds the value behind a name.
fn value<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn number(words: &[&str], name: &str) -> Option<u64> {
    value(words, name).map(|text| text.parse().unwrap())
}

fn moment(seconds: u64) -> WallTime {
    super::BEGIN + Duration::from_secs(seconds)
}

fn start(words: &[&str]) -> Start {
    let time = number(words, "time").map(|seconds| Start::Time(moment(seconds)));
    time.unwrap_or(Start::Sequence(number(words, "seq").unwrap_or(0)))
}

fn which(words: &[&str]) -> Which {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    match (value(words, "last"), value(words, "next")) {
        (Some(filter), _) => Which::Last(bytes(filter)),
        (_, Some(filter)) => Which::Next { filter: bytes(filter), from: start(words) },
        _ => Which::At(start(words)),
    }
}

fn selection(words: &[&str]) -> Selection {
    if words[0] == "direct" {
        let (batch, no_headers) = (number(words, "batch"), words.contains(&"nohdr"));
        return Selection::From { which: which(words), batch, no_headers };
    }
    let subjects = words[1..].iter().filter(|word| !word.contains('='));
    Selection::Last {
        filters: subjects.map(|subject| Bytes::copy_from_slice(subject.as_bytes())).collect(),
        from: number(words, "from").unwrap_or(0),
        up_to: number(words, "upto")
            .map(Start::Sequence)
            .or(number(words, "before").map(|at| Start::Time(moment(at)))),
        batch: number(words, "batch").unwrap_or(0),
    }
}

/// Runs a command, if it is one of these.
pub(super) fn command(world: &mut World, words: &[&str], text: &mut String) -> bool {
    match words[0] {
        "get" => {
            let said = match get(&mut world.disk, &which(words)) {
                Answer::Wait => "wait".to_owned(),
                Answer::Ready(None) => "none".to_owned(),
                Answer::Ready(Some(message)) => {
                    let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    format!(
                        "{} {} {}",
                        message.sequence,
                        text_of(&message.subject),
                        text_of(&message.payload)
                    )
                }
            };
            let _ = writeln!(text, "   {said}");
        }
        "direct" | "multi" => {
            let most = number(words, "max").unwrap_or(1 << 20);
            world.gets.push(DirectGet::new(selection(words), Bytes::from_static(b"r"), most));
            resume(world, text);
        }
        "resume" => resume(world, text),
        "cold" => world.disk.cold = true,
        "info" => {
            let asked = info::Asked {
                deleted: words.contains(&"deleted"),
                subjects: value(words, "subjects").unwrap_or("").to_owned(),
                offset: number(words, "offset").unwrap_or(0) as usize,
            };
            let Answer::Ready(told) = info::tell(&mut world.disk, &asked) else {
                panic!("nothing is missing")
            };
            let state = &told.state;
            let (first, last) = (state.first_sequence, state.last_sequence);
            let _ =
                writeln!(text, "   {} messages, {first}..{last}, {} deleted", state.messages, state.deleted);
            let _ = told.deleted.iter().try_for_each(|deleted| writeln!(text, "   deleted: {deleted:?}"));
            if let Some(page) = told.subjects {
                let names: Vec<String> = page
                    .page
                    .iter()
                    .map(|(name, count)| format!("{}: {count}", String::from_utf8_lossy(name)))
                    .collect();
                let _ = writeln!(text, "   subjects, of {}: {}", page.total, names.join(", "));
            }
        }
        _ => return false,
    }
    true
}

/// Goes on with what is under way, as far as the disk lets it.
fn resume(world: &mut World, text: &mut String) {
    for mut get in std::mem::take(&mut world.gets) {
        let mut progress = Progress::More;
        for _ in 0..100_000 {
            progress = world.direct(&mut get);
            if progress != Progress::More {
                break;
            }
        }
        assert_ne!(progress, Progress::More, "it never ends");
        if progress == Progress::Wait {
            let _ = writeln!(text, "   waits");
            world.gets.push(get);
        }
    }
}
