//! The catalogue of the Go server's own tests: which behaviour is covered here, by what, and what isn't.
//!
//! `parity/catalogue.tsv` has a row for each Go test: area, file, name, status, detail. What is known about
//! them is written in `parity/catalogue.d/*.tsv`, a file for each part of the project, with lines
//! `go_file<TAB>go_test<TAB>what`, where *what* is the covering tests (apart by commas), `n/a: reason` or
//! `planned: why`. Covered means: break that behaviour, and the named test fails.
//!
//! A Rust test is named by its path, `natrix-core::subject::tests::name` (for a crate's integration tests
//! `natrix-parity::it::module::name`), a scenario by its file, `auth/token-good`. That each exists is checked
//! by reading sources, not by building them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::scenario;
use crate::servers::workspace_dir;

/// The areas of core NATS, of which at least 80% must be covered.
pub const CORE_AREAS: [&str; 10] = [
    "client",
    "protocol",
    "sublist",
    "subject-transforms",
    "config",
    "auth",
    "tls",
    "server",
    "signals",
    "logging",
];

/// What is known about a Go test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// These tests fail when its behaviour breaks.
    Covered(Vec<String>),
    /// Not yet, and why.
    Planned(String),
    /// It tests what natrix hasn't, and why.
    NotApplicable(String),
}

impl Status {
    fn parse(text: &str) -> Result<Status> {
        let text = text.trim();
        if let Some(reason) = text.strip_prefix("n/a:") {
            ensure!(!reason.trim().is_empty(), "n/a without a reason");
            return Ok(Status::NotApplicable(reason.trim().to_owned()));
        }
        if let Some(why) = text.strip_prefix("planned:") {
            ensure!(!why.trim().is_empty(), "planned without a word why");
            return Ok(Status::Planned(why.trim().to_owned()));
        }
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        ensure!(names.iter().all(|name| !name.is_empty()), "an empty name");
        Ok(Status::Covered(names))
    }

    fn name(&self) -> &'static str {
        match self {
            Status::Covered(_) => "covered",
            Status::Planned(_) => "planned",
            Status::NotApplicable(_) => "n/a",
        }
    }

    fn detail(&self) -> String {
        match self {
            Status::Covered(names) => names.join(", "),
            Status::Planned(text) | Status::NotApplicable(text) => text.clone(),
        }
    }
}

/// A Go test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The part of the server that it is about.
    pub area: String,
    /// Its file in the Go server's sources.
    pub file: String,
    /// Its name.
    pub test: String,
    /// What is known about it.
    pub status: Status,
}

/// Reads `parity/catalogue.tsv` and lays over it what `parity/catalogue.d` says.
///
/// # Errors
///
/// If a line can't be understood, or is about a test that the catalogue hasn't.
pub fn load() -> Result<Vec<Row>> {
    let mut rows = read_rows(&fs::read_to_string(table_path())?)?;
    merge(&mut rows, &read_parts()?)?;
    plan_pending(&mut rows, &scenario::pending()?);
    Ok(rows)
}

