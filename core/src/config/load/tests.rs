use proptest::prelude::*;

use super::*;
use crate as api;
use crate::config::options::{AccountJetStream, HandshakeFirst, JetStreamLimits, SyncPolicy};
use crate::config::testing::{self, Memory};

#[path = "../../../../sim-tests/fuzz/harness/config.rs"]
mod harness;

fn run(case: &str) -> String {
    let memory = Memory::from_case(case);
    match load(&memory, "nats.conf") {
        Ok(loaded) if loaded.report.is_empty() => {
            format!("configuration file nats.conf is valid ({})\n", loaded.digest().unwrap())
        }
        Ok(loaded) => loaded.report.to_string(),
        Err(LoadError::Parse(error)) => format!("{error}\n"),
        Err(error) => error.to_string(),
    }
}

/// Each script says what it shows; its cases are configurations, the answers what `-t` prints.
#[test]
fn scripts() {
    insta::glob!("../testdata", "load/*.txt", |path| {
        let mut transcript = String::new();
        for case in testing::cases(path) {
            transcript.push_str(&format!("{case}\n=>\n{}\n", run(&case)));
        }
        insta::assert_snapshot!(transcript);
    });
}

fn options(case: &str, overrides: &Overrides) -> Result<Options, String> {
    let memory = Memory::from_case(case);
    let loaded = load(&memory, "nats.conf").map_err(|error| error.to_string())?;
    loaded.into_options(&memory, overrides).map_err(|error| error.to_string())
}

fn file(case: &str) -> Options {
    options(case, &Overrides::default()).unwrap()
}

#[test]
fn without_a_file_everything_is_default() {
    let options = Loaded::default().into_options(&Memory::default(), &Overrides::default());
    assert_eq!(options, Ok(Options::default()));
}

#[test]
fn every_setting_arrives() {
    let options = file(
        r#"
listen: 127.0.0.1:4333, client_advertise: "me:1", server_name: s1, shards: 3
http: "10.0.0.1:8222", http_base_path: "nats/./x"
debug: on, trace_verbose: on, trace_headers: on, logtime: false, logtime_utc: true, log_file: "/tmp/l"
log_size_limit: 1k, log_max_num: 3, syslog: true, remote_syslog: "udp://h:1", max_traced_msg_len: 99
max_connections: 5, max_subs: 6, max_sub_tokens: 7, max_control_line: 8k, max_payload: 9, max_pending: 10k
write_deadline: "3s", write_timeout: retry, ping_interval: "60ms", ping_max: 4, no_fast_producer_stall: true
max_closed_clients: 11, lame_duck_duration: "4m", lame_duck_grace_period: "15s", no_header_support: true
disable_sublist_cache: true, connect_error_reports: 12, reconnect_error_reports: 13
pid_file: p, ports_file_dir: d, prof_port: 14, system_account: S, no_auth_user: u
accounts { S {}, A { users: [ {user: u, pass: p} ], limits { max_conn: 1, max_subs: 2, max_pay: 3, max_leafs: -1 } } }
server_tags: [ "A", b, "a" ], server_metadata { k: v }, feature_flags { f: true }, allow_non_tls: true
"#,
    );
    insta::assert_debug_snapshot!(options);
}

#[test]
fn zero_and_less_mean_what_the_reference_means() {
    let options = file("port: -1, max_conn: 0, max_payload: 0, ping_max: 0, http_port: -1, max_subs: -1");
    assert_eq!((options.port, options.max_connections), (0, None));
    assert_eq!((options.max_payload, options.ping_max), (Some(1024 * 1024), 2));
    assert_eq!((options.monitoring.http_port, options.max_subscriptions), (Some(0), None));
    let options = file("port: 0, max_payload: -1, write_deadline: \"0s\"");
    assert_eq!((options.port, options.max_payload), (4222, None));
    assert_eq!(options.write_deadline, Duration::from_secs(10));
}

