//! Place holders of a destination: how they are written, and what they put there.

use super::{DestinationError, TransformError};
use crate::rng::Rng;

/// A place holder as written, its wildcards still counted from one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PlaceHolder {
    Wildcard(i64),
    Partition { buckets: i32, indexes: Vec<i64> },
    Random { ceiling: i32 },
    Cut { how: Cut, index: i64, size: i32 },
    Split { index: i64, delimiter: String },
}

/// A place holder whose wildcards are places of tokens in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Wildcard(usize),
    /// Which of so many parts the tokens' bytes fall to (FNV-1a); the whole subject's if there is none.
    Partition {
        buckets: i32,
        tokens: Vec<usize>,
    },
    Random {
        ceiling: i32,
    },
    Cut {
        how: Cut,
        token: usize,
        size: i32,
    },
    Split {
        token: usize,
        delimiter: String,
    },
}

/// The functions of a token and a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    SplitFromLeft,
    SplitFromRight,
    SliceFromLeft,
    SliceFromRight,
    Right,
    Left,
}

impl Cut {
    /// In the order in which a token is searched for them.
    const ALL: [(&'static [&'static str], Cut); 6] = [
        (&["split", "from", "left"], Cut::SplitFromLeft),
        (&["split", "from", "right"], Cut::SplitFromRight),
        (&["slice", "from", "left"], Cut::SliceFromLeft),
        (&["slice", "from", "right"], Cut::SliceFromRight),
        (&["right"], Cut::Right),
        (&["left"], Cut::Left),
    ];
}

const WILDCARD: &[&str] = &["wildcard"];
const PARTITION: &[&str] = &["partition"];
const SPLIT: &[&str] = &["split"];
const RANDOM: &[&str] = &["random"];

/// Says whether the whole token is `{{…}}`.
pub(super) fn is_in_braces(token: &str) -> bool {
    token.len() > 4 && token.starts_with("{{") && token.ends_with("}}")
}

/// Returns the argument of a `wildcard` function with exactly one.
pub(super) fn wildcard_argument(token: &str) -> Option<&str> {
    match arguments(token, WILDCARD)?[..] {
        [argument] if !argument.is_empty() => Some(argument),
        _ => None,
    }
}

/// Says whether the token calls a function that `validate_mapping` knows; arguments are not looked at.
pub(super) fn is_mapping_function(token: &str) -> bool {
    let known = Cut::ALL.iter().map(|(name, _)| *name);
    known.chain([PARTITION, WILDCARD, SPLIT, RANDOM]).any(|name| arguments(token, name).is_some())
}

/// Reads a destination token; `None` if it stands for itself.
///
/// Source: nats-server `server/subject_transform.go`, `indexPlaceHolders`.
pub(super) fn parse_place_holder(token: &str) -> Result<Option<PlaceHolder>, TransformError> {
    if let Some(number) = token.strip_prefix('$') {
        // Much else begins with `$`: what is no number stays as it is.
        return Ok(number.parse().ok().map(PlaceHolder::Wildcard));
    }
    if !is_in_braces(token) {
        return Ok(None);
    }
    read_function(token).map(Some).map_err(|cause| cause.in_token(token))
}

fn read_function(token: &str) -> Result<PlaceHolder, DestinationError> {
    if let Some(arguments) = arguments(token, WILDCARD) {
        return match arguments[..] {
            [""] => Err(DestinationError::NotEnoughArguments),
            [index] => Ok(PlaceHolder::Wildcard(number(index)?)),
            _ => Err(DestinationError::TooManyArguments),
        };
    }
    if let Some(arguments) = arguments(token, PARTITION) {
        let buckets = number_up_to_i32(arguments[0])?;
        let indexes = arguments[1..].iter().map(|index| number(index)).collect::<Result<_, _>>()?;
        return Ok(PlaceHolder::Partition { buckets, indexes });
    }
    for (name, how) in Cut::ALL {
        if let Some(arguments) = arguments(token, name) {
            let [index, size] = two(&arguments)?;
            let size = number(size)?.try_into().map_err(|_| DestinationError::InvalidArgument)?;
            return Ok(PlaceHolder::Cut { how, index: number(index)?, size });
        }
    }
    if let Some(arguments) = arguments(token, SPLIT) {
        let [index, delimiter] = two(&arguments)?;
        let index = number(index)?;
        if delimiter.contains([' ', '.']) {
            return Err(DestinationError::InvalidArgument);
        }
        return Ok(PlaceHolder::Split { index, delimiter: delimiter.to_owned() });
    }
    if let Some(arguments) = arguments(token, RANDOM) {
        return match arguments[..] {
            [ceiling] => Ok(PlaceHolder::Random { ceiling: number_up_to_i32(ceiling)? }),
            _ => Err(DestinationError::NotEnoughArguments),
        };
    }
    Err(DestinationError::UnknownFunction)
}

