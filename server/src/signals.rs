//! Signals: sending one to a running server (`--signal`), and the names of those that come in.
//!
//! Source: nats-server `server/signal.go`, and `server/opts.go`, `processSignal`.

use std::fs;
use std::path::Path;

use natrix_core::protocol::quote::quote;
use rustix::process::{Pid, Signal, kill_process};

/// Why no signal was sent, or not to all; printed behind the program's name, exit code 1.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignalError {
    /// More than a command and a target.
    #[error("invalid signal parameters: [{0}]")]
    Parameters(String),
    /// A command that doesn't exist.
    #[error("unknown signal {}", quote(.0.as_bytes()))]
    Command(String),
    /// A target that is no number, nor a file with one.
    #[error("invalid pid: {0}")]
    Pid(String),
    /// No target was given, and there is none to be found.
    #[error("no {0} processes running")]
    NoProcess(String),
    /// No target was given, and there are several.
    #[error("multiple {name} processes running:{}", .pids.iter().map(|pid| format!("\n{pid}")).collect::<String>())]
    SeveralProcesses {
        /// What they are called.
        name: String,
        /// Which ones.
        pids: Vec<i32>,
    },
    /// The list of processes can't be read.
    #[error("unable to resolve pid, try providing one")]
    Unresolved,
    /// The system refused; one line for each process.
    #[error("{0}")]
    Failed(String),
}

/// Where processes are found and signalled.
trait System {
    /// Returns the ids of processes called `name`, without this one.
    fn find(&self, name: &str) -> Result<Vec<i32>, SignalError>;
    /// Signals one process.
    fn signal(&self, pid: i32, signal: Signal) -> Result<(), String>;
}

/// Sends what `COMMAND[=TARGET]` says; a target is a process id, a file with one, or a beginning of ids with `*`.
///
/// Without a target it goes to the one other process that is called `program`.
///
/// # Errors
///
/// [`SignalError`] if the request makes no sense, or the signal could not be sent.
pub(crate) fn send(request: &str, program: &str) -> Result<(), SignalError> {
    send_through(&Processes, request, program)
}

fn send_through(system: &impl System, request: &str, program: &str) -> Result<(), SignalError> {
    let mut parts = request.split('=');
    let command = parts.next().unwrap_or_default();
    let target = parts.next().unwrap_or_default();
    let surplus: Vec<&str> = parts.collect();
    if !surplus.is_empty() {
        return Err(SignalError::Parameters(surplus.join(" ")));
    }
    let target = fs::read_to_string(target).unwrap_or_else(|_| target.to_owned());
    // Differs: the reference takes a line end behind the number for a part of it, and refuses the file.
    let target = target.trim();
    let (number, any_beginning_so) = match target.strip_suffix('*') {
        Some(beginning) => (beginning, true),
        None => (target, false),
    };
    // Differs: zero and negative numbers, which mean whole groups of processes, are refused.
    if !number.is_empty() && !number.parse().is_ok_and(|pid: i32| pid > 0) {
        return Err(SignalError::Pid(number.to_owned()));
    }
    let mut pids = match number.parse() {
        Ok(pid) if !any_beginning_so => vec![pid],
        _ => system.find(program)?,
    };
    if pids.len() > 1 && !any_beginning_so {
        return Err(SignalError::SeveralProcesses { name: program.to_owned(), pids });
    }
    if pids.is_empty() {
        return Err(SignalError::NoProcess(program.to_owned()));
    }
    let signal = match command {
        "stop" => Signal::KILL,
        "quit" => Signal::INT,
        "term" => Signal::TERM,
        "reopen" => Signal::USR1,
        "reload" => Signal::HUP,
        "ldm" => Signal::USR2,
        other => return Err(SignalError::Command(other.to_owned())),
    };
    pids.retain(|pid| pid.to_string().starts_with(number));
    let mut failed = String::new();
    for pid in pids {
        if let Err(error) = system.signal(pid, signal) {
            failed.push_str(&format!("\nsignal {} {pid}: {error}", quote(command.as_bytes())));
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(SignalError::Failed(failed)) }
}

/// The processes of this machine, as /proc shows them.
struct Processes;

impl System for Processes {
    fn find(&self, name: &str) -> Result<Vec<i32>, SignalError> {
        find_in(Path::new("/proc"), name, std::process::id())
    }

    fn signal(&self, pid: i32, signal: Signal) -> Result<(), String> {
        let pid = Pid::from_raw(pid).ok_or("no such process")?;
        kill_process(pid, signal).map_err(|errno| crate::log::go_error(&errno.into()))
    }
}

/// Finds processes by the name that the kernel knows them by, which it cuts off after 15 bytes.
fn find_in(proc: &Path, name: &str, except: u32) -> Result<Vec<i32>, SignalError> {
    const KERNEL_NAME_LEN: usize = 15;
    let known_as = &name.as_bytes()[..name.len().min(KERNEL_NAME_LEN)];
    let mut pids = Vec::new();
    for entry in fs::read_dir(proc).map_err(|_| SignalError::Unresolved)?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // A process that ends while we look has no name any more.
        let Ok(found) = fs::read(entry.path().join("comm")) else { continue };
        if found.trim_ascii_end() == known_as && u32::try_from(pid) != Ok(except) {
            pids.push(pid);
        }
    }
    pids.sort_unstable();
    Ok(pids)
}

