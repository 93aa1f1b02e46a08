//! The text of a scenario, read into steps.
//!
//! A file is a header and steps, apart by a line `---`. The header: comment lines `# …` (what it shows
//! and why; needed), `feature: TEXT` (a line of `parity/features.txt`; needed), `flags: …`, blocks
//! `config:` and `file NAME:` whose indented lines follow, `settings: …` (words that change how it is run), and a
//! block `differs:` with the beginnings of transcript lines that aren't compared, after `#` lines that say why. A step is
//! one line; empty lines and `#` lines between steps mean nothing.
//!
//! Steps of a connection begin with its name, which has a capital first:
//!
//! ```text
//! A open                    connect, read INFO            A opentls [OPTIONS]   TLS first, then INFO
//! A tcp                     connect, read nothing         A tls [OPTIONS]       upgrade to TLS
//! A connect [FIELDS]        send CONNECT with defaults    A client [FIELDS]     open, connect, ping
//! A > TEXT                  send a line                   A >> TEXT             send exactly these bytes
//! A each > TEXT             a line, one byte at a time    A cut 3,5 > TEXT      a line, in pieces cut there
//! A ping                    PING, and wait for its PONG   A < TEXT              wait for a line that starts so
//! A closed                  wait for the server's close   A ended               the same, nothing recorded
//! A close                   close                         A info KEYS           record these keys of the last INFO
//! A read N                  wait for N lines, whatever    A keys                record the keys of the last INFO
//! A sorted N                wait for N messages, recorded in order of their text
//! A skip TEXT               as <, but what came before isn't recorded
//! ```
//!
//! Clients of JetStream have steps of their own, which see whole messages (`answers` says how these are written down);
//! `MESSAGE` is `SUBJECT [[HEADER: VALUE|…] PAYLOAD]`:
//!
//! ```text
//! A js [FIELDS]             as client, with headers and an inbox of its own
//! A req MESSAGE             publish, and wait for the answer            A post REPLY MESSAGE  publish with that reply subject
//! A all MESSAGE             publish, and wait for answers until a status other than 100, which is the last
//! A reqs N MESSAGE          publish, and wait for N answers             A pub MESSAGE         publish
//! A fill N MESSAGE          N times req, `{i}` being the number; only refusals are recorded
//! A do MESSAGE              once so
//! A poll POINTER=V MESSAGE  req until that field of the answer is V; only the last answer is recorded
//! A get N                   wait for N messages                         A any N               the same, in order of their text
//! A quiet MS                record what comes until nothing comes for so long
//! ```
//!
//! Other steps: `http PATH [keep=KEYS] [drop=KEYS]` (the answer's shape), `https PATH …`, `signal NAME`, `run [ENV
//! NAME=VALUE] [USAGE] [SORTED] ARGUMENTS` (the executable; `USAGE` leaves out the usage but its first line, `SORTED` is
//! for where the order of lines isn't determined), `log TEXT` (wait
//! for a log line with it), `nolog TEXT`, `exit` (wait for the process to end), `cat FILE`, `absent FILE`, `move FILE FILE`,
//! `sleep MS`, `restart SIGNAL` (ends the server so and starts it again, with the same folder).
//!
//! In what is sent, in files and in arguments `<<…>>` is a placeholder; see `runner::Expander`.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// One scenario, as its file says it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// `AREA/NAME`, from where the file is.
    pub name: String,
    /// The comment at its head: what it shows and why.
    pub about: String,
    /// The feature that it is there for, as in `parity/features.txt`.
    pub feature: String,
    /// Command line flags of the server.
    pub flags: String,
    /// The server's configuration file, `None` to start without one.
    pub config: Option<String>,
    /// Other files in the server's folder: name and contents.
    pub files: Vec<(String, String)>,
    /// Beginnings of transcript lines (whole lines if they end in `$`) in which natrix differs on purpose, or doesn't have what the line is
    /// about yet; such lines are left out of the comparison.
    pub differs: Vec<String>,
    /// How to run it.
    pub settings: Settings,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// Words of the `settings:` line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settings {
    /// `pings`: PINGs of the server are recorded and not answered.
    pub pings: bool,
    /// `alone`: the server isn't shared with other scenarios.
    pub alone: bool,
    /// `noserver`: no server is started; `run` steps only.
    pub no_server: bool,
}

