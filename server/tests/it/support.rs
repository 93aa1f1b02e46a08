//! Starting the executable, talking to it, and waiting for what it says.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the executable to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    run_as(env!("CARGO_BIN_EXE_natrix"), arguments)
}

/// Runs the executable under another path to its end.
pub(crate) fn run_as(path: &str, arguments: &[&str]) -> Output {
    Command::new(path).args(arguments).stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Calls `probe` until it has something, or fails the test.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A server that runs, killed at the end of its test if it still does then.
pub(crate) struct Server {
    child: Child,
    stderr: Arc<Mutex<String>>,
    /// A folder of its own, for whatever a test needs.
    pub(crate) folder: TempDir,
}

impl Server {
    /// Starts a server on any free port; `FOLDER` in an argument is the server's own folder.
    pub(crate) fn start(arguments: &[&str]) -> Server {
        Server::start_with(arguments, &[])
    }

    /// Starts a server with files in its folder.
    pub(crate) fn start_with(arguments: &[&str], files: &[(&str, &str)]) -> Server {
        Server::spawn(Command::new(env!("CARGO_BIN_EXE_natrix")), arguments, files)
    }

    /// Starts a server that may have no more than so many files and sockets open.
    pub(crate) fn start_with_descriptors(limit: u32, arguments: &[&str]) -> Server {
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(format!("ulimit -n {limit}; exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_natrix"));
        Server::spawn(shell, arguments, &[])
    }

    fn spawn(mut command: Command, arguments: &[&str], files: &[(&str, &str)]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        for (name, content) in files {
            fs::write(folder.path().join(name), content.replace("FOLDER", &path)).unwrap();
        }
        let arguments = arguments.iter().map(|argument| argument.replace("FOLDER", &path));
        let mut child = command
            .args(["-p", "-1", "-a", "127.0.0.1"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        let (pipe, written) = (child.stderr.take().unwrap(), Arc::clone(&stderr));
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                written.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        Server { child, stderr, folder }
    }

    /// Starts a server and waits until it takes clients.
    pub(crate) fn ready(arguments: &[&str]) -> Server {
        let server = Server::start(arguments);
        server.wait_for_log("Server is ready");
        server
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns what the server has written to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits for text in the log and returns the line that has it.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(start.elapsed() < PATIENCE, "no {text:?} in\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns where the log says that something listens: the end of its line.
    pub(crate) fn address(&self, what: &str) -> String {
        self.wait_for_log(what).rsplit(' ').next().unwrap().to_owned()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end and returns the exit code.
    pub(crate) fn exit_code(&mut self) -> i32 {
        let child = &mut self.child;
        let status = eventually("the server's end", || child.try_wait().unwrap());
        assert_eq!(status.signal(), None, "killed by a signal");
        // What was written last is still on its way through the pipe.
        std::thread::sleep(Duration::from_millis(50));
        status.code().unwrap()
    }

    /// Kills the process; its folder stays.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Connects a client and reads the greeting.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.address("Listening for client connections on "))
    }

    /// Asks monitoring, plainly; returns status and body.
    pub(crate) fn get(&self, target: &str) -> (u16, String) {
        http_get(&self.address("Starting http monitor on "), target)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn http_get(address: &str, target: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A client that speaks the protocol by hand.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    pub(crate) info: String,
}

impl Client {
    pub(crate) fn connect(address: &str) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client { stream: BufReader::new(stream), info: String::new() };
        client.info = client.line();
        assert!(client.info.starts_with("INFO {"), "{}", client.info);
        client
    }

    /// Sends operations.
    pub(crate) fn send(&mut self, operations: &str) {
        self.stream.get_mut().write_all(operations.as_bytes()).unwrap();
    }

    /// Sends operations and waits until the server has dealt with them.
    pub(crate) fn done(&mut self, operations: &str) {
        self.send(operations);
        self.send("PING\r\n");
        while self.line() != "PONG" {}
    }

    /// Returns the next line; fails the test if there is none.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.stream.read_line(&mut line).unwrap(), 0, "the server has closed the connection");
        line.trim_end().to_owned()
    }

    /// Waits for the end of the connection.
    pub(crate) fn ended(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = self.stream.read_to_end(&mut rest);
    }
}
