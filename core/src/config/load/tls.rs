//! The `tls` block.
//!
//! The first thing wrong with it is the only one reported, as in the reference.

use super::{Checked, Problem, positive, timeout};
use crate::config::duration::parse_duration;
use crate::config::options::{CertificatePair, CipherSuite, Curve, HandshakeFirst, TlsOptions, TlsVersion};
use crate::config::text::quoted;
use crate::config::value::{Token, Value, in_order};

/// Reads the block of a listener for clients.
pub(super) fn tls(token: &Token) -> Checked<TlsOptions> {
    let mut tls = TlsOptions::default();
    let (mut cert_file, mut key_file) = (String::new(), String::new());
    let mut allow_insecure = false;
    for (key, entry) in in_order(token.map()?) {
        let name = key.to_lowercase();
        match name.as_str() {
            "cert_file" => cert_file = file(entry, &name)?,
            "key_file" => key_file = file(entry, &name)?,
            "ca_file" => tls.ca_file = Some(file(entry, &name)?).filter(|file| !file.is_empty()),
            "certs" | "certificates" => tls.certificates = certificates(token, entry)?,
            "insecure" => tls.insecure = switch(entry, &name)?,
            "verify" => tls.verify |= switch(entry, &name)?,
            "verify_and_map" => {
                tls.verify_and_map = switch(entry, &name)?;
                tls.verify |= tls.verify_and_map;
            }
            "verify_cert_and_check_known_urls" => {
                if switch(entry, &name)? {
                    return Err(
                        entry.problem("verify_cert_and_check_known_urls not supported in this context")
                    );
                }
            }
            "allow_insecure_cipher_suites" => allow_insecure = switch(entry, &name)?,
            "cipher_suites" => {
                let suites = list(entry, &name)?.iter().map(|item| {
                    let suite = item.string()?;
                    CipherSuite::from_name(suite)
                        .ok_or_else(|| item.problem(format!("unrecognized cipher {suite}")))
                });
                tls.cipher_suites = Some(suites.collect::<Checked<_>>()?);
            }
            "curve_preferences" => {
                let curves = list(entry, &name)?.iter().map(|item| {
                    let curve = item.string()?;
                    Curve::from_name(curve)
                        .ok_or_else(|| item.problem(format!("unrecognized curve preference {curve}")))
                });
                tls.curve_preferences = Some(curves.collect::<Checked<_>>()?);
            }
            "timeout" => tls.timeout = timeout(entry.seconds("tls")?).unwrap_or(TlsOptions::DEFAULT_TIMEOUT),
            "connection_rate_limit" => match entry.value {
                Value::Integer(limit) => tls.connection_rate_limit = positive(limit, u32::MAX),
                _ => {
                    return Err(entry.problem("error parsing tls config, 'connection_rate_limit' wrong type"));
                }
            },
            "pinned_certs" => pinned_certs(entry, &mut tls)?,
            "handshake_first" | "first" | "immediate" => tls.handshake_first = handshake_first(key, entry)?,
            "min_version" => {
                tls.min_version = min_version(&entry.value)
                    .map_err(|reason| entry.problem(format!("error parsing tls config: {reason}")))?;
            }
            "ocsp_peer" if entry.value == Value::Bool(false) => {}
            "cert_store"
            | "cert_match_by"
            | "cert_match"
            | "ca_certs_match"
            | "cert_match_skip_invalid"
            | "ocsp_peer" => return Err(entry.unsupported(key)),
            _ => {
                return Err(entry.problem(format!("error parsing tls config, unknown field {}", quoted(key))));
            }
        }
    }
    if !tls.certificates.is_empty() && !cert_file.is_empty() {
        return Err(
            token.problem("error parsing tls config, cannot combine 'cert_file' option with 'certs' option")
        );
    }
    refuse_insecure(token, &tls, allow_insecure)?;
    match (cert_file.is_empty(), key_file.is_empty()) {
        (true, true) => {}
        (false, true) => return Err(token.problem("missing 'key_file' in TLS configuration")),
        (true, false) => return Err(token.problem("missing 'cert_file' in TLS configuration")),
        (false, false) => tls.certificates = vec![CertificatePair { cert_file, key_file }],
    }
    Ok(tls)
}

fn refuse_insecure(token: &Token, tls: &TlsOptions, allowed: bool) -> Checked<()> {
    let suites = tls.cipher_suites.iter().flatten().filter(|suite| suite.insecure);
    let names: Vec<_> = suites.map(|suite| suite.name).collect();
    if allowed || names.is_empty() {
        return Ok(());
    }
    Err(token.problem(format!(
        "insecure cipher suites configured without 'allow_insecure_cipher_suites' option set: {}",
        names.join(", ")
    )))
}

