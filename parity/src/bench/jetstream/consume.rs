//! Reading: every message of a stream comes, once and where order is promised in order.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::client::{Client, Incoming};
use super::publish::{Publishes, Until, create, load, verify};
use super::{Bench, Sample};
use crate::bench::request::{histogram, percentiles};
use crate::servers::until;

/// How many messages a pull asks for.
const BATCH: u64 = 500;

/// Reads the stream's sequence from the reply subject of a delivery, in either of its forms.
fn stream_sequence(client: &Client, incoming: &Incoming) -> Result<u64> {
    let reply = client.reply(incoming)?;
    let words: Vec<&str> = reply.split('.').collect();
    // $JS.ACK.STREAM.CONSUMER.DELIVERED.SSEQ.CSEQ.TIME.PENDING; the second form has domain and account first.
    let at = if words.len() < 11 { 5 } else { 7 };
    let word = words.get(at).filter(|_| reply.starts_with("$JS.ACK."));
    word.and_then(|word| word.parse().ok()).with_context(|| {
        format!(
            "a delivery with reply {reply:?} and header {:?}",
            client.header(incoming).unwrap_or_default()
        )
    })
}

/// Fetches 500 at a time, acknowledges each message, then fetches again.
pub(super) fn fetch(bench: &mut Bench<'_>) -> Result<Sample> {
    let mut client = bench.client()?;
    let count = bench.messages();
    load(&mut client, count)?;
    let config = "{\"stream_name\":\"BENCH\",\"config\":{\"durable_name\":\"C\",\"ack_policy\":\"explicit\",\
        \"ack_wait\":300000000000,\"max_ack_pending\":10000}}";
    client.request("CONSUMER.DURABLE.CREATE.BENCH.C", config)?;
    let mut seen = vec![false; count as usize + 1];
    let (before, started) = (bench.server.usage()?, Instant::now());
    let mut received = 0;
    while received < count {
        let batch = BATCH.min(count - received);
        let body = format!("{{\"batch\":{batch},\"expires\":30000000000}}");
        client.publish("$JS.API.CONSUMER.MSG.NEXT.BENCH.C", "_INBOX.bench.f", body.as_bytes());
        client.flush()?;
        for _ in 0..batch {
            let incoming = client.next()?;
            let sequence = stream_sequence(&client, &incoming)?;
            let place = seen.get_mut(sequence as usize).context("a sequence that was never published")?;
            ensure!(!std::mem::replace(place, true), "message {sequence} came twice");
            let reply = client.reply(&incoming)?.to_owned();
            client.out.extend_from_slice(format!("PUB {reply} 4\r\n+ACK\r\n").as_bytes());
        }
        received += batch;
    }
    client.flush()?;
    // The last acknowledgement counts when the consumer has it.
    let settled = until(Duration::from_secs(20), || {
        let info = client.request("CONSUMER.INFO.BENCH.C", "")?;
        let is = |name: &str, value: u64| info[name].as_u64() == Some(value);
        Ok((is("num_ack_pending", 0) && is("num_pending", 0) && info["ack_floor"]["stream_seq"] == count)
            .then_some(()))
    })?;
    let (elapsed, after) = (started.elapsed(), bench.server.usage()?);
    if settled.is_none() {
        bail!("not all is acknowledged: {}", client.request("CONSUMER.INFO.BENCH.C", "")?);
    }
    Ok(Sample::between(count, elapsed, before, after))
}

