//! The first 64 bytes of a block. What they say is said again by every mark; a block without them is still read.

use super::super::{Cipher, Compression, OwnerId};

/// How long it is, in bytes.
pub const HEADER_LEN: usize = 64;

const MAGIC: &[u8; 8] = b"NTRXBLK1";

/// What a block says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose it is.
    pub owner: OwnerId,
    /// Its number.
    pub block: u32,
    /// How its frames are encrypted.
    pub cipher: Cipher,
    /// How its frames are compressed.
    pub compression: Compression,
    /// The lowest sequence that can be in it.
    pub first_sequence: u64,
    /// What the first times count from, in nanoseconds since 1970.
    pub base_time: i64,
    /// The epoch of the key that it was begun with; zero if it isn't encrypted.
    pub key_epoch: u64,
    /// How often it was written anew, without what had been removed.
    pub rewrites: u32,
    /// The number of the block before it, as of when it was begun; zero if there was none. Numbers between the two were begun
    /// and given up: such a block is no part of the stream, also if a power cut brings its file back.
    pub previous: u32,
}

/// Why a block's first bytes are no header of its.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It ends before its header does.
    #[error("shorter than a header")]
    Short,
    /// It was never a block of ours, or it is damaged.
    #[error("not the magic of a block")]
    Magic,
    /// It is damaged.
    #[error("bad checksum")]
    Checksum,
    /// A later version wrote it.
    #[error("unknown flags {0:#x}")]
    Flags(u32),
    /// It is another's: swapped, misplaced or copied here.
    #[error("it is block {block} of stream {owner:016x}")]
    Foreign {
        /// Whose.
        owner: u64,
        /// Which.
        block: u32,
    },
}

impl Header {
    /// Returns it as bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(MAGIC);
        out[8..16].copy_from_slice(&self.owner.0.to_le_bytes());
        out[16..20].copy_from_slice(&self.block.to_le_bytes());
        let flags = cipher_code(self.cipher) | compression_code(self.compression) << 4;
        out[20..24].copy_from_slice(&u32::from(flags).to_le_bytes());
        out[24..32].copy_from_slice(&self.first_sequence.to_le_bytes());
        out[32..40].copy_from_slice(&self.base_time.to_le_bytes());
        out[40..48].copy_from_slice(&self.key_epoch.to_le_bytes());
        out[48..52].copy_from_slice(&self.rewrites.to_le_bytes());
        out[52..56].copy_from_slice(&self.previous.to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header of what is thought to be block `block` of `owner`.
    ///
    /// # Errors
    ///
    /// [`HeaderError`]; only [`HeaderError::Foreign`] says that the block is whole and another's.
    pub fn decode(bytes: &[u8], owner: OwnerId, block: u32) -> Result<Self, HeaderError> {
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(HeaderError::Short)?;
        if !bytes.starts_with(MAGIC) {
            return Err(HeaderError::Magic);
        }
        if crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(HeaderError::Checksum);
        }
        let flags = u32_at(bytes, 20);
        let (Some(cipher), Some(compression), true) =
            (cipher_of(flags & 0xf), compression_of(flags >> 4 & 0xf), flags < 0x100)
        else {
            return Err(HeaderError::Flags(flags));
        };
        let header = Header {
            owner: OwnerId(u64_at(bytes, 8)),
            block: u32_at(bytes, 16),
            cipher,
            compression,
            first_sequence: u64_at(bytes, 24),
            base_time: u64_at(bytes, 32) as i64,
            key_epoch: u64_at(bytes, 40),
            rewrites: u32_at(bytes, 48),
            previous: u32_at(bytes, 52),
        };
        match (header.owner, header.block) == (owner, block) {
            true => Ok(header),
            false => Err(HeaderError::Foreign { owner: header.owner.0, block: header.block }),
        }
    }
}

pub(crate) fn cipher_code(cipher: Cipher) -> u8 {
    match cipher {
        Cipher::None => 0,
        Cipher::ChaCha20Poly1305 => 1,
        Cipher::Aes256Gcm => 2,
    }
}

pub(crate) fn cipher_of(code: u32) -> Option<Cipher> {
    [Cipher::None, Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm].get(code as usize).copied()
}

pub(super) fn compression_code(compression: Compression) -> u8 {
    match compression {
        Compression::None => 0,
        Compression::S2 => 1,
    }
}

pub(super) fn compression_of(code: u32) -> Option<Compression> {
    [Compression::None, Compression::S2].get(code as usize).copied()
}

/// Reads four bytes that are known to be there.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Reads eight bytes that are known to be there.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        owner: OwnerId(7),
        block: 3,
        cipher: Cipher::Aes256Gcm,
        compression: Compression::S2,
        first_sequence: 1 << 40,
        base_time: -5,
        key_epoch: 2,
        rewrites: 7,
        previous: 2,
    };

    #[test]
    fn a_header_is_read_as_written_and_no_bit_of_it_can_flip() {
        let bytes = HEADER.encode();
        assert_eq!(Header::decode(&bytes, OwnerId(7), 3), Ok(HEADER));
        for bit in 0..HEADER_LEN * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bad, OwnerId(7), 3).is_err(), "bit {bit}");
        }
        assert_eq!(Header::decode(&bytes[..63], OwnerId(7), 3), Err(HeaderError::Short));
    }

    #[test]
    fn a_swapped_block_is_called_foreign() {
        let bytes = HEADER.encode();
        let foreign = Err(HeaderError::Foreign { owner: 7, block: 3 });
        assert_eq!(Header::decode(&bytes, OwnerId(7), 4), foreign);
        assert_eq!(Header::decode(&bytes, OwnerId(8), 3), foreign);
    }
}
