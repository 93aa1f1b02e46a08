//! What nodes say to each other, whatever groups they share.

use super::{NodeId, Reader, WireError};
use crate::varint;

/// A node is there.
///
/// natrix's own: the reference has heartbeats of groups only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Which.
    pub node: NodeId,
    /// Rises when it is started anew, or when a group of it stops.
    pub life: u64,
}

impl Beat {
    const VERSION: u8 = 1;

    /// Appends the message.
    ///
    /// Shape: `version u8, node [u8; 8], life varint`; later versions add behind.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(Self::VERSION);
        out.extend_from_slice(&self.node.0);
        varint::put(out, self.life);
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// [`WireError::Length`] if it is too short, or of no version.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        Self::read(&mut Reader(bytes)).ok_or(WireError::Length { what: "beat", len: bytes.len() })
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        (reader.u8()? >= Self::VERSION).then_some(())?;
        Some(Beat { node: reader.node()?, life: reader.varint()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_beat_survives_the_wire_and_a_part_of_it_is_none(node: [u8; 8], life: u64, cut in 0..9usize) {
            let beat = Beat { node: NodeId(node), life };
            let mut out = Vec::new();
            beat.encode(&mut out);
            prop_assert!(Beat::decode(&out[..cut]).is_err());
            // A later version.
            (out[0], _) = (2, out.push(9));
            prop_assert_eq!(Beat::decode(&out), Ok(beat));
            out[0] = 0;
            prop_assert!(Beat::decode(&out).is_err());
        }
    }
}