/// What only scenarios cover that natrix isn't held to yet isn't covered.
fn plan_pending(rows: &mut [Row], pending: &BTreeSet<String>) {
    for row in rows {
        let Status::Covered(names) = &mut row.status else { continue };
        let (waits, holds): (Vec<_>, Vec<_>) = names.drain(..).partition(|name| pending.contains(name));
        row.status = match holds.is_empty() {
            true => Status::Planned(format!("until natrix passes {}", waits.join(", "))),
            false => Status::Covered(holds),
        };
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn table_path() -> PathBuf {
    folder().join("catalogue.tsv")
}

fn read_rows(text: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with("area\t")) {
        let fields: Vec<_> = line.split('\t').collect();
        let [area, file, test, rest @ ..] = &fields[..] else { bail!("not a row: {line}") };
        let status = match *rest {
            [] => Status::Planned(default_plan(area)),
            ["covered", names] => Status::parse(names)?,
            ["planned", why] => Status::Planned((*why).to_owned()),
            ["n/a", reason] => Status::NotApplicable((*reason).to_owned()),
            _ => bail!("not a row: {line}"),
        };
        rows.push(Row {
            area: (*area).to_owned(),
            file: (*file).to_owned(),
            test: (*test).to_owned(),
            status,
        });
    }
    Ok(rows)
}

/// Why the tests of an area that nobody has looked at yet aren't covered.
fn default_plan(area: &str) -> String {
    match CORE_AREAS.contains(&area) {
        true => "core NATS, not looked at yet".to_owned(),
        false => format!("comes with {area}"),
    }
}

type Parts = BTreeMap<(String, String), (String, Status)>;

fn read_parts() -> Result<Parts> {
    let mut parts = Parts::new();
    for file in fs::read_dir(folder().join("catalogue.d"))? {
        let path = file?.path();
        let name =
            path.file_name().and_then(|name| name.to_str()).context("a file name that is not UTF-8")?;
        for (number, line) in fs::read_to_string(&path)?.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let place = format!("catalogue.d/{name}:{}", number + 1);
            let mut fields = line.splitn(3, '\t');
            let mut field = || fields.next().with_context(|| format!("{place}: three fields apart by tabs"));
            let key = (field()?.to_owned(), field()?.to_owned());
            let status = Status::parse(field()?).with_context(|| place.clone())?;
            match parts.get(&key) {
                Some((_, former)) => parts.insert(key, (place, join(former, &status))),
                None => parts.insert(key, (place, status)),
            };
        }
    }
    Ok(parts)
}

/// Joins what two parts say: each may cover a test in its own way, and a claim wins over a plan.
fn join(former: &Status, latter: &Status) -> Status {
    match (former, latter) {
        (Status::Covered(one), Status::Covered(other)) => {
            let more = other.iter().filter(|name| !one.contains(name));
            Status::Covered(one.iter().chain(more).cloned().collect())
        }
        (Status::Covered(_), _) | (Status::NotApplicable(_), Status::Planned(_)) => former.clone(),
        _ => latter.clone(),
    }
}

fn merge(rows: &mut [Row], parts: &Parts) -> Result<()> {
    let mut unused: BTreeMap<_, _> = parts.iter().collect();
    for row in rows.iter_mut() {
        let key = (row.file.clone(), row.test.clone());
        match parts.get(&key) {
            Some((_, status)) => {
                row.status = status.clone();
                unused.remove(&key);
            }
            // What no part tells any more isn't true any more.
            None => row.status = Status::Planned(default_plan(&row.area)),
        }
    }
    if let Some(((file, test), (place, _))) = unused.first_key_value() {
        bail!("{place}: the catalogue has no {file} {test}");
    }
    Ok(())
}

fn write_rows(rows: &[Row]) -> String {
    let mut out = "area\tgo_file\tgo_test\tstatus\tdetail\n".to_owned();
    for row in rows {
        let (status, detail) = (row.status.name(), row.status.detail());
        let _ = writeln!(out, "{}\t{}\t{}\t{status}\t{detail}", row.area, row.file, row.test);
    }
    out
}

/// Returns one line for each named test or scenario that doesn't exist.
pub fn missing(rows: &[Row]) -> Vec<String> {
    let mut sources = Sources::default();
    let mut missing = Vec::new();
    for row in rows {
        if let Status::Covered(names) = &row.status {
            let absent = names.iter().filter(|name| !sources.has(name));
            missing.extend(absent.map(|name| format!("{} {}: no test {name}", row.file, row.test)));
        }
    }
    missing
}

/// Looks names up in the sources, each file read once.
#[derive(Default)]
struct Sources {
    files: BTreeMap<PathBuf, Option<String>>,
}

impl Sources {
    fn has(&mut self, name: &str) -> bool {
        match name.contains("::") {
            true => self.has_rust_test(name),
            false => scenario::root().join(format!("{name}.txt")).is_file() && name.contains('/'),
        }
    }

