//! The ends of streams are those of a direct connection: what was received before a reset is delivered before the
//! reset, and a reset is never shown as a clean end.
//!
//! Each ending is a script of the user and one of the target. Both run over a direct connection and through the tunnel,
//! in both formats and in many repetitions, and have to see the same bytes and the same end. `UNDERPASS_ENDINGS=200`
//! repeats each as often as the documentation promises.

use std::{
    fmt::Write as _,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use underpass::{
    config::ProxyFormat,
    control::Command,
    telemetry::{EndReason, EventKind},
};

use crate::support::{
    client::{curl, is_installed},
    process::Process,
    promised_second, soon,
    target::{LOOPBACK, serve_with},
    text::{FieldCount, TextChannel},
    tunnel::{FORMATS, Tunnel},
};

/// One step of a user or a target.
#[derive(Debug, Clone, Copy)]
enum Do {
    /// Sends so many bytes, or fewer if the connection fails: how many of them leave is a matter of timing.
    Send(usize),
    /// Waits until something can be read, and reads nothing.
    AwaitReadable,
    /// Reads exactly so many bytes.
    Read(usize),
    /// Reads until the end or an error.
    ReadToEnd,
    /// Sends single bytes until the connection fails.
    SendUntilRefused,
    /// Ends the sending direction (FIN).
    ShutDown,
    /// Waits.
    Sleep(Duration),
    /// Closes with an RST, whatever was read.
    Reset,
    /// Closes, which the kernel does with an RST if something is unread and with a FIN otherwise.
    Close,
}

/// The byte at `offset` of what either side sends.
fn byte(offset: usize) -> u8 {
    ((offset * 0x9E37) >> 7) as u8
}

/// Returns what a socket has received, as text: how many bytes, and whether they are those that were sent.
fn described(bytes: &[u8]) -> String {
    let is_intact = bytes.iter().enumerate().all(|(offset, &got)| got == byte(offset));
    format!("{} bytes{}", bytes.len(), if is_intact { "" } else { " (corrupted)" })
}

/// Runs a script, and returns what the socket saw.
async fn run(mut socket: TcpStream, script: &[Do]) -> String {
    _ = socket.set_nodelay(true);
    let mut seen = String::new();
    for step in script {
        match step {
            Do::Send(len) => {
                let bytes: Vec<u8> = (0..*len).map(byte).collect();
                _ = socket.write_all(&bytes).await;
            }
            Do::AwaitReadable => {
                _ = socket.peek(&mut [0]).await;
            }
            Do::Read(len) => {
                let mut bytes = vec![0; *len];
                let read = socket.read_exact(&mut bytes).await.map_err(|error| error.kind());
                write!(seen, "{}, {read:?}; ", described(&bytes)).unwrap();
            }
            Do::ReadToEnd => {
                let mut bytes = Vec::new();
                let end = match socket.read_to_end(&mut bytes).await {
                    Ok(_) => "end".to_owned(),
                    Err(error) => format!("{:?}", error.kind()),
                };
                write!(seen, "{}, then {end}; ", described(&bytes)).unwrap();
            }
            Do::SendUntilRefused => {
                let error = loop {
                    if let Err(error) = socket.write_all(b"x").await {
                        break error;
                    }
                    sleep(Duration::from_millis(1)).await;
                };
                write!(seen, "refused: {:?}; ", error.kind()).unwrap();
            }
            Do::ShutDown => _ = socket.shutdown().await,
            Do::Sleep(time) => sleep(*time).await,
            Do::Reset => {
                _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
                break;
            }
            Do::Close => break,
        }
    }
    seen
}

/// A way in which a connection ends.
#[derive(Debug, Clone, Copy)]
struct Ending {
    /// What ends it.
    name: &'static str,
    user: &'static [Do],
    target: &'static [Do],
}

/// What fits into the receive buffer of a kernel whose application does not read.
const FITS: usize = 40_000;

/// Long enough for the RST to arrive before the bytes are read.
const LATER: Duration = Duration::from_millis(60);

const ENDINGS: [Ending; 20] = [
    Ending {
        name: "a target answers a request of 20 KB that it has not read, and closes as Python's http.server does",
        user: &[Do::Send(20_000), Do::ReadToEnd, Do::SendUntilRefused],
        target: &[Do::AwaitReadable, Do::Send(500), Do::ShutDown, Do::Close],
    },
    Ending {
        name: "a target answers a request of 2 MB that it has not read, and closes so",
        user: &[Do::Send(2_000_000), Do::ReadToEnd],
        target: &[Do::AwaitReadable, Do::Send(500), Do::ShutDown, Do::Close],
    },
    Ending {
        name: "a target answers an unread request, and closes without a FIN",
        user: &[Do::Send(20_000), Do::ReadToEnd],
        target: &[Do::AwaitReadable, Do::Send(500), Do::Close],
    },
    Ending {
        name: "a target answers an unread request late, and closes",
        user: &[Do::Send(20_000), Do::ReadToEnd],
        target: &[Do::AwaitReadable, Do::Sleep(LATER), Do::Send(FITS), Do::Close],
    },
    Ending {
        name: "a target sends a banner and resets",
        user: &[Do::ReadToEnd],
        target: &[Do::Send(100), Do::Reset],
    },
    Ending {
        name: "a target sends a banner and resets, before the user reads",
        user: &[Do::Sleep(LATER), Do::ReadToEnd],
        target: &[Do::Send(FITS), Do::Reset],
    },
    Ending {
        name: "a target sends much and resets, while the user sends",
        user: &[Do::Send(5000), Do::ReadToEnd],
        target: &[Do::Read(1000), Do::Send(FITS), Do::Reset],
    },
    Ending {
        name: "a target resets without a byte",
        user: &[Do::Send(10), Do::ReadToEnd],
        target: &[Do::Read(10), Do::Reset],
    },
    Ending {
        name: "a target half-closes, and resets when it has received the user's answer",
        user: &[Do::ReadToEnd, Do::Send(5), Do::SendUntilRefused],
        target: &[Do::Send(300), Do::ShutDown, Do::Read(5), Do::Reset],
    },
    Ending {
        name: "a target half-closes, and resets at once",
        user: &[Do::ReadToEnd, Do::SendUntilRefused],
        target: &[Do::Send(300), Do::ShutDown, Do::Reset],
    },
    Ending {
        name: "a user half-closes, and the target answers and resets",
        user: &[Do::Send(1000), Do::ShutDown, Do::ReadToEnd],
        target: &[Do::ReadToEnd, Do::Send(500), Do::Reset],
    },
    Ending {
        name: "a user half-closes, and the target answers, half-closes and closes",
        user: &[Do::Send(1000), Do::ShutDown, Do::ReadToEnd],
        target: &[Do::ReadToEnd, Do::Send(500), Do::ShutDown, Do::Close],
    },
    Ending { name: "a user sends and resets", user: &[Do::Send(1000), Do::Reset], target: &[Do::ReadToEnd] },
    Ending {
        name: "a user sends much and resets, before the target reads",
        user: &[Do::Send(FITS), Do::Reset],
        target: &[Do::Sleep(LATER), Do::ReadToEnd],
    },
    Ending {
        name: "a user sends and closes without reading the banner",
        user: &[Do::AwaitReadable, Do::Send(1000), Do::Close],
        target: &[Do::Send(100), Do::ReadToEnd],
    },
    Ending {
        name: "a user sends, half-closes, and closes without reading the banner",
        user: &[Do::AwaitReadable, Do::Send(1000), Do::ShutDown, Do::Close],
        target: &[Do::Send(100), Do::ReadToEnd, Do::SendUntilRefused],
    },
    Ending {
        name: "a user half-closes, and resets when it has received the answer",
        user: &[Do::Send(1000), Do::ShutDown, Do::Read(300), Do::Reset],
        target: &[Do::ReadToEnd, Do::Send(300), Do::SendUntilRefused],
    },
    Ending {
        name: "a user closes while the target is sending",
        user: &[Do::Send(1000), Do::Read(10), Do::Close],
        target: &[Do::Read(1000), Do::Send(20_000), Do::ReadToEnd],
    },
    Ending {
        name: "a target half-closes, and the user sends and resets",
        user: &[Do::ReadToEnd, Do::Send(1000), Do::Reset],
        target: &[Do::Send(300), Do::ShutDown, Do::ReadToEnd],
    },
    Ending {
        name: "both sides finish",
        user: &[Do::Send(1000), Do::ShutDown, Do::ReadToEnd, Do::Close],
        target: &[Do::ReadToEnd, Do::Send(FITS), Do::ShutDown, Do::Close],
    },
];

/// Returns how often each ending is repeated in each format.
fn repetitions() -> usize {
    std::env::var("UNDERPASS_ENDINGS").ok().and_then(|count| count.parse().ok()).unwrap_or(20)
}

/// Runs an ending once: a user that connects to `addr`, and the target that accepts it. Returns what both saw.
async fn end(ending: &Ending, listener: &TcpListener, addr: SocketAddr) -> String {
    // connect(2) without tokio, which reports an RST that follows the establishment as the failure of connect.
    let user = std::net::TcpStream::connect(addr).unwrap();
    user.set_nonblocking(true).unwrap();
    let user = async { run(TcpStream::from_std(user).unwrap(), ending.user).await };
    let target = async { run(listener.accept().await.unwrap().0, ending.target).await };
    let (user, target) = soon(ending.name, async { tokio::join!(user, target) }).await;
    format!("user: {user}target: {target}")
}

/// Runs each ending directly and through the tunnel in each format. The endings run beside each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_ending_is_that_of_a_direct_connection() {
    let mut tunnel = Tunnel::start().await;
    let mut endings = JoinSet::new();
    for ending in ENDINGS {
        let listener = Arc::new(TcpListener::bind(LOOPBACK).await.unwrap());
        let direct = listener.local_addr().unwrap();
        let mut ways = vec![("direct".to_owned(), direct)];
        for format in FORMATS {
            ways.push((format!("{format:?}"), tunnel.proxy(direct, format).await));
        }
        endings.spawn(async move {
            let expected = end(&ending, &listener, direct).await;
            let mut differing = Vec::new();
            for (way, addr) in ways {
                let mut count = 0;
                let mut last = String::new();
                for _ in 0..repetitions() {
                    let seen = end(&ending, &listener, addr).await;
                    if seen != expected {
                        (count, last) = (count + 1, seen);
                    }
                }
                if count > 0 {
                    differing.push(format!(
                        "{}: {way}: {count} of {} differ\n  expected {expected}\n  seen     {last}",
                        ending.name,
                        repetitions()
                    ));
                }
            }
            differing
        });
    }
    let differing: Vec<String> = endings.join_all().await.into_iter().flatten().collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    tunnel.end().await;
}

