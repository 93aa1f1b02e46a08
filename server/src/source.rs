//! Configuration files, the environment and certificates of this machine, for loading a configuration.

use std::fs;
use std::io;

use natrix_core::config::{Source, TlsOptions};

use crate::log::go_error;

/// This machine.
pub(crate) struct Machine;

impl Source for Machine {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        fs::read(path).map_err(|error: io::Error| go_error(&error))
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn check_tls(&self, tls: &TlsOptions) -> Result<(), String> {
        crate::tls::server_config(tls).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_can_not_be_read_say_why_in_lower_case() {
        assert_eq!(Machine.read("/nowhere/x").unwrap_err(), "no such file or directory");
        assert_eq!(Machine.read("/").unwrap_err(), "is a directory");
        assert_eq!(Machine.env("NATRIX_SURELY_UNSET"), None);
    }
}