/// One step with the line it was read from.
#[derive(Clone, Debug)]
pub struct Step {
    /// Whose section of the transcript it is recorded in.
    pub actor: String,
    /// The line without the connection's name.
    pub text: String,
    /// What to do.
    pub action: Action,
}

/// What a step does; the arguments are not expanded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connects.
    Open {
        /// The options of a handshake that comes first.
        tls: Option<String>,
        /// Whether to read INFO.
        info: bool,
    },
    /// Upgrades the connection to TLS.
    Tls(String),
    /// Opens, sends CONNECT and waits for a PONG.
    Client(String),
    /// Sends CONNECT with default fields and these.
    Connect(String),
    /// Sends bytes.
    Send {
        /// The bytes, with escapes and placeholders.
        text: String,
        /// Whether an end of line is added.
        line: bool,
        /// Into which writes they are cut.
        cuts: Cuts,
    },
    /// Sends PING and waits for the PONG.
    Ping,
    /// Waits for a line with this beginning.
    Expect(String),
    /// Waits for a line with this beginning, and records only it.
    Skip(String),
    /// Waits for any lines.
    Read(usize),
    /// Waits for this many messages of one payload line each; records them in order of their text, where
    /// the order of delivery isn't determined.
    Sorted(usize),
    /// Waits until the server closes.
    Closed {
        /// Whether what came before is recorded.
        record: bool,
    },
    /// Closes from this side.
    Close,
    /// Records keys of the last INFO; all names when empty.
    Info(Vec<String>),
    /// A GET to the monitoring port.
    Http {
        /// Whether over TLS.
        tls: bool,
        /// Path and query.
        path: String,
        /// Keys of the answer whose values are recorded.
        keep: Vec<String>,
        /// Keys of the answer that are left out.
        drop: Vec<String>,
    },
    /// A signal to the server.
    Signal(String),
    /// Runs the executable.
    Run(String),
    /// Waits for a log line with this text.
    Log(String),
    /// Records whether a log line with this text has been written until now.
    NoLog(String),
    /// Waits until the process has ended.
    Exit,
    /// Records a file's contents.
    Cat(String),
    /// Waits until a file is gone.
    Absent(String),
    /// Renames a file.
    Move(String, String),
    /// Waits this many milliseconds.
    Sleep(u64),
    /// Ends the server with a signal and starts it again.
    Restart(String),
    /// A step of a client of JetStream.
    Js(Js),
}

/// What a client of JetStream does. A message's text is `SUBJECT [[HEADER: VALUE|…] PAYLOAD]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Js {
    /// Opens, sends CONNECT with these fields too, subscribes to its inbox.
    Client(String),
    /// Publishes a message, with a reply subject if there is one.
    Publish {
        /// The reply subject, empty for none.
        reply: String,
        /// What.
        message: String,
    },
    /// Publishes a message and waits for its answers.
    Request {
        /// How many; `None` to wait for a status that ends them.
        answers: Option<usize>,
        /// What.
        message: String,
    },
    /// Publishes many messages and waits for each one's answer.
    Fill {
        /// How many.
        count: usize,
        /// What, with `{i}` for the number.
        message: String,
    },
    /// Asks again and again until a field of the answer has a value.
    Poll {
        /// The field, as a JSON pointer.
        pointer: String,
        /// The value's JSON.
        value: String,
        /// What to ask.
        message: String,
    },
    /// Waits for this many messages.
    Get {
        /// How many.
        count: usize,
        /// Whether they are recorded in order of their text.
        sorted: bool,
    },
    /// Waits until no message has come for so many milliseconds.
    Quiet(u64),
}

/// Where a send is cut into writes of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cuts {
    /// One write.
    None,
    /// A write for each byte.
    Each,
    /// A write up to each offset, and one for the rest.
    At(Vec<usize>),
}

impl Scenario {
    /// Reads the scenario of a file under `root`.
    ///
    /// # Errors
    ///
    /// If the file can't be read or understood; says which line.
    pub fn load(root: &Path, path: &Path) -> Result<Scenario> {
        let text = std::fs::read_to_string(path)?;
        let name = path.strip_prefix(root)?.with_extension("");
        let name = name.to_str().context("a file name that is not UTF-8")?.to_owned();
        Self::parse(name.clone(), &text).with_context(|| format!("scenario {name}"))
    }

