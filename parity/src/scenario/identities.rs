//! Keys for scenarios and client tests: certificates made anew at each run, and nkey signatures.
//!
//! The folder has `ca.pem`; `server.pem` for localhost and 127.0.0.1; `client.pem` (common name `alice`, e-mail
//! address, DNS name and URI as alternative names); `nobody.pem` (common name `nobody`); `stranger.pem`, signed by
//! another authority (`other-ca.pem`); `expired.pem`; and each one's `-key.pem`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use ed25519_dalek::{Signer, SigningKey};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

static TLS12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
static TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// A folder of certificates.
#[derive(Debug)]
pub struct Certificates {
    dir: TempDir,
}

impl Certificates {
    /// Makes all certificates.
    ///
    /// # Errors
    ///
    /// If a key can't be made or a file can't be written.
    pub fn generate() -> Result<Certificates> {
        let made = Certificates { dir: tempfile::Builder::new().prefix("natrix-certs-").tempdir()? };
        let authority = made.authority("ca", "Parity CA")?;
        let other = made.authority("other-ca", "Other CA")?;
        let server = [SanType::DnsName("localhost".try_into()?), SanType::IpAddress("127.0.0.1".parse()?)];
        made.leaf("server", "localhost", &server, &authority, false)?;
        let client = [
            SanType::DnsName("alice.example.org".try_into()?),
            SanType::Rfc822Name("alice@example.org".try_into()?),
            SanType::URI("spiffe://example.org/alice".try_into()?),
        ];
        made.leaf("client", "alice", &client, &authority, false)?;
        made.leaf("nobody", "nobody", &[], &authority, false)?;
        made.leaf("stranger", "stranger", &[], &other, false)?;
        made.leaf("expired", "expired", &[], &authority, true)?;
        Ok(made)
    }

    /// Returns the folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn authority(&self, name: &str, common_name: &str) -> Result<Issuer<'static, KeyPair>> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        self.write(name, &certificate.pem(), &key)?;
        Ok(Issuer::new(params, key))
    }

    fn leaf(
        &self,
        name: &str,
        common_name: &str,
        alternatives: &[SanType],
        issuer: &Issuer<'static, KeyPair>,
        expired: bool,
    ) -> Result<()> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Parity");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = alternatives.to_vec();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, issuer)?;
        self.write(name, &certificate.pem(), &key)
    }

    fn write(&self, name: &str, certificate: &str, key: &KeyPair) -> Result<()> {
        fs::write(self.dir().join(format!("{name}.pem")), certificate)?;
        fs::write(self.dir().join(format!("{name}-key.pem")), key.serialize_pem())?;
        Ok(())
    }

    /// Returns what a client brings to a handshake.
    ///
    /// Options, apart by spaces: `cert=NAME` shows that certificate, `version=1.2` or `1.3` allows that one only.
    ///
    /// # Errors
    ///
    /// If an option is unknown.
    pub(super) fn client(&self, options: &str) -> Result<Arc<ClientConfig>> {
        let (mut certificate, mut versions) = (None, rustls::ALL_VERSIONS);
        for option in options.split_whitespace() {
            match option.split_once('=') {
                Some(("cert", name)) => certificate = Some(name),
                Some(("version", "1.2")) => versions = TLS12,
                Some(("version", "1.3")) => versions = TLS13,
                _ => bail!("unknown TLS option {option}"),
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.dir().join("ca.pem"))?)?;
        let builder = builder.with_root_certificates(roots);
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = CertificateDer::from_pem_file(self.dir().join(format!("{name}.pem")))?;
                let key = PrivateKeyDer::from_pem_file(self.dir().join(format!("{name}-key.pem")))?;
                // Always shown, even where the server's list of authorities hasn't this one's.
                let provider = builder.crypto_provider().key_provider.load_private_key(key)?;
                let certified = rustls::sign::CertifiedKey::new(vec![chain], provider);
                builder.with_client_cert_resolver(Arc::new(Always(Arc::new(certified))))
            }
        };
        Ok(Arc::new(config))
    }
}

#[derive(Debug)]
struct Always(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Signs a server's nonce with an nkey seed (`SU…`); returns what CONNECT's `sig` wants.
///
/// # Errors
///
/// If the seed isn't one.
pub(super) fn sign_nonce(seed: &str, nonce: &str) -> Result<String> {
    let raw = BASE32_NOPAD.decode(seed.as_bytes()).context("seed")?;
    // Two bytes of prefixes, 32 of seed, two of checksum.
    let secret: [u8; 32] = raw.get(2..34).context("a short seed")?.try_into()?;
    let signature = SigningKey::from_bytes(&secret).sign(nonce.as_bytes());
    Ok(BASE64URL_NOPAD.encode(&signature.to_bytes()))
}

/// Returns a user's seed and public nkey, always the same for the same `number`.
pub fn user_nkey(number: u8) -> (String, String) {
    const SEED: u8 = 18 << 3;
    const USER: u8 = 20 << 3;
    let secret = [number; 32];
    let public = SigningKey::from_bytes(&secret).verifying_key().to_bytes();
    let seed = [&[SEED | (USER >> 5), (USER & 31) << 3][..], &secret].concat();
    (encode(seed), encode([&[USER][..], &public].concat()))
}

/// Adds the checksum (CRC-16, XMODEM, little-endian) and encodes in base 32.
fn encode(mut raw: Vec<u8>) -> String {
    let crc = raw.iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    raw.extend_from_slice(&crc.to_le_bytes());
    BASE32_NOPAD.encode(&raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nkeys_have_the_form_that_servers_check() {
        let (seed, public) = user_nkey(1);
        assert!(seed.starts_with("SU") && seed.len() == 58, "{seed}");
        assert!(public.starts_with('U') && public.len() == 56, "{public}");
        assert_eq!(sign_nonce(&seed, "nonce").unwrap().len(), 86);
        assert!(sign_nonce("SUA", "nonce").is_err());
    }
}
