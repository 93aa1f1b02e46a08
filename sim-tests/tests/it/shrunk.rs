//! Failing seeds of planted bugs, made small: as `natrix-sim raft shrink` printed them, not a word changed.

use natrix_sim_tests::raft::bugs::find;
use natrix_sim_tests::raft::deed::Deed;
use natrix_sim_tests::raft::script::{Base, Script};
use natrix_sim_tests::raft::{Damage, Tell};

#[test]
fn vote_ignores_log() {
    let script = Script {
        seed: 6,
        salt: 11633657,
        base: Base::Calm { members: 3, nodes: 4 },
        deeds: vec![
            (18006996202, Deed::Propose { near: 3, count: 3, size: 19, forward: true }),
            (18012733773, Deed::Crash { node: 1, back: 577177590, dice: 11189044649770812193 }),
            (18073010028, Deed::Cut { cuts: vec![(0, 2, 0)], mends: vec![(None, 0), (None, 2324439173)] }),
        ],
        until: 19148260115,
        last: None,
    };
    let report = script.run(None, Tell::Nothing);
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    let planted = find("vote-ignores-log").expect("the bug is in the table");
    assert!(!script.run(Some(planted.bug), Tell::Nothing).violations.is_empty());
}

#[test]
fn loss_forgotten() {
    let script = Script {
        seed: 32,
        salt: 3800156,
        base: Base::Calm { members: 3, nodes: 3 },
        deeds: vec![
            (646120882, Deed::Cut { cuts: vec![(0, 2, 0)], mends: vec![(None, 610814625)] }),
            (828637086, Deed::Damage { node: 1, kind: Damage::Log, back: 204106771, dice: 2628802375602854974 }),
            (1084097022, Deed::Damage { node: 2, kind: Damage::Log, back: 260980701, dice: 7082098011688564415 }),
        ],
        until: 1084097023,
        last: None,
    };
    let report = script.run(None, Tell::Nothing);
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    let planted = find("loss-forgotten").expect("the bug is in the table");
    assert!(!script.run(Some(planted.bug), Tell::Nothing).violations.is_empty());
}

#[test]
fn hole_may_lead() {
    let script = Script {
        seed: 8,
        salt: 5642021,
        base: Base::Calm { members: 1, nodes: 1 },
        deeds: vec![
            (837750844, Deed::Crash { node: 0, back: 226277368, dice: 3025524277463537171 }),
            (1831359597, Deed::Hole { node: 0, long: 325203452 }),
        ],
        until: 1878046463,
        last: None,
    };
    let report = script.run(None, Tell::Nothing);
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    let planted = find("hole-may-lead").expect("the bug is in the table");
    assert!(!script.run(Some(planted.bug), Tell::Nothing).violations.is_empty());
}

#[test]
fn vote_before_sync() {
    let script = Script {
        seed: 12,
        salt: 12410524,
        base: Base::Seed { without: vec![] },
        deeds: vec![
            (230503776, Deed::Cut { cuts: vec![(2, 1, 0)], mends: vec![(None, 512490458)] }),
            (288888511, Deed::Cut { cuts: vec![(0, 1, 0), (0, 2, 0), (1, 0, 0)], mends: vec![(None, 294386172)] }),
            (589082323, Deed::Campaign { node: 1 }),
            (628426324, Deed::Crash { node: 2, back: 10161138, dice: 5303671264197774286 }),
        ],
        until: 638587463,
        last: None,
    };
    let report = script.run(None, Tell::Nothing);
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    let planted = find("vote-before-sync").expect("the bug is in the table");
    assert!(!script.run(Some(planted.bug), Tell::Nothing).violations.is_empty());
}
