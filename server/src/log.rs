//! The log: lines as the reference writes them, to standard error, a file or a syslog.
//!
//! Whoever has something to say hands it to one writer thread over a bounded queue and goes on; nobody ever waits
//! for a disk. What doesn't fit into the queue is dropped and counted, and the count is logged.
//!
//! Invariant: at most [`MAX_QUEUED_BYTES`] of text wait, plus one line.
//!
//! Source: nats-server `logger/log.go`, `logger/syslog.go` and `server/log.go`.

mod file;
mod line;
mod syslog;

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use jiff::Timestamp;
use natrix_core::config::LoggingOptions;

use file::LogFile;
use line::LineFormat;
use syslog::Syslog;

/// How much text may wait for the writer.
const MAX_QUEUED_BYTES: usize = 16 * 1024 * 1024;
/// What a line costs beside its text.
const LINE_OVERHEAD: usize = 64;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

/// Why logging can't start; printed behind the time, exit code 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The log file can't be opened.
    #[error("error opening file: open {path}: {error}")]
    File { path: String, error: String },
    /// The syslog's address makes no sense.
    #[error("error invalid network type: {0}")]
    Network(String),
    /// The syslog can't be reached.
    #[error("error connecting to syslog: {0}")]
    Syslog(String),
    /// The writer has no thread.
    #[error("error starting the log writer: {0}")]
    Thread(io::Error),
}

enum Message {
    Line { level: Level, time: Timestamp, text: Arc<str> },
    Reopen,
    Finish,
}

/// Somewhere to log to; cheap to clone and to call from any thread.
#[derive(Clone)]
pub(crate) struct Logger {
    queue: Sender<Message>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    debug: bool,
    trace: bool,
    queued_bytes: AtomicUsize,
    dropped: AtomicU64,
}

/// The writer behind all clones of a [`Logger`].
pub(crate) struct LogWriter {
    queue: Sender<Message>,
    thread: JoinHandle<()>,
}

impl Logger {
    /// Opens what the settings say and starts the writer.
    ///
    /// # Errors
    ///
    /// [`LogError`] if there is nowhere to write to.
    pub(crate) fn start(options: &LoggingOptions, program: &str) -> Result<(Logger, LogWriter), LogError> {
        let target = Target::open(options, program)?;
        let shared = Arc::new(Shared { debug: options.debug, trace: options.trace, ..Shared::default() });
        let (queue, messages) = mpsc::channel();
        let writer_shared = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(target, &messages, &writer_shared))
            .map_err(LogError::Thread)?;
        let logger = Logger { queue: queue.clone(), shared };
        Ok((logger, LogWriter { queue, thread }))
    }

    /// Hands over a line; drops it if the writer is too far behind, or if its level is switched off.
    pub(crate) fn log(&self, level: Level, text: impl Into<Arc<str>>) {
        let wanted = match level {
            Level::Trace => self.shared.trace,
            Level::Debug => self.shared.debug,
            _ => true,
        };
        if !wanted {
            return;
        }
        if self.shared.queued_bytes.load(Ordering::Relaxed) >= MAX_QUEUED_BYTES {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let text = text.into();
        self.shared.queued_bytes.fetch_add(text.len() + LINE_OVERHEAD, Ordering::Relaxed);
        // Once the writer is gone the process is about to end, and there is nobody to tell.
        let _ = self.queue.send(Message::Line { level, time: Timestamp::now(), text });
    }

    /// Logs what happens in normal operation.
    pub(crate) fn info(&self, text: impl Into<Arc<str>>) {
        self.log(Level::Info, text);
    }

    /// Logs what should not be.
    pub(crate) fn error(&self, text: impl Into<Arc<str>>) {
        self.log(Level::Error, text);
    }

    /// Logs what may become a problem.
    pub(crate) fn warn(&self, text: impl Into<Arc<str>>) {
        self.log(Level::Warn, text);
    }

    /// Opens the log file again under its name, for rotation by somebody else.
    pub(crate) fn reopen(&self) {
        let _ = self.queue.send(Message::Reopen);
    }
}