#[test]
fn listen_takes_a_port_or_an_address() {
    let parts = |text: &str| {
        let options = file(text);
        (options.host, options.port, options.monitoring.host)
    };
    assert_eq!(parts("listen: 8922"), ("0.0.0.0".into(), 8922, "0.0.0.0".into()));
    assert_eq!(parts("listen: \":8922\""), ("0.0.0.0".into(), 8922, "0.0.0.0".into()));
    assert_eq!(parts("listen: 10.0.1.22:-1"), ("10.0.1.22".into(), 0, "10.0.1.22".into()));
    assert_eq!(parts("listen: \"[::1]:4222\", http: 1"), ("::1".into(), 4222, "::1".into()));
    assert_eq!(parts("net: a, port: 1, http: \"b:2\""), ("a".into(), 1, "b".into()));
    for bad in ["listen: localhost", "listen: \"a:b:c\"", "listen: \"[a:1\"", "listen: 70000", "port: -2"] {
        assert!(options(bad, &Overrides::default()).is_err(), "{bad}");
    }
}

#[test]
fn old_seconds_are_durations_with_a_warning() {
    let memory = Memory::from_case("ping_interval: 8\nwrite_deadline: 5");
    let loaded = load(&memory, "nats.conf").unwrap();
    assert_eq!(loaded.report.warnings.len(), 2);
    assert_eq!(loaded.report.errors, Vec::<String>::new());
    let options = loaded.into_options(&memory, &Overrides::default()).unwrap();
    assert_eq!(options.ping_interval, Duration::from_secs(8));
    assert_eq!(options.write_deadline, Duration::from_secs(5));
}

#[test]
fn authentication_has_longer_with_tls() {
    let timeout = |text: &str| file(text).auth_timeout;
    assert_eq!(timeout("port: 1"), Duration::from_secs(2));
    assert_eq!(timeout("tls { timeout: 4 }"), Duration::from_secs(5));
    assert_eq!(timeout("tls { timeout: \"500ms\" }"), Duration::from_millis(1500));
    assert_eq!(timeout("tls {}\nauthorization { timeout: 0.5 }"), Duration::from_millis(500));
    assert_eq!(timeout("authorization { timeout: \"1m\" }"), Duration::from_secs(60));
}

#[test]
fn tls_is_read_whole() {
    let pin = "A".repeat(64);
    let options = file(&format!(
        "tls {{ cert_file: c, key_file: k, ca_file: a, verify_and_map: true, timeout: 0.5, first: \"1s\"\n\
         min_version: \"1.3\", cipher_suites: [ TLS_AES_128_GCM_SHA256 ], curve_preferences: [ X25519 ]\n\
         pinned_certs: [ {pin} ], connection_rate_limit: 10 }}\n--- c\n--- k\n--- a"
    ));
    insta::assert_debug_snapshot!(options.tls);
    let first =
        |value: &str| file(&format!("tls {{ handshake_first: {value} }}")).tls.unwrap().handshake_first;
    assert_eq!(first("true"), HandshakeFirst::Always);
    assert_eq!(first("\"off\""), HandshakeFirst::No);
    assert_eq!(first("auto"), HandshakeFirst::Fallback(Duration::from_millis(50)));
    assert_eq!(first("\"300ms\""), HandshakeFirst::Fallback(Duration::from_millis(300)));
}

const NKEY: &str = "UA3C5TBZYK5GJQJRWPMU6NFY5JNAEVQB2V2TUZFZDHFJFUYVKTTUOFKZ";

#[test]
fn users_and_their_permissions_arrive() {
    let options = file(&format!(
        "authorization {{ users: [\n\
         {{ user: a, password: p, permissions: {{ publish: x, subscribe: [y, \"z q\"] }} }}\n\
         {{ user: b, connection_types: [standard, WEBSOCKET], permissions: {{ pub: {{ allow: [a, b], deny: c }} \
            , sub: {{ deny: [] }}, allow_responses: true }} }}\n\
         {{ user: c, permissions: {{ allow_responses: {{ max: -1, ttl: \"-1s\" }} }} }}\n\
         {{ user: d }}\n\
         {{ nkey: {NKEY} }}\n\
         ], default_permissions: {{ publish: {{ deny: d }}, allow_responses: {{ max: 5, ttl: \"1s\" }} }} }}"
    ));
    insta::assert_debug_snapshot!((&options.users, &options.nkey_users));
}

