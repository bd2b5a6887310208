//! A user of our own beside those of the demo, told apart by its address.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

/// A download that goes on until it is done or cut off.
pub enum Download {
    Curl(Child),
    Ours(JoinHandle<bool>),
}

impl Download {
    /// Fetches `path` of the demo's origin from `addr`, with curl where there is one.
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
        _ = writeln!(std::io::stderr(), "curl is not installed: using our own client");
        let path = path.to_owned();
        Self::Ours(std::thread::spawn(move || fetch(port, &path, addr).unwrap_or(false)))
    }

    fn has_ended(&mut self) -> Option<bool> {
        match self {
            Self::Curl(child) => child.try_wait().unwrap().map(|status| status.success()),
            Self::Ours(thread) => thread.is_finished().then_some(false),
        }
    }

    /// Waits for its end: whether it got everything, and how long it took.
    pub fn end(mut self, limit: Duration) -> (bool, Duration) {
        let began = Instant::now();
        while self.has_ended().is_none() {
            assert!(began.elapsed() < limit, "the download goes on after {limit:?}");
            // There is no waiting for a child with a limit. This only looks; nothing is timed by it.
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

/// Whether everything that was announced came.
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
