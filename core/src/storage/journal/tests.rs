//! What a journal promises, on disks that keep everything and on disks that don't.

mod crash_disk;
mod explorer;

use explorer::explore;

#[test]
fn what_was_committed_survives_crashes() {
    let seeds: u64 = 400;
    let (mut crashes, mut recovered, mut left, mut torn, mut damaged, mut recycled) = (0, 0, 0, 0, 0, 0);
    for seed in 0..seeds {
        match explore(seed) {
            Ok(stats) => {
                crashes += stats.crashes;
                recovered += stats.recovered;
                left += stats.left;
                torn += stats.torn;
                damaged += stats.damaged;
                recycled += stats.recycled;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    assert!(crashes > seeds && recovered > seeds, "{crashes} crashes, {recovered} recovered");
    assert!(left > 0 && torn > 0 && damaged > 0 && recycled > 0, "{left} {torn} {damaged} {recycled}");
}
