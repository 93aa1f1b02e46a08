//! When a schedule is due: what `Nats-Schedule` and `Nats-Schedule-Time-Zone` say (ADR-51).
//!
//! ```text
//! @at 2009-11-10T23:00:00Z      once
//! @every 5m                     every so often, at least a second apart
//! @hourly  @daily  …            names of six fields
//! 0 30 9 * * mon-fri            second, minute, hour, day of the month, month, day of the week
//! ```
//!
//! The zones are those of the time zone database that the server is built with, whatever the machine has: members of a group
//! agree on them.
//!
//! Source: nats-server `server/scheduler.go`, `parseMsgSchedule`; `server/cron.go`.

mod cron;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};

use self::cron::Cron;
use crate::config::parse_duration;
use crate::protocol::json::parse_time;
use crate::time::{Duration, WallTime};

const SECOND: i64 = 1_000_000_000;

/// When something is due.
#[derive(Clone, Debug)]
pub struct Schedule {
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    At(WallTime),
    Every(Duration),
    Cron(Box<Cron>, TimeZone),
}

/// Why a text is no schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The pattern makes no sense, never comes to pass, or has a zone where none counts.
    #[error("message schedules pattern is invalid")]
    Pattern,
    /// There is no such time zone.
    #[error("message schedules time zone is invalid")]
    Zone,
}

impl Schedule {
    /// Reads a pattern and the name of its time zone.
    ///
    /// Differs: the zone `Local` is UTC, as a schedule must not depend on the machine that it is carried out on.
    ///
    /// # Errors
    ///
    /// [`ScheduleError`].
    pub fn parse(pattern: &[u8], zone: Option<&[u8]>) -> Result<Schedule, ScheduleError> {
        let zone = zone.map(find_zone).transpose()?;
        let pattern = str::from_utf8(pattern).map_err(|_| ScheduleError::Pattern)?;
        let without_zone = |rule| if zone.is_some() { None } else { Some(rule) };
        let rule = if let Some(time) = pattern.strip_prefix("@at ") {
            parse_time(time.as_bytes()).ok().map(Rule::At).and_then(without_zone)
        } else if let Some(interval) = pattern.strip_prefix("@every ") {
            let nanos = parse_duration(interval).ok().and_then(|nanos| u64::try_from(nanos).ok());
            let interval = nanos.map(Duration::from_nanos).filter(|every| every.as_secs() >= 1);
            interval.map(Rule::Every).and_then(without_zone)
        } else {
            let zone = zone.clone().unwrap_or(TimeZone::UTC);
            Cron::parse(expand(pattern)).map(|cron| Rule::Cron(Box::new(cron), zone))
        };
        rule.map(|rule| Schedule { rule }).ok_or(ScheduleError::Pattern)
    }

    /// Checks the name of a time zone.
    ///
    /// # Errors
    ///
    /// [`ScheduleError::Zone`].
    pub fn check_zone(name: &[u8]) -> Result<(), ScheduleError> {
        find_zone(name).map(|_| ())
    }

    /// Tells whether it comes again and again.
    pub fn repeats(&self) -> bool {
        !matches!(self.rule, Rule::At(_))
    }

    /// Returns when it is due next, having been due, or made, at `last`. What lies before `now` is passed over: it is due once
    /// for all of that. One that doesn't repeat is due at its time, always. `None` if that is never, as far as five years reach.
    pub fn next(&self, last: WallTime, now: WallTime) -> Option<WallTime> {
        match &self.rule {
            Rule::At(time) => Some(*time),
            Rule::Every(interval) => {
                let next = rounded(last) + *interval;
                Some(if next < now { rounded(now) + *interval } else { next })
            }
            Rule::Cron(cron, zone) => match cron.next(last, zone)? {
                next if next < now => cron.next(rounded(now), zone),
                next => Some(next),
            },
        }
    }

    /// Returns a time as the schedule's zone shows it, in RFC 3339.
    pub fn show(&self, time: WallTime) -> String {
        let Rule::Cron(_, zone) = &self.rule else { return time.to_string() };
        let Ok(timestamp) = Timestamp::from_nanosecond(i128::from(time.as_unix_nanos())) else {
            return time.to_string();
        };
        match zone.to_offset(timestamp) {
            offset if offset == Offset::UTC => time.to_string(),
            offset => timestamp.display_with_offset(offset).to_string(),
        }
    }

    /// Returns the last time before or at `until` at which it would have been due, having been made at `first`, or `first` itself
    /// if that is none. It takes no longer the longer that is, but for cron patterns, where it's not looked for: `until`.
    pub(super) fn latest(&self, first: WallTime, until: WallTime) -> WallTime {
        match &self.rule {
            Rule::At(_) => first,
            Rule::Every(interval) => {
                let whole = until.since(rounded(first)).as_nanos() / interval.as_nanos();
                let passed = u64::try_from(whole * interval.as_nanos()).unwrap_or(0);
                rounded(first) + Duration::from_nanos(passed)
            }
            Rule::Cron(..) => until.max(first),
        }
    }
}

/// Returns the nearest whole second; of two the later.
fn rounded(time: WallTime) -> WallTime {
    let nanos = time.as_unix_nanos();
    WallTime::from_unix_nanos(nanos.saturating_add(SECOND / 2).div_euclid(SECOND).saturating_mul(SECOND))
}

/// Returns the six fields that a name stands for.
fn expand(pattern: &str) -> &str {
    match pattern {
        "@yearly" | "@annually" => "0 0 0 1 1 *",
        "@monthly" => "0 0 0 1 * *",
        "@weekly" => "0 0 0 * * 0",
        "@daily" | "@midnight" => "0 0 0 * * *",
        "@hourly" => "0 0 * * * *",
        other => other,
    }
}

fn find_zone(name: &[u8]) -> Result<TimeZone, ScheduleError> {
    let name = str::from_utf8(name).map_err(|_| ScheduleError::Zone)?;
    if name == "UTC" || name == "Local" {
        return Ok(TimeZone::UTC);
    }
    let zone = TimeZoneDatabase::bundled().get(name).map_err(|_| ScheduleError::Zone)?;
    // Names are files in the reference, whose case counts.
    if zone.iana_name() == Some(name) { Ok(zone) } else { Err(ScheduleError::Zone) }
}

#[cfg(test)]
mod tests;
