//! A small language for groups: nodes, links, disks, and what is expected of them.
//!
//! One command a line; `#` begins a comment. Nodes are called by a letter. Messages take a millisecond, syncs too. A
//! command that expects something waits for it, three seconds at most; `never` waits that long to see that it doesn't
//! happen, `is` doesn't wait.
//!
//! ```text
//! group a b c | spare d          nodes that are members, that are not (yet)
//! run 500ms | campaign a         time passes; a node stands for election
//! elect a                        a node stands for election and wins
//! propose [a] x [y ..]           the leader, or a node that must take it, proposes
//! refuse a error                 a proposal there is refused; with what
//! forward a x                    a proposal by way of a node
//! cut a b | cut a>b | isolate a  no messages between two nodes, in one direction, to and from one
//! drop a>b vote|append|reply     messages of a kind are lost
//! heal                           all messages arrive again
//! hold a | release a             syncs don't end, or do again
//! crash a [keep] | start a       down, with the loss of what wasn't synced or without; and up again
//! damage a log N|snapshot|vote|all   while it is down: the log is lost from index N on, and so on
//! fail a                         a write fails
//! snapshot a                     the application hands in a snapshot
//! pause a | resume a             applying
//! observer a on|off, hole a on|off
//! suspect a b | trust a b        the node a doesn't hear the node b, whatever groups they share, or does again
//! add d | remove b | replace a b d   at the leader; `!` behind the node or list: must be refused
//! transfer b | stepdown [!]
//! read | expect read             at the leader
//! expect WHAT | never WHAT | is WHAT, where WHAT is
//!   leader a | no leader | role a follower | follows b a
//!   commit a N | last a N | term a N | term a > N | log a TERM:INDEX | base a N | doubt a on|off
//!   applied a x y z ..           what the application has, the last of it
//!   members a b c                by the leader's log
//!   same                         all members have the leader's log, applied
//!   removed a | quorum a lost|there | leading a | vote a b | asleep a b c
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::raft::group::{
    Config, Group, HardState, Message, Output, ReadId, Record, Recovered, RequestError, Role, Snapshot,
    Start, WriteId,
};
use crate::raft::log::{LogEntry, Place};
use crate::raft::membership::Membership;
use crate::raft::wire::{EntryKind, NodeId};
use crate::rng::Rng;
use crate::time::{Duration, Instant};

const MS: u64 = 1_000_000;

/// What a node's disk holds.
#[derive(Clone, Debug, Default)]
struct Disk {
    state: Option<HardState>,
    base: Place,
    entries: Vec<LogEntry>,
    snapshot: Option<Snapshot>,
    lost: bool,
    vote_lost: bool,
}

impl Disk {
    fn keep(&mut self, record: Record) {
        match record {
            Record::State(state) => {
                self.state = Some(state);
                (self.lost, self.vote_lost) = (false, false);
            }
            Record::Append { entries, .. } => self.entries.extend(entries),
            Record::Truncate { from } => self.entries.retain(|entry| entry.index < from),
            Record::Snapshot(snapshot) => self.snapshot = Some(snapshot),
            Record::Compact { base } => {
                self.entries.retain(|entry| entry.index > base.index);
                self.base = base;
            }
            Record::Reset { base } => {
                self.entries.clear();
                self.base = base;
            }
        }
    }
}

#[derive(Default)]
struct Node {
    group: Option<Group>,
    disk: Disk,
    waiting: VecDeque<(u64, WriteId, Record)>,
    held: bool,
    initial: Membership,
    applied: Vec<String>,
    removed: bool,
    leading: Option<u64>,
    quorum: bool,
    started: bool,
}

struct Script {
    nodes: BTreeMap<char, Node>,
    now: u64,
    wire: VecDeque<(u64, char, char, Message)>,
    cut: BTreeSet<(char, char)>,
    dropped: BTreeSet<(char, char, String)>,
    reads: Vec<u64>,
    line: String,
}

fn id(name: char) -> NodeId {
    NodeId([name as u8; 8])
}

fn name(id: NodeId) -> char {
    char::from(id.0[0])
}

fn letter(word: &str) -> char {
    word.chars().next().expect("a node's letter")
}

/// Runs a script; panics where it isn't as expected.
pub(super) fn run(text: &str) {
    run_with(&Config { keep_entries: 0, chunk_bytes: 4, ..Config::default() }, text);
}

