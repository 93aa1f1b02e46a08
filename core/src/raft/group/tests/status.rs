//! Who is up to date, as a member knows it.

use bytes::Bytes;

use super::member::{A, B, C, Member, ack, append, member};
use crate::raft::group::chunk::{Chunk, SnapshotKey};
use crate::raft::group::{Message, PeerStatus};
use crate::raft::log::Place;
use crate::raft::membership::Membership;
use crate::time::Duration;

fn status(member: &Member) -> Vec<(Option<u64>, bool, bool)> {
    let of = |status: PeerStatus| (status.lag, status.heard.is_some(), status.current);
    member.group.peer_status().into_iter().map(of).collect()
}

#[test]
fn a_leader_knows_how_far_behind_each_member_is() {
    let mut member = member(&[1], 1, None);
    member.leads(&[B]);
    member.hears(ack(B, 2, 2));
    assert_eq!(
        status(&member),
        [(Some(0), false, true), (Some(0), true, true), (Some(2), false, false)],
        "of the last nothing was heard"
    );
    member.group.propose(member.now, "x").unwrap();
    member.hears(ack(C, 2, 1));
    assert_eq!(status(&member)[1..], [(Some(1), true, false), (Some(2), true, false)]);
    member.now += Duration::from_secs(2);
    member.group.handle_timeout(member.now);
    assert!(member.group.peer_status().iter().all(|status| !status.current), "it hears nobody");
}

#[test]
fn a_follower_knows_of_its_leader_alone() {
    let mut member = member(&[1], 1, None);
    assert_eq!(status(&member), [(Some(0), false, false), (None, false, false), (None, false, false)]);
    member.hears(append(B, 1, (1, 1), &[], 1));
    assert_eq!(status(&member), [(Some(0), false, true), (None, true, true), (None, false, false)]);
    member.now += Duration::from_secs(2);
    member.group.handle_timeout(member.now);
    assert!(!member.group.is_current(), "the leader may be gone");
}

#[test]
fn a_member_that_lacks_entries_is_not_current_until_it_has_applied_them() {
    let mut member = member(&[], 1, None);
    member.hears(append(B, 1, (1, 3), &[], 3));
    assert!(!member.group.is_current(), "three entries are missing");
    member.group.pause_apply();
    for index in 0..3 {
        // What it is told of the commit index on the way is less than what it was told before.
        member.hears(append(B, 1, (u64::from(index > 0), index), &[1], index));
        assert!(!member.group.is_current(), "entry {index}");
    }
    // While it catches up, the leader goes on.
    member.hears(append(B, 1, (1, 4), &[], 4));
    member.hears(append(B, 1, (1, 3), &[1], 4));
    assert_eq!((member.group.commit(), member.group.is_current()), (4, false), "nothing is applied");
    member.group.resume_apply();
    member.settle();
    assert_eq!((member.group.applied(), member.group.is_current()), (4, true));
}

#[test]
fn a_pause_makes_a_member_late_only_when_something_waits() {
    let mut member = member(&[], 1, None);
    member.hears(append(B, 1, (0, 0), &[1, 1], 1));
    member.group.pause_apply();
    assert!(member.group.is_current(), "what is committed is applied");
    member.hears(append(B, 1, (1, 2), &[], 2));
    assert!(!member.group.is_current());
    member.group.resume_apply();
    member.settle();
    assert!(member.group.is_current());
}

#[test]
fn a_member_that_is_being_sent_a_snapshot_is_not_current() {
    let mut member = member(&[1], 1, None);
    let key = SnapshotKey { place: Place { term: 1, index: 9 }, total: 4, checksum: crc32c::crc32c(b"data") };
    let piece = |offset: u64, data| {
        let chunk =
            Chunk { key, members: Membership::new([A, B, C]), offset, data: Bytes::from_static(data) };
        let Message::Append(mut append) = append(B, 1, (1, 9), &[], 9) else { unreachable!() };
        append.entries = vec![chunk.entry()];
        Message::Append(append)
    };
    member.hears(piece(0, b"da"));
    assert!(!member.group.is_current());
    member.hears(piece(2, b"ta"));
    assert_eq!((member.group.applied(), member.group.is_current()), (9, true));
}

#[test]
fn a_hole_or_a_failed_disk_is_no_good_state() {
    let mut member = member(&[1], 1, None);
    member.hears(append(B, 1, (1, 1), &[], 1));
    member.group.set_hole(member.now, true);
    assert!(!member.group.is_current());
    member.group.set_hole(member.now, false);
    assert!(member.group.is_current());
    member.group.disk_failed(member.now);
    assert!(!member.group.is_current());
}
