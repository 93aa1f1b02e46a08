//! The local syslog over its socket, or another machine's over the network, in the BSD syslog format.
//!
//! Source: Go's `log/syslog`, through nats-server `logger/syslog.go`.

use std::io::{self, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use natrix_core::protocol::quote::quote;

use super::{Level, LogError, go_error};

/// How long one attempt to reach or write to a syslog may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Where a local syslog may listen.
const LOCAL_SOCKETS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
const FACILITY_KERNEL: u8 = 0;
const FACILITY_DAEMON: u8 = 3 << 3;

/// A syslog that is connected.
pub(super) struct Syslog {
    address: Address,
    socket: Option<Socket>,
    facility: u8,
    tag: String,
    hostname: String,
    zone: TimeZone,
}

/// How to reach a syslog.
enum Address {
    Local,
    Udp(String),
    Tcp(String),
    Unix(String),
}

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Datagram(UnixDatagram),
    Stream(UnixStream),
}

impl Syslog {
    /// Connects to this machine's syslog.
    pub(super) fn local(tag: &str) -> Result<Self, LogError> {
        Syslog::connect(Address::Local, FACILITY_DAEMON, tag)
    }

    /// Connects to the syslog at `address`, such as `udp://127.0.0.1:514`.
    pub(super) fn remote(address: &str, tag: &str) -> Result<Self, LogError> {
        let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
        let authority = rest.split('/').next().unwrap_or_default().to_owned();
        let address = match scheme {
            "udp" => Address::Udp(authority),
            "tcp" => Address::Tcp(authority),
            "unix" => Address::Unix(rest.to_owned()),
            other => return Err(LogError::Network(quote(other.as_bytes()))),
        };
        Syslog::connect(address, FACILITY_KERNEL, tag)
    }

    fn connect(address: Address, facility: u8, tag: &str) -> Result<Self, LogError> {
        let socket = address.open().map_err(|error| LogError::Syslog(quote(go_error(&error).as_bytes())))?;
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let zone = TimeZone::system();
        Ok(Syslog { address, socket: Some(socket), facility, tag: tag.to_owned(), hostname, zone })
    }

    /// Sends a line; connects again if the connection is gone, and gives the line up if that fails too.
    pub(super) fn send(&mut self, level: Level, time: Timestamp, text: &str) {
        let line = self.format(level, time, text);
        if self.socket.as_mut().is_some_and(|socket| socket.write(&line).is_ok()) {
            return;
        }
        self.socket = self.address.open().ok();
        if let Some(socket) = &mut self.socket {
            let _ = socket.write(&line);
        }
    }

    fn format(&self, level: Level, time: Timestamp, text: &str) -> Vec<u8> {
        let severity = match level {
            Level::Fatal => 2,
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info | Level::Trace => 5,
            Level::Debug => 7,
        };
        let priority = self.facility | severity;
        let (tag, pid) = (&self.tag, std::process::id());
        let zoned = time.to_zoned(self.zone.clone());
        let head = match self.address {
            Address::Local => format!("<{priority}>{} {tag}[{pid}]: ", zoned.strftime("%b %e %H:%M:%S")),
            _ => format!(
                "<{priority}>{} {} {tag}[{pid}]: ",
                zoned.strftime("%Y-%m-%dT%H:%M:%S%:z"),
                self.hostname
            ),
        };
        let end = if text.ends_with('\n') { "" } else { "\n" };
        [head.as_bytes(), text.as_bytes(), end.as_bytes()].concat()
    }
}

impl Address {
    fn open(&self) -> io::Result<Socket> {
        match self {
            Address::Udp(authority) => {
                let target = resolve(authority)?;
                let socket = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
                socket.connect(target)?;
                Ok(Socket::Udp(socket))
            }
            Address::Tcp(authority) => {
                let stream = TcpStream::connect_timeout(&resolve(authority)?, TIMEOUT)?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Ok(Socket::Tcp(stream))
            }
            Address::Unix(path) => open_unix(path),
            Address::Local => {
                let found = LOCAL_SOCKETS.iter().find_map(|path| open_unix(path).ok());
                found.ok_or_else(|| io::Error::other("Unix syslog delivery error"))
            }
        }
    }
}

fn open_unix(path: &str) -> io::Result<Socket> {
    let datagram = UnixDatagram::unbound()?;
    if datagram.connect(path).is_ok() {
        datagram.set_write_timeout(Some(TIMEOUT))?;
        return Ok(Socket::Datagram(datagram));
    }
    let stream = UnixStream::connect(path)?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(Socket::Stream(stream))
}

fn resolve(authority: &str) -> io::Result<std::net::SocketAddr> {
    let not_found = || io::Error::other(format!("lookup {authority}: no such host"));
    authority.to_socket_addrs()?.next().ok_or_else(not_found)
}

impl Socket {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Socket::Udp(socket) => socket.send(line).map(|_| ()),
            Socket::Datagram(socket) => socket.send(line).map(|_| ()),
            Socket::Tcp(stream) => stream.write_all(line),
            Socket::Stream(stream) => stream.write_all(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn at() -> Timestamp {
        Timestamp::from_nanosecond(1_795_216_761_271_970_999).unwrap()
    }

    fn received(socket: &UdpSocket) -> String {
        let mut line = [0; 1024];
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let n = socket.recv(&mut line).unwrap();
        String::from_utf8_lossy(&line[..n]).into_owned()
    }

    #[test]
    fn a_remote_syslog_gets_time_host_tag_and_severity() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = format!("udp://{}", server.local_addr().unwrap());
        let mut syslog = Syslog::remote(&address, "natrix").unwrap();
        syslog.zone = TimeZone::UTC;
        syslog.hostname = "host".to_owned();
        let pid = std::process::id();
        for (level, severity) in [
            (Level::Info, 5),
            (Level::Trace, 5),
            (Level::Debug, 7),
            (Level::Warn, 4),
            (Level::Error, 3),
            (Level::Fatal, 2),
        ] {
            syslog.send(level, at(), "text");
            let expected = format!("<{severity}>2026-11-20T23:19:21+00:00 host natrix[{pid}]: text\n");
            assert_eq!(received(&server), expected);
        }
    }

    #[test]
    fn a_connection_that_broke_is_made_again() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut syslog =
            Syslog::remote(&format!("tcp://{}", server.local_addr().unwrap()), "natrix").unwrap();
        drop(server.accept().unwrap());
        // The first writes may still go into the dead connection.
        for _ in 0..3 {
            syslog.send(Level::Info, at(), "again");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut line = [0; 5];
        server.accept().unwrap().0.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"<5>20");
    }

    #[test]
    fn the_local_socket_speaks_the_short_format() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::remote(&format!("unix://{}", path.display()), "natrix").unwrap();
        (syslog.address, syslog.facility, syslog.zone) = (Address::Local, FACILITY_DAEMON, TimeZone::UTC);
        syslog.send(Level::Info, at(), "text\n");
        let mut line = [0; 256];
        let n = server.recv(&mut line).unwrap();
        let expected = format!("<29>Nov 20 23:19:21 natrix[{}]: text\n", std::process::id());
        assert_eq!(String::from_utf8_lossy(&line[..n]), expected);
    }

    #[test]
    fn addresses_that_lead_nowhere_are_refused() {
        let error = |address: &str| Syslog::remote(address, "natrix").err().map(|error| error.to_string());
        assert_eq!(error("foo://x").unwrap(), r#"error invalid network type: "foo""#);
        assert!(error("unix:///nowhere/at/all").unwrap().starts_with("error connecting to syslog: \""));
    }
}
