//! Tests that run real servers.

mod backups;
mod clients_jetstream;
mod clients_rust;
mod clients_rust_jetstream;
mod clients_scripts;
mod clients_servers;
mod scenarios;
mod servers;
