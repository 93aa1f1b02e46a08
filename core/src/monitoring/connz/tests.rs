use std::time::Duration;

use super::*;
use crate::monitoring::{CertificateFacts, ClosedReason, SubFacts, TlsFacts, Traffic};

/// A connection with nothing but what /connz shows of it.
#[derive(Clone)]
pub(in crate::monitoring) struct TestConn {
    pub(in crate::monitoring) cid: u64,
    pub(in crate::monitoring) subs: Vec<(String, String)>,
    name: &'static str,
    user: &'static str,
    account: &'static str,
    /// Nanoseconds since the epoch.
    start: i64,
    last_activity: i64,
    rtt: Duration,
    pending: usize,
    traffic: Traffic,
    stalls: u64,
    tls: bool,
}

impl Default for TestConn {
    fn default() -> Self {
        TestConn {
            cid: 1,
            subs: Vec::new(),
            name: "",
            user: "",
            account: "$G",
            start: 0,
            last_activity: 0,
            rtt: Duration::ZERO,
            pending: 0,
            traffic: Traffic::default(),
            stalls: 0,
            tls: false,
        }
    }
}

impl TestConn {
    fn new(cid: u64, account: &'static str, user: &'static str) -> Self {
        TestConn {
            cid,
            account,
            user,
            start: SECOND * cid as i64,
            last_activity: SECOND * 20,
            ..Self::default()
        }
    }

    fn subscribed(mut self, subjects: &[(&str, &str)]) -> Self {
        self.subs =
            subjects.iter().map(|(subject, queue)| (subject.to_string(), queue.to_string())).collect();
        self
    }
}

impl ConnSource for &TestConn {
    fn facts(&self) -> ConnFacts<'_> {
        (*self).facts()
    }

    fn visit_subscriptions(&self, visit: &mut dyn FnMut(SubFacts<'_>)) {
        (*self).visit_subscriptions(visit);
    }
}

impl ConnSource for TestConn {
    fn facts(&self) -> ConnFacts<'_> {
        ConnFacts {
            cid: self.cid,
            peer: "127.0.0.1:60992".parse().unwrap(),
            start: WallTime::from_unix_nanos(self.start),
            last_activity: WallTime::from_unix_nanos(self.last_activity),
            rtt: self.rtt,
            pending_bytes: self.pending,
            traffic: self.traffic,
            stalls: self.stalls,
            subscriptions: self.subs.len(),
            name: self.name,
            lang: if self.name.is_empty() { "" } else { "go" },
            version: if self.name.is_empty() { "" } else { "1.2.3" },
            tls: self.tls.then_some(TlsFacts {
                version: "1.3",
                cipher: "TLS_AES_128_GCM_SHA256",
                first: true,
                certificate: Some(CertificateFacts {
                    subject: "CN=localhost",
                    spki_sha256: &[0x0a; 32],
                    sha256: &[0xb0; 32],
                }),
            }),
            user: self.user,
            by_nkey: false,
            proxy: None,
            account: self.account,
        }
    }

    fn visit_subscriptions(&self, visit: &mut dyn FnMut(SubFacts<'_>)) {
        for (index, (subject, queue)) in self.subs.iter().enumerate() {
            let sid = (index + 1).to_string();
            let max = if queue.is_empty() { 0 } else { 5 };
            visit(SubFacts {
                subject: subject.as_bytes(),
                queue: queue.as_bytes(),
                sid: sid.as_bytes(),
                msgs: 2,
                max,
            });
        }
    }
}

const SECOND: i64 = 1_000_000_000;
const NOW: WallTime = WallTime::from_unix_nanos(100 * SECOND);

struct TestShard {
    open: Vec<TestConn>,
    closed: ClosedRing,
}

