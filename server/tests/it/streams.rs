//! What JetStream begins with: its folder, its limits, its lines in the log, and what clients are told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::Server;

/// Returns the lines between those that frame what was settled.
fn settled(server: &Server) -> Vec<String> {
    let log = server.log();
    let lines = log.lines().filter_map(|line| line.split_once("[INF] ").map(|(_, line)| line.to_owned()));
    let block = lines.skip_while(|line| !line.contains("- JETSTREAM -")).skip(1);
    block.take_while(|line| !line.starts_with("-----")).collect()
}

#[test]
fn flags_alone_ask_the_machine_for_limits() {
    let server = Server::ready(&["-js", "-sd", "FOLDER/data/below"]);
    let lines = settled(&server);
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert_eq!(lines[0], "  Strict:          true");
    for (line, what) in [(&lines[1], "  Max Memory:      "), (&lines[2], "  Max Storage:     ")] {
        let size = line.strip_prefix(what).unwrap();
        assert!(size != "0 B" && size.ends_with('B'), "{line}");
    }
    let folder = server.path("data/below/jetstream");
    assert_eq!(lines[3], format!("  Store Directory: \"{}\"", folder.display()));
    assert_eq!(lines[4], "  API Level:       5");
    assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(server.client().info.contains("\"jetstream\":true,"));
}

#[test]
fn what_a_file_says_of_streams_is_kept() {
    let text = "jetstream { store_dir: \"FOLDER/a//b/\", max_mem: 1G, max_file: \"2G\", domain: hub, \
                strict: false }";
    let server = Server::start_with(&["-c", "FOLDER/nats.conf"], &[("nats.conf", text)]);
    server.wait_for_log("Server is ready");
    let folder = server.path("a/b/jetstream").display().to_string();
    assert_eq!(
        settled(&server),
        [
            "  Max Memory:      953.67 MB",
            "  Max Storage:     2.00 GB",
            &format!("  Store Directory: \"{folder}\""),
            "  Domain:          hub",
            "  API Level:       5",
        ]
    );
    assert!(server.client().info.contains("\"domain\":\"hub\","));
}

/// Nothing seals the store yet: a server that was asked to and didn't would write in the clear what it promised
/// to encrypt.
#[test]
fn a_key_ends_the_start_after_it_is_told() {
    let text = "jetstream { store_dir: \"FOLDER\", key: k, cipher: aes }";
    let mut server = Server::start_with(&["-c", "FOLDER/nats.conf"], &[("nats.conf", text)]);
    assert_eq!(server.exit_code(), 1);
    assert!(settled(&server).contains(&"  Encryption:      AES-GCM".to_owned()));
    let reason = "encryption of the store is not supported by this version of natrix yet";
    assert!(server.log().ends_with(&format!("[FTL] Can't start JetStream: {reason}\n")), "{}", server.log());
}

#[test]
fn a_domain_is_told_without_streams_too() {
    let text = "jetstream { domain: hub, enabled: false }";
    let server = Server::start_with(&["-c", "FOLDER/nats.conf"], &[("nats.conf", text)]);
    let info = server.client().info;
    assert!(info.contains("\"domain\":\"hub\",") && !info.contains("jetstream"), "{info}");
    assert_eq!(settled(&server), [""; 0]);
}

#[test]
fn a_folder_that_can_not_be_ends_the_start() {
    let mut server = Server::start_with(&["-js", "-sd", "FOLDER/file"], &[("file", "")]);
    assert_eq!(server.exit_code(), 1);
    assert!(server.log().ends_with("[FTL] Can't start JetStream: storage directory is not a directory\n"));
}

#[test]
fn promises_that_can_not_be_kept_end_the_start() {
    let text = "jetstream { store_dir: \"FOLDER\", max_mem: 1k, max_file: 1k }\n\
                accounts { A { jetstream { mem: 600, disk: 600 } }, B { jetstream { disk: 600 } } }";
    let mut server = Server::start_with(&["-c", "FOLDER/nats.conf"], &[("nats.conf", text)]);
    assert_eq!(server.exit_code(), 1);
    let reason = "insufficient storage resources available (10047)";
    let line = format!("Can't start JetStream: Error enabling jetstream on configured accounts: {reason}");
    assert!(server.log().ends_with(&format!("[FTL] {line}\n")), "{}", server.log());
}
