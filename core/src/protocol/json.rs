//! JSON as Go's `encoding/json` reads it into a struct: keys in any case, the last of equal keys wins, `null` changes
//! nothing, unknown keys are passed over whatever their value, bytes that are no text become U+FFFD, a value of the
//! wrong type is an error. Errors say what the reference's log and API answers say.
//!
//! ```
//! use natrix_core::protocol::json::Object;
//!
//! let (mut name, mut count) = (String::new(), 7);
//! for member in Object::parse("server.Thing", br#"{"NAME":"a","count":null,"other":[]}"#).unwrap().members() {
//!     match member.key() {
//!         "name" => member.string(&mut name).unwrap(),
//!         "count" => member.integer(&mut count).unwrap(),
//!         _ => {}
//!     }
//! }
//! assert_eq!((name.as_str(), count), ("a", 7));
//! ```
//!
//! Invariants: text is checked whole before any of it is used; nesting costs one byte a level and is bounded by
//! [`MAX_DEPTH`]; values stay slices of the text until somebody asks for them.

mod scan;
mod time;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::str::FromStr;

use scan::Scanner;
pub use time::parse_time;

use super::quote::quote;
use crate::time::WallTime;

/// The deepest nesting that is read, Go's own limit.
pub const MAX_DEPTH: usize = 10_000;

/// Why bytes can't be read into what was wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON.
    #[error("{message}")]
    Syntax {
        /// What is wrong.
        message: String,
        /// How many bytes were read when it was found.
        offset: usize,
    },
    /// The beginning of JSON.
    #[error("unexpected end of JSON input")]
    Truncated,
    /// A value that can't be what its key wants.
    #[error("json: cannot unmarshal {found} into Go struct field {path} of type {wanted}")]
    Member {
        /// What was found: the type, and for a number that doesn't fit its text.
        found: String,
        /// The struct, and the keys that lead there as they were written.
        path: String,
        /// What Go calls the type of the field.
        wanted: &'static str,
    },
    /// A value that can't be an element of its list.
    #[error("json: cannot unmarshal {found} into {path} of type {wanted}")]
    Element {
        /// As above.
        found: String,
        /// As above, its place in the list last.
        path: String,
        /// What Go calls the type of the element.
        wanted: &'static str,
    },
    /// A whole text that isn't an object.
    #[error("json: cannot unmarshal {found} into Go value of type {wanted}")]
    NotAnObject {
        /// The type that was found.
        found: &'static str,
        /// What Go calls the type that was wanted.
        wanted: &'static str,
    },
    /// A key that nobody knows, quoted. Only the caller knows whether that is an error.
    #[error("json: unknown field {0}")]
    UnknownField(String),
    /// A value that its field can't have, in the words of the field's own type.
    #[error("{0}")]
    Value(String),
}

/// The members of one JSON object, in the order of the text.
#[derive(Debug)]
pub struct Object<'a> {
    members: Vec<Member<'a>>,
}

/// A key and its value, or an element of a list.
#[derive(Debug)]
pub struct Member<'a> {
    /// What leads to the object or list, with the name of the struct first.
    owner: Rc<str>,
    written: Cow<'a, str>,
    key: Cow<'a, str>,
    value: &'a [u8],
    is_element: bool,
}

impl<'a> Object<'a> {
    /// Reads a whole text that is an object, or `null`, which is an empty one. `go_type` is what the reference calls
    /// the type it reads this into (`server.ClientOpts`), for errors.
    ///
    /// # Errors
    ///
    /// [`JsonError::Syntax`], [`JsonError::Truncated`], [`JsonError::NotAnObject`].
    pub fn parse(go_type: &'static str, text: &'a [u8]) -> Result<Self, JsonError> {
        let mut scanner = Scanner { text, at: 0 };
        scanner.skip_blanks();
        let start = scanner.at;
        scanner.value()?;
        let value = &text[start..scanner.at];
        scanner.skip_blanks();
        if scanner.at < text.len() {
            return Err(scanner.unexpected("after top-level value"));
        }
        Self::of(go_type, value)
    }