#[test]
fn account_users_take_their_accounts_defaults() {
    let options = file(&format!(
        "accounts {{ A {{ users [ {{user: a}}, {{nkey: {NKEY}}}, {{user: b, permissions {{ pub: y }}}} ]\n\
         default_permissions {{ publish: x }} }}, B {{}} }}"
    ));
    let names: Vec<_> = options.accounts.iter().map(|account| account.name.as_str()).collect();
    assert_eq!(names, ["A", "B"]);
    let may = |permissions: &Option<crate::config::Permissions>| {
        permissions.clone().unwrap().publish.unwrap().allow.unwrap()
    };
    assert_eq!(
        (may(&options.users[0].permissions), may(&options.users[1].permissions)),
        (vec!["x".into()], vec!["y".into()])
    );
    assert_eq!(may(&options.nkey_users[0].permissions), ["x"]);
    assert!(options.users.iter().all(|user| user.account.as_deref() == Some("A")));
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let refused = |text: &str| options(text, &Overrides::default()).unwrap_err();
    assert_eq!(
        refused("lame_duck_duration: \"31s\", lame_duck_grace_period: \"40s\""),
        "lame duck grace period (40s) should be strictly lower than lame duck duration (31s)"
    );
    assert_eq!(
        refused("max_payload: 100, max_pending: 99"),
        "max_payload (100) cannot be higher than max_pending (99)"
    );
    assert_eq!(
        refused("no_auth_user: bob"),
        "no_auth_user: \"bob\" present, but users/nkeys are not defined"
    );
    assert_eq!(
        refused("no_auth_user: bob, authorization { users: [ {user: a} ] }"),
        "no_auth_user: \"bob\" not present as user or nkey in authorization block or account configuration"
    );
    assert!(
        file(&format!("no_auth_user: {NKEY}, authorization {{ users: [ {{nkey: {NKEY}}} ] }}"))
            .no_auth_user
            .is_some()
    );
}

#[test]
fn the_command_line_wins() {
    let overrides = Overrides {
        host: Some("h".to_owned()),
        port: Some(-1),
        http_port: Some(0),
        debug: Some(false),
        trace: Some(true),
        username: Some("flag".to_owned()),
        password: Some(Secret::new("p")),
        log_file: Some(String::new()),
        shards: Some(2),
        ..Overrides::default()
    };
    let text =
        "port: 1, host: f, http_port: 2, debug: true, logtime: false, log_file: l, shards: 9, pid_file: p";
    let options = options(text, &overrides).unwrap();
    assert_eq!((options.host.as_str(), options.port, options.monitoring.host.as_str()), ("h", 0, "h"));
    assert_eq!((options.monitoring.http_port, options.shards), (None, Some(2)));
    assert_eq!((options.logging.debug, options.logging.trace, options.logging.logtime), (false, true, false));
    assert_eq!((options.username.as_deref(), options.logging.log_file), (Some("flag"), None));
    assert_eq!(options.pid_file.as_deref(), Some("p"));
}

#[test]
fn the_command_line_replaces_tls_or_switches_it_off() {
    let text = "tls { timeout: 7, verify: true }\n--- c\n--- k";
    let off = Overrides { tls: Some(false), tls_cert: Some("c".to_owned()), ..Overrides::default() };
    assert_eq!(options(text, &off).unwrap().tls, None);
    let bare = Overrides { tls: Some(true), ..Overrides::default() };
    assert_eq!(options(text, &bare).unwrap_err(), "TLS Server certificate must be present and valid");
    let keyless = Overrides { tls_cert: Some("c".to_owned()), ..Overrides::default() };
    assert_eq!(options(text, &keyless).unwrap_err(), "TLS Server private key must be present and valid");
    let whole = Overrides { tls_key: Some("k".to_owned()), ..keyless };
    let tls = options(text, &whole).unwrap().tls.unwrap();
    assert_eq!((tls.timeout, tls.verify, tls.certificates.len()), (Duration::from_secs(7), false, 1));
}

