//! Cases in which publishers send as fast as the server takes it, with or without subscribers.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::load::{Frame, Progress, count_deliveries, join, wait_for_credit};
use super::relay::Role;
use super::target::{Running, settle};
use super::{Sample, Window, measure};

/// How many bytes a publisher writes at once, about.
const WRITE_SIZE: usize = 64 * 1024;
/// Bytes of deliveries under way to one subscriber, at most: enough to never run dry, little enough to
/// stay far from any server's limit for slow consumers.
const UNDER_WAY: u64 = 4 * 1024 * 1024;

/// A stream of equal messages from publishers to subscribers.
pub(super) struct Flow {
    /// What a publisher sends again and again: whole messages, each `published_size` long.
    published: Vec<u8>,
    published_size: usize,
    delivered: Frame,
    publishers: usize,
    /// What each receiving connection subscribes to.
    subscribers: Vec<Vec<String>>,
    /// How many connections get each message.
    fan_out: u64,
    messages_per_write: usize,
    is_churned: bool,
}

impl Flow {
    /// One publisher and no subscriber; messages of `size` bytes.
    pub(super) fn publish_only(size: usize) -> Flow {
        let payload = payload(size);
        let publish = format!("PUB bench.one {size}\r\n{payload}\r\n");
        Flow::of(&publish, &format!("MSG bench.one 1 {size}\r\n{payload}\r\n"))
    }

    /// One publisher to one subscriber.
    pub(super) fn one_to_one(size: usize) -> Flow {
        Flow::publish_only(size).received_by(1, 1)
    }

    /// As [`Flow::one_to_one`], each message with two headers in front of its `size` bytes.
    pub(super) fn with_headers(size: usize) -> Flow {
        let (headers, payload) =
            ("NATS/1.0\r\nTrace: 4bf92f3577b34da6\r\nKind: bench\r\n\r\n", payload(size));
        let total = headers.len() + size;
        let rest = format!("{} {total}\r\n{headers}{payload}\r\n", headers.len());
        let flow = Flow::of(&format!("HPUB bench.one {rest}"), &format!("HMSG bench.one 1 {rest}"));
        flow.received_by(1, 1)
    }

    /// Several publishers on one subject to several subscribers, each of which gets everything.
    pub(super) fn all_to_all(publishers: usize, subscribers: usize, size: usize) -> Flow {
        Flow { publishers, ..Flow::publish_only(size).received_by(subscribers, subscribers as u64) }
    }

    /// One publisher to this many connections.
    pub(super) fn fan_out(subscribers: usize, size: usize) -> Flow {
        let mut flow = Flow::all_to_all(1, subscribers, size);
        // A write of 64 KiB to a thousand connections would keep 64 MB under way.
        if subscribers > 100 {
            flow.messages_per_write = (16 * 1024 / flow.published_size).max(1);
        }
        flow
    }

    /// One publisher to a queue group of this many connections.
    pub(super) fn queue(members: usize, size: usize) -> Flow {
        let mut flow = Flow::publish_only(size).received_by(members, 1);
        flow.subscribers
            .iter_mut()
            .for_each(|subscriptions| *subscriptions = vec!["bench.one group 1".into()]);
        flow
    }

    /// One publisher over as many subjects as the one subscriber has wildcard subscriptions.
    pub(super) fn wildcards(subscriptions: usize, size: usize) -> Flow {
        let payload = payload(size);
        let deliver = |n: usize| format!("MSG w.{n:06}.x {:06} {size}\r\n{payload}\r\n", 100_000 + n);
        let publish = |n: usize| format!("PUB w.{n:06}.x {size}\r\n{payload}\r\n");
        let mut flow = Flow::of(&publish(0), &deliver(0)).received_by(1, 1);
        flow.delivered.varies = "MSG w.".len().."MSG w.000000.x 100000".len();
        flow.subscribers = vec![(0..subscriptions).map(|n| format!("w.{n:06}.* {}", 100_000 + n)).collect()];
        // A step that shares no factor with the number visits every subject, and neighbours never in turn.
        flow.published =
            (0..subscriptions).flat_map(|n| publish(n * 7919 % subscriptions).into_bytes()).collect();
        flow
    }

    /// The same, while somebody else subscribes and unsubscribes all the time.
    pub(super) fn churned(self) -> Flow {
        Flow { is_churned: true, ..self }
    }

    fn of(publish: &str, deliver: &str) -> Flow {
        let messages_per_write = (WRITE_SIZE / publish.len()).max(1);
        Flow {
            published: publish.repeat(messages_per_write).into_bytes(),
            published_size: publish.len(),
            delivered: Frame { bytes: deliver.into(), varies: 0..0, is_checked: true },
            publishers: 1,
            subscribers: Vec::new(),
            fan_out: 1,
            messages_per_write,
            is_churned: false,
        }
    }

