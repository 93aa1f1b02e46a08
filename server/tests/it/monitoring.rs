//! Monitoring of a server with clients: what all shards together say.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

use crate::support::{Client, Server, eventually, http_get};

const CONNECT: &str =
    "CONNECT {\"verbose\":false,\"name\":\"n1\",\"lang\":\"rust\",\"version\":\"1.2.3\"}\r\n";

fn monitored(arguments: &[&str]) -> Server {
    Server::ready(&[&["-m", "-1", "--shards", "2"], arguments].concat())
}

/// Returns the line of a pretty JSON document that has a field, less its comma.
fn field<'a>(json: &'a str, name: &str) -> &'a str {
    let line = json.lines().find(|line| line.trim_start().starts_with(&format!("\"{name}\":")));
    line.unwrap_or_else(|| panic!("no {name} in {json}")).split_once(": ").unwrap().1.trim_end_matches(',')
}

fn connected(server: &Server, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.done(CONNECT));
    clients
}

#[test]
fn varz_counts_over_all_shards() {
    let server = monitored(&["-n", "me"]);
    let mut clients = connected(&server, 4);
    clients[0].done("SUB foo 1\r\nSUB bar 2\r\n");
    clients[1].done("PUB foo 5\r\nhello\r\n");
    let varz = eventually("the message", || {
        let (status, varz) = server.get("/varz");
        assert_eq!(status, 200);
        (field(&varz, "out_msgs") == "1").then_some(varz)
    });
    for (name, value) in [
        ("server_name", "\"me\""),
        ("version", "\"2.15.1\""),
        ("connections", "4"),
        ("total_connections", "4"),
        ("in_msgs", "1"),
        ("in_bytes", "5"),
        ("out_bytes", "5"),
        ("in_client_msgs", "1"),
        ("gomaxprocs", "2"),
        ("system_account", "\"$SYS\""),
        ("max_payload", "1048576"),
    ] {
        assert_eq!(field(&varz, name), value, "{name}");
    }
    assert_eq!(field(&varz, "subscriptions"), "2");
    assert_ne!(field(&varz, "mem"), "0");
    let port = server.address("Listening for client connections on ");
    assert_eq!(field(&varz, "port"), port.rsplit(':').next().unwrap());
    drop(clients);
    eventually("the end of all connections", || {
        (field(&server.get("/varz").1, "connections") == "0").then_some(())
    });
    assert_eq!(field(&server.get("/varz").1, "total_connections"), "4");
    assert_eq!(field(&server.get("/varz").1, "subscriptions"), "0");
}

#[test]
fn connz_shows_pages_and_details() {
    let server = monitored(&[]);
    let mut clients = connected(&server, 3);
    clients[2].done("SUB foo 1\r\nSUB bar.* q 2\r\nUNSUB 2 5\r\n");
    let (status, connz) = server.get("/connz?subs=detail&sort=subs&limit=1");
    assert_eq!(status, 200);
    for (name, value) in [
        ("num_connections", "1"),
        ("total", "3"),
        ("limit", "1"),
        ("kind", "\"Client\""),
        ("type", "\"nats\""),
        ("ip", "\"127.0.0.1\""),
        ("subscriptions", "2"),
        ("name", "\"n1\""),
        ("lang", "\"rust\""),
        ("qgroup", "\"q\""),
        ("max", "5"),
    ] {
        assert_eq!(field(&connz, name), value, "{name}");
    }
    let cid = field(&connz, "cid").to_owned();
    let (_, one) = server.get(&format!("/connz?cid={cid}&subs=1"));
    assert!(one.contains("\"subscriptions_list\": [\n        \"foo\",\n        \"bar.*\"\n      ]"), "{one}");
    assert_eq!(server.get("/connz?sort=bogus"), (400, "invalid sorting option: bogus".to_owned()));
}

#[test]
fn ids_start_behind_those_of_the_references_own_clients_and_never_repeat() {
    let server = monitored(&[]);
    drop(connected(&server, 2));
    eventually("both ends", || (field(&server.get("/connz?state=closed").1, "total") == "2").then_some(()));
    let _clients = connected(&server, 2);
    let (_, connz) = server.get("/connz?state=any&sort=cid");
    let cids: Vec<&str> = connz.lines().filter_map(|line| line.trim().strip_prefix("\"cid\": ")).collect();
    assert_eq!(cids, ["5,", "6,", "7,", "8,"]);
}

