//! Who the members are, as a leader tells it and as snapshots keep it.

use super::{NodeId, Reader, WireError};

/// The members of a group.
///
/// Source: nats-server `server/raft.go`, `encodePeerState` and `decodePeerState`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerState {
    /// How many members the group has; more than are known while it starts.
    pub cluster_size: u32,
    /// Those that are known, the leader among them.
    pub peers: Vec<NodeId>,
    /// Whether the system account is extended over leaf nodes: 0 undetermined, 1 extended, 2 not.
    pub domain_extension: u16,
}

impl PeerState {
    /// Appends the state.
    ///
    /// Shape: `cluster_size u32, count u32, count times [u8; 8], domain_extension u16`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.cluster_size.to_le_bytes());
        out.extend_from_slice(&(self.peers.len() as u32).to_le_bytes());
        for peer in &self.peers {
            out.extend_from_slice(&peer.0);
        }
        out.extend_from_slice(&self.domain_extension.to_le_bytes());
    }

    /// Reads a state; one without the extension is of an older version.
    ///
    /// # Errors
    ///
    /// [`WireError`] if it is too short, or names more members than it has.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader(bytes);
        let too_short = WireError::Length { what: "peer state", len: bytes.len() };
        let cluster_size = reader.u32().ok_or(too_short)?;
        let named = reader.u32().ok_or(too_short)? as usize;
        let present = reader.0.len() / NodeId::LEN;
        if named > present {
            return Err(WireError::Peers { named, present });
        }
        let peers = (0..named).filter_map(|_| reader.node()).collect();
        Ok(PeerState { cluster_size, peers, domain_extension: reader.u16().unwrap_or(0) })
    }
}
