//! The natrix server: flags, configuration files, signals, logs, monitoring.

mod files;
mod flags;
mod log;
mod monitor;
mod process;
mod signals;

fn main() {
    let _ = flags::parse(&[]);
}
