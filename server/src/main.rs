//! The natrix server: flags, configuration files, signals, logs, monitoring.

fn main() {}
