//! The part of the lexer that reads values: strings, numbers, times, addresses, variables, and includes.

use super::{END, Kind, Lexer, State, shown};

impl Lexer<'_> {
    pub(super) fn value(&mut self) -> Option<State> {
        loop {
            match self.next() {
                ' ' | '\t' => self.ignore(),
                '[' => {
                    self.ignore();
                    self.emit(Kind::ArrayStart);
                    return Some(State::ArrayValue);
                }
                '{' => {
                    self.ignore();
                    self.emit(Kind::MapStart);
                    return Some(State::MapKeyStart);
                }
                '\'' => {
                    self.ignore();
                    return self.single_quoted();
                }
                '"' => {
                    self.ignore();
                    return self.double_quoted();
                }
                '(' => {
                    self.ignore();
                    return self.text_block();
                }
                '-' => return self.negative_number(),
                digit if digit.is_ascii_digit() => return self.number(),
                '.' => return self.error("Floats must start with a digit".to_owned()),
                '\n' | '\r' => return self.error("Expected value but found new line".to_owned()),
                _ => {
                    self.backup();
                    return self.bare();
                }
            }
        }
    }

    /// Reads the rest of a string in single quotes, in which nothing is special.
    fn single_quoted(&mut self) -> Option<State> {
        loop {
            match self.next() {
                '\'' => return self.closing_quote(Kind::String),
                END => return self.end(),
                _ => {}
            }
        }
    }

    fn double_quoted(&mut self) -> Option<State> {
        loop {
            match self.next() {
                '\\' => self.escape()?,
                '"' => return self.closing_quote(Kind::String),
                END => return self.end(),
                _ => {}
            }
        }
    }

    /// Reads the rest of what has no quotes: text, a boolean, a variable.
    fn bare(&mut self) -> Option<State> {
        loop {
            match self.next() {
                '\\' => self.escape()?,
                '\n' | '\r' | END | ';' | ',' | ']' | '}' | ' ' | '\t' => {
                    self.backup();
                    if self.unescaped.is_none() && self.at_bool() {
                        self.emit(Kind::Bool);
                    } else if self.unescaped.is_none() && self.current().first() == Some(&b'$') {
                        self.start += 1;
                        self.emit(Kind::Variable);
                    } else {
                        self.emit(Kind::String);
                    }
                    return self.resume();
                }
                '\'' => return self.closing_quote(Kind::String),
                _ => {}
            }
        }
    }

    fn at_bool(&self) -> bool {
        let words: [&[u8]; 6] = [b"true", b"false", b"on", b"off", b"yes", b"no"];
        words.iter().any(|word| self.current().eq_ignore_ascii_case(word))
    }

    /// A quote has just been read: what is before it is the item.
    fn closing_quote(&mut self, kind: Kind) -> Option<State> {
        self.backup();
        self.emit(kind);
        self.next();
        self.ignore();
        self.resume()
    }

    /// Reads what a backslash escapes; `None` if that is an error.
    fn escape(&mut self) -> Option<()> {
        let before = &self.input[self.start..self.position - 1];
        self.unescaped.get_or_insert_default().extend_from_slice(before);
        let byte = match self.next() {
            'x' => self.escaped_byte()?,
            't' => b'\t',
            'n' => b'\n',
            'r' => b'\r',
            '"' => b'"',
            '\\' => b'\\',
            other => {
                self.error(format!(
                    "Invalid escape character '{}'. Only the following escape characters are allowed: \
                     \\xXX, \\t, \\n, \\r, \\\", \\\\.",
                    shown(other)
                ));
                return None;
            }
        };
        self.unescaped.get_or_insert_default().push(byte);
        self.start = self.position;
        Some(())
    }

    fn escaped_byte(&mut self) -> Option<u8> {
        for _ in 0..2 {
            if matches!(self.next(), '\n' | '\r') {
                self.error("Expected two hexadecimal digits after '\\x', but hit end of line".to_owned());
                return None;
            }
        }
        let digits = &self.input[self.position - 2..self.position];
        match data_encoding::HEXLOWER_PERMISSIVE.decode(digits).as_deref() {
            Ok([byte]) => Some(*byte),
            _ => {
                self.error(format!(
                    "Expected two hexadecimal digits after '\\x', but got '{}'",
                    String::from_utf8_lossy(digits)
                ));
                None
            }
        }
    }

    /// Reads the rest of a block of text, which ends at a `)` that has its line to itself.
    fn text_block(&mut self) -> Option<State> {
        loop {
            match self.next() {
                ')' => {
                    self.backup();
                    self.backup();
                    if self.next() != '\n' {
                        self.next();
                        continue;
                    }
                    self.next();
                    if matches!(self.next(), '\n' | END) {
                        // At the end of the input nothing is gone back over: there the text keeps its `)`.
                        self.backup();
                        self.backup();
                        self.emit(Kind::String);
                        self.next();
                        self.ignore();
                        return self.resume();
                    }
                    self.backup();
                }
                END => return self.error("Unexpected EOF processing block.".to_owned()),
                _ => {}
            }
        }
    }

    /// Reads on after a first digit: a number, a time, an address, or text that begins with a digit.
    fn number(&mut self) -> Option<State> {
        loop {
            match self.next() {
                '-' if self.position - self.start == 5 => return self.after_year(),
                '-' => return self.error("All ISO8601 dates must be in full Zulu form.".to_owned()),
                digit if digit.is_ascii_digit() => {}
                '.' => return self.fraction(),
                suffix if begins_unit(suffix) => return self.unit(),
                other if self.ends_number(other) => {
                    self.backup();
                    self.emit(Kind::Integer);
                    return self.resume();
                }
                _ => return self.bare(),
            }
        }
    }

    fn negative_number(&mut self) -> Option<State> {
        match self.next() {
            digit if digit.is_ascii_digit() => {}
            '.' => return self.error("Floats must start with a digit, not '.'.".to_owned()),
            other => return self.error(format!("Expected a digit but got '{}'.", shown(other))),
        }
        loop {
            match self.next() {
                digit if digit.is_ascii_digit() => {}
                '.' => return self.fraction(),
                suffix if begins_unit(suffix) => return self.unit(),
                _ => {
                    self.backup();
                    self.emit(Kind::Integer);
                    return self.resume();
                }
            }
        }
    }

    /// Differs: a `]` right after a number ends it, as in JSON; the reference takes it as part of a text.
    fn ends_number(&self, character: char) -> bool {
        match character {
            '\n' | '\r' | END | '}' | ';' | ',' | ' ' | '\t' => true,
            ']' => matches!(self.resume.last(), Some(State::ArrayValueEnd)),
            _ => false,
        }
    }

    /// Reads on after the first letter of a unit such as `k`, `mb` or `GiB`.
    fn unit(&mut self) -> Option<State> {
        loop {
            match self.next() {
                'b' | 'B' | 'i' | 'I' => {}
                other => {
                    self.backup();
                    if !self.ends_number(other) && !other.is_ascii_digit() {
                        return self.bare();
                    }
                    self.emit(Kind::Integer);
                    return self.resume();
                }
            }
        }
    }

    /// Reads on after a point: the digits of a fraction, or the rest of an address.
    fn fraction(&mut self) -> Option<State> {
        let first = self.next();
        if !first.is_ascii_digit() {
            return self.error(format!(
                "Floats must have a digit after the '.', but got '{}' instead.",
                shown(first)
            ));
        }
        loop {
            match self.next() {
                digit if digit.is_ascii_digit() => {}
                '.' => return self.address(),
                _ => {
                    self.backup();
                    self.emit(Kind::Float);
                    return self.resume();
                }
            }
        }
    }

    /// Reads on after the second point of what is then not a number, such as `127.0.0.1:4222`.
    fn address(&mut self) -> Option<State> {
        while matches!(self.next(), '0'..='9' | '.' | ':' | '-') {}
        self.backup();
        self.emit(Kind::String);
        self.resume()
    }

    /// Reads the rest of a time after `2016-`.
    fn after_year(&mut self) -> Option<State> {
        for wanted in "00-00T00:00:00Z".chars() {
            let found = self.next();
            if wanted == '0' && !found.is_ascii_digit() {
                return self.error(format!(
                    "Expected digit in ISO8601 datetime, but found '{}' instead.",
                    shown(found)
                ));
            }
            if wanted != '0' && found != wanted {
                return self.error(format!(
                    "Expected '{wanted}' in ISO8601 datetime, but found '{}' instead.",
                    shown(found)
                ));
            }
        }
        self.emit(Kind::DateTime);
        self.resume()
    }

    /// Reads the path after the keyword.
    pub(super) fn include(&mut self) -> Option<State> {
        let what = loop {
            match self.next() {
                ' ' | '\t' => self.ignore(),
                quote @ ('\'' | '"') => {
                    self.ignore();
                    return self.quoted_include(quote);
                }
                '[' => break "start of an array",
                '{' => break "start of a map",
                '(' => break "start of a block",
                '0'..='9' | '-' => break "start of a number",
                '\\' => break "escape sequence",
                '\n' | '\r' => break "new line",
                _ => {
                    self.backup();
                    return self.bare_include();
                }
            }
        };
        self.error(format!("Expected include value but found {what}"))
    }

    fn quoted_include(&mut self, quote: char) -> Option<State> {
        loop {
            match self.next() {
                end if end == quote => return self.closing_quote(Kind::Include),
                END => {
                    let double = if quote == '"' { "double " } else { "" };
                    return self.error(format!("Unexpected EOF in {double}quoted include"));
                }
                _ => {}
            }
        }
    }

    fn bare_include(&mut self) -> Option<State> {
        loop {
            match self.next() {
                '\n' | '\r' | END | ';' | '}' | ' ' | '\t' => {
                    self.backup();
                    self.emit(Kind::Include);
                    return self.resume();
                }
                '\'' => return self.closing_quote(Kind::Include),
                _ => {}
            }
        }
    }
}

fn begins_unit(character: char) -> bool {
    matches!(character.to_ascii_lowercase(), 'k' | 'm' | 'g' | 't' | 'p' | 'e')
}
