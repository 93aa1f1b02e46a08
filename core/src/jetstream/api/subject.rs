//! What an API subject asks for, and which names streams and consumers may have.

use smallvec::SmallVec;

use super::error::{ApiError, ErrorKind};
use crate::subject::{subjects_collide, token_at};

/// What every API subject starts with.
pub const PREFIX: &str = "$JS.API.";
/// The longest name of a stream or consumer, in bytes.
pub const MAX_NAME_LEN: usize = 255;

/// A request, by its subject.
///
/// Source: nats-server `server/jetstream_api.go`, the constants `JSApi*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names of the fields say it all: names as they stand in the subject.
pub enum ApiSubject<'a> {
    AccountInfo,
    StreamCreate {
        stream: &'a str,
    },
    StreamUpdate {
        stream: &'a str,
    },
    StreamNames,
    StreamList,
    StreamInfo {
        stream: &'a str,
    },
    StreamDelete {
        stream: &'a str,
    },
    StreamPurge {
        stream: &'a str,
    },
    StreamSnapshot {
        stream: &'a str,
    },
    StreamRestore {
        stream: &'a str,
    },
    StreamPeerRemove {
        stream: &'a str,
    },
    StreamPeerEvacuate {
        stream: &'a str,
    },
    StreamCancelMove {
        stream: &'a str,
    },
    StreamLeaderStepDown {
        stream: &'a str,
    },
    MessageGet {
        stream: &'a str,
    },
    MessageDelete {
        stream: &'a str,
    },
    /// A get that is answered with the message itself; with a subject, for the last message of it.
    DirectGet {
        stream: &'a str,
        last_by_subject: Option<&'a str>,
    },
    ConsumerCreate {
        form: ConsumerCreateForm,
        stream: &'a str,
        consumer: &'a str,
        filter: &'a str,
    },
    ConsumerNames {
        stream: &'a str,
    },
    ConsumerList {
        stream: &'a str,
    },
    ConsumerInfo {
        stream: &'a str,
        consumer: &'a str,
    },
    ConsumerDelete {
        stream: &'a str,
        consumer: &'a str,
    },
    ConsumerPause {
        stream: &'a str,
        consumer: &'a str,
    },
    ConsumerUnpin {
        stream: &'a str,
        consumer: &'a str,
    },
    ConsumerReset {
        stream: &'a str,
        consumer: &'a str,
    },
    ConsumerLeaderStepDown {
        stream: &'a str,
        consumer: &'a str,
    },
    MessageNext {
        stream: &'a str,
        consumer: &'a str,
    },
    MetaLeaderStepDown,
    MetaRescue,
    ServerRemove,
    ServerEvacuate,
    AccountPurge {
        account: &'a str,
    },
    AccountStreamMove {
        account: &'a str,
        stream: &'a str,
    },
    AccountStreamCancelMove {
        account: &'a str,
        stream: &'a str,
    },
}

/// The forms of the subject that a consumer is created by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerCreateForm {
    /// `CONSUMER.CREATE.STREAM`: the old one, for consumers that go away.
    Ephemeral,
    /// `CONSUMER.DURABLE.CREATE.STREAM.CONSUMER`: the old one, for consumers that stay.
    Durable,
    /// `CONSUMER.CREATE.STREAM.CONSUMER` with the filter behind it or not.
    Named,
}