/// Reads all with a consumer as an ordered client makes it: push, no acknowledgements, flow control.
pub(super) fn read_back(bench: &mut Bench<'_>) -> Result<Sample> {
    let mut client = bench.client()?;
    let count = bench.messages();
    load(&mut client, count)?;
    let (before, started) = (bench.server.usage()?, Instant::now());
    let config = "{\"stream_name\":\"BENCH\",\"config\":{\"deliver_subject\":\"_DELIVER.bench\",\
        \"ack_policy\":\"none\",\"max_deliver\":1,\"flow_control\":true,\"idle_heartbeat\":5000000000,\
        \"mem_storage\":true,\"num_replicas\":1,\"inactive_threshold\":300000000000,\"ack_wait\":79200000000000}}";
    // With nothing but a wildcard subscription the Go server was seen to deliver nothing here.
    client.out.extend_from_slice(b"SUB _DELIVER.bench 2\r\n");
    client.publish("$JS.API.CONSUMER.CREATE.BENCH", "_INBOX.bench.created", config.as_bytes());
    client.flush()?;
    let mut last = 0;
    while last < count {
        let incoming = client.next().with_context(|| format!("{last} of {count} read"))?;
        if client.subject(&incoming)? == "_INBOX.bench.created" {
            client.answer(&incoming)?;
            continue;
        }
        if let Some(control) = flow_control(&client, &incoming)? {
            if !control.is_empty() {
                client.out.extend_from_slice(format!("PUB {control} 0\r\n\r\n").as_bytes());
                client.flush()?;
            }
            continue;
        }
        let sequence = stream_sequence(&client, &incoming)?;
        ensure!(sequence == last + 1, "message {sequence} came after {last}");
        ensure!(client.payload(&incoming).len() == 128, "message {sequence} has another payload");
        last = sequence;
    }
    Ok(Sample::between(count, started.elapsed(), before, bench.server.usage()?))
}

/// Returns where a status asks to be answered, empty if nowhere; `None` for a message.
fn flow_control(client: &Client, incoming: &Incoming) -> Result<Option<String>> {
    let header = client.header(incoming)?;
    if !header.starts_with("NATS/1.0 ") {
        return Ok(None);
    }
    ensure!(header.starts_with("NATS/1.0 100"), "status {header:?}");
    let stalled = header.lines().find_map(|line| line.strip_prefix("Nats-Consumer-Stalled: "));
    Ok(Some(stalled.unwrap_or(client.reply(incoming)?).to_owned()))
}

fn create_bucket(client: &mut Client) -> Result<()> {
    let rest = ",\"max_msgs_per_subject\":1,\"allow_direct\":true,\"allow_rollup_hdrs\":true,\"deny_delete\":true,\
        \"discard\":\"new\",\"duplicate_window\":120000000000";
    create(client, "KV_bench", "$KV.bench.>", "file", rest)
}

/// Puts as many keys as there are messages, 1,000 in flight.
fn put_all(client: &mut Client, keys: u64) -> Result<Duration> {
    let run = Publishes {
        in_flight: 1000,
        until: Until::Count(keys),
        subject: &|number| format!("$KV.bench.key{number}"),
        sequence: &|number| number + 1,
        pace: None,
    };
    let elapsed = run.run(client, &[b'x'; 128])?.elapsed;
    verify(client, "KV_bench", keys)?;
    let info = client.request("STREAM.INFO.KV_bench", "")?;
    ensure!(info["state"]["num_subjects"] == keys, "{} for {keys} keys", info["state"]);
    Ok(elapsed)
}

/// Puts every key of a bucket once.
pub(super) fn puts(bench: &mut Bench<'_>) -> Result<Sample> {
    let mut client = bench.client()?;
    create_bucket(&mut client)?;
    let before = bench.server.usage()?;
    let elapsed = put_all(&mut client, bench.messages())?;
    Ok(Sample::between(bench.messages(), elapsed, before, bench.server.usage()?))
}

/// Gets keys all over a bucket, one after the other, by direct get.
pub(super) fn gets(bench: &mut Bench<'_>) -> Result<Sample> {
    let mut client = bench.client()?;
    let keys = bench.messages();
    create_bucket(&mut client)?;
    put_all(&mut client, keys)?;
    let mut latency = histogram()?;
    let (before, started) = (bench.server.usage()?, Instant::now());
    let mut got = 0;
    while started.elapsed() < bench.options.window {
        // A step that shares no factor with the number visits every key, and neighbours never in turn.
        let key = got * 7919 % keys;
        let asked = Instant::now();
        client.publish(&format!("$JS.API.DIRECT.GET.KV_bench.$KV.bench.key{key}"), "_INBOX.bench.g", b"");
        client.flush()?;
        let incoming = client.next()?;
        latency.record(asked.elapsed().as_nanos() as u64)?;
        let sequence = format!("Nats-Sequence: {}\r\n", key + 1);
        let header = client.header(&incoming)?;
        ensure!(header.contains(&sequence), "key {key}: {header:?}");
        ensure!(client.payload(&incoming) == [b'x'; 128], "key {key} has another value");
        got += 1;
    }
    let sample = Sample::between(got, started.elapsed(), before, bench.server.usage()?);
    Ok(Sample { latency: Some(percentiles(&latency)), ..sample })
}
