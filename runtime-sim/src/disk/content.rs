//! A file's bytes, shared between forks chunk by chunk.

use std::sync::Arc;

const CHUNK: usize = 16 * 1024;

/// Bytes of which a clone shares every chunk that neither side writes to; a chunk that isn't there is zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    len: u64,
    chunks: Vec<Option<Arc<Vec<u8>>>>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = offset.saturating_add(len as u64).min(self.len);
        let mut out = Vec::with_capacity(end.saturating_sub(offset) as usize);
        let mut at = offset;
        while at < end {
            let (chunk, start) = place(at);
            let take = (CHUNK - start).min((end - at) as usize);
            match self.chunks.get(chunk).and_then(Option::as_ref) {
                Some(bytes) => out.extend_from_slice(&bytes[start..start + take]),
                None => out.resize(out.len() + take, 0),
            }
            at += take as u64;
        }
        out
    }

    pub(super) fn write(&mut self, offset: u64, mut data: &[u8]) {
        let mut at = offset;
        while !data.is_empty() {
            let (chunk, start) = place(at);
            let take = (CHUNK - start).min(data.len());
            if self.chunks.len() <= chunk {
                self.chunks.resize(chunk + 1, None);
            }
            let bytes = self.chunks[chunk].get_or_insert_with(|| Arc::new(vec![0; CHUNK]));
            Arc::make_mut(bytes)[start..start + take].copy_from_slice(&data[..take]);
            data = &data[take..];
            at += take as u64;
        }
        self.len = self.len.max(at);
    }

    /// Fills a range with zeros as far as the content goes.
    pub(super) fn zero(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len).min(self.len);
        let mut at = offset;
        while at < end {
            let (chunk, start) = place(at);
            let take = (CHUNK - start).min((end - at) as usize);
            if let Some(slot) = self.chunks.get_mut(chunk) {
                match slot {
                    _ if take == CHUNK => *slot = None,
                    Some(bytes) => Arc::make_mut(bytes)[start..start + take].fill(0),
                    None => {}
                }
            }
            at += take as u64;
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            // What comes back when the file grows again must be zeros.
            self.zero(len, self.len - len);
            self.chunks.truncate(len.div_ceil(CHUNK as u64) as usize);
        }
        self.len = len;
    }
}

fn place(at: u64) -> (usize, usize) {
    ((at / CHUNK as u64) as usize, (at % CHUNK as u64) as usize)
}
