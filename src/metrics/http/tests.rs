//! Requests that are no requests for metrics, and clients that take their time.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use super::{Exposition, Format, MAX_CONNECTIONS, MAX_HEAD_BYTES, MetricsListener, Probes};

/// Exposes a long text, or panics.
struct Long(usize);

impl Exposition for Long {
    fn expose(&self, format: Format, _: bool) -> String {
        assert!(self.0 > 0, "asked for");
        format!("{format:?} ").repeat(self.0)
    }
}

/// Is alive, and not ready.
struct Starting;

impl Probes for Starting {
    fn check_alive(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn check_ready(&self) -> Result<(), String> {
        Err("starting".to_owned())
    }
}

/// Starts a server that exposes a text of this length.
fn start(length: usize) -> (JoinSet<()>, SocketAddr) {
    start_with(length, Duration::from_secs(3600))
}

/// Starts a server that waits so long for a request.
fn start_with(length: usize, read_timeout: Duration) -> (JoinSet<()>, SocketAddr) {
    let mut listener = MetricsListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    listener.read_timeout = read_timeout;
    let addr = listener.addr();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        listener.serve(Arc::new(Long(length)), Starting).await;
    });
    (tasks, addr)
}

/// Sends `request` and returns the whole response.
async fn exchange(addr: SocketAddr, request: &[u8]) -> String {
    let exchange = async {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        socket.write_all(request).await.unwrap();
        let mut response = String::new();
        socket.read_to_string(&mut response).await.unwrap();
        response
    };
    tokio::time::timeout(Duration::from_secs(30), exchange).await.expect("a response")
}

#[tokio::test]
async fn each_path_has_its_answer() {
    let (_tasks, addr) = start(1);
    for (request, status, body) in [
        ("GET /metrics HTTP/1.1\r\n\r\n", "200 OK", "Text "),
        (
            "GET /metrics?x=1 HTTP/1.0\r\nAccept: application/openmetrics-text\r\n\r\n",
            "200 OK",
            "OpenMetrics ",
        ),
        ("GET /healthz HTTP/1.1\r\n\r\n", "200 OK", "ok\n"),
        ("GET /readyz HTTP/1.1\r\n\r\n", "503 Service Unavailable", "starting\n"),
        ("HEAD /metrics HTTP/1.1\r\n\r\n", "200 OK", ""),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed", "use GET\n"),
        ("SSH-2.0-x\r\n\r\n", "400 Bad Request", "no HTTP/1.1 request: invalid token\n"),
    ] {
        let response = exchange(addr, request.as_bytes()).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {response}");
        assert!(response.ends_with(&format!("\r\n\r\n{body}")), "{request}: {response}");
    }
    let response = exchange(addr, b"GET /secret HTTP/1.1\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.1 404 ") && response.contains("/readyz"), "{response}");
}

/// The client has sent more than is read: the response arrives all the same, instead of a reset.
#[tokio::test]
async fn a_head_of_any_length_is_refused() {
    let (_tasks, addr) = start(1);
    let request = [b"GET / HTTP/1.1\r\nx: ", &vec![b'x'; MAX_HEAD_BYTES + 100][..]].concat();
    let response = exchange(addr, &request).await;
    assert!(response.starts_with("HTTP/1.1 400 ") && response.contains("longer than"), "{response}");
}

#[tokio::test]
async fn a_panic_of_one_scrape_is_answered_with_500() {
    let (_tasks, addr) = start(0);
    let response = exchange(addr, b"GET /metrics HTTP/1.1\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.1 500 "), "{response}");
    assert!(exchange(addr, b"GET /healthz HTTP/1.1\r\n\r\n").await.ends_with("ok\n"));
}

/// Clients that send nothing can take all connections. A thousand of them kept a scraper waiting for ten minutes; each
/// further connection takes the place of the oldest.
#[tokio::test]
async fn the_number_of_connections_is_bounded_and_silent_ones_give_way() {
    let (_tasks, addr) = start(1);
    let mut silent = Vec::new();
    for _ in 0..10 * MAX_CONNECTIONS {
        silent.push(TcpStream::connect(addr).await.unwrap());
    }
    assert!(exchange(addr, b"GET /healthz HTTP/1.1\r\n\r\n").await.ends_with("ok\n"));
    let mut open = 0;
    for socket in &mut silent {
        // The closed ones are at their end already: they were displaced before the answer.
        let ended = tokio::time::timeout(Duration::from_millis(20), socket.read_u8()).await;
        open += usize::from(ended.is_err());
    }
    assert!((1..=MAX_CONNECTIONS).contains(&open), "{open}");
}

/// A scraper that is served is not displaced; others wait until it has its answer.
#[tokio::test]
async fn a_client_that_has_sent_its_request_is_not_displaced() {
    let (_tasks, addr) = start(4 << 20);
    let mut readers = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
        socket.readable().await.unwrap();
        readers.push(socket);
    }
    let mut further = Box::pin(exchange(addr, b"GET /healthz HTTP/1.1\r\n\r\n"));
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut further).await.is_err());
    for mut socket in readers {
        let mut response = Vec::new();
        socket.read_to_end(&mut response).await.unwrap();
        assert!(response.len() > 4 << 20);
        drop(socket);
    }
    assert!(further.await.ends_with("ok\n"));
}

#[tokio::test]
async fn a_client_that_sends_nothing_is_told_so_in_time() {
    let (_tasks, addr) = start_with(1, Duration::from_millis(50));
    let response = exchange(addr, b"GET / HTTP/1.1\r\n").await;
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
}

/// A client that does not read its response does not keep others from theirs.
#[tokio::test]
async fn a_client_that_does_not_read_delays_no_other() {
    let (_tasks, addr) = start(4 << 20);
    let mut stuck = TcpStream::connect(addr).await.unwrap();
    stuck.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
    stuck.readable().await.unwrap();
    assert!(exchange(addr, b"GET /healthz HTTP/1.1\r\n\r\n").await.ends_with("ok\n"));
}
