//! A disk without space: what it refused is asked again, as it was, until there is some.
//!
//! Nothing is lost meanwhile: what isn't in the files is in memory and in the journal, which takes nothing more when it has no
//! space either. So a stream goes on when somebody has made room, without a restart.

use std::collections::BTreeMap;

use super::api::{Event, StoreDisk};
use super::blocks::{BlockFiles, Work};
use crate::disk::{DiskError, DiskErrorKind, Reply, Request};
use crate::planted::{self, Bug};
use crate::time::{Duration, Instant};

/// How long after a refusal the disk is asked again.
const RETRY: Duration = Duration::from_millis(500);

/// How often a read of recovery is made that fails, before it counts as one.
const READS: u32 = 4;

/// What may have to be asked again.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// What is under way and leaves the same behind however often it is done.
    under_way: BTreeMap<u64, Request>,
    /// What was refused, oldest first.
    refused: Vec<(Work, Request)>,
    due: Option<Instant>,
    /// How often recovery's last read has failed.
    failed_reads: u32,
}

/// Returns whether a request can be made again as it is. A sync can't: what it should have kept may be gone.
fn repeats(work: &Work, request: &Request) -> bool {
    let writes = matches!(request, Request::Write { .. } | Request::Replace { .. });
    let reads = matches!(request, Request::ReadFile { .. } | Request::Read { .. } | Request::List { .. });
    let makes =
        matches!(request, Request::Open { .. } | Request::Truncate { .. } | Request::CreateDirectory { .. });
    match work {
        Work::OpenTail | Work::Write | Work::Manifest => writes || makes,
        Work::Rewrite => writes,
        Work::Recover => reads || makes,
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
    /// Puts a request back that the disk had no space for, or that recovery may read better the next time. Returns the result if
    /// it is one to go on with.
    pub(super) fn settle_refused(
        &mut self,
        tag: u64,
        work: Work,
        result: Result<Reply, DiskError>,
        now: Instant,
        disk: &mut impl StoreDisk,
    ) -> Option<(Work, Result<Reply, DiskError>)> {
        let request = self.space.under_way.remove(&tag);
        let Err(error) = &result else {
            self.space.failed_reads = 0;
            return Some((work, result));
        };
        let Some(request) = request.filter(|_| !planted::bug(Bug::StoreFailsWhenFull)) else {
            return Some((work, result));
        };
        let is_read =
            matches!(request, Request::ReadFile { .. } | Request::Read { .. } | Request::List { .. });
        match error.kind {
            DiskErrorKind::Full => {
                if self.space.refused.is_empty() {
                    self.events.push_back(Event::Full(error.clone()));
                }
                self.space.refused.push((work, request));
                self.space.due = Some(now + RETRY);
                None
            }
            DiskErrorKind::Io if is_read && self.space.failed_reads + 1 < READS => {
                self.space.failed_reads += 1;
                self.submit(work, request, disk);
                None
            }
            _ => Some((work, result)),
        }
    }

    /// Returns when [`BlockFiles::ask_again`] is next due.
    pub fn ask_again_due(&self) -> Option<Instant> {
        self.space.due.filter(|_| !self.failed)
    }

    /// Asks again for what the disk had no space for, if that is due.
    pub fn ask_again(&mut self, now: Instant, disk: &mut impl StoreDisk) {
        if self.space.due.is_none_or(|due| due > now) {
            return;
        }
        self.space.due = None;
        for (work, request) in std::mem::take(&mut self.space.refused) {
            self.submit(work, request, disk);
        }
    }
}
