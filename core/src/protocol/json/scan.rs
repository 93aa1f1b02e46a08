//! Where JSON text ends, and where it isn't JSON.

use super::{JsonError, MAX_DEPTH};
use crate::protocol::quote::{quote, quote_char};

/// Walks over JSON text and finds where it isn't.
pub(super) struct Scanner<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(super) fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    pub(super) fn unexpected(&self, place: &str) -> JsonError {
        let Some(rest) = self.text.get(self.at..).filter(|rest| !rest.is_empty()) else {
            return JsonError::Truncated;
        };
        let (shown, len) = match rest.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next()) {
            Some(character) => (quote_char(character), character.len_utf8()),
            None => (format!("'\\x{:02x}'", rest[0]), 1),
        };
        JsonError::Syntax { message: format!("invalid character {shown} {place}"), offset: self.at + len }
    }

    /// Passes over one value of any depth.
    pub(super) fn value(&mut self) -> Result<(), JsonError> {
        // What is open around the place, innermost last. No recursion: the text chooses the depth.
        let mut open: Vec<u8> = Vec::new();
        loop {
            self.skip_blanks();
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    if open.len() == MAX_DEPTH {
                        let message = "exceeded max depth".to_owned();
                        return Err(JsonError::Syntax { message, offset: self.at + 1 });
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
        let offset = self.at + shown.len();
        let shown = match std::str::from_utf8(shown) {
            Ok(text) if !text.contains(|letter: char| letter.is_control() || letter == '`') => {
                format!("`{text}`")
            }
            _ => quote(shown),
        };
        Err(JsonError::Syntax { message: format!("invalid escape sequence {shown} in string"), offset })
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
    pub(super) fn next_checked(&mut self) -> Option<&'a [u8]> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n' | b',' | b':')) {
            self.at += 1;
        }
        let start = self.at;
        self.value().ok()?;
        Some(&self.text[start..self.at])
    }
}
