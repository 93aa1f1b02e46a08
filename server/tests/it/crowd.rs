//! Many connections at once: coming, being one too many, and writing while the server ends.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use crate::support::{Client, PATIENCE, Server, eventually};

/// Threads that connect; each has its share of the crowd.
const THREADS: usize = 10;

/// Has `count` connections made at once, and `serve` called for each with its number.
fn crowd<T: Send>(address: &str, count: usize, serve: impl Fn(usize, Client) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(THREADS);
    let part = |first: usize| {
        start.wait();
        // All of a thread's connections are open before the first of them is served.
        let numbers = (first..count).step_by(THREADS);
        let clients: Vec<(usize, Client)> =
            numbers.map(|number| (number, Client::connect(address))).collect();
        clients.into_iter().map(|(number, client)| serve(number, client)).collect::<Vec<T>>()
    };
    let part = &part;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(move || part(first))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn number_of_connections(server: &Server) -> u64 {
    let (_, varz) = server.get("/varz");
    let value: serde_json::Value = serde_json::from_str(&varz).unwrap();
    value["connections"].as_u64().unwrap()
}

#[test]
fn five_hundred_clients_come_at_once_and_all_hear_one_message() {
    let server = Server::ready(&["-m", "-1", "--shards", "2"]);
    let address = server.address("Listening for client connections on ");
    let mut clients = crowd(&address, 500, |number, mut client| {
        client.done(&format!("CONNECT {{\"verbose\":false}}\r\nSUB all 1\r\nSUB to.{number} 2\r\n"));
        (number, client)
    });
    assert_eq!(number_of_connections(&server), 500);
    clients[0].1.send("PUB all 5\r\nhello\r\n");
    for (_, client) in &mut clients {
        assert_eq!((client.line(), client.line()), ("MSG all 1 5".to_owned(), "hello".to_owned()));
    }
    // Each to one other, many of them on the other shard.
    let numbers: Vec<usize> = clients.iter().map(|(number, _)| *number).collect();
    for (index, (_, client)) in clients.iter_mut().enumerate() {
        let next = numbers[(index + 1) % numbers.len()];
        client.send(&format!("PUB to.{next} 1\r\nx\r\n"));
    }
    for (number, client) in &mut clients {
        assert_eq!((client.line(), client.line()), (format!("MSG to.{number} 2 1"), "x".to_owned()));
    }
    drop(clients);
    eventually("an empty server", || (number_of_connections(&server) == 0).then_some(()));
    server.client().done("CONNECT {\"verbose\":false}\r\n");
}

#[test]
fn of_a_crowd_exactly_max_connections_stay() {
    let config = "max_connections: 120\n";
    let server = Server::start_with(
        &["-m", "-1", "--shards", "2", "-c", "FOLDER/server.conf"],
        &[("server.conf", config)],
    );
    server.wait_for_log("Server is ready");
    let address = server.address("Listening for client connections on ");
    let clients = crowd(&address, 200, |_, mut client| {
        client.send("CONNECT {\"verbose\":false}\r\nPING\r\n");
        match client.line().as_str() {
            "PONG" => Some(client),
            "-ERR 'maximum connections exceeded'" => {
                client.ended();
                None
            }
            other => panic!("{other}"),
        }
    });
    let mut stayed: Vec<Client> = clients.into_iter().flatten().collect();
    assert_eq!(stayed.len(), 120);
    // A place that becomes free is given away again, once.
    stayed.truncate(119);
    eventually("a free place", || (number_of_connections(&server) == 119).then_some(()));
    let mut next = server.client();
    next.done("CONNECT {\"verbose\":false}\r\n");
    assert_eq!(server.client().line(), "-ERR 'maximum connections exceeded'");
}

#[test]
fn a_server_without_descriptors_says_so_and_accepts_again_when_it_has_some() {
    let mut server = Server::start_with_descriptors(64, &["--shards", "2"]);
    server.wait_for_log("Server is ready");
    let address = server.address("Listening for client connections on ");
    let mut served = server.client();
    served.done("CONNECT {\"verbose\":false}\r\n");
    let crowd: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect(&address).unwrap()).collect();
    for pause in ["10ms", "20ms", "1000ms"] {
        let line = server.wait_for_log(&format!("sleeping {pause}"));
        let text = format!(
            "[ERR] Temporary Client Accept Error(accept tcp {address}: accept4: too many open files), sleeping {pause}"
        );
        assert!(line.ends_with(&text), "{line}");
    }
    // Whoever is connected already doesn't notice.
    served.done("");
    drop(crowd);
    server.client().done("CONNECT {\"verbose\":false}\r\n");
    // Nor does a server that waits for descriptors keep anybody from ending it.
    let _crowd: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect(&address).unwrap()).collect();
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
}

