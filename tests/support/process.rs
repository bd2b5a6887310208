//! Real programs as child processes, whose output is read line by line.

use std::{
    collections::BTreeSet,
    fmt::Display,
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, ChildStdin, Command},
    sync::watch,
    task::JoinSet,
};
use underpass::ids::ServiceKey;

/// The token of servers and proxies that tests start as programs, which refuse one that can be guessed.
pub const TOKEN: &str = "vK8dR2xQ9mWz4LpT7cYb";

/// The state directory of the servers: the tests must not use that of the user who runs them.
pub const STATE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/state");

/// A process whose output is read line by line. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    lines: watch::Receiver<Vec<Line>>,
    /// Indexes of the lines that [`line`](Self::line) has returned.
    taken: BTreeSet<usize>,
    readers: JoinSet<()>,
}

#[derive(Debug, Clone)]
pub struct Line {
    pub stderr: bool,
    pub text: String,
}

/// A signal to send with [`Process::signal`].
#[derive(Debug, Clone, Copy)]
pub enum Signal {
    Term,
    Int,
    Hup,
    /// Stops the process until [`Signal::Cont`].
    Stop,
    Cont,
}

impl Process {
    /// Runs underpass.
    pub fn underpass(args: &[&str]) -> Self {
        Self::underpass_with(args, |_| {})
    }

    /// Runs underpass with a modified command: environment, directory, standard input.
    pub fn underpass_with(args: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_underpass"));
        // The environment of the tests may contain a token.
        command.args(args).env_remove("UNDERPASS_TOKEN").env("NO_COLOR", "1");
        change(&mut command);
        Self::spawn(command)
    }

    /// Runs underpass without a controlling terminal, as a service has none.
    pub fn service(args: &[&str]) -> Self {
        Self::service_with(args, |_| {})
    }

    /// Runs underpass as a service, with a modified command.
    pub fn service_with(args: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new("setsid");
        command.arg(env!("CARGO_BIN_EXE_underpass")).args(args);
        command.env_remove("UNDERPASS_TOKEN").env("NO_COLOR", "1");
        change(&mut command);
        Self::spawn(command)
    }

    /// Runs a server without cockpit on free loopback ports. Returns it, and the address of its tunnel port.
    pub async fn server(token: &str, more: &[&str]) -> (Self, SocketAddr) {
        let args = ["server", "--listen", "127.0.0.1:0", "--bind", "127.0.0.1", "--no-tui", "--token", token];
        let mut server = Self::underpass(&[&args[..], more].concat());
        let addr = server.listens().await;
        (server, addr)
    }

    /// Runs a proxy of the target `to` with any public port. `server` is the address of the tunnel port.
    pub fn proxy(server: impl Display, to: impl Display, token: &str, more: &[&str]) -> Self {
        let (server, to) = (server.to_string(), to.to_string());
        let args = ["proxy", "--server", &server, "--port", "0", "--to", &to, "--token", token];
        Self::underpass(&[&args[..], more].concat())
    }

    /// Waits until a server listens for proxies. Returns the address of its tunnel port.
    pub async fn listens(&mut self) -> SocketAddr {
        let line = self.line("listening for proxies on ").await;
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Waits until a proxy serves. Returns its service.
    pub async fn serves(&mut self) -> ServiceKey {
        let line = self.line("serving ").await;
        let service = line.split("serving ").nth(1).and_then(|rest| rest.split(',').next());
        service.unwrap_or_default().parse().unwrap_or_else(|_| panic!("no service in {line:?}"))
    }

    /// Runs a program of `assets/examples` with python3. Returns `None` and prints a note if python3 is not installed.
    pub fn example(script: &str, args: &[&str]) -> Option<Self> {
        if !super::client::is_installed("python3", "the examples are not tested") {
            return None;
        }
        let mut command = Command::new("python3");
        command.arg(format!("{}/assets/examples/{script}", env!("CARGO_MANIFEST_DIR"))).args(args);
        Some(Self::spawn(command))
    }

    /// Runs a command.
    pub fn spawn(command: Command) -> Self {
        Self::spawn_with_input(command, Stdio::piped())
    }

    /// Runs a command with this standard input.
    pub fn spawn_with_input(mut command: Command, stdin: Stdio) -> Self {
        // Not the directory of a server that is installed on the machine.
        if command.as_std().get_envs().all(|(name, _)| name != "STATE_DIRECTORY") {
            command.env("STATE_DIRECTORY", STATE);
        }
        // Nor a control socket beside those of the machine, unless the test has a directory for it.
        if command.as_std().get_envs().all(|(name, _)| name != "RUNTIME_DIRECTORY") {
            command.env("UNDERPASS_CONTROL", "off");
        }
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let name = format!("{:?}", command.as_std());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let (sender, lines) = watch::channel(Vec::new());
        let sender = Arc::new(sender);
        let mut readers = JoinSet::new();
        readers.spawn(read_lines(child.stdout.take().unwrap(), false, sender.clone()));
        readers.spawn(read_lines(child.stderr.take().unwrap(), true, sender));
        Self { name, child, lines, taken: BTreeSet::new(), readers }
    }

    /// Returns the process ID.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the process has been waited for")
    }

