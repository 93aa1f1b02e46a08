//! How much goes to the log, and where.

use super::{Checked, Loader, non_empty, positive};
use crate::config::value::Token;

impl Loader<'_> {
    /// Handles one of these settings, named in lower case; tells whether it was one.
    pub(super) fn logging_setting(&mut self, name: &str, token: &Token) -> Checked<bool> {
        let logging = &mut self.draft.options.logging;
        match name {
            "debug" => logging.debug = token.bool()?,
            "trace" => logging.trace = token.bool()?,
            "trace_verbose" => {
                logging.trace_verbose = token.bool()?;
                logging.trace = logging.trace_verbose;
            }
            "trace_headers" => {
                logging.trace_headers = token.bool()?;
                logging.trace = logging.trace_headers;
            }
            "logtime" => logging.logtime = token.bool()?,
            "logtime_utc" => logging.logtime_utc = token.bool()?,
            "logfile" | "log_file" => logging.log_file = non_empty(token.string()?),
            "logfile_size_limit" | "log_size_limit" => {
                logging.log_size_limit = positive(token.integer()?, u64::MAX);
            }
            "logfile_max_num" | "log_max_num" => {
                logging.logfile_max_num = positive(token.integer()?, u64::MAX);
            }
            "syslog" => logging.syslog = token.bool()?,
            "remote_syslog" => logging.remote_syslog = non_empty(token.string()?),
            "max_traced_msg_len" => {
                logging.max_traced_msg_len = positive(token.integer()?, usize::MAX);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}
