use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::cron::Cron;
use super::*;

fn time(text: &str) -> WallTime {
    parse_time(text.as_bytes()).unwrap()
}

/// Runs lines of `pattern [in zone]: last [now]` and says when each is due next.
fn due(lines: &str) -> String {
    let mut out = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (rule, times) = line.split_once(" | ").unwrap_or((line, "2026-03-10T09:30:00.25Z"));
        let (pattern, zone) = rule.split_once(" in ").map_or((rule, None), |(rule, zone)| (rule, Some(zone)));
        let (last, now) = times.split_once(' ').unwrap_or((times, times));
        let answer = match Schedule::parse(pattern.as_bytes(), zone.map(str::as_bytes)) {
            Ok(schedule) => match schedule.next(time(last), time(now)) {
                Some(next) => schedule.show(next),
                None => "never".into(),
            },
            Err(error) => error.to_string(),
        };
        out += &format!("{line:<70} {answer}\n");
    }
    out
}

#[test]
fn what_is_due_once_or_every_so_often() {
    insta::assert_snapshot!(due("
        @at 2026-01-02T03:04:05Z
        @at 2026-01-02T03:04:05.678+02:00
        @at 2026-01-02
        @at  2026-01-02T03:04:05Z
        @at
        @at 2026-01-02T03:04:05Z in UTC
        @every 1s
        @every 1.5s
        @every 1h30m | 2026-03-10T09:30:00.5Z
        @every 1h | 2026-03-10T09:30:00Z 2026-03-10T10:29:59Z
        @every 1h | 2026-03-10T09:30:00Z 2026-03-10T12:10:00.7Z
        @every 999ms
        @every -5s
        @every
        @every 5m in Europe/Amsterdam
        @never
    "));
}

#[test]
fn fields_are_those_of_cron_with_seconds_before_them() {
    insta::assert_snapshot!(due("
        * * * * * *
        @hourly
        @daily
        @midnight
        @weekly
        @monthly
        @yearly
        @annually
        0 */5 * * * *
        */7 * * * * * | 2026-03-10T09:30:56Z
        15/10 * * * * *
        10-12,40 * * * * * | 2026-03-10T09:30:12Z
        0 0 12 * * MON-fri | 2026-03-13T12:00:00Z
        0 0 0 29 feb *
        0 0 0 31 4 *
        0 0 0 30 2 *
        0 30 4 1,15 * 5
        0 30 4 ? * 5
        0 30 4 1-31/10 * *
        0 0 0 * Jan,JUN *
        0 0 0 1 1 * | 2026-03-10T09:30:00Z 2031-06-01T00:00:00Z
        0 0 * * * * | 2026-03-10T09:30:00Z 2026-03-12T10:10:10Z
        +5 * * * * *
        * * * * *
        * * * * * * *
        60 * * * * *
        5-1 * * * * *
        */0 * * * * *
        1-2-3 * * * * *
        1/2/3 * * * * *
        , * * * * *
        x * * * * *
        -1 * * * * *
        * * * 0 * *
        * * * * 13 *
        * * * * * 7
        * * * * mon *
    "));
}

#[test]
fn a_zone_says_what_clocks_show() {
    insta::assert_snapshot!(due("
        0 0 9 * * * in Europe/Amsterdam
        0 0 9 * * * in America/New_York
        0 0 9 * * * in UTC
        0 0 9 * * * in Local
        0 0 9 * * * in europe/amsterdam
        0 0 9 * * * in Mars/Olympus
        0 0 9 * * * in +02:00
        0 0 9 * * * in ../etc/passwd
        0 30 2 * * * in Europe/Amsterdam | 2026-03-29T00:00:00Z
        0 30 2 * * * in Europe/Amsterdam | 2026-10-25T00:00:00Z
        0 30 2 * * * in Europe/Amsterdam | 2026-10-25T00:30:00Z
        0 30 2 * * * in Europe/Amsterdam | 2026-10-25T01:30:00Z
        0 0 0 * * * in America/Sao_Paulo | 2018-11-04T02:00:00Z
        0 15 * * * * in Australia/Lord_Howe | 2026-04-04T14:50:00Z
    "));
    assert_eq!(Schedule::check_zone(b"Asia/Tokyo"), Ok(()));
    assert_eq!(Schedule::check_zone(b"EST"), Ok(()));
    assert_eq!(Schedule::check_zone(b""), Err(ScheduleError::Zone));
}

#[test]
fn what_was_due_last_is_known_without_counting() {
    let every = Schedule::parse(b"@every 7s", None).unwrap();
    let first = time("2026-03-10T09:30:00Z");
    for (until, last) in [("09:30:06", "09:30:00"), ("09:30:07", "09:30:07"), ("10:30:00", "10:29:58")] {
        let (until, last) = (time(&format!("2026-03-10T{until}Z")), time(&format!("2026-03-10T{last}Z")));
        assert_eq!(every.latest(first, until), last);
    }
    let hourly = Schedule::parse(b"@hourly", None).unwrap();
    assert_eq!(hourly.latest(first, time("2026-03-10T12:00:05Z")), time("2026-03-10T12:00:05Z"));
}

proptest! {
    #[test]
    fn no_second_is_left_out(
        seconds in "(\\*|[1-5]?[0-9]|[0-9]/[1-9]|[1-2][0-9]-[3-5][0-9])",
        minutes in "(\\*|[1-5]?[0-9]|\\*/[1-9])",
        hours in "(\\*|1?[0-9])",
        after in 0..4_000_000_000i64,
    ) {
        let cron = Cron::parse(&format!("{seconds} {minutes} {hours} * * *")).unwrap();
        let met = |at: i64| {
            let just_before = WallTime::from_unix_nanos((at - 1) * SECOND);
            cron.next(just_before, &TimeZone::UTC) == Some(WallTime::from_unix_nanos(at * SECOND))
        };
        let next = cron.next(WallTime::from_unix_nanos(after * SECOND + 1), &TimeZone::UTC).unwrap();
        let next = next.as_unix_nanos() / SECOND;
        prop_assert!(next > after && met(next));
        let from = (after + 1).max(next - 500);
        prop_assert!((from..next).all(|at| !met(at)));
    }

    #[test]
    fn arbitrary_text_never_panics(pattern in "(@(at|every) )?[-0-9*/, ?@a-zT:Z.]{0,30}", zone in "[A-Za-z/_.]{0,12}") {
        let now = WallTime::from_unix_nanos(1_700_000_000_000_000_000);
        for zone in [None, Some(zone.as_bytes())] {
            if let Ok(schedule) = Schedule::parse(pattern.as_bytes(), zone) {
                for last in [i64::MIN, 0, i64::MAX] {
                    let _ = schedule.next(WallTime::from_unix_nanos(last), now).map(|next| schedule.show(next));
                    let _ = schedule.latest(WallTime::from_unix_nanos(last), now);
                }
            }
        }
    }
}
