//! The proof of behaviour against the Go server: catalogue, scenarios, clients, benchmarks.

pub mod bench;
pub mod catalogue;
pub mod scenario;
pub mod servers;
