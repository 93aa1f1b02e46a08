use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use natrix_core::config::{Account, LoggingOptions};
use natrix_core::monitoring::{ConnzPart, SubszPart, SubszStats, Traffic};

use super::*;

/// Shards that have counted something and have no connections.
struct CountingShards;

impl Shards for CountingShards {
    async fn ask(&self, request: ControlRequest) -> Vec<ControlReply> {
        let reply = |shard: u64| match &request {
            ControlRequest::Varz => ControlReply::Varz(Box::new(ShardStats {
                connections: shard,
                traffic: Traffic { in_msgs: 10 * shard, ..Traffic::default() },
                ..ShardStats::default()
            })),
            ControlRequest::Connz(_) => ControlReply::Connz(ConnzPart::default()),
            ControlRequest::Subsz(_) => {
                let mut part = SubszPart::default();
                part.add_stats(&SubszStats { subscriptions: shard, ..SubszStats::default() });
                ControlReply::Subsz(part)
            }
            other => panic!("monitoring only looks: {other:?}"),
        };
        vec![reply(1), reply(2)]
    }

    fn count(&self) -> usize {
        2
    }
}

fn monitor(base_path: &str) -> Monitor<CountingShards> {
    let mut options = Options::default();
    options.monitoring.base_path = base_path.to_owned();
    options.accounts.push(Account { name: "A".to_owned(), ..Account::default() });
    let facts = ServerFacts {
        options: Arc::new(options),
        server_id: "NID".to_owned(),
        server_name: "name".to_owned(),
        client_port: Arc::new(AtomicU16::new(4222)),
        start: wall_time(),
        tls_not_after: None,
        accepting: Arc::new(AtomicBool::new(true)),
    };
    let folder = tempfile::tempdir().unwrap();
    let log_file = Some(folder.path().join("log").display().to_string());
    let (logger, _) =
        Logger::start(&LoggingOptions { log_file, ..LoggingOptions::default() }, "natrix").unwrap();
    Monitor::new(CountingShards, facts, logger)
}

fn ask(monitor: &Monitor<CountingShards>, target: &str) -> (u16, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let answer = runtime.block_on(monitor.answer(path, query));
    (answer.status, String::from_utf8(answer.body).unwrap())
}

