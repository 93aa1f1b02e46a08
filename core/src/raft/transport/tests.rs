//! Messages there and back; bytes that are none; three hosts over a router of subjects.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::disk::FilePath;
use crate::disk::instant::InstantDisk;
use crate::raft::group::{Config, Group, Output};
use crate::raft::host::{GroupSpec, Host, HostConfig, HostInput, HostOutput};
use crate::raft::membership::Membership;
use crate::raft::store::StoreConfig;
use crate::raft::wire::{
    AppendEntries, AppendExtension, AppendResponse, Entry, ResponseExtension, VoteRequest, VoteResponse,
};
use crate::rng::Rng;
use crate::storage::journal;
use crate::time::{Duration, Instant};

const GROUP: OwnerId = OwnerId(9);
const ONE: NodeId = NodeId(*b"member-0");
const TWO: NodeId = NodeId(*b"member-1");

fn pair() -> (Transport, Transport) {
    let (mut one, mut two) = (Transport::new(ONE), Transport::new(TWO));
    for (at, transport) in [&mut one, &mut two].into_iter().enumerate() {
        let subscriptions = transport.add(GROUP, "S-R3F-x", &mut Rng::from_u64(at as u64)).unwrap();
        assert_eq!(subscriptions.len(), 9);
    }
    (one, two)
}

fn message() -> impl Strategy<Value = Message> {
    let number = || 0..1u64 << 50;
    let entries = vec(vec(any::<u8>(), 0..20).prop_map(Entry::normal), 0..4);
    prop_oneof![
        (number(), number(), number(), any::<bool>(), any::<bool>()).prop_map(
            |(term, last_term, last_index, pre_vote, transfer)| Message::Vote(VoteRequest {
                term,
                last_term,
                last_index,
                candidate: ONE,
                pre_vote,
                transfer,
            })
        ),
        (number(), any::<[bool; 3]>()).prop_map(|(term, [granted, empty, pre_vote])| Message::VoteReply(
            VoteResponse { term, peer: ONE, granted, empty, pre_vote }
        )),
        (number(), number(), number(), number(), entries).prop_map(
            |(term, commit, index, round, entries)| {
                Message::Append(AppendEntries {
                    leader: ONE,
                    term,
                    commit,
                    previous_term: term / 2,
                    previous_index: index,
                    entries,
                    leader_term: Some(term),
                    extension: Some(AppendExtension { round, sleep: round % 5 == 0 }),
                })
            }
        ),
        (number(), number(), number(), any::<bool>()).prop_map(|(term, index, round, success)| {
            let extension = Some(ResponseExtension { round, ..ResponseExtension::default() });
            Message::AppendReply(AppendResponse { term, index, peer: ONE, success, extension })
        }),
        vec(any::<u8>(), 0..50).prop_map(|data| Message::Proposal(data.into())),
        Just(Message::RemovePeer(TWO)),
    ]
}

proptest! {
    #[test]
    fn a_message_survives_the_way(message in message()) {
        let (mut one, mut two) = pair();
        // An answer needs to know where to: something was heard before.
        let request = VoteRequest {
            term: 1, last_term: 0, last_index: 0, candidate: TWO, pre_vote: true, transfer: false,
        };
        let heard = two.send(GROUP, ONE, &Message::Vote(request)).unwrap();
        one.receive(&heard.subject, heard.reply.as_deref(), &heard.payload).unwrap();
        let sent = one.send(GROUP, TWO, &message).unwrap();
        let arrived = two.receive(&sent.subject, sent.reply.as_deref(), &sent.payload);
        let from = sender(&message);
        prop_assert_eq!(arrived, Ok(Arrival { group: GROUP, message, from }));
    }

    #[test]
    fn whatever_arrives_is_a_message_or_an_error(
        kind in prop::sample::select(vec!["V", "AE", "P", "RP", "R", "CR", "CP", "X", ""]),
        name in prop::sample::select(vec!["S-R3F-x", "S-R3F-x.member-1", "S-R3F-x.member-1.y", "other", "", "."]),
        reply in option::of("[$.a-zA-Z]{0,12}"),
        payload in vec(any::<u8>(), 0..90),
    ) {
        let (_, mut two) = pair();
        let _ = two.receive(&format!("$NRG.{kind}.{name}"), reply.as_deref(), &payload.clone().into());
        let _ = two.receive(name, reply.as_deref(), &payload.into());
        let known = two.lines[&GROUP].inboxes.values().all(|inbox| inbox.starts_with("$NRG.R."));
        prop_assert!(known, "answers go to inboxes of members alone");
    }
}

