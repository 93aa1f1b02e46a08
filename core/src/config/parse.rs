//! Items to a tree of values: variables looked up, includes read, units multiplied in.
//!
//! The parser keeps a stack of open maps and arrays instead of recursing; only an include and a variable of the
//! environment start a parser of their own. Everything a hostile file could make grow is bounded: nesting
//! ([`MAX_DEPTH`]), files and environment variables inside one another ([`MAX_INCLUDE_DEPTH`]) and in all
//! ([`MAX_INCLUDES`]), and what copies of variables add up to ([`MAX_EXPANSION`]).
//!
//! Differs: the reference has none of these bounds (a file that includes itself ends it by a stack overflow), lets
//! an integer overflow silently when its unit is multiplied in, and forgets a value with a unit like `kbb`, which
//! shifts the keys after it.
//!
//! Source: nats-server `conf/parse.go`.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::lex::{Item, Kind, Lexer};
use super::source::{self, Source};
use super::value::{Position, Token, Value};

/// How deep maps and arrays may nest.
pub const MAX_DEPTH: usize = 128;
/// How deep includes and variables of the environment may nest.
pub const MAX_INCLUDE_DEPTH: usize = 32;
/// How many includes and variables of the environment one configuration may have.
pub const MAX_INCLUDES: usize = 10_000;
/// What all copies made for variables may weigh, roughly in bytes.
pub const MAX_EXPANSION: usize = 64 << 20;

/// The reference's abbreviation for hashes that need no quotes although they begin with a `$`.
const BCRYPT_PREFIX: &str = "2a$";

/// Why a text is not a configuration; prints the reference's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The main file could not be read.
    #[error("{0}")]
    Read(String),
    /// The text breaks the grammar.
    #[error("Parse error on line {line}: '{text}'")]
    Syntax {
        /// The line at which reading stopped.
        line: usize,
        /// What was expected there.
        text: String,
    },
    /// The text ends in a key.
    #[error("config is invalid ({0})")]
    KeyWithoutValue(Position),
    /// A whole number doesn't fit 64 bits.
    #[error("integer '{0}' is out of the range")]
    IntegerRange(String),
    /// A whole number has a unit that doesn't exist.
    #[error("expected integer, but got '{0}'")]
    Integer(String),
    /// A number with a fraction is too large.
    #[error("float '{0}' is out of the range")]
    FloatRange(String),
    /// A time has, for instance, a thirteenth month.
    #[error("expected Zulu formatted DateTime, but got '{0}'")]
    DateTime(String),
    /// A variable is defined neither before its use nor in the environment.
    #[error("variable reference for '{name}' on line {line} can not be found")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The line that refers to it.
        line: usize,
    },
    /// What the environment has for a variable can't be used.
    #[error("variable reference for '{name}' on line {line} could not be parsed: {reason}")]
    BadVariable {
        /// The variable.
        name: String,
        /// The line that refers to it.
        line: usize,
        /// What is wrong with it.
        reason: Box<ParseError>,
    },
    /// Variables of the environment refer to one another.
    #[error("variable reference cycle for '{0}'")]
    VariableCycle(String),
    /// An included file can't be used.
    #[error("error parsing include file '{path}', {reason}")]
    Include {
        /// The file as the include names it.
        path: String,
        /// What is wrong with it.
        reason: Box<ParseError>,
    },
    /// Maps and arrays nest deeper than [`MAX_DEPTH`].
    #[error("nesting is deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Includes or variables of the environment exceed [`MAX_INCLUDE_DEPTH`] or [`MAX_INCLUDES`].
    #[error("too many includes or variables inside one another")]
    TooManyIncludes,
    /// Variables exceed [`MAX_EXPANSION`].
    #[error("variables expand to too much")]
    TooMuchExpansion,
}

/// Reads the file at `path` and parses it and what it includes.
pub(super) fn parse_file(source: &dyn Source, path: &str) -> Result<BTreeMap<String, Token>, ParseError> {
    let text = source::read(source, path).map_err(ParseError::Read)?;
    Budget::default().parse(source, &text, path, source::folder(path))
}

/// Parses `text` as if it were in the file `path`, which isn't read; for nobody's file `path` is empty.
pub(super) fn parse_text(
    source: &dyn Source,
    text: &[u8],
    path: &str,
) -> Result<BTreeMap<String, Token>, ParseError> {
    Budget::default().parse(source, text, path, source::folder(path))
}

