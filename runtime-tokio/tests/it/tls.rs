//! TLS on real sockets: handshakes that succeed, and all the ways in which they don't.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use natrix_core::config::{CertificatePair, HandshakeFirst, Options, TlsOptions, TlsVersion};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::local;
use crate::support::{PATIENCE, TestServer};

/// An authority with a server's and a client's certificate, in files where the server needs files.
struct Authority {
    ca: CertifiedIssuer<'static, KeyPair>,
    ca_file: PathBuf,
    pair: CertificatePair,
}

impl Authority {
    /// Makes everything anew; `name` keeps the files of tests that run at the same time apart.
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "natrix tests");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let server_key = KeyPair::generate().unwrap();
        let server =
            CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&server_key, &ca).unwrap();
        let file = |kind: &str, text: String| {
            let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{kind}.pem"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let ca_file = file("ca", ca.pem());
        let pair = CertificatePair {
            cert_file: file("cert", server.pem()).display().to_string(),
            key_file: file("key", server_key.serialize_pem()).display().to_string(),
        };
        Authority { ca, ca_file, pair }
    }

    fn options(&self) -> TlsOptions {
        TlsOptions { certificates: vec![self.pair.clone()], ..TlsOptions::default() }
    }

    fn verifying(&self) -> TlsOptions {
        TlsOptions { verify: true, ca_file: Some(self.ca_file.display().to_string()), ..self.options() }
    }

    fn client_certificate(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().signed_by(&key, &self.ca).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// Makes a client's configuration for these versions, with a certificate of its own or without.
    fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        certificate: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match certificate {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => builder.with_no_client_auth(),
        })
    }
}

const ANY: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

fn with_tls(tls: TlsOptions) -> Options {
    Options { tls: Some(tls), ..local() }
}

fn open(server: &TestServer) -> TcpStream {
    open_at(server.address())
}

fn open_at(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read_line(stream: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(String::from_utf8(line).unwrap())
}

fn encrypt(stream: TcpStream, config: Arc<ClientConfig>) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream)
}

/// Reads INFO, then says hello in TLS and tries one PING through it.
fn upgrade(
    server: &TestServer,
    config: Arc<ClientConfig>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    upgrade_at(server.address(), config)
}

fn upgrade_at(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut stream = open_at(address);
    let info = read_line(&mut stream)?;
    assert!(info.contains("\"tls_required\":true"), "{info}");
    let mut stream = encrypt(stream, config);
    ping(&mut stream)?;
    Ok(stream)
}

fn ping(stream: &mut (impl Read + Write)) -> io::Result<()> {
    stream.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n")?;
    assert_eq!(read_line(stream)?, "PONG\r\n");
    Ok(())
}

#[test]
fn messages_of_all_sizes_pass_in_both_versions() {
    let authority = Authority::new("sizes");
    let server = TestServer::start(with_tls(authority.options()), 2);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = upgrade(&server, authority.client(&[version], None)).unwrap();
        client.write_all(b"SUB big 1\r\n").unwrap();
        for size in [0, 1, 16 * 1024, 1 << 20] {
            let payload = vec![b'x'; size];
            client.write_all(format!("PUB big {size}\r\n").as_bytes()).unwrap();
            client.write_all(&payload).unwrap();
            client.write_all(b"\r\n").unwrap();
            assert_eq!(read_line(&mut client).unwrap(), format!("MSG big 1 {size}\r\n"));
            let mut got = vec![0; size + 2];
            client.read_exact(&mut got).unwrap();
            assert!(got[..size] == payload && got.ends_with(b"\r\n"));
        }
    }
}

