//! A record that stands in its file twice, so that one bad sector or bit costs nothing.
//!
//! Each copy begins at a sector: the head, which begins with a magic number, `length of the body u32`, the body, and `crc u32` of all
//! before it.

use crate::disk::SECTOR;

/// Returns the file of a record.
pub(super) fn encode(head: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * (head.len() + body.len() + 8 + SECTOR));
    for _ in 0..2 {
        let start = out.len();
        out.extend_from_slice(head);
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(body);
        let crc = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.resize(out.len().next_multiple_of(SECTOR), 0);
    }
    out
}

/// Returns the head and the body of each copy that is whole. Heads are `head_len` bytes long and begin with `magic`.
pub(super) fn decode<'a>(
    file: &'a [u8],
    magic: &'a [u8],
    head_len: usize,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let copies = [Some(file), file.get(file.len() / 2..)];
    copies.into_iter().flatten().filter_map(move |bytes| {
        let (head, rest) = bytes.split_at_checked(head_len).filter(|(head, _)| head.starts_with(magic))?;
        let (len, rest) = rest.split_first_chunk()?;
        let (body, crc) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        let whole = &bytes[..head_len + 4 + body.len()];
        (crc32c::crc32c(whole) == u32::from_le_bytes(*crc.first_chunk()?)).then_some((head, body))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_byte_leaves_a_copy() {
        let body: Vec<u8> = (0..=255).cycle().take(900).collect();
        let file = encode(b"MAGIC123owner", &body);
        assert_eq!((file.len() % SECTOR, decode(&file, b"MAGIC123", 13).count()), (0, 2));
        assert_eq!(decode(&file, b"another", 13).count(), 0);
        for at in 0..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 1;
            let left: Vec<_> = decode(&bad, b"MAGIC123", 13).collect();
            assert!(left.contains(&(&b"MAGIC123owner"[..], &body[..])), "byte {at}");
        }
        for len in 0..file.len() {
            decode(&file[..len], b"MAGIC123", 13).for_each(|(_, found)| assert_eq!(found, body));
        }
    }
}
