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
    body::{ByteSize, DemoFile, Sha256Sum},
    http::{
        BodyFraming, BodyReader, HttpConnection, HttpReadError, MessageHead, RequestLine, TrafficCounters,
    },
    pace::PacedRate,
};

/// Past it new connections wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;

/// How long a connection may take to send a head, the wait between two requests included.
const HEAD_TIME: Duration = Duration::from_secs(60);

/// How much of an unwanted body is read after the refusal was sent, and for how long. Closing at once would send a
/// reset that overtakes the refusal.
const LINGER_BYTES: u64 = 4 << 20;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Bytes moved at a time.
const STEP: usize = 64 * 1024;

const HELP: &str = "underpass demo origin\n\n\
    GET /file/SIZE[?seed=N]  that many bytes, always the same ones: /file/512K /file/20M /file/1G\n\
    PUT /upload              reads the body, answers with its length and sha256\n";

/// How fast an [`DemoOrigin`] is. The default is as fast as it can.
#[derive(Debug, Clone, Copy, Default)]
pub struct DemoOriginOptions {
    /// Bytes a second for all connections together, downloads and uploads apart.
    pub rate: Option<NonZeroU64>,
    /// Bytes a second for each connection, downloads and uploads apart.
    pub connection_rate: Option<NonZeroU64>,
}

/// A small HTTP/1.1 server with files of any size, that takes uploads: what the demo's proxies have as their target.
///
/// [`bind`](Self::bind), then let a task of yours [`run`](Self::run) it.
#[derive(Debug)]
pub struct DemoOrigin {
    listener: TcpListener,
    addr: SocketAddr,
    shared: Arc<OriginState>,
}

#[derive(Debug)]
struct OriginState {
    options: DemoOriginOptions,
    line: DirectionRates,
    traffic: Arc<TrafficCounters>,
    open: watch::Sender<usize>,
}

impl OriginState {
    fn new(options: DemoOriginOptions) -> Self {
        Self {
            options,
            line: DirectionRates::new(options.rate),
            traffic: Arc::default(),
            open: watch::Sender::new(0),
        }
    }
}

/// A connection that is being served; dropping it says that it is not any more.
#[derive(Debug)]
struct ConnectionGuard(Arc<OriginState>);

impl ConnectionGuard {
    fn new(shared: Arc<OriginState>) -> Self {
        shared.open.send_modify(|open| *open += 1);
        Self(shared)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

/// One pace for each direction, as a line has.
#[derive(Debug)]
struct DirectionRates {
    down: Option<PacedRate>,
    up: Option<PacedRate>,
}

impl DirectionRates {
    fn new(rate: Option<NonZeroU64>) -> Self {
        Self { down: rate.map(PacedRate::new), up: rate.map(PacedRate::new) }
    }
}

impl DemoOrigin {
    /// Listens; port 0 is any free one.
    pub async fn bind(addr: SocketAddr, options: DemoOriginOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr, shared: Arc::new(OriginState::new(options)) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The bytes of all its connections so far.
    pub fn traffic(&self) -> Arc<TrafficCounters> {
        self.shared.traffic.clone()
    }

    /// How many connections are open, as it changes.
    pub fn open(&self) -> watch::Receiver<usize> {
        self.shared.open.subscribe()
    }

    /// Serves until `cancel`, then ends all its connections.
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
                    // Out of descriptors, or a client that was gone before we came: neither ends the origin, and
                    // trying again at once would spin.
                    tracing::warn!(%error, "origin cannot accept");
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
                    tracing::debug!(%error, "origin's connection failed");
                }
            });
        }
        connections.shutdown().await;
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (socket, _) = listener.accept().await?;
    socket.set_nodelay(true)?;
    Ok((socket, permit))
}

/// Whether another request may follow on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterResponse {
    Request,
    Close,
}

