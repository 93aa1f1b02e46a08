//! What JetStream begins with: its folder, its limits, its lines in the log, and what clients are told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::support::{Server, eventually};

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

/// Returns the files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Returns which files have one of these texts.
fn files_with(folder: &Path, texts: &[&str]) -> Vec<String> {
    let has = |content: &[u8], text: &str| content.windows(text.len()).any(|part| part == text.as_bytes());
    let found = |path: &PathBuf| {
        let content = fs::read(path).unwrap_or_default();
        texts.iter().any(|text| has(&content, text))
    };
    files_below(folder).iter().filter(|path| found(path)).map(|path| path.display().to_string()).collect()
}

#[test]
fn with_a_key_nothing_is_on_disk_in_plain_text() {
    for (cipher, name) in [("aes", "AES-GCM"), ("chacha", "ChaCha20-Poly1305")] {
        let text =
            format!("jetstream {{ store_dir: \"FOLDER/js\", key: TheServersKey, cipher: {cipher} }}\n");
        let text = text
            + "http: \"127.0.0.1:-1\"\naccounts { AccountMarker { jetstream: enabled, users: [{user: u, password: p}] } }";
        let mut server = Server::start_with(&["-c", "FOLDER/nats.conf"], &[("nats.conf", &text)]);
        server.wait_for_log("Server is ready");
        assert!(settled(&server).contains(&format!("  Encryption:      {name}")));
        let mut client = server.client();
        let connect =
            "CONNECT {\"verbose\":false,\"headers\":true,\"user\":\"u\",\"pass\":\"p\"}\r\nSUB _I 1\r\n";
        client.send(connect);
        let stream = "{\"name\":\"StreamMarker\",\"subjects\":[\"subjectmarker.>\"]}";
        let consumer = "{\"stream_name\":\"StreamMarker\",\"config\":{\"durable_name\":\"ConsumerMarker\",\"ack_policy\":\"explicit\"}}";
        for (subject, body) in [
            ("$JS.API.STREAM.CREATE.StreamMarker", stream),
            ("$JS.API.CONSUMER.CREATE.StreamMarker.ConsumerMarker", consumer),
        ] {
            client.send(&format!("PUB {subject} _I {}\r\n{body}\r\n", body.len()));
            while !client.line().contains("\"created\"") {}
        }
        let mut operations = String::new();
        let headers = "NATS/1.0\r\nHeadermarker: x\r\n\r\n";
        let payload = "PayloadMarker".repeat(100);
        let last = 200;
        for _ in 0..last {
            let (head, all) = (headers.len(), headers.len() + payload.len());
            operations += &format!("HPUB subjectmarker.a _I {head} {all}\r\n{headers}{payload}\r\n");
        }
        client.send(&operations);
        let done = format!("\"seq\":{last}}}");
        while !client.line().contains(&done) {}
        let secrets = [
            "StreamMarker",
            "subjectmarker",
            "ConsumerMarker",
            "Headermarker",
            "PayloadMarker",
            "AccountMarker",
            "TheServersKey",
        ];
        assert_eq!(files_with(&server.path("js"), &secrets), [""; 0]);
        for page in ["/varz", "/jsz?config=1"] {
            assert!(!server.get(page).1.contains("TheServersKey"));
        }
        server.kill();
        assert!(files_below(&server.path("js")).len() > 5);
        assert_eq!(files_with(&server.path("js"), &secrets), [""; 0]);
        assert!(!server.log().contains("TheServersKey"));
    }
}

/// What must not be in a file once it is encrypted.
const MARKERS: [&str; 4] = ["StreamMarker", "subjectmarker", "ConsumerMarker", "PayloadMarker"];
const STREAMS: usize = 12;
const MESSAGES: usize = 60;

/// Starts a server on a store, with more settings of it, and waits until it takes clients.
fn start_on(folder: &Path, settings: &str) -> Server {
    let text = format!("jetstream {{ store_dir: \"{}\", max_mem: 1G {settings} }}\n", folder.display());
    let server = Server::start_with(&["-c", "FOLDER/nats.conf"], &[("nats.conf", &text)]);
    server.wait_for_log("Server is ready");
    server
}

