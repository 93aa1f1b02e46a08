//! The production platform: the operating system's sockets and clocks.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::SystemTime;

use natrix_core::time::{Instant, Now, WallTime};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::platform::{Platform, TokioClock};

/// As long as the kernel allows: it cuts the number down to its own limit, as the reference asks for it.
const BACKLOG: i32 = 65_535;

/// Real sockets, real time, tokio's blocking threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Native {
    clock: TokioClock,
}

impl Native {
    pub(crate) fn new() -> Self {
        Native { clock: TokioClock::start() }
    }
}

impl Platform for Native {
    type Listener = TcpListener;
    type Accepted = std::net::TcpStream;
    type Stream = TcpStream;

    async fn bind(&self, host: &str, port: u16) -> io::Result<(TcpListener, SocketAddr)> {
        let mut last_error = None;
        for address in resolve(host, port).await? {
            match listen(address) {
                Ok(bound) => return Ok(bound),
                Err(error) => last_error = Some(error),
            }
        }
        Err(last_error.unwrap_or_else(|| io::Error::other(format!("lookup {host}: no such host"))))
    }

    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(std::net::TcpStream, SocketAddr, SocketAddr)> {
        let (stream, peer) = listener.accept().await?;
        // Each message is its own write to somebody who waits for it. Keepalives stay off, as in the reference:
        // the protocol has its own. A connection that is reset already is found out by its shard.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr()?;
        // The shard that gets the connection has another reactor.
        Ok((stream.into_std()?, canonical(peer), canonical(local)))
    }

    fn adopt(&self, accepted: std::net::TcpStream) -> io::Result<TcpStream> {
        TcpStream::from_std(accepted)
    }

    fn now(&self) -> Now {
        let wall = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
        };
        Now { instant: self.clock.instant(), wall: WallTime::from_unix_nanos(wall) }
    }

    fn give_way(&self) -> bool {
        std::thread::yield_now();
        true
    }

    fn deadline(&self, at: Instant) -> tokio::time::Instant {
        self.clock.deadline(at)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::spawn(task));
    }

    fn compute(&self, job: impl FnOnce() + Send + 'static) {
        drop(tokio::task::spawn_blocking(job));
    }
}

/// Returns the addresses to try, IPv4 first as the reference prefers it.
async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Ok(vec![SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)]);
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let mut addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    Ok(addresses)
}

/// Binds and listens; an unspecified address of either family takes both families, as in the reference.
fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    if address.ip().is_unspecified() {
        let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port());
        match listen_on(both) {
            Ok((listener, bound)) => {
                return Ok((listener, SocketAddr::new(address.ip(), bound.port())));
            }
            // A machine without IPv6 says so here; a port that is taken is taken in any family.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse || address.is_ipv6() => {
                return Err(error);
            }
            Err(_) => {}
        }
    }
    listen_on(address)
}

fn listen_on(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // On Windows this option would let two servers share the port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from_std(socket.into())?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Shows an IPv4 peer of a socket for both families as what it is.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn an_unspecified_address_takes_ipv4_connections_and_shows_them_as_such() {
        block_on(async {
            let platform = Native::new();
            let (listener, address) = platform.bind("0.0.0.0", 0).await.unwrap();
            assert!(address.is_ipv4());
            let client = std::net::TcpStream::connect(("127.0.0.1", address.port())).unwrap();
            let (accepted, peer, local) = platform.accept(&listener).await.unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            assert_eq!(local, client.peer_addr().unwrap());
            assert!(accepted.nodelay().unwrap());
        });
    }

    #[test]
    fn a_taken_port_is_an_error() {
        block_on(async {
            let platform = Native::new();
            let (_listener, address) = platform.bind("127.0.0.1", 0).await.unwrap();
            let error = platform.bind("127.0.0.1", address.port()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        });
    }

    #[test]
    fn deadlines_and_the_clock_agree() {
        let platform = Native::new();
        let now = platform.now().instant;
        assert!(platform.deadline(now) <= tokio::time::Instant::now());
        assert!(platform.deadline(Instant::MAX) > tokio::time::Instant::now());
    }
}
