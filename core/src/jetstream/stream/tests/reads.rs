//! Reading, as commands of the scripts.
//!
//! ```text
//! get JSON [SECONDS]      one message, as `STREAM.MSG.GET` has it
//! direct JSON [SECONDS]   what `DIRECT.GET` sends
//! cold                    from now on each message has to wait for the disk when it is read for the first time
//! resume                  what waits for the disk goes on
//! info JSON               as `STREAM.INFO` has it
//! ```
//!
//! In a request `@N` is the time N seconds after the test began.

use std::fmt::Write as _;

use bytes::Bytes;

use super::super::{DirectGet, Progress, Which, get, info};
use super::World;
use crate::jetstream::api::request::{MessageGetRequest, StreamInfoRequest};
use crate::jetstream::context::Answer;
use crate::time::Duration;

fn body(words: &[&str]) -> Vec<u8> {
    let mut parts = words[1].split('@');
    let mut body = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let end = part.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(part.len());
        let seconds = Duration::from_secs(part[..end].parse().unwrap());
        body += &format!("\"{}\"{}", super::BEGIN + seconds, &part[end..]);
    }
    body.into_bytes()
}

/// Runs a command, if it is one of these.
pub(super) fn command(world: &mut World, words: &[&str], text: &mut String) -> bool {
    match words[0] {
        "get" => {
            let said = match MessageGetRequest::parse(&body(words), true) {
                Err(error) => error.to_string(),
                Ok(request) => match get(&mut world.disk, &Which::of(&request)) {
                    Answer::Wait => "wait".to_owned(),
                    Answer::Ready(None) => "none".to_owned(),
                    Answer::Ready(Some(message)) => {
                        let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                        let (subject, payload) = (text_of(&message.subject), text_of(&message.payload));
                        format!("{} {subject} {payload}", message.sequence)
                    }
                },
            };
            let _ = writeln!(text, "   {said}");
        }
        "direct" => match MessageGetRequest::parse_direct(&body(words)) {
            Ok(request) => {
                world.gets.push(DirectGet::of(&request, Bytes::from_static(b"r"), 1 << 20));
                resume(world, text);
            }
            Err(error) => drop(writeln!(text, "   408 {error}").ok()),
        },
        "resume" => resume(world, text),
        "cold" => world.disk.cold = true,
        "info" => {
            let request = StreamInfoRequest::parse(&body(words), true).unwrap();
            let Answer::Ready((state, page)) = info(&mut world.disk, &request, 3) else {
                panic!("nothing waits")
            };
            let json = |value: Vec<u8>| String::from_utf8(value).unwrap();
            let _ = writeln!(text, "   {}", json(crate::jetstream::api::write::to_json(&state)));
            let _ = writeln!(text, "   {}", json(crate::jetstream::api::write::to_json(&page)));
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