    /// Reads a scenario's text.
    ///
    /// # Errors
    ///
    /// If it can't be understood; says which line.
    pub fn parse(name: String, text: &str) -> Result<Scenario> {
        let mut scenario = Scenario {
            name,
            about: String::new(),
            feature: String::new(),
            flags: String::new(),
            config: None,
            files: Vec::new(),
            differs: Vec::new(),
            settings: Settings::default(),
            steps: Vec::new(),
        };
        let mut lines = text.lines().enumerate().peekable();
        let mut block = Block::None;
        for (number, line) in lines.by_ref() {
            if line == "---" {
                break;
            }
            scenario.header_line(&mut block, line).with_context(|| format!("line {}: {line}", number + 1))?;
        }
        for (number, line) in lines {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let step = Step::parse(line).with_context(|| format!("line {}: {line}", number + 1))?;
            scenario.steps.push(step);
        }
        ensure!(!scenario.about.is_empty(), "no comment that says what it shows");
        ensure!(!scenario.feature.is_empty(), "no feature");
        ensure!(!scenario.steps.is_empty(), "no steps");
        Ok(scenario)
    }

    fn header_line(&mut self, block: &mut Block, line: &str) -> Result<()> {
        if let Some(indented) = line.strip_prefix("  ") {
            return self.block_line(block, indented);
        }
        *block = Block::None;
        if let Some(comment) = line.strip_prefix('#') {
            self.about.push_str(comment.trim());
            self.about.push('\n');
        } else if let Some(feature) = line.strip_prefix("feature:") {
            feature.trim().clone_into(&mut self.feature);
        } else if let Some(flags) = line.strip_prefix("flags:") {
            flags.trim().clone_into(&mut self.flags);
        } else if let Some(name) = line.strip_prefix("file ") {
            let name = name.strip_suffix(':').context("`file NAME:`")?;
            self.files.push((name.to_owned(), String::new()));
            *block = Block::File;
        } else if line == "config:" {
            self.config = Some(String::new());
            *block = Block::Config;
        } else if line == "differs:" {
            *block = Block::Differs { reason: false };
        } else if let Some(words) = line.strip_prefix("settings:") {
            self.settings.read(words)?;
        } else if !line.is_empty() {
            bail!("not a header line");
        }
        Ok(())
    }

    fn block_line(&mut self, block: &mut Block, line: &str) -> Result<()> {
        match block {
            Block::None => bail!("an indented line outside of a block"),
            Block::Config => add_line(self.config.as_mut().context("no config")?, line),
            Block::File => add_line(&mut self.files.last_mut().context("no file")?.1, line),
            Block::Differs { reason } => match line.strip_prefix('#') {
                Some(why) => {
                    *reason = true;
                    self.about.push_str("Differs:");
                    add_line(&mut self.about, why);
                }
                None => {
                    ensure!(*reason, "a difference without a reason");
                    ensure!(!line.is_empty(), "an empty beginning");
                    self.differs.push(line.to_owned());
                }
            },
        }
        Ok(())
    }

    /// Returns a transcript without the lines that aren't compared.
    pub fn compared(&self, transcript: &str) -> String {
        let differs = |line: &str, form: &String| match form.strip_suffix('$') {
            Some(whole) => line == whole,
            None => line.starts_with(form.as_str()),
        };
        let kept = |line: &&str| !self.differs.iter().any(|form| differs(line, form));
        transcript.lines().filter(kept).flat_map(|line| [line, "\n"]).collect()
    }

    /// Returns whether other scenarios may use the same server before and after this one.
    pub fn shares_its_server(&self) -> bool {
        let disturbs = |step: &Step| {
            matches!(
                step.action,
                Action::Signal(_)
                    | Action::Exit
                    | Action::Http { .. }
                    | Action::NoLog(_)
                    | Action::Restart(_)
                    | Action::Js(_)
            )
        };
        !self.settings.alone && !self.settings.no_server && !self.steps.iter().any(disturbs)
    }
}

/// Which block of the header indented lines belong to.
enum Block {
    None,
    Config,
    File,
    Differs {
        /// Whether it has been said why.
        reason: bool,
    },
}

fn add_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