impl<'a> ApiSubject<'a> {
    /// Reads a subject that starts with [`PREFIX`]; `None` if it is no request, which the reference doesn't answer.
    ///
    /// Differs: a name that is no text makes it none; the reference says that there is no stream of that name.
    pub fn parse(subject: &'a [u8]) -> Option<Self> {
        let rest = std::str::from_utf8(subject).ok()?.strip_prefix(PREFIX)?;
        let tokens: SmallVec<[&'a str; 8]> = rest.split('.').collect();
        // What follows a request's own tokens, dots included.
        let behind = |count: usize| {
            let skipped: usize = tokens.iter().take(count).map(|token| token.len() + 1).sum();
            rest.get(skipped..).filter(|rest| !rest.is_empty())
        };
        Some(match *tokens.as_slice() {
            ["INFO"] => ApiSubject::AccountInfo,
            ["STREAM", "NAMES"] => ApiSubject::StreamNames,
            ["STREAM", "LIST"] => ApiSubject::StreamList,
            ["STREAM", verb, stream] => match verb {
                "CREATE" => ApiSubject::StreamCreate { stream },
                "UPDATE" => ApiSubject::StreamUpdate { stream },
                "INFO" => ApiSubject::StreamInfo { stream },
                "DELETE" => ApiSubject::StreamDelete { stream },
                "PURGE" => ApiSubject::StreamPurge { stream },
                "SNAPSHOT" => ApiSubject::StreamSnapshot { stream },
                "RESTORE" => ApiSubject::StreamRestore { stream },
                "CANCEL_MOVE" => ApiSubject::StreamCancelMove { stream },
                _ => return None,
            },
            ["STREAM", "MSG", "GET", stream] => ApiSubject::MessageGet { stream },
            ["STREAM", "MSG", "DELETE", stream] => ApiSubject::MessageDelete { stream },
            ["STREAM", "PEER", "REMOVE", stream] => ApiSubject::StreamPeerRemove { stream },
            ["STREAM", "PEER", "EVACUATE", stream] => ApiSubject::StreamPeerEvacuate { stream },
            ["STREAM", "LEADER", "STEPDOWN", stream] => ApiSubject::StreamLeaderStepDown { stream },
            ["DIRECT", "GET", stream] => ApiSubject::DirectGet { stream, last_by_subject: None },
            ["DIRECT", "GET", stream, ..] => {
                ApiSubject::DirectGet { stream, last_by_subject: Some(behind(3)?) }
            }
            ["CONSUMER", "CREATE", stream] => ApiSubject::ConsumerCreate {
                form: ConsumerCreateForm::Ephemeral,
                stream,
                consumer: "",
                filter: "",
            },
            ["CONSUMER", "CREATE", stream, consumer, ..] => ApiSubject::ConsumerCreate {
                form: ConsumerCreateForm::Named,
                stream,
                consumer,
                filter: behind(4).unwrap_or_default(),
            },
            ["CONSUMER", "DURABLE", "CREATE", stream, consumer] => {
                ApiSubject::ConsumerCreate { form: ConsumerCreateForm::Durable, stream, consumer, filter: "" }
            }
            ["CONSUMER", "NAMES", stream] => ApiSubject::ConsumerNames { stream },
            ["CONSUMER", "LIST", stream] => ApiSubject::ConsumerList { stream },
            ["CONSUMER", "MSG", "NEXT", stream, consumer] => ApiSubject::MessageNext { stream, consumer },
            ["CONSUMER", "LEADER", "STEPDOWN", stream, consumer] => {
                ApiSubject::ConsumerLeaderStepDown { stream, consumer }
            }
            ["CONSUMER", verb, stream, consumer] => match verb {
                "INFO" => ApiSubject::ConsumerInfo { stream, consumer },
                "DELETE" => ApiSubject::ConsumerDelete { stream, consumer },
                "PAUSE" => ApiSubject::ConsumerPause { stream, consumer },
                "UNPIN" => ApiSubject::ConsumerUnpin { stream, consumer },
                "RESET" => ApiSubject::ConsumerReset { stream, consumer },
                _ => return None,
            },
            ["META", "LEADER", "STEPDOWN"] => ApiSubject::MetaLeaderStepDown,
            ["META", "RESCUE"] => ApiSubject::MetaRescue,
            ["SERVER", "REMOVE"] => ApiSubject::ServerRemove,
            ["SERVER", "EVACUATE"] => ApiSubject::ServerEvacuate,
            ["ACCOUNT", "PURGE", account] => ApiSubject::AccountPurge { account },
            ["ACCOUNT", "STREAM", "MOVE", account, stream] => {
                ApiSubject::AccountStreamMove { account, stream }
            }
            ["ACCOUNT", "STREAM", "CANCEL_MOVE", account, stream] => {
                ApiSubject::AccountStreamCancelMove { account, stream }
            }
            _ => return None,
        })
    }

    /// Returns the stream that is asked about, if it is one.
    pub fn stream(&self) -> Option<&'a str> {
        use ApiSubject::*;
        match *self {
            StreamCreate { stream }
            | StreamUpdate { stream }
            | StreamInfo { stream }
            | StreamDelete { stream }
            | StreamPurge { stream }
            | StreamSnapshot { stream }
            | StreamRestore { stream }
            | StreamPeerRemove { stream }
            | StreamPeerEvacuate { stream }
            | StreamCancelMove { stream }
            | StreamLeaderStepDown { stream }
            | MessageGet { stream }
            | MessageDelete { stream }
            | DirectGet { stream, .. }
            | ConsumerCreate { stream, .. }
            | ConsumerNames { stream }
            | ConsumerList { stream }
            | ConsumerInfo { stream, .. }
            | ConsumerDelete { stream, .. }
            | ConsumerPause { stream, .. }
            | ConsumerUnpin { stream, .. }
            | ConsumerReset { stream, .. }
            | ConsumerLeaderStepDown { stream, .. }
            | MessageNext { stream, .. }
            | AccountStreamMove { stream, .. }
            | AccountStreamCancelMove { stream, .. } => Some(stream),
            AccountInfo
            | StreamNames
            | StreamList
            | MetaLeaderStepDown
            | MetaRescue
            | ServerRemove
            | ServerEvacuate
            | AccountPurge { .. } => None,
        }
    }

