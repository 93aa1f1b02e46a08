//! What the process says about itself: memory, processors, and how busy they were.

use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use natrix_core::monitoring::ProcessFacts;
use rustix::time::{ClockId, clock_gettime};

/// How long a window the processor's use is averaged over, at least.
const WINDOW: Duration = Duration::from_secs(1);

/// Measures the process.
pub(crate) struct Process {
    sample: Mutex<Sample>,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    used: Duration,
    percent: f64,
}

impl Process {
    /// Starts to measure.
    pub(crate) fn new() -> Self {
        Process { sample: Mutex::new(Sample { at: Instant::now(), used: processor_time(), percent: 0.0 }) }
    }

    /// Returns the facts of this moment; the processor's use is that since the last request a second or more ago.
    pub(crate) fn facts(&self) -> ProcessFacts {
        let mut sample = self.sample.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *sample = next_sample(*sample, Instant::now(), processor_time());
        ProcessFacts {
            resident_bytes: resident_bytes(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu_percent: sample.percent,
        }
    }
}

fn next_sample(last: Sample, at: Instant, used: Duration) -> Sample {
    let window = at.saturating_duration_since(last.at);
    if window < WINDOW {
        return last;
    }
    let share = used.saturating_sub(last.used).as_secs_f64() / window.as_secs_f64();
    // One digit behind the point, as the reference has it.
    Sample { at, used, percent: (share * 1000.0).round() / 10.0 }
}

/// Returns the processor time that the process has used, on all processors together.
fn processor_time() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(used.tv_sec).unwrap_or(0), u32::try_from(used.tv_nsec).unwrap_or(0))
}

/// Returns the resident memory; zero where /proc is hidden.
fn resident_bytes() -> u64 {
    let pages =
        fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').nth(1)?.parse().ok());
    pages.unwrap_or(0_u64) * rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_is_the_share_of_one_processor_in_the_window() {
        let start = Instant::now();
        let first = Sample { at: start, used: Duration::ZERO, percent: 0.0 };
        let early = next_sample(first, start + Duration::from_millis(999), Duration::from_millis(999));
        assert_eq!((early.at, early.percent), (start, 0.0));
        let later = next_sample(first, start + Duration::from_secs(2), Duration::from_millis(2501));
        assert_eq!(later.percent, 125.1);
        assert_eq!(next_sample(later, start + Duration::from_secs(4), later.used).percent, 0.0);
    }

    #[test]
    fn the_process_has_memory_and_a_processor() {
        let facts = Process::new().facts();
        assert!(facts.resident_bytes > 100_000 && facts.cores > 0);
    }
}
