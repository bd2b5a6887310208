//! Streams that end early, by a failure or by the operator: both ends see an error and never a clean end, and other
//! streams are not affected.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::support::{
    Running,
    client::{Download, Fetched, curl_command, download, fetch, is_reset},
    promised_second, soon,
    target::{self, OriginTarget, Target, serve_with},
    tunnel::{FORMATS, Tunnel},
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};
use underpass::{
    cli::demo::{DemoFile, TrafficCounters, get},
    config::{ProxyConfig, ProxyFormat},
    control::{Command, CommandError, Executed},
    telemetry::{DisconnectReason, EndReason, EventKind, StreamPhase, StreamSnapshot},
};

/// A file that is larger than what a test downloads.
const ENDLESS: DemoFile = DemoFile { seed: 1, size: 1 << 36 };

/// A file that takes one and a half seconds at [`RATE`].
const SHORT: DemoFile = DemoFile { seed: 2, size: 6_000_000 };
/// Rate limit of an origin in bytes per second.
const RATE: u64 = 4_000_000;

/// Starts a download from another loopback address.
fn download_from(source: &'static str, public: SocketAddr, file: DemoFile) -> Download {
    let url = format!("http://{public}{}", file.path());
    let curl = curl_command(&["--fail", "--interface", source, "-o", "/dev/null", &url]);
    Running::start(async move {
        if let Some(mut curl) = curl {
            let output = curl.output().await.unwrap();
            let said = format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
            return if output.status.success() { Ok(Fetched::from(file)) } else { Err(said) };
        }
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
        let socket = socket.connect(public).await.unwrap();
        let page = get(socket, &file.path(), &TrafficCounters::default())
            .await
            .map_err(|fault| fault.to_string())?;
        Ok(Fetched { length: page.length, sha256: page.sha256 })
    })
}

