//! Real clients of other languages: each is a script in `parity/clients`, run against servers of both kinds.
//!
//! A script gets its settings as JSON in its only argument. It writes a line `ok NAME` or `FAIL NAME WHY` per check,
//! and `do ACTION SERVER` to have something done to a server, after which it reads the line `done`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use natrix_parity::servers::{Implementation, target_dir, workspace_dir};

use crate::clients_jetstream;
use crate::clients_servers::{CORE, Servers, Suite, assert_all_passed};
use crate::servers::on_each;

/// How long a script may be silent; scripts give up a check earlier than that.
const SILENCE: Duration = Duration::from_secs(90);

#[test]
fn python_client() {
    run_python("client.py", &CORE);
}

#[test]
fn python_client_jetstream() {
    run_python("jetstream.py", &clients_jetstream::SUITE);
}

#[test]
fn node_client() {
    run_node("client.cjs", &CORE);
}

#[test]
fn node_client_jetstream() {
    run_node("jetstream.cjs", &clients_jetstream::SUITE);
}

fn run_python(script: &str, suite: &Suite) {
    let interpreter = target_dir().join("py/bin/python");
    // The setup writes this copy last.
    let installed = target_dir().join("py/requirements.txt");
    run_on_each("nats-py", &interpreter, &Path::new("python").join(script), &installed, suite);
}

fn run_node(script: &str, suite: &Suite) {
    let installed = target_dir().join("node/installed.json");
    run_on_each("nats.js", Path::new("node"), &Path::new("node").join(script), &installed, suite);
}

/// Runs a script against each server; without the client it is skipped, but for CI, which has to have it.
fn run_on_each(client: &str, interpreter: &Path, script: &Path, installed: &Path, suite: &Suite) {
    if !installed.is_file() {
        let reason = format!("{client}: no {}; parity/clients/setup installs it", installed.display());
        assert!(std::env::var_os("CI").is_none(), "{reason}");
        eprintln!("skipped: {reason}");
        return;
    }
    let script = workspace_dir().join("parity/clients").join(script);
    on_each(|implementation| {
        let run = || {
            let mut servers = (suite.start)(implementation).unwrap();
            let outcomes = match Script::start(interpreter, &script, &servers).unwrap().run(&mut servers) {
                Ok(outcomes) => outcomes,
                Err(error) => panic!("{client} with {implementation}: {error:#}\n{}", servers.logs()),
            };
            (servers, outcomes)
        };
        let (mut servers, mut outcomes) = run();
        let failed: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).collect();
        if implementation == Implementation::Go && !failed.is_empty() {
            // The Go server's own counts race now and then on a busy machine, and that is nobody's news.
            eprintln!("{client} with {implementation}: run again, as {failed:?} failed");
            (servers, outcomes) = run();
        }
        assert_all_passed(client, implementation, suite, &servers, &outcomes);
    });
}

/// A running script; killed when dropped.
struct Script {
    child: Child,
    lines: Receiver<String>,
    errors: PathBuf,
    _dir: tempfile::TempDir,
}

impl Script {
    fn start(interpreter: &Path, script: &Path, servers: &Servers) -> Result<Script> {
        let dir = tempfile::Builder::new().prefix("natrix-client-").tempdir()?;
        let errors = dir.path().join("stderr");
        let mut child = Command::new(interpreter)
            .arg(script)
            // Only Node looks at it.
            .env("NODE_PATH", target_dir().join("node/node_modules"))
            .arg(servers.settings().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors)?)
            .spawn()
            .with_context(|| format!("start {}", interpreter.display()))?;
        let lines = read_lines(child.stdout.take().context("no output")?);
        Ok(Script { child, lines, errors, _dir: dir })
    }

    /// Obeys the script until it ends, and returns what it says of its checks.
    fn run(mut self, servers: &mut Servers) -> Result<Vec<(String, Result<(), String>)>> {
        let mut outcomes = Vec::new();
        loop {
            let line = match self.lines.recv_timeout(SILENCE) {
                Ok(line) => line,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => bail!("silent after {outcomes:?}"),
            };
            match line.split_once(' ') {
                Some(("ok", name)) => outcomes.push((name.to_owned(), Ok(()))),
                Some(("FAIL", rest)) => {
                    let (name, reason) = rest.split_once(' ').unwrap_or((rest, ""));
                    outcomes.push((name.to_owned(), Err(reason.to_owned())));
                }
                Some(("do", command)) => {
                    servers.act(command)?;
                    self.child.stdin.as_mut().context("no input")?.write_all(b"done\n")?;
                }
                _ => bail!("unexpected line {line:?}"),
            }
        }
        let status = self.child.wait()?;
        let failed = outcomes.iter().any(|(_, outcome)| outcome.is_err());
        let errors = fs::read_to_string(&self.errors)?;
        ensure!(status.success() != failed, "{status} after {outcomes:?}; it wrote:\n{errors}");
        Ok(outcomes)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // Both fail only for a process that has already been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads on a thread of its own, so that waiting for a line can be given up; the thread ends with the script.
fn read_lines(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
