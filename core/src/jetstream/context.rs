//! What the machines of this room see of the world, and what they say to it.
//!
//! A stream or a consumer doesn't know where its messages are kept, who is connected, or who commits. It is called with a
//! [`Context`], asks its store through [`Messages`], and leaves what is to be published in [`Context::out`].

pub use crate::delivery::Outgoing;
use crate::rng::Rng;
use crate::storage::ledger::Ledger;
use crate::storage::{Lookup, Message};
use crate::time::Now;

/// An answer that may have to wait for the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// Here it is.
    Ready(T),
    /// Nothing has changed. Whoever asked is called again once the disk has said something, and asks again.
    Wait,
}

impl<T> Answer<T> {
    /// Returns what `then` makes of the answer, if it is there.
    pub fn map<U>(self, then: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Answer::Ready(answer) => Answer::Ready(then(answer)),
            Answer::Wait => Answer::Wait,
        }
    }
}

/// The messages of one stream, as consumers and requests read them. All that is seen is committed.
pub trait Messages {
    /// Puts a question to the stream's ledger: sequences, subjects, counts. The question is asked again if an index has
    /// to be loaded for it, so it must not do anything but ask.
    fn ask<T>(&mut self, question: impl FnMut(&mut Ledger) -> Lookup<T>) -> Answer<T>;

    /// Returns the message `sequence`; `None` if there is none, or if it is damaged, which the operator is told.
    fn load(&mut self, sequence: u64) -> Answer<Option<Message>>;
}

/// Who listens to what in the account of a stream.
pub trait Interest {
    /// Tells whether anybody would get a message published to `subject`, which has no wildcards.
    fn has_interest(&self, subject: &[u8]) -> bool;

    /// Tells whether somebody subscribed to `subject` itself and not to a wildcard: as a member of the queue group `group`, or
    /// in none if that is empty.
    fn has_subscriber(&self, subject: &[u8], group: &[u8]) -> bool;
}

/// What a machine is called with.
pub struct Context<'a, I> {
    /// The time.
    pub now: Now,
    /// For ids and jitter.
    pub rng: &'a mut Rng,
    /// Who listens.
    pub interest: &'a I,
    /// What is to be published, oldest first. Nothing of it leaves before the machine that is called returns.
    pub out: &'a mut Vec<Outgoing>,
}
