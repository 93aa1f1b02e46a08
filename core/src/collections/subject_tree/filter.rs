//! Filters byte by byte: how far a subject has come in one, and what may come next.

use smallvec::SmallVec;

const SEPARATOR: u8 = b'.';

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Literal(&'a [u8]),
    /// `*`
    One,
    /// `>` at the end.
    Rest,
}

/// A filter, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Filter<'a>(SmallVec<[Token<'a>; 16]>);

/// How far a subject has come in a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cursor {
    /// It may still match: these many tokens are done, and so many bytes of the next.
    At {
        /// Tokens that are done.
        token: u32,
        /// Bytes of the next one; for `*` only whether there are any.
        offset: u32,
    },
    /// Whatever follows, it matches.
    All,
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Only the end.
    End,
    /// Only this byte.
    Byte(u8),
    /// Anything.
    Any,
}

impl<'a> Filter<'a> {
    pub(super) fn new(filter: &'a [u8]) -> Self {
        let mut tokens: SmallVec<[Token<'a>; 16]> = filter
            .split(|byte| *byte == SEPARATOR)
            .map(|token| if token == b"*" { Token::One } else { Token::Literal(token) })
            .collect();
        if let Some(last) = tokens.last_mut()
            && *last == Token::Literal(b">")
        {
            *last = Token::Rest;
        }
        Filter(tokens)
    }

    pub(super) const START: Cursor = Cursor::At { token: 0, offset: 0 };

    /// Goes on by one byte of a subject; `None` if it can't match any more.
    fn step(&self, cursor: Cursor, byte: u8) -> Option<Cursor> {
        let Cursor::At { token, offset } = cursor else { return Some(Cursor::All) };
        let next = Cursor::At { token: token + 1, offset: 0 };
        match self.0.get(token as usize)? {
            Token::Rest => Some(Cursor::All),
            Token::One if byte == SEPARATOR => (offset > 0).then_some(next),
            Token::One => Some(Cursor::At { token, offset: 1 }),
            Token::Literal(literal) => match literal.get(offset as usize) {
                Some(wanted) if *wanted == byte => Some(Cursor::At { token, offset: offset + 1 }),
                None if byte == SEPARATOR => Some(next),
                _ => None,
            },
        }
    }

    /// Goes on by some bytes of a subject; `None` if it can't match any more.
    pub(super) fn advance(&self, cursor: Cursor, bytes: &[u8]) -> Option<Cursor> {
        if cursor == Cursor::All {
            return Some(cursor);
        }
        bytes.iter().try_fold(cursor, |cursor, byte| self.step(cursor, *byte))
    }

    /// Returns whether a subject that ends here matches.
    pub(super) fn accepts(&self, cursor: Cursor) -> bool {
        let Cursor::At { token, offset } = cursor else { return true };
        token as usize + 1 == self.0.len()
            && match self.0[token as usize] {
                Token::Literal(literal) => offset as usize == literal.len(),
                Token::One => offset > 0,
                Token::Rest => false,
            }
    }

    /// Returns what may come next.
    pub(super) fn next(&self, cursor: Cursor) -> Next {
        let Cursor::At { token, offset } = cursor else { return Next::Any };
        match self.0.get(token as usize) {
            None => Next::End,
            Some(Token::One | Token::Rest) => Next::Any,
            Some(Token::Literal(literal)) => match literal.get(offset as usize) {
                Some(byte) => Next::Byte(*byte),
                None if token as usize + 1 == self.0.len() => Next::End,
                None => Next::Byte(SEPARATOR),
            },
        }
    }
}