#[test]
fn every_endpoint_answers_for_all_shards() {
    let monitor = monitor("/");
    let (status, varz) = ask(&monitor, "/varz");
    assert_eq!(status, 200);
    for line in [r#""connections": 3,"#, r#""in_msgs": 30,"#, r#""port": 4222,"#, r#""gomaxprocs": 2,"#] {
        assert!(varz.contains(line), "{line} is missing in {varz}");
    }
    for path in ["/subsz", "/subscriptionsz"] {
        assert!(ask(&monitor, path).1.contains(r#""num_subscriptions": 3,"#));
    }
    assert!(ask(&monitor, "/connz").1.contains(r#""connections": []"#));
    assert_eq!(ask(&monitor, "/healthz"), (200, r#"{"status":"ok"}"#.to_owned()));
    let (status, root) = ask(&monitor, "/");
    assert_eq!(status, 200);
    for (path, _) in ENDPOINTS {
        assert!(root.contains(&format!("href=\".{path}\"")), "{root}");
    }
}

#[test]
fn requests_are_counted_by_endpoint() {
    let monitor = monitor("/");
    for target in
        ["/", "/connz", "/connz?limit=x", "/connz?sort=x", "/subscriptionsz", "/subsz?subs=x", "/nosuch"]
    {
        ask(&monitor, target);
    }
    ask(&monitor, "/healthz?details=x");
    let (_, varz) = ask(&monitor, "/varz");
    let counted = varz.split("http_req_stats").nth(1).unwrap().split('}').next().unwrap();
    assert_eq!(
        counted.split_whitespace().collect::<String>(),
        r#"":{"/":1,"/connz":2,"/healthz":1,"/subsz":2,"/varz":1"#
    );
}

#[test]
fn a_base_path_moves_all_endpoints() {
    let monitor = monitor("/nats");
    assert_eq!(ask(&monitor, "/nats/varz").0, 200);
    assert!(ask(&monitor, "/nats").1.contains(r#"href="./nats/varz""#));
    for path in ["/varz", "/", "/natsvarz", "/nats/", "/nats/nats/varz"] {
        assert_eq!(ask(&monitor, path).0, 404, "{path}");
    }
}

#[test]
fn paths_that_lead_nowhere_are_told_apart_from_untidy_ones() {
    let monitor = monitor("/");
    for path in ["/nosuch", "/varz/", "/favicon.ico", "/expvarz", "/VARZ"] {
        assert_eq!(ask(&monitor, path), (404, "404 page not found\n".to_owned()), "{path}");
    }
    assert_eq!(ask(&monitor, "//varz"), (307, "<a href=\"/varz\">Temporary Redirect</a>.\n\n".to_owned()));
    for (untidy, tidy) in [("/x/../varz", "/varz"), ("/./connz", "/connz"), ("/../..", "/"), ("//x//", "/x/")]
    {
        assert_eq!(clean(untidy), tidy);
    }
    assert!(!ask(&monitor, "//\"><script>").1.contains("<script>"));
}

#[test]
fn accounts_that_exist_are_known() {
    let monitor = monitor("/");
    for (account, id) in [("A", "NID"), ("$G", "NID"), ("$SYS", "NID"), ("NOPE", "")] {
        let (_, connz) = ask(&monitor, &format!("/connz?acc={account}"));
        assert!(connz.contains(&format!(r#""server_id": "{id}""#)), "{account}: {connz}");
    }
}

#[test]
fn lame_ducks_are_not_well() {
    let monitor = monitor("/");
    monitor.facts.accepting.store(false, Ordering::Relaxed);
    assert_eq!(ask(&monitor, "/healthz").0, 500);
    assert_eq!(ask(&monitor, "/healthz?stream=S").0, 400);
}

/// Serves a monitor and sends `request` as it is; returns the answer until the server has no more.
fn over_http(request: &str) -> String {
    let (listener, address) = http::bind("127.0.0.1", 0).unwrap();
    let server = http::HttpServer::start(listener, None, monitor("/")).unwrap();
    let answer = exchange(address, request);
    server.stop();
    answer
}

fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Leaves out the headers that change from run to run.
fn head(answer: &str) -> String {
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    let lines: Vec<&str> =
        head.split("\r\n").filter(|line| !line.to_lowercase().starts_with("date:")).collect();
    lines.join("\n")
}

#[test]
fn answers_have_the_references_headers() {
    let get =
        |target: &str| over_http(&format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    insta::assert_snapshot!(head(&get("/healthz")), @r"
    HTTP/1.1 200 OK
    content-type: application/json
    access-control-allow-origin: *
    connection: close
    content-length: 15
    ");
    let bad = get("/connz?subs=x");
    insta::assert_snapshot!(head(&bad), @r"
    HTTP/1.1 400 Bad Request
    content-type: text/plain; charset=utf-8
    connection: close
    content-length: 81
    ");
    assert!(bad.ends_with(r#"strconv.ParseBool: parsing "x": invalid syntax"#), "{bad}");
    insta::assert_snapshot!(head(&get("/nosuch")), @r"
    HTTP/1.1 404 Not Found
    content-type: text/plain; charset=utf-8
    x-content-type-options: nosniff
    connection: close
    content-length: 19
    ");
    insta::assert_snapshot!(head(&get("//varz?x=1")), @r"
    HTTP/1.1 307 Temporary Redirect
    content-type: text/html; charset=utf-8
    location: /varz?x=1
    connection: close
    content-length: 45
    ");
    // There is no JSONP.
    assert!(get("/healthz?callback=f").ends_with(r#"{"status":"ok"}"#));
}

#[test]
fn any_method_is_answered_and_head_has_no_body() {
    let post =
        over_http("POST /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx");
    assert!(post.starts_with("HTTP/1.1 200 OK") && post.ends_with(r#"{"status":"ok"}"#), "{post}");
    let only_head = over_http("HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(only_head.contains("content-length: 15\r\n") && only_head.ends_with("\r\n\r\n"), "{only_head}");
}

#[test]
fn what_is_not_http_is_refused() {
    assert!(over_http("GARBAGE\r\n\r\n").starts_with("HTTP/1.1 400 Bad Request"));
    let endless = format!("GET /varz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(200_000));
    assert!(over_http(&endless).starts_with("HTTP/1.1 431"));
}
