//! The executable of the parity suite; see the library for what it can do.

use std::process::ExitCode;

use anyhow::{Result, bail};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((command, rest)) if command == "scenarios" => natrix_parity::scenario::command(rest),
        Some((command, rest)) if command == "catalogue" => natrix_parity::catalogue::command(rest),
        Some((command, rest)) if command == "bench" => natrix_parity::bench::run(rest),
        // What the bench starts beside the servers: the floor that their figures are compared with.
        Some((command, rest)) if command == "relay" => natrix_parity::bench::run_relay(rest),
        _ => bail!("usage: natrix-parity scenarios|catalogue|bench ..."),
    }
}
