//! The HTTP server: one request on each connection, with a bounded number of connections and deadlines.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt::Write as _,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use super::format::Format;

#[cfg(test)]
mod tests;

/// The most connections that are served at the same time; a further one displaces the oldest that has not sent its
/// request, or waits. A scraper has one.
const MAX_CONNECTIONS: usize = 8;

/// The longest head of a request in bytes. That of Prometheus has 400.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// The most header fields of a request.
const MAX_HEADERS: usize = 64;

/// How long a client may take to send its request.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may take to read the response: Prometheus gives up after 10 s by default.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the connection stays open for the client to read the end of the response. Closing it while bytes of the
/// client are unread would reset it, and the response with it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause after accept(2) has failed, as it does while the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The paths, for a client that asks for another one.
const PATHS: &str = "/metrics (Prometheus), /healthz (process works), /readyz (process serves)\n";

/// Why the metrics cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for scrapers on {addr} (option --metrics): {error}")]
pub struct MetricsBindError {
    /// The address.
    pub addr: SocketAddr,
    /// The error of the operating system. It is part of the text, and so not the source as well.
    pub error: io::Error,
}

/// The values that `/metrics` answers with.
pub(super) trait Exposition: Send + Sync + 'static {
    /// Returns the exposition. `is_ready` says whether `/readyz` would answer with 200. May take milliseconds: it is
    /// called on a thread for blocking tasks.
    fn expose(&self, format: Format, is_ready: bool) -> String;
}

/// The checks that `/healthz` and `/readyz` answer with.
pub trait Probes: Send + Sync + 'static {
    /// Checks whether the process works. An error says what does not.
    fn check_alive(&self) -> BoxFuture<'_, Result<(), String>>;

    /// Checks whether the process serves.
    ///
    /// # Errors
    /// Why it does not.
    fn check_ready(&self) -> Result<(), String>;
}

/// The listening socket for scrapers and health checks.
#[derive(Debug)]
pub struct MetricsListener {
    /// The socket.
    listener: TcpListener,
    /// Its address.
    addr: SocketAddr,
    /// How long a client may take to send its request.
    read_timeout: Duration,
}

impl MetricsListener {
    /// Listens on `addr`. Must be called in a runtime.
    ///
    /// # Errors
    /// The address is in use or not available.
    pub fn bind(addr: SocketAddr) -> Result<Self, MetricsBindError> {
        let bind = || {
            let listener = StdListener::bind(addr)?;
            listener.set_nonblocking(true)?;
            let addr = listener.local_addr()?;
            Ok(Self { addr, listener: TcpListener::from_std(listener)?, read_timeout: READ_TIMEOUT })
        };
        bind().map_err(|error| MetricsBindError { addr, error })
    }