/// Regression test: of 40 such answers 9 arrived whole, while a direct connection, rathole and bore delivered all. The
/// server answers without reading the body, so that its kernel resets the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_error_page_of_a_server_that_does_not_read_the_request_arrives() {
    if !is_installed("python3", "the error page of its HTTP server is not tested") {
        return;
    }
    let listener = "import http.server as h; s = h.ThreadingHTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler); \
                    print('port', s.server_address[1], flush=True); s.serve_forever()";
    let mut command = tokio::process::Command::new("python3");
    command.args(["-c", listener]);
    let mut server = Process::spawn(command);
    let port = server.line("port ").await.strip_prefix("port ").unwrap().parse().unwrap();
    let mut tunnel = Tunnel::start().await;
    let body = std::env::temp_dir().join(format!("underpass-endings-{}", std::process::id()));
    for format in FORMATS {
        let public = tunnel.proxy(SocketAddr::new(LOOPBACK.ip(), port), format).await;
        for size in [20_000, 2_000_000] {
            std::fs::write(&body, vec![b'x'; size]).unwrap();
            let (data, url) = (format!("@{}", body.display()), format!("http://{public}/"));
            for _ in 0..5 {
                let args = ["--max-time", "20", "-H", "Expect:", "--data-binary", &data, &url];
                let Some(output) = curl(&args).await else { return };
                let page = String::from_utf8_lossy(&output.stdout);
                assert!(page.contains("501") && page.contains("</html>"), "{format:?} {size}: {output:?}");
            }
        }
    }
    _ = std::fs::remove_file(&body);
    tunnel.end().await;
    server.kill_9().await;
}