/// Runs a script under other settings.
pub(super) fn run_with(config: &Config, text: &str) {
    let mut script = Script {
        nodes: BTreeMap::new(),
        now: 0,
        wire: VecDeque::new(),
        cut: BTreeSet::new(),
        dropped: BTreeSet::new(),
        reads: Vec::new(),
        line: String::new(),
    };
    for line in text.lines() {
        let command = line.split('#').next().unwrap_or_default().trim();
        if !command.is_empty() {
            script.line = command.to_owned();
            let words: Vec<&str> = command.split_whitespace().collect();
            script.command(config, &words);
        }
    }
}

impl Script {
    fn command(&mut self, config: &Config, words: &[&str]) {
        match words {
            ["group", names @ ..] => {
                let members = Membership::new(names.iter().map(|name| id(letter(name))));
                for name in names {
                    self.create(config, letter(name), members.clone());
                }
            }
            ["spare", names @ ..] => {
                for name in names {
                    self.create(config, letter(name), Membership::default());
                }
            }
            ["run", long] => {
                let long: u64 = long.trim_end_matches("ms").parse().expect("milliseconds");
                self.pass(long * MS);
            }
            ["campaign", node] => self.call(letter(node), |group, now| group.campaign(now).expect("it may")),
            ["elect", node] => {
                let node = letter(node);
                // Those who hear a leader elect nobody else, so the others have to lose patience first.
                self.wait(true, |script| {
                    let leads = script.leader() == Some(node);
                    if !leads && script.now % (150 * MS) == 0 {
                        script.call(node, |group, now| {
                            let _ = group.campaign(now);
                        });
                    }
                    leads
                });
            }
            ["propose", rest @ ..] => self.propose(rest),
            ["refuse", node, error] => {
                let mut result = Ok(());
                self.call(letter(node), |group, now| result = group.propose(now, "no").map(drop));
                let text = format!("{:?}", result.expect_err("a refusal"));
                assert!(text.starts_with(error), "{}: {text}", self.line);
            }
            ["forward", node, data] => {
                let data = (*data).to_owned();
                self.call(letter(node), |group, now| group.forward(now, data).expect("a leader is known"));
            }
            ["crash", node, rest @ ..] => self.crash(letter(node), rest == ["keep"]),
            ["start", node] => self.start(config, letter(node)),
            ["damage", node, what @ ..] => self.damage(letter(node), what),
            ["fail", node] => self.call(letter(node), Group::disk_failed),
            ["hold" | "release", node] => {
                let node = letter(node);
                self.node(node).held = words[0] == "hold";
            }
            ["snapshot", node] => self.snapshot(letter(node)),
            ["pause", node] => self.call(letter(node), |group, _| group.pause_apply()),
            ["resume", node] => self.call(letter(node), |group, _| group.resume_apply()),
            ["observer", node, on] => {
                self.call(letter(node), |group, now| group.set_observer(now, *on == "on"));
            }
            ["suspect", node, other] => {
                self.call(letter(node), |group, now| group.suspect(now, id(letter(other))));
            }
            ["trust", node, other] => {
                self.call(letter(node), |group, now| group.trust(now, id(letter(other))));
            }
            ["hole", node, on] => self.call(letter(node), |group, now| group.set_hole(now, *on == "on")),
            ["add" | "remove" | "replace" | "transfer" | "stepdown", rest @ ..] => {
                self.change(words[0], rest);
            }
            ["read"] => {
                let leader = self.leader().expect("somebody leads");
                self.call(leader, |group, now| group.read(now, ReadId(1)).expect("it leads"));
            }
            ["expect", what @ ..] => self.wait(true, |script| script.holds(what)),
            ["never", what @ ..] => self.wait(false, |script| script.holds(what)),
            ["is", what @ ..] => assert!(self.holds(what), "{}\n{}", self.line, self.tell()),
            _ => self.links(words),
        }
    }

    fn links(&mut self, words: &[&str]) {
        match words {
            ["cut", way] => {
                let (from, to) = way.split_once('>').expect("a>b");
                self.cut.insert((letter(from), letter(to)));
            }
            ["cut", one, other] => {
                self.cut.insert((letter(one), letter(other)));
                self.cut.insert((letter(other), letter(one)));
            }
            ["isolate", node] => {
                let lone = letter(node);
                for other in self.nodes.keys().copied().filter(|other| *other != lone) {
                    self.cut.insert((lone, other));
                    self.cut.insert((other, lone));
                }
            }
            ["drop", way, kind] => {
                let (from, to) = way.split_once('>').expect("a>b");
                self.dropped.insert((letter(from), letter(to), (*kind).to_owned()));
            }
            ["heal"] => {
                self.cut.clear();
                self.dropped.clear();
            }
            _ => panic!("what is {:?}?", self.line),
        }
    }

