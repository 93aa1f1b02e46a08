//! Publishing: every message is acknowledged, with the sequence that it must have.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::client::Client;
use super::{Bench, Sample};
use crate::bench::request::{histogram, percentiles};

/// Where a run of publishes ends.
#[derive(Clone, Copy)]
pub(super) enum Until {
    Count(u64),
    Passed(Duration),
}

/// A run of publishes into one or many streams.
pub(super) struct Publishes<'a> {
    pub(super) in_flight: u64,
    pub(super) until: Until,
    /// Returns the subject of the message with this number.
    pub(super) subject: &'a dyn Fn(u64) -> String,
    /// Returns the sequence that the message with this number must get.
    pub(super) sequence: &'a dyn Fn(u64) -> u64,
    /// Messages a second at most.
    pub(super) pace: Option<u64>,
}

/// What a run of publishes came to.
pub(super) struct Published {
    pub(super) count: u64,
    pub(super) elapsed: Duration,
    pub(super) latency: hdrhistogram::Histogram<u64>,
}

impl Publishes<'_> {
    /// Publishes and returns once all is acknowledged.
    pub(super) fn run(&self, client: &mut Client, payload: &[u8]) -> Result<Published> {
        let mut latency = histogram()?;
        let inbox = format!("{}.p.", client.inbox);
        let started = Instant::now();
        let slots = self.in_flight as usize;
        let mut asked_at = vec![started; slots];
        // A slot is a message that is under way; its number is in the reply subject.
        let mut under_way: Vec<Option<u64>> = vec![None; slots];
        let mut free: Vec<usize> = (0..slots).rev().collect();
        let (mut sent, mut acknowledged) = (0, 0);
        loop {
            let elapsed = started.elapsed();
            let is_over = match self.until {
                Until::Count(count) => sent == count,
                Until::Passed(limit) => elapsed >= limit,
            };
            if is_over && acknowledged == sent {
                return Ok(Published { count: sent, elapsed: started.elapsed(), latency });
            }
            let mut due = if is_over { 0 } else { free.len() as u64 };
            if let Until::Count(count) = self.until {
                due = due.min(count - sent);
            }
            if let Some(pace) = self.pace {
                due = due.min(((elapsed.as_secs_f64() * pace as f64) as u64 + 1).saturating_sub(sent));
            }
            let now = Instant::now();
            for slot in free.split_off(free.len() - due as usize) {
                client.publish(&(self.subject)(sent), &format!("{inbox}{slot}"), payload);
                (asked_at[slot], under_way[slot]) = (now, Some(sent));
                sent += 1;
            }
            client.flush()?;
            if acknowledged == sent {
                // Only a paced run has nothing to wait for but the time of its next message.
                if let Some(pace) = self.pace {
                    let next = Duration::from_secs_f64(sent as f64 / pace as f64);
                    std::thread::sleep(next.saturating_sub(started.elapsed()));
                }
                continue;
            }
            client.fill()?;
            let now = Instant::now();
            while let Some(incoming) = client.buffered()? {
                let Some(slot) = client.subject(&incoming)?.strip_prefix(&inbox) else { continue };
                let slot: usize = slot.parse()?;
                let number = under_way[slot].take();
                let got = client.sequence(&incoming)?;
                let expected = number.map(self.sequence);
                ensure!(expected == Some(got), "message {number:?} has sequence {got} for {expected:?}");
                latency.record((now - asked_at[slot]).as_nanos() as u64)?;
                free.push(slot);
                acknowledged += 1;
            }
        }
    }
}

/// Makes a stream of one subject.
pub(super) fn create(
    client: &mut Client,
    name: &str,
    subjects: &str,
    storage: &str,
    rest: &str,
) -> Result<()> {
    let config =
        format!("{{\"name\":\"{name}\",\"subjects\":[\"{subjects}\"],\"storage\":\"{storage}\"{rest}}}");
    client.request(&format!("STREAM.CREATE.{name}"), &config)?;
    Ok(())
}