/// What the parsers of one configuration share.
#[derive(Default)]
struct Budget {
    depth: usize,
    includes: usize,
    expansion: usize,
    /// The variables of the environment that are being parsed, outermost first.
    variables: Vec<String>,
}

impl Budget {
    fn parse(
        &mut self,
        source: &dyn Source,
        text: &[u8],
        file: &str,
        folder: String,
    ) -> Result<BTreeMap<String, Token>, ParseError> {
        self.includes += 1;
        if self.depth > MAX_INCLUDE_DEPTH || self.includes > MAX_INCLUDES {
            return Err(ParseError::TooManyIncludes);
        }
        self.depth += 1;
        let parser = Parser { source, budget: self, file: file.into(), folder, open: vec![Open::map(None)] };
        let parsed = parser.run(text);
        self.depth -= 1;
        parsed
    }

    fn spend(&mut self, value: &Value) -> Result<(), ParseError> {
        self.expansion = self.expansion.saturating_add(value.weight());
        if self.expansion > MAX_EXPANSION { Err(ParseError::TooMuchExpansion) } else { Ok(()) }
    }
}

/// A key whose value is still to come.
type PendingKey = Option<Item>;

/// A map or an array that isn't closed yet.
enum Open {
    Map { entries: BTreeMap<String, Token>, key: PendingKey },
    Array { items: Vec<Token> },
}

impl Open {
    fn map(key: PendingKey) -> Self {
        Open::Map { entries: BTreeMap::new(), key }
    }
}

struct Parser<'a> {
    source: &'a dyn Source,
    budget: &'a mut Budget,
    file: Rc<str>,
    folder: String,
    /// Never empty: the first is the whole file.
    open: Vec<Open>,
}

impl Parser<'_> {
    fn run(mut self, text: &[u8]) -> Result<BTreeMap<String, Token>, ParseError> {
        let mut lexer = Lexer::new(text);
        let mut last_key = None;
        loop {
            let item = lexer.next_item();
            match item.kind {
                Kind::Error => return Err(ParseError::Syntax { line: item.line, text: item.text }),
                Kind::End => {
                    // A closing brace too many is forgiven, for the sake of what is nearly JSON.
                    if last_key.is_some_and(|key| key != "}") {
                        return Err(ParseError::KeyWithoutValue(self.position(&item)));
                    }
                    break;
                }
                _ => {}
            }
            last_key = (item.kind == Kind::Key).then(|| item.text.clone());
            self.item(item)?;
        }
        // The lexer ends only outside of maps and arrays, so nothing else is open.
        match self.open.into_iter().next() {
            Some(Open::Map { entries, .. }) => Ok(entries),
            _ => Ok(BTreeMap::new()),
        }
    }

    fn item(&mut self, item: Item) -> Result<(), ParseError> {
        let value = match item.kind {
            Kind::Error | Kind::End => return Ok(()),
            Kind::Key => {
                if let Some(Open::Map { key, .. }) = self.open.last_mut() {
                    *key = Some(item);
                }
                return Ok(());
            }
            Kind::MapStart => return self.open(Open::map(None)),
            Kind::ArrayStart => return self.open(Open::Array { items: Vec::new() }),
            Kind::MapEnd | Kind::ArrayEnd => match self.close() {
                Some(value) => value,
                None => return Ok(()),
            },
            Kind::Include => return self.include(item.text),
            Kind::Variable => self.variable(&item)?,
            Kind::String => Value::String(item.text.clone()),
            Kind::Bool => Value::Bool(matches!(
                item.text.as_bytes().to_ascii_lowercase().as_slice(),
                b"true" | b"yes" | b"on"
            )),
            Kind::Integer => Value::Integer(integer(&item.text)?),
            Kind::Float => match item.text.parse::<f64>() {
                Ok(number) if number.is_finite() => Value::Float(number),
                _ => return Err(ParseError::FloatRange(item.text)),
            },
            Kind::DateTime if is_datetime(&item.text) => Value::DateTime(item.text.clone()),
            Kind::DateTime => return Err(ParseError::DateTime(item.text)),
        };
        let position = self.position(&item);
        self.put(Token { value, position, used_variable: false });
        Ok(())
    }

    fn position(&self, item: &Item) -> Position {
        Position { file: Rc::clone(&self.file), line: item.line, column: item.column }
    }

    fn open(&mut self, open: Open) -> Result<(), ParseError> {
        if self.open.len() > MAX_DEPTH {
            return Err(ParseError::TooDeep);
        }
        self.open.push(open);
        Ok(())
    }

    /// Closes what was opened last; the lexer guarantees that it isn't the file itself.
    fn close(&mut self) -> Option<Value> {
        if self.open.len() < 2 {
            return None;
        }
        Some(match self.open.pop()? {
            Open::Map { entries, .. } => Value::Map(entries),
            Open::Array { items } => Value::Array(items),
        })
    }

    /// Puts a value where it belongs; in a map it takes over the place of its key.
    fn put(&mut self, mut token: Token) {
        match self.open.last_mut() {
            Some(Open::Array { items }) => items.push(token),
            Some(Open::Map { entries, key }) => {
                if let Some(key) = key.take() {
                    token.position.line = key.line;
                    token.position.column = key.column;
                    entries.insert(key.text, token);
                }
            }
            None => {}
        }
    }

    fn include(&mut self, path: String) -> Result<(), ParseError> {
        let file = source::join(&self.folder, &path);
        let included = source::read(self.source, &file).map_err(ParseError::Read).and_then(|text| {
            let folder = source::folder(&file);
            self.budget.parse(self.source, &text, &file, folder)
        });
        let included = included.map_err(|reason| ParseError::Include { path, reason: Box::new(reason) })?;
        if let Some(Open::Map { entries, .. }) = self.open.last_mut() {
            entries.extend(included);
        }
        Ok(())
    }

    /// Looks a variable up: in the maps around it from the inside out, then in the environment.
    fn variable(&mut self, item: &Item) -> Result<Value, ParseError> {
        let name = &item.text;
        if name.starts_with(BCRYPT_PREFIX) {
            return Ok(Value::String(format!("${name}")));
        }
        let defined = self.open.iter_mut().rev().find_map(|open| match open {
            Open::Map { entries, .. } => entries.get_mut(name),
            Open::Array { .. } => None,
        });
        if let Some(token) = defined {
            token.used_variable = true;
            self.budget.spend(&token.value)?;
            return Ok(token.value.clone());
        }
        match self.environment_variable(name) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(ParseError::UnknownVariable { name: name.clone(), line: item.line }),
            Err(reason) => {
                Err(ParseError::BadVariable { name: name.clone(), line: item.line, reason: Box::new(reason) })
            }
        }
    }

    /// Parses what the environment has for `name` as if it were written after a key.
    fn environment_variable(&mut self, name: &str) -> Result<Option<Value>, ParseError> {
        const KEY: &str = "pk";
        if self.budget.variables.iter().any(|outer| outer == name) {
            return Err(ParseError::VariableCycle(name.to_owned()));
        }
        let Some(text) = self.source.env(name) else { return Ok(None) };
        self.budget.variables.push(name.to_owned());
        let text = format!("{KEY}={text}");
        let parsed = self.budget.parse(self.source, text.as_bytes(), &format!("${name}"), ".".to_owned());
        self.budget.variables.pop();
        Ok(parsed?.remove(KEY).map(|token| token.value))
    }
}