    fn node(&mut self, name: char) -> &mut Node {
        self.nodes.get_mut(&name).expect("a node of that name")
    }

    fn create(&mut self, config: &Config, name: char, initial: Membership) {
        self.nodes.insert(name, Node { initial, quorum: true, ..Node::default() });
        self.start(config, name);
    }

    fn start(&mut self, config: &Config, name: char) {
        let now = Instant::from_nanos(self.now);
        let rng = Rng::from_u64(self.now ^ name as u64);
        let node = self.node(name);
        let fresh = !node.started;
        node.started = true;
        let disk = node.disk.clone();
        let applied = node.applied.len() as u64;
        let start = if fresh {
            Start::Fresh { members: node.initial.clone() }
        } else {
            let found = Recovered {
                state: if disk.vote_lost { None } else { Some(disk.state.unwrap_or_default()) },
                snapshot: disk.snapshot,
                base: disk.base,
                entries: disk.entries,
                lost: disk.lost,
                applied,
            };
            Start::Recovered { found: Box::new(found), members: node.initial.clone() }
        };
        node.group = Some(Group::new(id(name), config.clone(), start, rng, now));
        self.call(name, |_, _| {});
    }

    fn crash(&mut self, name: char, keep: bool) {
        let node = self.node(name);
        node.group = None;
        node.leading = None;
        for (_, _, record) in std::mem::take(&mut node.waiting) {
            if keep {
                node.disk.keep(record);
            }
        }
    }

    fn damage(&mut self, name: char, what: &[&str]) {
        let disk = &mut self.node(name).disk;
        match what {
            ["log", from] => {
                let from: u64 = from.parse().expect("an index");
                disk.entries.retain(|entry| entry.index < from);
                disk.lost = true;
            }
            ["snapshot"] => {
                disk.snapshot = None;
                disk.lost = true;
            }
            ["vote"] => {
                disk.state = None;
                disk.vote_lost = true;
            }
            ["all"] => {
                *disk = Disk { lost: true, vote_lost: true, ..Disk::default() };
                let node = self.node(name);
                node.applied.clear();
                node.initial = Membership::default();
            }
            _ => panic!("what is {:?}?", self.line),
        }
    }

    /// The application's state is the list of what it applied, and that is its snapshot.
    fn snapshot(&mut self, name: char) {
        let data = self.node(name).applied.join(" ");
        let index = self.node(name).applied.len() as u64;
        self.call(name, |group, now| group.take_snapshot(now, index, data.into()).expect("it is applied"));
    }

    fn propose(&mut self, words: &[&str]) {
        let named = words
            .first()
            .map(|word| letter(word))
            .filter(|name| words.len() > 1 && words[0].len() == 1 && self.nodes.contains_key(name));
        let data = if named.is_some() { &words[1..] } else { words };
        let node = named.or_else(|| self.leader()).expect("somebody leads");
        for word in data {
            let data = (*word).to_owned();
            self.call(node, |group, now| {
                group.propose(now, data).expect("it leads");
            });
        }
    }

    fn change(&mut self, what: &str, words: &[&str]) {
        let refused = words.last() == Some(&"!");
        let nodes: Vec<NodeId> =
            words.iter().filter(|word| **word != "!").map(|word| id(letter(word))).collect();
        let leader = self.leader().expect("somebody leads");
        let mut result: Result<(), RequestError> = Ok(());
        self.call(leader, |group, now| {
            result = match what {
                "add" => group.add_peer(now, nodes[0]),
                "remove" => group.remove_peer(now, nodes[0]),
                "replace" => group.replace_peers(now, nodes.iter().copied().collect()),
                _ => group.step_down(now, nodes.first().copied()),
            };
        });
        assert_eq!(result.is_err(), refused, "{}: {result:?}\n{}", self.line, self.tell());
    }