fn two<'a>(arguments: &[&'a str]) -> Result<[&'a str; 2], DestinationError> {
    match *arguments {
        [first, second] => Ok([first, second]),
        [_, _, ..] => Err(DestinationError::TooManyArguments),
        _ => Err(DestinationError::NotEnoughArguments),
    }
}

fn number(argument: &str) -> Result<i64, DestinationError> {
    argument.trim_matches(' ').parse().map_err(|_| DestinationError::InvalidArgument)
}

/// Too large is refused; too small wraps around, as it does in the reference.
fn number_up_to_i32(argument: &str) -> Result<i32, DestinationError> {
    let number = number(argument)?;
    if number > i64::from(i32::MAX) {
        return Err(DestinationError::InvalidArgument);
    }
    Ok(number as i32)
}

/// Finds `{{ name ( … ) }}` in the token and returns what is in the parentheses, split at commas.
///
/// White space may be around name and parentheses, and the first letter of each word of the name may be a capital.
/// As the reference's regular expression: the first place that fits, and the longest argument there.
fn arguments<'a>(token: &'a str, name: &[&str]) -> Option<Vec<&'a str>> {
    let space = [' ', '\t', '\n', '\r', '\x0c'];
    let inside = token.match_indices("{{").find_map(|(at, braces)| {
        let mut rest = token[at + braces.len()..].trim_start_matches(space);
        for word in name {
            let (head, tail) = rest.split_at_checked(word.len())?;
            let same = head[..1].eq_ignore_ascii_case(&word[..1]) && head[1..] == word[1..];
            rest = same.then_some(tail)?;
        }
        let rest = rest.trim_start_matches(space).strip_prefix('(')?;
        let (end, _) = rest
            .rmatch_indices(')')
            .find(|(end, _)| rest[end + 1..].trim_start_matches(space).starts_with("}}"))?;
        Some(&rest[..end])
    })?;
    let mut arguments = inside.split(',');
    let first = arguments.next();
    Some(first.into_iter().chain(arguments.map(|argument| argument.trim_start_matches(space))).collect())
}

impl PlaceHolder {
    /// Returns the wildcards it names.
    pub(super) fn indexes(&self) -> &[i64] {
        match self {
            PlaceHolder::Wildcard(index)
            | PlaceHolder::Cut { index, .. }
            | PlaceHolder::Split { index, .. } => std::slice::from_ref(index),
            PlaceHolder::Partition { indexes, .. } => indexes,
            PlaceHolder::Random { .. } => &[],
        }
    }

    /// Replaces numbers of wildcards by places of tokens; `wildcards` are those of the source.
    pub(super) fn resolve(self, token: &str, wildcards: &[usize]) -> Result<Function, TransformError> {
        let place = |index: i64| match usize::try_from(index) {
            Ok(1..) if index > wildcards.len() as i64 => {
                Err(DestinationError::IndexOutOfRange.in_token(format!("{token}: [{index}]")))
            }
            Ok(index @ 1..) => Ok(wildcards[index - 1]),
            _ => Ok(0),
        };
        Ok(match self {
            PlaceHolder::Wildcard(index) => Function::Wildcard(place(index)?),
            PlaceHolder::Partition { buckets, indexes } => {
                let tokens = indexes.into_iter().map(place).collect::<Result<_, _>>()?;
                Function::Partition { buckets, tokens }
            }
            PlaceHolder::Random { ceiling } => Function::Random { ceiling },
            PlaceHolder::Cut { how, index, size } => Function::Cut { how, token: place(index)?, size },
            PlaceHolder::Split { index, delimiter } => Function::Split { token: place(index)?, delimiter },
        })
    }
}

