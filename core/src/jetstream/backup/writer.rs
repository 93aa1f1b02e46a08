//! Writing a backup, in chunks.

use bytes::{Bytes, BytesMut};

use super::{CONSUMERS, STATE};
use crate::storage::Message;
use crate::storage::archive::Entry;
use crate::storage::s2;
use crate::time::WallTime;

/// Writes a backup.
#[derive(Debug, Default)]
pub struct BackupWriter {
    begun: bool,
    head: Vec<u8>,
    compressor: s2::Writer,
    out: BytesMut,
}

impl BackupWriter {
    /// Writes what the stream was, as JSON: to be called once, first.
    pub fn state(&mut self, json: &[u8], now: WallTime) {
        self.text(STATE.to_owned(), json, now);
    }

    /// Writes a consumer, as JSON.
    pub fn consumer(&mut self, name: &str, json: &[u8], now: WallTime) {
        self.text(format!("{CONSUMERS}{name}"), json, now);
    }

    fn text(&mut self, name: String, json: &[u8], now: WallTime) {
        let (name, time) = (Bytes::from(name), now.as_unix_nanos());
        let entry = Entry { name, time, payload: json.len() as u64, ..Entry::default() };
        self.put(&entry, &[json]);
    }

    /// Writes a message. They come in order.
    pub fn message(&mut self, message: &Message) {
        let Message { sequence, time, subject, headers, payload } = message;
        let entry = Entry {
            name: subject.clone(),
            time: time.as_unix_nanos(),
            sequence: *sequence,
            headers: headers.len() as u64,
            payload: payload.len() as u64,
        };
        self.put(&entry, &[headers, payload]);
    }

    /// Says that the backup is whole.
    pub fn finish(&mut self) {
        self.put(&Entry::default(), &[]);
        self.compressor.flush(&mut self.out);
    }

    fn put(&mut self, entry: &Entry, parts: &[&[u8]]) {
        self.head.clear();
        entry.encode(!std::mem::replace(&mut self.begun, true), &mut self.head);
        self.compressor.write(&self.head, &mut self.out);
        for part in parts {
            self.compressor.write(part, &mut self.out);
        }
    }

    /// Returns how many bytes wait to be sent.
    pub fn ready(&self) -> usize {
        self.out.len()
    }

    /// Returns the next chunk of so many bytes, or what is left if it is less.
    pub fn chunk(&mut self, size: usize) -> Bytes {
        let size = size.min(self.out.len());
        self.out.split_to(size).freeze()
    }
}
