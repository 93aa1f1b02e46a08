//! One line: `[pid] 2026/11/20 23:19:21.271970 [INF] text`.

use std::io::Write as _;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use natrix_core::config::LoggingOptions;

use super::Level;

/// How lines look.
pub(super) struct LineFormat {
    pid: u32,
    time: bool,
    zone: TimeZone,
    colors: bool,
}

impl LineFormat {
    pub(super) fn new(options: &LoggingOptions, colors: bool) -> Self {
        let zone = if options.logtime_utc { TimeZone::UTC } else { TimeZone::system() };
        LineFormat { pid: std::process::id(), time: options.logtime, zone, colors }
    }

    /// Returns what clocks show where the log is read.
    pub(super) fn local(&self, time: Timestamp) -> DateTime {
        self.zone.to_datetime(time)
    }

    /// Appends a line.
    pub(super) fn write(&self, out: &mut Vec<u8>, level: Level, time: Timestamp, text: &str) {
        // Writing to memory can't fail.
        let _ = write!(out, "[{}] ", self.pid);
        if self.time {
            let at = self.local(time);
            let _ = write!(
                out,
                "{:04}/{:02}/{:02} {:02}:{:02}:{:02}.{:06} ",
                at.year(),
                at.month(),
                at.day(),
                at.hour(),
                at.minute(),
                at.second(),
                at.subsec_nanosecond() / 1000
            );
        }
        let (label, color) = match level {
            Level::Trace => ("TRC", "33"),
            Level::Debug => ("DBG", "36"),
            Level::Info => ("INF", "32"),
            Level::Warn => ("WRN", "0;93"),
            Level::Error => ("ERR", "31"),
            Level::Fatal => ("FTL", "31"),
        };
        let _ = match self.colors {
            true => write!(out, "[\x1b[{color}m{label}\x1b[0m] "),
            false => write!(out, "[{label}] "),
        };
        out.extend_from_slice(text.as_bytes());
        if out.last() != Some(&b'\n') {
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(options: &LoggingOptions, colors: bool, level: Level) -> String {
        let mut format = LineFormat::new(options, colors);
        format.pid = 42;
        let mut out = Vec::new();
        format.write(&mut out, level, Timestamp::from_nanosecond(1_795_216_761_271_970_999).unwrap(), "text");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_have_pid_time_and_label() {
        let utc = LoggingOptions { logtime_utc: true, ..LoggingOptions::default() };
        assert_eq!(line(&utc, false, Level::Info), "[42] 2026/11/20 23:19:21.271970 [INF] text\n");
        let no_time = LoggingOptions { logtime: false, ..LoggingOptions::default() };
        let labels = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Fatal];
        let lines: String = labels.map(|level| line(&no_time, false, level)).concat();
        assert_eq!(
            lines,
            "[42] [TRC] text\n[42] [DBG] text\n[42] [INF] text\n[42] [WRN] text\n[42] [ERR] text\n[42] [FTL] text\n"
        );
    }

    #[test]
    fn terminals_get_colored_labels() {
        let no_time = LoggingOptions { logtime: false, ..LoggingOptions::default() };
        assert_eq!(line(&no_time, true, Level::Info), "[42] [\x1b[32mINF\x1b[0m] text\n");
        assert_eq!(line(&no_time, true, Level::Warn), "[42] [\x1b[0;93mWRN\x1b[0m] text\n");
        assert_eq!(line(&no_time, true, Level::Debug), "[42] [\x1b[36mDBG\x1b[0m] text\n");
        assert_eq!(line(&no_time, true, Level::Trace), "[42] [\x1b[33mTRC\x1b[0m] text\n");
        assert_eq!(line(&no_time, true, Level::Fatal), "[42] [\x1b[31mFTL\x1b[0m] text\n");
    }
}
