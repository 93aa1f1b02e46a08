//! TLS configurations for what isn't a shard's: trying certificates out, and monitoring over HTTPS.

use std::fs::File;
use std::sync::Arc;

use jiff::Timestamp;
use natrix_core::config::TlsOptions;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use crate::log::go_error;

/// Loads the certificates and makes a configuration.
///
/// # Errors
///
/// What is wrong with them, as the operator is told.
pub(crate) fn server_config(options: &TlsOptions) -> Result<Arc<ServerConfig>, String> {
    for path in options.certificates.iter().flat_map(|pair| [&pair.cert_file, &pair.key_file]) {
        File::open(path).map_err(|error| {
            format!("error parsing X509 certificate/key pair: open {path}: {}", go_error(&error))
        })?;
    }
    natrix_runtime_tokio::server_config(options).map_err(|error| error.to_string())
}

/// Makes what monitoring over HTTPS needs: the clients' configuration, without asking for certificates.
///
/// # Errors
///
/// What is wrong with the certificates.
pub(crate) fn monitoring_acceptor(options: &TlsOptions) -> Result<TlsAcceptor, String> {
    let options = TlsOptions { verify: false, verify_and_map: false, ..options.clone() };
    server_config(&options).map(TlsAcceptor::from)
}

/// Returns when the first certificate ends; `None` if it can't be read.
pub(crate) fn not_after(options: &TlsOptions) -> Option<Timestamp> {
    let file = &options.certificates.first()?.cert_file;
    let certificate = CertificateDer::pem_file_iter(file).ok()?.next()?.ok()?;
    let (_, certificate) = X509Certificate::from_der(&certificate).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}