/// Fails unless the stream has exactly this many messages.
pub(super) fn verify(client: &mut Client, stream: &str, messages: u64) -> Result<()> {
    let info = client.request(&format!("STREAM.INFO.{stream}"), "")?;
    let state = &info["state"];
    let (has, last) = (state["messages"].as_u64(), state["last_seq"].as_u64());
    ensure!(
        has == Some(messages) && last == Some(messages),
        "{messages} acknowledged, the stream has {state}"
    );
    Ok(())
}

/// Publishes `count` messages of 128 bytes to `bench.one`, as preparation.
pub(super) fn load(client: &mut Client, count: u64) -> Result<()> {
    create(client, "BENCH", "bench.>", "file", "")?;
    let run = Publishes {
        in_flight: 1000,
        until: Until::Count(count),
        subject: &|_| "bench.one".to_owned(),
        sequence: &|number| number + 1,
        pace: None,
    };
    run.run(client, &[b'x'; 128])?;
    verify(client, "BENCH", count)
}

/// Publishes for the time that a round takes.
pub(super) fn publish(bench: &mut Bench<'_>, storage: &str, in_flight: u64, size: usize) -> Result<Sample> {
    let mut client = bench.client()?;
    let idle = bench.server.usage()?.resident;
    create(&mut client, "BENCH", "bench.>", storage, "")?;
    let payload = vec![b'x'; size];
    let mut run = |first: u64, limit| {
        let run = Publishes {
            in_flight,
            until: Until::Passed(limit),
            subject: &|_| "bench.one".to_owned(),
            sequence: &|number| first + number + 1,
            pace: None,
        };
        run.run(&mut client, &payload)
    };
    let warm = run(0, bench.options.window / 4)?;
    let before = bench.server.usage()?;
    let done = run(warm.count, bench.options.window)?;
    let after = bench.server.usage()?;
    let count = warm.count + done.count;
    verify(&mut client, "BENCH", count)?;
    // Who is faster has more messages in memory at the end: what each takes can be compared.
    let each = after.resident.saturating_sub(idle) as f64 / count as f64;
    let bytes_each = (storage == "memory").then_some(each);
    let sample = Sample::between(done.count, done.elapsed, before, after);
    Ok(Sample { latency: Some(percentiles(&done.latency)), bytes_each, ..sample })
}

/// Publishes into four streams for the time that a round takes, each by a client of its own.
pub(super) fn publish_many(bench: &mut Bench<'_>) -> Result<Sample> {
    const INBOXES: [&str; 4] = ["_INBOX.a", "_INBOX.b", "_INBOX.c", "_INBOX.d"];
    let address = bench.server.address();
    let mut clients: Vec<Client> =
        INBOXES.into_iter().map(|inbox| Client::connect(address, inbox)).collect::<Result<_>>()?;
    for (at, client) in clients.iter_mut().enumerate() {
        create(client, &format!("BENCH{at}"), &format!("bench{at}.>"), "file", "")?;
    }
    let mut round = |first: &[u64], limit| -> Result<Vec<Published>> {
        let run = |(at, client): (usize, &mut Client)| -> Result<Published> {
            let run = Publishes {
                in_flight: 250,
                until: Until::Passed(limit),
                subject: &|_| format!("bench{at}.one"),
                sequence: &|number| first[at] + number + 1,
                pace: None,
            };
            run.run(client, &[b'x'; 128])
        };
        let run = &run;
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                clients.iter_mut().enumerate().map(|each| scope.spawn(move || run(each))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a client doesn't panic")).collect()
        })
    };
    let warm = round(&[0; 4], bench.options.window / 4)?;
    let first: Vec<u64> = warm.iter().map(|published| published.count).collect();
    let before = bench.server.usage()?;
    let done = round(&first, bench.options.window)?;
    let after = bench.server.usage()?;
    for (at, client) in clients.iter_mut().enumerate() {
        verify(client, &format!("BENCH{at}"), first[at] + done[at].count)?;
    }
    let elapsed = done.iter().map(|published| published.elapsed).max().unwrap_or_default();
    let mut latency = histogram()?;
    for published in &done {
        latency.add(&published.latency)?;
    }
    let count = done.iter().map(|published| published.count).sum();
    let sample = Sample::between(count, elapsed, before, after);
    Ok(Sample { latency: Some(percentiles(&latency)), ..sample })
}