#[test]
fn text_without_a_file_has_places_without_one() {
    let memory = Memory::default();
    let error = load_text(&memory, b"port: x").unwrap_err();
    assert_eq!(error.to_string(), ":1:0: interface conversion: interface {} is string, not int64\n");
    let options = load_text(&memory, b"port: 8000").unwrap().into_options(&memory, &Overrides::default());
    assert_eq!(options.unwrap().port, 8000);
}

#[test]
fn every_later_directive_is_refused_by_name() {
    for name in [
        "cluster",
        "Gateway",
        "leafnodes",
        "mqtt",
        "websocket",
        "operator",
        "resolver",
        "trusted_keys",
        "default_sentinel",
        "ocsp",
        "ocsp_cache",
        "mappings",
    ] {
        let error = load_text(&Memory::default(), format!("{name}: x").as_bytes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(":1:0: \"{name}\" is not supported by this version of natrix yet\n")
        );
    }
}

#[test]
fn what_streams_may_take_arrives() {
    let options = file(
        r#"
jetstream {
  store_dir: /data, max_mem: "2G", max_file: 1TB, domain: hub, sync_interval: "10s", strict: false
  key: k, prev_key: p, cipher: aes, unique_tag: " AZ:", extension_hint: no_extend
  max_outstanding_catchup: "32M", request_queue_limit: 5, info_queue_limit: 6
  max_buffered_msgs: 7, max_buffered_size: 8k
  meta_compact: 9, meta_compact_size: 10k, meta_compact_sync: true, max_concurrent_io: 11
  scrub_interval: "36h", scrub_rate: "3M"
  limits {
    max_request_batch: 12, max_ack_pending: 13, max_ha_assets: 14, duplicate_window: "15s"
    default_max_consumers: 16
    batch { max_inflight_per_stream: 17, max_inflight_total: 18, max_msgs: 19, timeout: "20s" }
  }
}
accounts {
  A { jetstream { mem: 1, store: 2, streams: 3, consumers: 4, max_bytes: true, mem_max_stream_bytes: 5
                  disk_max_stream_bytes: 6, max_ack_pending: 7, cluster_traffic: system } }
  B { jetstream: enabled }, C { jetstream: false }, D {}
}
"#,
    );
    assert_eq!(options.store_dir.as_deref(), Some("/data"));
    assert_eq!(options.jetstream_domain.as_deref(), Some("hub"));
    let jetstream = options.jetstream.as_ref().unwrap();
    assert_eq!(jetstream.encryption_key.as_ref().map(Secret::expose), Some("k"));
    assert_eq!(jetstream.previous_encryption_key.as_ref().map(Secret::expose), Some("p"));
    let accounts: Vec<_> = options.accounts.iter().map(|account| account.jetstream).collect();
    insta::assert_debug_snapshot!((jetstream, accounts));
}

