//! Figures of a sublist, for `/subsz` and account statistics.

/// What a [`Sublist`](super::Sublist) has done; sums over shards and accounts with [`SublistStats::merge`].
///
/// Source: nats-server `server/sublist.go`, `SublistStats`; the names in JSON are `num_subscriptions`, `num_cache`,
/// `num_inserts`, `num_removes`, `num_matches`, `cache_hit_rate`, `max_fanout` and `avg_fanout`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SublistStats {
    /// Subscriptions there are now.
    pub subscriptions: u64,
    /// Subjects whose result is in the cache.
    pub cache_entries: u64,
    /// Subscriptions ever inserted.
    pub inserts: u64,
    /// Subscriptions ever removed.
    pub removes: u64,
    /// Matches asked for.
    pub matches: u64,
    /// Matches, and questions for interest, that the cache answered.
    pub cache_hits: u64,
    /// The largest fan-out (plain subscribers plus queue groups) of the cached results.
    pub max_fanout: u64,
    /// The sum of the fan-outs of the cached results.
    pub total_fanout: u64,
}

impl SublistStats {
    /// Adds the figures of another sublist.
    pub fn merge(&mut self, other: &SublistStats) {
        self.subscriptions += other.subscriptions;
        self.cache_entries += other.cache_entries;
        self.inserts += other.inserts;
        self.removes += other.removes;
        self.matches += other.matches;
        self.cache_hits += other.cache_hits;
        self.max_fanout = self.max_fanout.max(other.max_fanout);
        self.total_fanout += other.total_fanout;
    }

    /// Returns the share of matches that the cache answered; zero before the first.
    pub fn cache_hit_rate(&self) -> f64 {
        ratio(self.cache_hits, self.matches)
    }

    /// Returns the average fan-out of the cached results; zero if there are none.
    pub fn average_fanout(&self) -> f64 {
        ratio(self.total_fanout, self.cache_entries)
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        _ => part as f64 / whole as f64,
    }
}
