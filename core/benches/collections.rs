//! What the collections cost, an operation or as many as the name says; and what they take in memory.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use natrix_core::collections::{SequenceSet, SubjectTree, TimeHashWheel};
use natrix_core::time::WallTime;

fn sequences(c: &mut Criterion) {
    c.bench_function("SequenceSet: insert a million in order", |b| {
        b.iter(|| (0..1_000_000).collect::<SequenceSet>().len());
    });
    let every_third: SequenceSet = (0..3_000_000).step_by(3).collect();
    println!("SequenceSet: a million of every third takes {} bytes", every_third.memory());
    let mut at = 0;
    c.bench_function("SequenceSet: contains, of a million", |b| {
        b.iter(|| {
            at = (at + 7_919) % 3_000_000;
            every_third.contains(black_box(at))
        });
    });
    c.bench_function("SequenceSet: iterate a million", |b| b.iter(|| every_third.iter().sum::<u64>()));
    c.bench_function("SequenceSet: encode a million", |b| {
        b.iter(|| {
            let mut out = Vec::new();
            every_third.encode(&mut out);
            out.len()
        });
    });
}

fn subjects(c: &mut Criterion) {
    let names: Vec<Vec<u8>> =
        (0..100_000).map(|n| format!("orders.{}.{}.placed", n % 100, n).into_bytes()).collect();
    let mut tree = SubjectTree::default();
    for (number, name) in names.iter().enumerate() {
        tree.insert(name, number);
    }
    let mut round = names.iter().cycle();
    c.bench_function("SubjectTree: get one of 100,000", |b| {
        b.iter(|| tree.get(round.next().expect("cycles")));
    });
    c.bench_function("SubjectTree: insert 100,000", |b| {
        b.iter(|| {
            let mut tree = SubjectTree::default();
            for (number, name) in names.iter().enumerate() {
                tree.insert(name, number);
            }
            tree.len()
        });
    });
    let count = |filter: &[u8]| {
        let mut found = 0;
        tree.matches(filter, |_, _| found += 1);
        found
    };
    c.bench_function("SubjectTree: 1,000 of 100,000 by orders.7.*.placed", |b| {
        b.iter(|| count(black_box(b"orders.7.*.placed")));
    });
    c.bench_function("SubjectTree: 1 of 100,000 by orders.*.77777.placed", |b| {
        b.iter(|| count(black_box(b"orders.*.77777.placed")));
    });
    c.bench_function("SubjectTree: all of 100,000", |b| b.iter(|| count(black_box(b">"))));
}

fn deadlines(c: &mut Criterion) {
    let second = |n: u64| WallTime::from_unix_nanos(n as i64 * 1_000_000_000);
    c.bench_function("TimeHashWheel: add 100,000 and expire them", |b| {
        b.iter(|| {
            let mut wheel = TimeHashWheel::default();
            for sequence in 0..100_000 {
                wheel.add(sequence, second(sequence % 3_600));
            }
            let mut count = 0;
            wheel.expire(second(3_600), |_| {
                count += 1;
                true
            });
            count
        });
    });
}

criterion_group!(benches, sequences, subjects, deadlines);
criterion_main!(benches);
