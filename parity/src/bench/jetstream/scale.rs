//! Many streams, many consumers, and many messages to be found again after a start.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use super::client::Client;
use super::publish::{Publishes, Until, create, load, verify};
use super::{Bench, Sample};
use crate::bench::request::percentiles;
use crate::servers::{Usage, until};

/// Messages that each stream gets in a second.
const TRICKLE: u64 = 1;
/// Streams that the ephemeral consumers are spread over: a stream has 1,000 at most by default.
const CONSUMERS_EACH: u64 = 500;
/// Requests under way while consumers are made.
const CREATIONS: u64 = 64;

/// Publishes to a thousand streams in turn, slowly.
pub(super) fn streams(bench: &mut Bench<'_>) -> Result<Sample> {
    let mut client = bench.client()?;
    let streams = bench.scaled(1000);
    let idle = bench.server.usage()?.resident;
    for n in 0..streams {
        create(&mut client, &format!("S{n}"), &format!("s.{n}"), "file", "")?;
    }
    let run = Publishes {
        in_flight: 1000,
        until: Until::Passed(bench.options.window),
        subject: &|number| format!("s.{}", number % streams),
        sequence: &|number| number / streams + 1,
        pace: Some(streams * TRICKLE),
    };
    let before = bench.server.usage()?;
    let done = run.run(&mut client, &[b'x'; 128])?;
    let after = bench.server.usage()?;
    let mut total = 0;
    for n in 0..streams {
        let info = client.request(&format!("STREAM.INFO.S{n}"), "")?;
        total += info["state"]["messages"].as_u64().context("messages")?;
    }
    ensure!(total == done.count, "{} acknowledged, the streams have {total}", done.count);
    let each = after.resident.saturating_sub(idle) as f64 / streams as f64;
    let sample = Sample::between(done.count, done.elapsed, before, after);
    Ok(Sample { latency: Some(percentiles(&done.latency)), bytes_each: Some(each), ..sample })
}

/// Publishes to a stream with a thousand waiting pull consumers, each of its own subject; counts deliveries.
pub(super) fn consumers(bench: &mut Bench<'_>) -> Result<Sample> {
    let (mut publisher, mut client) = (bench.second_client()?, bench.client()?);
    let consumers = bench.scaled(1000);
    let rounds = (bench.messages() / consumers).max(1);
    create(&mut client, "BENCH", "bench.>", "file", "")?;
    let idle = bench.server.usage()?.resident;
    for n in 0..consumers {
        let config = format!(
            "{{\"stream_name\":\"BENCH\",\"config\":{{\"durable_name\":\"C{n}\",\"ack_policy\":\"explicit\",\
             \"filter_subject\":\"bench.{n}\",\"ack_wait\":300000000000}}}}"
        );
        client.request(&format!("CONSUMER.DURABLE.CREATE.BENCH.C{n}"), &config)?;
        let pull = format!("{{\"batch\":{rounds},\"expires\":300000000000}}");
        client.publish(
            &format!("$JS.API.CONSUMER.MSG.NEXT.BENCH.C{n}"),
            &format!("_INBOX.bench.c.{n}"),
            pull.as_bytes(),
        );
    }
    // Answered after the pulls before it.
    client.request("INFO", "")?;
    let total = rounds * consumers;
    let (before, started) = (bench.server.usage()?, Instant::now());
    let seen = std::thread::scope(|scope| -> Result<BTreeMap<String, u64>> {
        let publishing = scope.spawn(|| {
            let run = Publishes {
                in_flight: 1000,
                until: Until::Count(total),
                subject: &|number| format!("bench.{}", number % consumers),
                sequence: &|number| number + 1,
                pace: None,
            };
            run.run(&mut publisher, &[b'x'; 128])
        });
        let received = receive_and_acknowledge(&mut client, total);
        publishing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        received
    })?;
    let (elapsed, after) = (started.elapsed(), bench.server.usage()?);
    ensure!(seen.len() as u64 == consumers, "{} of {consumers} subjects were delivered", seen.len());
    ensure!(seen.values().all(|count| *count == rounds), "not {rounds} of every subject: {seen:?}");
    let each = after.resident.saturating_sub(idle) as f64 / consumers as f64;
    Ok(Sample { bytes_each: Some(each), ..Sample::between(total, elapsed, before, after) })
}