fn file(entry: &Token, name: &str) -> Checked<String> {
    match &entry.value {
        Value::String(file) => Ok(file.clone()),
        _ => Err(entry.problem(format!("error parsing tls config, expected '{name}' to be filename"))),
    }
}

fn switch(entry: &Token, name: &str) -> Checked<bool> {
    match entry.value {
        Value::Bool(on) => Ok(on),
        _ => Err(entry.problem(format!("error parsing tls config, expected '{name}' to be a boolean"))),
    }
}

fn list<'a>(entry: &'a Token, name: &str) -> Checked<&'a [Token]> {
    let items = entry.array()?;
    if items.is_empty() {
        return Err(entry.problem(format!("error parsing tls config, '{name}' cannot be empty")));
    }
    Ok(items)
}

fn certificates(block: &Token, entry: &Token) -> Checked<Vec<CertificatePair>> {
    let unsupported = |token: &Token, value: &Value| -> Problem {
        token.problem(format!("error parsing certificates config: unsupported type {}", value.type_name()))
    };
    // The reference names the type of the whole block here.
    let Value::Array(items) = &entry.value else { return Err(unsupported(entry, &block.value)) };
    let mut pairs = Vec::with_capacity(items.len());
    for item in items {
        let Value::Map(fields) = &item.value else { return Err(unsupported(item, &item.value)) };
        let mut pair = CertificatePair { cert_file: String::new(), key_file: String::new() };
        for (key, field) in in_order(fields) {
            let Value::String(file) = &field.value else { return Err(unsupported(field, &field.value)) };
            match key {
                "cert_file" => pair.cert_file.clone_from(file),
                "key_file" => pair.key_file.clone_from(file),
                _ => {
                    return Err(field
                        .problem(format!("error parsing tls certs config, unknown field {}", quoted(key))));
                }
            }
        }
        if pair.cert_file.is_empty() || pair.key_file.is_empty() {
            let place = in_order(fields).last().map_or(item, |(_, last)| last);
            return Err(place.problem(
                "error parsing certificates config: both 'cert_file' and 'cert_key' options are required",
            ));
        }
        pairs.push(pair);
    }
    Ok(pairs)
}

fn pinned_certs(entry: &Token, tls: &mut TlsOptions) -> Checked<()> {
    const LOOK: &str = "hex-encoded sha256 of DER encoded SubjectPublicKeyInfo";
    let Value::Array(items) = &entry.value else {
        return Err(entry
            .problem(format!("error parsing tls config, expected 'pinned_certs' to be a list of {LOOK}")));
    };
    for item in items {
        let pin = item.string()?.to_lowercase();
        if pin.len() != 64 || !pin.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(item.problem(format!(
                "error parsing tls config, 'pinned_certs' key {pin} does not look like {LOOK}"
            )));
        }
        tls.pinned_certs.insert(pin);
    }
    Ok(())
}

fn handshake_first(key: &str, entry: &Token) -> Checked<HandshakeFirst> {
    let always = |on| if on { HandshakeFirst::Always } else { HandshakeFirst::No };
    match &entry.value {
        Value::Bool(on) => Ok(always(*on)),
        Value::String(text) => match text.to_lowercase().as_str() {
            "true" | "on" => Ok(always(true)),
            "false" | "off" => Ok(always(false)),
            "auto" | "auto_fallback" => Ok(HandshakeFirst::Fallback(HandshakeFirst::DEFAULT_FALLBACK)),
            _ => match parse_duration(text) {
                // Without a delay there is nothing to fall back after.
                Ok(..=0) => Ok(HandshakeFirst::Always),
                Ok(nanos) => {
                    Ok(HandshakeFirst::Fallback(std::time::Duration::from_nanos(nanos.unsigned_abs())))
                }
                Err(_) => {
                    Err(entry.problem(format!("field {}'s value {} is invalid", quoted(key), quoted(text))))
                }
            },
        },
        other => Err(entry.problem(format!(
            "field {} should be a boolean or a string, got {}",
            quoted(key),
            other.type_name()
        ))),
    }
}

fn min_version(value: &Value) -> Result<TlsVersion, String> {
    let Value::String(version) = value else {
        return Err(format!("'min_version' wrong type: {value}"));
    };
    match version.as_str() {
        "1.2" => Ok(TlsVersion::Tls12),
        "1.3" => Ok(TlsVersion::Tls13),
        "1.0" | "1.1" => Err(format!("unsupported TLS version: TLS {version}")),
        _ => Err(format!("unknown version: {version}")),
    }
}
