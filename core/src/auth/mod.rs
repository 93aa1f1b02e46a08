//! Who may do what: users, how they prove who they are, and what each may publish and subscribe to.

pub mod authenticator;
mod dn;
pub mod nkeys;
pub mod permissions;
mod tls;

pub use tls::{PeerCertificate, TlsPeer};
