//! A server in the near namespace, a proxy and its target in the far one, and a user in the near one.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use tokio::{io::AsyncReadExt, process::Command, runtime::Handle};
use underpass::cli::demo::{DemoFile, Sha256Sum};

use crate::{
    rig::{
        NEAR, Rig, Setup, StartError,
        emulator::{Shape, Statistics},
        namespace::Namespace,
    },
    support::{
        process::{Process, STATE, TOKEN},
        target::{self, Target},
    },
};

/// Address of the public port, in the near namespace.
const PUBLIC: ([u8; 4], u16) = ([127, 0, 0, 1], 8080);

/// Longest time without a byte of a download.
const MAX_STALL: Duration = Duration::from_secs(20);

/// Everything that runs. The processes end before the namespaces are removed.
pub(crate) struct World {
    /// Server in the near namespace.
    server: Process,
    /// Proxy in the far namespace.
    proxy: Process,
    /// Target in the far namespace, which sends a file to each user.
    _target: Target,
    /// Congestion control of both namespaces, where the test asked for one that the kernel has.
    congestion: Option<String>,
    /// The namespaces and the path between them.
    rig: Rig,
}

/// What a download received, and when.
pub(crate) struct Arrivals {
    /// Bytes received.
    length: u64,
    /// Digest of the bytes received.
    sum: Sha256Sum,
    /// When each read returned.
    times: Vec<Instant>,
}

impl Arrivals {
    /// Returns whether exactly the bytes of `file` were received.
    pub(crate) fn is_intact(&self, file: DemoFile) -> bool {
        (self.length, &self.sum) == (file.size, &file.sha256())
    }

    /// Returns the pauses longer than half a second, and after how many reads they began.
    pub(crate) fn long_pauses(&self) -> Vec<(usize, Duration)> {
        let pauses = self.times.windows(2).map(|two| two[1] - two[0]).enumerate();
        pauses.filter(|(_, pause)| *pause > Duration::from_millis(500)).collect()
    }

    /// Returns the time from `moment` to the next bytes.
    pub(crate) fn first_after(&self, moment: Instant) -> Option<Duration> {
        self.times.iter().find_map(|time| time.checked_duration_since(moment))
    }
}

impl World {
    /// Starts all of it over a path that has `shape` in both directions. The target sends `file` to each user. Returns
    /// `None`, and says so, where namespaces are not permitted.
    pub(crate) async fn start(setup: &Setup, shape: &Shape, file: DemoFile) -> Option<Self> {
        let mut congestion = setup.congestion.clone();
        let mut rig = Rig::start(setup, shape.clone(), shape.clone());
        if let (Err(StartError::Parameter(error)), Some(name)) = (&rig, congestion.take_if(|_| rig.is_err()))
        {
            notice(&format!("the kernel has no {name}, its default is used: {error}"));
            rig = Rig::start(&Setup { congestion: None, ..setup.clone() }, shape.clone(), shape.clone());
        }
        let rig = match rig {
            Ok(rig) => rig,
            Err(error @ StartError::NotPermitted(_)) => {
                notice(&format!("skipped: {error}"));
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let runtime = Handle::current();
        let target = rig.far.run(|| Ok(runtime.block_on(target::send(file)))).unwrap();
        let listen = format!("{NEAR}:7000");
        let port = PUBLIC.1.to_string();
        let common = ["--token", TOKEN];
        let server = ["server", "--listen", &listen, "--bind", "127.0.0.1"];
        let mut server = underpass(&rig.near, &[&server[..], &common].concat());
        server.line("listening").await;
        let to = target.addr.to_string();
        let proxy = ["proxy", "--server", &listen, "--port", &port, "--to", &to];
        let mut proxy = underpass(&rig.far, &[&proxy[..], &common].concat());
        proxy.line("serving ").await;
        Some(Self { server, proxy, _target: target, congestion, rig })
    }

    /// Congestion control that the test asked for; `None` where the kernel does not have it.
    pub(crate) fn congestion(&self) -> Option<&str> {
        self.congestion.as_deref()
    }

    /// The path.
    pub(crate) fn rig(&self) -> &Rig {
        &self.rig
    }

    /// Takes the statistics of the path.
    pub(crate) fn statistics(mut self) -> (Duration, [Statistics; 2]) {
        self.rig.take_statistics()
    }

    /// Returns the output of server and proxy.
    pub(crate) fn output(&self) -> String {
        format!("server:\n{}proxy:\n{}", self.server.output(), self.proxy.output())
    }

    /// Returns how often the proxy took a channel for dead and connected another.
    pub(crate) fn replacements(&self) -> usize {
        self.proxy.output().matches("connecting a replacement").count()
    }

    /// Receives the file as a user.
    pub(crate) async fn download(&self) -> Arrivals {
        let socket = self.rig.near.run(|| TcpStream::connect(SocketAddr::from(PUBLIC))).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut socket = tokio::net::TcpStream::from_std(socket).unwrap();
        let (mut hash, mut length, mut times) = (Sha256::new(), 0, Vec::new());
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = tokio::time::timeout(MAX_STALL, socket.read(&mut buffer)).await;
            let read = read.unwrap_or_else(|_| {
                panic!(
                    "no byte for {MAX_STALL:?} after {length}; the path is {:?}\n{}",
                    self.rig,
                    self.output()
                )
            });
            match read {
                Ok(0) => return Arrivals { length, sum: Sha256Sum(hash.finalize().into()), times },
                Ok(n) => {
                    hash.update(&buffer[..n]);
                    length += n as u64;
                    times.push(Instant::now());
                }
                Err(error) => panic!("{error} after {length} bytes\n{}", self.output()),
            }
        }
    }
}

/// Runs underpass in a namespace.
fn underpass(namespace: &Namespace, args: &[&str]) -> Process {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &namespace.name, env!("CARGO_BIN_EXE_underpass")]).args(args);
    command.args(["--log", "debug"]);
    // The environment of the tests may contain a token.
    command.env_remove("UNDERPASS_TOKEN").env("NO_COLOR", "1").env("STATE_DIRECTORY", STATE);
    Process::spawn(command)
}

/// Prints a line, also for a test that passes.
fn notice(line: &str) {
    // The test's output is only shown if it fails; `eprintln!` would become part of it.
    _ = writeln!(std::io::stderr(), "tests/wan: {line}");
}
