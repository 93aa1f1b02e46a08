//! How a shard hears of things: one FIFO that others push to, one list of sockets that became ready, one bell.
//!
//! Pushing never blocks (beyond a lock held for the length of a push) and never fails: two shards with full
//! inboxes would wait for each other for ever. Memory is bounded by what senders owe, which `natrix_core` counts.
//!
//! Invariant: whoever adds something rings the [`Doorbell`] afterwards, and the shard's loop looks at both lists
//! after it has said that it is about to sleep. So nothing is left lying while the loop sleeps, and a loop that is
//! awake costs its senders no wake-up.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use natrix_core::disk::Completion;
use natrix_core::monitoring::ControlRequest;
use natrix_core::shard::io::{Listener, WorkDone};
use natrix_core::shard::mailbox::ShardMessage;

/// Locks without minding a panic elsewhere: a shard's panic ends the process anyway.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something for a shard that doesn't come through one of its sockets.
#[derive(Debug)]
pub(crate) enum Event<A> {
    /// Another shard, or the shard itself, sent this.
    Message(ShardMessage),
    /// The acceptor gives this shard a connection.
    Accepted { listener: Listener, socket: A, peer: SocketAddr, local: SocketAddr },
    /// The acceptor is bound.
    Listening { listener: Listener, address: SocketAddr },
    /// The acceptor couldn't be bound.
    ListenFailed { listener: Listener, error: String },
    /// The disk has done something.
    Disk(Completion),
    /// A computation is done.
    Work(WorkDone),
    /// Somebody outside wants something.
    Control { id: u64, request: ControlRequest },
}

/// One shard's inbox.
pub(crate) struct Inbox<A> {
    events: Mutex<Vec<Event<A>>>,
    /// How many are in `events`, so that an empty inbox is seen without the lock.
    waiting: AtomicUsize,
    /// Wakes the shard's loop.
    pub(crate) doorbell: Arc<Doorbell>,
}

impl<A> Inbox<A> {
    pub(crate) fn new() -> Self {
        Inbox { events: Mutex::new(Vec::new()), waiting: AtomicUsize::new(0), doorbell: Arc::default() }
    }

    /// Appends an event and wakes the shard if it sleeps.
    pub(crate) fn push(&self, event: Event<A>) {
        {
            let mut events = lock(&self.events);
            events.push(event);
            self.waiting.store(events.len(), Ordering::Release);
        }
        self.doorbell.ring();
    }

    /// Tells whether nothing waits.
    ///
    /// A sender that pushed before it wrote to a socket is seen by whoever read those bytes: the kernel's own
    /// synchronisation of the socket orders the push before this load.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// Takes all that waits, oldest first, leaving the (empty) vector that was handed in to be filled next.
    pub(crate) fn swap(&self, batch: &mut Vec<Event<A>>) {
        debug_assert!(batch.is_empty(), "the last batch was dealt with");
        let mut events = lock(&self.events);
        std::mem::swap(&mut *events, batch);
        self.waiting.store(0, Ordering::Release);
    }
}

/// What wakes a shard's loop, and the list of its sockets that want attention.
#[derive(Default)]
pub(crate) struct Doorbell {
    /// The loop sleeps, or is about to: somebody has to wake it.
    asleep: AtomicBool,
    task: Mutex<Option<Waker>>,
    ready: Mutex<Vec<u32>>,
}

impl Doorbell {
    /// Wakes the loop, unless it is awake.
    pub(crate) fn ring(&self) {
        if self.asleep.swap(false, Ordering::SeqCst)
            && let Some(task) = lock(&self.task).as_ref()
        {
            task.wake_by_ref();
        }
    }

    /// Remembers whom to wake, and that the loop is awake.
    pub(crate) fn awake(&self, waker: &Waker) {
        self.asleep.store(false, Ordering::SeqCst);
        let mut task = lock(&self.task);
        match task.as_ref() {
            Some(known) if known.will_wake(waker) => {}
            _ => *task = Some(waker.clone()),
        }
    }

    /// Announces that the loop is about to sleep; the caller looks once more for work afterwards.
    pub(crate) fn about_to_sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
    }

    /// Tells whether a socket wants attention.
    pub(crate) fn has_ready(&self) -> bool {
        !lock(&self.ready).is_empty()
    }

    /// Takes the slots of the sockets that want attention, leaving the (empty) vector that was handed in.
    pub(crate) fn swap_ready(&self, batch: &mut Vec<u32>) {
        debug_assert!(batch.is_empty(), "the last batch was dealt with");
        std::mem::swap(&mut *lock(&self.ready), batch);
    }
}

/// What the reactor wakes when a socket becomes readable or writable: it puts the slot on the ready list.
pub(crate) struct SlotWaker {
    slot: u32,
    queued: AtomicBool,
    doorbell: Arc<Doorbell>,
}

impl SlotWaker {
    pub(crate) fn new(slot: u32, doorbell: Arc<Doorbell>) -> Arc<Self> {
        Arc::new(SlotWaker { slot, queued: AtomicBool::new(false), doorbell })
    }

    /// Says that the slot was taken from the ready list; call before looking at the socket.
    pub(crate) fn taken(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            lock(&self.doorbell.ready).push(self.slot);
            self.doorbell.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicU32);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn work_event(slot: u32) -> Event<()> {
        let conn = natrix_core::ids::ConnId { slot, generation: 0 };
        Event::Work(WorkDone { conn, matched: true })
    }

    #[test]
    fn only_a_sleeping_loop_is_woken_and_only_once() {
        let inbox = Inbox::<()>::new();
        let counter = Arc::new(Counter::default());
        inbox.doorbell.awake(&Waker::from(counter.clone()));
        inbox.push(work_event(1));
        assert_eq!(counter.0.load(Ordering::SeqCst), 0);

        inbox.doorbell.about_to_sleep();
        assert!(!inbox.is_empty(), "the look after the announcement finds what came before it");
        inbox.push(work_event(2));
        inbox.push(work_event(3));
        assert_eq!(counter.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn events_come_out_oldest_first() {
        let inbox = Inbox::<()>::new();
        for slot in 0..3 {
            inbox.push(work_event(slot));
        }
        let mut batch = Vec::new();
        inbox.swap(&mut batch);
        let slots: Vec<_> = batch
            .iter()
            .map(|event| match event {
                Event::Work(done) => done.conn.slot,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(slots, [0, 1, 2]);
        assert!(inbox.is_empty());
    }

    #[test]
    fn a_slot_is_listed_once_until_it_is_taken() {
        let doorbell = Arc::new(Doorbell::default());
        let slot = SlotWaker::new(7, doorbell.clone());
        let waker = Waker::from(slot.clone());
        waker.wake_by_ref();
        waker.wake_by_ref();
        let mut ready = Vec::new();
        doorbell.swap_ready(&mut ready);
        assert_eq!(ready, [7]);
        ready.clear();

        waker.wake_by_ref();
        assert!(!doorbell.has_ready(), "still counted as listed");
        slot.taken();
        waker.wake_by_ref();
        doorbell.swap_ready(&mut ready);
        assert_eq!(ready, [7]);
    }
}
