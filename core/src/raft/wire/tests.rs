//! Golden bytes of a real cluster, and bytes from hell.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

fn from_hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

/// Decodes `bytes` as what `subject` says they are, and returns what it says and the bytes that that encodes to.
fn turn(subject: &str, bytes: &Bytes) -> Result<(String, Vec<u8>), WireError> {
    let mut out = Vec::new();
    let (kind, _) = SubjectKind::parse(subject).expect("a group's subject");
    let said = match kind {
        SubjectKind::Vote => {
            let message = VoteRequest::decode(bytes)?;
            message.encode(&mut out);
            format!("{message:?}")
        }
        SubjectKind::Append | SubjectKind::CatchUp => {
            let message = AppendEntries::decode(bytes)?;
            message.encode(&mut out)?;
            format!("{message:?}")
        }
        SubjectKind::Reply if bytes.len() == VoteResponse::LEN => {
            let message = VoteResponse::decode(bytes)?;
            message.encode(&mut out);
            format!("{message:?}")
        }
        SubjectKind::Reply | SubjectKind::CatchUpProgress => {
            let message = AppendResponse::decode(bytes)?;
            message.encode(&mut out);
            format!("{message:?}")
        }
        SubjectKind::Proposal | SubjectKind::RemovePeer => {
            out.extend_from_slice(bytes);
            String::new()
        }
    };
    Ok((said, out))
}

