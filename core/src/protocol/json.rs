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

use super::quote::{quote, quote_char};

/// The deepest nesting that is read, Go's own limit.
pub const MAX_DEPTH: usize = 10_000;

/// Why bytes can't be read into what was wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON.
    #[error("{0}")]
    Syntax(String),
    /// A value that can't be what its key wants.
    #[error("json: cannot unmarshal {found} into Go struct field {path} of type {wanted}")]
    Member {
        /// What was found: the type, and for a number that doesn't fit its text.
        found: String,
        /// The struct, and the key as it was written.
        path: String,
        /// What Go calls the type of the field.
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
}

/// The members of one JSON object, in the order of the text.
#[derive(Debug)]
pub struct Object<'a> {
    members: Vec<Member<'a>>,
}

/// A key and its value.
#[derive(Debug)]
pub struct Member<'a> {
    owner: &'static str,
    written: String,
    key: String,
    value: &'a [u8],
}

impl<'a> Object<'a> {
    /// Reads a whole text that is an object, or `null`, which is an empty one. `go_type` is what the reference calls
    /// the type it reads this into (`server.ClientOpts`), for errors.
    ///
    /// # Errors
    ///
    /// [`JsonError::Syntax`], [`JsonError::NotAnObject`].
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
        match kind(value) {
            "null" => Ok(Object { members: Vec::new() }),
            "object" => Ok(Object { members: members(go_type, value) }),
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

    /// Reads a string into `field`; `null` leaves it.
    ///
    /// # Errors
    ///
    /// [`JsonError::Member`].
    pub fn string(&self, field: &mut String) -> Result<(), JsonError> {
        match kind(self.value) {
            "null" => {}
            "string" => *field = unescape(self.value),
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
        match kind(self.value) {
            "null" => {}
            "number" => {
                let text = String::from_utf8_lossy(self.value);
                *field = text.parse().map_err(|_| JsonError::Member {
                    found: format!("number {text}"),
                    path: self.path(),
                    wanted: "int",
                })?;
            }
            _ => return Err(self.wrong_type("int")),
        }
        Ok(())
    }

    /// Reads a list of strings into `field`; `null` empties it, and a `null` in the list is an empty string.
    ///
    /// # Errors
    ///
    /// [`JsonError::Member`].
    pub fn strings(&self, field: &mut Vec<String>) -> Result<(), JsonError> {
        field.clear();
        match kind(self.value) {
            "null" => {}
            "array" => {
                for element in elements(self.value) {
                    field.push(match kind(element) {
                        "null" => String::new(),
                        "string" => unescape(element),
                        _ => return Err(self.wrong_type("[]string")),
                    });
                }
            }
            _ => return Err(self.wrong_type("[]string")),
        }
        Ok(())
    }

    /// Reads an object; `null` is an empty one.
    ///
    /// # Errors
    ///
    /// [`JsonError::Member`].
    pub fn object(&self, go_type: &'static str) -> Result<Object<'a>, JsonError> {
        match kind(self.value) {
            "null" => Ok(Object { members: Vec::new() }),
            "object" => Ok(Object { members: members(go_type, self.value) }),
            _ => Err(self.wrong_type(go_type)),
        }
    }

    fn path(&self) -> String {
        let owner = self.owner.rsplit('.').next().unwrap_or_default();
        format!("{owner}.{}", self.written)
    }

    fn wrong_type(&self, wanted: &'static str) -> JsonError {
        JsonError::Member { found: kind(self.value).to_owned(), path: self.path(), wanted }
    }
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
fn fold(key: &str) -> String {
    key.chars()
        .map(|letter| match letter {
            'ſ' => 's',
            'K' => 'k',
            _ => letter.to_ascii_lowercase(),
        })
        .collect()
}

/// Splits an object that has been checked.
fn members<'a>(owner: &'static str, object: &'a [u8]) -> Vec<Member<'a>> {
    let mut found = Vec::new();
    let mut scanner = Scanner { text: object, at: 1 };
    while let Some(name) = scanner.next_checked() {
        let Some(value) = scanner.next_checked() else { break };
        let written = unescape(name);
        found.push(Member { owner, key: fold(&written), written, value });
    }
    found
}

/// Splits an array that has been checked.
fn elements(array: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut scanner = Scanner { text: array, at: 1 };
    std::iter::from_fn(move || scanner.next_checked())
}

/// Returns the text of a string that has been checked, quotes included.
fn unescape(literal: &[u8]) -> String {
    let mut rest = literal.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(literal);
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
    out
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

/// Walks over JSON text and finds where it isn't.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn unexpected(&self, place: &str) -> JsonError {
        let Some(rest) = self.text.get(self.at..).filter(|rest| !rest.is_empty()) else {
            return JsonError::Syntax("unexpected end of JSON input".to_owned());
        };
        let shown = match rest.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next()) {
            Some(character) => quote_char(character),
            None => format!("'\\x{:02x}'", rest[0]),
        };
        JsonError::Syntax(format!("invalid character {shown} {place}"))
    }

    /// Passes over one value of any depth.
    fn value(&mut self) -> Result<(), JsonError> {
        // What is open around the place, innermost last. No recursion: the text chooses the depth.
        let mut open: Vec<u8> = Vec::new();
        loop {
            self.skip_blanks();
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    if open.len() == MAX_DEPTH {
                        return Err(JsonError::Syntax("exceeded max depth".to_owned()));
                    }
                    self.at += 1;
                    self.skip_blanks();
                    open.push(bracket);
                    // Nothing in it: it closes below, like one that had something.
                    if self.peek() != Some(bracket + 2) {
                        if bracket == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => self.string()?,
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                _ => return Err(self.unexpected("looking for beginning of value")),
            }
            // A value is behind us; close what ends here, or go on to the next one.
            loop {
                let Some(bracket) = open.last().copied() else { return Ok(()) };
                self.skip_blanks();
                match self.peek() {
                    // The closing bracket stands two places behind the opening one, for both kinds.
                    Some(byte) if byte == bracket + 2 => {
                        self.at += 1;
                        open.pop();
                    }
                    Some(b',') => {
                        self.at += 1;
                        if bracket == b'{' {
                            self.key()?;
                        }
                        break;
                    }
                    _ if bracket == b'{' => return Err(self.unexpected("after object key:value pair")),
                    _ => return Err(self.unexpected("after array element")),
                }
            }
        }
    }

    fn key(&mut self) -> Result<(), JsonError> {
        self.skip_blanks();
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("looking for beginning of object key string"));
        }
        self.string()?;
        self.skip_blanks();
        if self.peek() != Some(b':') {
            return Err(self.unexpected("after object key"));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0x20..) => self.at += 1,
                _ => return Err(self.unexpected("in string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let rest = &self.text[self.at..];
        let len = match rest.get(1) {
            Some(b'u') => 6,
            _ => 2,
        };
        let shown = &rest[..len.min(rest.len())];
        let fits = match shown {
            [_, b'u', digits @ ..] => digits.iter().all(u8::is_ascii_hexdigit),
            [_, escape] => br#""\/bfnrt"#.contains(escape),
            _ => true,
        };
        if fits && shown.len() == len {
            self.at += len;
            return Ok(());
        }
        if fits {
            self.at = self.text.len();
            return Err(self.unexpected(""));
        }
        let shown = match std::str::from_utf8(shown) {
            Ok(text) if !text.contains(|letter: char| letter.is_control() || letter == '`') => {
                format!("`{text}`")
            }
            _ => quote(shown),
        };
        Err(JsonError::Syntax(format!("invalid escape sequence {shown} in string")))
    }

    fn word(&mut self, word: &str) -> Result<(), JsonError> {
        for letter in word.chars() {
            if self.peek().map(char::from) != Some(letter) {
                return Err(self.unexpected(&format!("in literal {word} (expecting {})", quote_char(letter))));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        // A zero stands alone; what follows it is somebody else's error.
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.unexpected("in numeric literal"));
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    /// Returns the next key, value or element of text that has been checked; `None` at the end.
    fn next_checked(&mut self) -> Option<&'a [u8]> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n' | b',' | b':')) {
            self.at += 1;
        }
        let start = self.at;
        self.value().ok()?;
        Some(&self.text[start..self.at])
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