    /// Tells whether it only asks, and so waits behind those that change something.
    pub fn is_info(&self) -> bool {
        use ApiSubject::*;
        matches!(
            self,
            AccountInfo
                | StreamNames
                | StreamList
                | StreamInfo { .. }
                | ConsumerNames { .. }
                | ConsumerList { .. }
                | ConsumerInfo { .. }
        )
    }

    /// Tells whether only the system account may ask it.
    pub fn is_for_system_account(&self) -> bool {
        use ApiSubject::*;
        matches!(
            self,
            MetaLeaderStepDown
                | MetaRescue
                | ServerRemove
                | ServerEvacuate
                | AccountPurge { .. }
                | AccountStreamMove { .. }
                | AccountStreamCancelMove { .. }
        )
    }
}

/// Returns what a subject under a domain's prefix (`$JS.hub.API.STREAM.NAMES`) is without it, if it is for this domain.
///
/// Source: nats-server `server/jetstream_api.go`, `generateJSMappingTable`.
pub fn without_domain(subject: &[u8], domain: &str) -> Option<Vec<u8>> {
    let rest = subject.strip_prefix(b"$JS.")?.strip_prefix(domain.as_bytes())?.strip_prefix(b".API.")?;
    if domain.is_empty() {
        return None;
    }
    match token_at(rest, 1) {
        b"INFO" if rest.len() == 4 => {}
        b"STREAM" | b"CONSUMER" | b"DIRECT" | b"META" | b"SERVER" | b"ACCOUNT" if rest.contains(&b'.') => {}
        b"$KV" | b"$OBJ" if rest.contains(&b'.') => return Some(rest.to_vec()),
        _ => return None,
    }
    Some([PREFIX.as_bytes(), rest].concat())
}

/// Tells whether a name is one that a stream or a consumer may have, but for its length.
///
/// Source: nats-server `server/jetstream.go`, `isValidAssetName`.
pub fn is_valid_asset_name(name: &str) -> bool {
    !name.is_empty() && !name.contains([' ', '\t', '\r', '\n', '\x0c', '.', '*', '>', '\\', '/'])
}

/// Checks that the name of a stream in a subject is the one of the request, and has no path separators.
///
/// # Errors
///
/// [`ErrorKind::StreamMismatch`], [`ErrorKind::StreamNameContainsPathSeparators`].
pub fn check_stream_name(subject: &str, request: &str) -> Result<(), ApiError> {
    if subject != request {
        return Err(ErrorKind::StreamMismatch.error());
    }
    match has_path_separator(subject) {
        true => Err(ErrorKind::StreamNameContainsPathSeparators.error()),
        false => Ok(()),
    }
}

/// Tells whether a name would leave its folder.
pub(in crate::jetstream) fn has_path_separator(name: &str) -> bool {
    name.contains(['\\', '/'])
}