    fn call(&mut self, name: char, deed: impl FnOnce(&mut Group, Instant)) {
        let now = self.now;
        let node = self.nodes.get_mut(&name).expect("a node of that name");
        let Some(group) = &mut node.group else { panic!("{name} is down") };
        deed(group, Instant::from_nanos(now));
        let mut sent = Vec::new();
        while let Some(output) = group.poll_output() {
            match output {
                Output::Send { to, message } => sent.push((to, message)),
                Output::Persist { id, record } => node.waiting.push_back((now + MS, id, record)),
                Output::Apply(entries) => {
                    for entry in &entries {
                        assert_eq!(entry.index, node.applied.len() as u64 + 1, "{name} skips");
                        node.applied.push(word_of(entry));
                    }
                    group.applied_through(Instant::from_nanos(now), node.applied.len() as u64);
                }
                Output::Restore(snapshot) => {
                    let text = String::from_utf8(snapshot.data.to_vec()).expect("words");
                    node.applied = text.split(' ').map(str::to_owned).collect();
                    assert_eq!(node.applied.len() as u64, snapshot.place.index);
                }
                Output::Leading { term } => node.leading = Some(term),
                Output::Deposed { .. } => node.leading = None,
                Output::Quorum { present } => node.quorum = present,
                Output::Removed => node.removed = true,
                Output::ReadReady { index, .. } => self.reads.push(index),
                _ => {}
            }
        }
        for (to, message) in sent {
            // What goes over the wire goes as bytes.
            let mut bytes = Vec::new();
            message.encode(&mut bytes).expect("it can be said");
            let heard = Message::decode(message.subject(), &bytes.into()).expect("it can be read");
            assert_eq!(heard, message);
            self.wire.push_back((now + MS, name, self::name(to), heard));
        }
    }

    fn pass(&mut self, long: u64) {
        let until = self.now + long;
        while self.now < until {
            self.step();
        }
    }

    /// A millisecond passes.
    fn step(&mut self) {
        self.now += MS;
        while let Some((_, from, to, message)) = self.wire.pop_front_if(|(at, ..)| *at <= self.now) {
            let kind = match &message {
                Message::Vote(_) => "vote",
                Message::Append(_) => "append",
                _ => "reply",
            };
            let lost = self.cut.contains(&(from, to)) || self.dropped.contains(&(from, to, kind.to_owned()));
            if !lost && self.nodes.get(&to).is_some_and(|node| node.group.is_some()) {
                self.call(to, |group, now| group.handle_message(now, message));
            }
        }
        let names: Vec<char> = self.nodes.keys().copied().collect();
        for name in names {
            let now = self.now;
            let node = self.node(name);
            if node.group.is_none() {
                continue;
            }
            let mut written = None;
            while !node.held
                && let Some((_, id, record)) = node.waiting.pop_front_if(|(at, ..)| *at <= now)
            {
                node.disk.keep(record);
                written = Some(id);
            }
            if let Some(id) = written {
                self.call(name, |group, now| group.persisted(now, id));
            }
            self.call(name, |group, now| {
                if group.poll_timeout() <= now {
                    group.handle_timeout(now);
                }
            });
        }
    }

    fn wait(&mut self, expected: bool, mut holds: impl FnMut(&mut Script) -> bool) {
        for _ in 0..3000 {
            if holds(self) {
                assert!(expected, "{}: it did\n{}", self.line, self.tell());
                return;
            }
            self.step();
        }
        assert!(!expected, "{}: it did not\n{}", self.line, self.tell());
    }

    /// Returns who leads the highest term.
    fn leader(&self) -> Option<char> {
        let groups = self.nodes.iter().filter_map(|(name, node)| Some((name, node.group.as_ref()?)));
        let leaders = groups.filter(|(_, group)| group.is_leader());
        leaders.max_by_key(|(_, group)| group.term()).map(|(name, _)| *name)
    }

