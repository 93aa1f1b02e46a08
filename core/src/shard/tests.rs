//! Transcripts: what clients send to a little server of some shards, and what they get.
//!
//! The test's runtime is the plainest that keeps the rules of [`super::io`]: pushes at once, inboxes drained before
//! bytes are handed over, flushes last.

mod advisories;
mod backups;
mod catalogue;
mod crowds;
mod faults;
mod loads;
mod monitoring;
mod placement;
mod power;
mod scrubbing;
mod sealed;
mod streaming;
mod together;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Buf;

use super::io::{CloseCause, Input, Listener, LogLevel, Output, disk_shard};
use super::mailbox::ShardMessage;
use super::{Boot, ServerIdentity, Shard};
use crate::config::{Account, Options, Permissions, Secret, SubjectRules, User, WriteTimeoutPolicy};
use crate::disk::Submission;
use crate::disk::instant::InstantDisk;
use crate::ids::{ConnId, ShardId};
use crate::monitoring::ControlRequest;
use crate::time::{Duration, Instant, Now, WallTime};

/// A server of some shards, and what its clients have received.
struct Server {
    now: Now,
    shards: Vec<Shard>,
    inboxes: Vec<VecDeque<ShardMessage>>,
    /// By client: its shard, its id, what it got since it was last asked, and whether it is open.
    clients: Vec<(usize, ConnId, Vec<u8>, bool)>,
    disk: InstantDisk,
    /// What the disk is to do.
    disk_requests: VecDeque<Submission>,
    /// How long the disk has power; `None` for ever.
    power: Option<power::Power>,
    /// What the disk refuses.
    fault: Option<faults::Fault>,
    /// What the log says of errors.
    logs: Vec<String>,
    /// What it says of everything else.
    told: Vec<String>,
}

impl Server {
    fn new(shards: u16, options: Options) -> Self {
        Self::with_disk(shards, options, InstantDisk::default())
    }

    fn with_disk(shards: u16, options: Options, disk: InstantDisk) -> Self {
        Self::with_faulty_disk(shards, options, disk, None)
    }

    fn with_faulty_disk(
        shards: u16,
        options: Options,
        disk: InstantDisk,
        fault: Option<faults::Fault>,
    ) -> Self {
        Self::begin(shards, options, disk, fault, None)
    }

    fn begin(
        shards: u16,
        options: Options,
        disk: InstantDisk,
        fault: Option<faults::Fault>,
        power: Option<power::Power>,
    ) -> Self {
        let options = Arc::new(options);
        let identity = Arc::new(ServerIdentity::from_seed([1; 32], &options));
        let now = Now { instant: Instant::ZERO, wall: WallTime::from_unix_nanos(0) };
        let life = (disk.paths().count() as u8) << 3;
        let boot = |shard| Boot {
            shard: ShardId(shard),
            shards,
            // Each life has names of its own: a stream of one is never taken for a stream of the next.
            seed: [shard as u8 ^ life; 32],
            options: Arc::clone(&options),
            identity: Arc::clone(&identity),
        };
        let shards: Vec<Shard> = (0..shards).map(|shard| Shard::new(now, boot(shard))).collect();
        let inboxes = shards.iter().map(|_| VecDeque::new()).collect();
        let (clients, disk_requests) = (Vec::new(), VecDeque::new());
        let mut server = Server {
            now,
            shards,
            inboxes,
            clients,
            disk,
            disk_requests,
            power,
            fault,
            logs: Vec::new(),
            told: Vec::new(),
        };
        server.handle(
            0,
            Input::Listening { listener: Listener::Client, address: "127.0.0.1:4222".parse().unwrap() },
        );
        server
    }

