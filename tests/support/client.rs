//! Clients of the users: curl where it is installed, the client of the demo elsewhere.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Write},
    net::SocketAddr,
    process::{Output, Stdio},
    sync::{LazyLock, Mutex},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};
use underpass::cli::demo::{DemoFile, GetResponse, Sha256Sum, TrafficCounters, TransferError, get};

static INSTALLED: LazyLock<Mutex<BTreeMap<String, bool>>> = LazyLock::new(Mutex::default);

/// Returns whether `program` is installed. If it is not, prints once what is done instead. This does not use
/// `eprintln!`, whose output is only shown for failing tests.
pub fn is_installed(program: &str, instead: &str) -> bool {
    let mut known = INSTALLED.lock().unwrap();
    *known.entry(program.to_owned()).or_insert_with(|| {
        let mut command = std::process::Command::new(program);
        let found = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        let found = found.is_ok_and(|status| status.success());
        if !found {
            _ = writeln!(std::io::stderr(), "{program} is not installed: {instead}");
        }
        found
    })
}

/// Returns a curl command with these arguments, or `None` if curl is not installed. Dropping its process kills it.
pub fn curl_command(args: &[&str]) -> Option<Command> {
    if !is_installed("curl", "the client of the demo is used") {
        return None;
    }
    let mut command = Command::new("curl");
    // Ignores the HTTP proxy and the ~/.curlrc of the user who runs the tests.
    command.arg("-q").arg("-sS").arg("--noproxy").arg("*").args(args);
    command.stdin(Stdio::null()).kill_on_drop(true);
    Some(command)
}

/// Runs curl until it exits.
pub async fn curl(args: &[&str]) -> Option<Output> {
    let mut command = curl_command(args)?;
    Some(super::soon("curl ends", command.output()).await.unwrap())
}

/// Downloads `path` with curl, or with the client of the demo. `Err` is the failure as the client reports it.
pub async fn fetch(server: SocketAddr, path: &str) -> Result<Fetched, String> {
    let url = format!("http://{server}{path}");
    if let Some(command) = curl_command(&["--fail", &url]) {
        return hashed(command).await;
    }
    let socket = TcpStream::connect(server).await.map_err(|e| e.to_string())?;
    match get(socket, path, &TrafficCounters::default()).await {
        Ok(GetResponse { status: 200, length, sha256, .. }) => Ok(Fetched { length, sha256 }),
        Ok(GetResponse { status, .. }) => Err(format!("answered {status}")),
        Err(fault) => Err(fault.to_string()),
    }
}

/// Sends `file` to a target that echoes, and asserts that it returns.
pub async fn echoes(server: SocketAddr, file: DemoFile) {
    let mut socket = TcpStream::connect(server).await.unwrap();
    socket.write_all(file.bytes_from(0)).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut back = Vec::new();
    socket.read_to_end(&mut back).await.unwrap();
    assert_eq!(back, file.bytes_from(0));
}

/// Requests `path` on a connection, which the server closes. Returns the body of the response.
pub async fn fetch_text(socket: &mut TcpStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.0\r\nHost: test\r\n\r\n");
    super::soon("a request is sent", socket.write_all(request.as_bytes())).await.unwrap();
    let mut response = String::new();
    super::soon("a response", socket.read_to_string(&mut response)).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {response:?}"));
    assert!(head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.0 200"), "{head}");
    body.to_owned()
}

/// Runs `command` and hashes its output without keeping it.
async fn hashed(mut command: Command) -> Result<Fetched, String> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (mut hash, mut length, mut error_text) = (Sha256::new(), 0, String::new());
    let mut buffer = vec![0; 256 * 1024];
    let read = async {
        loop {
            let n = stdout.read(&mut buffer).await.unwrap();
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            length += n as u64;
        }
    };
    let (_, stderr_read) = tokio::join!(read, stderr.read_to_string(&mut error_text));
    stderr_read.unwrap();
    let status = child.wait().await.unwrap();
    if !status.success() {
        return Err(format!("{status} after {length} bytes: {}", error_text.trim()));
    }
    Ok(Fetched { length, sha256: Sha256Sum(hash.finalize().into()) })
}

/// Length and digest of the body that a [`fetch`] received.
#[derive(Debug, PartialEq, Eq)]
pub struct Fetched {
    pub length: u64,
    pub sha256: Sha256Sum,
}

impl From<DemoFile> for Fetched {
    fn from(file: DemoFile) -> Self {
        Self { length: file.size, sha256: file.sha256() }
    }
}

/// A [`fetch`] that runs beside the test.
pub type Download = super::Running<Result<Fetched, String>>;

/// Starts a download of `file`.
pub fn download(public: SocketAddr, file: DemoFile) -> Download {
    Download::start(async move { fetch(public, &file.path()).await })
}

/// Starts an upload of `file`.
pub fn upload(public: SocketAddr, file: DemoFile) -> super::Running<Result<(), TransferError>> {
    super::Running::start(async move {
        let socket = TcpStream::connect(public).await.unwrap();
        underpass::cli::demo::upload(socket, file, &TrafficCounters::default()).await
    })
}

/// Waits until a download fails with a reset, within [`promised_second`](super::promised_second). A truncated body
/// without a reset would be an error only for clients that know the length.
pub async fn is_reset(download: Download) {
    is_reset_within(super::promised_second(), download).await;
}

/// [`is_reset`] with another timeout.
pub async fn is_reset_within(limit: Duration, download: Download) {
    was_reset(&download.end_within(limit, "the user's download ends").await.unwrap_err());
}

/// Connects a user and asserts that its connection is reset before it receives a byte. The RST can arrive before
/// connect(2) returns.
pub async fn is_refused(public: SocketAddr) {
    let refused = async { TcpStream::connect(public).await?.read(&mut [0]).await };
    assert_eq!(super::soon("a reset", refused).await.map_err(|e| e.kind()), Err(ErrorKind::ConnectionReset));
}

/// Asserts that a [`fetch`] failed with a reset. Curl's exit status is 56 then, or 7 if the RST arrived before curl
/// first polled its connection.
pub fn was_reset(error: &str) {
    let reset = ["exit status: 56", "exit status: 7 ", "reset"].iter().any(|word| error.contains(word));
    assert!(reset, "{error}");
}
