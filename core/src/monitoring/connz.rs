//! /connz: which connections a request wants, in which order, and which page of them.
//!
//! A shard looks at all its connections but renders only those that can be on the page: the first `offset + limit`
//! in the wanted order. Closed connections are few and shared, so they all travel, and the server's limit on how
//! many are remembered is applied where the parts of all shards come together.

use std::sync::Arc;

use serde::Serialize;

use super::query::{Query, QueryError};
use super::text::time;
use super::{ClosedConn, ClosedRing, ConnFacts, ConnInfo, ConnSource, SubDetail};
use crate::config::GLOBAL_ACCOUNT;
use crate::subject::subjects_collide;
use crate::time::WallTime;

/// How many connections a page has unless the request says otherwise.
const DEFAULT_LIMIT: usize = 1024;

/// What connections are sorted by. Only `cid`, `start`, `uptime` and `reason` go from small to large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnSort {
    /// By id.
    #[default]
    Cid,
    /// By the time of connecting, which is the order of ids.
    Start,
    /// By number of subscriptions.
    Subs,
    /// By bytes that wait for the socket.
    Pending,
    /// By messages sent to the client.
    MsgsTo,
    /// By messages received from the client.
    MsgsFrom,
    /// By bytes sent to the client.
    BytesTo,
    /// By bytes received from the client.
    BytesFrom,
    /// By last activity, the latest first.
    Last,
    /// By time since the last activity.
    Idle,
    /// By age, the youngest first.
    Uptime,
    /// By the time of closing, the latest first; closed connections only.
    Stop,
    /// By the text of the reason for closing; closed connections only.
    Reason,
    /// By round trip time.
    Rtt,
}

impl ConnSort {
    const NAMES: [(&'static str, ConnSort); 15] = [
        ("", ConnSort::Cid),
        ("cid", ConnSort::Cid),
        ("start", ConnSort::Start),
        ("subs", ConnSort::Subs),
        ("pending", ConnSort::Pending),
        ("msgs_to", ConnSort::MsgsTo),
        ("msgs_from", ConnSort::MsgsFrom),
        ("bytes_to", ConnSort::BytesTo),
        ("bytes_from", ConnSort::BytesFrom),
        ("last", ConnSort::Last),
        ("idle", ConnSort::Idle),
        ("uptime", ConnSort::Uptime),
        ("stop", ConnSort::Stop),
        ("reason", ConnSort::Reason),
        ("rtt", ConnSort::Rtt),
    ];

    fn parse(name: &str) -> Result<Self, QueryError> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, sort)| *sort).ok_or_else(|| QueryError::Sort(name.to_owned()))
    }

    /// Returns what orders an open connection; smaller keys come first.
    fn key(self, facts: &ConnFacts<'_>, now: WallTime) -> SortKey {
        let age = |since: WallTime| now.since(since).as_nanos() as i128;
        let largest_first = |number: u64| -i128::from(number);
        let number = match self {
            ConnSort::Cid | ConnSort::Start | ConnSort::Stop | ConnSort::Reason => 0,
            ConnSort::Subs => largest_first(facts.subscriptions as u64),
            ConnSort::Pending => largest_first(facts.pending_bytes as u64),
            ConnSort::MsgsTo => largest_first(facts.traffic.out_msgs),
            ConnSort::MsgsFrom => largest_first(facts.traffic.in_msgs),
            ConnSort::BytesTo => largest_first(facts.traffic.out_bytes),
            ConnSort::BytesFrom => largest_first(facts.traffic.in_bytes),
            ConnSort::Last => -i128::from(facts.last_activity.as_unix_nanos()),
            ConnSort::Idle => -age(facts.last_activity),
            ConnSort::Uptime => age(facts.start),
            ConnSort::Rtt => -(facts.rtt.as_nanos() as i128),
        };
        SortKey { number, text: "", cid: facts.cid }
    }

    /// Returns what orders a closed connection among open and closed ones.
    fn closed_key(self, conn: &ClosedConn, now: WallTime) -> SortKey {
        let facts = conn.facts();
        let key = self.key(&facts, now);
        match self {
            ConnSort::Uptime => SortKey { number: conn.stop.since(facts.start).as_nanos() as i128, ..key },
            ConnSort::Stop => SortKey { number: -i128::from(conn.stop.as_unix_nanos()), ..key },
            ConnSort::Reason => SortKey { text: conn.reason.as_str(), ..key },
            _ => key,
        }
    }
}

