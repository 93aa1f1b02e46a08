//! What only prints: versions, usage, checks, refusals; and their exit codes, on which scripts rely.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::{run, run_as, text};

#[test]
fn what_is_not_in_the_grammar_prints_the_usage_and_leaves_with_zero() {
    for (arguments, complaint) in [
        (&["--bogus"][..], "flag provided but not defined: -bogus\n"),
        (&["-p", "abc"], "invalid value \"abc\" for flag -p: parse error\n"),
        (&["-p"], "flag needs an argument: -p\n"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(text(&output.stderr), complaint);
        assert!(text(&output.stdout).starts_with("\nUsage: natrix [options]\n"));
    }
}

#[test]
fn help_and_version_print_and_leave_with_zero() {
    for arguments in [["-h"], ["--help"], ["help"]] {
        let output = run(&arguments);
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
        assert!(text(&output.stdout).contains("Server Options:"));
    }
    for arguments in [["-v"], ["--version"], ["version"]] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).starts_with("natrix: v2.15.1 "));
    }
    assert!(text(&run(&["--help_tls"]).stdout).contains("TLS_AES_128_GCM_SHA256"));
}

#[test]
fn a_link_by_another_name_goes_by_that_name() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("nats-server");
    symlink(env!("CARGO_BIN_EXE_natrix"), &link).unwrap();
    let link = link.to_str().unwrap();
    assert_eq!(text(&run_as(link, &["-v"]).stdout), "nats-server: v2.15.1\n");
    assert!(text(&run_as(link, &["-h"]).stdout).starts_with("\nUsage: nats-server [options]\n"));
    assert_eq!(text(&run_as(link, &["foo"]).stderr), "nats-server: unrecognized command: \"foo\"\n");
}

#[test]
fn what_makes_no_sense_is_refused_with_one() {
    for (arguments, complaint) in [
        (&["foo"][..], "natrix: unrecognized command: \"foo\"\n"),
        (&["-t"], "natrix: must specify [-c, --config] option to check configuration file syntax\n"),
        (&["-c", "/nowhere.conf"], "natrix: open /nowhere.conf: no such file or directory\n"),
        (&["--routes", "x"], "natrix: flag --routes: natrix has no routes yet\n"),
        (
            &["--tls", "--tlscert", "/nowhere", "--tlskey", "/nowhere"],
            "natrix: error parsing X509 certificate/key pair: open /nowhere: no such file or directory\n",
        ),
        (&["--tls"], "natrix: TLS Server certificate must be present and valid\n"),
        (&["-n", "a b"], "natrix: server name cannot contain spaces\n"),
        (&["-sl", "bogus=1"], "natrix: unknown signal \"bogus\"\n"),
        (&["-sl", "ldm=abc"], "natrix: invalid pid: abc\n"),
        (&["-sl", "ldm=2147483647"], "natrix: \nsignal \"ldm\" 2147483647: no such process\n"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_eq!(text(&output.stderr), complaint);
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn a_log_that_can_not_be_written_is_told_with_the_time_only() {
    for (arguments, complaint) in [
        (["-l", "/nowhere/x"], "error opening file: open /nowhere/x: no such file or directory\n"),
        (["-r", "foo://x"], "error invalid network type: \"foo\"\n"),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(1));
        let stderr = text(&output.stderr);
        assert_eq!(&stderr["2026/11/21 01:45:49 ".len()..], complaint);
    }
}

#[test]
fn a_configuration_can_be_checked() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let path = path.to_str().unwrap();
        let output = run(&["-t", "-c", path]);
        (output.status.code().unwrap(), text(&output.stderr).replace(path, name))
    };
    let (code, told) = check("good.conf", "port: 4333\nhttp: 8222\n");
    assert_eq!(code, 0);
    assert!(told.starts_with("natrix: configuration file good.conf is valid (sha256:"), "{told}");
    let (code, told) = check("bad.conf", "porrt: 1\n");
    assert_eq!(code, 1);
    assert_eq!(told, "natrix: bad.conf:1:0: unknown field \"porrt\"\n\n");
    // What a server would only warn of fails a check.
    assert_eq!(
        check("empty.conf", ""),
        (1, "natrix: empty.conf: config has no values or is empty\n\n".to_owned())
    );
    let (code, told) = check("later.conf", "mqtt: true\n");
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("mqtt"), "{told}");
}
