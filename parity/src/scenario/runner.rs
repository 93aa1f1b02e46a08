//! Runs scenarios against a server and writes their transcripts.

use std::collections::BTreeMap;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::answers::{Memory, Names};
use super::connection::{Connection, LIMIT, Received};
use super::format::{Action, Cuts, Js, Scenario, Step};
use super::identities::Certificates;
use super::js::Client;
use super::normalise;
use super::text::{unchunk, unescape, words};
use super::world::World;
use crate::servers::{Implementation, Server, Signal, until};

/// The time after which a scenario is given up.
const SCENARIO_LIMIT: Duration = Duration::from_secs(30);

/// Runs scenarios that share one server, natrix perhaps with so many shards, in order; gives each one's transcript or why there is none.
pub(super) fn run_group(
    on: (Implementation, Option<u16>),
    binary: &Path,
    certificates: &Certificates,
    group: &[&Scenario],
) -> Vec<(String, Result<String>)> {
    let mut world = match World::new(on, binary, certificates, group[0]) {
        Ok(world) => world,
        Err(error) => {
            let text = format!("{error:#}");
            return group.iter().map(|it| (it.name.clone(), Err(anyhow::anyhow!("{text}")))).collect();
        }
    };
    group.iter().map(|scenario| (scenario.name.clone(), run_scenario(&mut world, scenario))).collect()
}

fn run_scenario(world: &mut World<'_>, scenario: &Scenario) -> Result<String> {
    let mut run = Run {
        world,
        connections: BTreeMap::new(),
        sections: Vec::new(),
        shows_pings: scenario.settings.pings,
        log_seen: 0,
        clients: BTreeMap::new(),
        memory: Memory::default(),
        names: Names::new(scenario.steps.iter().map(|step| step.text.as_str())),
    };
    let started = Instant::now();
    for step in &scenario.steps {
        ensure!(started.elapsed() < SCENARIO_LIMIT, "took longer than {SCENARIO_LIMIT:?}");
        if let Err(error) = run.step(step) {
            bail!("{} {}: {error:#}\n--- until then\n{}", step.actor, step.text, run.transcript());
        }
    }
    let transcript = run.transcript();
    run.connections.into_values().for_each(Connection::close);
    Ok(transcript)
}

/// One scenario being run.
pub(super) struct Run<'a, 'b> {
    pub(super) world: &'a mut World<'b>,
    pub(super) connections: BTreeMap<String, Connection>,
    sections: Vec<(String, String)>,
    shows_pings: bool,
    /// How much of the log earlier `log` steps have gone through.
    log_seen: usize,
    /// What is kept of connections that are clients of JetStream.
    pub(super) clients: BTreeMap<String, Client>,
    pub(super) memory: Memory,
    pub(super) names: Names,
}

