//! When to PING a quiet peer, and when to give it up as stale.
//!
//! [`Keepalive`] owns no socket and no timer: its connection says what arrived and when, drains
//! [`Keepalive::poll_output`] after every call, then sleeps until [`Keepalive::poll_timeout`].
//!
//! Invariant: `unanswered <= max_out`. After [`Output::Stale`] there is no deadline and no output.
//!
//! Source: nats-server `server/client.go`, `processPingTimer` and `setFirstPingTimer`. The interval it works out
//! on every tick is resolved once, in the [`Config`]. The first PING is sent soon and in any case, because it
//! measures the round trip that /connz shows; later ones only to the quiet.

use std::time::Duration;

use crate::time::Instant;

/// How long a new client is given before its round trip is measured.
const FIRST_PING_AFTER: Duration = Duration::from_secs(2);
/// How old a measured round trip may get before traffic is no reason any more not to PING.
const MEASURE_AGAIN_AFTER: Duration = Duration::from_secs(60 * 60);

/// What differs between kinds of connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// Time between PINGs.
    pub(crate) interval: Duration,
    /// PINGs that may be unanswered before the peer is stale.
    pub(crate) max_out: u32,
}

/// What a [`Keepalive`] asks of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Write `PING\r\n`.
    Ping,
    /// Write `-ERR 'Stale Connection'\r\n`, then close.
    Stale,
}

#[derive(Debug)]
pub(crate) struct Keepalive {
    config: Config,
    heard_at: Instant,
    /// `None` before the first PING, which is sent in any case.
    pinged_at: Option<Instant>,
    unanswered: u32,
    round_trip: Option<Duration>,
    deadline: Option<Instant>,
    output: Option<Output>,
}

impl Keepalive {
    /// Starts when the client has connected; `jitter` in 0..=1000 thousandths spreads the first PINGs of many.
    pub(crate) fn new(now: Instant, config: Config, connect_took: Duration, jitter: u32) -> Self {
        let first = config.interval.min(FIRST_PING_AFTER);
        let deadline = now + first + (first / 5) * jitter / 1000;
        Keepalive {
            config,
            heard_at: now,
            pinged_at: None,
            unanswered: 0,
            round_trip: Some(connect_took).filter(|took| !took.is_zero()),
            deadline: Some(deadline),
            output: None,
        }
    }

    /// Starts with the connection, before its CONNECT: a first PING when one interval has passed.
    pub(crate) fn before_connect(now: Instant, config: Config) -> Self {
        let deadline = Some(now + config.interval);
        Keepalive { deadline, ..Keepalive::new(now, config, Duration::ZERO, 0) }
    }

    /// The peer sent something that shows it alive: a message, a subscription, a PING.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// The peer answered.
    pub(crate) fn pong(&mut self, now: Instant) {
        self.heard_at = now;
        if let (Some(pinged_at), true) = (self.pinged_at, self.unanswered > 0) {
            self.round_trip = Some(now - pinged_at);
        }
        self.unanswered = 0;
    }

    /// Acts on a deadline at or before `now`; too early a call does nothing.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.take_if(|due| *due <= now).is_none() {
            return;
        }
        let measure = self.pinged_at.is_none_or(|pinged_at| now - pinged_at > MEASURE_AGAIN_AFTER);
        // Recent traffic already proves the peer alive: a PING would only cost both sides a write.
        if measure || self.heard_at + self.config.interval <= now {
            if self.unanswered == self.config.max_out {
                self.output = Some(Output::Stale);
                return;
            }
            self.unanswered += 1;
            self.pinged_at = Some(now);
            self.output = Some(Output::Ping);
        }
        self.deadline = Some(now + self.config.interval);
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.output.take()
    }

    /// Returns when `handle_timeout` is next due; `None` once stale.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Returns the last measured round trip.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// Runs commands separated by `;` (`tick SECONDS`, `pong`, `traffic`) on a keepalive of 10 s and 2 PINGs, and
    /// returns them over the outputs they caused.
    fn run(script: &str) -> String {
        let config = Config { interval: Duration::from_secs(10), max_out: 2 };
        let (mut now, mut transcript) = (Instant::ZERO, String::new());
        let mut keepalive = Keepalive::new(now, config, Duration::ZERO, 0);
        for command in script.split(';').map(str::trim) {
            writeln!(transcript, "{command}").unwrap();
            match command.split_once(' ') {
                Some((_, seconds)) => {
                    now += Duration::from_secs(seconds.parse().unwrap());
                    keepalive.handle_timeout(now);
                }
                None if command == "pong" => keepalive.pong(now),
                None => keepalive.heard(now),
            }
            while let Some(output) = keepalive.poll_output() {
                writeln!(transcript, "  {output:?}").unwrap();
            }
        }
        transcript
    }

    #[test]
    fn the_first_ping_comes_soon_and_in_any_case() {
        insta::assert_snapshot!(run("traffic; tick 1; traffic; tick 1; pong"), @r"
        traffic
        tick 1
        traffic
        tick 1
          Ping
        pong
        ");
    }

    #[test]
    fn traffic_replaces_a_ping_once_the_round_trip_is_known() {
        insta::assert_snapshot!(run("tick 2; pong; tick 9; traffic; tick 1; tick 10"), @r"
        tick 2
          Ping
        pong
        tick 9
        traffic
        tick 1
        tick 10
          Ping
        ");
    }

    #[test]
    fn a_peer_that_never_answers_is_stale() {
        insta::assert_snapshot!(run("tick 2; tick 10; tick 10; tick 100"), @r"
        tick 2
          Ping
        tick 10
          Ping
        tick 10
          Stale
        tick 100
        ");
    }
}