/// Serves one connection to its end.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    shared: &OriginState,
) -> Result<(), HttpReadError> {
    let mut wire = HttpConnection::new(socket, &shared.traffic);
    let own = DirectionRates::new(shared.options.connection_rate);
    loop {
        let head = match timeout(HEAD_TIME, wire.request()).await {
            Err(_) => break,
            Ok(Ok(None)) => break,
            Ok(Ok(Some(head))) => head,
            Ok(Err(HttpReadError::TooLarge)) => {
                return refuse(&mut wire, "431 Request Header Fields Too Large").await;
            }
            Ok(Err(HttpReadError::Malformed(_))) => return refuse(&mut wire, "400 Bad Request").await,
            Ok(Err(error)) => return Err(error),
        };
        let paces = ConnectionRates { own: &own, all: &shared.line };
        if answer(&mut wire, &head, &paces).await? == AfterResponse::Close {
            break;
        }
    }
    Ok(wire.finish().await?)
}

struct ConnectionRates<'a> {
    own: &'a DirectionRates,
    all: &'a DirectionRates,
}

impl ConnectionRates<'_> {
    fn step(&self) -> usize {
        let paces = [&self.own.down, &self.all.down];
        paces.into_iter().flatten().fold(STEP, |step, pace| pace.step(step))
    }

    async fn down(&self, bytes: usize) {
        for pace in [&self.own.down, &self.all.down].into_iter().flatten() {
            pace.acquire(bytes).await;
        }
    }

    async fn up(&self, bytes: usize) {
        for pace in [&self.own.up, &self.all.up].into_iter().flatten() {
            pace.acquire(bytes).await;
        }
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut HttpConnection<'_, S>,
    head: &MessageHead<RequestLine>,
    paces: &ConnectionRates<'_>,
) -> Result<AfterResponse, HttpReadError> {
    let RequestLine { method, target, persistent } = &head.line;
    let next = if head.closes(*persistent) { AfterResponse::Close } else { AfterResponse::Request };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let upload = path == "/upload" || path.starts_with("/upload/");
    let file = path.strip_prefix("/file/");
    let refusal = match method.as_str() {
        _ if !upload && file.is_none() && path != "/" => "404 Not Found",
        "GET" | "HEAD" if !upload => match head.framing() {
            Ok(BodyFraming::None | BodyFraming::Length(0)) => {
                let with_body = method == "GET";
                let Some(size) = file else {
                    respond(wire, "200 OK", "text/plain", HELP.len() as u64, next).await?;
                    if with_body {
                        wire.write(HELP.as_bytes()).await?;
                    }
                    return Ok(next);
                };
                match wanted(size, query) {
                    Some(file) => {
                        respond(wire, "200 OK", "application/octet-stream", file.size, next).await?;
                        if with_body {
                            send(wire, file, paces).await?;
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
                if head.says("expect", "100-continue") {
                    wire.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
                }
                return match receive(wire, BodyReader::new(framing), paces).await {
                    Ok(text) => {
                        respond(wire, "200 OK", "text/plain", text.len() as u64, next).await?;
                        wire.write(text.as_bytes()).await?;
                        Ok(next)
                    }
                    Err(HttpReadError::Malformed(_)) => {
                        refuse(wire, "400 Bad Request").await?;
                        Ok(AfterResponse::Close)
                    }
                    Err(error) => Err(error),
                };
            }
            Err(_) => "400 Bad Request",
        },
        _ => "405 Method Not Allowed",
    };
    refuse(wire, refusal).await?;
    Ok(AfterResponse::Close)
}

fn wanted(size: &str, query: &str) -> Option<DemoFile> {
    let ByteSize(size) = size.parse().ok()?;
    let seed = match query.split('&').find_map(|pair| pair.strip_prefix("seed=")) {
        Some(seed) => seed.parse().ok()?,
        None => 0,
    };
    Some(DemoFile { seed, size })
}

async fn respond<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut HttpConnection<'_, S>,
    status: &str,
    kind: &str,
    length: u64,
    next: AfterResponse,
) -> io::Result<()> {
    let connection = if next == AfterResponse::Close { "close" } else { "keep-alive" };
    // RFC 9110 wants it with each 405; elsewhere it does no harm.
    let allow = "Allow: GET, HEAD, PUT, POST\r\n";
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: {connection}\r\n{allow}\r\n"
    );
    wire.write(head.as_bytes()).await
}

/// Refuses, and reads a while on, so that the client gets to see the refusal.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut HttpConnection<'_, S>,
    status: &str,
) -> Result<(), HttpReadError> {
    respond(wire, status, "text/plain", status.len() as u64 + 1, AfterResponse::Close).await?;
    wire.write(status.as_bytes()).await?;
    wire.write(b"\n").await?;
    wire.finish().await?;
    let drain = async {
        let mut left = LINGER_BYTES;
        while left > 0 {
            let n = wire.take(left).await?.len() as u64;
            if n == 0 {
                break;
            }
            left -= n;
        }
        Ok::<(), io::Error>(())
    };
    match timeout(LINGER_TIME, drain).await {
        Ok(done) => Ok(done?),
        Err(_) => Ok(()),
    }
}

