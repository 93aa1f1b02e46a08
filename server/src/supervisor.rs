//! What the process does about signals and about its shards' ends.
//!
//! [`Supervisor`] reads no signal and stops no shard: whoever does tells it what happened and does what it says.
//!
//! Invariant: the order to shut down is given once.
//!
//! Source: nats-server `server/signal.go`, `handleSignal`, and `server/server.go`, `Shutdown` and `lameDuckMode`.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::log::Level;
use crate::signals;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A signal came in.
    Signal(i32),
    /// The server can't do its work; the reason is logged already.
    Failed,
    /// All shards have closed what they had.
    Stopped,
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Write a line to the log.
    Log(Level, String),
    /// Open the log file again.
    ReopenLog,
    /// Order all shards into lame duck mode, and tell health checks so.
    LameDuck,
    /// Order all shards to close everything; give them a moment.
    ShutDown,
    /// Stop monitoring, and remove the files that say where the server is.
    CloseFiles,
    /// Leave with this exit code.
    Exit(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    LameDuck,
    ShuttingDown,
}

/// Decides.
#[derive(Debug)]
pub(crate) struct Supervisor {
    stage: Stage,
}

impl Supervisor {
    pub(crate) fn new() -> Self {
        Supervisor { stage: Stage::Running }
    }

    /// Returns what is to be done about `event`.
    pub(crate) fn handle(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Signal(signal) => self.signal(signal),
            Event::Failed => vec![Action::CloseFiles, Action::Exit(1)],
            Event::Stopped => {
                let mut actions = Vec::new();
                if self.stage != Stage::ShuttingDown {
                    actions.push(Action::Log(Level::Info, "Initiating Shutdown...".to_owned()));
                }
                actions.push(Action::CloseFiles);
                actions.push(Action::Log(Level::Info, "Server Exiting..".to_owned()));
                actions.push(Action::Exit(0));
                actions
            }
        }
    }

    fn signal(&mut self, signal: i32) -> Vec<Action> {
        let Some(name) = signals::name(signal) else { return Vec::new() };
        let mut actions = vec![Action::Log(Level::Info, format!("Trapped \"{name}\" signal"))];
        match (signal, self.stage) {
            (SIGINT, Stage::Running | Stage::LameDuck) | (SIGTERM, Stage::Running) => {
                self.stage = Stage::ShuttingDown;
                actions.push(Action::Log(Level::Info, "Initiating Shutdown...".to_owned()));
                actions.push(Action::ShutDown);
            }
            // Lame duck mode ends by itself; orchestrators send SIGTERM when their patience begins, not ends.
            (SIGTERM, _) => {}
            (SIGUSR1, _) => actions.push(Action::ReopenLog),
            (SIGUSR2, Stage::Running) => {
                self.stage = Stage::LameDuck;
                actions.push(Action::LameDuck);
            }
            (SIGHUP, _) => {
                let text =
                    "Failed to reload server configuration: natrix can't reload yet, restart it instead";
                actions.push(Action::Log(Level::Error, text.to_owned()));
            }
            _ => {}
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells a supervisor what happens and shows what it has done about it.
    fn run(events: &[Event]) -> String {
        let mut supervisor = Supervisor::new();
        let mut shown = String::new();
        for event in events {
            shown.push_str(&format!("{event:?}\n"));
            for action in supervisor.handle(*event) {
                shown.push_str(&format!("  {action:?}\n"));
            }
        }
        shown
    }

    #[test]
    fn both_polite_signals_shut_down_and_leave_with_zero() {
        let shutdown = |signal| run(&[Event::Signal(signal), Event::Signal(signal), Event::Stopped]);
        insta::assert_snapshot!(shutdown(SIGTERM), @r#"
        Signal(15)
          Log(Info, "Trapped \"terminated\" signal")
          Log(Info, "Initiating Shutdown...")
          ShutDown
        Signal(15)
          Log(Info, "Trapped \"terminated\" signal")
        Stopped
          CloseFiles
          Log(Info, "Server Exiting..")
          Exit(0)
        "#);
        assert_eq!(
            shutdown(SIGINT).replace("Signal(2)", "Signal(15)").replace("interrupt", "terminated"),
            shutdown(SIGTERM)
        );
    }

    #[test]
    fn a_lame_duck_is_not_hurried_by_sigterm_but_by_sigint() {
        insta::assert_snapshot!(
            run(&[Event::Signal(SIGUSR2), Event::Signal(SIGUSR2), Event::Signal(SIGTERM), Event::Stopped]),
            @r#"
        Signal(12)
          Log(Info, "Trapped \"user defined signal 2\" signal")
          LameDuck
        Signal(12)
          Log(Info, "Trapped \"user defined signal 2\" signal")
        Signal(15)
          Log(Info, "Trapped \"terminated\" signal")
        Stopped
          Log(Info, "Initiating Shutdown...")
          CloseFiles
          Log(Info, "Server Exiting..")
          Exit(0)
        "#
        );
        let hurried = run(&[Event::Signal(SIGUSR2), Event::Signal(SIGINT)]);
        assert!(hurried.ends_with("  ShutDown\n"), "{hurried}");
    }

    #[test]
    fn the_log_is_reopened_and_a_reload_is_refused_without_harm() {
        insta::assert_snapshot!(run(&[Event::Signal(SIGUSR1), Event::Signal(SIGHUP), Event::Signal(28)]), @r#"
        Signal(10)
          Log(Info, "Trapped \"user defined signal 1\" signal")
          ReopenLog
        Signal(1)
          Log(Info, "Trapped \"hangup\" signal")
          Log(Error, "Failed to reload server configuration: natrix can't reload yet, restart it instead")
        Signal(28)
        "#);
    }

    #[test]
    fn a_port_that_is_taken_ends_the_process() {
        assert_eq!(Supervisor::new().handle(Event::Failed), [Action::CloseFiles, Action::Exit(1)]);
    }
}
