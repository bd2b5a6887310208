//! What streams carry, seen through a whole tunnel; and that looking changes nothing.

#![allow(clippy::unwrap_used)]

mod support;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use support::{
    client, soon,
    target::{self, LOOPBACK},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use underpass::{
    cli::demo::{Checksum, File, Verifier},
    config::{ProxyConfig, ProxyFormat, ServerConfig},
    proxy::Proxy,
    server::{Server, Shutdown},
    telemetry::{Carries, EventKind, Progress, StreamSnapshot, Telemetry},
    wire::handshake::Token,
};

const FORMATS: [ProxyFormat; 2] = [ProxyFormat::Binary, ProxyFormat::Text];

/// A server and one proxy. Dropping it ends them.
struct Tunnel {
    public: SocketAddr,
    telemetry: Arc<Telemetry>,
    _tasks: JoinSet<()>,
}

impl Tunnel {
    async fn to(target: SocketAddr, format: ProxyFormat, sniff: bool) -> Self {
        let config = ServerConfig { listen: LOOPBACK, bind: LOOPBACK.ip(), sniff, ..ServerConfig::default() };
        let (token, telemetry) = (Token::random(), Telemetry::new());
        let (server, control) = Server::bind(config, token.clone(), telemetry.clone()).unwrap();
        let config = ProxyConfig::new(server.addr().to_string(), "0".parse().unwrap(), target.to_string());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            server.run(Shutdown::default()).await;
            drop(control);
        });
        let proxy = Proxy::new(ProxyConfig { format, ..config }, token);
        let mut serving = proxy.serving();
        tasks.spawn(async move { proxy.run().await.unwrap() });
        let service = soon("a public port", serving.wait_for(Option::is_some)).await.unwrap().clone();
        Self { public: (LOOPBACK.ip(), service.unwrap().port).into(), telemetry, _tasks: tasks }
    }

    /// The only stream, once it is as wanted.
    async fn stream(&self, what: &str, wanted: impl Fn(&StreamSnapshot) -> bool) -> StreamSnapshot {
        soon(what, async {
            loop {
                let streams = self.telemetry.snapshot().streams;
                if let Some(stream) = streams.into_iter().find(&wanted) {
                    return stream;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

fn carries(stream: &StreamSnapshot) -> Option<&Carries> {
    stream.carries.as_deref()
}

/// Reads the head of an answer; how long it is.
async fn read_head(user: &mut TcpStream) -> u64 {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("the head of an answer", user.read_u8()).await.unwrap());
    }
    head.len() as u64
}

async fn read_body(user: &mut TcpStream, verifier: &mut Verifier, mut bytes: usize) {
    let mut buffer = vec![0; 64 * 1024];
    while bytes > 0 {
        let limit = buffer.len().min(bytes);
        let n = soon("a body", user.read(&mut buffer[..limit])).await.unwrap();
        assert!(n > 0, "cut off");
        verifier.push(&buffer[..n]).unwrap();
        bytes -= n;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_stays_open_shows_its_current_request_and_progress() {
    for format in FORMATS {
        let origin = target::origin(None).await;
        let tunnel = Tunnel::to(origin.addr, format, true).await;
        let mut user = TcpStream::connect(tunnel.public).await.unwrap();
        let stream = tunnel.stream("a stream", |_| true).await;
        assert_eq!((carries(&stream), stream.progress), (None, None), "nothing was said yet");

        // More than all buffers on the way hold together, so that it stays unfinished until it is read.
        let first = File { seed: 1, size: 64 * 1024 * 1024 };
        let mut verifier = Verifier::new(first);
        user.write_all(format!("GET {} HTTP/1.1\r\nHost: demo\r\n\r\n", first.path()).as_bytes())
            .await
            .unwrap();
        let head = read_head(&mut user).await;
        read_body(&mut user, &mut verifier, 1024 * 1024).await;
        let begun = Progress { begun: head, size: first.size };
        let stream = tunnel.stream("progress", |stream| stream.down >= head + 1024 * 1024).await;
        assert_eq!(stream.progress, Some(begun));
        assert!(matches!(carries(&stream), Some(Carries::Http { status: Some(200), .. })), "{stream:?}");
        assert_eq!(carries(&stream).unwrap().to_string(), "GET /file/67108864");
        let share = begun.share(stream.down);
        assert!(share > 0.015 && share < 1.0, "{share}");

        read_body(&mut user, &mut verifier, 63 * 1024 * 1024).await;
        assert_eq!(verifier.left(), 0);
        let whole = head + first.size;
        let stream = tunnel.stream("all of it", |stream| stream.down == whole).await;
        assert_eq!(stream.progress.unwrap().share(stream.down), 1.0);

        // The next request waits for its answer, which is as much of a wait as there is body to send.
        let body = b"some bytes";
        let put = format!("PUT /upload HTTP/1.1\r\nHost: demo\r\nContent-Length: {}\r\n\r\n", body.len());
        user.write_all(put.as_bytes()).await.unwrap();
        let asked = |stream: &StreamSnapshot| carries(stream).unwrap().to_string() == "PUT /upload";
        let stream = tunnel.stream("the next request", asked).await;
        assert!(matches!(carries(&stream), Some(Carries::Http { status: None, .. })), "{stream:?}");
        assert_eq!(stream.progress, None);
        user.write_all(body).await.unwrap();
        let head = read_head(&mut user).await;
        let stream = tunnel.stream("its answer", |stream| stream.progress.is_some()).await;
        assert_eq!(stream.progress.unwrap().begun, whole + head);
        let mut events = tunnel.telemetry.subscribe();
        drop(user);
        let carried = soon("the end", async {
            loop {
                if let EventKind::StreamEnded { carries, .. } = events.recv().await.unwrap().kind {
                    return carries;
                }
            }
        });
        // A stream that was too short for any sample tells it too.
        assert_eq!(carried.await.unwrap().to_string(), "PUT /upload");
    }
}

/// Bytes that a sniffer takes for all kinds of things.
fn talk() -> Vec<u8> {
    let mut talk = b"GET /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcdeHTTP/1.1 200 OK\r\n".to_vec();
    talk.extend_from_slice(
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n\x16\x03\x01\0\xff\x01SSH-2.0-x\r\n",
    );
    talk.extend((0..200_000_u32).map(|n| ((n * 31) >> 7) as u8));
    talk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_changes_no_byte() {
    let talk = talk();
    for sniff in [true, false] {
        let echo = target::echo().await;
        let tunnel = Tunnel::to(echo.addr, ProxyFormat::Binary, sniff).await;
        // From each place on, so that the first bytes are different ones, and in pieces of different sizes.
        for from in [0, 4, 38, 43, 103, 122, 128] {
            let user = TcpStream::connect(tunnel.public).await.unwrap();
            let (mut read, mut write) = user.into_split();
            let (sent, mut got) = (&talk[from..], Vec::new());
            let send = async {
                for piece in sent.chunks(from * 97 + 5_001) {
                    write.write_all(piece).await.unwrap();
                }
                tunnel.stream("it carries", |stream| sniff == stream.carries.is_some()).await;
                write.shutdown().await.unwrap();
            };
            let both = async { tokio::join!(send, read.read_to_end(&mut got)) };
            soon("the echo", both).await.1.unwrap();
            assert_eq!(Checksum::of(&got), Checksum::of(sent), "from {from}, sniff {sniff}");
            assert!(got == sent);
        }

        let origin = target::origin(None).await;
        let tunnel = Tunnel::to(origin.addr, ProxyFormat::Binary, sniff).await;
        let file = File { seed: 3, size: 5_000_000 };
        assert_eq!(client::fetch(tunnel.public, &file.path()).await.unwrap(), file.into());
    }
}
