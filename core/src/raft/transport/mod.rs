//! Members' messages over NATS subjects, in the system account.
//!
//! A [`Transport`] turns what a group sends into a subject, a reply subject and bytes, and what arrives on its
//! [subscriptions](Transport::add) back into a message for a group. It owns no connection.
//!
//! | said to one member | on | answers go to |
//! |---|---|---|
//! | vote and pre-vote requests | `$NRG.V.<group>.<member>` | the candidate's inbox |
//! | entries, heartbeats, pieces of snapshots | `$NRG.AE.<group>.<member>` | the leader's inbox |
//! | answers to both | `$NRG.R.<inbox>`, as the request said | |
//! | forwarded proposals | `$NRG.P.<group>.<member>` | |
//! | forwarded removals | `$NRG.RP.<group>.<member>` | |
//!
//! Differs: in the reference requests go to all members at once, on the subject without a member; natrix's leader says to each
//! what that one lacks. So on the subjects without a member only members of the reference speak. They are listened to for
//! that: a group in which one is heard is refused, and so is one whose messages lack natrix's extension. Catch-up subjects
//! (`$NRG.CR.`, `$NRG.CP.`) aren't used, as entries arrive in one way only.
//!
//! # Invariants
//!
//! - Whatever arrives is a message, or an error that says why it isn't; nothing is allocated for what bytes claim.
//! - An answer goes where the one that is answered said, and only below `$NRG.R.`.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::group::Message;
use super::wire::{GroupSubjects, NodeId, SubjectKind, WireError, inbox};
use crate::rng::Rng;
use crate::storage::OwnerId;

/// How many members' inboxes are known of a group at most: more than a group has members.
const INBOXES: usize = 128;

/// Why a message wasn't taken, or can't be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The name can't be part of a subject.
    #[error("{0:?} can't name a group")]
    Name(String),
    /// The subject is none on which a member of ours is spoken to.
    #[error("nobody here is spoken to on {0:?}")]
    Subject(String),
    /// The group isn't known.
    #[error("no such group")]
    Group,
    /// The bytes are no message.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// Nothing was heard of that member yet that an answer could go to.
    #[error("no inbox of {0} is known")]
    Inbox(NodeId),
    /// A member speaks that is no natrix server, or one of a version that has not natrix's extension: such groups don't work.
    #[error("group {group}: {why}; all members have to be natrix servers")]
    Foreign {
        /// The group.
        group: String,
        /// How that is known.
        why: &'static str,
    },
}

/// Something to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// On which subject.
    pub subject: String,
    /// Where answers go, if there are any.
    pub reply: Option<String>,
    /// What.
    pub payload: Bytes,
}

/// Something that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// For which group's member.
    pub group: OwnerId,
    /// What.
    pub message: Message,
    /// Who says that it is his; `None` where the message doesn't say.
    pub from: Option<NodeId>,
}

#[derive(Debug)]
struct Line {
    name: String,
    subjects: GroupSubjects,
    inbox: String,
    /// Where answers to the others go.
    inboxes: BTreeMap<NodeId, String>,
    /// Why the group is refused.
    foreign: Option<&'static str>,
}

/// The subjects of all groups that have a member on this node.
#[derive(Debug)]
pub struct Transport {
    node: NodeId,
    lines: BTreeMap<OwnerId, Line>,
    names: BTreeMap<String, OwnerId>,
    inboxes: BTreeMap<String, OwnerId>,
}

impl Transport {
    /// Makes one for the node of that name.
    pub fn new(node: NodeId) -> Self {
        Transport { node, lines: BTreeMap::new(), names: BTreeMap::new(), inboxes: BTreeMap::new() }
    }

