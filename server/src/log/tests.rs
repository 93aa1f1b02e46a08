use std::fs;
use std::path::Path;

use super::*;

fn options(folder: &Path) -> LoggingOptions {
    let log_file = Some(folder.join("natrix.log").display().to_string());
    LoggingOptions { log_file, logtime: false, ..LoggingOptions::default() }
}

/// Logs through a writer of its own, ends it, and returns what the log file has then.
fn written(options: &LoggingOptions, log: impl FnOnce(&Logger)) -> String {
    let (logger, writer) = Logger::start(options, "natrix").unwrap();
    log(&logger);
    writer.finish();
    fs::read_to_string(options.log_file.as_ref().unwrap()).unwrap()
}

/// Replaces the process id and times in names of backups.
fn normalized(text: &str) -> String {
    let mut out = String::new();
    for line in text.replace(&format!("[{}]", std::process::id()), "[pid]").lines() {
        match line.find("natrix.log.") {
            Some(at) => out.push_str(&format!("{}natrix.log.TIME\"", &line[..at])),
            None => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

fn backups(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("natrix.log.")).collect();
    names.sort();
    names
}

#[test]
fn lines_of_levels_that_are_off_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    let all = |logger: &Logger| {
        for level in [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Fatal] {
            logger.log(level, "x");
        }
    };
    let quiet = normalized(&written(&options, all));
    assert_eq!(quiet, "[pid] [INF] x\n[pid] [WRN] x\n[pid] [ERR] x\n[pid] [FTL] x\n");
    fs::remove_file(options.log_file.as_ref().unwrap()).unwrap();
    (options.debug, options.trace) = (true, true);
    let loud = normalized(&written(&options, all));
    assert!(loud.starts_with("[pid] [TRC] x\n[pid] [DBG] x\n[pid] [INF] x\n"), "{loud}");
}

#[test]
fn a_file_is_appended_to_and_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    fs::write(options.log_file.as_ref().unwrap(), "before\n").unwrap();
    let text = written(&options, |logger| logger.info("after"));
    assert!(text.starts_with("before\n") && text.ends_with("[INF] after\n"), "{text}");
    let fresh = LoggingOptions { log_file: Some(folder.path().join("new").display().to_string()), ..options };
    written(&fresh, |logger| logger.info("x"));
    let mode = fs::metadata(fresh.log_file.unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o027, 0, "{mode:o}");
}

#[test]
fn a_full_file_is_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    let options = LoggingOptions { log_size_limit: Some(100), ..options(folder.path()) };
    let text = written(&options, |logger| {
        (0..10).for_each(|_| logger.info("0123456789012345678901234567890123456789"));
    });
    assert!(normalized(&text).contains("[INF] Rotated log, backup saved as"), "{text}");
    let backups = backups(folder.path());
    assert!(backups.len() >= 2, "{backups:?}");
    // No line is lost or torn, and a file stops at the first line past the limit.
    let mut lines = text.lines().filter(|line| line.ends_with("56789")).count();
    for backup in &backups {
        let old = fs::read_to_string(folder.path().join(backup)).unwrap();
        assert!(old.len() > 100 && old.ends_with('\n'), "{old}");
        lines += old.lines().filter(|line| line.ends_with("0123456789")).count();
    }
    assert_eq!(lines, 10);
}

#[test]
fn a_file_that_is_too_long_already_is_moved_aside_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let options = LoggingOptions { log_size_limit: Some(200), ..options(folder.path()) };
    fs::write(options.log_file.as_ref().unwrap(), "x".repeat(300)).unwrap();
    written(&options, |logger| logger.info("new"));
    let old = fs::read_to_string(folder.path().join(&backups(folder.path())[0])).unwrap();
    assert!(old.starts_with("xxx") && old.ends_with("Rotating logfile...\n"), "{old}");
}

#[test]
fn old_backups_are_purged() {
    let folder = tempfile::tempdir().unwrap();
    let stranger = folder.path().join("natrix.log.gz");
    fs::write(&stranger, "").unwrap();
    let oldest = "natrix.log.2001.01.01.00.00.00.000000000";
    fs::write(folder.path().join(oldest), "").unwrap();
    let options =
        LoggingOptions { log_size_limit: Some(50), logfile_max_num: Some(3), ..options(folder.path()) };
    let text = written(&options, |logger| (0..8).for_each(|_| logger.info("x".repeat(60))));
    let mut left = backups(folder.path());
    left.retain(|name| name != "natrix.log.gz");
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(!left.contains(&oldest.to_owned()));
    assert!(stranger.exists());
    assert!(text.contains("[INF] Purged log file \"natrix.log."), "{text}");
}

#[test]
fn a_file_moved_by_somebody_else_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let moved = folder.path().join("moved");
    let (logger, writer) = Logger::start(&options, "natrix").unwrap();
    fs::rename(options.log_file.as_ref().unwrap(), &moved).unwrap();
    logger.info("before");
    logger.reopen();
    logger.info("after");
    writer.finish();
    assert_eq!(normalized(&fs::read_to_string(moved).unwrap()), "[pid] [INF] before\n");
    let text = fs::read_to_string(options.log_file.unwrap()).unwrap();
    assert_eq!(normalized(&text), "[pid] [INF] File log re-opened\n[pid] [INF] after\n");
}

#[test]
fn rotation_by_size_goes_on_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let options = LoggingOptions { log_size_limit: Some(100), ..options(folder.path()) };
    written(&options, |logger| {
        logger.reopen();
        (0..4).for_each(|_| logger.info("x".repeat(60)));
    });
    assert!(!backups(folder.path()).is_empty());
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_in_the_references_words() {
    let options = LoggingOptions { log_file: Some("/nowhere/x".to_owned()), ..LoggingOptions::default() };
    let error = Logger::start(&options, "natrix").err().unwrap();
    assert_eq!(error.to_string(), "error opening file: open /nowhere/x: no such file or directory");
}

#[test]
fn a_writer_that_is_behind_costs_lines_not_memory() {
    let shared = Arc::new(Shared::default());
    let (queue, messages) = mpsc::channel();
    let logger = Logger { queue, shared: Arc::clone(&shared) };
    let megabyte: Arc<str> = "x".repeat(1024 * 1024).into();
    for _ in 0..20 {
        logger.info(Arc::clone(&megabyte));
    }
    assert!(shared.queued_bytes.load(Ordering::Relaxed) <= MAX_QUEUED_BYTES + megabyte.len() + LINE_OVERHEAD);
    let dropped = shared.dropped.load(Ordering::Relaxed);
    assert!(dropped >= 4, "{dropped}");

    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    logger.queue.send(Message::Finish).unwrap();
    write_all(Target::open(&options, "natrix").unwrap(), &messages, &shared);
    let text = fs::read_to_string(options.log_file.unwrap()).unwrap();
    assert!(text.contains(&format!("[WRN] Dropped {dropped} log lines, too many at once\n")));
    assert_eq!(shared.queued_bytes.load(Ordering::Relaxed), 0);
}