#[test]
fn every_message_of_a_real_cluster_encodes_to_the_bytes_it_came_as() {
    let mut kinds = std::collections::BTreeSet::new();
    let lines = include_str!("testdata/golden.txt").lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let [subject, _, hex] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let bytes = Bytes::from(from_hex(hex));
        let (said, out) = turn(subject, &bytes).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(out, bytes, "{subject}: {said}");
        let (kind, _) = SubjectKind::parse(subject).unwrap();
        kinds.insert(format!("{kind:?} of {} bytes", if bytes.len() < 40 { bytes.len() } else { 40 }));
        if let Ok(message) = AppendEntries::decode(&bytes) {
            for entry in message.entries {
                kinds.insert(format!("{:?}", entry.kind));
                if entry.kind == EntryKind::PeerState {
                    let state = PeerState::decode(&entry.data).unwrap();
                    let mut out = Vec::new();
                    state.encode(&mut out);
                    assert_eq!(out, entry.data);
                    assert!(state.peers.len() <= 3 && state.cluster_size <= 3, "{state:?}");
                }
            }
        }
    }
    insta::assert_snapshot!(kinds.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_message_says_what_it_said_in_the_cluster() {
    let said = [
        ("$NRG.V.S", "01000000000000000000000000000000000000000000000034346a7a6b563944"),
        ("$NRG.R.x", "0100000000000000666a4679456a633101"),
        ("$NRG.CP.x", "05000000000000001c00000000000000425853637259396901"),
        (
            "$NRG.AE.S",
            "34346a7a6b56394401000000000000000100000000000000010000000000000001000000000000000100\
             0900000003425853637259396900",
        ),
    ]
    .map(|(subject, hex)| turn(subject, &Bytes::from(from_hex(hex))).unwrap().0);
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn what_natrix_adds_stands_behind_and_is_read_back() {
    let vote = VoteRequest {
        term: 7,
        last_term: 6,
        last_index: 99,
        candidate: NodeId(*b"AAAAAAAA"),
        pre_vote: true,
        transfer: false,
    };
    let mut out = Vec::new();
    vote.encode(&mut out);
    assert_eq!(out.len(), VoteRequest::LEN + 2);
    assert_eq!(VoteRequest::decode(&out), Ok(vote));
    out.push(9);
    assert_eq!(VoteRequest::decode(&out), Ok(vote), "a later version's bytes are ignored");
    assert!(VoteRequest::decode(&out[..VoteRequest::LEN + 1]).is_err());

    let extension = ResponseExtension {
        round: 300,
        conflict_term: 2,
        conflict_index: 5,
        lost: true,
        new_term: false,
        asleep: true,
        rejected: 8,
        snapshot_index: 1 << 40,
        snapshot_offset: 77,
    };
    let response = AppendResponse {
        term: 7,
        index: 9,
        peer: NodeId(*b"BBBBBBBB"),
        success: false,
        extension: Some(extension),
    };
    let mut out = Vec::new();
    response.encode(&mut out);
    assert_eq!(AppendResponse::decode(&out), Ok(response));
    assert!(AppendResponse::decode(&out[..out.len() - 1]).is_err());

    // Version 1 ended behind the conflict.
    let mut old = out[..AppendResponse::LEN].to_vec();
    old.extend_from_slice(&[1, 7, 2, 5]);
    let known =
        ResponseExtension { round: 7, conflict_term: 2, conflict_index: 5, ..ResponseExtension::default() };
    assert_eq!(AppendResponse::decode(&old), Ok(AppendResponse { extension: Some(known), ..response }));
}

#[test]
fn an_entry_that_nobody_knows_is_not_taken() {
    let entry = Entry { kind: EntryKind::Normal, data: Bytes::from_static(b"x") };
    let message = AppendEntries {
        leader: NodeId(*b"AAAAAAAA"),
        term: 1,
        commit: 0,
        previous_term: 0,
        previous_index: 0,
        entries: vec![entry],
        leader_term: Some(0),
        extension: None,
    };
    let mut out = Vec::new();
    message.encode(&mut out).unwrap();
    out[AppendEntries::BASE + 4] = 9;
    assert_eq!(AppendEntries::decode(&out.clone().into()), Err(WireError::EntryKind { index: 0, kind: 9 }));
    out[AppendEntries::BASE] = 200;
    assert_eq!(
        AppendEntries::decode(&out.clone().into()),
        Err(WireError::EntryLength { index: 0, len: 200 })
    );
    out[AppendEntries::BASE] = 0;
    assert_eq!(AppendEntries::decode(&out.into()), Err(WireError::EntryLength { index: 0, len: 0 }));
    let named = [&[3, 0, 0, 0, 255, 255, 255, 255][..], b"AAAAAAAA"].concat();
    assert_eq!(PeerState::decode(&named), Err(WireError::Peers { named: u32::MAX as usize, present: 1 }));
}

#[test]
fn too_many_entries_leave_the_buffer_as_it_was() {
    let message = AppendEntries {
        leader: NodeId::default(),
        term: 1,
        commit: 0,
        previous_term: 0,
        previous_index: 0,
        entries: vec![Entry::normal(Bytes::new()); 65_536],
        leader_term: None,
        extension: None,
    };
    let mut out = b"before".to_vec();
    assert_eq!(message.encode(&mut out), Err(WireError::TooLarge(65_536)));
    assert_eq!(out, b"before");
}

#[test]
fn subjects_are_told_apart_and_inboxes_are_fresh() {
    let subjects = GroupSubjects::new("S-R3F-k8gzORjI");
    for (subject, kind) in [
        (&subjects.vote, SubjectKind::Vote),
        (&subjects.append, SubjectKind::Append),
        (&subjects.proposal, SubjectKind::Proposal),
        (&subjects.remove_peer, SubjectKind::RemovePeer),
    ] {
        assert_eq!(SubjectKind::parse(subject), Some((kind, "S-R3F-k8gzORjI")));
    }
    let mut rng = Rng::from_u64(1);
    for kind in [SubjectKind::Reply, SubjectKind::CatchUp, SubjectKind::CatchUpProgress] {
        let (one, other) = (inbox(&mut rng, kind), inbox(&mut rng, kind));
        assert_eq!(SubjectKind::parse(&one).map(|(kind, name)| (kind, name.len())), Some((kind, 8)));
        assert_ne!(one, other);
    }
    for other in ["$NRG.X.a", "$NRG.V", "NRG.V.a", ""] {
        assert_eq!(SubjectKind::parse(other), None);
    }
}

fn any_append() -> impl Strategy<Value = AppendEntries> {
    let kinds = [0, 1, 2, 3, 4, 5, 6, 64, 65];
    let entry = (0..kinds.len(), vec(any::<u8>(), 0..20)).prop_map(move |(kind, data)| Entry {
        kind: EntryKind::from_byte(kinds[kind]).unwrap(),
        data: data.into(),
    });
    let leader_term = proptest::option::of((any::<u64>(), proptest::option::of(any::<(u64, bool)>())));
    (any::<[u8; 8]>(), any::<[u64; 4]>(), vec(entry, 0..5), leader_term).prop_map(
        |(leader, [term, commit, previous_term, previous_index], entries, leader_term)| {
            let extension = leader_term.and_then(|(_, round)| round);
            AppendEntries {
                leader: NodeId(leader),
                term,
                commit,
                previous_term,
                previous_index,
                entries,
                leader_term: leader_term.map(|(term, _)| term),
                extension: extension.map(|(round, sleep)| AppendExtension { round, sleep }),
            }
        },
    )
}

proptest! {
    #[test]
    fn append_entries_survive_the_wire(message in any_append()) {
        let mut out = Vec::new();
        message.encode(&mut out).unwrap();
        prop_assert_eq!(AppendEntries::decode(&out.into()), Ok(message));
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..120), count in 0..4u8) {
        let shared = Bytes::from(bytes.clone());
        for subject in ["$NRG.V.g", "$NRG.AE.g", "$NRG.R.x"] {
            let _ = turn(subject, &shared);
        }
        let _ = PeerState::decode(&bytes);
        if bytes.len() > AppendEntries::BASE {
            bytes[40..42].copy_from_slice(&[count, 0]);
            let _ = turn("$NRG.AE.g", &Bytes::from(bytes));
        }
    }
}