    fn has_rust_test(&mut self, name: &str) -> bool {
        let segments: Vec<_> = name.split("::").collect();
        let [package, modules @ .., function] = &segments[..] else { return false };
        let Some(folder) = package_folder(package) else { return false };
        let (root, modules) = match modules {
            ["it", rest @ ..] => (folder.join("tests/it"), rest),
            _ => (folder.join("src"), modules),
        };
        // The longest beginning of the path that is a file; what remains are modules inside of it.
        for depth in (0..=modules.len()).rev() {
            let base = modules[..depth].iter().fold(root.clone(), |path, module| path.join(module));
            let candidates = match depth {
                0 => vec![root.join("lib.rs"), root.join("main.rs")],
                _ => vec![base.with_extension("rs"), base.join("mod.rs")],
            };
            for path in candidates {
                let Some(text) = self.text(&path) else { continue };
                let inline = &modules[depth..];
                return inline.iter().all(|module| text.contains(&format!("mod {module} {{")))
                    && text.contains(&format!("fn {function}("));
            }
        }
        false
    }

    fn text(&mut self, path: &Path) -> Option<&str> {
        let text = self.files.entry(path.to_owned()).or_insert_with(|| fs::read_to_string(path).ok());
        text.as_deref()
    }
}

fn package_folder(package: &str) -> Option<PathBuf> {
    let folder = match package {
        "natrix" => "server",
        _ => package.strip_prefix("natrix-").or_else(|| package.strip_prefix("natrix_"))?,
    };
    let path = workspace_dir().join(folder.replace('_', "-"));
    path.is_dir().then_some(path)
}

/// How many tests of an area are covered, planned and not applicable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ratio {
    /// Covered tests.
    pub covered: usize,
    /// Planned tests.
    pub planned: usize,
    /// Tests that don't apply.
    pub not_applicable: usize,
}

impl Ratio {
    /// Returns the part of the applicable tests that is covered, in per cent; 100 where there are none.
    pub fn percent(self) -> f64 {
        match self.covered + self.planned {
            0 => 100.0,
            applicable => 100.0 * self.covered as f64 / applicable as f64,
        }
    }

    /// Returns the part of all tests that is covered, in per cent.
    pub fn percent_of_all(self) -> f64 {
        100.0 * self.covered as f64 / (self.covered + self.planned + self.not_applicable).max(1) as f64
    }

    fn add(&mut self, status: &Status) {
        match status {
            Status::Covered(_) => self.covered += 1,
            Status::Planned(_) => self.planned += 1,
            Status::NotApplicable(_) => self.not_applicable += 1,
        }
    }
}

/// Counts rows by area.
pub fn ratios(rows: &[Row]) -> BTreeMap<&str, Ratio> {
    let mut ratios: BTreeMap<&str, Ratio> = BTreeMap::new();
    for row in rows {
        ratios.entry(&row.area).or_default().add(&row.status);
    }
    ratios
}

/// The subcommand `catalogue [--write | --import FILE] [--list AREA]`.
///
/// Checks that all named tests exist and that `parity/catalogue.tsv` says what the parts say, and prints the
/// ratios. `--write` writes the table anew; `--import` takes its rows (area, file, test) from a file first;
/// `--list` prints an area's rows that aren't covered.
///
/// # Errors
///
/// If a named test doesn't exist, or the table isn't up to date.
pub fn command(arguments: &[String]) -> Result<()> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let rows = match arguments[..] {
        ["--import", file] => {
            let mut rows = read_rows(&fs::read_to_string(file)?)?;
            merge(&mut rows, &read_parts()?)?;
            rows
        }
        [] | ["--write"] | ["--list", _] => load()?,
        _ => bail!("usage: catalogue [--write | --import FILE | --list AREA]"),
    };
    if let ["--list", area] = arguments[..] {
        let open = |row: &&Row| row.area == area && !matches!(row.status, Status::Covered(_));
        for row in rows.iter().filter(open) {
            println!("{}\t{}\t{}: {}", row.file, row.test, row.status.name(), row.status.detail());
        }
        return Ok(());
    }
    if !arguments.is_empty() {
        fs::write(table_path(), write_rows(&rows))?;
    }
    print!("{}", report(&rows));
    let missing = missing(&rows);
    ensure!(missing.is_empty(), "{} named tests don't exist:\n{}", missing.len(), missing.join("\n"));
    let written = fs::read_to_string(table_path())?;
    ensure!(written == write_rows(&rows), "catalogue.tsv is behind its parts: catalogue --write");
    Ok(())
}

