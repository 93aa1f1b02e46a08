//! Requests and their replies, and pings: cases with a fixed number of operations under way.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use super::load::{Progress, ReadBuffer, join};
use super::relay::Role;
use super::target::Running;
use super::{Percentiles, Sample, Window, measure};

/// Digits of a request's number, which is all that differs between requests.
const DIGITS: usize = 8;

/// A message whose only varying part is a number of [`DIGITS`] digits.
struct Template {
    bytes: Vec<u8>,
    number_at: usize,
}

impl Template {
    /// Makes a template of text in which `########` stands for the number.
    fn new(text: &str) -> Template {
        let number_at = text.find("########").expect("a place for the number");
        Template { bytes: text.as_bytes().to_vec(), number_at }
    }

    fn append(&self, number: &[u8], out: &mut Vec<u8>) {
        let start = out.len() + self.number_at;
        out.extend_from_slice(&self.bytes);
        out[start..start + DIGITS].copy_from_slice(number);
    }

    fn number<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        &message[self.number_at..][..DIGITS]
    }
}

/// Requests and replies as they are sent and as they arrive.
///
/// Each request has an inbox subject of its own, as every client library does it: a server's cache of
/// subjects can't help there, and must not be hurt either.
struct Exchange {
    request: Template,
    request_arrives: Template,
    reply: Template,
    reply_arrives: Template,
}

impl Exchange {
    fn new(running: &Running) -> Exchange {
        let request_arrives = "MSG bench.service 1 _INBOX.bench.######## 16\r\n0123456789abcdef\r\n";
        let reply_arrives = "MSG _INBOX.bench.######## 1 16\r\nfedcba9876543210\r\n";
        let (request, reply) = if running.speaks_nats() {
            (
                "PUB bench.service _INBOX.bench.######## 16\r\n0123456789abcdef\r\n",
                "PUB _INBOX.bench.######## 16\r\nfedcba9876543210\r\n",
            )
        } else {
            (request_arrives, reply_arrives)
        };
        let [request, request_arrives, reply, reply_arrives] =
            [request, request_arrives, reply, reply_arrives].map(Template::new);
        Exchange { request, request_arrives, reply, reply_arrives }
    }
}

/// Keeps `in_flight` requests under way from one connection to a responder on another.
pub(super) fn request(running: &Running, window: Window, in_flight: usize) -> Result<Sample> {
    let exchange = Exchange::new(running);
    let responder = running.open(Role::Receiver, &["bench.service 1".to_owned()])?;
    let requester = running.open(Role::Sender, &["_INBOX.bench.* 1".to_owned()])?;
    let (progress, watch) = (Progress::new(), Watch::default());
    std::thread::scope(|scope| {
        let respond = scope.spawn(|| respond(&responder, &exchange, &progress));
        let ask = scope.spawn(|| ask(&requester, &exchange, in_flight, &progress, &watch));
        let sample = measure(running, window, || watch.mark());
        progress.finish([&responder, &requester]);
        let (responded, asked) = (join(respond), join(ask));
        responded?;
        Ok(Sample { latency: Some(percentiles(&asked?)), ..sample? })
    })
}

/// Answers every PING of one connection with the next.
pub(super) fn ping(running: &Running, window: Window) -> Result<Sample> {
    let stream = running.open(Role::Sender, &[])?;
    let (progress, watch) = (Progress::new(), Watch::default());
    std::thread::scope(|scope| {
        let pinger = scope.spawn(|| {
            let (mut stream, mut answer) = (&stream, [0; 6]);
            let mut histogram = histogram()?;
            while !progress.stopped() {
                let asked = Instant::now();
                let exchange = stream.write_all(b"PING\r\n").and_then(|()| stream.read_exact(&mut answer));
                if progress.unless_stopped(exchange)?.is_none() {
                    break;
                }
                watch.record(&mut histogram, asked, Instant::now())?;
            }
            Ok(histogram)
        });
        let sample = measure(running, window, || watch.mark());
        progress.finish([&stream]);
        let histogram = join(pinger)?;
        Ok(Sample { latency: Some(percentiles(&histogram)), ..sample? })
    })
}

/// What the measuring and the asking thread tell each other.
#[derive(Default)]
struct Watch {
    done: AtomicU64,
    /// Whether the warm-up is over.
    counts: AtomicBool,
}

