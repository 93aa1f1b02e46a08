//! /subsz: how the interest graph is used, and who is in it.

use serde::Serialize;

use super::connz::{page_limit, page_offset};
use super::query::{Query, QueryError};
use super::text::{GoFloat, time};
use super::{SubDetail, SubFacts};
use crate::subject::{is_valid_literal_subject, matches_literal};
use crate::time::WallTime;

/// How many subscriptions a page has unless the request says otherwise.
const DEFAULT_LIMIT: usize = 1024;

/// What a request to /subsz asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubszOptions {
    /// Whether to list subscriptions.
    pub subscriptions: bool,
    /// How many subscriptions to leave out at the front.
    pub offset: usize,
    /// How many subscriptions to show at most.
    pub limit: usize,
    /// The account to look at; empty for all.
    pub account: String,
    /// Only subscriptions that a message to this subject would reach; empty for all.
    pub test: String,
}

impl Default for SubszOptions {
    fn default() -> Self {
        SubszOptions {
            subscriptions: false,
            offset: 0,
            limit: DEFAULT_LIMIT,
            account: String::new(),
            test: String::new(),
        }
    }
}

impl SubszOptions {
    /// Reads what the query of a request to /subsz asks for.
    ///
    /// # Errors
    ///
    /// The first parameter that makes no sense, in the order in which the reference reads them.
    pub fn from_query(query: &Query) -> Result<Self, QueryError> {
        let options = SubszOptions {
            subscriptions: query.boolean("subs")?,
            offset: page_offset(query)?,
            limit: page_limit(query, DEFAULT_LIMIT)?,
            account: query.get("acc").to_owned(),
            test: query.get("test").to_owned(),
        };
        if !options.test.is_empty() && !is_valid_literal_subject(options.test.as_bytes()) {
            return Err(QueryError::TestSubject(options.test));
        }
        Ok(options)
    }

    /// Tells whether an account is to be looked at.
    pub fn wants_account(&self, account: &str) -> bool {
        self.account.is_empty() || self.account == account
    }
}

/// Counts of one account's interest graph in one shard; they add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubszStats {
    /// Subscriptions that there are.
    pub subscriptions: u64,
    /// Results in the match cache.
    pub cached: u64,
    /// Subscriptions that ever came.
    pub inserts: u64,
    /// Subscriptions that ever went.
    pub removes: u64,
    /// Matches that were asked for.
    pub matches: u64,
    /// Matches that the cache could answer.
    pub cache_hits: u64,
    /// Subscriptions of the cached result that has most.
    pub max_fanout: u64,
    /// Subscriptions of all cached results together.
    pub total_fanout: u64,
}

impl SubszStats {
    /// Adds another graph's counts.
    pub fn add(&mut self, other: &SubszStats) {
        self.subscriptions += other.subscriptions;
        self.cached += other.cached;
        self.inserts += other.inserts;
        self.removes += other.removes;
        self.matches += other.matches;
        self.cache_hits += other.cache_hits;
        self.max_fanout = self.max_fanout.max(other.max_fanout);
        self.total_fanout += other.total_fanout;
    }
}

/// One shard's share of an answer.
///
/// Fill it account by account: [`SubszPart::add_stats`] for each that is wanted, then, if a list is wanted,
/// [`SubszPart::add_subscription`] for each subscription.
#[derive(Clone, Debug, Default)]
pub struct SubszPart {
    stats: SubszStats,
    /// Subscriptions that pass the filters.
    total: usize,
    /// Those that can be on the page.
    subs: Vec<SubDetail>,
}

impl SubszPart {
    /// Adds the counts of an account.
    pub fn add_stats(&mut self, stats: &SubszStats) {
        self.stats.add(stats);
    }

    /// Adds a subscription of an account that is wanted.
    pub fn add_subscription(&mut self, options: &SubszOptions, facts: SubFacts<'_>, cid: u64, account: &str) {
        if !options.test.is_empty() && !matches_literal(options.test.as_bytes(), facts.subject) {
            return;
        }
        self.total += 1;
        if self.subs.len() < options.offset.saturating_add(options.limit) {
            self.subs.push(SubDetail::new(facts, cid, Some(account)));
        }
    }
}

/// The answer to /subsz.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Subsz {
    server_id: String,
    #[serde(serialize_with = "time")]
    now: WallTime,
    num_subscriptions: u64,
    num_cache: u64,
    num_inserts: u64,
    num_removes: u64,
    num_matches: u64,
    cache_hit_rate: GoFloat,
    max_fanout: u64,
    avg_fanout: GoFloat,
    total: usize,
    offset: usize,
    limit: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<SubDetail>,
}