#[test]
fn the_hello_may_come_in_pieces_and_before_info() {
    let authority = Authority::new("first");
    let tls = TlsOptions { handshake_first: HandshakeFirst::Always, ..authority.options() };
    let server = TestServer::start(with_tls(tls), 1);
    let mut stream = open(&server);
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(authority.client(ANY, None), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in hello.chunks(100) {
        stream.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut stream = StreamOwned::new(connection, stream);
    assert!(read_line(&mut stream).unwrap().starts_with("INFO {"));
    ping(&mut stream).unwrap();
}

#[test]
fn plain_and_encrypted_clients_share_a_port_when_allowed() {
    let authority = Authority::new("mixed");
    let options = Options { allow_non_tls: true, ..with_tls(authority.options()) };
    let server = TestServer::start(options, 1);
    let mut plain = open(&server);
    assert!(read_line(&mut plain).unwrap().starts_with("INFO {"));
    ping(&mut plain).unwrap();
    let mut stream = open(&server);
    read_line(&mut stream).unwrap();
    let mut encrypted = encrypt(stream, authority.client(ANY, None));
    ping(&mut encrypted).unwrap();
    encrypted.write_all(b"SUB a 1\r\nPING\r\n").unwrap();
    assert_eq!(read_line(&mut encrypted).unwrap(), "PONG\r\n");
    plain.write_all(b"PUB a 2\r\nhi\r\n").unwrap();
    assert_eq!(read_line(&mut encrypted).unwrap(), "MSG a 1 2\r\n");
}

#[test]
fn a_client_must_show_a_certificate_of_the_authority_when_asked() {
    let authority = Authority::new("verify");
    let server = TestServer::start(with_tls(authority.verifying()), 1);
    upgrade(&server, authority.client(ANY, Some(authority.client_certificate()))).unwrap();

    assert!(upgrade(&server, authority.client(ANY, None)).is_err());
    server.expect_log("TLS handshake error: tls: client didn't provide a certificate");
    let stranger = Authority::new("stranger").client_certificate();
    assert!(upgrade(&server, authority.client(ANY, Some(stranger))).is_err());
    server.expect_log("x509: certificate signed by unknown authority");
}

#[test]
fn only_pinned_certificates_are_let_in() {
    let authority = Authority::new("pinned");
    let tls = TlsOptions { pinned_certs: ["00".repeat(32)].into(), ..authority.verifying() };
    let server = TestServer::start(with_tls(tls), 1);
    assert!(upgrade(&server, authority.client(ANY, Some(authority.client_certificate()))).is_err());
    server.expect_log("TLS handshake error: certificate not pinned");
}

#[test]
fn versions_below_the_minimum_are_refused() {
    let authority = Authority::new("version");
    let tls = TlsOptions { min_version: TlsVersion::Tls13, ..authority.options() };
    let server = TestServer::start(with_tls(tls), 1);
    upgrade(&server, authority.client(&[&rustls::version::TLS13], None)).unwrap();
    assert!(upgrade(&server, authority.client(&[&rustls::version::TLS12], None)).is_err());
    server.expect_log("TLS handshake error: tls: client offered only unsupported versions");
}

#[test]
fn garbage_and_silence_are_closed() {
    let authority = Authority::new("garbage");
    let mut options = with_tls(TlsOptions { timeout: Duration::from_millis(300), ..authority.options() });
    options.logging.debug = true;
    let server = TestServer::start(options, 1);

    let mut garbage = open(&server);
    read_line(&mut garbage).unwrap();
    garbage.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").unwrap();
    assert_closed(&mut garbage);
    server.expect_log("TLS handshake error: tls: first record does not look like a TLS handshake");

    let begun = Instant::now();
    let mut silent = open(&server);
    read_line(&mut silent).unwrap();
    assert_closed(&mut silent);
    assert!(begun.elapsed() >= Duration::from_millis(250), "not before its time");
    server.expect_log("TLS handshake timeout");
}

fn assert_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // An alert may come first; a reset is an end too.
    match stream.read_to_end(&mut rest) {
        Ok(_) => assert!(!rest.windows(4).any(|window| window == b"PONG")),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

#[test]
fn clients_that_come_and_go_all_get_their_messages() {
    let authority = Authority::new("stress");
    let server = TestServer::start(with_tls(authority.options()), 2);
    let config = authority.client(&[&rustls::version::TLS13], None);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (address, config) = (server.address(), &config);
            scope.spawn(move || {
                for _ in 0..33 {
                    let mut client = upgrade_at(address, Arc::clone(config)).unwrap();
                    let round = format!("SUB foo.{thread} 1\r\nPUB foo.{thread} 11\r\nsecure data\r\n");
                    client.write_all(round.as_bytes()).unwrap();
                    assert_eq!(read_line(&mut client).unwrap(), format!("MSG foo.{thread} 1 11\r\n"));
                    assert_eq!(read_line(&mut client).unwrap(), "secure data\r\n");
                }
            });
        }
    });
}

#[test]
fn handshakes_beyond_the_limit_of_a_second_are_turned_away() {
    let authority = Authority::new("rate");
    let tls = TlsOptions { connection_rate_limit: Some(3), ..authority.options() };
    let server = TestServer::start(with_tls(tls), 1);
    let config = authority.client(&[&rustls::version::TLS13], None);
    // Opened before any is looked at, so that a slow machine needs no more than a second for them.
    let mut streams: Vec<TcpStream> = (0..10).map(|_| open(&server)).collect();
    let mut refused = 0;
    for mut stream in streams.drain(..) {
        assert!(read_line(&mut stream).unwrap().contains("\"tls_required\":true"));
        let mut first = [0; 4];
        // A server that waits for the client's hello says nothing; one that has refused has said so already.
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        match stream.peek(&mut first) {
            Ok(_) => {
                let line = read_line(&mut stream).unwrap();
                let told = "-ERR 'Connection throttling is active. Please try again later.'\r\n";
                assert_eq!(line, told);
                assert_closed(&mut stream);
                refused += 1;
            }
            Err(_) => ping(&mut encrypt(stream, Arc::clone(&config))).unwrap_or_default(),
        }
    }
    assert!((1..=7).contains(&refused), "{refused} of 10");
    server.expect_log("connections due to TLS rate limiting");
    // The next second lets others in.
    let deadline = Instant::now() + PATIENCE;
    while upgrade(&server, Arc::clone(&config)).is_err() {
        assert!(Instant::now() < deadline, "nobody is let in any more");
    }
}
