//! Starting and ending: banner, files, signals, and ports that are taken.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::{Server, eventually, run};

#[test]
fn the_log_says_which_server_this_is_and_when_it_is_ready() {
    let server = Server::ready(&["-n", "me"]);
    let log = server.log();
    let lines: Vec<&str> = log.lines().map(|line| line.split_once("[INF] ").expect(line).1).collect();
    assert_eq!(lines[..2], ["Starting nats-server", "  Version:  2.15.1"]);
    assert!(lines[2].starts_with("  Git:      ["), "{log}");
    assert_eq!(lines[3], "  Name:     me");
    assert!(lines[4].starts_with("  ID:       N") && lines[4].len() == "  ID:       ".len() + 56, "{log}");
    assert!(lines[5].starts_with("Listening for client connections on 127.0.0.1:"));
    assert_eq!(lines[6..], ["Server is ready"]);
    let pid = format!("[{}] 20", server.pid());
    assert!(log.lines().all(|line| line.starts_with(&pid)), "{log}");
}

#[test]
fn a_name_that_is_not_given_is_the_id() {
    let server = Server::ready(&[]);
    let name = server.wait_for_log("  Name:     ").rsplit(' ').next().unwrap().to_owned();
    assert_eq!(server.wait_for_log("  ID:       ").rsplit(' ').next(), Some(name.as_str()));
    assert!(server.client().info.contains(&format!("\"server_name\":\"{name}\"")));
}

#[test]
fn sigterm_and_sigint_end_the_server_in_peace() {
    for (signal, name) in [("TERM", "terminated"), ("INT", "interrupt")] {
        let mut server = Server::ready(&["-m", "-1", "-P", "FOLDER/pid"]);
        let mut client = server.client();
        client.done("CONNECT {\"verbose\":false}\r\n");
        server.signal(signal);
        client.ended();
        assert_eq!(server.exit_code(), 0);
        let log = server.log();
        let told: Vec<&str> = log.lines().skip_while(|line| !line.contains("Trapped")).collect();
        assert!(told[0].ends_with(&format!("[INF] Trapped \"{name}\" signal")), "{log}");
        assert!(told[1].ends_with("[INF] Initiating Shutdown..."), "{log}");
        assert!(told.last().unwrap().ends_with("[INF] Server Exiting.."), "{log}");
    }
}

#[test]
fn the_pid_file_is_digits() {
    let server = Server::ready(&["-P", "FOLDER/pid"]);
    assert_eq!(fs::read_to_string(server.path("pid")).unwrap(), server.pid().to_string());
}

#[test]
fn a_pid_file_that_can_not_be_written_ends_the_start() {
    let mut server = Server::start(&["-P", "/nowhere/x"]);
    assert_eq!(server.exit_code(), 1);
    let line = server.wait_for_log("[FTL]");
    assert!(line.ends_with("Could not write pidfile: open /nowhere/x: no such file or directory"), "{line}");
}

