//! Where configurations come from: files and the environment, behind a trait, and the string work of paths.

use super::TlsOptions;

/// What loading needs from outside; the executable implements it over the real file system.
pub trait Source {
    /// Reads the whole file at `path`.
    ///
    /// # Errors
    ///
    /// The operating system's words for what went wrong, in lower case: `no such file or directory`.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;

    /// Returns the environment variable `name`, if it is set.
    fn env(&self, name: &str) -> Option<String>;

    /// Makes a trial of the certificates and keys that `tls` names, so that what is wrong with them is reported
    /// with its place in the file, beside the other errors.
    ///
    /// # Errors
    ///
    /// What is wrong, without the place.
    fn check_tls(&self, tls: &TlsOptions) -> Result<(), String>;
}

/// Reads a file and words the failure as the reference's standard library does.
pub(super) fn read(source: &dyn Source, path: &str) -> Result<Vec<u8>, String> {
    source.read(path).map_err(|reason| match reason.as_str() {
        // A folder can be opened, only not read.
        "is a directory" => format!("read {path}: {reason}"),
        _ => format!("open {path}: {reason}"),
    })
}

/// Returns the folder that `path` is in; `.` if it names none.
pub(super) fn folder(path: &str) -> String {
    match path.rfind('/') {
        Some(slash) => clean(&path[..=slash]),
        None => ".".to_owned(),
    }
}

/// Joins an include's path to the folder of the file that includes it.
///
/// An absolute include is joined like any other, as the reference does it.
pub(super) fn join(folder: &str, path: &str) -> String {
    match (folder.is_empty(), path.is_empty()) {
        (true, true) => String::new(),
        (true, false) => clean(path),
        (false, true) => clean(folder),
        (false, false) => clean(&format!("{folder}/{path}")),
    }
}

/// Shortens `path` without asking the file system: no `.`, no `x/..`, no repeated slashes.
pub(super) fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            // Above the root there is only the root.
            ".." if absolute => {}
            _ => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_without_looking() {
        for (path, want) in [
            ("", "."),
            ("a//b/./c", "a/b/c"),
            ("a/../b", "b"),
            ("a/../../b", "../b"),
            ("../../b", "../../b"),
            ("/../b/", "/b"),
            ("/", "/"),
        ] {
            assert_eq!(clean(path), want, "{path}");
        }
    }

    #[test]
    fn includes_are_relative_to_the_including_file() {
        assert_eq!(join(&folder("nats.conf"), "users.conf"), "users.conf");
        assert_eq!(join(&folder("/etc/nats/nats.conf"), "../users.conf"), "/etc/users.conf");
        assert_eq!(join(&folder("/nats.conf"), "/etc/users.conf"), "/etc/users.conf");
        assert_eq!(join(&folder("./conf/nats.conf"), "/etc/users.conf"), "conf/etc/users.conf");
    }
}