/// Makes streams of several blocks, with a consumer each.
fn make_streams(server: &Server) {
    let mut client = server.client();
    client.send("CONNECT {\"verbose\":false}\r\nSUB _I 1\r\n");
    for number in 0..STREAMS {
        let stream = format!(
            "{{\"name\":\"StreamMarker{number}\",\"subjects\":[\"subjectmarker.{number}\"],\"max_bytes\":120000}}"
        );
        let consumer = format!(
            "{{\"stream_name\":\"StreamMarker{number}\",\"config\":{{\"durable_name\":\"ConsumerMarker\",\"ack_policy\":\"explicit\"}}}}"
        );
        for (subject, body) in [
            (format!("STREAM.CREATE.StreamMarker{number}"), stream),
            (format!("CONSUMER.CREATE.StreamMarker{number}.ConsumerMarker"), consumer),
        ] {
            client.send(&format!("PUB $JS.API.{subject} _I {}\r\n{body}\r\n", body.len()));
            while !client.line().contains("\"created\"") {}
        }
        let payload = "PayloadMarker".repeat(100);
        let message = format!("PUB subjectmarker.{number} _I {}\r\n{payload}\r\n", payload.len());
        client.send(&message.repeat(MESSAGES));
        let done = format!("\"seq\":{MESSAGES}}}");
        while !client.line().contains(&done) {}
    }
}

/// Asserts that everything is there as it was made.
fn assert_readable(server: &Server) {
    let mut client = server.client();
    client.send("CONNECT {\"verbose\":false}\r\nSUB _I 1\r\n");
    for number in 0..STREAMS {
        for sequence in [1, MESSAGES / 2, MESSAGES] {
            let body = format!("{{\"seq\":{sequence}}}");
            let name = format!("$JS.API.STREAM.MSG.GET.StreamMarker{number}");
            client.send(&format!("PUB {name} _I {}\r\n{body}\r\n", body.len()));
            assert!(client.line().starts_with("MSG _I 1 "));
            let answer = client.line();
            assert!(answer.contains(&format!("\"subject\":\"subjectmarker.{number}\"")), "{answer}");
        }
        client.send(&format!("PUB $JS.API.CONSUMER.INFO.StreamMarker{number}.ConsumerMarker _I 0\r\n\r\n"));
        assert!(client.line().starts_with("MSG _I 1 "));
        let answer = client.line();
        assert!(answer.contains(&format!("\"num_pending\":{MESSAGES},")), "{answer}");
    }
}

/// Returns the folders of the stores of shards: those that have a catalogue's journal.
fn stores_in(folder: &Path) -> Vec<PathBuf> {
    let files = files_below(folder);
    let mut stores: Vec<PathBuf> =
        files.iter().filter_map(|path| Some(path.parent()?.parent()?.to_owned())).collect();
    stores.retain(|path| path.join("meta").is_dir());
    stores.sort();
    stores.dedup();
    stores
}

fn copy(from: &Path, to: &Path) {
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, target).unwrap();
    }
}

#[test]
fn a_store_in_plain_text_is_encrypted_when_a_key_comes() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, store) = (folder.path().join("plain"), folder.path().join("store"));
    let mut server = start_on(&plain, "");
    make_streams(&server);
    server.kill();
    assert!(files_with(&plain, &MARKERS).len() > STREAMS);
    copy(&plain, &store);

    let mut server = start_on(&store, ", key: TheServersKey");
    // A shard without streams has nothing to tell.
    for store in stores_in(&store).iter().filter(|store| !files_below(&store.join("streams")).is_empty()) {
        let folder = store.to_string_lossy().split_once("jetstream/").unwrap().1.to_owned();
        server.wait_for_log(&format!("JetStream has encrypted all that is stored in \"{folder}\""));
    }
    assert_eq!(files_with(&store, &MARKERS), [""; 0]);
    assert_readable(&server);
    server.kill();
    let server = start_on(&store, ", key: TheServersKey, cipher: aes");
    server.wait_for_log("JetStream has encrypted all that is stored in \"natrix\" with AES-GCM");
    assert_readable(&server);

    // Killed again and again on the way.
    for wait in [0, 1, 3, 6, 10, 20, 40] {
        let store = folder.path().join(format!("killed-{wait}"));
        copy(&plain, &store);
        for _ in 0..4 {
            let mut server = start_on(&store, ", key: TheServersKey");
            // Not for anything to have happened: whenever it is killed, nothing is lost and nothing forgotten.
            std::thread::sleep(std::time::Duration::from_millis(wait));
            server.kill();
        }
        let server = start_on(&store, ", key: TheServersKey");
        let marked = || stores_in(&store).iter().all(|store| store.join("store.epoch").exists());
        eventually("everything is encrypted", || marked().then_some(()));
        assert_eq!(files_with(&store, &MARKERS), [""; 0]);
        assert_readable(&server);
    }
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
