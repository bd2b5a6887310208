//! Redispatch: a user whose proxy cannot serve it is assigned to another proxy as long as no target may have received
//! data of it. The user does not notice, and no request is made twice.

use std::{io, net::SocketAddr, time::Duration};

use crate::support::{
    LONG, Running,
    binary::BinaryChannel,
    client::{Fetched, fetch},
    process::Process,
    soon,
    target::{self, Target, serve_with},
    tunnel::{FORMATS, Tunnel},
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::{
    cli::demo::DemoFile,
    config::{ProxyConfig, ProxyFormat},
    telemetry::{EndReason, EventKind},
    wire::{Frame, ResetCode},
};

/// Number of users that send data, of twenty users over two proxies with ten each.
const SPEAKERS: usize = 11;

const GREETING: &[u8] = b"welcome";

/// Starts a target that sends a greeting and then echoes.
async fn greeter() -> Target {
    serve_with(|mut socket| async move {
        socket.write_all(GREETING).await?;
        let (mut read, mut write) = socket.split();
        tokio::io::copy(&mut read, &mut write).await?;
        write.shutdown().await
    })
    .await
}

/// Reads until the FIN.
async fn rest(mut user: TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    soon("the user's end", user.read_to_end(&mut bytes)).await.map(|_| bytes)
}

/// Returns the number of failed stream opens in the events.
fn refused(tunnel: &Tunnel) -> usize {
    let refused = |event: &&EventKind| {
        matches!(event, EventKind::StreamEnded { reason: EndReason::TargetConnectFailed(_), .. })
    };
    tunnel.events().iter().filter(refused).count()
}

/// Requests are in flight when the proxy reports that its target is unreachable. Each is made once to the other target.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_redispatched_to_a_reachable_target() {
    let origin = target::origin(None).await;
    let mut tunnel = Tunnel::start().await;
    let public = tunnel.proxy(target::refusing().await, ProxyFormat::Binary).await;
    tunnel.join(public, target::refusing().await, ProxyFormat::Binary).await;
    tunnel.join(public, origin.addr, ProxyFormat::Binary).await;
    for n in 0..20 {
        let file = DemoFile { seed: n, size: 1 + n * 20_000 };
        assert_eq!(fetch(public, &file.path()).await, Ok(Fetched::from(file)));
    }
    let moved = tunnel.events().iter().filter(|e| matches!(e, EventKind::StreamAssigned { .. })).count();
    assert!(moved > 20, "no user was redispatched");
    tunnel.end().await;
}

/// The upload exceeds a window, and is sent with its FIN before any proxy has answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_is_redispatched_to_a_reachable_target() {
    let file = DemoFile { seed: 1, size: 3_000_000 };
    let echo = target::echo().await;
    let mut tunnel = Tunnel::start().await;
    let public = tunnel.proxy(target::refusing().await, ProxyFormat::Binary).await;
    tunnel.join(public, echo.addr, ProxyFormat::Binary).await;
    for _ in 0..4 {
        let (mut read, mut write) = TcpStream::connect(public).await.unwrap().into_split();
        let sends = async move {
            let mut offset = 0;
            while offset < file.size {
                let piece = file.bytes_from(offset);
                write.write_all(piece).await.unwrap();
                offset += piece.len() as u64;
            }
            write.shutdown().await.unwrap();
        };
        let reads = async move {
            let (mut offset, mut buffer) = (0, vec![0; 64 * 1024]);
            while offset < file.size {
                let expected = file.bytes_from(offset);
                let bytes = &mut buffer[..expected.len()];
                read.read_exact(bytes).await.unwrap();
                assert!(bytes == expected, "wrong bytes at {offset}");
                offset += expected.len() as u64;
            }
            assert_eq!(read.read(&mut buffer).await.unwrap(), 0);
        };
        soon("the echo", async { tokio::join!(sends, reads) }).await;
    }
    let streams = tunnel.telemetry.totals();
    assert_eq!((streams.streams_total, streams.streams_failed), (4, 0));
    assert_eq!((streams.up, streams.down), (4 * file.size, 4 * file.size), "counted once");
    echo.when(|counts| counts.accepted == 4 && counts.failed == 0 && counts.open == 0, LONG).await;
    tunnel.end().await;
}

/// Without another proxy to try, the user is reset at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_refused_when_no_target_is_reachable() {
    let mut tunnel = Tunnel::start().await;
    let public = tunnel.proxy(target::refusing().await, ProxyFormat::Binary).await;
    for _ in 0..6 {
        tunnel.join(public, target::refusing().await, ProxyFormat::Binary).await;
    }
    // The RST may arrive before the first poll of the connection.
    let user = async { rest(TcpStream::connect(public).await?).await };
    let ended = within(Duration::from_secs(3), "a reset", user).await;
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    tunnel.event("the end", |event| matches!(event, EventKind::StreamEnded { .. })).await;
    let asked = tunnel.events().iter().filter(|e| matches!(e, EventKind::StreamAssigned { .. })).count();
    // The RST of the stream may arrive before its assignment is reported.
    assert!(refused(&tunnel) == 1 && asked <= 4, "{asked} of seven were asked");
    tunnel.end().await;
}

/// A text proxy does not report whether its target accepted the connection before it failed, so that only silent users
/// are redispatched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_user_is_redispatched_in_both_formats() {
    for format in FORMATS {
        let greeter = greeter().await;
        let mut tunnel = Tunnel::start().await;
        let public = tunnel.proxy(target::refusing().await, format).await;
        tunnel.join(public, greeter.addr, format).await;
        for _ in 0..4 {
            let mut user = TcpStream::connect(public).await.unwrap();
            let mut greeting = [0; GREETING.len()];
            soon("a greeting", user.read_exact(&mut greeting)).await.unwrap();
            user.write_all(b"bye").await.unwrap();
            user.shutdown().await.unwrap();
            assert_eq!(rest(user).await.unwrap(), b"bye", "{format:?}");
        }
        assert_eq!(refused(&tunnel), 0, "{format:?}");
        tunnel.end().await;
    }
}