fn report(rows: &[Row]) -> String {
    let mut out = format!(
        "{:<20} {:>8} {:>8} {:>5} {:>12} {:>8}\n",
        "area", "covered", "planned", "n/a", "of the rest", "of all"
    );
    let mut line = |name: &str, ratio: Ratio| {
        let Ratio { covered, planned, not_applicable } = ratio;
        let (rest, all) = (ratio.percent(), ratio.percent_of_all());
        let _ = writeln!(
            out,
            "{name:<20} {covered:>8} {planned:>8} {not_applicable:>5} {rest:>11.1}% {all:>7.1}%"
        );
    };
    let ratios = ratios(rows);
    let (mut core, mut total) = (Ratio::default(), Ratio::default());
    for row in rows {
        total.add(&row.status);
        if CORE_AREAS.contains(&&*row.area) {
            core.add(&row.status);
        }
    }
    ratios.iter().filter(|(area, _)| CORE_AREAS.contains(area)).for_each(|(area, ratio)| line(area, *ratio));
    line("= core NATS", core);
    ratios.iter().filter(|(area, _)| !CORE_AREAS.contains(area)).for_each(|(area, ratio)| line(area, *ratio));
    line("= all", total);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_up_to_date_and_names_only_tests_that_exist() {
        let rows = load().unwrap();
        assert_eq!(missing(&rows), Vec::<String>::new());
        let written = fs::read_to_string(table_path()).unwrap();
        assert!(written == write_rows(&rows), "run: cargo run -p natrix-parity -- catalogue --write");
    }

    #[test]
    fn names_are_looked_up_in_the_sources() {
        let mut sources = Sources::default();
        assert!(sources.has("natrix-parity::catalogue::tests::names_are_looked_up_in_the_sources"));
        assert!(sources.has("natrix-parity::it::scenarios::natrix_gives_the_transcripts_of_the_go_server"));
        assert!(sources.has("protocol/ping-pong"));
        for absent in [
            "natrix-parity::catalogue::tests::no_such_test",
            "natrix-parity::catalogue::no_such_module::names_are_looked_up_in_the_sources",
            "natrix-nothing::tests::x",
            "protocol/no-such-scenario",
            "ping-pong",
        ] {
            assert!(!sources.has(absent), "{absent}");
        }
    }

    #[test]
    fn claims_are_told_apart_from_plans() {
        let status = |text| Status::parse(text).unwrap();
        assert_eq!(status("a::b, c/d"), Status::Covered(vec!["a::b".to_owned(), "c/d".to_owned()]));
        assert_eq!(status("n/a: Go only"), Status::NotApplicable("Go only".to_owned()));
        assert_eq!(status("planned: later").name(), "planned");
        for bad in ["", "a,,b", "n/a:", "planned: "] {
            assert!(Status::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_only_pending_scenarios_cover_is_planned() {
        let mut rows =
            read_rows("js\ta_test.go\tTestA\tcovered\ta/b, c/d\njs\ta_test.go\tTestB\tcovered\ta/b\n")
                .unwrap();
        plan_pending(&mut rows, &BTreeSet::from(["a/b".to_owned()]));
        assert_eq!(rows[0].status, Status::Covered(vec!["c/d".to_owned()]));
        assert_eq!(rows[1].status, Status::Planned("until natrix passes a/b".to_owned()));
    }

    #[test]
    fn a_test_that_the_catalogue_has_not_is_refused() {
        let mut rows = read_rows("client\ta_test.go\tTestA\n").unwrap();
        let parts = |test: &str| {
            let key = ("a_test.go".to_owned(), test.to_owned());
            Parts::from([(key, ("x:1".to_owned(), Status::parse("a/b").unwrap()))])
        };
        assert!(merge(&mut rows, &parts("TestB")).is_err());
        merge(&mut rows, &parts("TestA")).unwrap();
        assert_eq!(ratios(&rows)["client"], Ratio { covered: 1, planned: 0, not_applicable: 0 });
        assert_eq!(read_rows(&write_rows(&rows)).unwrap(), rows);
    }
}
