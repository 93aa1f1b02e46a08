//! JSON objects as Go's `encoding/json` reads them into a struct: keys in any case, the last of equal keys wins,
//! `null` changes nothing, unknown keys are passed over, a value of the wrong type is an error.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// Why bytes can't be read into what was wanted.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Not an object in JSON.
    #[error("{0}")]
    Syntax(#[from] serde_json::Error),
    /// A value that can't be what its key wants.
    #[error("json: cannot unmarshal {found} into field {key} of type {wanted}")]
    Type {
        /// The key, as it was wanted.
        key: &'static str,
        /// What Go calls the type of the value.
        found: &'static str,
        /// What Go calls the type of the field.
        wanted: &'static str,
    },
}

/// The keys and values of one JSON object, in the order of the text.
#[derive(Debug)]
pub struct Object(Vec<(String, Value)>);

impl Object {
    /// Reads an object; invalid UTF-8 in it becomes U+FFFD, as in Go.
    ///
    /// # Errors
    ///
    /// [`JsonError::Syntax`].
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        Ok(serde_json::from_str(&String::from_utf8_lossy(bytes))?)
    }

    /// Reads a string into `field`, if the key is there.
    ///
    /// # Errors
    ///
    /// [`JsonError::Type`].
    pub fn string(&self, key: &'static str, field: &mut String) -> Result<(), JsonError> {
        self.each(key, "string", |value| match value {
            Value::String(text) => {
                field.clone_from(text);
                Some(())
            }
            _ => None,
        })
    }

    /// Reads a boolean into `field`, if the key is there.
    ///
    /// # Errors
    ///
    /// [`JsonError::Type`].
    pub fn boolean(&self, key: &'static str, field: &mut bool) -> Result<(), JsonError> {
        self.each(key, "bool", |value| value.as_bool().map(|value| *field = value))
    }

    /// Reads a whole number into `field`, if the key is there.
    ///
    /// # Errors
    ///
    /// [`JsonError::Type`], also for a number with a fraction.
    pub fn integer(&self, key: &'static str, field: &mut i64) -> Result<(), JsonError> {
        self.each(key, "int", |value| value.as_i64().map(|value| *field = value))
    }

    fn each(
        &self,
        key: &'static str,
        wanted: &'static str,
        mut take: impl FnMut(&Value) -> Option<()>,
    ) -> Result<(), JsonError> {
        for (_, value) in
            self.0.iter().filter(|(name, value)| name.eq_ignore_ascii_case(key) && !value.is_null())
        {
            let found = match value {
                Value::Null => "null",
                Value::Bool(_) => "bool",
                Value::Number(_) => "number",
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Object(_) => "object",
            };
            take(value).ok_or(JsonError::Type { key, found, wanted })?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Object(pairs))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, bool, i64), JsonError> {
        let object = Object::parse(text.as_bytes())?;
        let (mut name, mut on, mut count) = (String::from("none"), false, 7);
        object.string("name", &mut name)?;
        object.boolean("on", &mut on)?;
        object.integer("count", &mut count)?;
        Ok((name, on, count))
    }

    #[test]
    fn keys_are_read_in_any_case_and_the_last_wins() {
        assert_eq!(read(r#"{"NAME":"a","name":"b","Name":"c","ON":true}"#).unwrap(), ("c".into(), true, 7));
    }

    #[test]
    fn null_and_unknown_keys_change_nothing() {
        assert_eq!(
            read(r#"{"name":null,"what":{"is":["this"]},"count":null}"#).unwrap(),
            ("none".into(), false, 7)
        );
    }

    #[test]
    fn wrong_types_and_other_texts_are_errors() {
        for text in [r#"{"name":1}"#, r#"{"on":"true"}"#, r#"{"count":1.5}"#, "[]", "{", "", "{} x"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