impl Watch {
    /// Returns how many are done; called at both ends of the measurement.
    fn mark(&self) -> u64 {
        self.counts.fetch_xor(true, Ordering::Relaxed);
        self.done.load(Ordering::Relaxed)
    }

    fn record(&self, histogram: &mut Histogram<u64>, asked: Instant, answered: Instant) -> Result<()> {
        self.done.fetch_add(1, Ordering::Relaxed);
        if self.counts.load(Ordering::Relaxed) {
            histogram.record((answered - asked).as_nanos() as u64)?;
        }
        Ok(())
    }
}

fn respond(mut stream: &TcpStream, exchange: &Exchange, progress: &Progress) -> Result<()> {
    let mut requests = Messages::new(&exchange.request_arrives);
    let mut out = Vec::new();
    while let Some(batch) = requests.read(stream, progress)? {
        out.clear();
        batch.for_each(|number| exchange.reply.append(number, &mut out));
        if progress.unless_stopped(stream.write_all(&out))?.is_none() {
            break;
        }
    }
    Ok(())
}

fn ask(
    mut stream: &TcpStream,
    exchange: &Exchange,
    in_flight: usize,
    progress: &Progress,
    watch: &Watch,
) -> Result<Histogram<u64>> {
    let mut histogram = histogram()?;
    let mut replies = Messages::new(&exchange.reply_arrives);
    // A request's slot is its number modulo the number in flight only as long as replies come in order;
    // twice that many slots, and a number that has to fit, catch a server that breaks the order.
    let mut asked_at = vec![Instant::now(); in_flight * 2];
    let (mut next, mut answered, mut out) = (0_usize, 0_usize, Vec::new());
    let mut due = in_flight;
    while !progress.stopped() {
        out.clear();
        let now = Instant::now();
        for _ in 0..due {
            asked_at[next % (in_flight * 2)] = now;
            exchange.request.append(format!("{next:08}").as_bytes(), &mut out);
            next += 1;
        }
        if progress.unless_stopped(stream.write_all(&out))?.is_none() {
            break;
        }
        let Some(batch) = replies.read(stream, progress)? else { break };
        let now = Instant::now();
        due = 0;
        for number in batch {
            let expected = format!("{answered:08}");
            ensure!(number == expected.as_bytes(), "reply {number:?} instead of {expected}");
            watch.record(&mut histogram, asked_at[answered % (in_flight * 2)], now)?;
            answered += 1;
            due += 1;
        }
    }
    Ok(histogram)
}

/// Cuts what a connection receives into messages of one template.
struct Messages<'a> {
    template: &'a Template,
    buffer: ReadBuffer,
    /// The bytes in `buffer` that are a message's beginning.
    partial: usize,
    /// How many bytes of `buffer` were given out by the last read.
    given: usize,
}

impl<'a> Messages<'a> {
    fn new(template: &'a Template) -> Self {
        Messages { template, buffer: ReadBuffer::new(), partial: 0, given: 0 }
    }

    /// Returns the numbers of the messages that one read completes, perhaps none; `None` when the case is over.
    fn read(
        &mut self,
        mut stream: &TcpStream,
        progress: &Progress,
    ) -> Result<Option<impl Iterator<Item = &[u8]>>> {
        let size = self.template.bytes.len();
        let target = self.buffer.target();
        target.copy_within(self.given..self.given + self.partial, 0);
        let Some(n) = progress.unless_stopped(stream.read(&mut target[self.partial..]))? else {
            return Ok(None);
        };
        if n == 0 {
            ensure!(progress.stopped(), "the server closed a connection");
            return Ok(None);
        }
        let filled = self.partial + n;
        self.given = filled - filled % size;
        self.partial = filled % size;
        let first = target[..self.given.min(size)].iter().zip(&self.template.bytes);
        let differs = first.into_iter().any(|(got, expected)| got != expected && *expected != b'#');
        ensure!(
            !differs,
            "unexpected delivery {:?}",
            String::from_utf8_lossy(&target[..self.given.min(size)])
        );
        Ok(Some(target[..self.given].chunks_exact(size).map(|message| self.template.number(message))))
    }
}

pub(super) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

pub(super) fn percentiles(histogram: &Histogram<u64>) -> Percentiles {
    let at = |quantile| histogram.value_at_quantile(quantile);
    Percentiles { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
}