/// Equal numbers and texts are ordered by id, so that pages don't overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SortKey {
    number: i128,
    text: &'static str,
    cid: u64,
}

/// Which connections are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnState {
    /// Those that are there.
    #[default]
    Open,
    /// Those that were closed last.
    Closed,
    /// Both.
    All,
}

impl ConnState {
    fn parse(name: &str) -> Result<Self, QueryError> {
        match name.to_lowercase().as_str() {
            "" | "open" => Ok(ConnState::Open),
            "closed" => Ok(ConnState::Closed),
            "any" | "all" => Ok(ConnState::All),
            _ => Err(QueryError::State(name.to_owned())),
        }
    }

    fn open(self) -> bool {
        self != ConnState::Closed
    }

    fn closed(self) -> bool {
        self != ConnState::Open
    }
}

/// What a request to /connz asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnzOptions {
    /// The order.
    pub sort: ConnSort,
    /// Whether to tell users, accounts and certificates.
    pub auth: bool,
    /// Whether to list the subjects of subscriptions.
    pub subscriptions: bool,
    /// Whether to list subscriptions in detail, instead of their subjects only.
    pub subscriptions_detail: bool,
    /// How many connections to leave out at the front.
    pub offset: usize,
    /// How many connections to show at most.
    pub limit: usize,
    /// The only connection to show; zero for all.
    pub cid: u64,
    /// The MQTT client id of the connection to show; empty for all.
    pub mqtt_client: String,
    /// Open or closed ones.
    pub state: ConnState,
    /// The user whose connections to show; empty for all.
    pub user: String,
    /// The account whose connections to show; empty for all.
    pub account: String,
    /// Only connections with a subscription that could get a message on this subject; empty for all.
    ///
    /// The reference's HTTP handler doesn't read it from the query, so it serves system requests only.
    pub filter_subject: String,
}

impl Default for ConnzOptions {
    fn default() -> Self {
        ConnzOptions {
            sort: ConnSort::Cid,
            auth: false,
            subscriptions: false,
            subscriptions_detail: false,
            offset: 0,
            limit: DEFAULT_LIMIT,
            cid: 0,
            mqtt_client: String::new(),
            state: ConnState::Open,
            user: String::new(),
            account: String::new(),
            filter_subject: String::new(),
        }
    }
}

impl ConnzOptions {
    /// Reads what the query of a request to /connz asks for.
    ///
    /// # Errors
    ///
    /// The first parameter that makes no sense, in the order in which the reference reads them.
    pub fn from_query(query: &Query) -> Result<Self, QueryError> {
        let auth = query.boolean("auth")?;
        let subscriptions_detail = query.get("subs").to_lowercase() == "detail";
        let subscriptions = !subscriptions_detail && query.boolean("subs")?;
        let offset = page_offset(query)?;
        let limit = page_limit(query, DEFAULT_LIMIT)?;
        let cid = query.unsigned("cid")?;
        let state = ConnState::parse(query.get("state"))?;
        let options = ConnzOptions {
            sort: ConnSort::parse(query.get("sort"))?,
            auth,
            subscriptions,
            subscriptions_detail,
            offset,
            limit: if cid > 0 { 1 } else { limit },
            cid,
            mqtt_client: query.get("mqtt_client").to_owned(),
            state,
            user: query.get("user").to_owned(),
            account: query.get("acc").to_owned(),
            filter_subject: String::new(),
        };
        options.check()?;
        Ok(options)
    }

