//! Subject transforms: from a matching source subject to a destination made of its tokens.
//!
//! `orders.*.*` to `eu.{{wildcard(2)}}.{{partition(4,1)}}`. Account mappings, imports, and the sources, republish
//! and mirror settings of streams are made of these. A transform holds no state; what is random comes from the
//! caller's generator.
//!
//! A *place holder* is a destination token that is replaced: `$n`, or `{{function(arguments)}}` (`function.rs`).
//! Arguments that name a wildcard count those of the source from one; zero and less mean the source's first token,
//! whatever it is, as in the reference.
//!
//! Source: nats-server `server/subject_transform.go`; error texts are the reference's.

mod function;
#[cfg(test)]
mod tests;

use std::fmt;

use self::function::{Function, PlaceHolder, is_in_braces, parse_place_holder, wildcard_argument};
use super::matching::is_subset_match;
use super::tokens::tokens;
use super::validity::{has_valid_shape, is_valid_literal_subject};
use crate::rng::Rng;

/// Why a transform could not be made or does not apply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    /// A subject is malformed, or source and destination differ in whether they end in `>`.
    #[error("invalid subject")]
    BadSubject,
    /// The source doesn't match.
    #[error("no matching transforms available")]
    NoMatch,
    /// A token of the destination is wrong.
    #[error("{cause}{}", InToken(token))]
    Destination {
        /// The token, or more of the destination; empty if it goes without saying.
        token: String,
        /// What is wrong.
        cause: DestinationError,
    },
}

struct InToken<'a>(&'a str);

impl fmt::Display for InToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " in {}", self.0) }
    }
}

/// What is wrong with a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// It is no subject.
    #[error("invalid mapping destination: invalid transform")]
    InvalidSubject,
    /// A strict transform must use every wildcard of its source, or it could not be reversed.
    #[error("invalid mapping destination: not using all of the token wildcard(s)")]
    NotUsingAllWildcards,
    /// The braces hold no function that is known, or not in its form.
    #[error("invalid mapping destination: unknown function")]
    UnknownFunction,
    /// The source has fewer wildcards.
    #[error("invalid mapping destination: wildcard index out of range")]
    IndexOutOfRange,
    /// Too few arguments.
    #[error("invalid mapping destination: not enough arguments passed to the function")]
    NotEnoughArguments,
    /// An argument is no number, or too large, or no delimiter.
    #[error("invalid mapping destination: function argument is invalid or in the wrong format")]
    InvalidArgument,
    /// Too many arguments.
    #[error("invalid mapping destination: too many arguments passed to the function")]
    TooManyArguments,
    /// A strict transform has a function that can't be reversed.
    #[error(
        "invalid mapping destination: the only mapping function allowed for import transforms is {{{{Wildcard()}}}}"
    )]
    NotSupportedForImport,
}

impl DestinationError {
    fn in_token(self, token: impl Into<String>) -> TransformError {
        TransformError::Destination { token: token.into(), cause: self }
    }
}

/// One piece of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// The last `>`: the rest of the source.
    Rest,
    Function(Function),
}

/// A transform; see the module.
#[derive(Clone, Debug)]
pub struct SubjectTransform {
    source: String,
    destination: String,
    source_tokens: usize,
    pieces: Vec<Piece>,
}

impl SubjectTransform {
    /// Makes the transform from `source`, or `>` if that is empty, to `destination`.
    ///
    /// `None` if the destination is empty: there is nothing to transform to.
    ///
    /// # Errors
    ///
    /// [`TransformError::BadSubject`] or [`TransformError::Destination`].
    pub fn new(source: &str, destination: &str) -> Result<Option<Self>, TransformError> {
        Self::build(source, destination, false)
    }

    /// Makes a transform that can be reversed, as imports need it: with no function but `wildcard`, and with every
    /// wildcard of the source.
    ///
    /// # Errors
    ///
    /// As [`SubjectTransform::new`].
    pub fn new_strict(source: &str, destination: &str) -> Result<Option<Self>, TransformError> {
        Self::build(source, destination, true)
    }

