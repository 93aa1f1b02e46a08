//! Where a machine's disk requests wait for the runtime, and how completions find who asked.

use std::collections::{BTreeMap, VecDeque};

use super::{Completion, DiskError, FileId, Reply, Request, Submission, Token};

/// The disk requests of a machine that is made of others; `O` says which of them asked, and for what.
///
/// Invariant: each token that was handed out is outstanding until [`DiskQueue::complete`] has seen its completion.
#[derive(Debug)]
pub struct DiskQueue<O> {
    next_token: u64,
    next_file: u64,
    waiting: VecDeque<Submission>,
    outstanding: BTreeMap<Token, O>,
}

impl<O> Default for DiskQueue<O> {
    fn default() -> Self {
        DiskQueue { next_token: 0, next_file: 0, waiting: VecDeque::new(), outstanding: BTreeMap::new() }
    }
}

impl<O> DiskQueue<O> {
    /// Makes a queue whose tokens and files are numbered from `base`, so that several queues can share a disk; with 2^61
    /// between them none ever reaches the next.
    pub fn numbered_from(base: u64) -> Self {
        DiskQueue { next_token: base, next_file: base, ..DiskQueue::default() }
    }

    /// Returns a name for a file that no other file of this queue has or had.
    pub fn file(&mut self) -> FileId {
        self.next_file += 1;
        FileId(self.next_file)
    }

    /// Queues `request` for the runtime; its completion will be `owner`'s.
    pub fn submit(&mut self, owner: O, request: Request) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.outstanding.insert(token, owner);
        self.waiting.push_back(Submission { token, request });
        token
    }

    /// Returns the next request for the runtime, oldest first.
    pub fn poll(&mut self) -> Option<Submission> {
        self.waiting.pop_front()
    }

    /// Returns whose `completion` this is, and how it went; `None` if nobody waits for it (any more).
    pub fn complete(&mut self, completion: Completion) -> Option<(O, Result<Reply, DiskError>)> {
        let owner = self.outstanding.remove(&completion.token)?;
        Some((owner, completion.result))
    }

    /// Returns how many requests have no completion yet.
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_finds_its_owner_once() {
        let mut queue = DiskQueue::default();
        let token = queue.submit("journal", Request::Space);
        assert_eq!(queue.poll().map(|submission| submission.token), Some(token));
        assert!(queue.poll().is_none());
        let completion = || Completion { token, result: Ok(Reply::Done) };
        assert_eq!(queue.complete(completion()), Some(("journal", Ok(Reply::Done))));
        assert_eq!(queue.complete(completion()), None);
        assert_eq!(queue.outstanding(), 0);
    }
}