/// Tells whether two streams with these subjects would store the same messages.
pub fn subjects_overlap(one: &[String], other: &[String]) -> bool {
    one.iter().any(|a| other.iter().any(|b| subjects_collide(a.as_bytes(), b.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(subject: &str) -> String {
        match ApiSubject::parse(subject.as_bytes()) {
            Some(parsed) => {
                let marks = [(parsed.is_info(), " info"), (parsed.is_for_system_account(), " system")];
                let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
                format!("{subject}{marks}\n  {parsed:?}\n")
            }
            None => format!("{subject}\n  none\n"),
        }
    }

    #[test]
    fn subjects_are_read() {
        let subjects = [
            "INFO",
            "STREAM.NAMES",
            "STREAM.LIST",
            "STREAM.CREATE.S",
            "STREAM.UPDATE.S",
            "STREAM.INFO.S",
            "STREAM.DELETE.S",
            "STREAM.PURGE.S",
            "STREAM.SNAPSHOT.S",
            "STREAM.RESTORE.S",
            "STREAM.CANCEL_MOVE.S",
            "STREAM.MSG.GET.S",
            "STREAM.MSG.DELETE.S",
            "STREAM.PEER.REMOVE.S",
            "STREAM.PEER.EVACUATE.S",
            "STREAM.LEADER.STEPDOWN.S",
            "DIRECT.GET.S",
            "DIRECT.GET.S.a.b",
            "CONSUMER.CREATE.S",
            "CONSUMER.CREATE.S.c",
            "CONSUMER.CREATE.S.c.a.>",
            "CONSUMER.DURABLE.CREATE.S.c",
            "CONSUMER.NAMES.S",
            "CONSUMER.LIST.S",
            "CONSUMER.INFO.S.c",
            "CONSUMER.DELETE.S.c",
            "CONSUMER.PAUSE.S.c",
            "CONSUMER.UNPIN.S.c",
            "CONSUMER.RESET.S.c",
            "CONSUMER.LEADER.STEPDOWN.S.c",
            "CONSUMER.MSG.NEXT.S.c",
            "META.LEADER.STEPDOWN",
            "META.RESCUE",
            "SERVER.REMOVE",
            "SERVER.EVACUATE",
            "ACCOUNT.PURGE.A",
            "ACCOUNT.STREAM.MOVE.A.S",
            "ACCOUNT.STREAM.CANCEL_MOVE.A.S",
            "INFO.x",
            "STREAM",
            "STREAM.CREATE",
            "STREAM.CREATE.S.x",
            "STREAM.FOO.S",
            "CONSUMER.DURABLE.CREATE.S",
            "CONSUMER.FOO.S.c",
            "CONSUMER.NAMES.S.c",
            "DIRECT.GET.S.",
            "DIRECT.GET",
            "",
        ];
        let shown: String = subjects.iter().map(|subject| show(&format!("$JS.API.{subject}"))).collect();
        insta::assert_snapshot!(shown);
        assert_eq!(ApiSubject::parse(b"$JS.FOO.INFO"), None);
        assert_eq!(ApiSubject::parse(b"$JS.API.STREAM.INFO.\xff"), None);
    }

    #[test]
    fn a_domain_is_a_prefix_of_its_own() {
        let show = |subject: &str| {
            without_domain(subject.as_bytes(), "hub").map(|subject| String::from_utf8(subject).unwrap())
        };
        let some = |subject: &str| Some(subject.to_owned());
        assert_eq!(show("$JS.hub.API.INFO"), some("$JS.API.INFO"));
        assert_eq!(show("$JS.hub.API.STREAM.INFO.S"), some("$JS.API.STREAM.INFO.S"));
        assert_eq!(show("$JS.hub.API.$KV.bucket.key"), some("$KV.bucket.key"));
        assert_eq!(show("$JS.hub.API.$OBJ.b.C.x"), some("$OBJ.b.C.x"));
        for other in [
            "$JS.API.INFO",
            "$JS.hu.API.INFO",
            "$JS.hub.API.INFO.x",
            "$JS.hub.API.STREAM",
            "$JS.hub.API.x.y",
            "$JS.hub.API.",
        ] {
            assert_eq!(show(other), None, "{other}");
        }
        assert_eq!(without_domain(b"$JS..API.INFO", ""), None);
    }

    #[test]
    fn names_are_checked() {
        for good in ["a", "ORDERS-1", "größe", "a_b$c"] {
            assert!(is_valid_asset_name(good), "{good}");
        }
        for bad in ["", "a b", "a.b", "a*", ">", "a/b", "a\\b", "a\tb", "a\nb", "a\rb", "a\x0cb"] {
            assert!(!is_valid_asset_name(bad), "{bad:?}");
        }
        assert_eq!(check_stream_name("a", "a"), Ok(()));
        assert_eq!(check_stream_name("a", "b"), Err(ErrorKind::StreamMismatch.error()));
        assert_eq!(check_stream_name("a/", "a/"), Err(ErrorKind::StreamNameContainsPathSeparators.error()));
    }

    #[test]
    fn streams_overlap_if_a_message_could_be_in_both() {
        let list = |subjects: &str| subjects.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(subjects_overlap(&list("a b.*"), &list("c b.x")));
        assert!(!subjects_overlap(&list("a b.*"), &list("c b.x.y")));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(subject in r"(\$JS\.)?(API\.)?[A-Z.*>a]{0,40}") {
            let _ = ApiSubject::parse(subject.as_bytes());
            let _ = without_domain(subject.as_bytes(), "A");
        }
    }
}