    fn handle(&mut self, shard: usize, input: Input) {
        self.shards[shard].handle(self.now, input);
        self.drain(shard);
        self.deliver_inboxes();
        while let Some(submission) = self.disk_requests.pop_front() {
            if self.power.as_mut().is_some_and(|power| !power.lasts(&submission)) {
                continue;
            }
            let completion = match self.fault.as_mut().and_then(|fault| fault.refuse(&submission)) {
                Some(completion) => completion,
                None => self.disk.execute(submission),
            };
            let shard = disk_shard(completion.token, self.shards.len() as u16).index();
            self.shards[shard].handle(self.now, Input::Disk(completion));
            self.drain(shard);
            self.deliver_inboxes();
        }
        self.go_on();
    }

    /// Lets shards go on that have more to do at once.
    fn go_on(&mut self) {
        while let Some(shard) =
            self.shards.iter().position(|shard| shard.poll_timeout() == Some(Instant::ZERO))
            && self.now.instant > Instant::ZERO
        {
            self.handle(shard, Input::Tick);
        }
    }

    fn drain(&mut self, shard: usize) {
        let mut flushes = Vec::new();
        while let Some(output) = self.shards[shard].poll_output() {
            match output {
                Output::Disk(submission) => self.disk_requests.push_back(submission),
                Output::ToShard(to, message) => self.inboxes[to.index()].push_back(message),
                Output::Flush { conn } => flushes.push(conn),
                Output::Close { conn, last_bytes } => {
                    let client = self.client(shard, conn);
                    client.2.extend(last_bytes);
                    client.3 = false;
                }
                Output::Work(request) => {
                    let done = request.run();
                    self.shards[shard].handle(self.now, Input::Work(done));
                }
                Output::Log(record)
                    if matches!(record.level, LogLevel::Warn | LogLevel::Error | LogLevel::Fatal) =>
                {
                    self.logs.push(record.text.to_string());
                }
                Output::Log(record) => self.told.push(record.text.to_string()),
                _ => {}
            }
        }
        for conn in flushes {
            let mut view = self.shards[shard].outbound(conn);
            let n = view.remaining();
            let bytes = view.copy_to_bytes(n);
            self.client(shard, conn).2.extend(bytes);
            if n > 0 {
                self.shards[shard].handle(self.now, Input::Written { conn, n });
            }
        }
    }

    fn deliver_inboxes(&mut self) {
        while let Some(shard) = self.inboxes.iter().position(|inbox| !inbox.is_empty()) {
            let message = self.inboxes[shard].pop_front().unwrap();
            self.shards[shard].handle(self.now, Input::FromShard(message));
            self.drain(shard);
        }
    }

    fn client(&mut self, shard: usize, conn: ConnId) -> &mut (usize, ConnId, Vec<u8>, bool) {
        self.clients.iter_mut().find(|client| client.0 == shard && client.1 == conn).unwrap()
    }

    /// Connects a client to a shard and returns its number.
    fn connect(&mut self, shard: usize) -> usize {
        let conn = ConnId { slot: self.clients.len() as u32, generation: 1 };
        self.clients.push((shard, conn, Vec::new(), true));
        let peer = "127.0.0.1:50000".parse().unwrap();
        let local = "127.0.0.1:4222".parse().unwrap();
        self.handle(shard, Input::Accepted { listener: Listener::Client, conn, peer, local });
        self.clients.len() - 1
    }

    fn send(&mut self, client: usize, mut bytes: &[u8]) {
        let (shard, conn, ..) = self.clients[client];
        while !bytes.is_empty() && self.clients[client].3 {
            let target = self.shards[shard].read_target(conn);
            let n = target.len().min(bytes.len());
            target[..n].copy_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            self.handle(shard, Input::Received { conn, n });
        }
    }

    fn advance(&mut self, time: Duration) {
        self.now.instant += time;
        for shard in 0..self.shards.len() {
            while self.shards[shard].poll_timeout().is_some_and(|due| due <= self.now.instant) {
                self.handle(shard, Input::Tick);
            }
        }
    }

    fn took(&mut self, client: usize) -> String {
        let bytes = std::mem::take(&mut self.clients[client].2);
        String::from_utf8(bytes).unwrap()
    }
}

