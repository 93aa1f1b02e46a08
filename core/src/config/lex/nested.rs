//! The part of the lexer that goes through maps and arrays.

use super::{END, Kind, Lexer, State, shown};

impl Lexer<'_> {
    // Maps.

    pub(super) fn map_key_start(&mut self) -> Option<State> {
        loop {
            match self.peek() {
                separator @ ('=' | ':') => {
                    return self.error(format!("Unexpected key separator '{separator}'."));
                }
                ']' => return self.error("Unexpected array end ']' processing map.".to_owned()),
                space if space.is_whitespace() => {
                    self.next();
                    self.ignore();
                    continue;
                }
                '}' => {
                    self.next();
                    return self.close(Kind::MapEnd);
                }
                '#' => {
                    self.next();
                    return self.comment(State::MapKeyStart);
                }
                '/' => {
                    self.next();
                    if self.another_slash() {
                        return self.comment(State::MapKeyStart);
                    }
                    // A key that begins with one slash loses it.
                }
                quote @ ('"' | '\'') => {
                    self.next();
                    self.ignore();
                    return self.map_quoted_key(quote);
                }
                END => return self.error("Unexpected EOF processing map.".to_owned()),
                _ => {}
            }
            self.ignore();
            self.next();
            return self.map_key();
        }
    }

    fn map_quoted_key(&mut self, quote: char) -> Option<State> {
        loop {
            match self.peek() {
                END => {
                    let double = if quote == '"' { "double " } else { "" };
                    return self.error(format!("Unexpected EOF processing {double}quoted map key."));
                }
                end if end == quote => {
                    self.emit(Kind::Key);
                    self.next();
                    self.ignore();
                    return Some(State::MapKeyEnd);
                }
                _ => {
                    self.next();
                }
            }
        }
    }

    fn map_key(&mut self) -> Option<State> {
        loop {
            match self.peek() {
                END => return self.error("Unexpected EOF processing map key.".to_owned()),
                space if space.is_whitespace() => {
                    if self.at_include() {
                        self.ignore();
                        self.resume.push(State::MapValueEnd);
                        return self.include();
                    }
                    self.emit(Kind::Key);
                    return Some(State::MapKeyEnd);
                }
                '=' | ':' => {
                    self.emit(Kind::Key);
                    return Some(State::MapKeyEnd);
                }
                _ => {
                    self.next();
                }
            }
        }
    }

    pub(super) fn map_key_end(&mut self) -> Option<State> {
        loop {
            match self.next() {
                space if space.is_whitespace() => self.ignore(),
                '=' | ':' => {
                    self.ignore();
                    break;
                }
                _ => {
                    self.backup();
                    break;
                }
            }
        }
        loop {
            match self.next() {
                space if space.is_whitespace() => self.ignore(),
                ',' => return self.error("Unexpected map value terminator \",\".".to_owned()),
                '}' => return self.close(Kind::MapEnd),
                _ => {
                    self.backup();
                    self.resume.push(State::MapValueEnd);
                    return Some(State::Value);
                }
            }
        }
    }

    pub(super) fn map_value_end(&mut self) -> Option<State> {
        loop {
            match self.next() {
                ' ' | '\t' => self.ignore(),
                '#' => return self.comment(State::MapValueEnd),
                '/' if self.another_slash() => return self.comment(State::MapValueEnd),
                '/' | ';' | ',' | '\n' | '\r' => {
                    self.ignore();
                    return Some(State::MapKeyStart);
                }
                '}' => return self.close(Kind::MapEnd),
                other => {
                    return self.error(format!(
                        "Expected a map value terminator \",\" or a map terminator \"}}\", but got '{}' instead.",
                        shown(other)
                    ));
                }
            }
        }
    }

    // Arrays.

    pub(super) fn array_value(&mut self) -> Option<State> {
        loop {
            match self.next() {
                space if space.is_whitespace() => self.ignore(),
                '#' => return self.comment(State::ArrayValue),
                '/' if self.another_slash() => return self.comment(State::ArrayValue),
                '/' | ',' => return self.error("Unexpected array value terminator ','.".to_owned()),
                ']' => return self.close(Kind::ArrayEnd),
                _ => {
                    self.backup();
                    self.resume.push(State::ArrayValueEnd);
                    return Some(State::Value);
                }
            }
        }
    }

    pub(super) fn array_value_end(&mut self) -> Option<State> {
        loop {
            match self.next() {
                ' ' | '\t' => self.ignore(),
                '#' => return self.comment(State::ArrayValueEnd),
                '/' if self.another_slash() => return self.comment(State::ArrayValueEnd),
                '/' | ',' | '\n' | '\r' => {
                    self.ignore();
                    return Some(State::ArrayValue);
                }
                ']' => return self.close(Kind::ArrayEnd),
                other => {
                    return self.error(format!(
                        "Expected an array value terminator \",\" or an array terminator \"]\", but got '{}' instead.",
                        shown(other)
                    ));
                }
            }
        }
    }
}