    fn received_by(mut self, connections: usize, fan_out: u64) -> Flow {
        self.subscribers = vec![vec!["bench.one 1".to_owned()]; connections];
        self.fan_out = fan_out;
        self
    }

    /// Changes what is sent into what a server would send on, which is what a relay is given.
    fn for_relay(mut self) -> Flow {
        self.published = self.delivered.bytes.repeat(self.messages_per_write);
        self.published_size = self.delivered.bytes.len();
        self.delivered.is_checked = false;
        self
    }

    /// Runs the flow and counts what arrives, or what is taken if nobody subscribes.
    pub(super) fn run(self, running: &Running, window: Window) -> Result<Sample> {
        let flow = if running.speaks_nats() { self } else { self.for_relay() };
        let open = |subscriptions: &Vec<String>| running.open(Role::Receiver, subscriptions);
        let receivers: Vec<TcpStream> = flow.subscribers.iter().map(open).collect::<Result<_>>()?;
        let open = |_| running.open(Role::Sender, &[]);
        let mut senders: Vec<TcpStream> = (0..flow.publishers).map(open).collect::<Result<_>>()?;
        let churner = (flow.is_churned && running.speaks_nats()).then(|| running.handshake()).transpose()?;
        let progress = Progress::new();
        let sample = std::thread::scope(|scope| {
            let (flow, progress) = (&flow, &progress);
            let mut threads = vec![scope.spawn(|| count_deliveries(&receivers, &flow.delivered, progress))];
            threads.extend(senders.iter().map(|stream| scope.spawn(|| flow.publish(stream, progress))));
            threads.extend(churner.as_ref().map(|stream| scope.spawn(|| churn(stream, progress))));
            let sample = measure(running, window, || flow.operations(progress));
            progress.stop();
            if !receivers.is_empty() {
                progress.finish(receivers.iter().chain(&senders).chain(&churner));
            }
            // A thread's failure explains a failed measurement, so it is told first.
            threads.into_iter().try_for_each(join)?;
            sample
        })?;
        if receivers.is_empty() && running.speaks_nats() {
            // What was taken must also have been understood.
            senders.iter_mut().try_for_each(settle)?;
        }
        Ok(sample)
    }

    fn operations(&self, progress: &Progress) -> u64 {
        match self.subscribers.len() {
            0 => progress.published(),
            _ => progress.delivered() / self.delivered.bytes.len() as u64,
        }
    }

    fn publish(&self, mut stream: &TcpStream, progress: &Progress) -> Result<()> {
        let bytes_each = self.fan_out * self.delivered.bytes.len() as u64;
        let batch = self.messages_per_write * self.delivered.bytes.len();
        // Two batches at least, or the server would wait for its publisher.
        let limit = self.fan_out * UNDER_WAY.min(WIDE_UNDER_WAY / self.fan_out).max(2 * batch as u64);
        for writes in self.published.chunks(self.published_size * self.messages_per_write).cycle() {
            if !self.subscribers.is_empty() {
                wait_for_credit(progress, bytes_each, limit);
            }
            if progress.stopped() || progress.unless_stopped(stream.write_all(writes))?.is_none() {
                break;
            }
            progress.add_published((writes.len() / self.published_size) as u64);
        }
        Ok(())
    }
}

/// Bytes of deliveries under way to all subscribers together.
const WIDE_UNDER_WAY: u64 = 64 * 1024 * 1024;

/// How many subscriptions a churning connection has at any time.
const CHURN_HELD: u64 = 1000;

/// Appends subscription number `n` to other subjects than the measured one, half of them inboxes, and
/// the end of the one that is no longer held.
pub(super) fn append_churn(out: &mut Vec<u8>, n: u64) -> std::io::Result<()> {
    if n.is_multiple_of(2) {
        write!(out, "SUB bench.other.{n} {n}\r\n")?;
    } else {
        write!(out, "SUB _INBOX.bench{n}.* {n}\r\n")?;
    }
    match n.checked_sub(CHURN_HELD) {
        Some(old) => write!(out, "UNSUB {old}\r\n"),
        None => Ok(()),
    }
}

/// Subscribes and unsubscribes at a fixed rate, 10,000 of each in a second.
///
/// The rate is not the server's choice: a faster server would otherwise have more to do.
fn churn(mut stream: &TcpStream, progress: &Progress) -> Result<()> {
    let (started, mut n, mut out) = (Instant::now(), 0, Vec::new());
    while !progress.stopped() {
        let due = started.elapsed().as_micros() as u64 / 100;
        out.clear();
        while n < due {
            append_churn(&mut out, n)?;
            n += 1;
        }
        if progress.unless_stopped(stream.write_all(&out))?.is_none() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Text that no protocol line is made of.
fn payload(size: usize) -> String {
    "0123456789abcdef".chars().cycle().take(size).collect()
}