/// Starts two proxies of one service, each with its own rate-limited origin, an endless download over the first and a
/// short one over the second.
async fn two_downloads(
    format: ProxyFormat,
) -> (Tunnel, SocketAddr, [OriginTarget; 2], [(StreamSnapshot, Download); 2]) {
    let origins = [target::origin(RATE).await, target::origin(RATE).await];
    let mut tunnel = Tunnel::start().await;
    let public = tunnel.proxy(origins[0].addr, format).await;
    tunnel.join(public, origins[1].addr, format).await;
    let endless = download(public, ENDLESS);
    let first = tunnel.flowing(1).await.streams.remove(0);
    let short = download(public, SHORT);
    let two = tunnel.flowing(2).await;
    let second = two.streams.into_iter().find(|stream| stream.key != first.key).unwrap();
    assert_ne!(first.proxy.unwrap(), second.proxy.unwrap());
    (tunnel, public, origins, [(first, endless), (second, short)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_stream_ends_at_both_ends_and_others_continue() {
    for format in FORMATS {
        let (tunnel, _, origins, [(killed, endless), (_, short)]) = two_downloads(format).await;
        let begin = Instant::now();
        assert_eq!(tunnel.order(Command::KillStream(killed.key)).await, Ok(Executed { affected_streams: 1 }));
        is_reset(endless).await;
        origins[0].when_open(0, promised_second()).await;
        assert!(begin.elapsed() < promised_second(), "{:?}", begin.elapsed());
        println!("{format:?}: killed at both ends in {:?}", begin.elapsed());
        assert_eq!(tunnel.ended(killed.key).await.0, EndReason::Killed);
        assert_eq!(tunnel.order(Command::KillStream(killed.key)).await, Err(CommandError::NotFound));
        assert_eq!(short.end("the other download").await, Ok(Fetched::from(SHORT)));
        tunnel.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_a_user_ends_all_its_streams_and_no_others() {
    for format in FORMATS {
        let origin = target::origin(RATE).await;
        let mut tunnel = Tunnel::start().await;
        let public = tunnel.proxy(origin.addr, format).await;
        let doomed = [download(public, ENDLESS), download(public, ENDLESS)];
        let user = tunnel.flowing(2).await.users[0].id;
        let other = download_from("127.0.0.2", public, SHORT);
        let three = tunnel.flowing(3).await;
        assert_eq!(three.users.len(), 2);
        assert_eq!(tunnel.order(Command::KillUser(user)).await, Ok(Executed { affected_streams: 2 }));
        for download in doomed {
            is_reset(download).await;
        }
        origin.when_open(1, promised_second()).await;
        assert_eq!(other.end("the other user's download").await, Ok(Fetched::from(SHORT)));
        // The address is not banned, and keeps its id.
        assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);
        let ended = |event: &EventKind| matches!(event, EventKind::StreamEnded { key, reason: EndReason::Finished, .. } if key.user == user);
        tunnel.event("a stream of the same user", ended).await;
        tunnel.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kicked_proxy_loses_its_streams_and_registers_its_port_again() {
    for format in FORMATS {
        let (mut tunnel, public, origins, [(kicked, endless), (_, short)]) = two_downloads(format).await;
        let id = kicked.proxy.unwrap();
        assert_eq!(tunnel.order(Command::KickProxy(id)).await, Ok(Executed { affected_streams: 1 }));
        is_reset(endless).await;
        origins[0].when_open(0, promised_second()).await;
        assert_eq!(tunnel.ended(kicked.key).await.0, EndReason::ProxyKicked);
        let gone = |event: &EventKind| matches!(event, EventKind::ProxyDisconnected { proxy, reason: DisconnectReason::Kicked, .. } if *proxy == id);
        tunnel.event("the proxy is gone", gone).await;
        assert_eq!(short.end("the other download").await, Ok(Fetched::from(SHORT)));
        // It reconnects by itself with a new ID and serves users again.
        let back = tunnel
            .until("the kicked proxy is back", |snapshot| {
                snapshot.proxies.len() == 2 && snapshot.proxies.iter().all(|proxy| !proxy.services.is_empty())
            })
            .await;
        assert!(back.proxies.iter().all(|proxy| proxy.id != id && proxy.services[0].port == public.port()));
        tunnel.proxies()[0].serves().await;
        let before = origins[0].traffic.bytes_written();
        for _ in 0..2 {
            assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);
        }
        assert!(
            origins[0].traffic.bytes_written() >= before + 1000,
            "the reconnected proxy serves users again"
        );
        tunnel.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_proxy_loses_its_streams_and_others_continue() {
    for format in FORMATS {
        let (mut tunnel, public, origins, [(lost, endless), (_, short)]) = two_downloads(format).await;
        tunnel.stop_proxy(0).await;
        is_reset(endless).await;
        origins[0].when_open(0, promised_second()).await;
        assert_eq!(tunnel.ended(lost.key).await.0, EndReason::ProxyGone);
        assert_eq!(short.end("the other download").await, Ok(Fetched::from(SHORT)));
        for _ in 0..3 {
            assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);
        }
        tunnel.end().await;
    }
}

/// Starts a target that sends a body without a length, so that only an RST shows the truncation, and resets when
/// notified.
async fn resets_when(notified: Arc<Notify>) -> Target {
    serve_with(move |mut socket| {
        let notified = notified.clone();
        async move {
            socket.write_all(b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n").await?;
            socket.write_all(SHORT.bytes_from(0)).await?;
            notified.notified().await;
            socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
            Ok(())
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_by_the_target_is_forwarded_as_a_reset() {
    for format in FORMATS {
        let notified = Arc::new(Notify::new());
        let target = resets_when(notified.clone()).await;
        let mut tunnel = Tunnel::start().await;
        let public = tunnel.proxy(target.addr, format).await;
        let download = Running::start(async move { fetch(public, "/").await });
        let whole = SHORT.bytes_from(0).len() as u64;
        let snapshot = tunnel
            .until("all that was sent", |snapshot| snapshot.streams.iter().any(|stream| stream.down > whole))
            .await;
        assert!(!download.has_ended());
        notified.notify_one();
        is_reset(download).await;
        assert_eq!(tunnel.ended(snapshot.streams[0].key).await.0, EndReason::TargetSocketError);
        tunnel.end().await;
    }
}

/// Connects and reads. The RST may arrive before the first poll of the connection.
async fn first_byte(public: SocketAddr) -> io::Result<usize> {
    TcpStream::connect(public).await?.read(&mut [0]).await
}

/// Asserts that the user is reset and that the server reports a refused target.
async fn ends_refused(tunnel: &Tunnel, public: SocketAddr, format: ProxyFormat) {
    assert_eq!(soon("a reset", first_byte(public)).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let ended = tunnel.event("the end", |event| matches!(event, EventKind::StreamEnded { .. })).await;
    assert!(
        matches!(&ended, EventKind::StreamEnded { reason: EndReason::TargetConnectFailed(_), .. }),
        "{format:?}: {ended}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_target_resets_the_user() {
    for format in FORMATS {
        let mut tunnel = Tunnel::start().await;
        let public = tunnel.proxy(target::refusing().await, format).await;
        ends_refused(&tunnel, public, format).await;
        tunnel.end().await;
    }
}

/// Regression test: if the user reset while its target was connecting, the target saw a clean end of an empty stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_reset_during_connect_resets_the_target() {
    for format in FORMATS {
        let target = serve_with(async |mut socket| socket.read(&mut [0]).await.map(drop)).await;
        let mut tunnel = Tunnel::start().await;
        let public = tunnel.proxy(target.addr, format).await;
        for _ in 0..200 {
            let user = TcpStream::connect(public).await.unwrap();
            socket2::SockRef::from(&user).set_linger(Some(Duration::ZERO)).unwrap();
        }
        tunnel
            .until("all have gone", |now| now.totals.streams_total == 200 && now.totals.streams_open == 0)
            .await;
        let counts = target.when(|counts| counts.open == 0, promised_second()).await;
        assert_eq!(counts.failed, counts.accepted, "{format:?}: clean ends");
        tunnel.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_can_be_killed_while_its_target_connects() {
    for format in FORMATS {
        let (addr, _full) = target::full();
        let mut tunnel = Tunnel::start().await;
        let public = tunnel.proxy(addr, format).await;
        let mut user = TcpStream::connect(public).await.unwrap();
        user.write_all(b"early").await.unwrap();
        let stream = tunnel.stream_of(user.local_addr().unwrap()).await;
        assert_eq!(stream.phase, StreamPhase::Opening);
        assert_eq!(tunnel.order(Command::KillStream(stream.key)).await, Ok(Executed { affected_streams: 1 }));
        let error = within(promised_second(), "a reset", user.read(&mut [0])).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(tunnel.ended(stream.key).await.0, EndReason::Killed);
        tunnel.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connecting_to_a_silent_target_times_out() {
    for format in FORMATS {
        let (addr, _full) = target::full();
        let mut tunnel = Tunnel::start().await;
        let dial_timeout = Duration::from_millis(200);
        let config = ProxyConfig { format, dial_timeout, ..tunnel.proxy_config(addr) };
        let public = tunnel.proxy_with(config).await;
        ends_refused(&tunnel, public, format).await;
        tunnel.end().await;
    }
}