#[test]
fn closed_connections_are_remembered_with_their_reason() {
    let server = monitored(&["--user", "me", "--pass", "pw"]);
    let mut stranger = server.client();
    stranger.send("CONNECT {\"user\":\"me\",\"pass\":\"wrong\"}\r\n");
    stranger.ended();
    let mut garbler = server.client();
    garbler.send("CONNECT {\"user\":\"me\",\"pass\":\"pw\"}\r\nBOGUS\r\n");
    garbler.ended();
    let connz = eventually("two closed connections", || {
        let (_, connz) = server.get("/connz?state=closed&auth=1&sort=reason");
        (field(&connz, "total") == "2").then_some(connz)
    });
    let reasons: Vec<&str> =
        connz.lines().filter_map(|line| line.trim().strip_prefix("\"reason\": ")).collect();
    assert_eq!(reasons, ["\"Authentication Failure\",", "\"Protocol Violation\","]);
    assert_eq!(field(&connz, "authorized_user"), "\"me\"");
    assert_eq!(server.get("/connz?sort=stop").1, "sort by stop only valid on closed connections");
}

#[test]
fn subsz_lists_and_tests_subscriptions() {
    let server = monitored(&[]);
    let mut clients = connected(&server, 2);
    clients[0].done("SUB foo.* 1\r\n");
    clients[1].done("SUB foo.bar 1\r\nSUB baz q 2\r\n");
    let (_, all) = server.get("/subsz?subs=1");
    assert_eq!((field(&all, "num_subscriptions"), field(&all, "total")), ("3", "3"));
    let (_, matching) = server.get("/subsz?subs=1&test=foo.bar");
    assert_eq!(field(&matching, "total"), "2");
    assert!(!matching.contains("baz"), "{matching}");
    assert_eq!(server.get("/subsz?test=foo.*").0, 400);
    assert_eq!(field(&server.get("/subscriptionsz?subs=1&acc=NOPE").1, "total"), "0");
}

#[test]
fn subsz_can_be_asked_for_one_account() {
    let conf = "http: \"127.0.0.1:-1\", shards: 2
        accounts { A { users: [{user: a, password: a}] }, B { users: [{user: b, password: b}] } }";
    let server = Server::start_with(&["-c", "FOLDER/conf"], &[("conf", conf)]);
    server.wait_for_log("Server is ready");
    let login =
        |user: &str| format!("CONNECT {{\"verbose\":false,\"user\":\"{user}\",\"pass\":\"{user}\"}}\r\n");
    let (mut a, mut b) = (server.client(), server.client());
    a.done(&format!("{}SUB foo 1\r\nSUB bar 2\r\n", login("a")));
    b.done(&format!("{}SUB foo 1\r\n", login("b")));
    let count = |query: &str| {
        let (_, subsz) = server.get(&format!("/subsz?subs=1{query}"));
        let listed = subsz.matches("\"sid\":").count();
        (field(&subsz, "num_subscriptions").to_owned(), field(&subsz, "total").to_owned(), listed)
    };
    assert_eq!(count(""), ("3".to_owned(), "3".to_owned(), 3));
    assert_eq!(count("&acc=A"), ("2".to_owned(), "2".to_owned(), 2));
    assert_eq!(count("&acc=A&limit=1"), ("2".to_owned(), "2".to_owned(), 1));
    assert_eq!(count("&acc=A&offset=1&limit=5"), ("2".to_owned(), "2".to_owned(), 1));
    assert_eq!(count("&acc=B&offset=1"), ("1".to_owned(), "1".to_owned(), 0));
    assert!(!server.get("/subsz?subs=1&acc=A").1.contains("\"account\": \"B\""));
}

#[test]
fn requests_are_counted_and_unknown_paths_are_not_found() {
    let server = monitored(&[]);
    server.get("/");
    server.get("/connz");
    assert_eq!(server.get("/nosuch"), (404, "404 page not found\n".to_owned()));
    assert_eq!(server.get("/healthz"), (200, "{\"status\":\"ok\"}".to_owned()));
    let (_, varz) = server.get("/varz");
    let counted: String =
        varz.split("http_req_stats").nth(1).unwrap().split('}').next().unwrap().split_whitespace().collect();
    assert_eq!(counted, "\":{\"/\":1,\"/connz\":1,\"/healthz\":1,\"/varz\":1");
}

