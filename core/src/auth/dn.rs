//! Distinguished names, as far as a certificate's subject is compared with a configured user name.
//!
//! Source: nats-server `internal/ldap/dn.go`, `ParseDN`, `Equal`, `RDNsMatch`, which follow RFC 4514 and RFC 4517.

/// The names of a distinguished name, each one or more attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DistinguishedName(Vec<Vec<Attribute>>);

/// A type, in lower case since its case doesn't matter, and a value, whose case does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Attribute {
    kind: String,
    value: String,
}

impl Attribute {
    fn new(kind: &str, value: String) -> Self {
        Attribute { kind: kind.to_ascii_lowercase(), value }
    }
}

impl DistinguishedName {
    /// Reads `TYPE=value,TYPE=value+TYPE=value`; `None` if it isn't one. A backslash takes the meaning off the
    /// character behind it, or stands before two hexadecimal digits; blanks around types and values are no part of
    /// them.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut names = vec![Vec::new()];
        let (mut kind, mut buffer, mut trailing_blanks) = (String::new(), Vec::new(), 0);
        let take = |buffer: &mut Vec<u8>, blanks: &mut usize| {
            buffer.truncate(buffer.len() - std::mem::take(blanks));
            String::from_utf8(std::mem::take(buffer)).ok()
        };
        let mut bytes = text.as_bytes().iter();
        while let Some(&byte) = bytes.next() {
            match byte {
                b'\\' => {
                    trailing_blanks = 0;
                    buffer.push(match *bytes.next()? {
                        escaped @ (b' ' | b'"' | b'#' | b'+' | b',' | b';' | b'<' | b'=' | b'>' | b'\\') => {
                            escaped
                        }
                        high => {
                            let digit = |byte: u8| char::from(byte).to_digit(16);
                            u8::try_from(digit(high)? << 4 | digit(*bytes.next()?)?).ok()?
                        }
                    });
                }
                b'=' => {
                    kind = take(&mut buffer, &mut trailing_blanks)?;
                    // What follows would be BER, which nobody reads here.
                    if bytes.as_slice().starts_with(b"#") {
                        return None;
                    }
                }
                b',' | b'+' => {
                    if kind.is_empty() {
                        return None;
                    }
                    let value = take(&mut buffer, &mut trailing_blanks)?;
                    names.last_mut()?.push(Attribute::new(&std::mem::take(&mut kind), value));
                    if byte == b',' {
                        names.push(Vec::new());
                    }
                }
                b' ' if buffer.is_empty() => {}
                _ => {
                    trailing_blanks = if byte == b' ' { trailing_blanks + 1 } else { 0 };
                    buffer.push(byte);
                }
            }
        }
        if !buffer.is_empty() {
            if kind.is_empty() {
                return None;
            }
            let value = take(&mut buffer, &mut trailing_blanks)?;
            names.last_mut()?.push(Attribute::new(&kind, value));
        } else {
            names.pop();
        }
        names.iter_mut().for_each(|name| name.sort_unstable());
        Some(DistinguishedName(names))
    }

    /// Takes the subject of a certificate, whose names are `TYPE=value` in the certificate's order, which is the
    /// reverse of the written one. Nothing is escaped in them.
    pub(super) fn of_certificate(parts: &[String]) -> Option<Self> {
        let name = |part: &String| {
            let (kind, value) = part.split_once('=')?;
            Some(vec![Attribute::new(kind, value.to_owned())])
        };
        parts.iter().rev().map(name).collect::<Option<_>>().map(DistinguishedName)
    }

    /// Tells whether both have the same names, in whatever order.
    pub(super) fn same_names(&self, other: &Self) -> bool {
        let sorted = |names: &Self| {
            let mut names = names.0.clone();
            names.sort_unstable();
            names
        };
        self.0.len() == other.0.len() && sorted(self) == sorted(other)
    }

    /// Tells whether there is no name in it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equal(a: &str, b: &str) -> (bool, bool) {
        let (a, b) = (DistinguishedName::parse(a).unwrap(), DistinguishedName::parse(b).unwrap());
        (a == b, a.same_names(&b))
    }

    #[test]
    fn names_are_equal_in_order_or_out_of_it() {
        assert_eq!(equal("CN=www,O=nats", "cn=www , o=nats"), (true, true));
        assert_eq!(equal("CN=www,O=nats", "O=nats,CN=www"), (false, true));
        assert_eq!(equal("CN=www,O=nats", "CN=WWW,O=nats"), (false, false));
        assert_eq!(equal("CN=www,O=nats", "CN=www"), (false, false));
        // A name that occurs twice must be found twice.
        assert_eq!(equal("DC=a,DC=a,DC=b", "DC=b,DC=a,DC=a"), (false, true));
        assert_eq!(equal("DC=a,DC=a,DC=b", "DC=b,DC=b,DC=a"), (false, false));
        assert_eq!(equal("CN=a+OU=b,O=c", "OU=b+CN=a,O=c"), (true, true));
        assert_eq!(equal("CN=a+OU=b", "CN=a,OU=b"), (false, false));
        assert_eq!(equal(r"CN=a\,b", r"CN=a\2cb"), (true, true));
        assert_eq!(equal(r"CN=a\ ", "CN=a "), (false, false));
    }

    #[test]
    fn what_is_no_name_is_none() {
        for text in ["www", "=,x", "CN=#04", "CN=a,b", r"CN=\", r"CN=\4", r"CN=\zz", r"CN=\ff"] {
            assert_eq!(DistinguishedName::parse(text), None, "{text}");
        }
        assert!(DistinguishedName::parse("").unwrap().is_empty());
    }

    #[test]
    fn a_value_of_a_certificate_is_one_value_whatever_is_in_it() {
        let subject = DistinguishedName::of_certificate(&["O=evil".into(), "CN=www,O=nats".into()]).unwrap();
        assert!(!subject.same_names(&DistinguishedName::parse("CN=www,O=nats,O=evil").unwrap()));
        assert_eq!(subject, DistinguishedName::parse(r"CN=www\,O\=nats,O=evil").unwrap());
    }
}
