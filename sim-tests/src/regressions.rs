//! Seeds that failed once, kept so that they fail no more.
//!
//! A seed's file is `<scenario>-<seed>.txt`. It begins with lines of a name, a colon and a value, and after an empty line
//! its story follows: what happened, and what mended it.
//!
//! ```text
//! found: no-responders
//!
//! A message for two queue groups found both gone, and ...
//! ```
//!
//! `found` is the checker that saw it. A seed that shows why code is as it is, and never failed with the code as it was,
//! has the planted bug that it is for: `bug: inbox-ring-per-pair`. Planted, the bug must be found still.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::bugs::{PLANTED, Planted};
use crate::oracle::{Checker, Violation};
use crate::scenario::{self, Scenario};
use crate::world::Settings;

/// A seed that is kept.
#[derive(Debug)]
pub struct Regression {
    /// What to run.
    pub scenario: &'static Scenario,
    /// The seed.
    pub seed: u64,
    /// The checker that it once made speak.
    pub found: Checker,
    /// The planted bug without which it finds nothing, if it is kept for that.
    pub bug: Option<&'static Planted>,
    /// What happened.
    pub story: String,
}

/// What a kept seed's file says, before anybody knows what the names in it mean.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kept<'a> {
    pub scenario: &'a str,
    pub seed: u64,
    pub found: &'a str,
    pub bug: Option<&'a str>,
    pub story: String,
}

impl<'a> Kept<'a> {
    /// Reads what a file of that name tells.
    pub(crate) fn parse(stem: &'a str, text: &'a str) -> Result<Self> {
        let (scenario, seed) = stem.rsplit_once('-').context("the name is not <scenario>-<seed>")?;
        let seed = seed.parse().with_context(|| format!("{seed} is no seed"))?;
        let (head, story) = text.split_once("\n\n").context("an empty line and a story are missing")?;
        let (mut found, mut bug) = (None, None);
        for line in head.lines() {
            match line.split_once(": ") {
                Some(("found", name)) => found = Some(name),
                Some(("bug", name)) => bug = Some(name),
                _ => bail!("what is {line:?}?"),
            }
        }
        let (found, story) = (found.context("nothing says what it found")?, story.trim().to_owned());
        if story.is_empty() {
            bail!("it has no story");
        }
        Ok(Kept { scenario, seed, found, bug, story })
    }
}

/// Reads all kept seeds of a folder, in the order of their names.
pub(crate) fn read_all<R>(folder: &Path, parse: impl Fn(&str, &str) -> Result<R>) -> Result<Vec<R>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>().context("listing the folder")?;
    paths.retain(|path| !path.is_dir());
    paths.sort();
    let read = |path: &PathBuf| {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).context("its name is not text")?;
        parse(stem, &fs::read_to_string(path)?)
    };
    paths.iter().map(|path| read(path).with_context(|| format!("{}", path.display()))).collect()
}

/// What became of a kept seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It breaks no rule, and what it was kept for is still seen if the bug is planted.
    Good,
    /// It breaks no rule, but with its bug planted nothing is seen any more: what the seed does has changed since.
    Stale,
    /// It breaks rules.
    Broken(Vec<Violation>),
}

impl Regression {
    /// Reads what a file of that name tells.
    ///
    /// # Errors
    ///
    /// If the name is not of a scenario and a seed, or the text lacks what it found, or its story.
    pub fn parse(stem: &str, text: &str) -> Result<Regression> {
        let Kept { scenario: name, seed, found, bug, story } = Kept::parse(stem, text)?;
        let scenario = scenario::find(name).with_context(|| format!("there is no scenario {name}"))?;
        let checker = Checker::ALL.iter().find(|checker| checker.name() == found);
        let found = *checker.with_context(|| format!("there is no checker {found}"))?;
        let planted = |name| {
            let planted = PLANTED.iter().find(|planted| planted.name == name);
            planted.with_context(|| format!("there is no bug {name}"))
        };
        let bug = bug.map(planted).transpose()?;
        Ok(Regression { scenario, seed, found, bug, story })
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
        let violations = self.scenario.run(self.seed, Settings::default()).0.violations;
        if !violations.is_empty() {
            return Replayed::Broken(violations);
        }
        let Some(planted) = self.bug else { return Replayed::Good };
        let settings = Settings { bug: Some(planted.bug), ..Settings::default() };
        let seen = self.scenario.run(self.seed, settings).0.violations;
        match seen.iter().any(|violation| violation.checker == self.found) {
            true => Replayed::Good,
            false => Replayed::Stale,
        }
    }
}

/// Returns the name of the file that keeps a seed which has just failed, and the lines that it begins with.
pub fn file_of(
    scenario: &Scenario,
    seed: u64,
    violation: &Violation,
    bug: Option<&Planted>,
) -> (String, String) {
    let bug = bug.map(|planted| format!("bug: {}\n", planted.name)).unwrap_or_default();
    (format!("{}-{seed}.txt", scenario.name), format!("found: {}\n{bug}", violation.checker.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_seed_is_read_back() {
        let violation = Violation { checker: Checker::Order, text: "message 2 came before 1".to_owned() };
        let calm = scenario::find("calm").unwrap();
        let bug = PLANTED.iter().find(|planted| planted.name == "inbox-reordered");
        let (name, head) = file_of(calm, 7, &violation, bug);
        assert_eq!(name, "calm-7.txt");
        let read = Regression::parse("calm-7", &format!("{head}\n{}\n", violation.text)).unwrap();
        assert_eq!((read.scenario.name, read.seed, read.found), ("calm", 7, Checker::Order));
        assert_eq!((read.bug.map(|planted| planted.bug), read.story), (bug.map(|b| b.bug), violation.text));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        for (stem, text, complaint) in [
            ("calm", "found: order\n\nIt was.", "the name is not <scenario>-<seed>"),
            ("storm-1", "found: order\n\nIt was.", "there is no scenario storm"),
            ("calm-x", "found: order\n\nIt was.", "x is no seed"),
            ("calm-1", "found: order", "an empty line and a story are missing"),
            ("calm-1", "bug: deliver-twice\n\nIt was.", "nothing says what it found"),
            ("calm-1", "found: sense\n\nIt was.", "there is no checker sense"),
            ("calm-1", "found: order\nbug: none\n\nIt was.", "there is no bug none"),
            ("calm-1", "found order\n\nIt was.", "what is \"found order\"?"),
            ("calm-1", "found: order\n\n \n", "it has no story"),
        ] {
            assert_eq!(Regression::parse(stem, text).unwrap_err().to_string(), complaint, "{stem} {text}");
        }
    }

    #[test]
    fn a_seed_is_good_or_stale() {
        let read = |text: &str| Regression::parse("calm-1", text).unwrap().replay();
        assert_eq!(read("found: order\n\nIt was."), Replayed::Good);
        assert_eq!(read("found: duplicate\nbug: deliver-twice\n\nTwice."), Replayed::Good);
        assert_eq!(read("found: memory\nbug: deliver-twice\n\nNever seen so."), Replayed::Stale);
    }
}
