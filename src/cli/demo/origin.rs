//! The HTTP origin of the demo: the server that the demo's proxies have as their target.

use std::{io, net::SocketAddr, num::NonZeroU64, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    file::{DemoFile, Sha256Sum},
    http::{
        BodyFraming, BodyReader, HttpConnection, HttpReadError, MessageHead, RequestLine, TrafficCounters,
    },
    rate_limiter::DemoRateLimiter,
};
use crate::ids::ByteSize;

/// Maximum number of open connections. Further ones wait in the accept queue of the kernel.
const MAX_CONNECTIONS: usize = 4096;

/// Maximum time until the head of a request is complete, including the idle time since the previous request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum number of bytes of a request that are read and discarded after an error response. If the origin closed the
/// connection with unread bytes, the kernel would send an RST, which could overtake the response.
const LINGER_BYTES: u64 = 4 << 20;
/// Maximum time for which they are read.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum number of bytes in one write.
const MAX_WRITE_BYTES: usize = 64 * 1024;

/// Body of the response to `GET /`.
const HELP: &str = "underpass demo origin\n\n\
    GET /file/SIZE[?seed=N]  a file of that size, always with the same bytes: /file/512K /file/20M /file/1G\n\
    PUT /upload              reads the body and answers with its length and SHA-256\n";

/// Rate limits of a [`DemoOrigin`]. There are none by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct DemoOriginOptions {
    /// Bytes per second of all connections together, separately for downloads and uploads.
    pub rate: Option<NonZeroU64>,
    /// Bytes per second of each connection, separately for downloads and uploads.
    pub connection_rate: Option<NonZeroU64>,
}

/// A small HTTP/1.1 server that serves [`DemoFile`]s of any size and accepts uploads. It listens after
/// [`bind`](Self::bind) and serves while a task of the caller runs [`run`](Self::run).
#[derive(Debug)]
pub struct DemoOrigin {
    /// The listening socket, which accepts the connections.
    listener: TcpListener,
    /// The local address of the listener.
    addr: SocketAddr,
    /// What all connections share.
    shared: Arc<OriginState>,
}

/// What all connections of an origin share.
#[derive(Debug)]
struct OriginState {
    /// The rate limits from the options of the origin.
    options: DemoOriginOptions,
    /// Limits of all connections together.
    limiters: DirectionLimiters,
    /// Bytes of all connections.
    traffic: Arc<TrafficCounters>,
    /// Number of open connections.
    open_connections: watch::Sender<usize>,
}

impl OriginState {
    /// Creates the state of an origin without connections.
    fn new(options: DemoOriginOptions) -> Self {
        Self {
            options,
            limiters: DirectionLimiters::new(options.rate),
            traffic: Arc::default(),
            open_connections: watch::Sender::new(0),
        }
    }
}

/// Guard that counts an open connection until it is dropped.
#[derive(Debug)]
struct ConnectionGuard(Arc<OriginState>);

impl ConnectionGuard {
    fn new(shared: Arc<OriginState>) -> Self {
        shared.open_connections.send_modify(|open| *open += 1);
        Self(shared)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.open_connections.send_modify(|open| *open -= 1);
    }
}

/// One rate limiter for each direction; `None` is unlimited.
#[derive(Debug)]
struct DirectionLimiters {
    /// Limiter of downloads; `None` is unlimited.
    down: Option<DemoRateLimiter>,
    /// Limiter of uploads; `None` is unlimited.
    up: Option<DemoRateLimiter>,
}

impl DirectionLimiters {
    fn new(rate: Option<NonZeroU64>) -> Self {
        Self { down: rate.map(DemoRateLimiter::new), up: rate.map(DemoRateLimiter::new) }
    }
}

impl DemoOrigin {
    /// Binds a listener to `addr`; port 0 selects any free port.
    pub async fn bind(addr: SocketAddr, options: DemoOriginOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr, shared: Arc::new(OriginState::new(options)) })
    }

    /// Returns the address that the origin listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the byte counters of all connections.
    pub fn traffic(&self) -> Arc<TrafficCounters> {
        self.shared.traffic.clone()
    }

    /// Returns a receiver of the number of open connections.
    pub fn open_connections(&self) -> watch::Receiver<usize> {
        self.shared.open_connections.subscribe()
    }

    /// Serves connections until `cancel`, then aborts those that are open.
    pub async fn run(self, cancel: CancellationToken) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = cancel.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = accept(&self.listener, &permits) => accepted,
            };
            let (socket, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // The process has no free file descriptor, or the client reset the connection in the accept queue.
                    // Neither ends the origin, and an immediate retry would spin.
                    tracing::warn!(%error, "the demo's origin cannot accept a connection");
                    tokio::select! {
                        () = cancel.cancelled() => break,
                        () = tokio::time::sleep(Duration::from_millis(50)) => continue,
                    }
                }
            };
            let open = ConnectionGuard::new(self.shared.clone());
            connections.spawn(async move {
                let _permit = permit;
                if let Err(error) = serve(socket, &open.0).await {
                    tracing::debug!(%error, "a connection of the demo's origin failed");
                }
            });
        }
        connections.shutdown().await;
    }
}