    /// Reads the object at or behind `at` of a text that is one value after another, and returns where it ends; `None` if
    /// there is nothing any more.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn parse_next(
        go_type: &'static str,
        text: &'a [u8],
        at: usize,
    ) -> Result<Option<(Self, usize)>, JsonError> {
        let mut scanner = Scanner { text, at };
        scanner.skip_blanks();
        let start = scanner.at;
        if start >= text.len() {
            return Ok(None);
        }
        scanner.value()?;
        Ok(Some((Self::of(go_type, &text[start..scanner.at])?, scanner.at)))
    }

    fn of(go_type: &'static str, value: &'a [u8]) -> Result<Self, JsonError> {
        match kind(value) {
            "null" => Ok(Object { members: Vec::new() }),
            "object" => Ok(Object { members: members(short_name(go_type), value) }),
            found => Err(JsonError::NotAnObject { found, wanted: go_type }),
        }
    }

    /// Returns the members in the order of the text, so that the last of equal keys comes last.
    pub fn members(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members.iter()
    }
}

impl<'a> Member<'a> {
    /// Returns the key in lower case, to be compared with names that are written so.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the value as it stands in the text.
    pub fn raw(&self) -> &'a [u8] {
        self.value
    }

    /// Returns what to say of a key that nobody knows.
    pub fn unknown(&self) -> JsonError {
        JsonError::UnknownField(quote(self.written.as_bytes()))
    }

    /// Reads a string into `field`; `null` leaves it.
    ///
    /// # Errors
    ///
    /// [`JsonError::Member`].
    pub fn string(&self, field: &mut String) -> Result<(), JsonError> {
        match kind(self.value) {
            "null" => {}
            "string" => *field = unescape(self.value).into_owned(),
            _ => return Err(self.wrong_type("string")),
        }
        Ok(())
    }

    /// Reads a boolean into `field`; `null` leaves it.
    ///
    /// # Errors
    ///
    /// [`JsonError::Member`].
    pub fn boolean(&self, field: &mut bool) -> Result<(), JsonError> {
        match kind(self.value) {
            "null" => {}
            "bool" => *field = self.value.starts_with(b"t"),
            _ => return Err(self.wrong_type("bool")),
        }
        Ok(())
    }

    /// Reads a whole number into `field`; `null` leaves it.
    ///
    /// # Errors
    ///
    /// [`JsonError::Member`], also for a number with fraction or exponent, and for one that doesn't fit.
    pub fn integer(&self, field: &mut i64) -> Result<(), JsonError> {
        self.number(field, "int")
    }

    /// Reads a whole number of the Go type `wanted` into `field`; `null` leaves it.
    ///
    /// # Errors
    ///
    /// As [`integer`](Self::integer).
    pub fn number<T: FromStr>(&self, field: &mut T, wanted: &'static str) -> Result<(), JsonError> {
        match kind(self.value) {
            "null" => {}
            "number" => {
                let text = std::str::from_utf8(self.value).unwrap_or_default();
                *field = text.parse().map_err(|_| self.wrong(format!("number {text}"), wanted))?;
            }
            _ => return Err(self.wrong_type(wanted)),
        }
        Ok(())
    }

    /// Reads a time in RFC 3339 into `field`; `null` leaves it.
    ///
    /// # Errors
    ///
    /// [`JsonError::Member`], [`JsonError::Value`].
    pub fn time(&self, field: &mut WallTime) -> Result<(), JsonError> {
        match kind(self.value) {
            "null" => {}
            // Escapes are not looked at here, as in the reference.
            "string" => {
                *field = parse_time(&self.value[1..self.value.len() - 1]).map_err(JsonError::Value)?;
            }
            _ => return Err(self.wrong_type("time.Time")),
        }
        Ok(())
    }

    /// Reads a time that need not be there into `field`; `null` clears it.
    ///
    /// # Errors
    ///
    /// As [`time`](Self::time).
    pub fn optional_time(&self, field: &mut Option<WallTime>) -> Result<(), JsonError> {
        if kind(self.value) == "null" {
            *field = None;
            return Ok(());
        }
        self.time(field.get_or_insert_default())
    }

    /// Reads a list of strings into `field`; `null` empties it, and a `null` in the list is an empty string.
    ///
    /// # Errors
    ///
    /// [`JsonError::Member`], [`JsonError::Element`].
    pub fn strings(&self, field: &mut Vec<String>) -> Result<(), JsonError> {
        field.clear();
        for element in self.list("[]string")? {
            let mut text = String::new();
            element.string(&mut text)?;
            field.push(text);
        }
        Ok(())
    }

    /// Reads a list whose Go type is `wanted`; `null` is an empty one.
    ///
    /// # Errors
    ///
    /// [`JsonError::Member`], [`JsonError::Element`].
    pub fn list(&self, wanted: &'static str) -> Result<Vec<Member<'a>>, JsonError> {
        match kind(self.value) {
            "null" => Ok(Vec::new()),
            "array" => {
                let owner: Rc<str> = self.path().into();
                let members = elements(self.value).enumerate().map(|(place, value)| Member {
                    owner: owner.clone(),
                    written: Cow::Owned(place.to_string()),
                    key: Cow::Borrowed(""),
                    value,
                    is_element: true,
                });
                Ok(members.collect())
            }
            _ => Err(self.wrong_type(wanted)),
        }
    }

    /// Reads an object with keys of any name and strings as values into `field`; `null` empties it, other keys stay.
    ///
    /// # Errors
    ///
    /// [`JsonError::Member`].
    pub fn texts(&self, field: &mut BTreeMap<String, String>) -> Result<(), JsonError> {
        match kind(self.value) {
            "null" => field.clear(),
            "object" => {
                for member in members(&self.path(), self.value) {
                    let mut text = String::new();
                    member.string(&mut text)?;
                    field.insert(member.written.into_owned(), text);
                }
            }
            _ => return Err(self.wrong_type("map[string]string")),
        }
        Ok(())
    }

    /// Reads an object; `null` is an empty one.
    ///
    /// # Errors
    ///
    /// [`JsonError::Member`], [`JsonError::Element`].
    pub fn object(&self, go_type: &'static str) -> Result<Object<'a>, JsonError> {
        Ok(self.optional_object(go_type)?.unwrap_or(Object { members: Vec::new() }))
    }

    /// Reads an object that need not be there; `null` is none.
    ///
    /// # Errors
    ///
    /// [`JsonError::Member`], [`JsonError::Element`].
    pub fn optional_object(&self, go_type: &'static str) -> Result<Option<Object<'a>>, JsonError> {
        match kind(self.value) {
            "null" => Ok(None),
            "object" => Ok(Some(Object { members: members(&self.path(), self.value) })),
            _ => Err(self.wrong_type(go_type)),
        }
    }

    fn path(&self) -> String {
        format!("{}.{}", self.owner, self.written)
    }

    fn wrong_type(&self, wanted: &'static str) -> JsonError {
        self.wrong(kind(self.value).to_owned(), wanted)
    }

    fn wrong(&self, found: String, wanted: &'static str) -> JsonError {
        let path = self.path();
        match self.is_element {
            true => JsonError::Element { found, path, wanted },
            false => JsonError::Member { found, path, wanted },
        }
    }
}

/// Returns the name of a Go type without its package.
fn short_name(go_type: &'static str) -> &'static str {
    go_type.rsplit('.').next().unwrap_or_default()
}

/// Returns what Go calls the type of a value, which its first byte tells.
fn kind(value: &[u8]) -> &'static str {
    match value.first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        Some(b'n') | None => "null",
        Some(_) => "number",
    }
}

/// Makes the names of one key in any case one name. The two letters outside ASCII are those that Go's simple case
/// folding takes for `s` and `k`.
fn fold<'a>(key: &Cow<'a, str>) -> Cow<'a, str> {
    if key.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return key.clone();
    }
    let folded = key.chars().map(|letter| match letter {
        'ſ' => 's',
        'K' => 'k',
        _ => letter.to_ascii_lowercase(),
    });
    Cow::Owned(folded.collect())
}

