use super::*;
use crate::config::testing::{self, Memory};

fn run(case: &str) -> String {
    let memory = Memory::from_case(case);
    match load(&memory, "nats.conf") {
        Ok(loaded) if loaded.report.is_empty() => {
            format!("configuration file nats.conf is valid ({})\n", loaded.digest().unwrap())
        }
        Ok(loaded) => loaded.report.to_string(),
        Err(LoadError::Parse(error)) => format!("{error}\n"),
        Err(error) => error.to_string(),
    }
}

/// Each script says what it shows; its cases are configurations, the answers what `-t` prints.
#[test]
fn scripts() {
    insta::glob!("../testdata", "load/*.txt", |path| {
        let mut transcript = String::new();
        for case in testing::cases(path) {
            transcript.push_str(&format!("{case}\n=>\n{}\n", run(&case)));
        }
        insta::assert_snapshot!(transcript);
    });
}
