//! The natrix server: flags, configuration files, signals, logs, monitoring.

mod flags;
mod log;

fn main() {
    let _ = flags::parse(&[]);
}
