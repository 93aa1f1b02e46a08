//! Numbers and words in the shapes that the reference's JSON and errors have.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::time::WallTime;

/// Shows how long something has lasted, in whole seconds with years and days: `1y2d3h4m5s`, `4m5s`, `0s`.
///
/// Source: nats-server `server/monitor.go`, `myUptime`.
pub fn uptime(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let years = days / 365;
    let mut text = String::new();
    let mut put = |shown: bool, number: u64, unit: char| {
        if shown {
            let _ = write!(text, "{number}{unit}");
        }
    };
    put(years > 0, years, 'y');
    put(days > 0, days % 365, 'd');
    put(hours > 0, hours % 24, 'h');
    put(minutes > 0, minutes % 60, 'm');
    put(true, seconds % 60, 's');
    text
}

/// A float that JSON shows without a fraction when it has none, as Go's encoder does: `2`, not `2.0`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct GoFloat(pub(super) f64);

impl Serialize for GoFloat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Past 2^53 a float has no fraction to lose, and no field here gets near it.
        if self.0.fract() == 0.0 && self.0.abs() < 9_007_199_254_740_992.0 {
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

/// Writes a time as JSON text.
pub(super) fn time<S: Serializer>(time: &WallTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

/// Writes a time that is there as JSON text; pair it with `skip_serializing_if = "Option::is_none"`.
pub(super) fn optional_time<S: Serializer>(
    value: &Option<WallTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => time(value, serializer),
        None => serializer.serialize_none(),
    }
}

/// Tells whether a number is what Go's `omitempty` leaves out.
pub(super) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Shows bytes as lower case hexadecimal.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_starts_at_its_largest_unit() {
        let of = |seconds| uptime(Duration::from_secs(seconds));
        assert_eq!(of(0), "0s");
        assert_eq!(of(22), "22s");
        assert_eq!(of(4 * 60 + 22), "4m22s");
        assert_eq!(of(4 * 3600 + 4 * 60 + 22), "4h4m22s");
        assert_eq!(of(32 * 86_400 + 4 * 3600 + 4 * 60 + 22), "32d4h4m22s");
        assert_eq!(of((22 * 365 + 32) * 86_400 + 4 * 3600 + 4 * 60 + 22), "22y32d4h4m22s");
        assert_eq!(of(365 * 86_400), "1y0d0h0m0s");
        assert_eq!(uptime(Duration::from_millis(1999)), "1s");
    }

    #[test]
    fn floats_drop_an_empty_fraction() {
        let json = |value| serde_json::to_string(&GoFloat(value)).unwrap();
        assert_eq!(json(2.0), "2");
        assert_eq!(json(0.5), "0.5");
        assert_eq!(json(0.0), "0");
        assert_eq!(json(-3.0), "-3");
    }
}
