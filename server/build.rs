//! Tells the server which commit it is built from, as INFO and /varz show it.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=NATRIX_GIT_COMMIT");
    if std::env::var_os("NATRIX_GIT_COMMIT").is_some() {
        return;
    }
    println!("cargo:rerun-if-changed=../.git/HEAD");
    let head = Command::new("git").args(["rev-parse", "--short=7", "HEAD"]).output();
    if let Some(commit) = head.ok().filter(|output| output.status.success()) {
        println!("cargo:rustc-env=NATRIX_GIT_COMMIT={}", String::from_utf8_lossy(&commit.stdout).trim());
    }
}