#[test]
fn the_ports_file_lists_what_listens_and_goes_at_the_end() {
    let mut server = Server::ready(&["-m", "-1", "--ports_file_dir", "FOLDER"]);
    let path = server.path(&format!("natrix_{}.ports", server.pid()));
    let ports =
        eventually("the ports file", || fs::read_to_string(&path).ok().filter(|text| text.ends_with('}')));
    let client = server.address("Listening for client connections on ");
    let monitoring = server.address("Starting http monitor on ");
    assert_eq!(ports, format!(r#"{{"nats":["nats://{client}"],"monitoring":["http://{monitoring}"]}}"#));
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
    assert!(!path.exists());
}

#[test]
fn a_folder_that_is_not_there_costs_the_ports_file_only() {
    let server = Server::ready(&["--ports_file_dir", "/nowhere"]);
    server.wait_for_log("[ERR] Error writing ports file (/nowhere/natrix_");
    server.client().done("CONNECT {\"verbose\":false}\r\n");
}

#[test]
fn a_port_that_is_taken_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut server = Server::start(&["-p", &port]);
    assert_eq!(server.exit_code(), 1);
    let line = server.wait_for_log("[FTL]");
    assert!(line.contains(&format!("Error listening on port: 127.0.0.1:{port}, ")), "{line}");
    assert!(line.to_lowercase().contains("address already in use"), "{line}");
}

#[test]
fn a_port_that_can_not_be_ends_the_start() {
    let mut server = Server::start(&["-p", "70000"]);
    assert_eq!(server.exit_code(), 1);
    let line = server.wait_for_log("[FTL]");
    let told = "Error listening on port: 127.0.0.1:70000, \"listen tcp: address 70000: invalid port\"";
    assert!(line.ends_with(told), "{line}");
    assert!(server.log().contains("Starting nats-server"));
}

#[test]
fn a_host_that_is_not_there_ends_the_start() {
    // An address for documentation is nobody's.
    let mut server = Server::start(&["-a", "192.0.2.200"]);
    assert_eq!(server.exit_code(), 1);
    assert!(server.wait_for_log("[FTL]").contains("Error listening on port: 192.0.2.200:"));
}

#[test]
fn a_signal_during_the_start_is_not_lost() {
    let mut server = Server::start(&[]);
    server.wait_for_log("Starting nats-server");
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
    assert!(server.log().ends_with("[INF] Server Exiting..\n"), "{}", server.log());
}

#[test]
fn the_log_names_the_configuration_file() {
    let server = Server::start_with(&["-c", "FOLDER/conf"], &[("conf", "debug: false")]);
    let line = server.wait_for_log("Using configuration file: ");
    let path = server.path("conf");
    assert!(line.contains(&format!("{} (sha256:", path.display())) && line.ends_with(')'), "{line}");
}

#[test]
fn a_reload_is_refused_in_the_log_and_the_server_goes_on() {
    let server = Server::ready(&[]);
    server.signal("HUP");
    server.wait_for_log("[INF] Trapped \"hangup\" signal");
    server.wait_for_log("[ERR] Failed to reload server configuration: ");
    server.client().done("CONNECT {\"verbose\":false}\r\n");
}

/// Short enough for a test, long enough to be a lame duck.
const LAME_DUCK: &str = "lame_duck_duration: 30s, lame_duck_grace_period: 500ms";

#[test]
fn a_lame_duck_tells_its_clients_lets_them_finish_and_leaves() {
    let mut server =
        Server::start_with(&["-c", "FOLDER/conf", "-P", "FOLDER/pid", "-m", "-1"], &[("conf", LAME_DUCK)]);
    server.wait_for_log("Server is ready");
    let mut client = server.client();
    client.done("CONNECT {\"verbose\":false,\"protocol\":1}\r\n");
    let target = format!("ldm={}", server.path("pid").display());
    let sent = run(&["-sl", &target]);
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    while !client.line().contains("\"ldm\":true") {}
    server.wait_for_log("Entering lame duck mode, stop accepting new clients");
    assert_eq!(server.get("/healthz").0, 500);
    // Orchestrators send it at the beginning of their patience.
    server.signal("TERM");
    client.done("");
    client.ended();
    assert_eq!(server.exit_code(), 0);
    let log = server.log();
    assert!(
        log.contains("Trapped \"user defined signal 2\" signal") && log.ends_with("Server Exiting..\n"),
        "{log}"
    );
}

#[test]
fn a_lame_duck_without_clients_leaves_at_once() {
    let mut server = Server::ready(&[]);
    let start = Instant::now();
    server.signal("USR2");
    assert_eq!(server.exit_code(), 0);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn sigint_ends_a_lame_duck() {
    let mut server = Server::ready(&[]);
    let mut client = server.client();
    client.done("CONNECT {\"verbose\":false}\r\n");
    server.signal("USR2");
    server.wait_for_log("Entering lame duck mode");
    server.signal("INT");
    assert_eq!(server.exit_code(), 0);
}

#[test]
fn signals_by_command_reach_a_running_server() {
    let mut server = Server::ready(&["-P", "FOLDER/pid"]);
    let target = |command: &str| format!("{command}={}", server.path("pid").display());
    for (command, said) in [("reopen", "File log re-open ignored"), ("reload", "Failed to reload")] {
        assert_eq!(run(&["--signal", &target(command)]).status.code(), Some(0));
        server.wait_for_log(said);
    }
    assert_eq!(run(&[&format!("-sl={}", target("quit"))]).status.code(), Some(0));
    assert_eq!(server.exit_code(), 0);
}
