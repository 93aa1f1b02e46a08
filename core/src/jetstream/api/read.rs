//! Requests as the reference reads them: strictly or leniently, with its texts for what it doesn't like.

use super::error::{ApiError, ErrorKind};
use crate::protocol::json::{JsonError, Member, Object};
use crate::time::Duration;

/// What a request is read into, one key after another.
pub trait ReadJson: Default {
    /// What the reference calls the type, which its errors name.
    const GO_TYPE: &'static str;

    /// Takes what stands behind one key.
    ///
    /// # Errors
    ///
    /// [`JsonError`] for a value that the key can't have, and for a key that nobody knows, if `keys` says so.
    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError>;
}

/// What to do about keys that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Refuse them.
    Known,
    /// Pass them over.
    Any,
}

impl Keys {
    /// Does what is to be done about a key that nobody knows.
    ///
    /// # Errors
    ///
    /// [`JsonError::UnknownField`].
    pub fn unknown(self, member: &Member<'_>) -> Result<(), JsonError> {
        match self {
            Keys::Known => Err(member.unknown()),
            Keys::Any => Ok(()),
        }
    }
}

/// Reads the members of an object into `value`.
pub(super) fn fill(value: &mut impl ReadJson, object: &Object<'_>, keys: Keys) -> Result<(), JsonError> {
    object.members().try_for_each(|member| value.read(member, keys))
}

/// Reads an object that is part of another one; `null` leaves it.
pub(super) fn part<T: ReadJson>(value: &mut T, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
    fill(value, &member.object(T::GO_TYPE)?, keys)
}

/// Reads an object that need not be there; `null` clears it.
pub(super) fn optional<T: ReadJson>(
    value: &mut Option<T>,
    member: &Member<'_>,
    keys: Keys,
) -> Result<(), JsonError> {
    match member.optional_object(T::GO_TYPE)? {
        Some(object) => fill(value.get_or_insert_default(), &object, keys)?,
        None => *value = None,
    }
    Ok(())
}

/// Reads a list of objects, of which a `null` is one that says nothing; `null` empties the list.
pub(super) fn list<T: ReadJson>(
    values: &mut Vec<T>,
    member: &Member<'_>,
    wanted: &'static str,
    keys: Keys,
) -> Result<(), JsonError> {
    values.clear();
    for element in member.list(wanted)? {
        let mut value = T::default();
        part(&mut value, &element, keys)?;
        values.push(value);
    }
    Ok(())
}

/// Reads a request as Go's decoder does: one object after another into the same value, none of them for an empty text. A strict
/// server says what it doesn't like; any other one reads again as one object, and passes over keys that nobody knows.
///
/// Source: nats-server `server/jetstream_api.go`, `unmarshalRequest`; the texts are those of 2.15.1, which is built with Go 1.27.
///
/// # Errors
///
/// [`ErrorKind::InvalidJson`].
pub fn unmarshal_request<T: ReadJson>(body: &[u8], strict: bool) -> Result<T, ApiError> {
    let error = match decode(body) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if strict {
        return Err(match error {
            JsonError::Syntax { message, offset } => {
                ErrorKind::InvalidJson.with(format_args!("{message} at offset {offset}"))
            }
            JsonError::Truncated => ErrorKind::InvalidJson.with("unexpected EOF"),
            other => ErrorKind::InvalidJson.with(other),
        });
    }
    unmarshal(body).map_err(|error| ErrorKind::InvalidJson.with(error))
}

/// Reads a text that is one object, and passes over keys that nobody knows.
///
/// # Errors
///
/// [`JsonError`].
pub fn unmarshal<T: ReadJson>(body: &[u8]) -> Result<T, JsonError> {
    let mut value = T::default();
    fill(&mut value, &Object::parse(T::GO_TYPE, body)?, Keys::Any)?;
    Ok(value)
}

fn decode<T: ReadJson>(body: &[u8]) -> Result<T, JsonError> {
    let (mut value, mut at) = (T::default(), 0);
    while let Some((object, end)) = Object::parse_next(T::GO_TYPE, body, at)? {
        fill(&mut value, &object, Keys::Known)?;
        at = end;
    }
    Ok(value)
}

/// The keys whose durations were negative. A [`Duration`] can't say so, and stands at zero; the checks ask here, each for what
/// it refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Negatives(Vec<&'static str>);

impl Negatives {
    /// Tells whether `key` had a negative duration.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains(&key)
    }

    /// Reads the duration behind `key`; `null` leaves it.
    pub(super) fn duration(
        &mut self,
        member: &Member<'_>,
        key: &'static str,
        field: &mut Duration,
    ) -> Result<(), JsonError> {
        let mut nanos = super::write::nanos(*field);
        if self.has(key) {
            nanos = -1;
        }
        member.number(&mut nanos, "time.Duration")?;
        self.0.retain(|known| *known != key);
        match u64::try_from(nanos) {
            Ok(nanos) => *field = Duration::from_nanos(nanos),
            Err(_) => {
                *field = Duration::ZERO;
                self.0.push(key);
            }
        }
        Ok(())
    }

    /// Reads the list of durations behind `key`; `null` empties it.
    pub(super) fn durations(
        &mut self,
        member: &Member<'_>,
        key: &'static str,
        field: &mut Vec<Duration>,
    ) -> Result<(), JsonError> {
        self.0.retain(|known| *known != key);
        field.clear();
        for element in member.list("[]time.Duration")? {
            let mut nanos = 0i64;
            element.number(&mut nanos, "time.Duration")?;
            if nanos < 0 && !self.has(key) {
                self.0.push(key);
            }
            field.push(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)));
        }
        Ok(())
    }
}

/// Reads a value that is one of some words, spelled just so. `null` is none of them.
pub(super) fn word<T: Copy>(
    member: &Member<'_>,
    words: &[(&str, T)],
    field: &mut T,
    otherwise: impl FnOnce(&[u8]) -> String,
) -> Result<(), JsonError> {
    let raw = member.raw();
    let said = raw.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
    let found = words.iter().find(|(word, _)| said == Some(word.as_bytes()));
    *field = found.ok_or_else(|| JsonError::Value(otherwise(raw)))?.1;
    Ok(())
}

/// What the reference says of a word that it doesn't know, mostly.
pub(super) fn can_not_unmarshal(raw: &[u8]) -> String {
    format!("can not unmarshal {}", crate::protocol::quote::quote(raw))
}
