//! What the server says about itself, as plain values: /varz, /connz, /subsz, /jsz, /healthz; no HTTP.
//!
//! Each question is asked of every shard ([`ControlRequest`]). A shard answers with a part of its own
//! ([`ShardStats`], [`ConnzPart`], [`SubszPart`]), already filtered and cut to what a page can need, and whoever
//! asked puts the parts together ([`Varz::new`], [`Connz::merge`], [`Subsz::merge`]). A shard describes its
//! connections through [`ConnSource`], so that nothing here knows what a connection is made of.
//!
//! The JSON that comes out is an interface: exporters turn every numeric field into a metric. Names, types, order
//! and the rules about what is left out are the reference's.
//!
//! Source: nats-server `server/monitor.go` and `server/monitor_sort_opts.go`.

mod conn_info;
mod connz;
mod control;
mod healthz;
mod jsz;
mod query;
mod subsz;
mod text;
mod varz;

pub use crate::connection::ClosedReason;
pub use conn_info::{
    CertificateFacts, ClosedConn, ClosedRing, ConnFacts, ConnInfo, ConnSource, SubDetail, SubFacts, TlsFacts,
    TlsPeerCert, Traffic,
};
pub use connz::{ConnSort, ConnState, Connz, ConnzContext, ConnzOptions, ConnzPart};
pub use control::{ControlReply, ControlRequest};
pub use healthz::{HealthStatus, HealthzError, HealthzOptions};
pub use jsz::{Jsz, JszOptions};
pub use query::{Query, QueryError};
pub use subsz::{Subsz, SubszOptions, SubszPart, SubszStats};
pub use text::uptime;
pub use varz::{ConnKindStats, ProcessFacts, ShardStats, Varz, VarzContext};