#[test]
fn a_base_path_moves_the_endpoints() {
    let server = Server::start_with(
        &["-c", "FOLDER/conf"],
        &[("conf", "http: \"127.0.0.1:-1\", http_base_path: nats")],
    );
    server.wait_for_log("Server is ready");
    assert_eq!(server.get("/nats/healthz").0, 200);
    assert_eq!(server.get("/healthz").0, 404);
}

#[test]
fn without_a_port_there_is_no_monitoring() {
    let server = Server::ready(&[]);
    assert!(!server.log().contains("monitor"), "{}", server.log());
}

#[test]
fn a_monitoring_port_that_is_taken_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut server = Server::start(&["-m", &port]);
    assert_eq!(server.exit_code(), 1);
    let line = server.wait_for_log("[FTL]");
    let told = format!(
        "Can't start monitoring: can't listen to the monitor port: listen tcp 127.0.0.1:{port}: bind: address already in use"
    );
    assert!(line.ends_with(&told), "{line}");
}

#[test]
fn monitoring_settings_that_contradict_each_other_end_the_start() {
    for (arguments, told) in [
        (&["-m", "8222", "-ms", "8443"][..], "can't specify both HTTP (8222) and HTTPs (8443) ports"),
        (&["-ms", "-1"], "TLS cert and key required for HTTPS"),
    ] {
        let mut server = Server::start(arguments);
        assert_eq!(server.exit_code(), 1);
        let line = server.wait_for_log("[FTL]");
        assert!(line.ends_with(&format!("Can't start monitoring: {told}")), "{line}");
    }
}

#[test]
fn https_serves_without_asking_for_a_certificate() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert_pem, key_pem) = (key.cert.pem(), key.signing_key.serialize_pem());
    let conf = "https: \"127.0.0.1:-1\", tls { cert_file: \"FOLDER/c.pem\", key_file: \"FOLDER/k.pem\", ca_file: \"FOLDER/c.pem\", verify: true }";
    let files = [("conf", conf), ("c.pem", &cert_pem), ("k.pem", &key_pem)];
    let server = Server::start_with(&["-c", "FOLDER/conf", "--ports_file_dir", "FOLDER"], &files);
    server.wait_for_log("Server is ready");
    let address = server.address("Starting https monitor on ");
    let varz = https_get(&address, &cert_pem, "/varz");
    assert!(varz.starts_with("HTTP/1.1 200 OK"), "{varz}");
    assert_eq!((field(&varz, "tls_required"), field(&varz, "tls_verify")), ("true", "true"));
    assert_eq!(field(&varz, "https_port"), "-1");
    // A certificate of rcgen's lives until the year 4096.
    assert_eq!(field(&varz, "tls_cert_not_after"), "\"4096-01-01T00:00:00Z\"");
    let ports = server.path(&format!("natrix_{}.ports", server.pid()));
    let ports = eventually("the ports file", || std::fs::read_to_string(&ports).ok());
    assert!(
        ports.contains("\"tls://127.0.0.1:") && ports.contains(&format!("\"https://{address}\"")),
        "{ports}"
    );
    // Plain HTTP is no TLS handshake; the server lives on.
    let mut plain = TcpStream::connect(&address).unwrap();
    plain.write_all(b"GET /varz HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"));
    assert!(https_get(&address, &cert_pem, "/healthz").ends_with("{\"status\":\"ok\"}"));
}

/// Asks over TLS, trusting one certificate and showing none; returns the whole answer.
fn https_get(address: &str, trusted: &str, target: &str) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let mut session = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    let mut stream = Stream::new(&mut session, &mut socket);
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn monitoring_goes_on_while_many_ask() {
    let server = monitored(&[]);
    let address = server.address("Starting http monitor on ");
    let _clients = connected(&server, 3);
    std::thread::scope(|scope| {
        for target in ["/varz", "/connz?subs=1", "/subsz?subs=1", "/healthz"] {
            let address = &address;
            scope.spawn(move || (0..20).for_each(|_| assert_eq!(http_get(address, target).0, 200)));
        }
    });
}