    /// Checks what no single option can tell.
    ///
    /// # Errors
    ///
    /// A sort key that open connections don't have, or a subject filter without an account.
    pub fn check(&self) -> Result<(), QueryError> {
        if self.state != ConnState::Closed {
            match self.sort {
                ConnSort::Stop => return Err(QueryError::SortNeedsClosed("stop")),
                ConnSort::Reason => return Err(QueryError::SortNeedsClosed("reason")),
                _ => {}
            }
        }
        if self.subject_filter().is_some() && self.account.is_empty() {
            return Err(QueryError::FilterNeedsAccount);
        }
        Ok(())
    }

    fn subject_filter(&self) -> Option<&str> {
        match self.filter_subject.as_str() {
            "" | ">" => None,
            subject => Some(subject),
        }
    }

    fn wants_account(&self, account: &str) -> bool {
        self.account.is_empty() || self.account == account
    }

    fn wants_user(&self, user: &str) -> bool {
        // There are no MQTT clients yet, so a request for one wants nobody.
        self.mqtt_client.is_empty() && (self.user.is_empty() || self.user == user)
    }

    fn wants_open<C: ConnSource>(&self, conn: &C) -> bool {
        let facts = conn.facts();
        if self.cid > 0 {
            return facts.cid == self.cid;
        }
        self.wants_account(facts.account) && self.wants_user(facts.user) && self.wants_subjects(conn)
    }

    fn wants_subjects<C: ConnSource>(&self, conn: &C) -> bool {
        let Some(filter) = self.subject_filter() else { return true };
        let mut found = false;
        conn.visit_subscriptions(&mut |sub| {
            found = found || subjects_collide(filter.as_bytes(), sub.subject);
        });
        found
    }

    fn render<C: ConnSource>(&self, conn: &C, now: WallTime) -> ConnInfo {
        let facts = conn.facts();
        let mut info = ConnInfo::new(&facts, now);
        if self.subscriptions_detail {
            conn.visit_subscriptions(&mut |sub| info.subs_detail.push(SubDetail::new(sub, facts.cid, None)));
        } else if self.subscriptions {
            conn.visit_subscriptions(&mut |sub| {
                info.subs.push(String::from_utf8_lossy(sub.subject).into_owned());
            });
        }
        if self.auth { info.with_auth(&facts) } else { info }
    }

    fn render_closed(&self, conn: &ClosedConn) -> ConnInfo {
        let mut info = conn.info.clone();
        if self.subscriptions_detail {
            info.subs_detail.clone_from(&conn.subs);
        } else if self.subscriptions {
            info.subs = conn.subs.iter().map(|sub| sub.subject().to_owned()).collect();
        }
        if self.auth {
            info.authorized_user = conn.user.to_string();
            if conn.by_nkey {
                info.issuer_key = conn.account.to_string();
            }
            if *conn.account != *GLOBAL_ACCOUNT {
                info.account = conn.account.to_string();
                info.name_tag = conn.account.to_string();
            }
        }
        info
    }
}

/// Reads `offset`; a negative one is none.
pub(super) fn page_offset(query: &Query) -> Result<usize, QueryError> {
    Ok(usize::try_from(query.int("offset")?).unwrap_or(0))
}

/// Reads `limit`; zero and less mean the default.
pub(super) fn page_limit(query: &Query, default: usize) -> Result<usize, QueryError> {
    let limit = usize::try_from(query.int("limit")?).unwrap_or(0);
    Ok(if limit == 0 { default } else { limit })
}

/// One shard's share of an answer.
#[derive(Clone, Debug, Default)]
pub struct ConnzPart {
    /// Open connections before anything but the account was filtered.
    total_open: usize,
    /// The open connections that can be on the page.
    open: Vec<(SortKey, ConnInfo)>,
    /// All that the shard remembers of closed ones, if they are wanted.
    closed: Vec<Arc<ClosedConn>>,
}

