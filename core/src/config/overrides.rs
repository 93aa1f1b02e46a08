//! What the command line says, over what the file says.

use super::load::{Draft, OptionsError, port_number};
use super::options::{CertificatePair, DEFAULT_PORT, Options, Secret, TlsVersion};
use super::source::Source;

/// The flags that were given; `None` leaves what the file says.
///
/// A flag that is given and zero or empty does not: it sets the default, as in the reference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--name`
    pub server_name: Option<String>,
    /// `--addr`
    pub host: Option<String>,
    /// `--port`; -1 is any free one.
    pub port: Option<i64>,
    /// `--client_advertise`
    pub client_advertise: Option<String>,
    /// `--http_port`; 0 is none, -1 any free one.
    pub http_port: Option<i64>,
    /// `--https_port`; 0 is none, -1 any free one.
    pub https_port: Option<i64>,
    /// `--profile`
    pub prof_port: Option<i64>,
    /// `--user`
    pub username: Option<String>,
    /// `--pass`
    pub password: Option<Secret>,
    /// `--auth`
    pub token: Option<Secret>,
    /// `--pid`
    pub pid_file: Option<String>,
    /// `--ports_file_dir`
    pub ports_file_dir: Option<String>,
    /// `--log`
    pub log_file: Option<String>,
    /// `--log_size_limit`
    pub log_size_limit: Option<i64>,
    /// `--syslog`
    pub syslog: Option<bool>,
    /// `--remote_syslog`
    pub remote_syslog: Option<String>,
    /// `--debug`, and part of `-DV` and `-DVV`
    pub debug: Option<bool>,
    /// `--trace`, and part of `-DV`, `-VV` and `-DVV`
    pub trace: Option<bool>,
    /// Part of `-VV` and `-DVV`
    pub trace_verbose: Option<bool>,
    /// `--logtime`
    pub logtime: Option<bool>,
    /// `--logtime_utc`
    pub logtime_utc: Option<bool>,
    /// `--max_traced_msg_len`
    pub max_traced_msg_len: Option<i64>,
    /// `--tls`; false switches off what the file says, whatever the flags below are.
    pub tls: Option<bool>,
    /// `--tlsverify`
    pub tls_verify: Option<bool>,
    /// `--tlscert`
    pub tls_cert: Option<String>,
    /// `--tlskey`
    pub tls_key: Option<String>,
    /// `--tlscacert`
    pub tls_ca_cert: Option<String>,
    /// `--jetstream`
    pub jetstream: Option<bool>,
    /// `--store_dir`
    pub store_dir: Option<String>,
    /// How many shards to run; natrix's own.
    pub shards: Option<u16>,
}

impl Overrides {
    /// Overwrites settings with the flags that were given.
    pub(super) fn apply(&self, source: &dyn Source, draft: &mut Draft) -> Result<(), OptionsError> {
        draft.jetstream_on = self.jetstream.unwrap_or(draft.jetstream_on);
        let options = &mut draft.options;
        text(&mut options.server_name, self.server_name.as_ref());
        text(&mut options.client_advertise, self.client_advertise.as_ref());
        text(&mut options.username, self.username.as_ref());
        text(&mut options.pid_file, self.pid_file.as_ref());
        text(&mut options.ports_file_dir, self.ports_file_dir.as_ref());
        text(&mut options.logging.log_file, self.log_file.as_ref());
        text(&mut options.logging.remote_syslog, self.remote_syslog.as_ref());
        text(&mut options.store_dir, self.store_dir.as_ref());
        secret(&mut options.password, self.password.as_ref());
        secret(&mut options.token, self.token.as_ref());
        if let Some(host) = &self.host {
            options.host = if host.is_empty() { Options::default().host } else { host.clone() };
        }
        if let Some(port) = self.port {
            options.port = number(port)?.unwrap_or(DEFAULT_PORT);
        }
        if let Some(port) = self.http_port {
            options.monitoring.http_port = number(port)?;
        }
        if let Some(port) = self.https_port {
            options.monitoring.https_port = number(port)?;
        }
        if let Some(port) = self.prof_port {
            options.prof_port = number(port)?;
        }
        options.shards = self.shards.or(options.shards);

        let logging = &mut options.logging;
        for (setting, flag) in [
            (&mut logging.syslog, self.syslog),
            (&mut logging.debug, self.debug),
            (&mut logging.trace, self.trace),
            (&mut logging.trace_verbose, self.trace_verbose),
            (&mut logging.logtime, self.logtime),
            (&mut logging.logtime_utc, self.logtime_utc),
        ] {
            *setting = flag.unwrap_or(*setting);
        }
        if let Some(bytes) = self.log_size_limit {
            logging.log_size_limit = u64::try_from(bytes).ok().filter(|bytes| *bytes > 0);
        }
        if let Some(bytes) = self.max_traced_msg_len {
            logging.max_traced_msg_len = usize::try_from(bytes).ok().filter(|bytes| *bytes > 0);
        }
        self.apply_tls(source, options)
    }

    fn apply_tls(&self, source: &dyn Source, options: &mut Options) -> Result<(), OptionsError> {
        if self.tls == Some(false) {
            options.tls = None;
            return Ok(());
        }
        let given = self.tls.is_some()
            || self.tls_verify.is_some()
            || self.tls_cert.is_some()
            || self.tls_key.is_some()
            || self.tls_ca_cert.is_some();
        if !given {
            return Ok(());
        }
        let file = |flag: &Option<String>| flag.clone().filter(|file| !file.is_empty());
        let cert_file = file(&self.tls_cert).ok_or(OptionsError::TlsCertificate)?;
        let key_file = file(&self.tls_key).ok_or(OptionsError::TlsKey)?;
        // Timings, pins and mapping of the file stay; what makes up the handshake is the flags'.
        let mut tls = options.tls.take().unwrap_or_default();
        tls.certificates = vec![CertificatePair { cert_file, key_file }];
        tls.ca_file = file(&self.tls_ca_cert);
        tls.verify = self.tls_verify.unwrap_or(false);
        tls.cipher_suites = None;
        tls.curve_preferences = None;
        tls.min_version = TlsVersion::Tls12;
        tls.insecure = false;
        source.check_tls(&tls).map_err(OptionsError::Tls)?;
        options.tls = Some(tls);
        Ok(())
    }
}

fn text(setting: &mut Option<String>, flag: Option<&String>) {
    if let Some(flag) = flag {
        *setting = Some(flag.clone()).filter(|text| !text.is_empty());
    }
}

fn secret(setting: &mut Option<Secret>, flag: Option<&Secret>) {
    if let Some(flag) = flag {
        *setting = Some(flag.clone()).filter(|secret| !secret.is_empty());
    }
}

fn number(port: i64) -> Result<Option<u16>, OptionsError> {
    port_number(port).map_err(OptionsError::Port)
}
