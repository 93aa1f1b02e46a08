//! What is done to files while no process runs: they are copied, damaged, and put back.

use std::collections::BTreeMap;
use std::sync::Arc;

use natrix_core::disk::FilePath;
use natrix_core::rng::Rng;

use super::content::Content;
use super::{File, Node, SimDisk};

/// Copies of files, by their paths.
#[derive(Clone, Debug)]
pub struct Copies(BTreeMap<FilePath, Content>);

impl SimDisk {
    /// Copies the files whose paths `choose` takes, as a process would see them.
    pub fn copy(&self, choose: impl Fn(&str) -> bool) -> Copies {
        let chosen = self.names.iter().filter(|(path, _)| choose(path.as_str()));
        Copies(
            chosen
                .filter_map(|(path, node)| match node {
                    Node::File(file) => Some((path.clone(), self.files[file].seen.clone())),
                    Node::Directory => None,
                })
                .collect(),
        )
    }

    /// Turns a bit over in one of these files, among what was ever written there before the last place where it has `end`; returns
    /// which it is, if there is one.
    pub fn flip_a_bit(&mut self, copies: &Copies, end: &[u8], rng: &mut Rng) -> Option<FilePath> {
        let nth = rng.below(copies.0.len().max(1) as u64) as usize;
        let (path, content) = copies.0.iter().nth(nth)?;
        let Some(Node::File(file)) = self.names.get(path).copied() else { return None };
        let bytes = content.read(0, usize::try_from(content.len()).ok()?);
        let end = bytes.windows(end.len()).rposition(|found| found == end).unwrap_or(bytes.len());
        let written: Vec<usize> = (0..end).filter(|at| bytes[*at] != 0).collect();
        let at = *written.get(rng.below(written.len().max(1) as u64) as usize)?;
        let bad = [bytes[at] ^ 1 << rng.below(8)];
        let file = Arc::make_mut(self.files.get_mut(&file)?);
        file.seen.write(at as u64, &bad);
        file.durable.write(at as u64, &bad);
        Some(path.clone())
    }

    /// Turns a bit of a byte over, on the disk and for whoever reads it; returns whether the file has that byte.
    pub fn flip(&mut self, path: &FilePath, at: u64, bit: u32) -> bool {
        let Some(Node::File(file)) = self.names.get(path).copied() else { return false };
        let Some(file) = self.files.get_mut(&file).map(Arc::make_mut) else { return false };
        let Some(byte) = file.seen.read(at, 1).first().copied().filter(|_| at < file.seen.len()) else {
            return false;
        };
        let bad = [byte ^ 1 << (bit % 8)];
        file.seen.write(at, &bad);
        file.durable.write(at, &bad);
        true
    }

    /// Puts copies back, durably; what else `choose` takes goes.
    pub fn put_back(&mut self, copies: Copies, choose: impl Fn(&str) -> bool) {
        let gone = |path: &FilePath, node: &Node| choose(path.as_str()) && matches!(node, Node::File(_));
        let touched = |path: Option<&FilePath>| path.is_some_and(|path| choose(path.as_str()));
        self.name_log.retain(|change| {
            !touched(change.remove.as_ref()) && !touched(change.add.as_ref().map(|(path, _)| path))
        });
        for names in [&mut self.names, &mut self.durable_names] {
            Arc::make_mut(names).retain(|path, node| !gone(path, node));
        }
        for (path, seen) in copies.0 {
            self.next_file += 1;
            let number = self.next_file;
            self.files.insert(number, Arc::new(File { durable: seen.clone(), seen, ..File::default() }));
            for names in [&mut self.names, &mut self.durable_names] {
                Arc::make_mut(names).insert(path.clone(), Node::File(number));
            }
        }
    }
}