/// Writes numbered messages until the server is gone; returns how many it took.
fn publish_until_the_end(address: &str, name: usize) -> u64 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = b"CONNECT {\"verbose\":false}\r\n".to_vec();
    for number in 0.. {
        let payload = format!("{name} {number}");
        bytes.extend(format!("PUB flood.{name} {}\r\n{payload}\r\n", payload.len()).bytes());
        if bytes.len() > 4_000 && stream.write_all(&std::mem::take(&mut bytes)).is_err() {
            return number;
        }
    }
    unreachable!("numbers don't end")
}

/// Reads messages until the server is gone; returns the next number of each publisher.
///
/// What comes is whole and without gaps; only the end may be cut off, anywhere.
fn hear_until_the_end(address: &str, hears: &AtomicBool) -> BTreeMap<String, u64> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"CONNECT {\"verbose\":false}\r\nSUB flood.* 1\r\n").unwrap();
    let (mut reader, mut line) = (BufReader::new(stream), String::new());
    let mut next_line = move || {
        line.clear();
        // A reset is an end too.
        let _ = reader.read_line(&mut line);
        line.strip_suffix("\r\n").map(str::to_owned)
    };
    assert!(next_line().unwrap().starts_with("INFO "));
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    while let (Some(line), Some(payload)) = (next_line(), next_line()) {
        let (name, number) = payload.split_once(' ').unwrap();
        assert_eq!(line, format!("MSG flood.{name} 1 {}", payload.len()));
        let expected = next.entry(name.to_owned()).or_insert_with(|| number.parse().unwrap());
        assert_eq!(number, expected.to_string(), "from {name}");
        *expected += 1;
        hears.store(true, Ordering::Relaxed);
    }
    next
}

#[test]
fn a_server_ends_in_peace_while_clients_write() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::ready(&["--shards", "2"]);
        let address = server.address("Listening for client connections on ");
        let hears: Vec<AtomicBool> = (0..3).map(|_| AtomicBool::new(false)).collect();
        thread::scope(|scope| {
            let address = &address;
            let readers: Vec<_> =
                hears.iter().map(|hears| scope.spawn(move || hear_until_the_end(address, hears))).collect();
            let writers: Vec<_> =
                (0..4).map(|name| scope.spawn(move || publish_until_the_end(address, name))).collect();
            eventually("messages", || hears.iter().all(|hears| hears.load(Ordering::Relaxed)).then_some(()));
            let told = Instant::now();
            server.signal(signal);
            assert_eq!(server.exit_code(), 0);
            // Nobody's last bytes are waited for longer than a second.
            assert!(told.elapsed().as_secs() < 4, "it took {:?}", told.elapsed());
            let sent: Vec<u64> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
            for reader in readers {
                for (name, next) in reader.join().unwrap() {
                    let sent = sent[name.parse::<usize>().unwrap()];
                    assert!(next <= sent + 1, "{next} messages of {sent}");
                }
            }
        });
        let log = server.log();
        assert!(log.lines().last().unwrap().ends_with("[INF] Server Exiting.."), "{log}");
    }
}
