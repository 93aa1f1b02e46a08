//! Bytes to frames and back: the NATS client protocol, its headers, INFO and CONNECT, without policy and without time.
//!
//! - [`client`]: what a client may send, parsed statelessly from the front of a buffer.
//! - [`encode`]: what a server sends to a client, appended to a buffer.
//! - [`headers`]: `NATS/1.0` header blocks.
//! - [`info`] and [`connect`]: the two JSON greetings.
//! - [`json`]: JSON as Go's `encoding/json` reads it, for every interface whose reference is a Go struct.
//! - [`quote`]: text as Go's `%q` prints it, for log lines that are part of the interface.
//!
//! Invariants: nothing here panics on any input; nothing allocates more than a small multiple of its input; what a
//! parser says about some bytes doesn't depend on how they were cut into reads.

pub mod client;
pub mod connect;
pub mod encode;
pub mod headers;
pub mod info;
pub mod json;
pub mod quote;
