//! The natrix server: flags, configuration files, signals, logs, monitoring.

mod flags;

fn main() {
    let _ = flags::parse(&[]);
}
