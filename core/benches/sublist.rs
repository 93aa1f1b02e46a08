//! What a match, an insert and a removal cost, warm and cold, at rest and under churn.
//!
//! One iteration is one operation, or as many as the name says.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use natrix_core::rng::Rng;
use natrix_core::subject::Sublist;

fn sublist() -> Sublist<u32> {
    Sublist::new(Rng::from_u64(1).hash_keys())
}

fn subjects(count: usize, make: impl Fn(usize) -> String) -> Vec<Vec<u8>> {
    (0..count).map(|number| make(number).into_bytes()).collect()
}

fn matches(c: &mut Criterion) {
    let mut list = sublist();
    list.insert(b"orders.eu.1", None, 1, 1).expect("a valid subject");
    c.bench_function("match a literal, cached", |b| {
        b.iter(|| list.matches(black_box(b"orders.eu.1")).plain().len());
    });

    let published = subjects(1000, |number| format!("orders.eu.{number}"));
    let mut round = published.iter().cycle();
    c.bench_function("match one of 1,000 literals, cached", |b| {
        b.iter(|| list.matches(round.next().expect("cycles")).plain().len());
    });

    let published = subjects(100_000, |number| format!("orders.eu.{number}"));
    let mut round = published.iter().cycle();
    c.bench_function("match one of 100,000 literals, thrashing", |b| {
        b.iter(|| list.matches(round.next().expect("cycles")).plain().len());
    });

    let mut list = Sublist::<u32>::without_cache(Rng::from_u64(1).hash_keys());
    list.insert(b"orders.eu.1", None, 1, 1).expect("a valid subject");
    c.bench_function("match a literal, uncached", |b| {
        b.iter(|| list.matches(black_box(b"orders.eu.1")).plain().len());
    });
    c.bench_function("match nobody, uncached", |b| {
        b.iter(|| list.matches(black_box(b"nobody.cares.2")).plain().len());
    });
}

fn many_wildcards(c: &mut Criterion) {
    let mut list = sublist();
    for number in 0..100_000_u32 {
        list.insert(format!("w.{number}.*").as_bytes(), None, number, 1).expect("a valid subject");
    }
    let published = subjects(100_000, |number| format!("w.{number}.x"));
    let mut round = published.iter().cycle();
    c.bench_function("match under 100,000 wildcards, 100,000 subjects", |b| {
        b.iter(|| list.matches(round.next().expect("cycles")).plain().len());
    });
    let mut round = published[..1000].iter().cycle();
    c.bench_function("match under 100,000 wildcards, 1,000 subjects", |b| {
        b.iter(|| list.matches(round.next().expect("cycles")).plain().len());
    });
}

fn changes(c: &mut Criterion) {
    let mut list = sublist();
    let names = subjects(1000, |number| format!("s.{}.{number}", number % 10));
    c.bench_function("insert and remove 1,000 subjects", |b| {
        b.iter(|| {
            for (value, name) in (0..).zip(&names) {
                list.insert(name, None, value, 1).expect("a valid subject");
            }
            for (value, name) in (0..).zip(&names) {
                list.remove(name, None, value).expect("inserted above");
            }
        });
    });
    c.bench_function("fill with 100,000 subjects", |b| {
        let names = subjects(100_000, |number| format!("s.{}.{number}", number % 100));
        b.iter_batched(
            sublist,
            |mut list| {
                for (value, name) in (0..).zip(&names) {
                    list.insert(name, None, value, 1).expect("a valid subject");
                }
                list
            },
            BatchSize::PerIteration,
        );
    });
    let mut crowd = sublist();
    for value in 0..10_000_u32 {
        crowd.insert(b"crowd", None, value, 1).expect("a valid subject");
    }
    let mut value = 0;
    c.bench_function("leave and join a crowd of 10,000", |b| {
        b.iter(|| {
            value = (value + 7919) % 10_000;
            crowd.remove(b"crowd", None, value).expect("in the crowd");
            crowd.insert(b"crowd", None, value, 1).expect("a valid subject");
        });
    });
}

/// Each iteration: one inbox subscription comes, ten messages are published elsewhere, it goes.
fn churn(c: &mut Criterion) {
    let mut list = sublist();
    list.insert(b"orders.*.*", None, 1, 1).expect("a valid subject");
    let published = subjects(1000, |number| format!("orders.r{}.{number}", number % 7));
    let inboxes = subjects(5000, |number| format!("_INBOX.client{number}.*"));
    let mut round = published.iter().cycle();
    let mut inboxes = inboxes.iter().cycle();
    c.bench_function("publish 10 during churn of inboxes", |b| {
        b.iter(|| {
            let inbox = inboxes.next().expect("cycles");
            list.insert(inbox, None, 2, 1).expect("a valid subject");
            for _ in 0..10 {
                black_box(list.matches(round.next().expect("cycles")).plain().len());
            }
            list.remove(inbox, None, 2).expect("inserted above");
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).without_plots();
    targets = matches, many_wildcards, changes, churn
}
criterion_main!(benches);