/// Runs a script of lines `A> bytes`, `A@1` (connect to shard 1) and `tick MILLISECONDS`, and returns each line over
/// what all clients got because of it. INFO is left out.
fn run(shards: u16, options: Options, script: &str) -> String {
    let mut server = Server::new(shards, options);
    let (mut names, mut transcript) = (Vec::new(), String::new());
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        writeln!(transcript, "{line}").unwrap();
        if let Some((name, bytes)) = line.split_once("> ") {
            let client = names.iter().position(|known| known == name).expect("clients are connected first");
            server.send(client, bytes.replace("\\r\\n", "\r\n").as_bytes());
        } else if let Some((name, shard)) = line.split_once('@') {
            names.push(name.to_owned());
            server.connect(shard.parse().unwrap());
        } else if let Some(millis) = line.strip_prefix("tick ") {
            server.advance(Duration::from_millis(millis.parse().unwrap()));
        }
        for (client, name) in names.iter().enumerate() {
            let open = server.clients[client].3;
            for got in server.took(client).split_inclusive("\r\n").filter(|got| !got.starts_with("INFO ")) {
                writeln!(transcript, "  {name} {}", got.trim_end_matches("\r\n")).unwrap();
            }
            if !open && server.clients[client].1.generation == 1 {
                server.clients[client].1.generation = 0;
                writeln!(transcript, "  {name} closed").unwrap();
            }
        }
    }
    transcript
}

const QUIET: &str = r#"CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n"#;

fn connected(script: &str) -> String {
    script.replace("QUIET", QUIET)
}

/// The same script with everybody on one shard, and spread over several.
fn same_on_shards(options: &Options, script: &str) -> String {
    let alone = run(1, options.clone(), &script.replace("@1", "@0").replace("@2", "@0"));
    let spread = run(3, options.clone(), script);
    assert_eq!(alone, spread.replace("@1", "@0").replace("@2", "@0"));
    spread
}

