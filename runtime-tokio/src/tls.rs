//! TLS as the configuration asks for it: from plain settings to rustls, and from a handshake to plain facts.
//!
//! `Differs:` rustls knows fewer cipher suites and key exchanges than Go, none of them weak. A configuration that
//! names one it doesn't know is refused at the start, rather than run with less than was asked for.

mod certificate;
mod error;
mod rewind;

use std::sync::Arc;
use std::time::Duration;

use natrix_core::auth::TlsPeer;
use natrix_core::config::{CertificatePair, CipherSuite, Curve, TlsOptions, TlsVersion};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, RootCertStore, ServerConfig, ServerConnection, SupportedCipherSuite};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::TlsAcceptor;

pub use self::error::TlsError;
pub(crate) use self::error::{NOT_PINNED, handshake_error};
pub(crate) use self::rewind::Rewind;

/// A listener's TLS, ready for handshakes.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    /// How long a handshake may take.
    pub(crate) timeout: Duration,
    pinned: Arc<std::collections::BTreeSet<String>>,
}

impl Tls {
    /// Reads the files that the settings name.
    pub(crate) fn new(options: &TlsOptions) -> Result<Self, TlsError> {
        Ok(Tls {
            acceptor: TlsAcceptor::from(server_config(options)?),
            timeout: options.timeout,
            pinned: Arc::new(options.pinned_certs.clone()),
        })
    }

    /// Says what a handshake established; `None` if the peer's certificate isn't one of the pinned ones.
    pub(crate) fn accept_peer(&self, connection: &ServerConnection) -> Option<TlsPeer> {
        let certificate = connection
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|certificate| certificate::describe(certificate));
        if !self.pinned.is_empty() {
            let key = certificate.as_ref().map(|certificate| hexadecimal(&certificate.spki_sha256))?;
            if !self.pinned.contains(&key) {
                return None;
            }
        }
        Some(TlsPeer {
            version: version_name(connection.protocol_version()),
            cipher: cipher_name(connection.negotiated_cipher_suite()),
            certificate,
        })
    }
}

/// Makes a rustls configuration of the settings, for the executable's HTTPS listener too.
///
/// # Errors
///
/// When a file can't be read or isn't what it should be, when keys and certificates don't belong together, or when
/// the settings ask for something that rustls doesn't have.
pub fn server_config(options: &TlsOptions) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(provider(options)?);
    let versions: &[_] = match options.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
    let builder = if options.verify || options.verify_and_map {
        let roots = Arc::new(client_roots(options)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build()?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let certificates = options
        .certificates
        .iter()
        .map(|pair| load_pair(pair, &provider).map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    Ok(Arc::new(builder.with_cert_resolver(Arc::new(FirstThatFits(certificates)))))
}

/// Returns ring's provider, less what the settings rule out.
fn provider(options: &TlsOptions) -> Result<CryptoProvider, TlsError> {
    let mut provider = ring::default_provider();
    if let Some(wanted) = &options.cipher_suites {
        let unknown = |suite: &&CipherSuite| {
            provider.cipher_suites.iter().all(|known| u16::from(known.suite()) != suite.id)
        };
        if let Some(suite) = wanted.iter().find(unknown) {
            return Err(TlsError::CipherSuite(suite.name));
        }
        // The setting is about TLS 1.2: the suites of 1.3 can't be chosen, in Go neither.
        provider.cipher_suites.retain(|known| {
            known.tls13().is_some() || wanted.iter().any(|suite| suite.id == u16::from(known.suite()))
        });
    }
    if let Some(wanted) = &options.curve_preferences {
        provider.kx_groups = wanted.iter().map(|&curve| key_exchange(curve)).collect::<Result<_, _>>()?;
    }
    Ok(provider)
}

fn key_exchange(curve: Curve) -> Result<&'static dyn SupportedKxGroup, TlsError> {
    match curve {
        Curve::X25519 => Ok(ring::kx_group::X25519),
        Curve::P256 => Ok(ring::kx_group::SECP256R1),
        Curve::P384 => Ok(ring::kx_group::SECP384R1),
        other => Err(TlsError::KeyExchange(
            Curve::NAMES.iter().find(|(_, known)| *known == other).map_or("unknown", |(name, _)| name),
        )),
    }
}

fn client_roots(options: &TlsOptions) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match &options.ca_file {
        Some(path) => {
            for certificate in read_certificates(path)? {
                roots.add(certificate)?;
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
        }
    }
    if roots.is_empty() {
        return Err(TlsError::RootCertificates);
    }
    Ok(roots)
}

fn read_certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| TlsError::File { path: path.to_owned(), error })
}