/// Data sent to an unresponsive proxy may still reach its target, so that only users that sent nothing are
/// redispatched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unresponsive_proxy_keeps_only_users_that_sent_data() {
    let (addr, _full) = target::full();
    let greeter = greeter().await;
    let mut tunnel = Tunnel::with(|config| config.open_timeout = Duration::from_millis(500)).await;
    let config = ProxyConfig { dial_timeout: LONG, ..tunnel.proxy_config(addr) };
    let public = tunnel.proxy_with(config).await;
    let connect = || async { TcpStream::connect(public).await.unwrap() };
    let (silent, mut eager) = (connect().await, connect().await);
    eager.write_all(b"once").await.unwrap();
    tunnel
        .until("both are under way", |snapshot| snapshot.totals.up == 4 && snapshot.streams.len() == 2)
        .await;
    tunnel.join(public, greeter.addr, ProxyFormat::Binary).await;
    assert_eq!(rest(eager).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let mut greeting = [0; GREETING.len()];
    let mut silent = silent;
    soon("a greeting", silent.read_exact(&mut greeting)).await.unwrap();
    drop(silent);
    assert_eq!(greeter.counts().accepted, 1);
    tunnel.end().await;
}

async fn process(tunnel: &Tunnel, port: u16, target: SocketAddr, format: &str) -> (Process, SocketAddr) {
    let (server, port, to) = (tunnel.addr.to_string(), port.to_string(), target.to_string());
    let token = tunnel.token.reveal().to_owned();
    let args = [
        "proxy", "--plain", "--server", &server, "--port", &port, "--to", &to, "--token", &token, "--format",
        format,
    ];
    let mut process = Process::underpass(&args);
    let public = SocketAddr::new(tunnel.addr.ip(), process.serves().await.port);
    (process, public)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_users_of_a_killed_proxy_are_redispatched() {
    for format in ["binary", "text"] {
        let echoes = [target::echo().await, target::echo().await];
        let tunnel = Tunnel::start().await;
        let (mut doomed, public) = process(&tunnel, 0, echoes[0].addr, format).await;
        let (_other, same) = process(&tunnel, public.port(), echoes[1].addr, format).await;
        assert_eq!(same, public);
        let mut users = Vec::new();
        for _ in 0..20 {
            users.push(TcpStream::connect(public).await.unwrap());
        }
        for echo in &echoes {
            echo.when(|counts| counts.open == 10, LONG).await;
        }
        // At least one user of each proxy has sent data.
        for user in &mut users[..SPEAKERS] {
            user.write_all(b"a").await.unwrap();
            soon("an echo", user.read_exact(&mut [0])).await.unwrap();
        }
        doomed.kill_9().await;
        let mut cut = 0;
        for (index, mut user) in users.into_iter().enumerate() {
            // A socket error is reported once: a reset user may see it while it writes.
            let asks = async {
                user.write_all(b"once").await?;
                user.shutdown().await?;
                rest(user).await
            };
            match asks.await {
                Ok(answer) => assert_eq!(answer, b"once", "{format} {index}"),
                Err(error) => {
                    let reset =
                        matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
                    assert!(reset, "{format} {index}: {error}");
                    assert!(index < SPEAKERS, "{format} {index}: it was silent");
                    cut += 1;
                }
            }
        }
        assert!((1..SPEAKERS).contains(&cut), "{format}: {cut} had been served by the killed one");
        echoes[1].when(|counts| counts.accepted == 20 - cut && counts.failed == 0, LONG).await;
        tunnel.until("all have ended", |snapshot| snapshot.totals.streams_open == 0).await;
        assert_eq!(tunnel.telemetry.totals().streams_failed, cut as u64);
    }
}

/// A proxy that is out of descriptors, or has its maximum of streams, was reported as a violation of the protocol, and
/// its users were not offered to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_whose_proxy_has_no_room_is_redispatched() {
    let mut tunnel = Tunnel::start().await;
    let (mut full, _, public) = BinaryChannel::serving(tunnel.addr, &tunnel.token, 0).await;
    let no_room = |stream| Frame::Reset { stream, code: ResetCode::LimitExceeded, final_size: 0 };
    let mut user = TcpStream::connect(public).await.unwrap();
    let open = full.opened().await;
    full.send([no_room(open.stream)]).await;
    soon("the reset", user.read(&mut [0])).await.unwrap_err();
    let reason = EndReason::ProxyReset("a resource limit was reached".into());
    assert_eq!(tunnel.ended(open.key).await.0, reason);

    let echo = target::echo().await;
    tunnel.join(public, echo.addr, ProxyFormat::Binary).await;
    // One of two users in turn is offered to the full proxy first.
    let users = Running::start(async move {
        for _ in 0..2 {
            let mut user = TcpStream::connect(public).await.unwrap();
            user.write_all(b"hello").await.unwrap();
            user.shutdown().await.unwrap();
            assert_eq!(rest(user).await.unwrap(), b"hello");
        }
    });
    let open = full.opened().await;
    full.send([no_room(open.stream)]).await;
    users.end("two users").await;
    assert_eq!(tunnel.ended(open.key).await.0, EndReason::Finished);
    drop(full);
    tunnel.end().await;
}
