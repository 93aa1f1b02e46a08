//! A block with sectors that can't be read: what can be is read around them.

use bytes::{Bytes, BytesMut};

use super::api::StoreDisk;
use super::blocks::{BlockFiles, Work, block_path};
use crate::disk::{DiskError, DiskErrorKind, FileId, OpenMode, Reply, Request, SECTOR};

/// How much is read at once where nothing is known to be bad, in bytes.
const PIECE: usize = 64 << 10;

/// A file that is read piece by piece, and sector by sector where a piece can't be.
#[derive(Debug)]
pub(super) struct Pieces {
    pub(super) file: FileId,
    len: usize,
    /// How often the block had been written anew.
    rewrites: u32,
    open: bool,
    bytes: BytesMut,
    /// Up to here sectors are read.
    sectors: usize,
}

impl Pieces {
    /// Begins with `len` bytes of a file that is open.
    pub(super) fn new(file: FileId, len: usize) -> Self {
        Pieces { file, len, rewrites: 0, open: false, bytes: BytesMut::new(), sectors: 0 }
    }

    /// Returns the next read, `None` when all is read.
    pub(super) fn next(&self) -> Option<Request> {
        let at = self.bytes.len();
        let piece = if at < self.sectors { SECTOR } else { PIECE };
        let len = (piece - at % piece).min(self.len - at);
        (len > 0).then_some(Request::Read { file: self.file, offset: at as u64, len })
    }

    /// Takes what became of it. A sector that can't be read reads as zeros, and fails its checksums.
    pub(super) fn took(&mut self, result: Result<Reply, DiskError>) {
        let at = self.bytes.len();
        let Some(Request::Read { len, .. }) = self.next() else { return };
        match result {
            // The file is shorter than it was said to be.
            Ok(Reply::Read(bytes)) if bytes.len() < len => {
                self.bytes.extend_from_slice(&bytes);
                self.len = self.bytes.len();
            }
            Ok(Reply::Read(bytes)) => self.bytes.extend_from_slice(&bytes),
            Err(_) if len > SECTOR => self.sectors = at + len,
            _ => self.bytes.resize(at + len, 0),
        }
    }

    /// Returns what was read.
    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes.freeze()
    }
}

/// Returns whether something is there that the disk doesn't give back.
pub(super) fn is_unreadable(result: &Result<Reply, DiskError>) -> bool {
    result.as_ref().is_err_and(|error| error.kind == DiskErrorKind::Io)
}

impl BlockFiles {
    /// Reads a block in pieces, for its index.
    pub(super) fn walk_in_pieces(&mut self, block: u32, disk: &mut impl StoreDisk) {
        let Some(closed) = self.closed.get(&block) else { return };
        let (file, len) = (disk.file(), closed.known.len as usize);
        self.pieces.insert(block, Pieces { rewrites: closed.known.rewrites, ..Pieces::new(file, len) });
        let path = block_path(&self.config.directory, block);
        self.submit(Work::Pieces { block }, Request::Open { file, path, mode: OpenMode::Read }, disk);
    }

    /// Takes a piece of it, or that its file is open.
    pub(super) fn took_piece(
        &mut self,
        block: u32,
        result: Result<Reply, DiskError>,
        disk: &mut impl StoreDisk,
    ) {
        let Some(mut pieces) = self.pieces.remove(&block) else { return };
        if self.may_have_moved(block, pieces.rewrites) {
            if pieces.open || result.is_ok() {
                self.submit(Work::Ignored, Request::Close { file: pieces.file }, disk);
            }
            return self.load_index_again(block, disk);
        }
        match result {
            Ok(Reply::Opened { .. }) => pieces.open = true,
            Err(error) if error.kind != DiskErrorKind::Io => return self.fail(error.into()),
            result => pieces.took(result),
        }
        if let Some(request) = pieces.next() {
            self.pieces.insert(block, pieces);
            return self.submit(Work::Pieces { block }, request, disk);
        }
        self.submit(Work::Ignored, Request::Close { file: pieces.file }, disk);
        self.walk_for_index(block, &pieces.into_bytes());
    }
}