    fn build(source: &str, destination: &str, strict: bool) -> Result<Option<Self>, TransformError> {
        if destination.is_empty() {
            return Ok(None);
        }
        let source = if source.is_empty() { ">" } else { source };
        if !has_valid_shape(source.as_bytes()) || !has_valid_shape(destination.as_bytes()) {
            return Err(TransformError::BadSubject);
        }
        let ends_in_rest = |subject: &str| subject == ">" || subject.ends_with(".>");
        if destination.split('.').any(|token| token == "*")
            || ends_in_rest(source) != ends_in_rest(destination)
        {
            return Err(TransformError::BadSubject);
        }
        let wildcards: Vec<usize> =
            source.split('.').enumerate().filter(|(_, token)| *token == "*").map(|(at, _)| at).collect();
        let is_wild = !wildcards.is_empty() || ends_in_rest(source);

        let mut pieces = Vec::new();
        let mut used = 0;
        for token in destination.split('.') {
            let Some(place_holder) = parse_place_holder(token)? else {
                pieces.push(if token == ">" { Piece::Rest } else { Piece::Literal(token.to_owned()) });
                continue;
            };
            if is_wild && strict && !matches!(place_holder, PlaceHolder::Wildcard(_)) {
                return Err(DestinationError::NotSupportedForImport.in_token(token));
            }
            used += place_holder.indexes().len();
            let function = match place_holder {
                PlaceHolder::Partition { buckets, .. } if !is_wild => {
                    // Without wildcards there is nothing to choose from: the whole subject is hashed.
                    Function::Partition { buckets, tokens: Vec::new() }
                }
                PlaceHolder::Random { .. } | PlaceHolder::Partition { .. } => {
                    place_holder.resolve(token, &wildcards)?
                }
                _ if !is_wild => return Err(DestinationError::IndexOutOfRange.in_token(token)),
                _ => place_holder.resolve(token, &wildcards)?,
            };
            pieces.push(Piece::Function(function));
        }
        if is_wild && strict && used < wildcards.len() {
            return Err(DestinationError::NotUsingAllWildcards.in_token(destination));
        }
        Ok(Some(SubjectTransform {
            source: source.to_owned(),
            destination: destination.to_owned(),
            source_tokens: source.split('.').count(),
            pieces,
        }))
    }

    /// Returns the pattern of the subjects it applies to.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns the destination as it was given.
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// Transforms a literal subject that the source matches.
    ///
    /// # Errors
    ///
    /// [`TransformError::BadSubject`] if the subject is not literal or not valid; [`TransformError::NoMatch`].
    pub fn apply(&self, subject: &[u8], rng: &mut Rng) -> Result<Vec<u8>, TransformError> {
        if self.source == ">" && self.destination == ">" {
            return Ok(subject.to_vec());
        }
        if !is_valid_literal_subject(subject) {
            return Err(TransformError::BadSubject);
        }
        if self.source != ">" && !is_subset_match(subject, self.source.as_bytes()) {
            return Err(TransformError::NoMatch);
        }
        Ok(self.transform(subject, rng))
    }

    /// Transforms a subject that is known to match; wildcards in it are taken as any token.
    ///
    /// A token that the subject lacks is empty.
    pub fn transform(&self, subject: &[u8], rng: &mut Rng) -> Vec<u8> {
        let source: Vec<&[u8]> = tokens(subject).collect();
        let mut out = Vec::with_capacity(subject.len() + self.destination.len());
        for (at, piece) in self.pieces.iter().enumerate() {
            if at > 0 {
                out.push(b'.');
            }
            match piece {
                Piece::Literal(token) => out.extend_from_slice(token.as_bytes()),
                Piece::Rest => {
                    let rest = source.get(self.source_tokens - 1..).unwrap_or_default();
                    out.extend_from_slice(&rest.join(&b'.'));
                }
                Piece::Function(function) => function.write(&source, subject, rng, &mut out),
            }
        }
        out
    }

    /// Makes the transform that leads back from the destination to the source, if there is one.
    ///
    /// For strict transforms there is, unless a wildcard is used twice and in another order.
    pub fn reverse(&self) -> Option<SubjectTransform> {
        let (source, place_holders) = replace_place_holders(&self.destination);
        let mut place_holders = place_holders.into_iter();
        let mut destination = Vec::new();
        for token in self.source.split('.') {
            destination.push(if token == "*" { place_holders.next()? } else { token });
        }
        SubjectTransform::new_strict(&source, &destination.join(".")).ok().flatten()
    }
}

/// Turns a destination into the pattern of what it makes, and lists its place holders.
///
/// `foo.$2.$1` gives `foo.*.*`, `$2` and `$1`.
fn replace_place_holders(destination: &str) -> (String, Vec<&str>) {
    let mut place_holders = Vec::new();
    let mut pattern = Vec::new();
    for token in destination.split('.') {
        let is_dollar = matches!(token.as_bytes(), [b'$', b'1'..=b'9', ..]);
        if is_dollar || wildcard_argument(token).is_some() {
            place_holders.push(token);
            pattern.push("*");
        } else {
            pattern.push(token);
        }
    }
    (pattern.join("."), place_holders)
}

/// Says what is wrong with a mapping from `source` to `destination`, as a configuration has it; an empty
/// destination is fine.
///
/// Narrower than [`SubjectTransform::new`]: the destination has no white space outside of functions.
///
/// Source: nats-server `server/sublist.go`, `ValidateMapping`.
///
/// # Errors
///
/// [`TransformError`], never `NoMatch`.
pub fn validate_mapping(source: &str, destination: &str) -> Result<(), TransformError> {
    if destination.is_empty() {
        return Ok(());
    }
    let mut seen_rest = false;
    for token in destination.split('.') {
        if token.is_empty() || seen_rest {
            return Err(DestinationError::InvalidSubject.in_token(token));
        }
        if is_in_braces(token) {
            if !function::is_mapping_function(token) {
                return Err(DestinationError::UnknownFunction.in_token(token));
            }
            continue;
        }
        if token == ">" {
            seen_rest = true;
        } else if token.contains(['\t', '\n', '\x0c', '\r', ' ']) {
            return Err(DestinationError::InvalidSubject.in_token(""));
        }
    }
    SubjectTransform::new(source, destination).map(drop)
}