#[test]
fn zero_and_less_mean_of_streams_what_the_reference_means() {
    let jetstream = |number: i64| {
        let text = format!(
            "jetstream {{ max_mem: {number}, max_file: {number}, max_outstanding_catchup: {number}\n\
             request_queue_limit: {number}, info_queue_limit: {number}\n\
             max_buffered_msgs: {number}, max_buffered_size: {number}, sync: \"{number}s\"\n\
             limits {{ max_request_batch: {number}, max_ack_pending: {number}, max_ha_assets: {number}\n\
             default_max_consumers: {number}, duplicate_window: \"{number}s\" }} }}"
        );
        file(&text).jetstream.unwrap()
    };
    let default = JetStreamOptions::default();
    let lazy = SyncPolicy::Interval(SyncPolicy::REFERENCE_INTERVAL);
    let nothing = JetStreamOptions { max_memory: Some(0), max_store: Some(0), sync: lazy, ..default.clone() };
    assert_eq!(jetstream(0), nothing);
    let limits = JetStreamLimits { default_max_consumers: None, ..default.limits };
    let endless = JetStreamOptions { max_buffered_msgs: None, max_buffered_size: None, limits, ..default };
    assert_eq!(jetstream(-1), endless);

    let account = |number: i64| {
        let text = format!(
            "jetstream: true, accounts {{ A {{ jetstream {{ mem: {number}, disk: {number}, streams: {number}\n\
             consumers: {number}, max_ack_pending: {number}, mem_max_stream_bytes: {number}\n\
             disk_max_stream_bytes: {number} }} }} }}"
        );
        file(&text).account_jetstream("A").unwrap()
    };
    let nothing = AccountJetStream { max_memory: Some(0), max_store: Some(0), ..AccountJetStream::default() };
    assert_eq!((account(0), account(-1)), (nothing, AccountJetStream::default()));
}

#[test]
fn requests_for_information_wait_as_others_unless_told_otherwise() {
    let limits = |text: &str| {
        let jetstream = file(&format!("jetstream {{ {text} }}")).jetstream.unwrap();
        (jetstream.request_queue_limit, jetstream.info_queue_limit)
    };
    assert_eq!(limits("request_queue_limit: 5"), (5, 5));
    assert_eq!(limits("info_queue_limit: 6, request_queue_limit: 5"), (5, 6));
    assert_eq!(limits("info_queue_limit: 6"), (10_000, 6));
}

#[test]
fn syncs_come_first_unless_the_file_says_how_often() {
    let sync = |text: &str| file(&format!("jetstream {{ {text} }}")).jetstream.unwrap().sync;
    assert_eq!(sync(""), SyncPolicy::Always);
    assert_eq!(sync("sync: Always"), SyncPolicy::Always);
    assert_eq!(sync("sync_interval: \"2m\""), SyncPolicy::Interval(Duration::from_secs(120)));
    assert_eq!(sync("sync_interval: 3"), SyncPolicy::Interval(Duration::from_secs(3)));
    assert_eq!(sync("sync: always, sync_interval: \"2m\""), SyncPolicy::Always);
    assert_eq!(sync("sync_interval: \"2m\", sync: always"), SyncPolicy::Always);
}

#[test]
fn blocks_are_read_in_the_background_unless_the_file_says_never() {
    let scrub = |text: &str| {
        let jetstream = file(&format!("jetstream {{ {text} }}")).jetstream.unwrap();
        (jetstream.scrub_interval.map(|every| every.as_secs()), jetstream.scrub_rate)
    };
    assert_eq!(scrub(""), (Some(86_400), 8 << 20));
    assert_eq!(scrub("scrub_interval: \"1h\", scrub_rate: 1MB"), (Some(3_600), 1 << 20));
    assert_eq!(scrub("scrub_rate: 0"), (Some(86_400), 8 << 20));
    assert_eq!(scrub("scrub_interval: 0").0, None);
    assert_eq!(scrub("scrub_interval: \"-1s\"").0, None);
}

#[test]
fn the_command_line_switches_streams_on_and_off_with_what_the_file_says_of_them() {
    let with = |text: &str, jetstream, store_dir: Option<&str>| {
        let store_dir = store_dir.map(str::to_owned);
        options(text, &Overrides { jetstream, store_dir, ..Overrides::default() }).unwrap()
    };
    let text = "jetstream { enabled: false, max_mem: 1k, domain: hub, store_dir: a }";
    let off = with(text, None, None);
    assert_eq!((off.jetstream, off.jetstream_domain.as_deref()), (None, Some("hub")));
    let on = with(text, Some(true), Some("b"));
    assert_eq!((on.jetstream.unwrap().max_memory, on.store_dir.as_deref()), (Some(1000), Some("b")));
    assert_eq!(with("jetstream: true", Some(false), None).jetstream, None);
    assert_eq!(with("store_dir: a", None, Some("")).store_dir, None);
}