impl Subsz {
    /// Puts the parts of all shards together.
    pub fn merge(options: &SubszOptions, server_id: &str, now: WallTime, mut parts: Vec<SubszPart>) -> Self {
        // Shards answer in any order; pages of one list need the same one each time.
        parts.sort_by_key(|part| part.subs.first().map(SubDetail::cid));
        let mut whole = SubszPart::default();
        for part in parts {
            whole.stats.add(&part.stats);
            whole.total += part.total;
            whole.subs.extend(part.subs);
        }
        let ratio =
            |part: u64, whole: u64| GoFloat(if whole == 0 { 0.0 } else { part as f64 / whole as f64 });
        let stats = whole.stats;
        Subsz {
            server_id: server_id.to_owned(),
            now,
            num_subscriptions: stats.subscriptions,
            num_cache: stats.cached,
            num_inserts: stats.inserts,
            num_removes: stats.removes,
            num_matches: stats.matches,
            cache_hit_rate: ratio(stats.cache_hits, stats.matches),
            max_fanout: stats.max_fanout,
            avg_fanout: ratio(stats.total_fanout, stats.cached),
            total: whole.total,
            offset: options.offset,
            limit: options.limit,
            subscriptions_list: whole.subs.into_iter().skip(options.offset).take(options.limit).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(options: &SubszOptions, subjects: &[&str]) -> SubszPart {
        let mut part = SubszPart::default();
        part.add_stats(&SubszStats {
            subscriptions: subjects.len() as u64,
            cached: 2,
            inserts: 7,
            removes: 1,
            matches: 6,
            cache_hits: 1,
            max_fanout: 3,
            total_fanout: 4,
        });
        for (index, subject) in subjects.iter().enumerate() {
            let queue: &[u8] = if subject.ends_with('*') { b"q" } else { b"" };
            let sid = (index + 1).to_string();
            let max = if queue.is_empty() { 0 } else { 5 };
            let facts = SubFacts { subject: subject.as_bytes(), queue, sid: sid.as_bytes(), msgs: 1, max };
            if options.subscriptions {
                part.add_subscription(options, facts, 6, "A");
            }
        }
        part
    }

    fn answer(query: &str) -> String {
        let options = match SubszOptions::from_query(&Query::parse(query)) {
            Ok(options) => options,
            Err(error) => return error.to_string(),
        };
        let parts = vec![part(&options, &["foo", "bar.*"]), part(&options, &["foo.>", "bar.x", "baz"])];
        let subsz = Subsz::merge(&options, "NID", WallTime::from_unix_nanos(1_000_000_000), parts);
        serde_json::to_string_pretty(&subsz).unwrap()
    }

    #[test]
    fn counts_of_all_shards_add_up() {
        insta::assert_snapshot!(answer(""), @r#"
        {
          "server_id": "NID",
          "now": "1970-01-01T00:00:01Z",
          "num_subscriptions": 5,
          "num_cache": 4,
          "num_inserts": 14,
          "num_removes": 2,
          "num_matches": 12,
          "cache_hit_rate": 0.16666666666666666,
          "max_fanout": 3,
          "avg_fanout": 2,
          "total": 0,
          "offset": 0,
          "limit": 1024
        }
        "#);
    }

    #[test]
    fn a_page_spans_shards() {
        insta::assert_snapshot!(answer("subs=1&offset=1&limit=2"), @r#"
        {
          "server_id": "NID",
          "now": "1970-01-01T00:00:01Z",
          "num_subscriptions": 5,
          "num_cache": 4,
          "num_inserts": 14,
          "num_removes": 2,
          "num_matches": 12,
          "cache_hit_rate": 0.16666666666666666,
          "max_fanout": 3,
          "avg_fanout": 2,
          "total": 5,
          "offset": 1,
          "limit": 2,
          "subscriptions_list": [
            {
              "account": "A",
              "account_tag": "A",
              "subject": "bar.*",
              "qgroup": "q",
              "sid": "2",
              "msgs": 1,
              "max": 5,
              "cid": 6
            },
            {
              "account": "A",
              "account_tag": "A",
              "subject": "foo.>",
              "sid": "1",
              "msgs": 1,
              "cid": 6
            }
          ]
        }
        "#);
    }

    #[test]
    fn only_subscriptions_that_a_test_message_would_reach() {
        let listed = answer("subs=true&test=bar.x");
        assert!(listed.contains(r#""total": 2"#), "{listed}");
        assert!(
            listed.contains("bar.*") && listed.contains("bar.x") && !listed.contains("foo.>"),
            "{listed}"
        );
        assert_eq!(answer("test=foo.*"), "invalid test subject, must be valid publish subject: foo.*");
    }

    #[test]
    fn an_offset_past_the_end_or_below_zero_is_harmless() {
        assert!(!answer("subs=1&offset=9223372036854775807").contains("subscriptions_list"));
        assert!(answer("subs=1&offset=-3&limit=-1").contains(r#""limit": 1024"#));
    }
}
