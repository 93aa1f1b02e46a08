//! What the adapter needs of the world, so that the same loops run on real sockets and inside a simulated network.
//!
//! Everything here is dispatched statically. Timers are tokio's on every platform (a simulated network moves
//! tokio's clock); what [`Platform::now`] says and when tokio's timers fire must therefore agree.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use natrix_core::time::{Instant, Now};
use tokio::io::{AsyncRead, AsyncWrite};

/// Sockets, clocks and somewhere to run things.
pub trait Platform: Clone + Send + Sync + 'static {
    /// A bound socket.
    type Listener: Send + Sync + 'static;
    /// An accepted connection on its way to the shard that will own it.
    type Accepted: Send + 'static;
    /// A connection in the hands of its shard.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Binds a listener and returns it with its address, the real port included.
    fn bind(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = io::Result<(Self::Listener, SocketAddr)>> + Send;

    /// Waits for the next connection; returns it with the other end's and our own address.
    fn accept(
        &self,
        listener: &Self::Listener,
    ) -> impl Future<Output = io::Result<(Self::Accepted, SocketAddr, SocketAddr)>> + Send;

    /// Makes an accepted connection usable on the calling shard's runtime.
    ///
    /// # Errors
    ///
    /// When the socket can't be registered; it is closed then.
    fn adopt(&self, accepted: Self::Accepted) -> io::Result<Self::Stream>;

    /// Reads both clocks.
    fn now(&self) -> Now;

    /// Lets whoever else wants the caller's processor have it; returns whether it is any good to wait awake, which it isn't where
    /// time stands still meanwhile.
    fn give_way(&self) -> bool;

    /// Translates a deadline of the monotonic clock into tokio's.
    fn deadline(&self, at: Instant) -> tokio::time::Instant;

    /// Runs a task beside the shard's loop, on the calling runtime.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);

    /// Runs a long computation where it doesn't hold up the calling shard.
    fn compute(&self, job: impl FnOnce() + Send + 'static);
}

/// The clocks of a platform whose monotonic clock is tokio's.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    started: tokio::time::Instant,
}

impl TokioClock {
    /// Starts a clock: its monotonic time is zero now.
    pub fn start() -> Self {
        TokioClock { started: tokio::time::Instant::now() }
    }

    /// Returns the monotonic time.
    pub fn instant(&self) -> Instant {
        let elapsed = self.started.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    /// Translates a deadline; one too far away for tokio becomes one that nobody lives to see.
    pub fn deadline(&self, at: Instant) -> tokio::time::Instant {
        let ahead = std::time::Duration::from_nanos(at.as_nanos());
        self.started.checked_add(ahead).unwrap_or_else(|| self.started + FAR_AWAY)
    }
}

const FAR_AWAY: std::time::Duration = std::time::Duration::from_secs(30 * 365 * 24 * 3600);