async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut HttpConnection<'_, S>,
    file: DemoFile,
    paces: &ConnectionRates<'_>,
) -> io::Result<()> {
    let step = paces.step();
    let mut offset = 0;
    while offset < file.size {
        let piece = file.bytes_from(offset);
        let piece = &piece[..piece.len().min(step)];
        paces.down(piece.len()).await;
        wire.write(piece).await?;
        offset += piece.len() as u64;
    }
    Ok(())
}

/// Reads a body and says what it was.
async fn receive<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut HttpConnection<'_, S>,
    mut body: BodyReader,
    paces: &ConnectionRates<'_>,
) -> Result<String, HttpReadError> {
    let mut hash = Sha256::new();
    let mut length = 0;
    while let Some(bytes) = body.next(wire).await? {
        hash.update(&bytes);
        length += bytes.len() as u64;
        paces.up(bytes.len()).await;
    }
    Ok(receipt(length, Sha256Sum(hash.finalize().into())))
}

/// What the origin answers to an upload.
pub(super) fn receipt(length: u64, sum: Sha256Sum) -> String {
    format!("length {length}\nsha256 {sum}\n")
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::Instant,
    };

    use super::*;

    /// Runs one conversation: everything is sent, then the client's direction is closed, as `nc -N` does.
    async fn talk(requests: &[u8]) -> String {
        let shared = OriginState::new(DemoOriginOptions::default());
        let (mut near, far) = duplex(1 << 20);
        let client = async {
            near.write_all(requests).await.unwrap();
            near.shutdown().await.unwrap();
            let mut answer = Vec::new();
            near.read_to_end(&mut answer).await.unwrap();
            String::from_utf8_lossy(&answer).into_owned()
        };
        let (served, answer) = tokio::join!(serve(far, &shared), client);
        drop(served);
        answer
    }

    #[tokio::test]
    async fn a_half_closed_client_gets_its_whole_answer() {
        let answer = talk(b"GET /file/70000?seed=5 HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("Content-Length: 70000\r\n"));
        let shared = OriginState::new(DemoOriginOptions::default());
        let (mut near, far) = duplex(1 << 10);
        near.write_all(b"GET /file/70000?seed=5 HTTP/1.0\r\n\r\n").await.unwrap();
        let mut bytes = Vec::new();
        let (served, read) = tokio::join!(serve(far, &shared), near.read_to_end(&mut bytes));
        served.unwrap();
        read.unwrap();
        assert_eq!(
            Sha256Sum::of(&bytes[bytes.len() - 70_000..]),
            DemoFile { seed: 5, size: 70_000 }.sha256()
        );
    }

    #[tokio::test]
    async fn one_connection_takes_many_requests() {
        let answer = talk(
            b"HEAD /file/20M HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n\
              PUT /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
              POST /upload/name HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        )
        .await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 4, "{answer}");
        assert!(answer.contains("Content-Length: 20971520\r\n") && answer.contains(HELP));
        assert!(answer.contains(&receipt(3, Sha256Sum::of(b"abc"))));
        assert!(answer.ends_with(&receipt(0, Sha256Sum::of(b""))));
    }

    #[tokio::test]
    async fn a_body_comes_after_the_go_ahead_only() {
        let shared = OriginState::new(DemoOriginOptions::default());
        let (mut near, far) = duplex(1 << 10);
        let client = async {
            let head = b"PUT /upload HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
            near.write_all(head).await.unwrap();
            let mut go = [0; 25];
            near.read_exact(&mut go).await.unwrap();
            assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
            near.write_all(b"abc").await.unwrap();
            near.shutdown().await.unwrap();
            let mut answer = String::new();
            near.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with(&receipt(3, Sha256Sum::of(b"abc"))), "{answer}");
        };
        let (served, ()) = tokio::join!(serve(far, &shared), client);
        served.unwrap();
    }

    #[tokio::test]
    async fn what_is_not_there_or_makes_no_sense_is_refused() {
        for (request, status) in [
            ("GET /nothing HTTP/1.1\r\n\r\n", "404"),
            ("BREW /coffee HTTP/1.1\r\n\r\n", "404"),
            ("GET /file/ HTTP/1.1\r\n\r\n", "400"),
            ("GET /file/20Q HTTP/1.1\r\n\r\n", "400"),
            ("GET /file/1?seed=x HTTP/1.1\r\n\r\n", "400"),
            ("GET /file/1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "400"),
            ("DELETE /file/1 HTTP/1.1\r\n\r\n", "405"),
            ("GET /upload HTTP/1.1\r\n\r\n", "405"),
            ("PUT /file/1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405"),
            ("PUT /upload HTTP/1.1\r\n\r\n", "411"),
            ("PUT /upload HTTP/1.1\r\nContent-Length: x\r\n\r\n", "400"),
            ("PUT /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400"),
            ("\x16\x03\x01 TLS\r\n\r\n", "400"),
        ] {
            let answer = talk(request.as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
            assert!(answer.contains("Connection: close\r\n"), "{request:?}: {answer}");
        }
        let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(20_000));
        assert!(talk(long.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    }

    #[tokio::test]
    async fn an_upload_cut_short_gets_no_answer() {
        assert_eq!(talk(b"PUT /upload HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc").await, "");
    }

    async fn timed(mut near: DuplexStream, request: String) -> f64 {
        let start = Instant::now();
        let (mut read, mut write) = tokio::io::split(&mut near);
        let send = async {
            write.write_all(request.as_bytes()).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut sink = tokio::io::sink();
        let (_, received) = tokio::join!(send, tokio::io::copy(&mut read, &mut sink));
        received.unwrap();
        start.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn rates_hold_for_each_connection_and_for_all() {
        let options = DemoOriginOptions {
            rate: NonZeroU64::new(3_000_000),
            connection_rate: NonZeroU64::new(2_000_000),
        };
        let get = || "GET /file/6000000 HTTP/1.1\r\n\r\n".to_owned();

        let alone = OriginState::new(options);
        let (near, far) = duplex(1 << 16);
        let (served, took) = tokio::join!(serve(far, &alone), timed(near, get()));
        served.unwrap();
        assert!((2.9..3.2).contains(&took), "one connection: {took}");

        let both = OriginState::new(options);
        let (near_a, far_a) = duplex(1 << 16);
        let (near_b, far_b) = duplex(1 << 16);
        let (a, b, took_a, took_b) = tokio::join!(
            serve(far_a, &both),
            serve(far_b, &both),
            timed(near_a, get()),
            timed(near_b, get())
        );
        a.unwrap();
        b.unwrap();
        let took = took_a.max(took_b);
        assert!((3.9..4.2).contains(&took), "two connections: {took_a} {took_b}");

        let upload = OriginState::new(options);
        let (near, far) = duplex(1 << 10);
        let put = format!("PUT /upload HTTP/1.1\r\nContent-Length: 4000000\r\n\r\n{}", "x".repeat(4_000_000));
        let (served, took) = tokio::join!(serve(far, &upload), timed(near, put));
        served.unwrap();
        assert!((1.9..2.2).contains(&took), "upload: {took}");
    }
}
