//! Starting, watching and ending servers.

use std::io::Write;
use std::time::Duration;

use natrix_parity::servers::{Implementation, Server, ServerBuilder, Signal, connect};

/// Runs `check` on each server that is installed; CI has both.
pub(crate) fn on_each(check: impl Fn(Implementation)) {
    for implementation in Implementation::ALL {
        match implementation.find() {
            Ok(_) => check(implementation),
            Err(error) if std::env::var_os("CI").is_none() => eprintln!("skipped: {error}"),
            Err(error) => panic!("{error}"),
        }
    }
}

fn start(implementation: Implementation) -> Server {
    ServerBuilder::new(implementation).unwrap().flag("-m").flag("-1").start().unwrap()
}

#[test]
fn a_server_starts_on_chosen_ports_and_stops_when_asked() {
    on_each(|implementation| {
        let mut server = start(implementation);
        let (mut stream, info) = connect(server.address()).unwrap();
        assert!(info.starts_with("INFO {"), "{info}");
        stream.write_all(b"PING\r\n").unwrap();
        assert!(server.monitoring_port().is_some_and(|port| port != server.port()));
        assert!(server.stop().is_ok());
        assert!(connect(server.address()).is_err());
    });
}

#[test]
fn a_restarted_server_keeps_its_port() {
    on_each(|implementation| {
        let mut server = start(implementation);
        let (port, pid) = (server.port(), server.pid());
        server.restart().unwrap();
        assert_eq!(server.port(), port);
        assert_ne!(server.pid(), pid);
        connect(server.address()).unwrap();
    });
}

#[test]
fn usage_counts_connections_and_work() {
    on_each(|implementation| {
        let server = start(implementation);
        let before = server.usage().unwrap();
        let clients: Vec<_> = (0..50).map(|_| connect(server.address()).unwrap()).collect();
        let after = server.usage().unwrap();
        assert!(after.descriptors >= before.descriptors + 50, "{before:?} {after:?}");
        assert!(after.cpu >= before.cpu);
        drop(clients);
    });
}

#[test]
fn a_bad_configuration_is_an_error_with_the_log() {
    on_each(|implementation| {
        let builder = ServerBuilder::new(implementation).unwrap().config("no_such_field: 1").unwrap();
        let error = format!("{:#}", builder.start().unwrap_err());
        assert!(error.contains("ended at once") && error.contains("no_such_field"), "{error}");
    });
}

#[test]
fn a_signal_ends_the_server() {
    on_each(|implementation| {
        let mut server = start(implementation);
        server.signal(Signal::INT).unwrap();
        server.wait(Duration::from_secs(10)).unwrap();
    });
}
