//! The adapter on real sockets.

mod disk;
mod support;
mod tls;
mod volume;

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::Duration;

use natrix_core::config::Options;
use natrix_core::monitoring::{ControlReply, ControlRequest};
use support::{Client, PATIENCE, TestServer};

fn local() -> Options {
    Options { host: "127.0.0.1".into(), port: 0, ..Options::default() }
}

#[test]
fn clients_of_different_shards_hear_each_other() {
    let server = TestServer::start(local(), 2);
    let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&format!("CONNECT {{\"verbose\":false}}\r\nSUB to.{n} 1\r\nPING\r\n"));
        client.expect("PONG\r\n");
    }
    for from in 0..4 {
        for to in 0..4 {
            clients[from].send(&format!("PUB to.{to} 2\r\nhi\r\n"));
            clients[to].expect(&format!("MSG to.{to} 1 2\r\nhi\r\n"));
        }
    }
}

#[test]
fn bytes_may_come_one_at_a_time() {
    let server = TestServer::start(local(), 1);
    let mut client = server.connect();
    for byte in "CONNECT {\"verbose\":false}\r\nSUB a 1\r\nPUB a 3\r\nabc\r\n".chars() {
        client.send(&byte.to_string());
    }
    client.expect("MSG a 1 3\r\nabc\r\n");
}

#[test]
fn large_payloads_cross_shards_while_the_reader_is_slow() {
    let options = Options { max_payload: Some(8 << 20), ..local() };
    let server = TestServer::start(options, 2);
    let (mut reader, mut writer) = (server.connect(), server.connect());
    reader.send("CONNECT {\"verbose\":false}\r\nSUB big 1\r\nPING\r\n");
    reader.expect("PONG\r\n");
    let payload = "x".repeat(3 << 20);
    let count = 8;
    let publisher = std::thread::spawn(move || {
        writer.send("CONNECT {\"verbose\":false}\r\n");
        for _ in 0..count {
            writer.send(&format!("PUB big {}\r\n{payload}\r\n", payload.len()));
        }
        writer.send("PING\r\n");
        writer.expect("PONG\r\n");
    });
    for _ in 0..count {
        reader.expect(&format!("MSG big 1 {}\r\n", 3 << 20));
        reader.expect(&("x".repeat(3 << 20) + "\r\n"));
    }
    publisher.join().unwrap();
}

#[test]
fn the_last_words_arrive_before_the_connection_ends() {
    let server = TestServer::start(local(), 1);
    let mut client = server.connect();
    // More than the server will read: closing must not reset what it says.
    client.send(&format!("NONSENSE{}", "x".repeat(100_000)));
    client.expect("-ERR 'Unknown Protocol Operation'\r\n");
    client.expect_end();
}

#[test]
fn shards_answer_and_stop_when_told() {
    let server = TestServer::start(local(), 3);
    let mut clients: Vec<Client> = (0..6).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("PING\r\n");
        client.expect("PONG\r\n");
    }
    let replies = server.ask(ControlRequest::Varz);
    let connections: Vec<u64> = replies
        .iter()
        .map(|reply| match reply {
            ControlReply::Varz(stats) => stats.connections,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(connections, [2, 2, 2], "placed by load");
    server.ask(ControlRequest::Shutdown);
    for client in &mut clients {
        client.expect_end();
    }
    server.wait_stopped(Duration::from_secs(5));
}

#[test]
fn whoever_connects_while_the_server_stops_is_not_left_waiting() {
    let server = TestServer::start(local(), 2);
    let address = server.address();
    let (sender, some) = std::sync::mpsc::channel();
    let connecting = std::thread::spawn(move || {
        let mut streams = Vec::new();
        // Until nobody listens any more.
        while let Ok(stream) = TcpStream::connect(address)
            && streams.len() < 200
        {
            streams.push(stream);
            if streams.len() == 20 {
                sender.send(()).unwrap();
            }
            std::thread::yield_now();
        }
        streams
    });
    some.recv_timeout(PATIENCE).unwrap();
    server.ask(ControlRequest::Shutdown);
    server.wait_stopped(Duration::from_secs(5));
    let streams = connecting.join().unwrap();
    assert!(streams.len() >= 20);
    // With it goes what a shard was still given when it had stopped.
    drop(server);
    for mut stream in streams {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // INFO, if it was accepted, and an end, which may be a reset.
        if let Err(error) = stream.read_to_end(&mut Vec::new()) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
    }
}

#[test]
fn a_port_that_is_taken_is_told() {
    let first = TestServer::start(local(), 1);
    let options = Options { port: first.address().port(), ..local() };
    assert!(TestServer::try_start(options, 1).is_none());
}
