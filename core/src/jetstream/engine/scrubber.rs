//! Which stream's blocks are read in the background, and when: one stream after the other, so that ten thousand of them read
//! no more of the disk than one does.
//!
//! [`Scrubber`] goes over the streams of a shard in the order of their owners, has one at a time read its closed blocks
//! at [`ScrubPace::bytes_per_second`], and begins again [`ScrubPace::every`] after it began. What a stream finds it tells as it
//! tells what recovery finds.

use super::asset::Asset;
use crate::rng::Rng;
use crate::storage::OwnerId;
use crate::storage::file::ScrubPace;
use crate::storage::volume::{Store, Volume};
use crate::time::{Duration, Instant};

/// The first pass begins within this, or within [`ScrubPace::every`]: a server that is started each day gets around to it, and
/// not all servers of a rack do at once.
const FIRST: Duration = Duration::from_secs(60 * 60);

/// How many streams without a block to be read are passed over at once.
const AT_ONCE: usize = 64;

/// Has the streams of one shard read in turn.
#[derive(Debug, Default)]
pub(super) struct Scrubber {
    pace: Option<ScrubPace>,
    /// When the next pass begins, or the next stream is looked for.
    due: Option<Instant>,
    /// When this pass began.
    begun: Option<Instant>,
    /// The last stream that was looked at in this pass.
    last: Option<OwnerId>,
    /// The one that is being read.
    current: Option<OwnerId>,
}

impl Scrubber {
    /// Makes one that goes at this pace; `None` for not at all.
    pub(super) fn new(pace: Option<ScrubPace>) -> Self {
        Scrubber { pace, ..Scrubber::default() }
    }

    /// Takes note that the stores are ready.
    pub(super) fn start(&mut self, now: Instant, rng: &mut Rng) {
        let within = |pace: ScrubPace| u64::try_from(pace.every.min(FIRST).as_nanos()).unwrap_or(u64::MAX);
        self.due = self.pace.map(|pace| now + Duration::from_nanos(rng.below(within(pace).max(1))));
    }

    /// Returns when [`Scrubber::advance`] is next due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.filter(|_| self.current.is_none())
    }

    /// Has the next stream read, when none is.
    pub(super) fn advance(&mut self, now: Instant, volume: &mut Volume<Asset>) {
        let Some(pace) = self.pace.filter(|_| self.due.is_some_and(|due| due <= now)) else { return };
        if self.current.is_some_and(|owner| is_in_use(volume, owner)) {
            return;
        }
        self.current = None;
        let begun = *self.begun.get_or_insert(now);
        for _ in 0..AT_ONCE {
            let Some(owner) = volume.owner_behind(self.last) else {
                (self.begun, self.last) = (None, None);
                // A pass over nothing takes no time.
                self.due = Some((begun + pace.every).max(now + Duration::from_secs(1)));
                return;
            };
            self.last = Some(owner);
            if is_in_use(volume, owner) && has_blocks(volume, owner) {
                self.current = Some(owner);
                set_pace(volume, owner, Some(ScrubPace { every: Duration::ZERO, ..pace }), now);
                return;
            }
        }
        self.due = Some(now);
    }

    /// Takes note that the blocks of a stream were read once.
    pub(super) fn scrubbed(&mut self, owner: OwnerId, now: Instant, volume: &mut Volume<Asset>) {
        set_pace(volume, owner, None, now);
        self.current.take_if(|current| *current == owner);
    }
}

/// Tells whether a stream's files are open and work.
fn is_in_use(volume: &Volume<Asset>, owner: OwnerId) -> bool {
    matches!(volume.store(owner), Some(Asset::Stream(store)) if store.is_ready() && !store.has_failed())
}

fn has_blocks(volume: &Volume<Asset>, owner: OwnerId) -> bool {
    matches!(volume.store(owner), Some(Asset::Stream(store)) if store.files().has_closed_blocks())
}

fn set_pace(volume: &mut Volume<Asset>, owner: OwnerId, pace: Option<ScrubPace>, now: Instant) {
    volume.with_store(owner, |asset, _| {
        if let Some(store) = asset.stream() {
            store.set_scrub(pace, now);
        }
    });
}
