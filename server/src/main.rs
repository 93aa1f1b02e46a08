//! The natrix server: flags, configuration files, signals, logs, monitoring.
//!
//! `main` reads the command line and does what only prints or signals; `run` is the server itself. The state
//! machine that serves clients is natrix-core's, its sockets are natrix-runtime-tokio's; here is what an operator
//! sees of them.

mod banner;
mod files;
mod flags;
mod jetstream;
mod log;
mod monitor;
mod process;
mod run;
mod signals;
mod source;
mod supervisor;
mod tls;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use natrix_core::config::{self, Loaded, Options};

use flags::{FlagError, Flags, Invocation};
use source::Machine;

/// What serves a server of many small allocations best.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let program = arguments.next().map_or_else(|| "natrix".to_owned(), |path| base_name(&path));
    let arguments: Vec<String> = arguments.collect();
    match flags::parse(&arguments) {
        Ok(Invocation::Version) => print(&format!("{}\n", flags::version_line(&program))),
        Ok(Invocation::Help) => print(&flags::usage(&program)),
        Ok(Invocation::HelpTls) => print(&flags::tls_help()),
        Ok(Invocation::Signal(request)) => match signals::send(&request, &program) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&program, &error.to_string()),
        },
        Ok(Invocation::Run(flags)) => match settings(&program, &flags) {
            Ok(Some(options)) => run::run(options, flags.impossible_port(), &program),
            Ok(None) => ExitCode::SUCCESS,
            Err(error) => refuse(&program, &error),
        },
        // The reference leaves with success here; scripts have got used to it.
        Err(FlagError::Grammar(text)) => {
            complain(&text);
            print(&flags::usage(&program))
        }
        Err(FlagError::Refused(text)) => refuse(&program, &text),
    }
}

/// Reads the configuration file and lays the flags over it; `None` if it was only to be checked, and is right.
fn settings(program: &str, flags: &Flags) -> Result<Option<Options>, String> {
    let loaded = match &flags.config_file {
        None => Loaded::default(),
        Some(path) => {
            let loaded = config::load(&Machine, path).map_err(|error| error.to_string())?;
            if !loaded.report.is_empty() {
                if flags.check_config {
                    return Err(loaded.report.to_string());
                }
                complain(loaded.report.to_string().trim_end());
            }
            if flags.check_config {
                let digest = loaded.digest().unwrap_or_default();
                complain(&format!("{program}: configuration file {path} is valid ({digest})"));
                return Ok(None);
            }
            loaded
        }
    };
    let overrides = flags.overrides().map_err(|error| error.to_string())?;
    loaded.into_options(&Machine, &overrides).map(Some).map_err(|error| error.to_string())
}

fn base_name(path: &str) -> String {
    let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "natrix".to_owned())
}

fn print(text: &str) -> ExitCode {
    // Whoever closed our output doesn't want to read it.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn refuse(program: &str, text: &str) -> ExitCode {
    complain(&format!("{program}: {text}"));
    ExitCode::FAILURE
}