/// Opens a download that its user does not read, and whose target resets it when all buffers are full. Returns the
/// user.
async fn reset_while_unread(tunnel: &mut Tunnel) -> TcpStream {
    let target = serve_with(|mut socket| async move {
        let full = async { while socket.write_all(&[7; 65_536]).await.is_ok() {} };
        _ = tokio::time::timeout(Duration::from_millis(500), full).await;
        SockRef::from(&socket).set_linger(Some(Duration::ZERO))
    })
    .await;
    let public = tunnel.proxy(target.addr, ProxyFormat::Binary).await;
    let user = TcpStream::connect(public).await.unwrap();
    target.when(|counts| counts.accepted == 1 && counts.open == 0, Duration::from_secs(30)).await;
    user
}

/// A user that reads nothing does not keep a stream whose target is gone: as with a direct connection, it gets what its
/// kernel has taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_does_not_read_gets_the_reset_nevertheless() {
    let mut tunnel = Tunnel::start().await;
    let mut user = reset_while_unread(&mut tunnel).await;
    let begin = Instant::now();
    tunnel.until("the end of the stream", |snapshot| snapshot.totals.streams_open == 0).await;
    // Two seconds for the proxy, which has more to send, and two for the server.
    assert!(begin.elapsed() < Duration::from_secs(5) + promised_second(), "{:?}", begin.elapsed());
    let mut bytes = Vec::new();
    let error = soon("the reset", user.read_to_end(&mut bytes)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(!bytes.is_empty() && bytes.iter().all(|&byte| byte == 7));
    tunnel.end().await;
}