/// Splits an object that has been checked.
fn members<'a>(owner: &str, object: &'a [u8]) -> Vec<Member<'a>> {
    let owner: Rc<str> = owner.into();
    let mut found = Vec::new();
    let mut scanner = Scanner { text: object, at: 1 };
    while let Some(name) = scanner.next_checked() {
        let Some(value) = scanner.next_checked() else { break };
        let written = unescape(name);
        found.push(Member { owner: owner.clone(), key: fold(&written), written, value, is_element: false });
    }
    found
}

/// Splits an array that has been checked.
fn elements(array: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut scanner = Scanner { text: array, at: 1 };
    std::iter::from_fn(move || scanner.next_checked())
}

/// Returns the text of a string that has been checked, quotes included.
fn unescape(literal: &[u8]) -> Cow<'_, str> {
    let mut rest = literal.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(literal);
    if memchr::memchr(b'\\', rest).is_none()
        && let Ok(text) = std::str::from_utf8(rest)
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(rest.len());
    while let Some(at) = memchr::memchr(b'\\', rest) {
        push_text(&mut out, &rest[..at]);
        let escape = rest.get(at + 1).copied().unwrap_or_default();
        rest = rest.get(at + 2..).unwrap_or_default();
        match escape {
            b'b' => out.push('\x08'),
            b'f' => out.push('\x0c'),
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'u' => {
                let (first, behind) = code_unit(rest);
                rest = behind;
                // Two surrogates that belong together are one character; any other surrogate is none.
                let pair =
                    rest.strip_prefix(b"\\u").filter(|_| (0xd800..0xdc00).contains(&first)).map(code_unit);
                match pair {
                    Some((second @ 0xdc00..0xe000, behind)) => {
                        let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                        out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                        rest = behind;
                    }
                    _ => out.push(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)),
                }
            }
            other => out.push(char::from(other)),
        }
    }
    push_text(&mut out, rest);
    Cow::Owned(out)
}