/// Returns how many messages of each subject came.
fn receive_and_acknowledge(client: &mut Client, total: u64) -> Result<BTreeMap<String, u64>> {
    let mut seen = BTreeMap::new();
    let mut received = 0;
    while received < total {
        while let Some(incoming) = client.buffered()? {
            let reply = client.reply(&incoming)?.to_owned();
            ensure!(reply.starts_with("$JS.ACK."), "{reply:?} {:?}", client.header(&incoming)?);
            *seen.entry(client.subject(&incoming)?.to_owned()).or_insert(0) += 1;
            client.out.extend_from_slice(format!("PUB {reply} 4\r\n+ACK\r\n").as_bytes());
            received += 1;
        }
        client.flush()?;
        if received < total {
            client.fill().with_context(|| format!("{received} of {total} delivered"))?;
        }
    }
    Ok(seen)
}

/// Makes thousands of ephemeral consumers, as clients make them that watch or read in order.
pub(super) fn ephemerals(bench: &mut Bench<'_>) -> Result<Sample> {
    let mut client = bench.client()?;
    let total = bench.scaled(20_000);
    let streams = total.div_ceil(CONSUMERS_EACH);
    for n in 0..streams {
        create(&mut client, &format!("S{n}"), &format!("s.{n}"), "file", "")?;
    }
    let idle = bench.server.usage()?;
    let (started, mut asked, mut made) = (Instant::now(), 0, 0);
    while made < total {
        while asked < total && asked - made < CREATIONS {
            let n = asked % streams;
            let config = format!(
                "{{\"stream_name\":\"S{n}\",\"config\":{{\"ack_policy\":\"explicit\",\"mem_storage\":true,\
                 \"num_replicas\":1,\"inactive_threshold\":600000000000}}}}"
            );
            client.publish(&format!("$JS.API.CONSUMER.CREATE.S{n}"), "_INBOX.bench.e", config.as_bytes());
            asked += 1;
        }
        client.flush()?;
        client.fill().with_context(|| format!("{made} of {total} made"))?;
        while let Some(incoming) = client.buffered()? {
            client.answer(&incoming)?;
            made += 1;
        }
    }
    let (elapsed, after) = (started.elapsed(), bench.server.usage()?);
    let mut found = 0;
    for n in 0..streams {
        let info = client.request(&format!("STREAM.INFO.S{n}"), "")?;
        found += info["state"]["consumer_count"].as_u64().context("consumer_count")?;
    }
    ensure!(found == total, "{total} made, {found} there");
    let each = after.resident.saturating_sub(idle.resident) as f64 / total as f64;
    Ok(Sample { bytes_each: Some(each), ..Sample::between(total, elapsed, idle, after) })
}

/// How long a server may take until it has its messages again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(120);

/// Ends the server with this signal and measures from its start until every message is there again.
///
/// `bytes_each` is what a message takes on disk while the server is down.
pub(super) fn recover(bench: &mut Bench<'_>, signal: Signal) -> Result<Sample> {
    let count = bench.options.recover_messages;
    load(&mut bench.client()?, count)?;
    bench.server.signal(signal)?;
    bench.server.wait(Duration::from_secs(60))?;
    let disk = bytes_on_disk(&bench.server.dir().join("store"))?;
    let started = Instant::now();
    bench.server.restart()?;
    let mut client = bench.client()?;
    let recovered = until(RECOVERY_LIMIT, || Ok(has_all(&mut client, count).ok()))?;
    let (elapsed, after) = (started.elapsed(), bench.server.usage()?);
    if recovered.is_none() {
        bail!("not recovered after {RECOVERY_LIMIT:?}: {:?}", has_all(&mut client, count));
    }
    let sample = Sample::between(count, elapsed, Usage::default(), after);
    Ok(Sample { bytes_each: Some(disk as f64 / count as f64), ..sample })
}

/// Fails unless the stream is whole and its first and last messages can be read.
fn has_all(client: &mut Client, count: u64) -> Result<()> {
    verify(client, "BENCH", count)?;
    for sequence in [1, count] {
        let got = client.request("STREAM.MSG.GET.BENCH", &format!("{{\"seq\":{sequence}}}"))?;
        ensure!(got["message"]["seq"] == sequence, "{got}");
    }
    Ok(())
}

/// Returns what the files below a folder occupy.
fn bytes_on_disk(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        // `blocks` counts 512 bytes each, whatever the file system's own are.
        total += if metadata.is_dir() { bytes_on_disk(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(total)
}
