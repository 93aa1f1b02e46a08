//! Subjects and who is interested in them: tokens, validity, wildcards, transforms, and the [`Sublist`].
//!
//! A subject is bytes, split at `.` into tokens. A token that is exactly `*` stands for any one token, a last
//! token that is exactly `>` for one or more; `foo*` and `>x` are ordinary tokens. A subject without such tokens
//! is *literal*. Messages are published to literal subjects, and subscriptions may have wildcards.
//!
//! This room knows names and matching only: no connection, account or permission. Bytes need not be UTF-8,
//! except where [`is_valid_utf8_subject`] says so.

mod list;
mod matching;
mod sublist;
mod tokens;
mod transform;
mod trie;
mod validity;

pub use list::SubjectList;
pub use matching::{is_subset_match, matches_literal, subjects_collide};
pub use sublist::{MatchResult, QueueGroup, QueueMember, Sublist, SublistEntry, SublistError, SublistStats};
pub use tokens::{has_wildcard, is_literal, token_at, token_count, tokens};
pub use transform::{DestinationError, SubjectTransform, TransformError, validate_mapping};
pub use validity::{
    is_valid_literal_subject, is_valid_publish_subject, is_valid_subject, is_valid_utf8_subject,
};