/// Two shards: A's user `a` twice, `b` once, a stranger in the global account; and three that are closed.
fn server() -> Vec<TestShard> {
    let traffic = |n| Traffic { in_msgs: n, in_bytes: 10 * n, out_msgs: 100 - n, out_bytes: 1000 - 10 * n };
    let mut first = TestConn::new(6, "A", "a").subscribed(&[("foo", ""), ("bar.*", "q")]);
    first.name = "n1";
    first.rtt = Duration::from_nanos(531_250);
    first.traffic = traffic(1);
    let mut second = TestConn::new(7, "A", "a");
    second.traffic = traffic(2);
    second.pending = 5;
    second.last_activity = 50 * SECOND;
    second.rtt = Duration::from_micros(10_500);
    let mut third = TestConn::new(8, "A", "b").subscribed(&[("foo.>", "")]);
    third.traffic = traffic(3);
    third.pending = 3;
    third.stalls = 4;
    let mut stranger = TestConn::new(9, "$G", "");
    stranger.tls = true;
    let mut shards = vec![
        TestShard { open: vec![third, first], closed: ClosedRing::new(2) },
        TestShard { open: vec![stranger, second], closed: ClosedRing::new(2) },
    ];
    let close = |ring: &mut ClosedRing, conn: &TestConn, stop: i64, reason| {
        ring.push(ClosedConn::new(conn, WallTime::from_unix_nanos(stop * SECOND), reason));
    };
    let subscribed = TestConn::new(3, "A", "a").subscribed(&[("x.y", "")]);
    close(&mut shards[0].closed, &subscribed, 90, ClosedReason::ReadError);
    close(&mut shards[1].closed, &TestConn::new(2, "$G", "a"), 40, ClosedReason::AuthenticationViolation);
    close(&mut shards[1].closed, &TestConn::new(4, "B", "b"), 60, ClosedReason::ClientClosed);
    shards
}

fn ask(options: &ConnzOptions, shards: &[TestShard], max_closed: usize) -> Connz {
    let context = ConnzContext {
        server_id: "NID",
        now: NOW,
        max_closed,
        account_exists: matches!(options.account.as_str(), "" | "A" | "B" | "$G"),
    };
    let parts = shards.iter().map(|shard| ConnzPart::gather(options, NOW, shard.open.iter(), &shard.closed));
    Connz::merge(options, &context, parts.collect())
}

fn connz(query: &str) -> Result<Connz, QueryError> {
    let options = ConnzOptions::from_query(&Query::parse(query))?;
    Ok(ask(&options, &server(), 10))
}

fn json(query: &str) -> String {
    connz(query).map_or_else(|error| error.to_string(), |connz| serde_json::to_string_pretty(&connz).unwrap())
}

/// Shows the ids on a page, and the total.
fn ids(query: &str) -> String {
    let connz = connz(query).unwrap();
    let ids: Vec<u64> = connz.connections.iter().flatten().map(|info| info.cid).collect();
    assert_eq!(ids.len(), connz.num_connections);
    format!("{ids:?} of {}", connz.total)
}

#[test]
fn open_connections_as_the_reference_shows_them() {
    insta::assert_snapshot!(json("limit=2"));
}

#[test]
fn auth_adds_users_accounts_and_certificates() {
    insta::assert_snapshot!(json("auth=1&subs=1&offset=3"));
}

#[test]
fn subscriptions_in_detail() {
    insta::assert_snapshot!(json("subs=Detail&cid=6&auth=true"));
}

#[test]
fn closed_connections_remember_why_and_what_they_had() {
    insta::assert_snapshot!(json("state=closed&auth=1&subs=detail&acc=A"));
}