impl Settings {
    fn read(&mut self, words: &str) -> Result<()> {
        for word in words.split_whitespace() {
            match word {
                "pings" => self.pings = true,
                "alone" => self.alone = true,
                "noserver" => self.no_server = true,
                _ => bail!("unknown setting {word}"),
            }
        }
        Ok(())
    }
}

impl Step {
    fn parse(line: &str) -> Result<Step> {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        let step =
            |actor: &str, text: &str, action| Step { actor: actor.to_owned(), text: text.to_owned(), action };
        if first.starts_with(|c: char| c.is_ascii_uppercase()) {
            return Ok(step(first, rest, Action::of_connection(rest)?));
        }
        let action = match first {
            "http" | "https" => Action::http(first == "https", rest)?,
            "signal" => Action::Signal(rest.to_owned()),
            "run" => Action::Run(rest.to_owned()),
            "log" => Action::Log(rest.to_owned()),
            "nolog" => Action::NoLog(rest.to_owned()),
            "exit" => Action::Exit,
            "cat" => Action::Cat(rest.to_owned()),
            "absent" => Action::Absent(rest.to_owned()),
            "move" => {
                let (from, to) = rest.split_once(' ').context("move FROM TO")?;
                Action::Move(from.to_owned(), to.to_owned())
            }
            "sleep" => Action::Sleep(rest.parse()?),
            "restart" => Action::Restart(rest.to_owned()),
            _ => bail!("unknown step"),
        };
        Ok(step("server", line, action))
    }
}

impl Action {
    fn of_connection(text: &str) -> Result<Action> {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let send = |text: &str, line, cuts| Ok(Action::Send { text: text.to_owned(), line, cuts });
        match verb {
            "open" => Ok(Action::Open { tls: None, info: true }),
            "tcp" => Ok(Action::Open { tls: None, info: false }),
            "opentls" => Ok(Action::Open { tls: Some(rest.to_owned()), info: true }),
            "tls" => Ok(Action::Tls(rest.to_owned())),
            "client" => Ok(Action::Client(rest.to_owned())),
            "connect" => Ok(Action::Connect(rest.to_owned())),
            ">" => send(rest, true, Cuts::None),
            ">>" => send(rest, false, Cuts::None),
            "each" => send(rest.strip_prefix("> ").context("each > TEXT")?, true, Cuts::Each),
            "cut" => {
                let (offsets, text) = rest.split_once(" > ").context("cut OFFSETS > TEXT")?;
                let offsets = offsets.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
                ensure!(offsets.is_sorted(), "offsets in order");
                send(text, true, Cuts::At(offsets))
            }
            "ping" => Ok(Action::Ping),
            "<" => Ok(Action::Expect(rest.to_owned())),
            "skip" => Ok(Action::Skip(rest.to_owned())),
            "read" => Ok(Action::Read(rest.parse()?)),
            "closed" => Ok(Action::Closed { record: true }),
            "ended" => Ok(Action::Closed { record: false }),
            "close" => Ok(Action::Close),
            "info" => {
                ensure!(!rest.is_empty(), "info KEYS");
                Ok(Action::Info(rest.split_whitespace().map(str::to_owned).collect()))
            }
            "sorted" => Ok(Action::Sorted(rest.parse()?)),
            "keys" => Ok(Action::Info(Vec::new())),
            _ => Js::parse(verb, rest).map(Action::Js),
        }
    }

    fn http(tls: bool, text: &str) -> Result<Action> {
        let mut words = text.split_whitespace();
        let path = words.next().context("http PATH")?.to_owned();
        let (mut keep, mut drop) = (Vec::new(), Vec::new());
        for word in words {
            let (list, names) = match word.split_once('=').context("KEY=NAMES")? {
                ("keep", names) => (&mut keep, names),
                ("drop", names) => (&mut drop, names),
                _ => bail!("keep=NAMES or drop=NAMES"),
            };
            list.extend(names.split(',').map(str::to_owned));
        }
        Ok(Action::Http { tls, path, keep, drop })
    }
}

