//! Bytes to items of the configuration language.
//!
//! A state machine that is pulled: [`Lexer::next_item`] runs it until there is an item. After a value or a comment
//! it resumes the state on top of its stack, so nesting costs a stack entry and no recursion. It never looks
//! further than two characters ahead and never goes back further than two, so that reading is linear.
//!
//! Lines, columns and texts of errors are the reference's, with its peculiarities: a NUL counts as the end of the
//! input; a lone `/` after a value is skipped; a column counts from the line end before it.
//!
//! Differs: a digit is an ASCII digit, where the reference takes any of Unicode's and fails on it later. Bytes that
//! are not UTF-8 become U+FFFD, where the reference keeps them.
//!
//! Source: nats-server `conf/lex.go`.

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Lexing can't go on; the text says why.
    Error,
    /// There is no more.
    End,
    /// A key; its value follows.
    Key,
    /// Text, without its quotes and with its escapes undone.
    String,
    /// `true`, `off` and the like.
    Bool,
    /// A whole number with its unit.
    Integer,
    /// A number with a fraction.
    Float,
    /// A time.
    DateTime,
    /// `[`
    ArrayStart,
    /// `]`
    ArrayEnd,
    /// `{` after a key or in an array.
    MapStart,
    /// The `}` that belongs to it.
    MapEnd,
    /// The name of a variable, without its `$`.
    Variable,
    /// The path of a file to include.
    Include,
}

/// One item and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) kind: Kind,
    pub(super) text: String,
    pub(super) line: usize,
    pub(super) column: i64,
}

/// What the end of the input reads as.
const END: char = '\0';

/// Where the machine stands between two items, or what it does after a value.
#[derive(Clone, Copy, Debug)]
enum State {
    Top,
    TopValueEnd,
    BlockStart,
    BlockValueEnd,
    BlockEnd,
    KeyStart,
    KeyEnd,
    MapKeyStart,
    MapKeyEnd,
    MapValueEnd,
    ArrayValue,
    ArrayValueEnd,
    Value,
}

/// The machine.
pub(super) struct Lexer<'a> {
    input: &'a [u8],
    /// Where the current item begins.
    start: usize,
    /// Where the next character begins.
    position: usize,
    /// How long the last character was, 0 at the end.
    width: usize,
    line: usize,
    /// The line end before the current line, or 0.
    line_start: usize,
    /// The same for the line on which the current item begins.
    item_line_start: usize,
    /// What to do after the current value, comment or include.
    resume: Vec<State>,
    /// What escapes have made of the beginning of the current string; `None` if it had none.
    unescaped: Option<Vec<u8>>,
    /// `None` when everything has been said.
    state: Option<State>,
    item: Option<Item>,
}

impl<'a> Lexer<'a> {
    /// Makes a lexer at the beginning of `input`.
    pub(super) fn new(input: &'a [u8]) -> Self {
        Lexer {
            input,
            start: 0,
            position: 0,
            width: 0,
            line: 1,
            line_start: 0,
            item_line_start: 0,
            resume: Vec::new(),
            unescaped: None,
            state: Some(State::Top),
            item: None,
        }
    }

    /// Returns the next item; after an error or the end only ends.
    pub(super) fn next_item(&mut self) -> Item {
        loop {
            if let Some(item) = self.item.take() {
                return item;
            }
            let Some(state) = self.state else {
                return Item { kind: Kind::End, text: String::new(), line: self.line, column: 0 };
            };
            self.state = self.step(state);
        }
    }

    fn step(&mut self, state: State) -> Option<State> {
        match state {
            State::Top => self.top(),
            State::TopValueEnd => self.top_value_end(),
            State::BlockStart => self.block_start(),
            State::BlockValueEnd => self.block_value_end(),
            State::BlockEnd => self.block_end(),
            State::KeyStart => self.key_start(),
            State::KeyEnd => self.key_end(),
            State::MapKeyStart => self.map_key_start(),
            State::MapKeyEnd => self.map_key_end(),
            State::MapValueEnd => self.map_value_end(),
            State::ArrayValue => self.array_value(),
            State::ArrayValueEnd => self.array_value_end(),
            State::Value => self.value(),
        }
    }