    /// Adds a group; returns the subjects to subscribe to.
    ///
    /// # Errors
    ///
    /// [`TransportError::Name`] if the name has something in it that a token of a subject can't have.
    pub fn add(&mut self, group: OwnerId, name: &str, rng: &mut Rng) -> Result<Vec<String>, TransportError> {
        let good = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b".*>".contains(&byte))
        };
        if !good(name) || !good(&self.node.to_string()) {
            return Err(TransportError::Name(name.to_owned()));
        }
        self.remove(group);
        let subjects = GroupSubjects::new(name);
        let inbox = inbox(rng, SubjectKind::Reply);
        let mut subscriptions = vec![inbox.clone()];
        for subject in [&subjects.vote, &subjects.append, &subjects.proposal, &subjects.remove_peer] {
            subscriptions.push(subject.clone());
            subscriptions.push(format!("{subject}.{}", self.node));
        }
        self.names.insert(name.to_owned(), group);
        self.inboxes.insert(inbox.clone(), group);
        let (name, inboxes) = (name.to_owned(), BTreeMap::new());
        self.lines.insert(group, Line { name, subjects, inbox, inboxes, foreign: None });
        Ok(subscriptions)
    }

    /// Removes a group.
    pub fn remove(&mut self, group: OwnerId) {
        if let Some(line) = self.lines.remove(&group) {
            self.names.remove(&line.name);
            self.inboxes.remove(&line.inbox);
        }
    }

    /// Returns why a group is refused, if it is.
    pub fn refusal(&self, group: OwnerId) -> Option<TransportError> {
        let line = self.lines.get(&group)?;
        line.foreign.map(|why| TransportError::Foreign { group: line.name.clone(), why })
    }

    /// Turns what a group's member sends into what is to be published.
    ///
    /// # Errors
    ///
    /// [`TransportError`]; messages may be lost, so nothing has to be done about it.
    pub fn send(&self, group: OwnerId, to: NodeId, message: &Message) -> Result<Publication, TransportError> {
        let line = self.lines.get(&group).ok_or(TransportError::Group)?;
        if let Some(refused) = self.refusal(group) {
            return Err(refused);
        }
        let directed = |subject: &String| format!("{subject}.{to}");
        let (subject, answered) = match message.subject() {
            SubjectKind::Vote => (directed(&line.subjects.vote), true),
            SubjectKind::Append => (directed(&line.subjects.append), true),
            SubjectKind::Proposal => (directed(&line.subjects.proposal), false),
            SubjectKind::RemovePeer => (directed(&line.subjects.remove_peer), false),
            SubjectKind::Reply | SubjectKind::CatchUp | SubjectKind::CatchUpProgress => {
                (line.inboxes.get(&to).cloned().ok_or(TransportError::Inbox(to))?, false)
            }
        };
        let mut payload = Vec::new();
        message.encode(&mut payload)?;
        Ok(Publication { subject, reply: answered.then(|| line.inbox.clone()), payload: payload.into() })
    }

    /// Takes what arrived on one of the subscriptions.
    ///
    /// # Errors
    ///
    /// [`TransportError`] if it is nothing for a member here. [`TransportError::Foreign`] is for the operator, too.
    pub fn receive(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        payload: &Bytes,
    ) -> Result<Arrival, TransportError> {
        let nobody = || TransportError::Subject(subject.to_owned());
        let (kind, name) = SubjectKind::parse(subject).ok_or_else(nobody)?;
        let (group, directed) = match kind {
            SubjectKind::Reply => (self.inboxes.get(subject), true),
            SubjectKind::CatchUp | SubjectKind::CatchUpProgress => (None, true),
            _ => match name.split_once('.') {
                Some((name, member)) if member == self.node.to_string() => (self.names.get(name), true),
                Some(_) => (None, true),
                None => (self.names.get(name), false),
            },
        };
        let group = *group.ok_or_else(nobody)?;
        let message = Message::decode(kind, payload)?;
        let line = self.lines.get_mut(&group).ok_or(TransportError::Group)?;
        if line.foreign.is_none() {
            line.foreign = foreign(&message, directed);
        }
        if let Some(why) = line.foreign {
            return Err(TransportError::Foreign { group: line.name.clone(), why });
        }
        let from = sender(&message);
        if let (Some(from), Some(reply)) = (from, reply.filter(|reply| is_inbox(reply))) {
            let room = line.inboxes.len() < INBOXES || line.inboxes.contains_key(&from);
            if room && line.inboxes.get(&from).is_none_or(|known| known != reply) {
                line.inboxes.insert(from, reply.to_owned());
            }
        }
        Ok(Arrival { group, message, from })
    }
}

/// Returns who a message says that it is from.
fn sender(message: &Message) -> Option<NodeId> {
    match message {
        Message::Vote(request) => Some(request.candidate),
        Message::VoteReply(reply) => Some(reply.peer),
        Message::Append(append) => Some(append.leader),
        Message::AppendReply(reply) => Some(reply.peer),
        Message::Proposal(_) | Message::RemovePeer(_) => None,
    }
}

/// Returns how a message shows that no natrix server has said it.
fn foreign(message: &Message, directed: bool) -> Option<&'static str> {
    match message {
        _ if !directed => Some("a member speaks to all at once, as the Go server does"),
        Message::Append(append) if append.extension.is_none() => {
            Some("a leader's messages lack natrix's extension")
        }
        Message::AppendReply(reply) if reply.extension.is_none() => {
            Some("a member's answers lack natrix's extension")
        }
        _ => None,
    }
}

/// Returns whether answers may go there: to an inbox of members, and nowhere else.
fn is_inbox(subject: &str) -> bool {
    let token = subject.strip_prefix("$NRG.R.").unwrap_or_default();
    !token.is_empty() && token.len() <= 64 && token.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
