//! Binds natrix-core to real sockets, TLS, disks and timers.
//!
//! A server is N shards, each on a thread and a current-thread tokio runtime of its own ([`Server::start`]). All that
//! a shard's thread does is [`shard_loop`]: carry sockets' bytes and other shards' messages in, and carry out what the
//! shard asks. One acceptor gives each new connection to the shard that has fewest.
//!
//! Everything is generic over a [`Platform`] (listener, stream, clock, spawner), so that the same loops run in a
//! simulated network: [`Server::spawn`] runs all shards as tasks of one runtime.

mod acceptor;
mod busy_poll;
mod connection;
pub mod disk;
mod inbox;
mod native;
mod platform;
mod server;
mod shard_loop;
mod tls;

pub use platform::{Platform, TokioClock};
pub use server::{Observer, Server, ServerConfig, StartError, default_shards, random_seed};
pub use tls::{TlsError, server_config};
