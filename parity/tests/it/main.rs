//! Tests that run real servers.

mod servers;
