//! The built executable, as an operator meets it: command line, signals, files, logs and monitoring.

mod command_line;
mod crowd;
mod lifecycle;
mod logs;
mod monitoring;
mod streams;
mod support;