impl ConnzPart {
    /// Gathers what a shard knows; `open` are all of its connections that have an id.
    pub fn gather<C: ConnSource>(
        options: &ConnzOptions,
        now: WallTime,
        open: impl Iterator<Item = C>,
        closed: &ClosedRing,
    ) -> Self {
        let mut part = ConnzPart::default();
        if options.state.closed() {
            part.closed = closed.iter().cloned().collect();
        }
        if !options.state.open() {
            return part;
        }
        let mut wanted = Vec::new();
        for conn in open {
            part.total_open += usize::from(options.wants_account(conn.facts().account));
            if options.wants_open(&conn) {
                let key = options.sort.key(&conn.facts(), now);
                wanted.push((key, conn));
            }
        }
        let page_end = options.offset.saturating_add(options.limit);
        if wanted.len() > page_end {
            wanted.select_nth_unstable_by_key(page_end, |(key, _)| *key);
            wanted.truncate(page_end);
        }
        part.open = wanted.into_iter().map(|(key, conn)| (key, options.render(&conn, now))).collect();
        part
    }
}

/// What an answer to /connz needs to know besides its parts.
#[derive(Clone, Debug)]
pub struct ConnzContext<'a> {
    /// The server's id.
    pub server_id: &'a str,
    /// The time of the request.
    pub now: WallTime,
    /// How many closed connections the server remembers.
    pub max_closed: usize,
    /// Whether the account that was asked for exists; true if none was.
    pub account_exists: bool,
}

/// The answer to /connz.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Connz {
    server_id: String,
    #[serde(serialize_with = "time")]
    now: WallTime,
    num_connections: usize,
    total: usize,
    offset: usize,
    limit: usize,
    connections: Option<Vec<ConnInfo>>,
}

impl Connz {
    /// Puts the parts of all shards together.
    pub fn merge(options: &ConnzOptions, context: &ConnzContext<'_>, parts: Vec<ConnzPart>) -> Self {
        let mut connz = Connz {
            server_id: String::new(),
            now: context.now,
            num_connections: 0,
            total: 0,
            offset: options.offset,
            limit: options.limit,
            connections: None,
        };
        if !context.account_exists {
            return connz;
        }
        context.server_id.clone_into(&mut connz.server_id);
        let mut open = Vec::new();
        let mut closed = Vec::new();
        for part in parts {
            connz.total += part.total_open;
            open.extend(part.open);
            closed.extend(part.closed);
        }
        let closed = forget_oldest(closed, context.max_closed);
        let closed = closed.iter().filter(|conn| options.wants_account(&conn.account));
        let mut found: Vec<(SortKey, Found<'_>)> = Vec::with_capacity(open.len());
        // A connection can't be both, and one that is open ends the search for an id.
        let id_found = options.cid > 0 && !open.is_empty();
        found.extend(open.into_iter().map(|(key, info)| (key, Found::Open(Box::new(info)))));
        for conn in closed {
            connz.total += 1;
            let is_searched = options.cid == 0 || (!id_found && conn.info.cid == options.cid);
            if is_searched && options.wants_user(&conn.user) {
                found.push((options.sort.closed_key(conn, context.now), Found::Closed(conn)));
            }
        }
        found.sort_unstable_by_key(|(key, _)| *key);
        let page = found.into_iter().skip(options.offset).take(options.limit).map(|(_, found)| match found {
            Found::Open(info) => *info,
            Found::Closed(conn) => options.render_closed(conn),
        });
        let page: Vec<ConnInfo> = page.collect();
        connz.num_connections = page.len();
        connz.connections = Some(page);
        connz
    }
}

enum Found<'a> {
    Open(Box<ConnInfo>),
    Closed(&'a ClosedConn),
}

/// Keeps the `max` connections that were closed last, over all shards.
fn forget_oldest(mut closed: Vec<Arc<ClosedConn>>, max: usize) -> Vec<Arc<ClosedConn>> {
    if closed.len() > max {
        closed.sort_unstable_by_key(|conn| (conn.stop, conn.info.cid));
        closed.drain(..closed.len() - max);
    }
    closed
}

#[cfg(test)]
pub(super) mod tests;
