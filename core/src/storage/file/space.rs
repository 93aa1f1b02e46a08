//! What the disk refused is asked again, as it was: while it has no space until there is some, and after an error a few times.
//!
//! Nothing is lost meanwhile: what isn't in the files is in memory and in the journal, which takes nothing more when it has no
//! space either. So a stream goes on when somebody has made room, without a restart.

use std::collections::BTreeMap;

use super::api::{Event, StoreDisk};
use super::blocks::{BlockFiles, Work};
use crate::disk::{DiskError, DiskErrorKind, Reply, Request};
use crate::planted::{self, Bug};
use crate::storage::SPACE_RETRY;
use crate::time::Instant;

/// How often a read of recovery is made that fails, before it counts as one.
const READS: u32 = 4;

/// How often a write is made that fails for another reason than space.
const WRITES: u32 = 8;

/// What may have to be asked again.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// What is under way and leaves the same behind however often it is done.
    under_way: BTreeMap<u64, Request>,
    /// What was refused, oldest first.
    refused: Vec<(Work, Request)>,
    due: Option<Instant>,
    /// How often requests have failed since one was done, for lack of space apart.
    failed: u32,
    /// It was told that a write was refused.
    told: bool,
}

/// Returns whether a request can be made again as it is. A sync can't: what it should have kept may be gone ([`super::mend`]).
fn repeats(work: &Work, request: &Request) -> bool {
    let writes = matches!(request, Request::Write { .. } | Request::Replace { .. });
    let reads = matches!(request, Request::ReadFile { .. } | Request::Read { .. } | Request::List { .. });
    // What is synced at a start was durable before, or was written anew just now; and names are no bytes that could be dropped.
    let syncs = matches!(request, Request::Sync { .. } | Request::SyncDirectory { .. });
    let makes =
        matches!(request, Request::Open { .. } | Request::Truncate { .. } | Request::CreateDirectory { .. });
    match work {
        Work::OpenTail | Work::Write | Work::Manifest => writes || makes,
        Work::Rewrite => writes,
        Work::Recover => reads || makes || writes || syncs,
        _ => false,
    }
}

impl Space {
    /// Takes note of a request that is made.
    pub(super) fn asked(&mut self, tag: u64, work: &Work, request: &Request) {
        if repeats(work, request) {
            self.under_way.insert(tag, request.clone());
        }
    }
}

impl BlockFiles {
    /// Puts a request back that the disk refused and may not refuse the next time. Returns the result if it is one to go on with.
    pub(super) fn settle_refused(
        &mut self,
        tag: u64,
        work: Work,
        result: Result<Reply, DiskError>,
        now: Instant,
        disk: &mut impl StoreDisk,
    ) -> Option<(Work, Result<Reply, DiskError>)> {
        let request = self.space.under_way.remove(&tag);
        let repeats = request.is_some();
        let (Err(error), Some(request)) = (&result, request) else {
            if result.is_ok() && repeats {
                (self.space.failed, self.space.told) = (0, false);
            }
            return Some((work, result));
        };
        let is_read =
            matches!(request, Request::ReadFile { .. } | Request::Read { .. } | Request::List { .. });
        let most = match (error.kind, is_read) {
            _ if planted::bug(Bug::StoreFailsWhenFull) => 0,
            (DiskErrorKind::Full, _) => u32::MAX,
            (DiskErrorKind::Io, true) => READS,
            // Whatever a sync lost of it is written again.
            (DiskErrorKind::Io | DiskErrorKind::SyncFailed, false) => WRITES,
            _ => 0,
        };
        if self.space.failed + 1 >= most {
            return Some((work, result));
        }
        if is_read {
            self.space.failed += 1;
            self.submit(work, request, disk);
            return None;
        }
        if !std::mem::replace(&mut self.space.told, true) {
            self.events.push_back(Event::Refused(error.clone()));
        }
        // Space takes as long as it takes.
        self.space.failed += u32::from(most == WRITES);
        self.space.refused.push((work, request));
        self.space.due = Some(now + SPACE_RETRY);
        None
    }

    /// Returns when [`BlockFiles::ask_again`] is next due.
    pub fn ask_again_due(&self) -> Option<Instant> {
        self.space.due.filter(|_| !self.failed).into_iter().chain(self.mend_due()).min()
    }

    /// Asks again for what the disk had no space for, if that is due.
    pub fn ask_again(&mut self, now: Instant, disk: &mut impl StoreDisk) {
        self.mend_again(now, disk);
        if self.space.due.is_none_or(|due| due > now) {
            return;
        }
        self.space.due = None;
        for (work, request) in std::mem::take(&mut self.space.refused) {
            self.submit(work, request, disk);
        }
    }
}
