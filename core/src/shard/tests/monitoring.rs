//! What monitoring is told of connections and sublists while time goes by.

use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::monitoring::{
    Connz, ConnzContext, ConnzOptions, ControlReply, Query, ShardStats, Subsz, SubszOptions, SubszPart,
};

/// Has every shard answer.
fn ask(server: &mut Server, request: &ControlRequest) -> Vec<ControlReply> {
    let now = server.now;
    let mut replies = Vec::new();
    for shard in &mut server.shards {
        shard.handle(now, Input::Control { id: 9, request: request.clone() });
        while let Some(output) = shard.poll_output() {
            match output {
                Output::ControlReply { id: 9, reply } => replies.push(reply),
                // Nobody is sent anything for being looked at.
                other => panic!("{other:?}"),
            }
        }
    }
    replies
}

/// Returns the connections that /connz shows for a query.
pub(super) fn connz(server: &mut Server, query: &str) -> Vec<Value> {
    let options = ConnzOptions::from_query(&Query::parse(query)).unwrap();
    let parts = ask(server, &ControlRequest::Connz(Arc::new(options.clone())));
    let parts = parts.into_iter().map(|reply| match reply {
        ControlReply::Connz(part) => part,
        other => panic!("{other:?}"),
    });
    let context = ConnzContext { server_id: "", now: server.now.wall, max_closed: 10, account_exists: true };
    let connz = Connz::merge(&options, &context, parts.collect());
    let Value::Array(connections) = serde_json::to_value(connz).unwrap()["connections"].take() else {
        panic!("no connections");
    };
    connections
}

/// Returns the connections of /connz in order of their ids.
fn connections(server: &mut Server) -> Vec<Value> {
    connz(server, "")
}

/// Returns what all shards have counted.
pub(super) fn stats(server: &mut Server) -> ShardStats {
    let mut stats = ShardStats::default();
    for reply in ask(server, &ControlRequest::Varz) {
        match reply {
            ControlReply::Varz(shard) => stats.add(&shard),
            other => panic!("{other:?}"),
        }
    }
    stats
}

fn subsz(server: &mut Server) -> Value {
    let options = SubszOptions::from_query(&Query::parse("")).unwrap();
    let parts = ask(server, &ControlRequest::Subsz(Arc::new(options.clone())));
    let parts: Vec<SubszPart> = parts
        .into_iter()
        .map(|reply| match reply {
            ControlReply::Subsz(part) => part,
            other => panic!("{other:?}"),
        })
        .collect();
    serde_json::to_value(Subsz::merge(&options, "", server.now.wall, parts)).unwrap()
}

#[test]
fn the_round_trip_is_that_of_connect_until_a_ping_was_answered() {
    let mut server = Server::new(2, Options::default());
    let client = server.connect(1);
    server.advance(Duration::from_millis(7));
    server.send(client, b"CONNECT {\"verbose\":false,\"lang\":\"go\"}\r\nPING\r\n");
    assert_eq!(connections(&mut server)[0]["rtt"], "7ms");
    server.took(client);
    // Asking sends no PING (`ask` would have seen it); the first one's time comes by itself.
    server.advance(Duration::from_secs(3));
    assert_eq!(server.took(client), "PING\r\n");
    server.advance(Duration::from_micros(1_500));
    assert_eq!(connections(&mut server)[0]["rtt"], "7ms");
    server.send(client, b"PONG\r\n");
    assert_eq!(connections(&mut server)[0]["rtt"], "1.5ms");
    server.advance(Duration::from_secs(1));
    server.send(client, b"PONG\r\n");
    assert_eq!(connections(&mut server)[0]["rtt"], "1.5ms", "nobody had asked");
}

#[test]
fn last_activity_is_when_a_client_last_subscribed_published_or_was_sent_a_message() {
    let mut server = Server::new(2, Options::default());
    let (reader, writer) = (server.connect(0), server.connect(1));
    for client in [reader, writer] {
        server.send(client, b"CONNECT {\"verbose\":false}\r\n");
    }
    let mut at = |second: i64, client: usize, bytes: &[u8]| {
        server.now.wall = WallTime::from_unix_nanos(second * 1_000_000_000);
        server.send(client, bytes);
        let connections = connections(&mut server);
        let second = |index: usize| connections[index]["last_activity"].as_str().unwrap()[17..19].to_owned();
        (second(0), second(1))
    };
    let seconds = |reader: &str, writer: &str| (reader.to_owned(), writer.to_owned());
    assert_eq!(at(1, reader, b""), seconds("00", "00"));
    assert_eq!(at(2, reader, b"SUB x 1\r\n"), seconds("02", "00"));
    assert_eq!(at(3, writer, b"PUB nobody 1\r\na\r\n"), seconds("02", "03"));
    assert_eq!(at(4, writer, b"PUB x 1\r\na\r\n"), seconds("04", "04"), "delivery, on another shard");
    assert_eq!(at(5, reader, b"UNSUB 1\r\n"), seconds("05", "04"));
    assert_eq!(at(6, writer, b"PING\r\nPONG\r\n"), seconds("05", "04"), "that only shows that it is there");
    let large = [b"PUB x 100000\r\n".to_vec(), vec![b'a'; 100_000], b"\r\n".to_vec()].concat();
    assert_eq!(at(7, writer, &large), seconds("05", "07"));
}

#[test]
fn no_account_caches_matches_once_that_is_disabled() {
    let user = |name: &str, account: &str| User {
        username: name.into(),
        password: Secret::new("p"),
        account: Some(account.into()),
        ..User::default()
    };
    for disabled in [false, true] {
        let options = Options {
            disable_sublist_cache: disabled,
            accounts: ["A", "B"].map(|name| Account { name: name.into(), ..Account::default() }).into(),
            users: vec![user("a", "A"), user("b", "B")],
            ..Options::default()
        };
        let mut server = Server::new(1, options);
        for name in ["a", "b"] {
            let client = server.connect(0);
            let login = format!("CONNECT {{\"verbose\":false,\"user\":\"{name}\",\"pass\":\"p\"}}\r\n");
            server.send(client, login.as_bytes());
            server.send(client, b"SUB * 1\r\nPUB x 1\r\na\r\nPUB x 1\r\na\r\nPING\r\n");
            let took = server.took(client);
            assert_eq!(took.matches("MSG x 1 1").count(), 2, "{took}");
        }
        let subsz = subsz(&mut server);
        assert_eq!(subsz["num_cache"], if disabled { 0 } else { 2 }, "{subsz}");
    }
}
