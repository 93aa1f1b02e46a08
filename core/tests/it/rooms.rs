//! The order of the rooms: each uses only those before it.
//!
//! Reads the `use` lines and paths of every source file. Tests may use what they like.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of `docs/architecture.md`, ground floor first.
const ROOMS: [&str; 18] = [
    "planted",
    "time",
    "rng",
    "ids",
    "varint",
    "collections",
    "subject",
    "disk",
    "storage",
    "raft",
    "config",
    "protocol",
    "auth",
    "connection",
    "delivery",
    "jetstream",
    "monitoring",
    "shard",
];

/// Rooms below that use something of a room above: none, but for what is said here.
const EXCEPTIONS: [(&str, &str, &str); 1] =
    [("planted", "rng", "fault points roll dice, and exist only in builds for the simulator")];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

/// The rooms that a text names by `crate::room`, outside of comments and of the tests at its foot.
fn rooms_named(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    code.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//"))
        .flat_map(|line| line.split("crate::").skip(1))
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next())
}

#[test]
fn a_room_uses_only_those_below_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let place = |room: &str| ROOMS.iter().position(|known| *known == room);
    let mut offences = Vec::new();
    for file in &files {
        let path = file.strip_prefix(&root).unwrap();
        let name = path.components().next().unwrap().as_os_str().to_str().unwrap();
        let room = name.trim_end_matches(".rs");
        let is_test = path.components().any(|part| {
            part.as_os_str().to_str().is_some_and(|part| part.starts_with("test") || part == "suite")
        });
        if room == "lib" || is_test {
            continue;
        }
        let own = place(room).unwrap_or_else(|| panic!("{room} is not among the rooms"));
        for used in rooms_named(&fs::read_to_string(file).unwrap()) {
            let excepted = EXCEPTIONS.iter().any(|(from, to, _)| *from == room && *to == used);
            if place(used).is_some_and(|used| used > own) && !excepted {
                offences.push(format!("{} uses {used}", path.display()));
            }
        }
    }
    assert!(files.len() > 50, "the sources were found");
    assert!(offences.is_empty(), "{offences:#?}");
}

#[test]
fn the_reader_of_use_lines_sees_what_it_should() {
    let text = "use crate::shard::io;\n// crate::auth\nlet x = crate::ids::ConnId;\n#[cfg(test)]\nmod tests {\n use crate::rng;";
    assert_eq!(rooms_named(text).collect::<Vec<_>>(), ["shard", "ids"]);
}