    /// Returns the address of the socket.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers requests with `metrics` and `probes`. Never completes; dropping the future ends all connections.
    pub(super) async fn serve(self, metrics: Arc<dyn Exposition>, probes: impl Probes) -> Infallible {
        let responder =
            Arc::new(Responder { metrics, probes, scrape: Mutex::new(()), read_timeout: self.read_timeout });
        let mut connections = JoinSet::new();
        let mut unanswered = VecDeque::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((socket, _)) => {
                        unanswered.retain(Unanswered::is_silent);
                        if connections.len() >= MAX_CONNECTIONS {
                            // With only the timeout of each, a thousand silent connections delayed a scrape by ten
                            // minutes.
                            if let Some(Unanswered { task, .. }) = unanswered.pop_front() {
                                task.abort();
                            }
                            connections.join_next().await;
                        }
                        let has_request = Arc::new(AtomicBool::new(false));
                        let serving = serve_connection(responder.clone(), socket, has_request.clone());
                        unanswered.push_back(Unanswered { task: connections.spawn(serving), has_request });
                    }
                    Err(error) => {
                        tracing::debug!("cannot accept a scraper on {}: {error}", self.addr);
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                // A panic in one was reported by the panic hook.
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// A connection that may not have sent its request.
struct Unanswered {
    /// Its task.
    task: AbortHandle,
    /// Whether the request is complete.
    has_request: Arc<AtomicBool>,
}

impl Unanswered {
    /// Returns whether the connection is open, and its request not complete.
    fn is_silent(&self) -> bool {
        !self.has_request.load(Relaxed) && !self.task.is_finished()
    }
}

/// Makes the responses.
struct Responder<P> {
    /// Answers `/metrics`.
    metrics: Arc<dyn Exposition>,
    /// Answer `/healthz` and `/readyz`.
    probes: P,
    /// Held during a scrape: each reads all channels, and takes memory for its text.
    scrape: Mutex<()>,
    /// How long a client may take to send its request.
    read_timeout: Duration,
}

/// A request, as far as the response depends on it.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    /// The method.
    method: String,
    /// The path, without the query.
    path: String,
    /// The values of all header fields `Accept`.
    accept: String,
}

/// A response.
struct Response {
    /// The status code with its phrase.
    status: &'static str,
    /// The type of the body.
    content_type: &'static str,
    /// The body.
    body: String,
}

impl Response {
    /// Creates a response with a text for people.
    fn text(status: &'static str, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    /// Creates the response to a health check.
    fn of_check(result: Result<(), String>) -> Self {
        match result {
            Ok(()) => Self::text("200 OK", "ok\n"),
            Err(reason) => Self::text("503 Service Unavailable", reason + "\n"),
        }
    }

    /// Returns the bytes of the response, without the body for a request with `HEAD`.
    fn into_bytes(self, is_head: bool) -> Vec<u8> {
        let Self { status, content_type, body } = self;
        let mut head = format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n");
        // Writing to a string does not fail.
        _ = write!(
            head,
            "Content-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n",
            body.len()
        );
        if status.starts_with("405") {
            head.push_str("Allow: GET, HEAD\r\n");
        }
        head.push_str("\r\n");
        if !is_head {
            head.push_str(&body);
        }
        head.into_bytes()
    }
}

impl<P: Probes> Responder<P> {
    /// Returns the response to a request.
    async fn answer(&self, request: &Request) -> Response {
        if !["GET", "HEAD"].contains(&&request.method[..]) {
            return Response::text("405 Method Not Allowed", "use GET\n");
        }
        match &request.path[..] {
            "/metrics" => self.scrape(Format::accepted(&request.accept)).await,
            "/healthz" => Response::of_check(self.probes.check_alive().await),
            "/readyz" => Response::of_check(self.probes.check_ready()),
            "/" => Response::text("200 OK", PATHS),
            _ => Response::text("404 Not Found", format!("there are {PATHS}")),
        }
    }

    /// Reads all values, after the scrapes that have begun before.
    async fn scrape(&self, format: Format) -> Response {
        let _alone = self.scrape.lock().await;
        let (metrics, is_ready) = (self.metrics.clone(), self.probes.check_ready().is_ok());
        match tokio::task::spawn_blocking(move || metrics.expose(format, is_ready)).await {
            Ok(body) => Response { status: "200 OK", content_type: format.content_type(), body },
            Err(error) => Response::text("500 Internal Server Error", format!("{error}\n")),
        }
    }
}

/// Answers the request of one connection and closes it. Sets `has_request` when that is complete, or will not be.
async fn serve_connection<P: Probes>(
    responder: Arc<Responder<P>>,
    mut socket: TcpStream,
    has_request: Arc<AtomicBool>,
) {
    let request = timeout(responder.read_timeout, read_request(&mut socket)).await;
    has_request.store(true, Relaxed);
    let (response, is_head) = match request {
        Ok(Ok(Some(request))) => (responder.answer(&request).await, request.method == "HEAD"),
        // It has closed the connection, as a port scan does.
        Ok(Ok(None)) => return,
        Ok(Err(error)) => (Response::text("400 Bad Request", format!("{error}\n")), false),
        Err(_) => (Response::text("408 Request Timeout", "no complete request in time\n"), false),
    };
    let bytes = response.into_bytes(is_head);
    let written = async {
        socket.write_all(&bytes).await?;
        socket.shutdown().await
    };
    if let Ok(Ok(())) = timeout(WRITE_TIMEOUT, written).await {
        let mut rest = (&mut socket).take(MAX_HEAD_BYTES as u64);
        _ = timeout(CLOSE_TIMEOUT, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    }
}

/// Reads the head of a request; `None` if the connection was closed before. A body is not read: no request that is
/// served has one.
async fn read_request(socket: &mut TcpStream) -> io::Result<Option<Request>> {
    let mut head = Vec::with_capacity(1024);
    loop {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(&head) {
            Ok(httparse::Status::Complete(_)) => {
                let path = parsed.path.unwrap_or_default();
                let accept = parsed.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("accept"));
                return Ok(Some(Request {
                    method: parsed.method.unwrap_or_default().to_owned(),
                    path: path.split('?').next().unwrap_or_default().to_owned(),
                    accept: accept
                        .map(|field| String::from_utf8_lossy(field.value))
                        .collect::<Vec<_>>()
                        .join(","),
                }));
            }
            Ok(httparse::Status::Partial) if head.len() < MAX_HEAD_BYTES => {}
            Ok(httparse::Status::Partial) => {
                return Err(io::Error::other(format!("the head is longer than {MAX_HEAD_BYTES} bytes")));
            }
            Err(error) => return Err(io::Error::other(format!("no HTTP/1.1 request: {error}"))),
        }
        let space = (MAX_HEAD_BYTES - head.len()) as u64;
        if (&mut *socket).take(space).read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
}