impl LogWriter {
    /// Writes what was handed over so far and ends the writer.
    pub(crate) fn finish(self) {
        let _ = self.queue.send(Message::Finish);
        let _ = self.thread.join();
    }
}

fn write_all(mut target: Target, messages: &Receiver<Message>, shared: &Shared) {
    // One write for all that waits, but none later than when nothing more does.
    while let Ok(message) = messages.recv() {
        let mut next = Some(message);
        while let Some(message) = next {
            match message {
                Message::Line { level, time, text } => {
                    shared.queued_bytes.fetch_sub(text.len() + LINE_OVERHEAD, Ordering::Relaxed);
                    target.line(level, time, &text);
                }
                Message::Reopen => target.reopen(),
                Message::Finish => {
                    target.flush();
                    return;
                }
            }
            let dropped = shared.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                target.line(
                    Level::Warn,
                    Timestamp::now(),
                    &format!("Dropped {dropped} log lines, too many at once"),
                );
            }
            next = messages.try_recv().ok();
        }
        target.flush();
    }
}

/// Where lines go.
enum Target {
    Stderr { format: LineFormat, pending: Vec<u8> },
    File { format: LineFormat, file: LogFile },
    Syslog(Syslog),
}

impl Target {
    fn open(options: &LoggingOptions, program: &str) -> Result<Self, LogError> {
        let plain = LineFormat::new(options, false);
        if let Some(path) = &options.log_file {
            let file = LogFile::open(path, options.log_size_limit, options.logfile_max_num)
                .map_err(|error| LogError::File { path: path.clone(), error: go_error(&error) })?;
            let mut target = Target::File { format: plain, file };
            target.rotate_if_due(true);
            Ok(target)
        } else if let Some(address) = &options.remote_syslog {
            Ok(Target::Syslog(Syslog::remote(address, program)?))
        } else if options.syslog {
            Ok(Target::Syslog(Syslog::local(program)?))
        } else {
            let format = LineFormat::new(options, io::stderr().is_terminal());
            Ok(Target::Stderr { format, pending: Vec::new() })
        }
    }

    fn line(&mut self, level: Level, time: Timestamp, text: &str) {
        match self {
            Target::Stderr { format, pending } => format.write(pending, level, time, text),
            Target::File { format, file } => {
                format.write(file.pending(), level, time, text);
                self.rotate_if_due(false);
            }
            Target::Syslog(syslog) => syslog.send(level, time, text),
        }
    }

    fn flush(&mut self) {
        match self {
            Target::Stderr { pending, .. } => {
                // There is nowhere to report that standard error can't be written.
                let _ = io::stderr().write_all(pending);
                pending.clear();
            }
            Target::File { file, .. } => file.flush(),
            Target::Syslog(_) => {}
        }
    }

    /// Moves a log file that is full aside; what that has to say goes into the new one.
    fn rotate_if_due(&mut self, announce: bool) {
        let Target::File { format, file } = self else { return };
        if !file.is_full() {
            return;
        }
        let now = Timestamp::now();
        if announce {
            format.write(file.pending(), Level::Info, now, "Rotating logfile...");
        }
        for (level, text) in file.rotate(format.local(now)) {
            format.write(file.pending(), level, now, &text);
        }
    }

    fn reopen(&mut self) {
        let outcome = match self {
            Target::File { file, .. } => file.reopen(),
            _ => {
                self.line(Level::Info, Timestamp::now(), "File log re-open ignored, not a file logger");
                return;
            }
        };
        match outcome {
            Ok(()) => self.line(Level::Info, Timestamp::now(), "File log re-opened"),
            // Differs: the reference ends here. The file that is open goes on being one.
            Err(error) => {
                let text = format!("Unable to re-open the log file: {}", go_error(&error));
                self.line(Level::Error, Timestamp::now(), &text);
            }
        }
    }
}

/// Names an error of the operating system as the reference does: in lower case, without its number.
pub(crate) fn go_error(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_lowercase(),
        None => text,
    }
}

#[cfg(test)]
mod tests;
