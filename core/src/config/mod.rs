//! Text to values to checked options.
//!
//! Three stages, each a value that the next one reads: the language gives a tree of values that know where
//! they were written; loading turns that tree into [`Options`], collecting every error on the way; and whatever
//! the command line said is laid over it before defaults are filled in. Nothing behind this room ever sees an
//! unchecked setting, and nothing in it opens a file or reads the environment: both come through [`Source`],
//! which the executable implements.
//!
//! Source: nats-server `conf/` and `server/opts.go`.

mod digest;
mod duration;
mod host_port;
mod lex;
mod load;
mod nkey;
mod options;
mod overrides;
mod parse;
mod source;
#[cfg(test)]
mod testing;
mod text;
mod value;

pub use duration::{format_duration, parse_duration};
pub use host_port::{AddressFault, HostPortError, parse_host_port};
pub use load::{LoadError, Loaded, OptionsError, Report, load, load_text};
pub use options::*;
pub use overrides::Overrides;
pub use parse::{MAX_DEPTH, MAX_EXPANSION, MAX_INCLUDE_DEPTH, MAX_INCLUDES, ParseError};
pub use source::Source;
pub use value::{Position, Token, Value};