impl Function {
    /// Appends what it makes of a subject's tokens.
    pub(super) fn write(&self, tokens: &[&[u8]], subject: &[u8], rng: &mut Rng, out: &mut Vec<u8>) {
        let token = |at: &usize| tokens.get(*at).copied().unwrap_or_default();
        match self {
            Function::Wildcard(at) => out.extend_from_slice(token(at)),
            Function::Partition { buckets, tokens } => {
                let hash = match tokens[..] {
                    [] => fnv1a(FNV_OFFSET, subject),
                    _ => tokens.iter().fold(FNV_OFFSET, |hash, at| fnv1a(hash, token(at))),
                };
                // A negative number of parts is taken as the reference takes it, as a large one.
                write_number(out, hash.checked_rem(*buckets as u32).unwrap_or(0));
            }
            Function::Random { ceiling } => {
                write_number(out, rng.below(u64::from(ceiling.unsigned_abs())) as u32);
            }
            Function::Cut { how, token: at, size } => cut(*how, token(at), *size, out),
            Function::Split { token: at, delimiter } => split(token(at), delimiter.as_bytes(), out),
        }
    }
}

/// Cuts `token`, unless `size` is not within it.
fn cut(how: Cut, token: &[u8], size: i32, out: &mut Vec<u8>) {
    let size = match usize::try_from(size) {
        Ok(size) if 0 < size && size < token.len() => size,
        _ => return out.extend_from_slice(token),
    };
    let join = |out: &mut Vec<u8>, parts: &[&[u8]]| out.extend_from_slice(&parts.join(&b'.'));
    match how {
        Cut::SplitFromLeft => join(out, &[&token[..size], &token[size..]]),
        Cut::SplitFromRight => join(out, &[&token[..token.len() - size], &token[token.len() - size..]]),
        Cut::SliceFromLeft => join(out, &token.chunks(size).collect::<Vec<_>>()),
        Cut::SliceFromRight => {
            let mut parts: Vec<_> = token.rchunks(size).collect();
            parts.reverse();
            join(out, &parts);
        }
        Cut::Right => out.extend_from_slice(&token[token.len() - size..]),
        Cut::Left => out.extend_from_slice(&token[..size]),
    }
}

/// Makes tokens of what stands between delimiters.
///
/// Empty parts vanish, except that two delimiters at the very start leave one dot, as in the reference.
fn split(token: &[u8], delimiter: &[u8], out: &mut Vec<u8>) {
    let parts = split_at(token, delimiter);
    for (at, part) in parts.iter().enumerate() {
        out.extend_from_slice(part);
        let is_followed = parts.get(at + 1).is_some_and(|next| !next.is_empty());
        if is_followed && !(at == 0 && part.is_empty()) {
            out.push(b'.');
        }
    }
}

/// As Go's `strings.Split`: an empty delimiter separates characters.
fn split_at<'a>(token: &'a [u8], delimiter: &[u8]) -> Vec<&'a [u8]> {
    if delimiter.is_empty() {
        return token
            .utf8_chunks()
            .flat_map(|chunk| {
                let (valid, invalid) = (chunk.valid(), chunk.invalid());
                let characters =
                    valid.char_indices().map(move |(at, c)| &valid.as_bytes()[at..at + c.len_utf8()]);
                characters.chain(invalid.chunks(1))
            })
            .collect();
    }
    let mut parts = Vec::new();
    let mut rest = token;
    while let Some(at) = memchr::memmem::find(rest, delimiter) {
        parts.push(&rest[..at]);
        rest = &rest[at + delimiter.len()..];
    }
    parts.push(rest);
    parts
}

fn write_number(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

const FNV_OFFSET: u32 = 0x811c_9dc5;

/// FNV-1a of 32 bits.
fn fnv1a(hash: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
