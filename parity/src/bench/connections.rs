//! Cases about connections and subscriptions rather than messages.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::{Resource, getrlimit};

use super::flow::append_churn;
use super::load::{Progress, join};
use super::target::Running;
use super::{Sample, Window, measure};

/// Connects, says CONNECT and PING, waits for PONG and closes, one connection after the other.
pub(super) fn connect(running: &Running, window: Window) -> Result<Sample> {
    let (progress, made) = (Progress::new(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let connector = scope.spawn(|| {
            while !progress.stopped() {
                drop(running.handshake()?);
                made.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let sample = measure(running, window, || made.load(Ordering::Relaxed));
        progress.stop();
        join(connector)?;
        sample
    })
}

/// How many connections are to be open and silent.
const IDLE: usize = 5000;
/// Descriptors that a process needs for other things.
const SPARE_DESCRIPTORS: u64 = 200;

/// Opens thousands of connections and counts what each adds to the resident memory.
pub(super) fn idle(running: &Running, _: Window) -> Result<Sample> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = IDLE.min(limit.saturating_sub(SPARE_DESCRIPTORS) as usize);
    // The first ones also pay for what all share.
    let first: Vec<_> = (0..10).map(|_| running.handshake()).collect::<Result<_>>()?;
    let (before, started) = (running.usage()?, Instant::now());
    let rest: Vec<_> = (0..count).map(|_| running.handshake()).collect::<Result<_>>()?;
    let elapsed = started.elapsed();
    std::thread::sleep(Duration::from_millis(300));
    let after = running.usage()?;
    ensure!(after.descriptors >= (first.len() + rest.len()) as u64, "the server closed some connections");
    let grown = after.resident.saturating_sub(before.resident);
    let sample = Sample::between(count as u64, elapsed, before, after);
    Ok(Sample { bytes_each: Some(grown as f64 / count as f64), ..sample })
}

/// How many subscriptions start and end between one PING and the next.
const CHURN_BATCH: u64 = 500;

/// Subscribes and unsubscribes as fast as the server follows; an operation is either of the two.
pub(super) fn churn(running: &Running, window: Window) -> Result<Sample> {
    let stream = running.handshake()?;
    let (progress, done) = (Progress::new(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let churner = scope.spawn(|| {
            let (mut stream, mut out, mut pong) = (&stream, Vec::new(), [0; 6]);
            let mut batches = 0;
            while !progress.stopped() {
                out.clear();
                let first = batches * CHURN_BATCH;
                (first..first + CHURN_BATCH).try_for_each(|n| append_churn(&mut out, n))?;
                out.extend_from_slice(b"PING\r\n");
                let mut exchange = stream.write_all(&out);
                // Two batches are under way: the server never waits for the next.
                if batches > 0 {
                    exchange = exchange.and_then(|()| stream.read_exact(&mut pong));
                    done.fetch_add(2 * CHURN_BATCH, Ordering::Relaxed);
                }
                if progress.unless_stopped(exchange)?.is_none() {
                    break;
                }
                ensure!(batches == 0 || &pong == b"PONG\r\n", "{:?}", String::from_utf8_lossy(&pong));
                batches += 1;
            }
            Ok(())
        });
        let sample = measure(running, window, || done.load(Ordering::Relaxed));
        progress.finish([&stream]);
        join(churner)?;
        sample
    })
}