#[test]
fn what_is_published_reaches_who_subscribed() {
    let script = connected(
        "A@0\nB@1\nA> QUIET\nB> QUIET\nA> SUB foo.* 1\\r\\nPING\\r\\n\nB> PUB foo.bar 5\\r\\nhello\\r\\nPING\\r\\n",
    );
    insta::assert_snapshot!(same_on_shards(&Options::default(), &script), @r#"
    A@0
    B@1
    A> CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n
    B> CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n
    A> SUB foo.* 1\r\nPING\r\n
      A PONG
    B> PUB foo.bar 5\r\nhello\r\nPING\r\n
      A MSG foo.bar 1 5
      A hello
      B PONG
    "#);
}

#[test]
fn headers_and_replies_go_through_and_who_cant_read_headers_gets_none() {
    let script = "A@0\nB@1\nC@2\nA> CONNECT {\"headers\":true,\"verbose\":false}\\r\\nSUB a 1\\r\\n\nB> CONNECT {\"headers\":true,\"verbose\":false}\\r\\n\nC> CONNECT {\"verbose\":false}\\r\\nSUB a 9\\r\\n\nB> HPUB a r 12 14\\r\\nNATS/1.0\\r\\n\\r\\nhi\\r\\n";
    insta::assert_snapshot!(same_on_shards(&Options::default(), script), @r#"
    A@0
    B@1
    C@2
    A> CONNECT {"headers":true,"verbose":false}\r\nSUB a 1\r\n
    B> CONNECT {"headers":true,"verbose":false}\r\n
    C> CONNECT {"verbose":false}\r\nSUB a 9\r\n
    B> HPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n
      A HMSG a 1 r 12 14
      A NATS/1.0
      A 
      A hi
      C MSG a 9 r 2
      C hi
    "#);
}

#[test]
fn a_request_to_nobody_is_answered_at_once() {
    let script = connected("A@1\nA> QUIET\nA> SUB r 1\\r\\nPUB nobody r 0\\r\\n\\r\\n");
    insta::assert_snapshot!(same_on_shards(&Options::default(), &script), @r#"
    A@1
    A> CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n
    A> SUB r 1\r\nPUB nobody r 0\r\n\r\n
      A HMSG r 1 38 38
      A NATS/1.0 503
      A Nats-Subject: nobody
      A 
      A
    "#);
}

#[test]
fn a_queue_group_gets_each_message_once_wherever_its_members_are() {
    for shards in [1, 2, 3] {
        let mut server = Server::new(shards, Options::default());
        let members: Vec<usize> = (0..6).map(|n| server.connect(n % usize::from(shards))).collect();
        let publisher = server.connect(0);
        for client in members.iter().chain([&publisher]) {
            server.send(*client, b"CONNECT {\"verbose\":false}\r\n");
        }
        for member in &members {
            server.send(*member, b"SUB work q 1\r\n");
            server.took(*member);
        }
        for _ in 0..600 {
            server.send(publisher, b"PUB work 0\r\n\r\n");
        }
        let counts: Vec<usize> =
            members.iter().map(|member| server.took(*member).matches("MSG work 1 0").count()).collect();
        assert_eq!(counts.iter().sum::<usize>(), 600, "{counts:?}");
        assert!(counts.iter().all(|count| (50..150).contains(count)), "each has its share: {counts:?}");
    }
}

#[test]
fn auto_unsubscribe_counts_what_was_delivered() {
    let script = connected(
        "A@0\nB@1\nA> QUIET\nB> QUIET\nA> SUB f 1\\r\\nUNSUB 1 2\\r\\n\nB> PUB f 1\\r\\na\\r\\nPUB f 1\\r\\nb\\r\\nPUB f 1\\r\\nc\\r\\n\nA> SUB f 1\\r\\n\nB> PUB f 1\\r\\nd\\r\\n\nA> UNSUB 1 1\\r\\n\nB> PUB f 1\\r\\ne\\r\\n",
    );
    insta::assert_snapshot!(same_on_shards(&Options::default(), &script), @r#"
    A@0
    B@1
    A> CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n
    B> CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n
    A> SUB f 1\r\nUNSUB 1 2\r\n
    B> PUB f 1\r\na\r\nPUB f 1\r\nb\r\nPUB f 1\r\nc\r\n
      A MSG f 1 1
      A a
      A MSG f 1 1
      A b
    A> SUB f 1\r\n
    B> PUB f 1\r\nd\r\n
      A MSG f 1 1
      A d
    A> UNSUB 1 1\r\n
    B> PUB f 1\r\ne\r\n
    "#);
}

#[test]
fn errors_are_told_and_some_of_them_close() {
    let script = "A@0\nB@0\nC@0\nD@0\nA> FOO\nB> SUB foo..bar 1\\r\\nPING\\r\\n\nC> PUB foo 2\\r\\nhello\\r\\n\nD> CONNECT {\"no_responders\":true}\\r\\n";
    insta::assert_snapshot!(run(1, Options::default(), script), @r#"
    A@0
    B@0
    C@0
    D@0
    A> FOO
      A -ERR 'Unknown Protocol Operation'
      A closed
    B> SUB foo..bar 1\r\nPING\r\n
      B -ERR 'Invalid Subject'
      B PONG
    C> PUB foo 2\r\nhello\r\n
      C -ERR 'Unknown Protocol Operation'
      C closed
    D> CONNECT {"no_responders":true}\r\n
      D -ERR 'no responders requires headers support'
      D closed
    "#);
}

fn users() -> Options {
    let user = |name: &str, account: Option<&str>, permissions| User {
        username: name.into(),
        password: Secret::new("pw"),
        account: account.map(Into::into),
        permissions,
        ..User::default()
    };
    let limited = Permissions {
        publish: Some(SubjectRules { allow: Some(vec!["ok.>".into()]), deny: None }),
        subscribe: Some(SubjectRules { allow: None, deny: Some(vec!["secret".into()]) }),
        responses: None,
    };
    Options {
        users: vec![
            user("a", Some("A"), None),
            user("b", Some("B"), None),
            user("l", Some("A"), Some(limited)),
        ],
        accounts: ["A", "B"].map(|name| Account { name: name.into(), ..Account::default() }).into(),
        ..Options::default()
    }
}

#[test]
fn accounts_and_permissions_keep_apart_what_they_should() {
    let login = |name: &str| {
        format!("CONNECT {{\"user\":\"{name}\",\"pass\":\"pw\",\"verbose\":false,\"pedantic\":false}}\\r\\n")
    };
    let script = format!(
        "A@0\nB@1\nL@2\nX@1\nA> {}SUB > 1\\r\\n\nB> {}SUB > 1\\r\\n\nL> {}SUB secret 1\\r\\nSUB * 2\\r\\n\nL> PUB no 1\\r\\nx\\r\\n\nL> PUB ok.1 1\\r\\ny\\r\\n\nA> PUB secret 1\\r\\nz\\r\\n\nA> PUB open 1\\r\\nz\\r\\n\nX> PING\\r\\n",
        login("a"),
        login("b"),
        login("l")
    );
    insta::assert_snapshot!(same_on_shards(&users(), &script), @r#"
    A@0
    B@1
    L@2
    X@1
    A> CONNECT {"user":"a","pass":"pw","verbose":false,"pedantic":false}\r\nSUB > 1\r\n
    B> CONNECT {"user":"b","pass":"pw","verbose":false,"pedantic":false}\r\nSUB > 1\r\n
    L> CONNECT {"user":"l","pass":"pw","verbose":false,"pedantic":false}\r\nSUB secret 1\r\nSUB * 2\r\n
      L -ERR 'Permissions Violation for Subscription to "secret"'
    L> PUB no 1\r\nx\r\n
      L -ERR 'Permissions Violation for Publish to "no"'
    L> PUB ok.1 1\r\ny\r\n
      A MSG ok.1 1 1
      A y
    A> PUB secret 1\r\nz\r\n
      A MSG secret 1 1
      A z
    A> PUB open 1\r\nz\r\n
      A MSG open 1 1
      A z
      L MSG open 2 1
      L z
    X> PING\r\n
      X -ERR 'Authorization Violation'
      X closed
    "#);
}

#[test]
fn who_never_connects_and_who_never_answers_is_closed() {
    let script = "A@0\ntick 1999\ntick 1";
    insta::assert_snapshot!(run(1, users(), script), @r"
    A@0
    tick 1999
    tick 1
      A -ERR 'Authentication Timeout'
      A closed
    ");
    let options = Options { ping_interval: Duration::from_secs(1), ping_max: 1, ..Options::default() };
    insta::assert_snapshot!(run(1, options, "A@0\ntick 1000\ntick 1000"), @r"
    A@0
    tick 1000
      A PING
    tick 1000
      A -ERR 'Stale Connection'
      A closed
    ");
}

#[test]
fn one_connection_too_many_is_refused_on_any_shard() {
    let options = Options { max_connections: Some(2), ..Options::default() };
    insta::assert_snapshot!(run(2, options, "A@0\nB@1\nC@1\nA> FOO\nD@1"), @r"
    A@0
    B@1
    C@1
      C -ERR 'maximum connections exceeded'
      C closed
    A> FOO
      A -ERR 'Unknown Protocol Operation'
      A closed
    D@1
    ");
}

#[test]
fn a_large_payload_arrives_whole_however_it_is_read() {
    let options = Options { max_payload: Some(8 * 1024 * 1024), ..Options::default() };
    for (shards, size) in [(1, 7_000), (1, 40_000), (2, 200_000), (2, 3_000_000)] {
        let mut server = Server::new(shards, options.clone());
        let (publisher, subscriber) = (server.connect(0), server.connect(usize::from(shards) - 1));
        server.send(subscriber, b"CONNECT {\"verbose\":false}\r\nSUB big 1\r\n");
        server.took(subscriber);
        let payload: Vec<u8> = (0..size).map(|n| b'a' + (n % 26) as u8).collect();
        let mut bytes = format!("CONNECT {{\"verbose\":false}}\r\nPUB big {size}\r\n").into_bytes();
        bytes.extend(&payload);
        bytes.extend(b"\r\nPING\r\n");
        server.send(publisher, &bytes);
        let want = format!("MSG big 1 {size}\r\n{}\r\n", String::from_utf8(payload).unwrap());
        assert!(server.took(subscriber) == want, "{size} bytes on {shards} shards");
        assert!(server.took(publisher).ends_with("PONG\r\n"));
    }
}

#[test]
fn lame_duck_mode_tells_waits_and_closes() {
    let options = Options {
        lame_duck_grace_period: Duration::from_secs(1),
        lame_duck_duration: Duration::from_secs(3),
        ..Options::default()
    };
    let mut server = Server::new(1, options);
    let client = server.connect(0);
    server.send(client, b"CONNECT {\"verbose\":false,\"protocol\":1}\r\n");
    server.took(client);
    server.handle(0, Input::Control { id: 1, request: ControlRequest::LameDuck });
    assert!(server.took(client).contains("\"ldm\":true"));
    server.advance(Duration::from_millis(999));
    assert!(server.clients[client].3);
    server.advance(Duration::from_millis(1));
    assert!(!server.clients[client].3);
}

#[test]
fn the_home_shard_of_a_lame_duck_stays_until_closing_begins_though_all_clients_are_elsewhere() {
    let grace = Duration::from_secs(1);
    let options = Options { lame_duck_grace_period: grace, ..Options::default() };
    let mut server = Server::new(2, options.clone());
    let client = server.connect(1);
    let drain = |shard: &mut Shard| std::iter::from_fn(|| shard.poll_output()).collect::<Vec<_>>();
    let closing = |outputs: &[Output]| {
        let lines = outputs.iter().filter_map(|output| match output {
            Output::Log(record) => Some(record.text.as_ref()),
            _ => None,
        });
        lines.filter(|line| *line == "Closing existing clients").count()
    };
    let stopped = |outputs: &[Output]| outputs.iter().any(|output| matches!(output, Output::Stopped));
    let order = || Input::Control { id: 0, request: ControlRequest::LameDuck };

    server.shards[0].handle(server.now, order());
    assert!(!stopped(&drain(&mut server.shards[0])));
    let after = Now { instant: server.now.instant + grace, ..server.now };
    server.shards[0].handle(after, Input::Tick);
    let outputs = drain(&mut server.shards[0]);
    assert_eq!((closing(&outputs), stopped(&outputs)), (1, true));

    // With the last client gone there is nothing to wait for, and nothing to say.
    let mut server = Server::new(2, options);
    let other = server.connect(1);
    assert_eq!(client, other);
    server.shards[0].handle(server.now, order());
    drain(&mut server.shards[0]);
    server.shards[0].handle(server.now, Input::FromShard(ShardMessage::Left));
    let outputs = drain(&mut server.shards[0]);
    assert_eq!((closing(&outputs), stopped(&outputs)), (0, true));
}

#[test]
fn a_slow_reader_is_closed_and_its_publisher_was_held() {
    let options = Options { max_pending: 100_000, ..Options::default() };
    let mut server = Server::new(1, options);
    let conn = ConnId { slot: 7, generation: 3 };
    let address = "127.0.0.1:1".parse().unwrap();
    let shard = &mut server.shards[0];
    let drain = |shard: &mut Shard| std::iter::from_fn(|| shard.poll_output()).collect::<Vec<_>>();
    for conn in [conn, ConnId { slot: 8, generation: 0 }] {
        shard.handle(
            server.now,
            Input::Accepted { listener: Listener::Client, conn, peer: address, local: address },
        );
    }
    let send = |shard: &mut Shard, conn, bytes: &[u8]| {
        shard.read_target(conn)[..bytes.len()].copy_from_slice(bytes);
        shard.handle(server.now, Input::Received { conn, n: bytes.len() });
        drain(shard)
    };
    send(shard, conn, b"CONNECT {\"verbose\":false}\r\nSUB a 1\r\n");
    let publisher = ConnId { slot: 8, generation: 0 };
    send(shard, publisher, b"CONNECT {\"verbose\":false}\r\n");
    let message = [b"PUB a 20000\r\n".to_vec(), vec![b'x'; 20_000], b"\r\n".to_vec()].concat();
    let (mut held, mut closed) = (false, false);
    for _ in 0..6 {
        for output in send(shard, publisher, &message) {
            held |= matches!(output, Output::PauseReading { conn } if conn == publisher);
            closed |= matches!(output, Output::Close { conn: which, .. } if which == conn);
        }
        shard.handle(Now { instant: Instant::from_nanos(1_000_000_000), ..server.now }, Input::Tick);
    }
    assert!(held && closed);
}

#[test]
fn an_account_has_room_for_so_many_on_all_shards_together() {
    let mut options = users();
    options.accounts[0].limits.max_connections = Some(2);
    let mut server = Server::new(2, options);
    let login = b"CONNECT {\"user\":\"a\",\"pass\":\"pw\",\"verbose\":false}\r\nPING\r\n";
    let clients: Vec<usize> = [0, 1, 1].map(|shard| server.connect(shard)).into();
    for client in &clients {
        server.took(*client);
        server.send(*client, login);
    }
    assert!(server.took(clients[0]).contains("PONG") && server.took(clients[1]).contains("PONG"));
    assert_eq!(server.took(clients[2]), "-ERR 'maximum account active connections exceeded'\r\n");
    assert!(!server.clients[clients[2]].3);
    server.send(clients[0], b"FOO");
    let next = server.connect(1);
    server.took(next);
    server.send(next, login);
    assert!(server.took(next).contains("PONG"), "a place is free again");
}

/// Has a subscriber's socket take `taken` bytes of many in the time that it has, and tells whether it is closed then, and
/// again after as much time in which it takes nothing.
fn slow_socket(write_timeout: WriteTimeoutPolicy, taken: usize) -> (bool, bool) {
    let deadline = Duration::from_secs(2);
    let options = Options { write_deadline: deadline, write_timeout, ..Options::default() };
    let mut server = Server::new(1, options);
    let (reader, writer) = (server.connect(0), server.connect(0));
    server.send(reader, b"CONNECT {}\r\nSUB x 1\r\nPING\r\n");
    let (_, conn, ..) = server.clients[reader];
    let (_, from, ..) = server.clients[writer];
    let publishes = b"PUB x 5\r\nhello\r\n".repeat(10);
    let shard = &mut server.shards[0];
    let closed = |now: Now, input: Input, shard: &mut Shard| {
        shard.handle(now, input);
        let outputs = std::iter::from_fn(|| shard.poll_output());
        outputs
            .filter(|output| matches!(output, Output::Close { conn: closed, .. } if *closed == conn))
            .count()
            > 0
    };
    let mut now = server.now;
    shard.read_target(from)[..publishes.len()].copy_from_slice(&publishes);
    assert!(!closed(now, Input::Received { conn: from, n: publishes.len() }, shard));
    if taken > 0 {
        assert!(!closed(now, Input::Written { conn, n: taken }, shard));
    }
    now.instant += deadline;
    let first = closed(now, Input::Tick, shard);
    now.instant += deadline;
    (first, !first && closed(now, Input::Tick, shard))
}

#[test]
fn a_socket_that_takes_too_little_is_closed_unless_it_is_to_be_tried_again() {
    use WriteTimeoutPolicy::{Close, Default, Retry};
    for policy in [Default, Close] {
        assert_eq!(slow_socket(policy, 7), (true, false));
    }
    assert_eq!(slow_socket(Retry, 7), (false, true), "the second time it took nothing at all");
    assert_eq!(slow_socket(Retry, 0), (true, false));
}
