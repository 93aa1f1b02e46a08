//! The load generator's parts: aligned reads, counting readers, credit for publishers.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::event::epoll;
use rustix::process::{Resource, getrlimit, setrlimit};

/// Bytes taken from a socket at once; more was found not to pay.
pub(super) const READ_SIZE: usize = 64 * 1024;
const PAGE: usize = 4096;

/// A read target that starts on a page: copies out of the kernel are several times dearer elsewhere.
pub(super) struct ReadBuffer {
    memory: Vec<u8>,
    start: usize,
}

impl ReadBuffer {
    pub(super) fn new() -> ReadBuffer {
        let memory = vec![0; READ_SIZE + PAGE];
        let start = memory.as_ptr().align_offset(PAGE);
        ReadBuffer { memory, start }
    }

    pub(super) fn target(&mut self) -> &mut [u8; READ_SIZE] {
        let target = &mut self.memory[self.start..][..READ_SIZE];
        target.try_into().expect("the slice has this length")
    }
}

/// Lets this process and the servers that it starts open as many sockets as the machine allows.
pub(super) fn raise_descriptor_limit() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("RLIMIT_NOFILE")
}

/// What the threads of one case share.
pub(super) struct Progress {
    stop: AtomicBool,
    /// Messages handed to the kernel.
    published: AtomicU64,
    /// Bytes of messages that arrived.
    delivered: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress { stop: AtomicBool::new(false), published: AtomicU64::new(0), delivered: AtomicU64::new(0) }
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn add_published(&self, messages: u64) {
        self.published.fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    pub(super) fn add_delivered(&self, bytes: u64) {
        self.delivered.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Ends the threads of the case at their next step.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Ends all threads of the case at once: those that wait for a socket find it shut down.
    pub(super) fn finish<'a>(&self, streams: impl IntoIterator<Item = &'a TcpStream>) {
        self.stop();
        for stream in streams {
            // Fails only if the peer has closed it already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Turns what a thread met after [`Progress::finish`] into success.
    pub(super) fn unless_stopped<T>(&self, result: io::Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(_) if self.stopped() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Waits for a case's thread, whose panic is ours.
pub(super) fn join<T>(handle: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Follows one connection's deliveries, all of which look like one [`Frame`].
#[derive(Default)]
struct Counter {
    /// Bytes since the connection was opened.
    total: usize,
    /// Whether a whole message has been compared.
    compared: bool,
}

impl Counter {
    /// Checks one message whole, and then one byte for each read: dear checks would be measured too.
    fn take(&mut self, bytes: &[u8], frame: &Frame) -> Result<()> {
        let size = frame.bytes.len();
        let next = self.total.next_multiple_of(size) - self.total;
        self.total += bytes.len();
        let Some(rest) = bytes.get(next..).filter(|rest| !rest.is_empty() && frame.is_checked) else {
            return Ok(());
        };
        let intact = match rest.get(..size) {
            Some(message) if !self.compared => frame.matches(message),
            _ => rest[0] == frame.bytes[0],
        };
        self.compared |= rest.len() >= size;
        ensure!(intact, "unexpected delivery {:?}", String::from_utf8_lossy(&rest[..rest.len().min(80)]));
        Ok(())
    }
}

/// What every delivery of a case looks like.
pub(super) struct Frame {
    pub(super) bytes: Vec<u8>,
    /// Where messages differ from each other; empty if they don't.
    pub(super) varies: Range<usize>,
    /// Whether messages arrive whole: a relay with several senders cuts them anywhere.
    pub(super) is_checked: bool,
}

impl Frame {
    fn matches(&self, message: &[u8]) -> bool {
        let Range { start, end } = self.varies.clone();
        message[..start] == self.bytes[..start] && message[end..] == self.bytes[end..]
    }
}

/// Reads from all `streams` until the case is over, counting into `progress`.
pub(super) fn count_deliveries(streams: &[TcpStream], frame: &Frame, progress: &Progress) -> Result<()> {
    match streams {
        [] => Ok(()),
        [stream] => count_one(stream, frame, progress),
        _ => count_many(streams, frame, progress),
    }
}

fn count_one(mut stream: &TcpStream, frame: &Frame, progress: &Progress) -> Result<()> {
    let (mut buffer, mut counter) = (ReadBuffer::new(), Counter::default());
    while let Some(n) = progress.unless_stopped(stream.read(buffer.target()))? {
        if n == 0 {
            ensure!(progress.stopped(), "the server closed a subscriber");
            break;
        }
        counter.take(&buffer.target()[..n], frame)?;
        progress.add_delivered(n as u64);
    }
    Ok(())
}

fn count_many(streams: &[TcpStream], frame: &Frame, progress: &Progress) -> Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (index, stream) in streams.iter().enumerate() {
        epoll::add(&poll, stream.as_fd(), epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
    }
    let mut counters: Vec<Counter> = streams.iter().map(|_| Counter::default()).collect();
    let mut buffer = ReadBuffer::new();
    let mut events = Vec::with_capacity(256);
    while !progress.stopped() {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None)?;
        let mut bytes = 0;
        for event in &events {
            let index = event.data.u64() as usize;
            let Some(n) = progress.unless_stopped((&streams[index]).read(buffer.target()))? else {
                return Ok(());
            };
            ensure!(n > 0 || progress.stopped(), "the server closed subscriber {index}");
            counters[index].take(&buffer.target()[..n], frame)?;
            bytes += n;
        }
        progress.add_delivered(bytes as u64);
    }
    Ok(())
}

/// Waits until fewer than `limit` bytes of deliveries are under way, or the case is over.
///
/// A publisher without bound would measure how a server treats subscribers that are too slow, which
/// is another question than how much it carries.
pub(super) fn wait_for_credit(progress: &Progress, bytes_each: u64, limit: u64) {
    while !progress.stopped() && progress.published() * bytes_each >= progress.delivered() + limit {
        std::thread::sleep(Duration::from_micros(50));
    }
}
