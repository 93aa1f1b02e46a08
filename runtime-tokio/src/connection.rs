//! One socket in the hands of a shard's loop: plain, in a TLS handshake, encrypted, or on its way out.
//!
//! A connection owns no task and no buffer. Its [`Waker`] puts its slot on the loop's ready list; bytes are read
//! to where the shard says and written from where the shard keeps them. Only TLS has buffers of its own.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Buf;
use natrix_core::ids::ConnId;
use natrix_core::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use crate::inbox::{Doorbell, SlotWaker};
use crate::tls::Rewind;

/// How many pieces one vectored write takes. The shard keeps small messages in long pieces, so more would seldom
/// be filled.
const MAX_SLICES: usize = 64;

/// A connection and what the loop has promised to do about it.
pub(crate) struct Connection<S> {
    pub(crate) id: ConnId,
    pub(crate) phase: Phase<S>,
    /// On the loop's list of sockets to be flushed at the end of the tick.
    pub(crate) dirty: bool,
    /// The last write found the socket full; the next readiness continues it.
    pub(crate) write_blocked: bool,
    /// The shard wants no more bytes for now.
    pub(crate) paused: bool,
    /// A deadline of the loop's own: handshake or close.
    pub(crate) deadline: Option<Instant>,
    pub(crate) slot_waker: Arc<SlotWaker>,
    pub(crate) waker: Waker,
}

impl<S> Connection<S> {
    pub(crate) fn new(id: ConnId, stream: S, doorbell: &Arc<Doorbell>) -> Self {
        let slot_waker = SlotWaker::new(id.slot, doorbell.clone());
        let waker = Waker::from(slot_waker.clone());
        Connection {
            id,
            phase: Phase::Open(Transport::Plain(stream)),
            dirty: false,
            write_blocked: false,
            paused: false,
            deadline: None,
            slot_waker,
            waker,
        }
    }
}

/// What a connection is doing.
pub(crate) enum Phase<S> {
    /// Bytes go both ways.
    Open(Transport<S>),
    /// Plaintext that was queued before the handshake is being written; nothing is read.
    BeforeTls {
        stream: S,
        /// Bytes of plaintext to go.
        left: usize,
        /// What was read of the client's hello.
        received: Vec<u8>,
    },
    /// The handshake is under way.
    Handshake(Box<tokio_rustls::Accept<Rewind<S>>>),
    /// The shard has done with it.
    Closing(Closing<S>),
    /// Between two phases; never seen by the loop.
    Moving,
}

/// An open connection's way to its peer.
pub(crate) enum Transport<S> {
    Plain(S),
    Tls(Box<TlsStream<Rewind<S>>>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport<S> {
    /// Reads once; zero bytes mean the end of the stream.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, target: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut target = ReadBuf::new(target);
        let result = match self {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, &mut target),
            Transport::Tls(stream) => match Pin::new(&mut **stream).poll_read(cx, &mut target) {
                // A peer that hangs up without TLS's own goodbye is treated like any that hangs up: the
                // protocol's messages carry their lengths, so that nothing cut short is taken for whole.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                result => result,
            },
        };
        result.map_ok(|()| target.filled().len())
    }

    /// Writes once from `source`, which isn't advanced.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, source: &impl Buf) -> Poll<io::Result<usize>> {
        match self {
            Transport::Plain(stream) => poll_write_buf(stream, cx, source),
            Transport::Tls(stream) => poll_write_buf(&mut **stream, cx, source),
        }
    }

    /// Pushes on what the transport itself holds back.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            // The kernel holds nothing back from us.
            Transport::Plain(_) => Poll::Ready(Ok(())),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}

/// Writes once from `source`, which isn't advanced, in as many pieces as it has.
pub(crate) fn poll_write_buf<W: AsyncWrite + Unpin>(
    stream: &mut W,
    cx: &mut Context<'_>,
    source: &impl Buf,
) -> Poll<io::Result<usize>> {
    // One piece is the common case, and tokio learns more from a short plain write than from a vectored one.
    if source.chunk().len() == source.remaining() {
        return Pin::new(stream).poll_write(cx, source.chunk());
    }
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let count = source.chunks_vectored(&mut slices);
    Pin::new(stream).poll_write_vectored(cx, &slices[..count])
}

/// A connection that the shard has closed and that may still owe its peer the reason.
///
/// Closing a socket that has unread bytes resets it, and a reset destroys what the peer hasn't read yet: the error
/// text. So the writing side is shut first, and what still comes is read and thrown away until the peer closes
/// too or time is up.
pub(crate) struct Closing<S> {
    transport: Transport<S>,
    last_bytes: Vec<u8>,
    written: usize,
    step: CloseStep,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CloseStep {
    Write,
    Shutdown,
    Drain,
}

/// How much of the peer's words is thrown away at a time, so that a loud peer can't hold up the loop.
const DRAIN_READS: usize = 4;

impl<S: AsyncRead + AsyncWrite + Unpin> Closing<S> {
    pub(crate) fn new(transport: Transport<S>, last_bytes: Vec<u8>) -> Self {
        Closing { transport, last_bytes, written: 0, step: CloseStep::Write }
    }

    /// Goes on with closing; ready when the socket can be dropped. `scratch` is where unwanted bytes go.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<()> {
        if self.step == CloseStep::Write {
            while self.written < self.last_bytes.len() {
                match self.transport.poll_write(cx, &&self.last_bytes[self.written..]) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(n)) => self.written += n,
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.last_bytes = Vec::new();
            self.written = 0;
            self.step = CloseStep::Shutdown;
        }
        if self.step == CloseStep::Shutdown {
            match self.transport.poll_shutdown(cx) {
                Poll::Ready(Ok(())) => self.step = CloseStep::Drain,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        for _ in 0..DRAIN_READS {
            match self.transport.poll_read(cx, scratch) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn closing_says_the_last_words_then_waits_for_the_peer_to_hang_up() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        theirs.write_all(b"unread").await.unwrap();
        let mut closing = Closing::new(Transport::Plain(ours), b"-ERR 'farewell'\r\n".to_vec());
        let mut scratch = [0; 16];
        let peer = tokio::spawn(async move {
            let mut heard = Vec::new();
            theirs.read_to_end(&mut heard).await.unwrap();
            heard
        });
        std::future::poll_fn(|cx| closing.poll(cx, &mut scratch)).await;
        assert_eq!(peer.await.unwrap(), b"-ERR 'farewell'\r\n");
    }

    #[tokio::test]
    async fn many_pieces_are_written_at_once_as_far_as_they_fit() {
        let (mut ours, mut theirs) = tokio::io::duplex(10);
        let source = Buf::chain(&b"PING\r\n"[..], &b"PONG\r\n"[..]);
        let n = std::future::poll_fn(|cx| poll_write_buf(&mut ours, cx, &source)).await.unwrap();
        assert_eq!(n, 10);
        let mut heard = [0; 10];
        theirs.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"PING\r\nPONG");
    }
}
