//! The executable of the parity suite; see the library for what it can do.

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((command, rest)) if command == "bench" => natrix_parity::bench::run(rest),
        Some((command, rest)) if command == "relay" => natrix_parity::bench::run_relay(rest),
        _ => bail!("usage: natrix-parity bench|relay ..."),
    }
}