/// Accepts a connection once one of the [`MAX_CONNECTIONS`] permits is free.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (socket, _) = listener.accept().await?;
    socket.set_nodelay(true)?;
    Ok((socket, permit))
}

/// Whether the origin reads another request from a connection after its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterResponse {
    KeepAlive,
    Close,
}

/// Serves the requests of one connection until it ends.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    shared: &OriginState,
) -> Result<(), HttpReadError> {
    let mut connection = HttpConnection::new(socket, &shared.traffic);
    let connection_limiters = DirectionLimiters::new(shared.options.connection_rate);
    loop {
        let head = match timeout(HEAD_TIMEOUT, connection.read_request()).await {
            Err(_) => break,
            Ok(Ok(None)) => break,
            Ok(Ok(Some(head))) => head,
            Ok(Err(HttpReadError::TooLarge)) => {
                return respond_with_error(&mut connection, "431 Request Header Fields Too Large").await;
            }
            Ok(Err(HttpReadError::Malformed(_))) => {
                return respond_with_error(&mut connection, "400 Bad Request").await;
            }
            Ok(Err(error)) => return Err(error),
        };
        let limiters = ConnectionLimiters { connection: &connection_limiters, origin: &shared.limiters };
        if respond_to(&mut connection, &head, &limiters).await? == AfterResponse::Close {
            break;
        }
    }
    Ok(connection.shutdown().await?)
}

/// The limiters that a connection obeys: its own, and those that it shares with all connections.
struct ConnectionLimiters<'a> {
    /// The limiters of this connection alone.
    connection: &'a DirectionLimiters,
    /// The limiters that all connections of the origin share.
    origin: &'a DirectionLimiters,
}

impl ConnectionLimiters<'_> {
    /// Returns how many bytes of a download to write at a time.
    fn download_step(&self) -> usize {
        let limiters = [&self.connection.down, &self.origin.down];
        limiters.into_iter().flatten().fold(MAX_WRITE_BYTES, |step, limiter| limiter.step(step))
    }

    /// Waits until `bytes` bytes of a download may be written.
    async fn acquire_download(&self, bytes: usize) {
        for limiter in [&self.connection.down, &self.origin.down].into_iter().flatten() {
            limiter.acquire(bytes).await;
        }
    }

    /// Waits until the time that `bytes` received bytes of an upload take at the limited rate has passed.
    async fn acquire_upload(&self, bytes: usize) {
        for limiter in [&self.connection.up, &self.origin.up].into_iter().flatten() {
            limiter.acquire(bytes).await;
        }
    }
}

