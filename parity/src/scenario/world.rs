//! What a scenario happens to: a server (or only its executable), its folder, its names.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::connection::Connection;
use super::format::Scenario;
use super::identities::{self, Certificates};
use super::normalise;
use super::text::{replace_number, words};
use crate::servers::{Implementation, Server, ServerBuilder};

/// A server and what surrounds it.
pub(super) struct World<'a> {
    pub(super) certificates: &'a Certificates,
    pub(super) server: Option<Server>,
    /// The server's folder, or one of our own where there is no server.
    pub(super) dir: PathBuf,
    _own_dir: Option<TempDir>,
    /// The executable under the reference's name, so that usage texts agree.
    pub(super) program: PathBuf,
    _program_dir: TempDir,
}

impl<'a> World<'a> {
    pub(super) fn new(
        (implementation, shards): (Implementation, Option<u16>),
        binary: &Path,
        certificates: &'a Certificates,
        scenario: &Scenario,
    ) -> Result<Self> {
        let program_dir = tempfile::tempdir()?;
        let program = program_dir.path().join("nats-server");
        symlink(binary.canonicalize()?, &program)?;
        let mut world = World {
            certificates,
            server: None,
            dir: PathBuf::new(),
            _own_dir: None,
            program,
            _program_dir: program_dir,
        };
        if scenario.settings.no_server {
            let own = tempfile::Builder::new().prefix("natrix-parity-").tempdir()?;
            own.path().clone_into(&mut world.dir);
            world._own_dir = Some(own);
            for (name, contents) in &scenario.files {
                std::fs::write(world.dir.join(name), world.expand(contents, None)?)?;
            }
            return Ok(world);
        }
        let mut builder = ServerBuilder::new(implementation)?;
        builder.dir().clone_into(&mut world.dir);
        for (name, contents) in &scenario.files {
            builder = builder.file(name, &world.expand(contents, None)?)?;
        }
        if let Some(config) = &scenario.config {
            builder = builder.config(&world.expand(config, None)?)?;
        }
        for flag in words(&world.expand(&scenario.flags, None)?) {
            builder = builder.flag(flag);
        }
        if let (Implementation::Natrix, Some(shards)) = (implementation, shards) {
            builder = builder.flag("--shards").flag(shards.to_string());
        }
        world.server = Some(builder.start()?);
        Ok(world)
    }

    /// Replaces placeholders: `<<dir>>`, `<<certs>>`, `<<pid>>`, `<<port>>`, `<<monitor>>`, `<<repeat N TEXT>>`,
    /// `<<nkey N>>` (a user's public key), `<<sign N>>` (its signature of the connection's nonce).
    pub(super) fn expand(&self, text: &str, connection: Option<&Connection>) -> Result<String> {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("<<") {
            let (name, after) = after.split_once(">>").context("<< without >>")?;
            out.push_str(before);
            let server = || self.server.as_ref().context("no server");
            let (name, argument) = name.split_once(' ').unwrap_or((name, ""));
            match name {
                "dir" => write!(out, "{}", self.dir.display())?,
                "certs" => write!(out, "{}", self.certificates.dir().display())?,
                "pid" => write!(out, "{}", server()?.pid())?,
                "port" => write!(out, "{}", server()?.port())?,
                "monitor" => write!(out, "{}", server()?.monitoring_port().context("no monitoring")?)?,
                "repeat" => {
                    let (count, text) = argument.split_once(' ').context("<<repeat N TEXT>>")?;
                    out.push_str(&text.repeat(count.parse()?));
                }
                "nkey" => out.push_str(&identities::user_nkey(argument.parse()?).1),
                "sign" => {
                    let info = &connection.context("<<sign>> outside of a connection")?.info;
                    let info: serde_json::Value = serde_json::from_str(info).context("INFO")?;
                    let nonce = info["nonce"].as_str().context("no nonce")?;
                    out.push_str(&identities::sign_nonce(
                        &identities::user_nkey(argument.parse()?).0,
                        nonce,
                    )?);
                }
                _ => bail!("unknown placeholder <<{name}>>"),
            }
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    /// Replaces this run's folders and names in text.
    pub(super) fn normalise(&self, text: &str) -> String {
        let text = text.replace(&*self.dir.to_string_lossy(), "<dir>");
        let text = text.replace(&*self.certificates.dir().to_string_lossy(), "<certs>");
        let mut text = text.replace(&*self.program.to_string_lossy(), "nats-server");
        if let Some(server) = &self.server {
            text = replace_number(&text, &server.pid().to_string(), "<pid>");
        }
        text.lines().map(normalise::text).collect::<Vec<_>>().join("\n")
    }
}
