//! Which segments count, in which order, and where each ends: what their headers say of each other.

use super::super::Position;
use super::Damage;
use super::recovery::Found;
use super::scan::Extent;
use super::segment::START;

/// A segment that counts.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub found: Found,
    /// What is known of it; it ends here at most, if that isn't certain.
    pub extent: Extent,
    /// Whether the next segment says where it ends. If not, its own marks have to.
    pub certain: bool,
}

/// Puts the segments that count in order: each says which one it continues, and where that ends. `files` stand in the order
/// of their numbers, `newest` is the place of the newest in them.
///
/// Where that isn't known, because a header is bad or a segment is missing, the next older one takes its place.
pub(super) fn link(files: &[Found], newest: usize, extent: Extent, oldest: u64, size: u32) -> Vec<Link> {
    let mut chain = vec![Link { found: files[newest].clone(), extent, certain: true }];
    while let Some(Link { found, .. }) = chain.last() {
        let before = match found.header {
            Some(header) if header.previous < oldest || header.previous == 0 => break,
            Some(header) => header.previous,
            None => found.number.saturating_sub(1),
        };
        let older = files.iter().filter(|file| file.number <= before && file.number >= oldest);
        let Some(older) = older.max_by_key(|file| file.number) else { break };
        let named = found.header.filter(|header| header.previous == older.number);
        let end = named.map_or(size, |header| header.previous_end.min(size));
        let behind = found.header.map_or(Extent::UNKNOWN, |header| header.first);
        let below = behind.min(chain.last().map_or(behind, |link| link.extent.below));
        let extent = Extent { end, first: Position(0), behind, below };
        chain.push(Link { found: older.clone(), extent, certain: named.is_some() });
    }
    chain.reverse();
    chain
}

/// Returns the damage of headers that aren't there, and of segments that others continue and that aren't.
pub(super) fn missing(chain: &[Link], oldest: u64) -> Vec<Damage> {
    let mut missing = Vec::new();
    let mut before = 0;
    for Link { found, extent, .. } in chain {
        let Some(header) = found.header else {
            if extent.end <= START {
                continue;
            }
            // It was started, so there was one. Which segment it continued, and where that ended, nobody says any more.
            missing.push(gone(found.number, START, extent.below));
            continue;
        };
        // One that ended where it began had nothing, and its own first write may be what was lost.
        let held = header.previous_end > START;
        if header.previous != before && header.previous >= oldest && header.previous != 0 && held {
            missing.push(gone(header.previous, header.previous_end, header.first));
        }
        before = found.number;
    }
    missing
}

/// Returns the damage of a segment of which nothing is left: `newest` is the highest number that a header says. A file is only
/// given another name when a durable header with a higher number than its own says that it is void.
pub(super) fn vanished(files: &[Found], newest: u64, size: u32) -> Option<Damage> {
    let void = files.iter().filter_map(|found| found.says).max()?;
    let (segment, length) = (void + 1, size);
    (void > newest).then_some(gone(segment, length, Damage::UNBOUNDED))
}

/// Returns the damage of segments whose content stands under the name of another, while their own name is there too: a
/// file that was renamed to be used again leaves none behind.
pub(super) fn misplaced(files: &[Found], size: u32) -> Vec<Damage> {
    let named = |number: u64| files.iter().any(|found| found.number == number);
    let misplaced = files.iter().filter_map(|found| found.says).filter(|number| named(*number));
    let below = |segment: u64| {
        let behind = files.iter().filter(|found| found.number > segment).find_map(|found| found.header);
        behind.map_or(Damage::UNBOUNDED, |header| header.first)
    };
    misplaced.map(|segment| gone(segment, size, below(segment))).collect()
}

/// Returns the damage of a segment of which nothing tells what was in it, but that it was all below a position.
fn gone(segment: u64, length: u32, below: Position) -> Damage {
    Damage { segment, offset: 0, length, owner: None, positions: None, copies: Some(below) }
}
