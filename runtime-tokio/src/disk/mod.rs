//! The disk contract on real files: a few threads for each shard, so that no shard waits for a disk.
//!
//! [`RealDisk::submit`] queues a request and returns; one of the threads carries it out and hands the completion to whoever
//! made the disk. [`RealDisk::read_cached`] answers a short read at once, on the caller's thread, if the operating system has the
//! bytes in memory: a thread that is woken for it takes many times as long. [`RealDisk::write_at_once`] does the same for writes
//! that aren't synced. Requests overlap as the contract allows: whoever needs an order waits for the completion.
//!
//! Everything happens below one folder. Paths are looked up from its descriptor, never through a symbolic link and never
//! out of it; files are for their owner alone.
//!
//! Invariant: after a sync of a file has failed, nothing is written to it through that descriptor any more.

mod perform;
mod quick;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use natrix_core::disk::{Completion, FileId, Reply, Request, Submission};
use quick::Quick;
use rustix::fs::{Mode, OFlags};

/// Reads of up to so many bytes may be answered on the caller's thread: copying more takes as long as waking another.
const MOST_CACHED: usize = 16 << 10;

/// A folder on a real disk, and the threads that work in it.
///
/// Dropped, it finishes what is under way, and answers nothing that was still waiting.
pub struct RealDisk {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    quick: Quick,
    opened: Instant,
}

struct Shared {
    root: OwnedFd,
    files: Mutex<std::collections::HashMap<FileId, Arc<OpenFile>>>,
    waiting: Mutex<Waiting>,
    bell: Condvar,
    /// Whether the file system says what it has in memory.
    has_cache: AtomicBool,
    completed: Box<dyn Fn(Completion) + Send + Sync>,
}

#[derive(Default)]
struct Waiting {
    submissions: VecDeque<Submission>,
    ended: bool,
}

/// An open file.
struct OpenFile {
    descriptor: OwnedFd,
    path: String,
    /// A sync has failed: what was not synced before is not known to be anywhere.
    poisoned: AtomicBool,
}

impl RealDisk {
    /// Opens the folder `root`, making it if need be, with so many threads, at least one; `completed` is called on them.
    ///
    /// # Errors
    ///
    /// The operating system's, if the folder can't be made or opened, or a thread can't be started.
    pub fn open(
        root: &Path,
        threads: usize,
        completed: impl Fn(Completion) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let shared = Arc::new(Shared {
            root: rustix::fs::open(root, flags, Mode::empty())?,
            files: Mutex::default(),
            waiting: Mutex::default(),
            bell: Condvar::new(),
            has_cache: AtomicBool::new(true),
            completed: Box::new(completed),
        });
        let (quick, opened) = (Quick::default(), Instant::now());
        let mut disk = RealDisk { shared, threads: Vec::new(), quick, opened };
        for number in 0..threads.max(1) {
            let shared = Arc::clone(&disk.shared);
            let name = format!("disk-{number}");
            disk.threads.push(std::thread::Builder::new().name(name).spawn(move || shared.work())?);
        }
        Ok(disk)
    }

    /// Carries a short read out at once if that takes no waiting; a request that would have to wait, or is none, is handed back for
    /// [`RealDisk::submit`].
    ///
    /// # Errors
    ///
    /// The request, as it was.
    pub fn read_cached(&self, submission: Submission) -> Result<Completion, Submission> {
        let Request::Read { file, offset, len } = submission.request else { return Err(submission) };
        if len > MOST_CACHED || !self.shared.has_cache.load(Ordering::Relaxed) {
            return Err(submission);
        }
        let Some(file) = lock(&self.shared.files).get(&file).cloned() else { return Err(submission) };
        match perform::read_cached(&file.descriptor, offset, len) {
            Ok(Some(bytes)) => Ok(Completion { token: submission.token, result: Ok(Reply::Read(bytes)) }),
            Ok(None) => Err(submission),
            Err(_) => {
                // The file system can't say; it isn't asked again.
                self.shared.has_cache.store(false, Ordering::Relaxed);
                Err(submission)
            }
        }
    }

    /// Returns whether a request is a write that isn't worth another thread: [`RealDisk::write_at_once`] is to have it.
    pub fn is_quick(&self, request: &Request) -> bool {
        self.quick.takes(request, self.opened.elapsed())
    }

    /// Carries out a request on the caller's thread, whatever it takes.
    pub fn write_at_once(&mut self, Submission { token, request }: Submission) -> Completion {
        let began = self.opened.elapsed();
        let result = self.shared.perform(request);
        self.quick.took(began, self.opened.elapsed());
        Completion { token, result }
    }

    /// Has a request carried out; returns at once.
    pub fn submit(&self, submission: Submission) {
        lock(&self.shared.waiting).submissions.push_back(submission);
        self.shared.bell.notify_one();
    }
}

impl Drop for RealDisk {
    fn drop(&mut self) {
        lock(&self.shared.waiting).ended = true;
        self.shared.bell.notify_all();
        for thread in self.threads.drain(..) {
            // It has panicked, and the hook has said so.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn work(&self) {
        while let Some(Submission { token, request }) = self.next() {
            let result = self.perform(request);
            (self.completed)(Completion { token, result });
        }
    }

    fn next(&self) -> Option<Submission> {
        let mut waiting = lock(&self.waiting);
        loop {
            if waiting.ended {
                return None;
            }
            if let Some(submission) = waiting.submissions.pop_front() {
                return Some(submission);
            }
            waiting = self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl OpenFile {
    fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }
}

/// What a thread that panicked leaves behind is whole: no lock is held over a call that can.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