fn load_pair(pair: &CertificatePair, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = read_certificates(&pair.cert_file)?;
    let key = PrivateKeyDer::from_pem_file(&pair.key_file)
        .map_err(|error| TlsError::File { path: pair.key_file.clone(), error })?;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| TlsError::Pair { cert_file: pair.cert_file.clone(), error })
}

/// Several certificates for one listener: the first that the client can use and that has the name it asks for,
/// else the first that it can use.
#[derive(Debug)]
struct FirstThatFits(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for FirstThatFits {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |pair: &&Arc<CertifiedKey>| pair.key.choose_scheme(hello.signature_schemes()).is_some();
        let named = |pair: &&Arc<CertifiedKey>| {
            let Some(Ok(name)) = hello.server_name().map(ServerName::try_from) else { return true };
            let certificate = pair.end_entity_cert().map(ParsedCertificate::try_from);
            matches!(certificate, Ok(Ok(certificate)) if verify_server_name(&certificate, &name).is_ok())
        };
        let candidates = || self.0.iter().filter(usable);
        candidates().find(named).or_else(|| candidates().next()).cloned()
    }
}

fn version_name(version: Option<ProtocolVersion>) -> String {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "1.2".to_owned(),
        Some(ProtocolVersion::TLSv1_3) => "1.3".to_owned(),
        Some(other) => format!("Unknown [0x{:x}]", u16::from(other)),
        None => String::new(),
    }
}

/// Returns the suite's registered name, which isn't what rustls calls it.
fn cipher_name(suite: Option<SupportedCipherSuite>) -> String {
    let Some(id) = suite.map(|suite| u16::from(suite.suite())) else { return String::new() };
    CipherSuite::ALL
        .iter()
        .find(|known| known.id == id)
        .map_or_else(|| format!("Unknown [0x{id:x}]"), |known| known.name.to_owned())
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(options: &TlsOptions) -> String {
        server_config(options).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn what_rustls_does_not_have_is_refused_by_name() {
        let suite = CipherSuite::from_name("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA").unwrap();
        let options = TlsOptions { cipher_suites: Some(vec![suite]), ..TlsOptions::default() };
        assert_eq!(
            error_of(&options),
            "cipher suite TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA is not supported by this server"
        );
        let options =
            TlsOptions { curve_preferences: Some(vec![Curve::P256, Curve::P521]), ..TlsOptions::default() };
        assert_eq!(error_of(&options), "curve preference CurveP521 is not supported by this server");
    }

    #[test]
    fn a_chosen_suite_leaves_those_of_tls_1_3_alone() {
        let suite = CipherSuite::from_name("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384").unwrap();
        let options = TlsOptions { cipher_suites: Some(vec![suite]), ..TlsOptions::default() };
        let provider = provider(&options).unwrap();
        let names: Vec<_> = provider.cipher_suites.iter().map(|&suite| cipher_name(Some(suite))).collect();
        assert_eq!(
            names,
            [
                "TLS_AES_256_GCM_SHA384",
                "TLS_AES_128_GCM_SHA256",
                "TLS_CHACHA20_POLY1305_SHA256",
                "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
            ]
        );
    }

    #[test]
    fn every_suite_of_rustls_has_its_registered_name() {
        for suite in ring::ALL_CIPHER_SUITES {
            assert!(cipher_name(Some(*suite)).starts_with("TLS_"));
        }
    }

    #[test]
    fn missing_files_are_named() {
        let pair =
            CertificatePair { cert_file: "/nowhere/cert.pem".into(), key_file: "/nowhere/key.pem".into() };
        let options = TlsOptions { certificates: vec![pair], ..TlsOptions::default() };
        assert!(error_of(&options).starts_with("error reading /nowhere/cert.pem: "));
        assert_eq!(error_of(&TlsOptions::default()), "no certificate is configured");
    }
}
