//! What a configuration says, each value with the place where it was written.

use std::collections::BTreeMap;
use std::rc::Rc;

/// A value of the language.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `true`, `yes`, `on` and their opposites.
    Bool(bool),
    /// A whole number, its unit multiplied in.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text, quoted or not.
    String(String),
    /// A time such as `2016-05-04T18:53:41Z`, checked, as it was written.
    DateTime(String),
    /// `[ … ]`
    Array(Vec<Token>),
    /// `{ … }`; of a key that is repeated the last value counts.
    Map(BTreeMap<String, Token>),
}

impl Value {
    /// Names the type as the reference's messages do.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Bool(_) => "bool",
            Value::Integer(_) => "int64",
            Value::Float(_) => "float64",
            Value::String(_) => "string",
            Value::DateTime(_) => "time.Time",
            Value::Array(_) => "[]interface {}",
            Value::Map(_) => "map[string]interface {}",
        }
    }

    /// Counts what a copy of this value costs, roughly, in bytes.
    pub(super) fn weight(&self) -> usize {
        const NODE: usize = 64;
        NODE + match self {
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::DateTime(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(|item| item.value.weight()).sum(),
            Value::Map(entries) => entries.iter().map(|(key, entry)| key.len() + entry.value.weight()).sum(),
        }
    }
}

/// Plain values as they would be written; for arrays and maps their contents in brackets.
///
/// Differs: the reference prints addresses of memory in place of what an array or a map contains.
impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Bool(value) => write!(f, "{value}"),
            Value::Integer(value) => write!(f, "{value}"),
            Value::Float(value) if *value != 0.0 && !(1e-4..1e21).contains(&value.abs()) => {
                let text = format!("{value:e}");
                let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                let (sign, exponent) = match exponent.strip_prefix('-') {
                    Some(exponent) => ('-', exponent),
                    None => ('+', exponent),
                };
                write!(f, "{digits}e{sign}{exponent:0>2}")
            }
            Value::Float(value) => write!(f, "{value}"),
            Value::String(text) | Value::DateTime(text) => f.write_str(text),
            Value::Array(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    let separator = if index == 0 { "" } else { " " };
                    write!(f, "{separator}{}", item.value)?;
                }
                f.write_str("]")
            }
            Value::Map(entries) => {
                f.write_str("map[")?;
                for (index, (key, entry)) in entries.iter().enumerate() {
                    let separator = if index == 0 { "" } else { " " };
                    write!(f, "{separator}{key}:{}", entry.value)?;
                }
                f.write_str("]")
            }
        }
    }
}

/// Where something was written; prints as `file:line:column`.
///
/// The column counts bytes, from 0 on the first line and from 1 on the others, and can be negative after strings
/// that span lines: all as the reference counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The file, as it was named; for a variable of the environment `$` and its name.
    pub file: Rc<str>,
    /// The line, from 1.
    pub line: usize,
    /// The column.
    pub column: i64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A value and where it was written: in a map where its key begins, in an array where it begins itself.
#[derive(Clone, Debug)]
pub struct Token {
    /// The value.
    pub value: Value,
    /// The place.
    pub position: Position,
    /// Whether some variable referred to it: then its key need not be a known one.
    pub used_variable: bool,
}

/// Compares values only: the same setting written elsewhere is the same setting.
impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// Returns the entries of a map in the order in which they were written.
///
/// Differs: the reference goes through them in random order; here errors come in the order of the file.
pub(super) fn in_order(map: &BTreeMap<String, Token>) -> Vec<(&str, &Token)> {
    let mut entries: Vec<_> = map.iter().map(|(key, token)| (key.as_str(), token)).collect();
    entries.sort_by(|(_, a), (_, b)| {
        (a.position.line, a.position.column).cmp(&(b.position.line, b.position.column))
    });
    entries
}