/// A kill waits for no data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_ends_a_stream_that_delivers_what_precedes_a_reset() {
    let mut tunnel = Tunnel::start().await;
    let mut user = reset_while_unread(&mut tunnel).await;
    let stream = tunnel.stream_of(user.local_addr().unwrap()).await;
    let begin = Instant::now();
    tunnel.order(Command::KillStream(stream.key)).await.unwrap();
    tunnel.until("the end of the stream", |snapshot| snapshot.totals.streams_open == 0).await;
    assert!(begin.elapsed() < promised_second(), "{:?}", begin.elapsed());
    let error = soon("the reset", user.read_to_end(&mut Vec::new())).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    tunnel.end().await;
}

/// A proxy that sends data and goes away: the data was received, so it is delivered, and its end is no clean one. In
/// the text format nothing resumes the link.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_proxy_has_sent_is_delivered_before_the_reset() {
    let tunnel = Tunnel::start().await;
    for round in 0..20 {
        let mut proxy = TextChannel::connect(tunnel.addr, FieldCount::Four).await;
        proxy.send("", 0, "AUTH", tunnel.token.reveal().as_bytes()).await;
        proxy.send("", 0, "ADDPROXY:0", b"").await;
        let service = proxy.hear_action("RESPONSE").await.text();
        let public = SocketAddr::new(LOOPBACK.ip(), service.split(':').next().unwrap().parse().unwrap());
        let mut user = TcpStream::connect(public).await.unwrap();
        let opened = proxy.hear_action("STREAM_START").await;
        // In one write, so that the server reads all of it at once.
        let data: Vec<u8> = (0..FITS).map(byte).collect();
        let (id, number) = (opened.user.clone(), opened.stream.parse().unwrap());
        let mut lines = proxy.line(&id, number, "STREAM_START", b"");
        lines += &proxy.line(&id, number, "STREAM_DATA", &data);
        if round % 2 == 0 {
            lines += &proxy.line(&id, number, "STREAM_RESET", b"TARGET_IO_ERROR");
        }
        proxy.send_raw(lines.as_bytes()).await;
        drop(proxy);
        let mut bytes = Vec::new();
        let error = soon("the reset", user.read_to_end(&mut bytes)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(described(&bytes), described(&data), "round {round}");
        tunnel.until("the proxy is gone", |snapshot| snapshot.proxies.is_empty()).await;
    }
    for wanted in [EndReason::TargetSocketError, EndReason::ProxyGone] {
        let is_it =
            |event: &EventKind| matches!(event, EventKind::StreamEnded { reason, .. } if *reason == wanted);
        assert!(tunnel.events().iter().any(is_it), "{wanted:?}");
    }
    tunnel.end().await;
}
