//! A download by the test itself, distinguished from those of the demo's users by its source address.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

/// A running download.
pub enum Download {
    Curl(Child),
    Ours(JoinHandle<bool>),
}

impl Download {
    /// Downloads `path` of the demo's origin from the source address `addr`, with curl if it is installed.
    pub fn start(port: u16, path: &str, addr: Ipv4Addr) -> Self {
        let url = format!("http://127.0.0.1:{port}{path}");
        let curl = Command::new("curl")
            .args(["-q", "-sS", "--noproxy", "*", "--interface", &addr.to_string(), "-o", "/dev/null", &url])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if let Ok(child) = curl {
            return Self::Curl(child);
        }
        _ = writeln!(std::io::stderr(), "curl is not installed: a client of the tests is used");
        let path = path.to_owned();
        Self::Ours(std::thread::spawn(move || fetch(port, &path, addr).unwrap_or(false)))
    }

    /// Returns whether the download was complete, once it has ended.
    fn has_ended(&mut self) -> Option<bool> {
        match self {
            Self::Curl(child) => child.try_wait().unwrap().map(|status| status.success()),
            Self::Ours(thread) => thread.is_finished().then_some(false),
        }
    }

    /// Waits for its end. Returns whether it was complete, and how long this call waited.
    pub fn end(mut self, limit: Duration) -> (bool, Duration) {
        let began = Instant::now();
        while self.has_ended().is_none() {
            assert!(began.elapsed() < limit, "the download goes on after {limit:?}");
            // The standard library cannot wait for a child process with a timeout, so that this polls.
            std::thread::sleep(Duration::from_millis(2));
        }
        let took = began.elapsed();
        let whole = match self {
            Self::Curl(mut child) => child.wait().unwrap().success(),
            Self::Ours(thread) => thread.join().unwrap(),
        };
        (whole, took)
    }
}

/// Downloads `path` without curl. Returns whether the body has the announced length.
fn fetch(port: u16, path: &str, addr: Ipv4Addr) -> std::io::Result<bool> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((addr, 0)).into())?;
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    let mut socket = TcpStream::from(socket);
    write!(socket, "GET {path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: u64 = length.and_then(|n| n.trim().parse().ok()).unwrap_or(u64::MAX);
    Ok(std::io::copy(&mut socket, &mut std::io::sink())? == length)
}