/// Reads the four hexadecimal digits of an escape.
fn code_unit(text: &[u8]) -> (u32, &[u8]) {
    let (digits, rest) = text.split_at(text.len().min(4));
    let value =
        digits.iter().fold(0, |value, digit| value << 4 | char::from(*digit).to_digit(16).unwrap_or(0));
    (value, rest)
}

fn push_text(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
}

/// Writes JSON as Go's `encoding/json` does: `<`, `>`, `&` and the two line separators of Unicode only as escapes, so that it
/// can stand in a page. `json` is valid, so these stand in strings only.
pub fn escape_as_go(json: Vec<u8>) -> Vec<u8> {
    const LINE_SEPARATORS: [&[u8]; 2] = ["\u{2028}".as_bytes(), "\u{2029}".as_bytes()];
    if !json.iter().any(|byte| matches!(byte, b'<' | b'>' | b'&' | 0xe2)) {
        return json;
    }
    let mut escaped = Vec::with_capacity(json.len() + 32);
    let mut rest = &json[..];
    while let [byte, behind @ ..] = rest {
        let escape: &[u8] = match byte {
            b'<' => b"\\u003c",
            b'>' => b"\\u003e",
            b'&' => b"\\u0026",
            _ if rest.starts_with(LINE_SEPARATORS[0]) => b"\\u2028",
            _ if rest.starts_with(LINE_SEPARATORS[1]) => b"\\u2029",
            byte => {
                escaped.push(*byte);
                rest = behind;
                continue;
            }
        };
        escaped.extend_from_slice(escape);
        rest = if *byte == 0xe2 { &rest[3..] } else { behind };
    }
    escaped
}

#[cfg(test)]
mod tests;