/// Answers one request.
async fn respond_to<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut HttpConnection<'_, S>,
    head: &MessageHead<RequestLine>,
    limiters: &ConnectionLimiters<'_>,
) -> Result<AfterResponse, HttpReadError> {
    let RequestLine { method, target, is_http_1_1 } = &head.line;
    let next =
        if head.closes_connection(*is_http_1_1) { AfterResponse::Close } else { AfterResponse::KeepAlive };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let upload = path == "/upload" || path.starts_with("/upload/");
    let file = path.strip_prefix("/file/");
    let error_status = match method.as_str() {
        _ if !upload && file.is_none() && path != "/" => "404 Not Found",
        "GET" | "HEAD" if !upload => match head.framing() {
            Ok(BodyFraming::None | BodyFraming::Length(0)) => {
                let with_body = method == "GET";
                let Some(size) = file else {
                    write_head(connection, "200 OK", "text/plain", HELP.len() as u64, next).await?;
                    if with_body {
                        connection.write(HELP.as_bytes()).await?;
                    }
                    return Ok(next);
                };
                match requested_file(size, query) {
                    Some(file) => {
                        write_head(connection, "200 OK", "application/octet-stream", file.size, next).await?;
                        if with_body {
                            send_file(connection, file, limiters).await?;
                        }
                        return Ok(next);
                    }
                    None => "400 Bad Request",
                }
            }
            _ => "400 Bad Request",
        },
        "PUT" | "POST" if upload => match head.framing() {
            Ok(BodyFraming::None) => "411 Length Required",
            Ok(framing) => {
                if head.has_token("expect", "100-continue") {
                    connection.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
                }
                return match receive_upload(connection, BodyReader::new(framing), limiters).await {
                    Ok(text) => {
                        write_head(connection, "200 OK", "text/plain", text.len() as u64, next).await?;
                        connection.write(text.as_bytes()).await?;
                        Ok(next)
                    }
                    Err(HttpReadError::Malformed(_)) => {
                        respond_with_error(connection, "400 Bad Request").await?;
                        Ok(AfterResponse::Close)
                    }
                    Err(error) => Err(error),
                };
            }
            Err(_) => "400 Bad Request",
        },
        _ => "405 Method Not Allowed",
    };
    respond_with_error(connection, error_status).await?;
    Ok(AfterResponse::Close)
}

/// Parses the size and the `seed` parameter of a requested file.
fn requested_file(size: &str, query: &str) -> Option<DemoFile> {
    let ByteSize(size) = size.parse().ok()?;
    let seed = match query.split('&').find_map(|pair| pair.strip_prefix("seed=")) {
        Some(seed) => seed.parse().ok()?,
        None => 0,
    };
    Some(DemoFile { seed, size })
}

/// Writes the head of a response.
async fn write_head<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut HttpConnection<'_, S>,
    status: &str,
    content_type: &str,
    length: u64,
    after: AfterResponse,
) -> io::Result<()> {
    let connection_option = if after == AfterResponse::Close { "close" } else { "keep-alive" };
    // RFC 9110 requires this field with status 405; with others it is harmless.
    let allow = "Allow: GET, HEAD, PUT, POST\r\n";
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: {connection_option}\r\n{allow}\r\n"
    );
    connection.write(head.as_bytes()).await
}

/// Writes an error response and closes the write direction. Then it reads and discards what the client still sends, so
/// that no RST overtakes the response.
async fn respond_with_error<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut HttpConnection<'_, S>,
    status: &str,
) -> Result<(), HttpReadError> {
    write_head(connection, status, "text/plain", status.len() as u64 + 1, AfterResponse::Close).await?;
    connection.write(status.as_bytes()).await?;
    connection.write(b"\n").await?;
    connection.shutdown().await?;
    let drain = async {
        let mut remaining = LINGER_BYTES;
        while remaining > 0 {
            let n = connection.read_up_to(remaining).await?.len() as u64;
            if n == 0 {
                break;
            }
            remaining -= n;
        }
        Ok::<(), io::Error>(())
    };
    match timeout(LINGER_TIMEOUT, drain).await {
        Ok(done) => Ok(done?),
        Err(_) => Ok(()),
    }
}

/// Writes the bytes of a file at the limited rate.
async fn send_file<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut HttpConnection<'_, S>,
    file: DemoFile,
    limiters: &ConnectionLimiters<'_>,
) -> io::Result<()> {
    let step = limiters.download_step();
    let mut offset = 0;
    while offset < file.size {
        let bytes = file.bytes_from(offset);
        let bytes = &bytes[..bytes.len().min(step)];
        limiters.acquire_download(bytes.len()).await;
        connection.write(bytes).await?;
        offset += bytes.len() as u64;
    }
    Ok(())
}

/// Reads the body of an upload at the limited rate and returns its receipt.
async fn receive_upload<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut HttpConnection<'_, S>,
    mut body: BodyReader,
    limiters: &ConnectionLimiters<'_>,
) -> Result<String, HttpReadError> {
    let mut hash = Sha256::new();
    let mut length = 0;
    while let Some(bytes) = body.next(connection).await? {
        hash.update(&bytes);
        length += bytes.len() as u64;
        limiters.acquire_upload(bytes.len()).await;
    }
    Ok(receipt(length, Sha256Sum(hash.finalize().into())))
}

/// Body of the response to an upload: its length in bytes and its SHA-256.
pub(super) fn receipt(length: u64, sum: Sha256Sum) -> String {
    format!("length {length}\nsha256 {sum}\n")
}

#[cfg(test)]
mod tests;