    fn holds(&self, what: &[&str]) -> bool {
        let group = |node: &str| self.nodes[&letter(node)].group.as_ref();
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let told = |node: &str| &self.nodes[&letter(node)];
        match what {
            ["leader", node] => self.leader() == Some(letter(node)),
            ["leader"] => self.leader().is_some(),
            ["no", "leader"] => self.leader().is_none(),
            ["role", node, role] => {
                group(node).is_some_and(|group| format!("{:?}", group.role()).eq_ignore_ascii_case(role))
            }
            ["follows", node, leader] => {
                let follows = |group: &Group| {
                    group.role() == Role::Follower && group.leader() == Some(id(letter(leader)))
                };
                group(node).is_some_and(follows)
            }
            ["vote", node, voted] => group(node).is_some_and(|group| group.vote() == Some(id(letter(voted)))),
            ["commit", node, index] => group(node).is_some_and(|group| group.commit() == number(index)),
            ["last", node, index] => {
                group(node).is_some_and(|group| group.log().last().index == number(index))
            }
            ["base", node, index] => {
                group(node).is_some_and(|group| group.log().base().index == number(index))
            }
            ["term", node, ">", term] => group(node).is_some_and(|group| group.term() > number(term)),
            ["term", node, term] => group(node).is_some_and(|group| group.term() == number(term)),
            ["log", node, place] => {
                let (term, index) = place.split_once(':').expect("term:index");
                group(node).is_some_and(|group| group.log().term_at(number(index)) == Some(number(term)))
            }
            ["doubt", node, on] => group(node).is_some_and(|group| group.in_doubt() == (*on == "on")),
            ["applied", node, words @ ..] => {
                let mine = told(node).applied.iter().filter(|word| !word.starts_with('-'));
                let mine: Vec<&str> = mine.map(String::as_str).collect();
                mine.ends_with(words)
            }
            ["members", names @ ..] => {
                let wanted: BTreeSet<NodeId> = names.iter().map(|name| id(letter(name))).collect();
                let leader = self.leader().and_then(|leader| self.nodes[&leader].group.as_ref());
                leader.is_some_and(|group| {
                    !group.members().is_joint()
                        && !group.change_under_way()
                        && *group.members().voters() == wanted
                })
            }
            ["joint"] => {
                let leader = self.leader().and_then(|leader| self.nodes[&leader].group.as_ref());
                leader.is_some_and(|group| group.members().is_joint())
            }
            ["asleep", nodes @ ..] => nodes.iter().all(|node| group(node).is_some_and(Group::is_asleep)),
            ["same"] => self.is_same(),
            ["removed", node] => told(node).removed,
            ["leading", node] => told(node).leading.is_some(),
            ["quorum", node, there] => told(node).quorum == (*there == "there"),
            ["read"] => !self.reads.is_empty(),
            _ => panic!("what is {:?}?", self.line),
        }
    }

    fn is_same(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let node = &self.nodes[&leader];
        let Some(group) = &node.group else { return false };
        let settled = group.commit() == group.log().last().index && group.applied() == group.commit();
        settled
            && group.members().members().all(|member| {
                let other = &self.nodes[&name(member)];
                other.applied == node.applied
                    && other.group.as_ref().is_some_and(|other| other.log().last() == group.log().last())
            })
    }

    fn tell(&self) -> String {
        let mut text = format!("at {} ms:\n", self.now / MS);
        for (name, node) in &self.nodes {
            let Some(group) = &node.group else {
                text += &format!("{name} is down\n");
                continue;
            };
            text += &format!(
                "{name} {:?} term {} vote {:?} leader {:?} last {:?} commit {} applied {:?} members {:?}{}\n",
                group.role(),
                group.term(),
                group.vote().map(self::name),
                group.leader().map(self::name),
                group.log().last(),
                group.commit(),
                node.applied,
                group.members().members().map(self::name).collect::<String>(),
                if group.in_doubt() { " in doubt" } else { "" },
            );
        }
        text
    }
}

/// What the application keeps of an entry: its text, or a dash and the kind.
fn word_of(entry: &LogEntry) -> String {
    match entry.entry.kind {
        EntryKind::Normal => String::from_utf8(entry.entry.data.to_vec()).expect("a word"),
        kind => format!("-{kind:?}"),
    }
}

#[test]
#[should_panic(expected = "expect commit a 9: it did not")]
fn a_script_that_expects_too_much_fails() {
    run("group a b c
         elect a
         expect commit a 9");
}

#[test]
#[should_panic(expected = "never leader a: it did")]
fn a_script_that_rules_out_what_happens_fails() {
    run("group a b c
         campaign a
         never leader a");
}

#[test]
fn time_passes_in_milliseconds() {
    let config = Config { election_min: Duration::from_millis(50), ..Config::default() };
    run_with(
        &Config { election_max: Duration::from_millis(60), ..config },
        "group a
         run 40ms
         is no leader
         run 40ms
         is leader a",
    );
}
