//! Many seeds, on several threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::stopwatch::Stopwatch;

/// Runs `seeds` seeds from `start` on, on `jobs` threads, and adds each run up with the processor time that it took. The order in
/// which runs are added is the threads'.
pub(crate) fn sweep<R, S: Default + Send>(
    start: u64,
    seeds: u64,
    jobs: usize,
    run: impl Fn(u64) -> R + Sync,
    add: impl Fn(&mut S, R, Duration) + Sync,
) -> S {
    let next = AtomicU64::new(0);
    let summary = Mutex::new(S::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= seeds {
                        break;
                    }
                    let watch = Stopwatch::start();
                    let report = run(start + index);
                    let took = watch.elapsed();
                    if let Ok(mut summary) = summary.lock() {
                        add(&mut summary, report, took);
                    }
                }
            });
        }
    });
    summary.into_inner().unwrap_or_default()
}
