//! Text to values to checked options.
//!
//! Three stages, each a value that the next one reads: the language gives a tree of values that know where
//! they were written; loading turns that tree into [`Options`], collecting every error on the way; and whatever
//! the command line said is laid over it before defaults are filled in. Nothing behind this room ever sees an
//! unchecked setting, and nothing in it opens a file or reads the environment: both come through a trait that
//! the executable implements.
//!
//! Source: nats-server `conf/` and `server/opts.go`.

mod options;

pub use options::*;
