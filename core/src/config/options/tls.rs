//! TLS settings as plain values; the runtime makes a working configuration of them.

use std::collections::BTreeSet;
use std::time::Duration;

/// What one listener's TLS is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsOptions {
    /// Certificates with their keys; the first that fits the client's request is used, else the first.
    pub certificates: Vec<CertificatePair>,
    /// The authorities that client certificates are checked against; `None` is the system's.
    pub ca_file: Option<String>,
    /// Requires a client certificate.
    pub verify: bool,
    /// Takes the user from the client certificate; implies `verify`.
    pub verify_and_map: bool,
    /// Doesn't check the other side's certificate; only means something where this server dials.
    pub insecure: bool,
    /// How long the handshake may take.
    pub timeout: Duration,
    /// The allowed cipher suites in order of preference; `None` is the default set.
    pub cipher_suites: Option<Vec<CipherSuite>>,
    /// The allowed key exchanges in order of preference; `None` is the default set.
    pub curve_preferences: Option<Vec<Curve>>,
    /// The oldest accepted version.
    pub min_version: TlsVersion,
    /// Whether the handshake comes before INFO.
    pub handshake_first: HandshakeFirst,
    /// The only accepted client certificates, as the SHA-256 of their SubjectPublicKeyInfo in lower case
    /// hexadecimal; empty accepts all.
    pub pinned_certs: BTreeSet<String>,
    /// The most handshakes begun in a second; `None` is no limit.
    pub connection_rate_limit: Option<u32>,
}

impl TlsOptions {
    /// How long a handshake may take unless told otherwise.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
}

impl Default for TlsOptions {
    fn default() -> Self {
        TlsOptions {
            certificates: Vec::new(),
            ca_file: None,
            verify: false,
            verify_and_map: false,
            insecure: false,
            timeout: Self::DEFAULT_TIMEOUT,
            cipher_suites: None,
            curve_preferences: None,
            min_version: TlsVersion::Tls12,
            handshake_first: HandshakeFirst::No,
            pinned_certs: BTreeSet::new(),
            connection_rate_limit: None,
        }
    }
}

/// The files of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePair {
    /// The certificate and its chain, PEM.
    pub cert_file: String,
    /// Its private key, PEM.
    pub key_file: String,
}

/// Whether the TLS handshake comes before INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HandshakeFirst {
    /// INFO first, in plain text.
    #[default]
    No,
    /// The handshake first, always.
    Always,
    /// The handshake first; a client that hasn't begun it by then gets INFO.
    Fallback(Duration),
}

impl HandshakeFirst {
    /// How long `auto` waits for the handshake.
    pub const DEFAULT_FALLBACK: Duration = Duration::from_millis(50);
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// A key exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// Post-quantum hybrid of P-384 and ML-KEM-1024.
    SecP384r1MlKem1024,
    /// Post-quantum hybrid of P-256 and ML-KEM-768.
    SecP256r1MlKem768,
    /// Post-quantum hybrid of X25519 and ML-KEM-768.
    X25519MlKem768,
    /// Curve25519.
    X25519,
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
}

impl Curve {
    /// All of them with the names that configurations use.
    pub const NAMES: [(&'static str, Curve); 7] = [
        ("SecP384r1MLKEM1024", Curve::SecP384r1MlKem1024),
        ("SecP256r1MLKEM768", Curve::SecP256r1MlKem768),
        ("X25519MLKEM768", Curve::X25519MlKem768),
        ("X25519", Curve::X25519),
        ("CurveP256", Curve::P256),
        ("CurveP384", Curve::P384),
        ("CurveP521", Curve::P521),
    ];

    /// Finds the key exchange of exactly that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Curve::NAMES.iter().find(|(known, _)| *known == name).map(|(_, curve)| *curve)
    }
}

/// A cipher suite by its registered name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CipherSuite {
    /// The name, such as `TLS_AES_128_GCM_SHA256`.
    pub name: &'static str,
    /// The number it has on the wire.
    pub id: u16,
    /// Known to be weak: a configuration that names it must also allow such suites.
    pub insecure: bool,
}

impl CipherSuite {
    /// The suites that a configuration may name, the sound ones first.
    pub const ALL: [CipherSuite; 25] = [
        CipherSuite::sound("TLS_AES_128_GCM_SHA256", 0x1301),
        CipherSuite::sound("TLS_AES_256_GCM_SHA384", 0x1302),
        CipherSuite::sound("TLS_CHACHA20_POLY1305_SHA256", 0x1303),
        CipherSuite::sound("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", 0xc009),
        CipherSuite::sound("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", 0xc00a),
        CipherSuite::sound("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", 0xc013),
        CipherSuite::sound("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", 0xc014),
        CipherSuite::sound("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", 0xc02b),
        CipherSuite::sound("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", 0xc02c),
        CipherSuite::sound("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", 0xc02f),
        CipherSuite::sound("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", 0xc030),
        CipherSuite::sound("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", 0xcca8),
        CipherSuite::sound("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", 0xcca9),
        CipherSuite::weak("TLS_RSA_WITH_RC4_128_SHA", 0x0005),
        CipherSuite::weak("TLS_RSA_WITH_3DES_EDE_CBC_SHA", 0x000a),
        CipherSuite::weak("TLS_RSA_WITH_AES_128_CBC_SHA", 0x002f),
        CipherSuite::weak("TLS_RSA_WITH_AES_256_CBC_SHA", 0x0035),
        CipherSuite::weak("TLS_RSA_WITH_AES_128_CBC_SHA256", 0x003c),
        CipherSuite::weak("TLS_RSA_WITH_AES_128_GCM_SHA256", 0x009c),
        CipherSuite::weak("TLS_RSA_WITH_AES_256_GCM_SHA384", 0x009d),
        CipherSuite::weak("TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", 0xc007),
        CipherSuite::weak("TLS_ECDHE_RSA_WITH_RC4_128_SHA", 0xc011),
        CipherSuite::weak("TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", 0xc012),
        CipherSuite::weak("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", 0xc023),
        CipherSuite::weak("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", 0xc027),
    ];

    /// Finds the suite of exactly that name.
    pub fn from_name(name: &str) -> Option<Self> {
        CipherSuite::ALL.into_iter().find(|suite| suite.name == name)
    }

    const fn sound(name: &'static str, id: u16) -> Self {
        CipherSuite { name, id, insecure: false }
    }

    const fn weak(name: &'static str, id: u16) -> Self {
        CipherSuite { name, id, insecure: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_have_distinct_names_and_numbers() {
        for (index, suite) in CipherSuite::ALL.iter().enumerate() {
            assert_eq!(CipherSuite::from_name(suite.name), Some(*suite));
            assert!(CipherSuite::ALL[..index].iter().all(|earlier| earlier.id != suite.id));
        }
        assert_eq!(CipherSuite::from_name("TLS_NULL_WITH_NULL_NULL"), None);
    }

    #[test]
    fn curves_are_found_by_exactly_their_names() {
        assert_eq!(Curve::from_name("X25519"), Some(Curve::X25519));
        assert_eq!(Curve::from_name("x25519"), None);
    }
}
