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

    fn work(time: Duration) -> u64 {
        let (watch, mut sum) = (Stopwatch::start(), 0_u64);
        while watch.elapsed() < time {
            sum = std::hint::black_box(sum + 1);
        }
        sum
    }

    #[test]
    fn work_takes_time_and_waiting_for_another_does_not() {
        let watch = Stopwatch::start();
        let other = std::thread::spawn(|| work(Duration::from_millis(60)));
        assert!(other.join().unwrap() > 0);
        let waited = watch.elapsed();
        assert!(waited < Duration::from_millis(40), "{waited:?}");
        assert!(work(Duration::from_millis(20)) > 0);
        assert!(watch.elapsed() >= Duration::from_millis(20));
    }
}