impl Js {
    fn parse(verb: &str, text: &str) -> Result<Js> {
        let message = text.to_owned();
        let first = || text.split_once(' ').context("something before the message");
        Ok(match verb {
            "js" => Js::Client(message),
            "pub" => Js::Publish { reply: String::new(), message },
            "post" => {
                let (reply, message) = first()?;
                Js::Publish { reply: reply.to_owned(), message: message.to_owned() }
            }
            "req" => Js::Request { answers: Some(1), message },
            "all" => Js::Request { answers: None, message },
            "reqs" => {
                let (count, message) = first()?;
                Js::Request { answers: Some(count.parse()?), message: message.to_owned() }
            }
            "do" => Js::Fill { count: 1, message },
            "fill" => {
                let (count, message) = first()?;
                Js::Fill { count: count.parse()?, message: message.to_owned() }
            }
            "poll" => {
                let (field, message) = first()?;
                let (pointer, value) = field.split_once('=').context("poll POINTER=VALUE MESSAGE")?;
                let (pointer, value) = (pointer.to_owned(), value.to_owned());
                Js::Poll { pointer, value, message: message.to_owned() }
            }
            "get" => Js::Get { count: text.parse()?, sorted: false },
            "any" => Js::Get { count: text.parse()?, sorted: true },
            "quiet" => Js::Quiet(text.parse()?),
            _ => bail!("unknown step of a connection"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Scenario> {
        Scenario::parse("area/name".to_owned(), text)
    }

    #[test]
    fn header_blocks_and_steps_are_told_apart() {
        let text = "# shows\n# why\nfeature: PUB\nflags: -DV\nconfig:\n  a: 1\n  b {\n    c: 2\n  }\nfile x.conf:\n  y\n\
                    settings: pings alone\n---\nA open\n\n# a remark\nA cut 1,2 > PING\nhttp /varz keep=a,b drop=c\nexit\n";
        let scenario = parse(text).unwrap();
        assert_eq!(scenario.about, "shows\nwhy\n");
        assert_eq!(scenario.config.as_deref(), Some("a: 1\nb {\n  c: 2\n}\n"));
        assert_eq!(scenario.files, [("x.conf".to_owned(), "y\n".to_owned())]);
        assert!(scenario.settings.pings && !scenario.shares_its_server());
        let actions: Vec<_> = scenario.steps.iter().map(|step| &step.action).collect();
        assert_eq!(actions.len(), 4);
        assert_eq!(*actions[1], Action::Send { text: "PING".into(), line: true, cuts: Cuts::At(vec![1, 2]) });
        assert_eq!(scenario.steps[2].actor, "server");
    }

    #[test]
    fn steps_of_jetstream_clients_are_read() {
        let scenario = parse(
            "# a\nfeature: x\n---\nA js \"name\":\"n\"\nA req foo [A: b] x\nA post i.1 foo\nA poll /a/b=0 foo {}\nA any 2",
        );
        let scenario = scenario.unwrap();
        assert!(!scenario.shares_its_server(), "streams outlive their scenario");
        let step = |at: usize| match &scenario.steps[at].action {
            Action::Js(js) => js.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(step(0), Js::Client("\"name\":\"n\"".to_owned()));
        assert_eq!(step(1), Js::Request { answers: Some(1), message: "foo [A: b] x".to_owned() });
        assert_eq!(step(2), Js::Publish { reply: "i.1".to_owned(), message: "foo".to_owned() });
        let (pointer, value, message) = ("/a/b".to_owned(), "0".to_owned(), "foo {}".to_owned());
        assert_eq!(step(3), Js::Poll { pointer, value, message });
        assert_eq!(step(4), Js::Get { count: 2, sorted: true });
        assert!(parse("# a\nfeature: x\n---\nA post foo").is_err());
    }

    #[test]
    fn lines_that_differ_on_purpose_are_left_out() {
        let scenario = parse("# a\nfeature: x\ndiffers:\n  # later\n  out: b\n---\nA open").unwrap();
        assert_eq!(scenario.compared("out: a\nout: bc\nout: d\n"), "out: a\nout: d\n");
        assert_eq!(scenario.about, "a\nDiffers: later\n");
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, part) in [
            ("feature: x\n---\nA open", "no comment"),
            ("# a\n---\nA open", "no feature"),
            ("# a\nfeature: x\n---\n", "no steps"),
            ("# a\nfeature: x\nwhat\n---\nA open", "line 3: what"),
            ("# a\nfeature: x\n---\nA open\nA jump", "line 5: A jump"),
            ("# a\nfeature: x\n---\nfly", "unknown step"),
            ("# a\nfeature: x\ndiffers:\n  out: x\n---\nA open", "without a reason"),
            ("# a\n  b\n---\nA open", "outside of a block"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }
}
