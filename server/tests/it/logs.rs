//! Where lines go and what they must not tell.

use std::fs;
use std::net::UdpSocket;

use crate::support::{PATIENCE, Server, eventually};

#[test]
fn a_log_file_takes_all_lines_and_is_opened_again_on_sigusr1() {
    let server = Server::start(&["-l", "FOLDER/log", "-T=false"]);
    let read = |name: &str| fs::read_to_string(server.path(name)).unwrap_or_default();
    eventually("the log file", || read("log").contains("[INF] Server is ready\n").then_some(()));
    assert_eq!(server.log(), "");
    assert!(read("log").starts_with(&format!("[{}] [INF] Starting nats-server\n", server.pid())));
    fs::rename(server.path("log"), server.path("moved")).unwrap();
    server.signal("USR1");
    eventually("a new file", || read("log").contains("[INF] File log re-opened\n").then_some(()));
    assert!(read("moved").ends_with("[INF] Trapped \"user defined signal 1\" signal\n"));
}

#[test]
fn reopening_without_a_file_is_ignored() {
    let server = Server::ready(&[]);
    server.signal("USR1");
    server.wait_for_log("[INF] File log re-open ignored, not a file logger");
}

#[test]
fn debug_and_trace_show_connections_but_no_secret() {
    let server = Server::ready(&["-DV", "--user", "me", "--pass", "s3cr3t"]);
    server.wait_for_log("[WRN] Plaintext passwords detected, use nkeys or bcrypt");
    let mut client = server.client();
    client.done("CONNECT {\"verbose\":false,\"user\":\"me\",\"pass\":\"s3cr3t\",\"auth_token\":\"t0ken\"}\r\nSUB foo 1\r\n");
    server.wait_for_log(" [DBG] ");
    server.wait_for_log("<<- [CONNECT {");
    let line = server.wait_for_log("<<- [SUB foo 1]");
    assert!(line.contains("[TRC] ") && line.contains(" - cid:"), "{line}");
    assert!(!server.log().contains("s3cr3t") && !server.log().contains("t0ken"), "{}", server.log());
}

#[test]
fn without_the_flags_neither_is_shown() {
    let server = Server::ready(&[]);
    server.client().done("CONNECT {\"verbose\":false}\r\n");
    assert!(!server.log().contains("[DBG]") && !server.log().contains("[TRC]"));
}

#[test]
fn a_remote_syslog_gets_the_lines_under_the_programs_name() {
    let syslog = UdpSocket::bind("127.0.0.1:0").unwrap();
    syslog.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = format!("udp://{}", syslog.local_addr().unwrap());
    let server = Server::start(&["-r", &address]);
    let mut line = [0; 1024];
    let n = syslog.recv(&mut line).unwrap();
    let line = String::from_utf8_lossy(&line[..n]).into_owned();
    assert!(line.starts_with("<5>20"), "{line}");
    assert!(line.ends_with(&format!(" natrix[{}]: Starting nats-server\n", server.pid())), "{line}");
    assert_eq!(server.log(), "");
}
