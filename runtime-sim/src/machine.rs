//! What a simulated server is made of: anything with the shard's contract.

use bytes::Buf;
use natrix_core::ids::ConnId;
use natrix_core::shard::Shard;
use natrix_core::shard::io::{Input, Output};
use natrix_core::time::{Instant, Now};

/// The contract of `natrix_core::shard::io`, so that tests of the runtime can put a toy in the shard's place.
pub trait Machine {
    /// Does one thing.
    fn handle(&mut self, now: Now, input: Input);
    /// Returns what the runtime is to do next.
    fn poll_output(&mut self) -> Option<Output>;
    /// Returns when to call again whatever happens.
    fn poll_timeout(&self) -> Option<Instant>;
    /// Returns where to read to.
    fn read_target(&mut self, conn: ConnId) -> &mut [u8];
    /// Returns the bytes that wait for a socket.
    fn outbound(&self, conn: ConnId) -> impl Buf;
}

impl Machine for Shard {
    fn handle(&mut self, now: Now, input: Input) {
        Shard::handle(self, now, input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        Shard::poll_output(self)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Shard::poll_timeout(self)
    }

    fn read_target(&mut self, conn: ConnId) -> &mut [u8] {
        Shard::read_target(self, conn)
    }

    fn outbound(&self, conn: ConnId) -> impl Buf {
        Shard::outbound(self, conn)
    }
}