/// Names a signal as the reference's log does; `None` for those that the server doesn't listen to.
pub(crate) fn name(signal: i32) -> Option<&'static str> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
    match signal {
        SIGINT => Some("interrupt"),
        SIGTERM => Some("terminated"),
        SIGUSR1 => Some("user defined signal 1"),
        SIGUSR2 => Some("user defined signal 2"),
        SIGHUP => Some("hangup"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Processes that note what they get; 666 can't be signalled.
    #[derive(Default)]
    struct FakeSystem {
        pids: Vec<i32>,
        unreadable: bool,
        signalled: RefCell<Vec<(i32, Signal)>>,
    }

    impl System for FakeSystem {
        fn find(&self, name: &str) -> Result<Vec<i32>, SignalError> {
            assert_eq!(name, "nats-server");
            if self.unreadable { Err(SignalError::Unresolved) } else { Ok(self.pids.clone()) }
        }

        fn signal(&self, pid: i32, signal: Signal) -> Result<(), String> {
            if pid == 666 {
                return Err("operation not permitted".to_owned());
            }
            self.signalled.borrow_mut().push((pid, signal));
            Ok(())
        }
    }

    fn run(request: &str, pids: &[i32]) -> Result<Vec<(i32, Signal)>, String> {
        let system = FakeSystem { pids: pids.to_vec(), ..FakeSystem::default() };
        send_through(&system, request, "nats-server").map_err(|error| error.to_string())?;
        Ok(system.signalled.into_inner())
    }

    #[test]
    fn each_command_has_its_signal() {
        for (command, signal) in [
            ("stop", Signal::KILL),
            ("quit", Signal::INT),
            ("term", Signal::TERM),
            ("reopen", Signal::USR1),
            ("reload", Signal::HUP),
            ("ldm", Signal::USR2),
        ] {
            assert_eq!(run(&format!("{command}=123"), &[]), Ok(vec![(123, signal)]));
            assert_eq!(run(command, &[42]), Ok(vec![(42, signal)]));
            assert_eq!(run(&format!("{command}="), &[42]), Ok(vec![(42, signal)]));
        }
    }

    #[test]
    fn without_a_target_there_must_be_exactly_one() {
        assert_eq!(run("stop", &[]), Err("no nats-server processes running".to_owned()));
        assert_eq!(run("stop", &[1, 2]), Err("multiple nats-server processes running:\n1\n2".to_owned()));
        let system = FakeSystem { unreadable: true, ..FakeSystem::default() };
        let error = send_through(&system, "stop", "nats-server").unwrap_err();
        assert_eq!(error.to_string(), "unable to resolve pid, try providing one");
    }

    #[test]
    fn a_star_reaches_all_that_begin_so() {
        assert_eq!(run("quit=*", &[12, 34]), Ok(vec![(12, Signal::INT), (34, Signal::INT)]));
        assert_eq!(run("quit=12*", &[12, 123, 34]), Ok(vec![(12, Signal::INT), (123, Signal::INT)]));
        assert_eq!(run("quit=9*", &[12]), Ok(vec![]));
        assert_eq!(run("quit=9*", &[]), Err("no nats-server processes running".to_owned()));
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        assert_eq!(run("bogus", &[1]), Err(r#"unknown signal "bogus""#.to_owned()));
        assert_eq!(run("bogus=1", &[]), Err(r#"unknown signal "bogus""#.to_owned()));
        assert_eq!(run("ldm=abc", &[]), Err("invalid pid: abc".to_owned()));
        assert_eq!(run("ldm=/nowhere", &[]), Err("invalid pid: /nowhere".to_owned()));
        assert_eq!(run("ldm=1=2=3", &[]), Err("invalid signal parameters: [2 3]".to_owned()));
        for whole_group in ["ldm=0", "ldm=-1", "ldm=-5*"] {
            assert!(run(whole_group, &[1]).unwrap_err().starts_with("invalid pid: "));
        }
    }

    #[test]
    fn what_the_system_refuses_is_told_for_each_process() {
        let refused = "\nsignal \"term\" 666: operation not permitted".to_owned();
        assert_eq!(run("term=666", &[]), Err(refused.clone()));
        assert_eq!(run("term=6*", &[6, 666]), Err(refused));
    }

    #[test]
    fn a_target_may_be_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        for content in ["4711", "4711\n"] {
            fs::write(&file, content).unwrap();
            assert_eq!(run(&format!("ldm={}", file.display()), &[]), Ok(vec![(4711, Signal::USR2)]));
        }
    }

    #[test]
    fn processes_are_found_by_their_kernel_name() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, name) in
            [("1", "init\n"), ("77", "nats-server\n"), ("8", "nats-server\n"), ("9", "nats-server\n")]
        {
            fs::create_dir(proc.path().join(pid)).unwrap();
            fs::write(proc.path().join(pid).join("comm"), name).unwrap();
        }
        fs::create_dir(proc.path().join("self")).unwrap();
        fs::create_dir(proc.path().join("5")).unwrap();
        assert_eq!(find_in(proc.path(), "nats-server", 9), Ok(vec![8, 77]));
        fs::write(proc.path().join("1").join("comm"), "a-very-long-nam\n").unwrap();
        assert_eq!(find_in(proc.path(), "a-very-long-name-indeed", 9), Ok(vec![1]));
        assert_eq!(find_in(&proc.path().join("nowhere"), "x", 9), Err(SignalError::Unresolved));
    }

    #[test]
    fn a_process_that_is_not_there_can_not_be_signalled() {
        let error = send("ldm=2147483647", "nats-server").unwrap_err();
        assert_eq!(error.to_string(), "\nsignal \"ldm\" 2147483647: no such process");
    }
}
