//! Tests that run real servers.

mod scenarios;
mod servers;