    // The outermost level.

    fn top(&mut self) -> Option<State> {
        loop {
            match self.next() {
                space if space.is_whitespace() => self.ignore(),
                '{' => {
                    self.resume.push(State::Top);
                    self.ignore();
                    return Some(State::BlockStart);
                }
                '#' => return self.comment(State::Top),
                '/' if self.another_slash() => return self.comment(State::Top),
                '/' | END => return self.end(),
                _ => {
                    self.backup();
                    self.resume.push(State::TopValueEnd);
                    return Some(State::KeyStart);
                }
            }
        }
    }

    fn top_value_end(&mut self) -> Option<State> {
        loop {
            match self.next() {
                '#' => return self.comment(State::Top),
                '/' if self.another_slash() => return self.comment(State::Top),
                '/' | ' ' | '\t' => {}
                '\n' | '\r' | END | ';' | ',' | '}' => {
                    self.ignore();
                    return Some(State::Top);
                }
                other => {
                    return self.error(format!(
                        "Expected a top-level value to end with a new line, comment or EOF, but got '{}' instead.",
                        shown(other)
                    ));
                }
            }
        }
    }

    // The braces that may stand around everything, as in JSON.

    fn block_start(&mut self) -> Option<State> {
        loop {
            match self.next() {
                space if space.is_whitespace() => self.ignore(),
                '{' => {
                    self.resume.push(State::BlockEnd);
                    self.ignore();
                }
                '}' => {
                    self.ignore();
                    return self.resume();
                }
                '#' => return self.comment(State::BlockStart),
                '/' if self.another_slash() => return self.comment(State::BlockStart),
                '/' | END => return self.end(),
                _ => {
                    self.backup();
                    self.resume.push(State::BlockValueEnd);
                    return Some(State::KeyStart);
                }
            }
        }
    }

    fn block_value_end(&mut self) -> Option<State> {
        loop {
            match self.next() {
                '#' => return self.comment(State::BlockValueEnd),
                '/' if self.another_slash() => return self.comment(State::BlockValueEnd),
                '/' | ' ' | '\t' => {}
                '\n' | '\r' | ';' | ',' => {
                    self.ignore();
                    return Some(State::BlockStart);
                }
                '}' => {
                    self.backup();
                    return Some(State::BlockEnd);
                }
                other => {
                    return self.error(format!(
                        "Expected a block-level value to end with a new line, comment or EOF, but got '{}' instead.",
                        shown(other)
                    ));
                }
            }
        }
    }

    fn block_end(&mut self) -> Option<State> {
        loop {
            match self.next() {
                '#' => return self.comment(State::BlockStart),
                '/' if self.another_slash() => return self.comment(State::BlockStart),
                '/' | ' ' | '\t' | '\n' | '\r' => {}
                ';' | ',' => {
                    self.ignore();
                    return Some(State::BlockStart);
                }
                '}' => {
                    self.ignore();
                    return self.resume();
                }
                other => {
                    return self.error(format!(
                        "Expected a block-level to end with a '}}', but got '{}' instead.",
                        shown(other)
                    ));
                }
            }
        }
    }

    // Keys outside of maps.

    fn key_start(&mut self) -> Option<State> {
        loop {
            match self.peek() {
                separator @ ('=' | ':') => {
                    return self.error(format!("Unexpected key separator '{separator}'"));
                }
                space if space.is_whitespace() => {
                    self.next();
                    self.ignore();
                }
                quote @ ('"' | '\'') => {
                    self.next();
                    self.ignore();
                    return self.quoted_key(quote);
                }
                _ => {
                    self.ignore();
                    self.next();
                    return self.key();
                }
            }
        }
    }

    fn quoted_key(&mut self, quote: char) -> Option<State> {
        loop {
            match self.peek() {
                end if end == quote => {
                    self.emit(Kind::Key);
                    self.next();
                    self.ignore();
                    return Some(State::KeyEnd);
                }
                END => return self.end(),
                _ => {
                    self.next();
                }
            }
        }
    }