impl Run<'_, '_> {
    fn transcript(&self) -> String {
        self.sections.iter().map(|(actor, text)| format!("[{actor}]\n{text}")).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn record(&mut self, actor: &str, line: &str) {
        let section = match self.sections.iter_mut().find(|(name, _)| name == actor) {
            Some((_, text)) => text,
            None => &mut self.sections.push_mut((actor.to_owned(), String::new())).1,
        };
        section.push_str(line.trim_end());
        section.push('\n');
    }

    pub(super) fn connection(&mut self, actor: &str) -> Result<&mut Connection> {
        self.connections.get_mut(actor).context("not open")
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        let actor = &step.actor;
        let silent = matches!(
            step.action,
            Action::Expect(_)
                | Action::Skip(_)
                | Action::Read(_)
                | Action::Sorted(_)
                | Action::Closed { .. }
                | Action::Js(Js::Get { .. } | Js::Quiet(_))
        );
        if !silent {
            self.record(actor, &format!("{} {}", if actor == "server" { "$" } else { "*" }, step.text));
        }
        match &step.action {
            Action::Open { tls, info } => self.open(actor, tls.as_deref(), *info),
            Action::Tls(options) => self.tls(actor, options),
            Action::Connect(fields) => self.connect(actor, fields),
            Action::Client(fields) => {
                self.open(actor, None, true)?;
                self.connect(actor, fields)?;
                self.ping(actor)
            }
            Action::Send { text, line, cuts } => {
                let mut bytes = unescape(&self.world.expand(text, self.connections.get(actor))?)?;
                if *line {
                    bytes.extend_from_slice(b"\r\n");
                }
                self.send(actor, &bytes, cuts)
            }
            Action::Ping if self.clients.contains_key(actor) => self.ping_js(actor),
            Action::Ping => self.ping(actor),
            Action::Expect(start) => {
                let start = start.clone();
                self.receive(actor, &format!("{start:?}"), move |line| line.starts_with(start.as_bytes()))
            }
            Action::Skip(start) => self.skip(actor, start),
            Action::Read(count) => {
                let mut left = *count;
                self.receive(actor, "more lines", move |_| {
                    left -= 1;
                    left == 0
                })
            }
            Action::Sorted(count) => self.sorted(actor, *count),
            Action::Closed { record } => self.closed(actor, *record),
            Action::Close => {
                self.connections.remove(actor).context("not open")?.close();
                Ok(())
            }
            Action::Info(keys) => self.info(actor, keys),
            Action::Http { tls, path, keep, drop } => self.http(*tls, path, keep, drop),
            Action::Signal(name) => self.signal(name),
            Action::Run(arguments) => self.execute(arguments),
            Action::Log(part) => self.log(part),
            Action::NoLog(part) => {
                let count = self.server()?.log().lines().filter(|line| line.contains(part.as_str())).count();
                self.record("server", &format!("{count} lines"));
                Ok(())
            }
            Action::Exit => {
                let status = self.world.server.as_mut().context("no server")?.wait(LIMIT)?;
                self.record("server", &status.to_string());
                Ok(())
            }
            Action::Cat(file) => self.cat(file),
            Action::Absent(file) => {
                let path = self.world.dir.join(self.world.expand(file, None)?);
                until(LIMIT, || Ok(find(&path).is_none().then_some(())))?.context("still there")
            }
            Action::Move(from, to) => {
                std::fs::rename(self.world.dir.join(from), self.world.dir.join(to)).context("rename")
            }
            Action::Sleep(ms) => {
                std::thread::sleep(Duration::from_millis(*ms));
                Ok(())
            }
            Action::Restart(signal) => self.restart(signal),
            Action::Js(step) => self.js(actor, step),
        }
    }

    fn server(&self) -> Result<&Server> {
        self.world.server.as_ref().context("no server")
    }

    pub(super) fn open(&mut self, actor: &str, tls: Option<&str>, info: bool) -> Result<()> {
        let address = self.server()?.address();
        let connection = Connection::open(address, self.shows_pings)?;
        if let Some(former) = self.connections.insert(actor.to_owned(), connection) {
            former.close();
        }
        if let Some(options) = tls {
            self.tls(actor, options)?;
        }
        if info && self.connections.contains_key(actor) {
            match self.connection(actor)?.next(Instant::now() + LIMIT)? {
                Some(Received::Line(line)) if line.starts_with(b"INFO ") => {}
                Some(Received::Line(line)) => self.record(actor, &normalise::line(&line)),
                Some(Received::End(_)) => self.record(actor, "(closed instead of INFO)"),
                None => bail!("no INFO"),
            }
        }
        Ok(())
    }

    fn tls(&mut self, actor: &str, options: &str) -> Result<()> {
        let config = self.world.certificates.client(options)?;
        if self.connection(actor)?.start_tls(config, "localhost").is_err() {
            // Why is told in words that differ by library.
            self.record(actor, "(no TLS)");
            self.connections.remove(actor);
        }
        Ok(())
    }

    pub(super) fn connect(&mut self, actor: &str, fields: &str) -> Result<()> {
        let fields = self.world.expand(fields, self.connections.get(actor))?;
        let more = if fields.is_empty() { String::new() } else { format!(",{fields}") };
        let line = format!("CONNECT {{\"verbose\":false,\"lang\":\"parity\",\"version\":\"1\"{more}}}\r\n");
        self.send(actor, line.as_bytes(), &Cuts::None)
    }

    pub(super) fn send(&mut self, actor: &str, bytes: &[u8], cuts: &Cuts) -> Result<()> {
        let connection = self.connection(actor)?;
        let cuts: Vec<usize> = match cuts {
            Cuts::None => Vec::new(),
            Cuts::Each => (1..bytes.len()).collect(),
            Cuts::At(offsets) => offsets.clone(),
        };
        let mut from = 0;
        for to in cuts.into_iter().chain([bytes.len()]) {
            let piece = bytes.get(from..to).context("a cut behind the end")?;
            // A server that has closed meanwhile shows in what is received, or isn't.
            if connection.send(piece).is_err() {
                return Ok(());
            }
            from = to;
            if to < bytes.len() {
                // Long enough to be read by itself, most times; the transcript must not depend on it.
                std::thread::sleep(Duration::from_micros(300));
            }
        }
        Ok(())
    }

    fn ping(&mut self, actor: &str) -> Result<()> {
        self.send(actor, b"PING\r\n", &Cuts::None)?;
        self.wait(actor, "PONG", |line| line == b"PONG", false)
    }

    fn receive(&mut self, actor: &str, what: &str, last: impl FnMut(&[u8]) -> bool) -> Result<()> {
        self.wait(actor, what, last, true)
    }

    /// Records lines until one for which `last` holds; that one too if `show_last`. An end before it is
    /// recorded and isn't an error: what the servers do is for the comparison to judge.
    fn wait(
        &mut self,
        actor: &str,
        what: &str,
        mut last: impl FnMut(&[u8]) -> bool,
        show_last: bool,
    ) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.connection(actor)?.next(deadline)? {
                Some(Received::Line(line)) => {
                    let done = last(&line);
                    if !done || show_last {
                        self.record(actor, &shown(&line));
                    }
                    if done {
                        return Ok(());
                    }
                }
                Some(Received::End(rest)) => {
                    self.record_end(actor, &rest);
                    return Ok(());
                }
                None => bail!("no {what} within {LIMIT:?}"),
            }
        }
    }

    fn skip(&mut self, actor: &str, start: &str) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.connection(actor)?.next(deadline)? {
                Some(Received::Line(line)) if line.starts_with(start.as_bytes()) => {
                    self.record(actor, &shown(&line));
                    return Ok(());
                }
                Some(Received::Line(_)) => {}
                Some(Received::End(rest)) => {
                    self.record_end(actor, &rest);
                    return Ok(());
                }
                None => bail!("no {start:?} within {LIMIT:?}"),
            }
        }
    }

    fn sorted(&mut self, actor: &str, count: usize) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        let mut messages: Vec<Vec<String>> = Vec::new();
        while messages.len() < count || messages.last().is_some_and(|message| message.len() < 2) {
            match self.connection(actor)?.next(deadline)? {
                Some(Received::Line(line)) => match messages.last_mut() {
                    Some(message) if message.len() < 2 => message.push(shown(&line)),
                    _ => messages.push(vec![shown(&line)]),
                },
                Some(Received::End(_)) => bail!("closed after {messages:?}"),
                None => bail!("only {messages:?}"),
            }
        }
        messages.sort();
        messages.into_iter().flatten().for_each(|line| self.record(actor, &line));
        Ok(())
    }

    pub(super) fn record_end(&mut self, actor: &str, rest: &[u8]) {
        if !rest.is_empty() {
            self.record(actor, &format!("< {} (and no end of line)", normalise::line(rest)));
        }
        self.record(actor, "(closed)");
    }

    fn closed(&mut self, actor: &str, record: bool) -> Result<()> {
        if !self.connections.contains_key(actor) {
            self.record(actor, "(closed)");
            return Ok(());
        }
        if record {
            return self.wait(actor, "close", |_| false, true);
        }
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.connection(actor)?.next(deadline)? {
                Some(Received::Line(_)) => {}
                Some(Received::End(_)) => break self.record(actor, "(closed)"),
                None => bail!("not closed"),
            }
        }
        Ok(())
    }

    fn info(&mut self, actor: &str, keys: &[String]) -> Result<()> {
        let info: serde_json::Value = serde_json::from_str(&self.connection(actor)?.info)?;
        let fields = info.as_object().context("INFO is not an object")?;
        let mut shown = Vec::new();
        if keys.is_empty() {
            shown.extend(fields.keys().cloned());
            shown.sort();
        }
        for key in keys {
            shown.push(format!("{key}={}", fields.get(key).map_or("absent".to_owned(), ToString::to_string)));
        }
        let line = self.world.normalise(&shown.join(" "));
        self.record(actor, &line);
        Ok(())
    }

    fn http(&mut self, tls: bool, path: &str, keep: &[String], drop: &[String]) -> Result<()> {
        let port = self.server()?.monitoring_port().context("no monitoring port")?;
        let path = self.world.expand(path, None)?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(LIMIT))?;
        let mut answer = Vec::new();
        if tls {
            let config = self.world.certificates.client("")?;
            let client = rustls::ClientConnection::new(config, "localhost".try_into()?)?;
            let mut stream = rustls::StreamOwned::new(client, socket);
            stream.write_all(request.as_bytes())?;
            // A server may close without saying so in TLS; the length tells whether all came.
            let _ = stream.read_to_end(&mut answer);
        } else {
            socket.write_all(request.as_bytes())?;
            socket.read_to_end(&mut answer)?;
        }
        let text = String::from_utf8(answer)?;
        let (head, body) = text.split_once("\r\n\r\n").context("no end of the head")?;
        let mut lines = head.lines();
        let status = lines.next().unwrap_or_default();
        let header = |name: &str| {
            let found = head.lines().skip(1).filter_map(|line| line.split_once(':'));
            found.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
        };
        let status = status.split_once(' ').map_or(status, |(_, code)| code);
        self.record("server", &format!("{status}; {}", header("content-type").unwrap_or("no content type")));
        let body = match header("transfer-encoding") {
            Some("chunked") => unchunk(body)?,
            _ => body.to_owned(),
        };
        let shown = match serde_json::from_str::<serde_json::Value>(&body) {
            Ok(value) => normalise::shape(&value, keep, drop),
            Err(_) => body,
        };
        let shown = self.world.normalise(&shown);
        self.record("server", &shown);
        Ok(())
    }

    fn signal(&mut self, name: &str) -> Result<()> {
        let signal = match name {
            "HUP" => Signal::HUP,
            "INT" => Signal::INT,
            "TERM" => Signal::TERM,
            "QUIT" => Signal::QUIT,
            "KILL" => Signal::KILL,
            "USR1" => Signal::USR1,
            "USR2" => Signal::USR2,
            _ => bail!("unknown signal"),
        };
        self.server()?.signal(signal)
    }

    /// Ends the server and starts it again; its clients are gone.
    fn restart(&mut self, signal: &str) -> Result<()> {
        self.signal(signal)?;
        let server = self.world.server.as_mut().context("no server")?;
        server.wait(LIMIT)?;
        self.connections.clear();
        self.clients.clear();
        server.restart()
    }

    fn execute(&mut self, arguments: &str) -> Result<()> {
        let (variable, arguments) = match arguments.strip_prefix("ENV ") {
            Some(rest) => rest.split_once(' ').context("ENV NAME=VALUE ARGUMENTS")?,
            None => ("", arguments),
        };
        let (usage, arguments) = match arguments.strip_prefix("USAGE ") {
            Some(rest) => (true, rest),
            None => (false, arguments),
        };
        let (sorted, arguments) = match arguments.strip_prefix("SORTED ") {
            Some(rest) => (true, rest),
            None => (false, arguments),
        };
        let arguments = words(&self.world.expand(arguments, None)?);
        let mut command = Command::new(&self.world.program);
        command.args(arguments).current_dir(&self.world.dir).stdin(Stdio::null());
        if let Some((name, value)) = variable.split_once('=') {
            command.env(name, value);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let status = until(LIMIT, || Ok(child.try_wait()?))?;
        if status.is_none() {
            child.kill()?;
        }
        let output = child.wait_with_output()?;
        for (name, bytes) in [("out", &output.stdout), ("err", &output.stderr)] {
            let text = self.world.normalise(&String::from_utf8_lossy(bytes));
            let mut lines: Vec<_> = text.lines().collect();
            if usage {
                let starts = |line: &&str| line.starts_with("Usage: ");
                let end = lines.iter().position(starts).map_or(lines.len(), |start| start + 1);
                lines.truncate(end);
            }
            if sorted {
                // The reference goes through maps here; its name is before whichever line comes first.
                lines.iter_mut().for_each(|line| *line = line.strip_prefix("nats-server: ").unwrap_or(line));
                lines.sort_unstable();
            }
            lines.iter().for_each(|line| self.record("server", &format!("{name}: {line}")));
        }
        let code = match status {
            Some(status) => status.to_string(),
            None => "still running".to_owned(),
        };
        self.record("server", &code);
        Ok(())
    }

    fn log(&mut self, part: &str) -> Result<()> {
        let seen = self.log_seen;
        let server = self.server()?;
        let found = until(LIMIT, || {
            let log = server.log();
            let mut at = seen;
            for line in log.get(seen..).unwrap_or_default().split_inclusive('\n') {
                at += line.len();
                if line.ends_with('\n') && line.contains(part) {
                    return Ok(Some((at, line.to_owned())));
                }
            }
            Ok(None)
        })?;
        let (at, line) = found.with_context(|| format!("no such line in the log:\n{}", server.log()))?;
        self.log_seen = at;
        let line = self.world.normalise(&line);
        self.record("server", &line);
        Ok(())
    }

    fn cat(&mut self, file: &str) -> Result<()> {
        let path = self.world.dir.join(self.world.expand(file, None)?);
        let read = || Some(std::fs::read_to_string(find(&path)?).ok()?).filter(|text| !text.is_empty());
        let text = until(LIMIT, || Ok(read()))?;
        let text = self.world.normalise(&text.context("no such file, or empty")?);
        self.record("server", &text);
        Ok(())
    }
}

/// Returns the path of an existing file; a name `*.END` stands for any with that end.
fn find(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let Some(end) = name.strip_prefix('*') else { return path.exists().then(|| path.to_owned()) };
    let entries = std::fs::read_dir(path.parent()?).ok()?;
    entries.flatten().map(|entry| entry.path()).find(|path| path.to_string_lossy().ends_with(end))
}

fn shown(line: &[u8]) -> String {
    match line.strip_prefix(b"INFO ") {
        Some(info) => format!("< INFO {}", normalise::info(&String::from_utf8_lossy(info))),
        None => format!("< {}", normalise::line(line)),
    }
}