#[test]
fn a_group_with_a_member_of_the_reference_is_refused_and_says_why() {
    let (mut one, _) = pair();
    let request = VoteRequest {
        term: 1,
        last_term: 0,
        last_index: 0,
        candidate: TWO,
        pre_vote: false,
        transfer: false,
    };
    let mut bytes = Vec::new();
    request.encode(&mut bytes);
    let refused = one.receive("$NRG.V.S-R3F-x", Some("$NRG.R.abcdefgh"), &bytes.clone().into()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "group S-R3F-x: a member speaks to all at once, as the Go server does; all members have to be natrix servers"
    );
    assert_eq!(one.refusal(GROUP), Some(refused.clone()));
    assert_eq!(one.send(GROUP, TWO, &Message::Vote(request)), Err(refused), "nothing is said to it either");
    let (mut one, _) = pair();
    assert!(one.receive("$NRG.V.S-R3F-x.member-0", None, &bytes.into()).is_ok());
    let append = AppendEntries {
        leader: TWO,
        term: 1,
        commit: 0,
        previous_term: 0,
        previous_index: 0,
        entries: Vec::new(),
        leader_term: None,
        extension: None,
    };
    let mut bytes = Vec::new();
    append.encode(&mut bytes).unwrap();
    let refused = one.receive("$NRG.AE.S-R3F-x.member-0", None, &bytes.into());
    assert!(matches!(refused, Err(TransportError::Foreign { .. })), "{refused:?}");
}

#[test]
fn names_that_are_no_tokens_are_refused() {
    let mut one = Transport::new(ONE);
    for name in ["", "a.b", "a b", "*", ">", "a\0"] {
        assert!(one.add(GROUP, name, &mut Rng::from_u64(1)).is_err(), "{name:?}");
    }
}

/// Three hosts, their transports, and a router that knows who subscribes to what.
struct Cluster {
    hosts: Vec<Host>,
    disks: Vec<InstantDisk>,
    transports: Vec<Transport>,
    subscriptions: BTreeMap<String, Vec<usize>>,
    wire: VecDeque<(usize, Publication)>,
    applied: [u64; 3],
    now: Instant,
}

impl Cluster {
    fn new() -> Self {
        let names = [*b"member-0", *b"member-1", *b"member-2"].map(NodeId);
        let root = FilePath::root();
        let config = HostConfig {
            journal: journal::Config::new(root.join("journal")),
            store: StoreConfig::new(root.join("raft")),
            witness: OwnerId(1),
            vouch_after: Duration::from_secs(1),
        };
        let spec = |id| GroupSpec {
            owner: GROUP,
            id,
            config: Config::default(),
            members: Membership::new(names),
            expected: false,
        };
        let mut cluster = Cluster {
            hosts: names
                .into_iter()
                .enumerate()
                .map(|(at, id)| {
                    Host::open(config.clone(), [spec(id)], Rng::from_u64(at as u64), Instant::ZERO)
                })
                .collect(),
            disks: vec![InstantDisk::default(); 3],
            transports: names.into_iter().map(Transport::new).collect(),
            subscriptions: BTreeMap::new(),
            wire: VecDeque::new(),
            applied: [0; 3],
            now: Instant::ZERO,
        };
        for at in 0..3 {
            let mut rng = Rng::from_u64(10 + at as u64);
            for subject in cluster.transports[at].add(GROUP, "g", &mut rng).unwrap() {
                cluster.subscriptions.entry(subject).or_default().push(at);
            }
            cluster.drain(at);
        }
        cluster
    }

    fn drain(&mut self, at: usize) {
        let now = self.now;
        while let Some(output) = self.hosts[at].poll_output() {
            match output {
                HostOutput::Disk(submission) => {
                    let completion = self.disks[at].execute(submission);
                    self.hosts[at].handle(now, HostInput::Disk(completion));
                }
                HostOutput::Found { group, .. } => self.hosts[at].start(now, group, 0),
                HostOutput::Group(group, Output::Send { to, message }) => {
                    let publication = self.transports[at].send(group, to, &message).unwrap();
                    self.wire.push_back((at, publication));
                }
                HostOutput::Group(_, Output::Apply(entries)) => {
                    self.applied[at] = entries.last().map_or(0, |entry| entry.index);
                    let applied = self.applied[at];
                    self.hosts[at].act(now, GROUP, |group, now| group.applied_through(now, applied));
                }
                _ => {}
            }
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        for at in 0..3 {
            self.hosts[at].handle(self.now, HostInput::Tick);
            self.drain(at);
        }
        while let Some((_, sent)) = self.wire.pop_front() {
            for at in self.subscriptions.get(&sent.subject).cloned().unwrap_or_default() {
                let arrived =
                    self.transports[at].receive(&sent.subject, sent.reply.as_deref(), &sent.payload);
                let Arrival { group, message, .. } = arrived.unwrap();
                self.hosts[at].handle(self.now, HostInput::Message { group, message });
                self.drain(at);
            }
        }
    }

    fn leader(&self) -> Option<usize> {
        self.hosts.iter().position(|host| host.group(GROUP).is_some_and(Group::is_leader))
    }
}

#[test]
fn three_hosts_agree_over_subjects() {
    let mut cluster = Cluster::new();
    for _ in 0..300 {
        cluster.pass(10);
    }
    let leader = cluster.leader().expect("somebody leads");
    for _ in 0..20 {
        let (now, data) = (cluster.now, Bytes::from_static(b"entry"));
        let proposed = cluster.hosts[leader].act(now, GROUP, |group, now| group.propose(now, data));
        assert!(matches!(proposed, Some(Ok(_))));
        cluster.drain(leader);
        cluster.pass(10);
    }
    (0..20).for_each(|_| cluster.pass(10));
    let last = cluster.hosts[leader].group(GROUP).unwrap().log().last().index;
    assert!(last >= 21);
    assert_eq!(cluster.applied, [last; 3]);
}