    fn key(&mut self) -> Option<State> {
        loop {
            match self.peek() {
                space if space.is_whitespace() => {
                    if self.at_include() {
                        self.ignore();
                        return self.include();
                    }
                    self.emit(Kind::Key);
                    return Some(State::KeyEnd);
                }
                '=' | ':' | END => {
                    self.emit(Kind::Key);
                    return Some(State::KeyEnd);
                }
                _ => {
                    self.next();
                }
            }
        }
    }

    fn key_end(&mut self) -> Option<State> {
        loop {
            match self.next() {
                space if space.is_whitespace() => self.ignore(),
                '=' | ':' => {
                    self.ignore();
                    return Some(State::Value);
                }
                END => {
                    self.emit(Kind::End);
                    return None;
                }
                _ => {
                    self.backup();
                    return Some(State::Value);
                }
            }
        }
    }

    // What all levels share; maps, arrays and other values are in the files beside this one.

    fn close(&mut self, kind: Kind) -> Option<State> {
        self.ignore();
        self.emit(kind);
        self.resume()
    }

    fn comment(&mut self, resume: State) -> Option<State> {
        while !matches!(self.peek(), '\n' | '\r' | END) {
            self.next();
        }
        self.ignore();
        Some(resume)
    }

    /// The current item is an unquoted key, complete: is it the keyword?
    fn at_include(&self) -> bool {
        self.current().eq_ignore_ascii_case(b"include")
    }

    fn another_slash(&mut self) -> bool {
        if self.next() == '/' {
            return true;
        }
        self.backup();
        false
    }

    /// Ends the items, or complains if the end is in the middle of something.
    fn end(&mut self) -> Option<State> {
        if self.position > self.start {
            return self.error("Unexpected EOF.".to_owned());
        }
        self.emit(Kind::End);
        None
    }

    fn resume(&mut self) -> Option<State> {
        match self.resume.pop() {
            Some(state) => Some(state),
            None => self.error("BUG in lexer: no states to pop.".to_owned()),
        }
    }

    fn current(&self) -> &'a [u8] {
        &self.input[self.start..self.position]
    }

    fn emit(&mut self, kind: Kind) {
        let mut bytes = self.unescaped.take().unwrap_or_default();
        bytes.extend_from_slice(self.current());
        self.item = Some(Item {
            kind,
            line: self.line,
            column: self.position as i64 - self.item_line_start as i64 - bytes.len() as i64,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        });
        self.ignore();
    }

    fn error(&mut self, text: String) -> Option<State> {
        self.item = Some(Item {
            kind: Kind::Error,
            text,
            line: self.line,
            column: self.position as i64 - self.line_start as i64,
        });
        None
    }

    fn next(&mut self) -> char {
        let rest = &self.input[self.position..];
        let (character, width) = match rest.first() {
            None => (END, 0),
            Some(b'\n') => {
                self.line += 1;
                self.line_start = self.position;
                ('\n', 1)
            }
            Some(byte) if byte.is_ascii() => (char::from(*byte), 1),
            Some(_) => first_character(rest),
        };
        self.width = width;
        self.position += width;
        character
    }

    /// Goes back by the width of the character read last, which may be done twice if that was one byte.
    fn backup(&mut self) {
        self.position -= self.width;
        if self.input.get(self.position) == Some(&b'\n') {
            self.line -= 1;
        }
    }

    fn peek(&mut self) -> char {
        let character = self.next();
        self.backup();
        character
    }

    fn ignore(&mut self) {
        self.start = self.position;
        self.item_line_start = self.line_start;
    }
}

mod nested;
mod values;

/// Decodes the first character of `bytes`, which aren't empty; a bad byte is U+FFFD of width 1.
fn first_character(bytes: &[u8]) -> (char, usize) {
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    valid.chars().next().map_or((char::REPLACEMENT_CHARACTER, 1), |first| (first, first.len_utf8()))
}

/// Writes a character for an error's text.
fn shown(character: char) -> String {
    match character {
        '\n' => "\\n".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
