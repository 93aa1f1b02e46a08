//! Seeds of the store's explorers that failed once; their files are as [`regressions`](crate::regressions) says, and `found`
//! is the promise that was broken.

use std::path::Path;

use anyhow::{Context, Result};

use super::bugs::{self, Planted};
use super::report::{Promise, Violation};
use super::{Scenario, Settings};
use crate::regressions::{Kept, read_all};

/// A seed that is kept.
#[derive(Debug)]
pub struct Regression {
    /// What to run.
    pub scenario: &'static Scenario,
    /// The seed.
    pub seed: u64,
    /// The promise that it once broke.
    pub found: Promise,
    /// The planted bug without which it finds nothing, if it is kept for that.
    pub bug: Option<&'static Planted>,
    /// What happened.
    pub story: String,
}

/// What became of a kept seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It keeps all promises, and what it was kept for is still seen if the bug is planted.
    Good,
    /// It keeps all promises, but with its bug planted nothing is seen any more: what the seed does has changed since.
    Stale,
    /// It breaks a promise.
    Broken(Violation),
}

impl Regression {
    /// Reads what a file of that name tells.
    ///
    /// # Errors
    ///
    /// If the name is not of a scenario and a seed, or the text lacks what it found, or its story.
    pub fn parse(stem: &str, text: &str) -> Result<Regression> {
        let Kept { scenario: name, seed, found, bug, story } = Kept::parse(stem, text)?;
        let scenario = super::find(name).with_context(|| format!("there is no scenario {name}"))?;
        let promise = Promise::ALL.into_iter().find(|promise| promise.name() == found);
        let found = promise.with_context(|| format!("there is no promise {found}"))?;
        let planted = |name| bugs::find(name).with_context(|| format!("there is no bug {name}"));
        Ok(Regression { scenario, seed, found, bug: bug.map(planted).transpose()?, story })
    }

    /// Reads all files of a folder, in the order of their names.
    ///
    /// # Errors
    ///
    /// If one can't be read, or says what can't be understood.
    pub fn read_all(folder: &Path) -> Result<Vec<Regression>> {
        read_all(folder, Regression::parse)
    }

    /// Runs the seed, and runs it again with its bug planted if it has one.
    pub fn replay(&self) -> Replayed {
        if let Some(violation) = self.scenario.run(self.seed, Settings::default()).violation {
            return Replayed::Broken(violation);
        }
        let Some(planted) = self.bug else { return Replayed::Good };
        let seen = self.scenario.run(self.seed, Settings { bug: Some(planted.bug), print: false }).violation;
        match seen.is_some_and(|violation| violation.promise == self.found) {
            true => Replayed::Good,
            false => Replayed::Stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        for (stem, text, complaint) in [
            ("storage-x-1", "found: lost\n\nIt was.", "there is no scenario storage-x"),
            ("storage-file-1", "found: order\nbug: none\n\nIt was.", "there is no bug none"),
            ("storage-file-1", "found: sense\n\nIt was.", "there is no promise sense"),
            ("storage-file-1", "found: lost\n\n", "it has no story"),
        ] {
            assert_eq!(Regression::parse(stem, text).unwrap_err().to_string(), complaint, "{stem} {text}");
        }
    }

    #[test]
    fn a_seed_is_good_or_stale() {
        let read = |text: &str| Regression::parse("storage-journal-2", text).unwrap().replay();
        assert_eq!(read("found: lost\n\nIt was."), Replayed::Good);
        assert_eq!(read("found: lost\nbug: journal-ack-before-sync\n\nIt was."), Replayed::Good);
        assert_eq!(read("found: stuck\nbug: journal-ack-before-sync\n\nNever seen so."), Replayed::Stale);
    }
}