#[test]
fn streams_that_cannot_be_are_refused() {
    let refused = |text: &str| options(text, &Overrides::default()).unwrap_err();
    let lines = [
        "jetstream { domain: \"a.b\" }",
        "jetstream { domain: \"*\" }",
        "jetstream { domain: \"a>b\" }",
        "jetstream { domain: \"a\tb\", enabled: false }",
        "jetstream { domain: \">\" }",
        "jetstream { domain: \"..\" }",
        "jetstream: true, accounts { S { jetstream: true } }, system_account: S",
        "jetstream: true, accounts { \"$SYS\" { jetstream: true } }, no_system_account: true",
    ];
    insta::assert_snapshot!(lines.map(refused).join("\n"));
    assert_eq!(file("accounts { S { jetstream: true } }, system_account: S").account_jetstream("S"), None);
}

#[test]
fn trusted_proxies_and_who_needs_them_arrive() {
    let key = "UA3C5TBZYK5GJQJRWPMU6NFY5JNAEVQB2V2TUZFZDHFJFUYVKTTUOFKZ";
    let options = file(&format!(
        "proxies {{ trusted = [ {{key: {key}}}, {{public_key: {key}}} ] }}\n\
         authorization {{ users: [ {{user: a, proxy_required: true}}, {{user: b, proxy_required: false}},\n\
         {{nkey: {NKEY}, proxy_required: true}} ] }}"
    ));
    assert_eq!(options.trusted_proxies, Some(vec![key.to_owned(); 2]));
    let needs: Vec<bool> = options.users.iter().map(|user| user.proxy_required).collect();
    assert_eq!((needs, options.nkey_users[0].proxy_required), (vec![true, false], true));
    assert!(file("authorization { token: t, proxy_required: true }").proxy_required);
    assert_eq!(file("proxies {}").trusted_proxies, Some(Vec::new()));
    assert_eq!(file("port: 4222").trusted_proxies, None);
}

#[test]
fn the_seed_corpus_means_the_same_with_blank_lines_around_it() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim-tests/fuzz/seeds/config");
    let (mut seeds, mut taken) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        #[expect(clippy::disallowed_methods, reason = "a test's data")]
        let data = std::fs::read(entry.unwrap().path()).unwrap();
        seeds += 1;
        taken += usize::from(harness::check(&data));
    }
    assert!(seeds >= 35 && taken >= 10, "the corpus has gone: {taken} of {seeds} seeds are taken");
}

/// Pieces of configurations, right and wrong, to be strung together.
fn piece() -> impl Strategy<Value = &'static str> {
    let settings = prop_oneof![
        Just("port: 4222"),
        Just("max_payload = 1mb"),
        Just("host: 'a'"),
        Just("users"),
        Just("authorization"),
        Just("accounts"),
        Just("permissions"),
        Just("publish"),
        Just("allow"),
        Just("user: a"),
        Just("password: b"),
        Just("tls"),
        Just("include b.conf"),
        Just("$A"),
        Just("A: 1"),
        Just("nats.conf"),
        Just("--- b.conf\n"),
    ];
    let marks = prop_oneof![
        Just(" { "),
        Just(" } "),
        Just(" [ "),
        Just(" ] "),
        Just("("),
        Just("\n)\n"),
        Just(": "),
        Just(" = "),
        Just(", "),
        Just(";"),
        Just("\n"),
        Just("\r\n"),
        Just("\""),
        Just("'"),
        Just("\\"),
        Just("#"),
        Just("//"),
        Just("1k"),
        Just("\u{feff}"),
    ];
    prop_oneof![settings, marks]
}

proptest! {
    #[test]
    fn whatever_is_strung_together_means_the_same_with_blank_lines_around_it(
        pieces in proptest::collection::vec(piece(), 0..40),
    ) {
        harness::check(pieces.concat().as_bytes());
    }
}
