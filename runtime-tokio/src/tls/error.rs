//! Why TLS can't be set up, and the words for a handshake that failed.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// Why the TLS settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or has nothing of what was looked for.
    #[error("error reading {path}: {error}")]
    File {
        /// Which one.
        path: String,
        /// What is wrong.
        error: rustls_pki_types::pem::Error,
    },
    /// A certificate and its key can't be used together.
    #[error("error parsing X509 certificate/key pair: {cert_file}: {error}")]
    Pair {
        /// The certificate's file.
        cert_file: String,
        /// What is wrong.
        error: Error,
    },
    /// There is nobody whose client certificates could be trusted.
    #[error("failed to parse root ca certificate")]
    RootCertificates,
    /// A server needs a certificate.
    #[error("no certificate is configured")]
    NoCertificate,
    /// rustls doesn't have this cipher suite.
    #[error("cipher suite {0} is not supported by this server")]
    CipherSuite(&'static str),
    /// rustls doesn't have this key exchange.
    #[error("curve preference {0} is not supported by this server")]
    KeyExchange(&'static str),
    /// The settings contradict each other.
    #[error(transparent)]
    Settings(#[from] Error),
    /// The authorities can't be used for client certificates.
    #[error("invalid client certificate authorities: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The peer's certificate is valid but not pinned; the reference's words.
pub(crate) const NOT_PINNED: &str = "certificate not pinned";

/// Describes why a handshake failed in the words of Go's library where it has some.
pub(crate) fn handshake_error(error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
            _ => error.to_string(),
        };
    };
    match tls {
        Error::InvalidMessage(_) => "tls: first record does not look like a TLS handshake".to_owned(),
        Error::NoCertificatesPresented => "tls: client didn't provide a certificate".to_owned(),
        Error::InvalidCertificate(reason) => {
            format!("tls: failed to verify certificate: {}", certificate_error(reason))
        }
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => {
            "tls: no cipher suite supported by both client and server".to_owned()
        }
        Error::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => "tls: client offered only unsupported versions".to_owned(),
        Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_text(*alert)),
        other => format!("tls: {other}"),
    }
}

fn certificate_error(reason: &CertificateError) -> String {
    match reason {
        // A signature that fails is an authority of the same name and another key: Go calls it unknown too.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "x509: certificate signed by unknown authority".to_owned()
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "x509: certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "x509: certificate specifies an incompatible key usage".to_owned()
        }
        other => format!("x509: {other}"),
    }
}

fn alert_text(alert: AlertDescription) -> String {
    let text = match alert {
        AlertDescription::UnexpectedMessage => "unexpected message",
        AlertDescription::BadRecordMac => "bad record MAC",
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::IllegalParameter => "illegal parameter",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::DecodeError => "error decoding message",
        AlertDescription::DecryptError => "error decrypting message",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::InsufficientSecurity => "insufficient security level",
        AlertDescription::InternalError => "internal error",
        AlertDescription::InappropriateFallback => "inappropriate fallback",
        AlertDescription::UserCanceled => "user canceled",
        AlertDescription::UnrecognisedName => "unrecognized name",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::NoApplicationProtocol => "no application protocol",
        other => return format!("alert({})", u8::from(other)),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(error: Error) -> String {
        handshake_error(&io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn failures_are_named_as_go_names_them() {
        assert_eq!(words(Error::NoCertificatesPresented), "tls: client didn't provide a certificate");
        assert_eq!(
            words(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
            "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        );
        assert_eq!(
            words(Error::AlertReceived(AlertDescription::UnknownCA)),
            "remote error: tls: unknown certificate authority"
        );
        assert_eq!(handshake_error(&io::ErrorKind::UnexpectedEof.into()), "EOF");
    }
}
