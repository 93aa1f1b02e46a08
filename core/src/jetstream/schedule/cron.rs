//! Six fields that say at which seconds something is due, as cron's five do for minutes.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::time::WallTime;

/// How many years are searched for the next time.
const YEARS: i16 = 5;

/// A set of the numbers from 0 to 62.
type Set = u64;

/// The seconds at which something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cron {
    seconds: Set,
    minutes: Set,
    hours: Set,
    days: Days,
    months: Set,
}

/// The days at which something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Days {
    of_month: Set,
    /// Sunday is zero.
    of_week: Set,
    /// Whether a day has to be in both sets: it does if either was left open.
    both: bool,
}

/// The numbers that a field may have, and their names.
struct Bounds {
    lowest: u32,
    highest: u32,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Cron {
    /// Reads six fields; `None` if they make no sense, or can't ever all be met for an empty list.
    pub(super) fn parse(pattern: &str) -> Option<Cron> {
        let fields: Vec<&str> = pattern.split_whitespace().collect();
        let [seconds, minutes, hours, of_month, months, of_week] = fields[..] else { return None };
        let field = |text, lowest, highest, names| parse_field(text, &Bounds { lowest, highest, names });
        let (of_month, any_day) = field(of_month, 1, 31, &[])?;
        let (of_week, any_weekday) = field(of_week, 0, 6, &WEEKDAYS)?;
        let cron = Cron {
            seconds: field(seconds, 0, 59, &[])?.0,
            minutes: field(minutes, 0, 59, &[])?.0,
            hours: field(hours, 0, 23, &[])?.0,
            months: field(months, 1, 12, &MONTHS)?.0,
            days: Days { of_month, of_week, both: any_day || any_weekday },
        };
        // A field of nothing but commas is empty.
        let never = [cron.seconds, cron.minutes, cron.hours, cron.months].contains(&0);
        (!never).then_some(cron)
    }

    /// Returns the first second behind `after`, in a zone, that is in all sets; `None` if there is none for five years.
    ///
    /// Where clocks are put forward, what would have been in the hour that is left out is passed over; where they are put
    /// back, the hour that comes twice counts twice.
    pub(super) fn next(&self, after: WallTime, zone: &TimeZone) -> Option<WallTime> {
        let mut at = after.as_unix_nanos().div_euclid(super::SECOND) + 1;
        let last_year = local(at, zone)?.year().saturating_add(YEARS);
        loop {
            let time = local(at, zone)?;
            if time.year() > last_year {
                return None;
            }
            let (minute, second) = (i64::from(time.minute()), i64::from(time.second()));
            let next = if !has(self.months, time.month()) {
                start_of(time.date().first_of_month().checked_add(1.month()).ok()?, zone)?
            } else if !self.days.match_date(time.date()) {
                start_of(time.date().tomorrow().ok()?, zone)?
            } else if !has(self.hours, time.hour()) {
                at + 3_600 - 60 * minute - second
            } else if !has(self.minutes, time.minute()) {
                at + 60 - second
            } else if !has(self.seconds, time.second()) {
                at + 1
            } else {
                return Some(WallTime::from_unix_nanos(at.checked_mul(super::SECOND)?));
            };
            at = next.max(at + 1);
        }
    }
}

impl Days {
    fn match_date(&self, date: Date) -> bool {
        let of_month = has(self.of_month, date.day());
        let of_week = has(self.of_week, date.weekday().to_sunday_zero_offset());
        if self.both { of_month && of_week } else { of_month || of_week }
    }
}

fn has(set: Set, number: i8) -> bool {
    set >> number & 1 == 1
}

/// Returns what clocks show in a zone, seconds after 1970 began in UTC.
fn local(seconds: i64, zone: &TimeZone) -> Option<DateTime> {
    Some(zone.to_datetime(Timestamp::from_second(seconds).ok()?))
}

/// Returns when a day begins in a zone.
fn start_of(date: Date, zone: &TimeZone) -> Option<i64> {
    let midnight = zone.to_ambiguous_timestamp(date.to_datetime(jiff::civil::Time::midnight()));
    Some(midnight.compatible().ok()?.as_second())
}

/// Reads a list of ranges; returns the numbers in it, and whether one of the ranges is open.
fn parse_field(text: &str, bounds: &Bounds) -> Option<(Set, bool)> {
    let ranges = text.split(',').filter(|range| !range.is_empty());
    ranges.map(|range| parse_range(range, bounds)).try_fold((0, false), |(numbers, open), range| {
        let (more, is_open) = range?;
        Some((numbers | more, open | is_open))
    })
}

/// Reads `*`, `?`, `number` or `number-number`, each perhaps with `/step` behind it. A number with a step goes on to the highest.
fn parse_range(text: &str, bounds: &Bounds) -> Option<(Set, bool)> {
    let (range, step) = match text.split_once('/') {
        Some((range, step)) => (range, Some(parse_number(step)?)),
        None => (text, None),
    };
    let (low, high) = match range.split_once('-') {
        Some((low, high)) => (low, Some(high)),
        None => (range, None),
    };
    let open = low == "*" || low == "?";
    // What stands behind an open range counts for nothing, so long as it is one thing.
    if high.is_some_and(|high| high.contains('-')) && !open {
        return None;
    }
    let (first, mut last) = if open {
        (bounds.lowest, bounds.highest)
    } else {
        let first = bounds.number(low)?;
        (first, high.map_or(Some(first), |high| bounds.number(high))?)
    };
    if step.is_some() && high.is_none() {
        last = bounds.highest;
    }
    let step = step.unwrap_or(1);
    if first < bounds.lowest || last > bounds.highest || first > last || step == 0 {
        return None;
    }
    let numbers = (first..=last).step_by(step as usize).fold(0, |set, number| set | 1 << number);
    Some((numbers, open && step == 1))
}

impl Bounds {
    fn number(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().zip(self.lowest..).find(|(name, _)| name.eq_ignore_ascii_case(text));
        named.map(|(_, number)| number).or_else(|| parse_number(text))
    }
}

/// Reads a number as the reference does, which takes a sign.
fn parse_number(text: &str) -> Option<u32> {
    text.parse::<i64>()
        .ok()
        .filter(|number| *number >= 0)
        .map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}
