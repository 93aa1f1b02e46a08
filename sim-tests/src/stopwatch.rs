//! Processor time, for rates that mean the same on a machine that others use too.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Measures the processor time of the thread that starts it, and asks it.
#[derive(Debug)]
pub struct Stopwatch(Duration);

impl Stopwatch {
    /// Starts it.
    pub fn start() -> Stopwatch {
        Stopwatch(thread_time())
    }

    /// Returns how long the thread has run since.
    pub fn elapsed(&self) -> Duration {
        thread_time().saturating_sub(self.0)
    }
}

fn thread_time() -> Duration {
    // Negative times and nanoseconds beyond a second don't come from a clock that counts from zero.
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time_and_sleep_does_not() {
        let watch = Stopwatch::start();
        std::thread::sleep(Duration::from_millis(50));
        let slept = watch.elapsed();
        assert!(slept < Duration::from_millis(40), "{slept:?}");
        let mut sum = 0_u64;
        while watch.elapsed() < Duration::from_millis(60) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(sum > 0);
    }
}
