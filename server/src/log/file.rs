//! A log file that moves itself aside when it is full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use natrix_core::protocol::quote::quote;

use super::{Level, go_error};

/// The file, what waits to be written to it, and when it is full.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    pending: Vec<u8>,
    written: u64,
    /// What was configured; `None` never rotates.
    limit: Option<u64>,
    /// What counts now: more than configured after a rotation that failed.
    current_limit: Option<u64>,
    /// How many files there may be, the live one included; `None` for any number.
    max_files: Option<u64>,
}

impl LogFile {
    pub(super) fn open(path: &str, limit: Option<u64>, max_files: Option<u64>) -> io::Result<Self> {
        let path = PathBuf::from(path);
        let file = open_to_append(&path)?;
        let written = file.metadata()?.len();
        Ok(LogFile { path, file, pending: Vec::new(), written, limit, current_limit: limit, max_files })
    }

    /// Returns where to write lines to; [`LogFile::flush`] brings them to the file.
    pub(super) fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    pub(super) fn flush(&mut self) {
        // A full disk loses lines; the server goes on without them.
        if self.file.write_all(&self.pending).is_ok() {
            self.written += self.pending.len() as u64;
        }
        self.pending.clear();
    }

    pub(super) fn is_full(&self) -> bool {
        self.current_limit.is_some_and(|limit| self.written + self.pending.len() as u64 > limit)
    }

    /// Opens the file again under its name, where somebody may have moved it away from.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.flush();
        let file = open_to_append(&self.path)?;
        self.written = file.metadata()?.len();
        self.file = file;
        self.current_limit = self.limit;
        Ok(())
    }

    /// Moves the file aside under the time and starts a new one; returns what is to be said about it.
    pub(super) fn rotate(&mut self, now: DateTime) -> Vec<(Level, String)> {
        self.flush();
        let backup = format!(
            "{}.{:04}.{:02}.{:02}.{:02}.{:02}.{:02}.{:09}",
            self.path.display(),
            now.year(),
            now.month(),
            now.day(),
            now.hour(),
            now.minute(),
            now.second(),
            now.subsec_nanosecond()
        );
        let moved = fs::rename(&self.path, &backup).and_then(|()| self.reopen());
        if let Err(error) = moved {
            // Differs: the reference panics if it can't open the new file. Lines go on to where they went.
            let limit = self.current_limit.unwrap_or(0).saturating_mul(2);
            self.current_limit = Some(limit);
            let error = go_error(&error);
            let text =
                format!("Unable to rotate logfile ({error}), will attempt next rotation at size {limit}");
            return vec![(Level::Error, text)];
        }
        let mut said =
            vec![(Level::Info, format!("Rotated log, backup saved as {}", quote(backup.as_bytes())))];
        if let Some(max_files) = self.max_files {
            said.extend(self.purge(max_files));
        }
        said
    }

    /// Removes the oldest backups that are too many.
    fn purge(&self, max_files: u64) -> Vec<(Level, String)> {
        let folder = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let Some(name) = self.path.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                let folder = quote(folder.display().to_string().as_bytes());
                let error = go_error(&error);
                let text = format!(
                    "Unable to read directory {folder} for log purge ({error}), will attempt next rotation"
                );
                return vec![(Level::Error, text)];
            }
        };
        let names = entries.flatten().filter(|entry| entry.path().is_file());
        let mut backups: Vec<String> = names
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|backup| {
                backup.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')).is_some_and(is_stamp)
            })
            .collect();
        // The time in the name sorts them from the oldest to the latest.
        backups.sort_unstable();
        let keep = usize::try_from(max_files.saturating_sub(1)).unwrap_or(usize::MAX);
        let surplus = backups.len().saturating_sub(keep);
        let mut said = Vec::new();
        for backup in &backups[..surplus] {
            let quoted = quote(backup.as_bytes());
            match fs::remove_file(folder.join(backup)) {
                Ok(()) => said.push((Level::Info, format!("Purged log file {quoted}"))),
                Err(error) => {
                    let error = go_error(&error);
                    let text = format!(
                        "Unable to remove backup log file {quoted} ({error}), will attempt next rotation"
                    );
                    said.push((Level::Error, text));
                    break;
                }
            }
        }
        said
    }
}

/// Tells whether text is the time that a backup's name ends with.
fn is_stamp(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('.').map(str::len).collect();
    lengths == [4, 2, 2, 2, 2, 2, 9] && text.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit())
}

fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_in_the_shape_of_a_backup_are_stamps() {
        assert!(is_stamp("2026.11.20.23.19.21.271970999"));
        for other in ["", "1", "2026.11.20.23.19.21", "2026.11.20.23.19.21.27197099x", "gz"] {
            assert!(!is_stamp(other), "{other}");
        }
    }
}