    /// Takes the standard input of the process; dropping it closes it.
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("standard input is taken once")
    }

    /// Waits for a line that contains `text`, on stdout or stderr, and that was not returned before. Other lines can
    /// still be returned later, because the order between the two outputs is undefined.
    pub async fn line(&mut self, text: &str) -> String {
        self.line_within(super::LONG, text).await
    }

    /// [`line`](Self::line) with another timeout.
    pub async fn line_within(&mut self, limit: Duration, text: &str) -> String {
        let taken = &self.taken;
        let find = |lines: &Vec<Line>| {
            lines.iter().enumerate().position(|(at, line)| line.text.contains(text) && !taken.contains(&at))
        };
        let mut lines = self.lines.clone();
        let found = tokio::time::timeout(limit, lines.wait_for(|lines| find(lines).is_some())).await;
        let Ok(Ok(lines)) = found else {
            let why = if found.is_err() { "timeout" } else { "the process exited before" };
            panic!("{why}: a line with {text:?} from {}\noutput:\n{}", self.name, self.output());
        };
        let at = find(&lines).expect("the line was found above");
        self.taken.insert(at);
        lines[at].text.clone()
    }

    /// Returns all output so far.
    pub fn output(&self) -> String {
        self.lines.borrow().iter().map(|line| line.text.clone() + "\n").collect()
    }

    /// Returns the output on stdout so far.
    pub fn stdout(&self) -> String {
        self.lines.borrow().iter().filter(|l| !l.stderr).map(|l| l.text.clone() + "\n").collect()
    }

    /// Returns the output on stderr so far.
    pub fn stderr(&self) -> String {
        self.lines.borrow().iter().filter(|l| l.stderr).map(|l| l.text.clone() + "\n").collect()
    }

    /// Sends SIGKILL and waits for the exit: no handler runs, and the kernel closes the sockets.
    pub async fn kill_9(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends a signal.
    pub async fn signal(&self, signal: Signal) {
        let name = format!("{signal:?}").to_uppercase();
        // The built-in command of the shell: not every container has the program.
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.pid())).status().await;
        assert!(sent.unwrap().success(), "cannot signal {}", self.name);
    }

    /// Waits until the process exits by itself and all of its output is read.
    pub async fn exit(&mut self) -> ExitStatus {
        self.exit_within(super::LONG).await
    }

    /// [`exit`](Self::exit) with another timeout.
    pub async fn exit_within(&mut self, limit: Duration) -> ExitStatus {
        let ended = tokio::time::timeout(limit, async {
            let status = self.child.wait().await.unwrap();
            while self.readers.join_next().await.is_some() {}
            status
        })
        .await;
        ended.unwrap_or_else(|_| panic!("{} has not exited\noutput:\n{}", self.name, self.output()))
    }

    /// Returns the resident memory in KiB, or `None` if the system does not report it.
    pub fn resident_kib(&self) -> Option<u64> {
        self.memory_kib("VmRSS:")
    }

    /// Returns the most resident memory that the process has had, in KiB, or `None` if the system does not report it.
    pub fn peak_resident_kib(&self) -> Option<u64> {
        self.memory_kib("VmHWM:")
    }

    fn memory_kib(&self, field: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    }
}

async fn read_lines(output: impl AsyncRead + Unpin, stderr: bool, lines: Arc<watch::Sender<Vec<Line>>>) {
    let mut output = BufReader::new(output);
    let mut bytes = Vec::new();
    // Invalid UTF-8 in the output of a program must not hide the rest of it from a test.
    while output.read_until(b'\n', &mut bytes).await.is_ok_and(|n| n > 0) {
        let text = String::from_utf8_lossy(bytes.trim_ascii_end()).into_owned();
        lines.send_modify(|all| all.push(Line { stderr, text }));
        bytes.clear();
    }
}
