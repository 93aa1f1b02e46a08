//! Paths below the folder of a disk: relative, plain, the same on every system.

use std::fmt;
use std::sync::Arc;

/// A path below the disk's folder: names joined by `/`, none of them empty, `.` or `..`; empty for the folder itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(Arc<str>);

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a path below the store's folder: {0:?}")]
pub struct PathError(pub String);

impl FilePath {
    /// The longest name that file systems take, in bytes.
    const NAME_MAX: usize = 255;

    /// Returns the path of the disk's folder itself.
    pub fn root() -> Self {
        FilePath(Arc::from(""))
    }

    /// Checks `text`.
    ///
    /// # Errors
    ///
    /// [`PathError`] if a name in it is empty, `.`, `..`, too long or holds a NUL: it could lead out of the folder, or
    /// nowhere.
    pub fn new(text: &str) -> Result<Self, PathError> {
        let good = |name: &str| {
            !matches!(name, "" | "." | "..") && name.len() <= Self::NAME_MAX && !name.contains(['\0', '\\'])
        };
        match text.is_empty() || text.split('/').all(good) {
            true => Ok(FilePath(Arc::from(text))),
            false => Err(PathError(text.to_owned())),
        }
    }

    /// Returns the path of `name` in this directory. `name` is one of our own making.
    ///
    /// # Panics
    ///
    /// If `name` is not a valid name.
    pub fn join(&self, name: &str) -> Self {
        let text = if self.0.is_empty() { name.to_owned() } else { format!("{}/{name}", self.0) };
        FilePath::new(&text).expect("names of our own making are valid")
    }

    /// Returns the directory that this is in; the root is in itself.
    pub fn parent(&self) -> Self {
        FilePath(Arc::from(self.0.rsplit_once('/').map_or("", |(parent, _)| parent)))
    }

    /// Returns the last name, empty for the root.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// Returns the path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out_of_the_folder() {
        for bad in ["/etc", "..", "a/../b", "a//b", "a/", "./a", "a\0", "a\\b"] {
            assert_eq!(FilePath::new(bad), Err(PathError(bad.to_owned())));
        }
        assert!(FilePath::new(&"x".repeat(256)).is_err());
    }

    #[test]
    fn a_path_knows_its_parts() {
        let path = FilePath::new("streams/S").unwrap().join("1.blk");
        assert_eq!(path.as_str(), "streams/S/1.blk");
        assert_eq!((path.parent().as_str(), path.name()), ("streams/S", "1.blk"));
        assert_eq!(FilePath::root().join("a").parent(), FilePath::root());
    }
}
