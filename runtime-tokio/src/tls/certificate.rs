//! What a client's certificate says about its owner.
//!
//! Names are written as Go's `crypto/x509/pkix` writes them, since configurations of `verify_and_map` name users
//! that way.

use natrix_core::auth::PeerCertificate;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};
use x509_parser::x509::X509Name;

/// Object identifiers with a short name, the ones of the X.520 arc first.
const SHORT_NAMES: [(&str, &str); 10] = [
    ("2.5.4.6", "C"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.17", "POSTALCODE"),
    ("2.5.4.3", "CN"),
    ("2.5.4.5", "SERIALNUMBER"),
    (DOMAIN_COMPONENT, "DC"),
];

const DOMAIN_COMPONENT: &str = "0.9.2342.19200300.100.1.25";

/// How many of [`SHORT_NAMES`], from the first, Go's parsed name keeps all values of; of the next two it keeps the
/// last, and the rest it forgets.
const MANY_VALUED: usize = 7;

/// Describes a certificate; one that can't be parsed has no names, only its hash.
pub(super) fn describe(certificate: &CertificateDer<'_>) -> PeerCertificate {
    let mut described = PeerCertificate { sha256: sha256(certificate), ..PeerCertificate::default() };
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return described };
    described.spki_sha256 = sha256(parsed.public_key().raw);
    described.subject = go_subject(parsed.subject());
    described.subject_parts = subject_parts(parsed.subject());
    for extension in parsed.extensions() {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else { continue };
        for name in &names.general_names {
            match name {
                GeneralName::RFC822Name(mail) => described.emails.push((*mail).to_owned()),
                GeneralName::DNSName(dns) => described.dns_names.push((*dns).to_owned()),
                GeneralName::URI(uri) => described.uris.push((*uri).to_owned()),
                _ => {}
            }
        }
    }
    described
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let hash = TLS13_AES_128_GCM_SHA256
        .tls13()
        .map(|suite| suite.common.hash_provider.hash(bytes))
        .expect("a suite of TLS 1.3 that is named for SHA-256 has it");
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Writes a name as Go's `Name.ToRDNSequence().String()` does: the attributes that it knows, in an order of its
/// own, last first; several values of one attribute joined by `+`.
fn go_subject(name: &X509Name<'_>) -> String {
    let mut values: [Vec<&str>; MANY_VALUED + 2] = Default::default();
    for attribute in name.iter_attributes() {
        let oid = attribute.attr_type().to_id_string();
        let Ok(value) = attribute.as_str() else { continue };
        if let Some(place) = SHORT_NAMES[..values.len()].iter().position(|(known, _)| *known == oid) {
            if place >= MANY_VALUED {
                values[place].clear();
            }
            values[place].push(value);
        }
    }
    let parts = SHORT_NAMES.iter().zip(&values).rev().filter(|(_, values)| {
        // Go keeps an attribute that occurs, but an empty single value counts as absent.
        values.iter().any(|value| !value.is_empty()) || values.len() > 1
    });
    let mut text = String::new();
    for ((_, short), values) in parts {
        if !text.is_empty() {
            text.push(',');
        }
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                text.push('+');
            }
            text.push_str(short);
            text.push('=');
            escape(value, &mut text);
        }
    }
    text
}

/// Escapes what RFC 2253 wants escaped in a value.
fn escape(value: &str, out: &mut String) {
    for (index, c) in value.char_indices() {
        let special = match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            ' ' => index == 0 || index == value.len() - 1,
            '#' => index == 0,
            _ => false,
        };
        if special {
            out.push('\\');
        }
        out.push(c);
    }
}

/// Lists the relative names in the certificate's order; the attributes of one that has several are joined by `+`.
fn subject_parts(name: &X509Name<'_>) -> Vec<String> {
    name.iter_rdn()
        .map(|relative| {
            let attributes = relative.iter().filter_map(|attribute| {
                let oid = attribute.attr_type().to_id_string();
                let short = SHORT_NAMES.iter().find(|(known, _)| *known == oid);
                let value = attribute.as_str().ok()?;
                Some(format!("{}={value}", short.map_or(oid.as_str(), |(_, short)| short)))
            });
            attributes.collect::<Vec<_>>().join("+")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(names: &[(DnType, &str)], sans: Vec<SanType>) -> PeerCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names = sans;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        describe(certificate.der())
    }

    #[test]
    fn subjects_are_written_in_gos_order_whatever_the_certificates() {
        let described = certificate(
            &[
                (DnType::CommonName, "example.com"),
                (DnType::OrganizationName, "NATS"),
                (DnType::CountryName, "US"),
            ],
            vec![],
        );
        assert_eq!(described.subject, "CN=example.com,O=NATS,C=US");
        assert_eq!(described.subject_parts, ["CN=example.com", "O=NATS", "C=US"]);
    }

    #[test]
    fn domain_components_are_parts_but_not_in_gos_subject() {
        let component = DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 25]);
        let described = certificate(&[(component, "com"), (DnType::CommonName, "alice")], vec![]);
        assert_eq!(described.subject, "CN=alice");
        assert_eq!(described.subject_parts, ["DC=com", "CN=alice"]);
    }

    #[test]
    fn special_characters_are_escaped_in_the_subject_only() {
        let described = certificate(&[(DnType::CommonName, "#a,b+c ")], vec![]);
        assert_eq!(described.subject, r"CN=\#a\,b\+c\ ");
        assert_eq!(described.subject_parts, ["CN=#a,b+c "]);
    }

    #[test]
    fn alternative_names_are_sorted_by_kind() {
        let sans = vec![
            SanType::Rfc822Name("derek@nats.io".try_into().unwrap()),
            SanType::DnsName("localhost".try_into().unwrap()),
            SanType::URI("spiffe://localhost/user".try_into().unwrap()),
        ];
        let described = certificate(&[], sans);
        assert_eq!(described.emails, ["derek@nats.io"]);
        assert_eq!(described.dns_names, ["localhost"]);
        assert_eq!(described.uris, ["spiffe://localhost/user"]);
        assert_ne!(described.sha256, described.spki_sha256);
    }

    #[test]
    fn sha256_is_sha256() {
        let hash = sha256(b"abc");
        assert_eq!(hash[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
