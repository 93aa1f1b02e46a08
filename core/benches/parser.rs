//! What a line costs to read, and to write.
#![allow(missing_docs, reason = "criterion's macros write public items")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use natrix_core::protocol::client::{ClientFrame, ParseLimits, Parsed, parse, split_payload};
use natrix_core::protocol::connect::ConnectOptions;
use natrix_core::protocol::encode::{self, MessageLine};
use natrix_core::protocol::headers;

/// How many lines one measured iteration reads.
const LINES: usize = 1000;

/// Reads everything in `input`, as a connection does.
fn hear(input: &[u8], limits: &ParseLimits) -> usize {
    let (mut at, mut heard) = (0, 0);
    while at < input.len() {
        let Ok(Parsed::Frame { len, frame }) = parse(&input[at..], limits) else { break };
        at += len;
        match frame {
            ClientFrame::Publish(line) => {
                let Ok(Some(body)) = split_payload(&input[at..], &line) else { break };
                at += body.len;
                heard += body.payload.len() + line.subject.len();
            }
            ClientFrame::Subscribe { subject, .. } => heard += subject.len(),
            _ => heard += 1,
        }
    }
    heard
}

fn reading(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(LINES as u64));
    let payload = "x".repeat(128);
    let lines = [
        ("PUB, payload 16 B", "PUB foo.bar.baz 16\r\n0123456789abcdef\r\n".to_owned()),
        ("PUB, payload 128 B", format!("PUB orders.eu.new.1234 128\r\n{payload}\r\n")),
        ("PUB with reply", "PUB service.echo _INBOX.AAAAAAAAAAAAAAAAAAAAAA.BBBBBB 2\r\nok\r\n".to_owned()),
        ("HPUB", "HPUB foo.bar 22 24\r\nNATS/1.0\r\nabc: def\r\n\r\nok\r\n".to_owned()),
        ("SUB", "SUB foo.*.bar workers 1234\r\n".to_owned()),
        ("UNSUB", "UNSUB 1234 5\r\n".to_owned()),
        ("PING", "PING\r\n".to_owned()),
    ];
    for (name, line) in lines {
        let input = line.repeat(LINES);
        let limits = ParseLimits::default();
        group.bench_function(name, |b| b.iter(|| hear(black_box(input.as_bytes()), &limits)));
    }
    group.finish();
}

fn greetings_and_headers(c: &mut Criterion) {
    let connect = br#"{"verbose":false,"pedantic":false,"tls_required":false,"name":"bench","lang":"go",
        "version":"1.48.0","protocol":1,"echo":true,"headers":true,"no_responders":true}"#;
    c.bench_function("connect", |b| {
        b.iter_batched_ref(
            ConnectOptions::default,
            |options| options.update(black_box(connect)),
            BatchSize::SmallInput,
        );
    });
    let block = b"NATS/1.0\r\nNats-Msg-Id: 123456789\r\nNats-Expected-Stream: orders\r\nTraceparent: 00-aa-bb-01\r\n\r\n";
    c.bench_function("header, last of three", |b| b.iter(|| headers::get(black_box(block), b"Traceparent")));
    c.bench_function("header, absent", |b| b.iter(|| headers::get(black_box(block), b"Nats-Rollup")));
}

fn writing(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(LINES as u64));
    let plain =
        MessageLine { subject: b"foo.bar.baz", sid: b"12", reply: None, header_len: None, total_len: 16 };
    let headers =
        MessageLine { reply: Some(b"_INBOX.AAAAAA.BBBBBB"), header_len: Some(22), total_len: 1024, ..plain };
    for (name, line) in [("MSG", plain), ("HMSG with reply", headers)] {
        let mut out = Vec::with_capacity(LINES * line.max_len());
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                for _ in 0..LINES {
                    encode::message(&mut out, black_box(&line));
                }
                out.len()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = reading, greetings_and_headers, writing
}
criterion_main!(benches);