#[test]
fn an_unknown_account_gets_the_references_empty_answer() {
    insta::assert_snapshot!(json("acc=NOPE"), @r#"
    {
      "server_id": "",
      "now": "1970-01-01T00:01:40Z",
      "num_connections": 0,
      "total": 0,
      "offset": 0,
      "limit": 1024,
      "connections": null
    }
    "#);
    assert!(json("cid=999").contains(r#""connections": []"#));
}

#[test]
fn each_sort_key_has_its_order() {
    let order = |sort: &str| ids(&format!("sort={sort}"));
    for (sort, expected) in [
        ("", "[6, 7, 8, 9]"),
        ("cid", "[6, 7, 8, 9]"),
        ("start", "[6, 7, 8, 9]"),
        ("subs", "[6, 8, 7, 9]"),
        ("pending", "[7, 8, 6, 9]"),
        ("msgs_to", "[6, 7, 8, 9]"),
        ("msgs_from", "[8, 7, 6, 9]"),
        ("bytes_to", "[6, 7, 8, 9]"),
        ("bytes_from", "[8, 7, 6, 9]"),
        ("last", "[7, 6, 8, 9]"),
        ("idle", "[6, 8, 9, 7]"),
        ("uptime", "[9, 8, 7, 6]"),
        ("rtt", "[7, 6, 8, 9]"),
    ] {
        assert_eq!(order(sort), format!("{expected} of 4"), "sort={sort}");
    }
    assert_eq!(ids("sort=stop&state=closed"), "[3, 4, 2] of 3");
    assert_eq!(ids("sort=reason&state=closed"), "[2, 4, 3] of 3");
    // A closed connection's age ended when it closed: 38, 56 and 87 seconds; the open ones are 91 to 94 old.
    assert_eq!(ids("sort=uptime&state=any"), "[2, 4, 3, 9, 8, 7, 6] of 7");
}

#[test]
fn filters_choose_and_the_total_follows_the_account_only() {
    assert_eq!(ids("acc=A"), "[6, 7, 8] of 3");
    assert_eq!(ids("acc=$G"), "[9] of 1");
    assert_eq!(ids("acc=A&state=any"), "[3, 6, 7, 8] of 4");
    assert_eq!(ids("user=a"), "[6, 7] of 4");
    assert_eq!(ids("user=a&state=ALL"), "[2, 3, 6, 7] of 7");
    assert_eq!(ids("mqtt_client=m"), "[] of 4");
    assert_eq!(ids("cid=7"), "[7] of 4");
    assert_eq!(ids("cid=3"), "[] of 4");
    assert_eq!(ids("cid=3&state=any"), "[3] of 7");
    assert_eq!(ids("cid=3&state=closed"), "[3] of 3");
    // The reference's HTTP handler doesn't know this parameter.
    assert_eq!(ids("acc=A&filter_subject=foo.bar"), "[6, 7, 8] of 3");
}

#[test]
fn a_subject_filter_needs_an_account() {
    let by_subject = |account: &str, subject: &str| {
        let options = ConnzOptions {
            account: account.to_owned(),
            filter_subject: subject.to_owned(),
            ..ConnzOptions::default()
        };
        options.check()?;
        let connz = ask(&options, &server(), 10);
        Ok(connz.connections.unwrap().iter().map(|info| info.cid).collect::<Vec<_>>())
    };
    assert_eq!(by_subject("A", "foo.bar"), Ok(vec![8]));
    assert_eq!(by_subject("A", "*"), Ok(vec![6]));
    assert_eq!(by_subject("A", ">"), Ok(vec![6, 7, 8]));
    assert_eq!(by_subject("", ">"), Ok(vec![6, 7, 8, 9]));
    let error: QueryError = by_subject("", "foo").unwrap_err();
    assert_eq!(error.to_string(), "filter by subject only valid with account filtering");
}

#[test]
fn pages_cover_everything_once() {
    assert_eq!(ids("limit=3"), "[6, 7, 8] of 4");
    assert_eq!(ids("limit=3&offset=3"), "[9] of 4");
    assert_eq!(ids("limit=1&offset=1&sort=msgs_from"), "[7] of 4");
    assert_eq!(ids("offset=4"), "[] of 4");
    assert_eq!(ids("offset=9223372036854775807&limit=9223372036854775807"), "[] of 4");
    assert_eq!(ids("offset=-4&limit=-5"), "[6, 7, 8, 9] of 4");
    assert_eq!(ids("state=any&limit=2&offset=2&sort=uptime"), "[3, 9] of 7");
}

#[test]
fn the_server_forgets_the_oldest_closed_connections_of_all_shards() {
    let options = ConnzOptions { state: ConnState::Closed, sort: ConnSort::Stop, ..ConnzOptions::default() };
    let connz = ask(&options, &server(), 2);
    assert_eq!(connz.total, 2);
    assert_eq!(connz.connections.unwrap().iter().map(|info| info.cid).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn queries_that_make_no_sense_are_refused_in_the_references_words() {
    let refused = [
        "auth=zz&limit=x",
        "subs=x",
        "offset=x",
        "limit=x",
        "cid=-1",
        "state=foo",
        "sort=foo",
        "sort=stop",
        "sort=reason&state=any",
    ];
    insta::assert_snapshot!(refused.map(json).join("\n"), @r#"
    Error decoding boolean for 'auth': strconv.ParseBool: parsing "zz": invalid syntax
    Error decoding boolean for 'subs': strconv.ParseBool: parsing "x": invalid syntax
    Error decoding int for 'offset': strconv.Atoi: parsing "x": invalid syntax
    Error decoding int for 'limit': strconv.Atoi: parsing "x": invalid syntax
    Error decoding uint64 for 'cid': strconv.ParseUint: parsing "-1": invalid syntax
    Error decoding state for foo
    invalid sorting option: foo
    sort by stop only valid on closed connections
    sort by reason only valid on closed connections
    "#);
}