/// Reads a whole number and multiplies its unit in: `k` counts in thousands, `kb`, `ki` and `kib` in 1024s.
fn integer(text: &str) -> Result<i64, ParseError> {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'-').count();
    let (number, unit) = text.split_at(digits);
    let number: i64 = number.parse().map_err(|_| ParseError::IntegerRange(text.to_owned()))?;
    let unit = unit.to_ascii_lowercase();
    let mut letters = unit.chars();
    let power = match letters.next() {
        None => return Ok(number),
        Some(letter) => match "kmgtpe".find(letter) {
            Some(index) => index as u32 + 1,
            None => return Err(ParseError::Integer(text.to_owned())),
        },
    };
    let base: i64 = match letters.as_str() {
        "" => 1000,
        "b" | "i" | "ib" => 1024,
        _ => return Err(ParseError::Integer(text.to_owned())),
    };
    number.checked_mul(base.pow(power)).ok_or_else(|| ParseError::IntegerRange(text.to_owned()))
}

/// Checks the numbers in `2006-01-02T15:04:05Z`; the lexer has seen to the shape.
fn is_datetime(text: &str) -> bool {
    let part = |range: std::ops::Range<usize>| text.get(range).and_then(|digits| digits.parse().ok());
    let fields = (|| Some([part(5..7)?, part(8..10)?, part(11..13)?, part(14..16)?, part(17..19)?]))();
    let year = text.get(0..4).and_then(|digits| digits.parse().ok());
    match (year, fields) {
        (Some(year), Some([month, day, hour, minute, second])) => {
            jiff::civil::DateTime::new(year, month, day, hour, minute, second, 0).is_ok()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
