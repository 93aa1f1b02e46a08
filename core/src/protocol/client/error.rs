//! What can be wrong with a client's bytes, in the words of the wire and of the log.

use crate::protocol::quote::quote;

/// How much of what could not be parsed is shown in the log.
const SNIPPET_LEN: usize = 32;

/// Why bytes are not a client's protocol. The connection can't go on after any of these.
///
/// Positions count from the start of the bytes offered. `Display` is for people; [`ParseError::log_text`] is the line
/// the reference logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A byte that no verb, or no payload's end, has there. The client is told.
    #[error("unknown protocol operation at byte {offset}")]
    UnknownOperation {
        /// What the reference's state machine calls the position in the grammar.
        state: u8,
        /// Where the byte is.
        offset: usize,
    },
    /// A line longer than the limit, complete or not. The client is told.
    #[error("maximum control line exceeded: more than {limit} bytes")]
    ControlLine {
        /// The limit.
        limit: usize,
    },
    /// A line with arguments that make no sense. The client is not told.
    #[error("{fault}")]
    Arguments {
        /// What about them.
        fault: ArgumentFault,
        /// Where the arguments begin.
        start: usize,
        /// Where they end.
        end: usize,
    },
}

/// What is wrong with the arguments of a line; `Display` is how the reference's log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentFault {
    /// `PUB` with too few or too many.
    #[error("processPub Parse Error")]
    Publish,
    /// `PUB` with a size that is no number, or too long a one.
    #[error("processPub Bad or Missing Size")]
    PublishSize,
    /// `HPUB` with too few or too many.
    #[error("processHeaderPub Parse Error")]
    HeaderPublish,
    /// `HPUB` with a header size that is no number.
    #[error("processHeaderPub Bad or Missing Header Size")]
    HeaderSize,
    /// `HPUB` with a total size that is no number.
    #[error("processHeaderPub Bad or Missing Total Size")]
    TotalSize,
    /// `HPUB` with headers larger than headers and payload.
    #[error("processHeaderPub Header Size larger then TotalSize")]
    HeaderLargerThanTotal,
    /// `SUB` with too few or too many.
    #[error("processSub Parse Error")]
    Subscribe,
    /// `UNSUB` with too few or too many.
    #[error("processUnsub Parse Error")]
    Unsubscribe,
}

impl ArgumentFault {
    /// Tells whether the line was an `HPUB`, which a connection without headers refuses whatever its arguments are.
    pub fn is_header_publish(self) -> bool {
        matches!(
            self,
            ArgumentFault::HeaderPublish
                | ArgumentFault::HeaderSize
                | ArgumentFault::TotalSize
                | ArgumentFault::HeaderLargerThanTotal
        )
    }
}

impl ParseError {
    /// Returns the text that goes to the client in `-ERR` before the connection is closed, if it is told anything.
    pub fn wire_text(&self) -> Option<&'static str> {
        match self {
            ParseError::UnknownOperation { .. } => Some("Unknown Protocol Operation"),
            ParseError::ControlLine { .. } => Some("maximum control line exceeded"),
            ParseError::Arguments { .. } => None,
        }
    }

    /// Returns the line that the reference logs as an error; `input` is what was offered when the error was returned.
    pub fn log_text(&self, input: &[u8]) -> String {
        match *self {
            ParseError::UnknownOperation { state, offset } => {
                format!(
                    "Client parser ERROR, state={state}, i={offset}: proto='{}...'",
                    snippet(input, offset, SNIPPET_LEN)
                )
            }
            ParseError::ControlLine { .. } => "maximum control line exceeded".to_owned(),
            ParseError::Arguments { fault, start, end } => {
                format!("{fault}: {}", quote(input.get(start..end).unwrap_or_default()))
            }
        }
    }
}

/// Quotes up to `max` bytes from `start`; like the reference's, it leaves out the last byte when it has to cut short.
fn snippet(input: &[u8], start: usize, max: usize) -> String {
    let stop = if start + max > input.len() { input.len().saturating_sub(1) } else { start + max };
    quote(input.get(start..stop).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_is_bounded_and_loses_a_byte_when_cut_short() {
        let sample = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        for (start, shown) in [
            (0, "\"abcdefghijklmnopqrstuvwxyzABCDEF\""),
            (20, "\"uvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\""),
            (21, "\"vwxyzABCDEFGHIJKLMNOPQRSTUVWXY\""),
            (50, "\"Y\""),
            (51, "\"\""),
            (52, "\"\""),
            (99, "\"\""),
        ] {
            assert_eq!(snippet(sample, start, SNIPPET_LEN), shown, "{start}");
        }
    }
}
