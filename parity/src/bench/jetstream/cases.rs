//! The list of cases, in the order of the report.

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::{Bench, Sample, Sync, Target, consume, publish, scale};

/// One thing that is measured.
#[derive(Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) run: fn(&mut Bench<'_>) -> Result<Sample>,
    /// What the time until an answer, and hence when to sync, has no part in.
    is_lazy_only: bool,
}

impl Case {
    pub(super) fn measures(&self, target: Target) -> bool {
        !self.is_lazy_only || target.sync == Sync::Lazy
    }
}

const fn case(name: &'static str, title: &'static str, run: fn(&mut Bench<'_>) -> Result<Sample>) -> Case {
    Case { name, title, run, is_lazy_only: false }
}

const fn lazy_only(case: Case) -> Case {
    Case { is_lazy_only: true, ..case }
}

pub(super) static ALL: &[Case] = &[
    case("publish-1", "publish 128 B, 1 in flight", |b| publish::publish(b, "file", 1, 128)),
    case("publish-128", "publish 128 B, 1,000 in flight", |b| publish::publish(b, "file", 1000, 128)),
    case("publish-1k", "publish 1 KiB, 1,000 in flight", |b| publish::publish(b, "file", 1000, 1024)),
    case("publish-4x", "publish 128 B, 4 streams, 4 clients, 250 in flight each", publish::publish_many),
    lazy_only(case("memory-128", "memory, publish 128 B, 1,000 in flight", |b| {
        publish::publish(b, "memory", 1000, 128)
    })),
    case("fetch-500", "pull fetch of 500, explicit acks", consume::fetch),
    lazy_only(case("read-back", "ordered read back", consume::read_back)),
    case("kv-put", "key-value puts, 1,000 in flight", consume::puts),
    lazy_only(case("kv-get", "key-value direct gets, 1 in flight", consume::gets)),
    case("streams-1000", "1,000 streams, one message a second each", scale::streams),
    case("consumers-1000", "1,000 consumers on one stream", scale::consumers),
    case("ephemerals", "20,000 ephemeral consumers made", scale::ephemerals),
    lazy_only(case("recover-stop", "recovery after a stop", |b| scale::recover(b, Signal::TERM))),
    lazy_only(case("recover-kill", "recovery after kill -9", |b| scale::recover(b, Signal::KILL))),
];

/// Finds a case by its name.
pub(super) fn find(name: &str) -> Result<&'static Case> {
    let found = ALL.iter().find(|case| case.name == name);
    found.with_context(|| format!("no case {name}; see bench jetstream --help"))
}
