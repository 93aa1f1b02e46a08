//! What a TLS handshake says of the peer, as the runtime tells it.

/// What a TLS handshake established.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsPeer {
    /// Protocol version as /connz names it, such as `1.3`.
    pub version: String,
    /// Cipher suite as /connz names it, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher: String,
    /// The verified certificate of the client, if it sent one.
    pub certificate: Option<PeerCertificate>,
}

/// The parts of a client certificate that can name a user (`verify_and_map`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The subject as an RFC 2253 distinguished name, as Go's `pkix.Name.ToRDNSequence().String()` prints it.
    pub subject: String,
    /// The subject's relative names in the order of the certificate (not reversed), each `TYPE=value`.
    pub subject_parts: Vec<String>,
    /// Subject alternative names: mail addresses.
    pub emails: Vec<String>,
    /// Subject alternative names: DNS names.
    pub dns_names: Vec<String>,
    /// Subject alternative names: URIs.
    pub uris: Vec<String>,
    /// SHA-256 of the subject's public key info, for pinned certificates and /connz.
    pub spki_sha256: [u8; 32],
    /// SHA-256 of the whole certificate, for /connz.
    pub sha256: [u8; 32],
}
