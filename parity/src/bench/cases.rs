//! The list of cases, each with the goal that the project has set itself.

use anyhow::{Context, Result};

use super::flow::Flow;
use super::relay::Mode;
use super::target::Running;
use super::{Sample, Window, connections, request};

/// One thing that is measured.
#[derive(Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) run: fn(&Running, Window) -> Result<Sample>,
    /// What the relay does in this case; `None` where moving bytes is not what it is about.
    pub(super) relay: Option<Mode>,
    /// Takes seconds before it can measure.
    pub(super) slow_to_set_up: bool,
    pub(super) goal: Goal,
}

/// What natrix is to reach; ratios are natrix's figure divided by the other's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Goal {
    /// CPU per operation against the Go server, at most.
    pub(super) cpu_of_go: Option<f64>,
    /// Operations in a second against the Go server, at least.
    pub(super) rate_of_go: Option<f64>,
    /// CPU per operation against the relay, at most.
    pub(super) cpu_of_relay: Option<f64>,
    /// Whether p50, p99 and p99.9 are to be no worse than the Go server's.
    pub(super) latency_of_go: bool,
    /// Resident bytes for each connection, at most.
    pub(super) bytes_each: Option<f64>,
}

const NO_GOAL: Goal =
    Goal { cpu_of_go: None, rate_of_go: None, cpu_of_relay: None, latency_of_go: false, bytes_each: None };
const SMALL: Goal = Goal { cpu_of_go: Some(0.25), rate_of_go: Some(3.0), ..NO_GOAL };
const WIDE: Goal = Goal { cpu_of_go: Some(1.0 / 3.0), rate_of_go: Some(2.0), ..NO_GOAL };
const LARGE: Goal = Goal { cpu_of_relay: Some(1.25), ..NO_GOAL };
const EXCHANGE: Goal = Goal { cpu_of_go: Some(2.0 / 3.0), ..NO_GOAL };
const REQUEST: Goal = Goal { latency_of_go: true, ..EXCHANGE };
const IDLE: Goal = Goal { bytes_each: Some(4096.0), ..NO_GOAL };

const fn case(
    name: &'static str,
    title: &'static str,
    goal: Goal,
    relay: Option<Mode>,
    run: fn(&Running, Window) -> Result<Sample>,
) -> Case {
    Case { name, title, run, relay, slow_to_set_up: false, goal }
}

const fn slow(case: Case) -> Case {
    Case { slow_to_set_up: true, ..case }
}

const DISCARD: Option<Mode> = Some(Mode::Discard);
const FAN: Option<Mode> = Some(Mode::Fan);
const PAIR: Option<Mode> = Some(Mode::Pair);

/// Every case, in the order of the report.
pub(super) static ALL: &[Case] = &[
    case("publish-16", "publish only, 16 B", SMALL, DISCARD, |r, w| Flow::publish_only(16).run(r, w)),
    case("publish-128", "publish only, 128 B", SMALL, DISCARD, |r, w| Flow::publish_only(128).run(r, w)),
    case("publish-1k", "publish only, 1 KiB", LARGE, DISCARD, |r, w| Flow::publish_only(1024).run(r, w)),
    case("1-1-16", "1 publisher to 1 subscriber, 16 B", SMALL, FAN, |r, w| Flow::one_to_one(16).run(r, w)),
    case("1-1-128", "1 to 1, 128 B", SMALL, FAN, |r, w| Flow::one_to_one(128).run(r, w)),
    case("1-1-256", "1 to 1, 256 B", SMALL, FAN, |r, w| Flow::one_to_one(256).run(r, w)),
    case("1-1-1k", "1 to 1, 1 KiB", LARGE, FAN, |r, w| Flow::one_to_one(1024).run(r, w)),
    case("1-1-16k", "1 to 1, 16 KiB", LARGE, FAN, |r, w| Flow::one_to_one(16 * 1024).run(r, w)),
    case("headers-128", "1 to 1, two headers, 128 B", SMALL, FAN, |r, w| Flow::with_headers(128).run(r, w)),
    case("4-4", "4 publishers to 4 subscribers, 128 B", SMALL, FAN, |r, w| {
        Flow::all_to_all(4, 4, 128).run(r, w)
    }),
    case("fan-100", "fan-out to 100 connections, 128 B", SMALL, FAN, |r, w| {
        Flow::fan_out(100, 128).run(r, w)
    }),
    case("fan-1000", "fan-out to 1,000 connections, 128 B", WIDE, FAN, |r, w| {
        Flow::fan_out(1000, 128).run(r, w)
    }),
    case("queue-8", "queue group of 8, 128 B", SMALL, Some(Mode::Rotate), |r, w| {
        Flow::queue(8, 128).run(r, w)
    }),
    case("request-1", "requests, 1 in flight", REQUEST, PAIR, |r, w| request::request(r, w, 1)),
    case("request-256", "requests, 256 in flight", WIDE, PAIR, |r, w| request::request(r, w, 256)),
    slow(case("wildcards-100k", "100,000 wildcard subscriptions, 128 B", SMALL, None, |r, w| {
        Flow::wildcards(100_000, 128).run(r, w)
    })),
    case("churn", "subscribe and unsubscribe", NO_GOAL, None, connections::churn),
    case("1-1-churned", "1 to 1, 128 B, others subscribe 10,000 times a second", SMALL, None, |r, w| {
        Flow::one_to_one(128).churned().run(r, w)
    }),
    case("connect", "connect, PING, close", EXCHANGE, Some(Mode::Greet), connections::connect),
    case("ping", "PING and PONG", EXCHANGE, Some(Mode::Echo), request::ping),
    slow(case("idle-5000", "5,000 idle connections", IDLE, None, connections::idle)),
];

/// Finds a case by its name.
pub(super) fn find(name: &str) -> Result<&'static Case> {
    ALL.iter().find(|case| case.name == name).with_context(|| format!("no case {name}; see bench --help"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for case in ALL {
            assert!(std::ptr::eq(find(case.name).unwrap(), case), "{}", case.name);
        }
    }
}
