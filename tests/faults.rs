//! What happens when something ends that should not, or when the operator ends it: an error at both ends, never a
//! clean end, and nobody else is disturbed.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use support::{
    Running,
    client::{Fetched, curl_command, fetch},
    relay::{Relay, Wire},
    soon,
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
    cli::demo::{File, Traffic, get},
    config::{ProxyConfig, ProxyFormat},
    control::{Command, Done, Refused},
    telemetry::{EndReason, EventKind, GoneReason, Snapshot, StreamPhase, StreamSnapshot},
};

const SECOND: Duration = Duration::from_secs(1);

/// More than is downloaded before it is ended.
const ENDLESS: File = File { seed: 1, size: 1 << 36 };

/// A second and a half at the rate below.
const SHORT: File = File { seed: 2, size: 6_000_000 };
const RATE: u64 = 4_000_000;

type Download = Running<Result<Fetched, String>>;

fn download(public: SocketAddr, file: File) -> Download {
    Running::start(async move { fetch(public, &file.path()).await })
}

/// The same from another address of this machine.
fn download_from(source: &'static str, public: SocketAddr, file: File) -> Download {
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
        let page = get(socket, &file.path(), &Traffic::default()).await.map_err(|fault| fault.to_string())?;
        Ok(Fetched { length: page.length, sha256: page.sha256 })
    })
}

/// Whether a user saw an error, and saw it in time. With curl: 56, the connection was reset. 18, a short file, would
/// be seen as an error too, but only by who was told the length.
async fn fails(download: Download) {
    let error = download.end_within(SECOND, "the user's download ends").await.unwrap_err();
    let reset = error.contains("exit status: 56") || error.contains("reset");
    assert!(reset, "{error}");
}

/// Two proxies of one service, each with a limited origin of its own, and a download over each: an endless one over
/// the first, a short one over the second.
async fn two_downloads(
    format: ProxyFormat,
) -> (Tunnel, SocketAddr, [OriginTarget; 2], [(StreamSnapshot, Download); 2]) {
    let origins = [target::origin(RATE).await, target::origin(RATE).await];
    let mut tunnel = Tunnel::start().await;
    let public = tunnel.proxy(origins[0].addr, format).await;
    tunnel.join(public, origins[1].addr, format).await;
    let endless = download(public, ENDLESS);
    let first = flowing(&tunnel, 1).await.streams.remove(0);
    let short = download(public, SHORT);
    let two = flowing(&tunnel, 2).await;
    let second = two.streams.into_iter().find(|stream| stream.key != first.key).unwrap();
    assert_ne!(first.proxy.as_ref().unwrap().id, second.proxy.as_ref().unwrap().id);
    (tunnel, public, origins, [(first, endless), (second, short)])
}

async fn flowing(tunnel: &Tunnel, streams: usize) -> Snapshot {
    let flow =
        |snapshot: &Snapshot| snapshot.streams.iter().filter(|stream| stream.down > 0).count() == streams;
    tunnel.until("downloads that flow", flow).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_stream_ends_at_both_ends_and_the_others_go_on() {
    for format in FORMATS {
        let (tunnel, _, origins, [(killed, endless), (_, short)]) = two_downloads(format).await;
        let begin = Instant::now();
        assert_eq!(tunnel.order(Command::KillStream(killed.key)).await, Ok(Done { streams: 1 }));
        fails(endless).await;
        origins[0].when_open(0, SECOND).await;
        assert!(begin.elapsed() < SECOND, "{:?}", begin.elapsed());
        println!("{format:?}: killed at both ends in {:?}", begin.elapsed());
        assert_eq!(tunnel.ended(killed.key).await.0, EndReason::Killed);
        assert_eq!(tunnel.order(Command::KillStream(killed.key)).await, Err(Refused::Gone));
        assert_eq!(short.end("the other download").await, Ok(Fetched::from(SHORT)));
        tunnel.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_user_loses_all_streams_and_no_other_user_does() {
    for format in FORMATS {
        let origin = target::origin(RATE).await;
        let mut tunnel = Tunnel::start().await;
        let public = tunnel.proxy(origin.addr, format).await;
        let doomed = [download(public, ENDLESS), download(public, ENDLESS)];
        let user = flowing(&tunnel, 2).await.users[0].id;
        let other = download_from("127.0.0.2", public, SHORT);
        let three = flowing(&tunnel, 3).await;
        assert_eq!(three.users.len(), 2);
        assert_eq!(tunnel.order(Command::KillUser(user)).await, Ok(Done { streams: 2 }));
        for download in doomed {
            fails(download).await;
        }
        origin.when_open(1, SECOND).await;
        assert_eq!(other.end("the other user's download").await, Ok(Fetched::from(SHORT)));
        assert_eq!(tunnel.order(Command::KillUser(user)).await, Err(Refused::Gone));
        // The address is not banned: it comes back as somebody else.
        assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);
        let joined =
            |event: &EventKind| matches!(event, EventKind::UserJoined { user: new, .. } if *new != user);
        tunnel.event("a new user", joined).await;
        tunnel.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kicked_proxy_loses_its_streams_and_takes_its_port_again() {
    for format in FORMATS {
        let (mut tunnel, public, origins, [(kicked, endless), (_, short)]) = two_downloads(format).await;
        let id = kicked.proxy.unwrap().id;
        assert_eq!(tunnel.order(Command::KickProxy(id)).await, Ok(Done { streams: 1 }));
        fails(endless).await;
        origins[0].when_open(0, SECOND).await;
        assert_eq!(tunnel.ended(kicked.key).await.0, EndReason::ProxyGone);
        let gone = |event: &EventKind| matches!(event, EventKind::ProxyGone { proxy, reason: GoneReason::Kicked, .. } if *proxy == id);
        tunnel.event("the proxy is gone", gone).await;
        assert_eq!(short.end("the other download").await, Ok(Fetched::from(SHORT)));
        // It comes back by itself, under a new number, and gets users again.
        let back = tunnel
            .until("the kicked proxy is back", |snapshot| {
                snapshot.proxies.len() == 2 && snapshot.proxies.iter().all(|proxy| !proxy.services.is_empty())
            })
            .await;
        assert!(back.proxies.iter().all(|proxy| proxy.id != id && proxy.services[0].port == public.port()));
        tunnel.proxies()[0].serves().await;
        let before = origins[0].traffic.written();
        for _ in 0..2 {
            assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);
        }
        assert!(origins[0].traffic.written() >= before + 1000, "it gets its share again");
        tunnel.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_proxy_loses_its_streams_and_the_others_go_on() {
    for format in FORMATS {
        let (mut tunnel, public, origins, [(lost, endless), (_, short)]) = two_downloads(format).await;
        tunnel.stop_proxy(0).await;
        fails(endless).await;
        origins[0].when_open(0, SECOND).await;
        assert_eq!(tunnel.ended(lost.key).await.0, EndReason::ProxyGone);
        assert_eq!(short.end("the other download").await, Ok(Fetched::from(SHORT)));
        for _ in 0..3 {
            assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);
        }
        tunnel.end().await;
    }
}

/// A body without a length, so that only a reset tells that it is cut. Reset when the test says so.
async fn resets_when(told: Arc<Notify>) -> Target {
    serve_with(move |mut socket| {
        let told = told.clone();
        async move {
            socket.write_all(b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n").await?;
            socket.write_all(SHORT.piece(0)).await?;
            told.notified().await;
            socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
            Ok(())
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_resets_in_the_middle_is_no_clean_end() {
    for format in FORMATS {
        let told = Arc::new(Notify::new());
        let target = resets_when(told.clone()).await;
        let mut tunnel = Tunnel::start().await;
        let public = tunnel.proxy(target.addr, format).await;
        let download = Running::start(async move { fetch(public, "/").await });
        let whole = SHORT.piece(0).len() as u64;
        let snapshot = tunnel
            .until("all that was sent", |snapshot| snapshot.streams.iter().any(|stream| stream.down > whole))
            .await;
        assert!(!download.has_ended());
        told.notify_one();
        fails(download).await;
        assert_eq!(tunnel.ended(snapshot.streams[0].key).await.0, EndReason::TargetReset);
        tunnel.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_not_there_is_no_clean_end() {
    for format in FORMATS {
        let mut tunnel = Tunnel::start().await;
        let public = tunnel.proxy(target::nobody().await, format).await;
        // The reset may be there before the connection was looked at for the first time.
        let error = match TcpStream::connect(public).await {
            Ok(mut user) => soon("a reset", user.read(&mut [0])).await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let ended = tunnel.event("the end", |event| matches!(event, EventKind::StreamEnded { .. })).await;
        assert!(
            matches!(&ended, EventKind::StreamEnded { reason: EndReason::TargetRefused(_), .. }),
            "{format:?}: {ended}"
        );
        tunnel.end().await;
    }
}

/// A target whose queue of connections is full: whoever dials it waits. Dropping the second lets it go.
fn full_target() -> (SocketAddr, Vec<socket2::Socket>) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&target::LOOPBACK.into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    let mut sockets = vec![listener];
    // How many fit is up to the kernel; the first that has to wait does not.
    loop {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let fits = socket.connect_timeout(&addr.into(), Duration::from_millis(200)).is_ok();
        sockets.push(socket);
        if !fits {
            return (addr, sockets);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_can_be_killed_while_its_target_is_dialled() {
    for format in FORMATS {
        let (addr, _full) = full_target();
        let mut tunnel = Tunnel::start().await;
        let public = tunnel.proxy(addr, format).await;
        let mut user = TcpStream::connect(public).await.unwrap();
        user.write_all(b"early").await.unwrap();
        let stream = tunnel.stream_of(user.local_addr().unwrap()).await;
        assert_eq!(stream.phase, StreamPhase::Opening);
        assert_eq!(tunnel.order(Command::KillStream(stream.key)).await, Ok(Done { streams: 1 }));
        let error = within(SECOND, "a reset", user.read(&mut [0])).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(tunnel.ended(stream.key).await.0, EndReason::Killed);
        tunnel.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_does_not_answer_is_given_up() {
    for format in FORMATS {
        let (addr, _full) = full_target();
        let mut tunnel = Tunnel::start().await;
        let dial_timeout = Duration::from_millis(200);
        let config = ProxyConfig { format, dial_timeout, ..tunnel.proxy_config(addr) };
        let public = tunnel.proxy_with(config).await;
        // The reset may be there before the connection was looked at for the first time.
        let error = match TcpStream::connect(public).await {
            Ok(mut user) => soon("a reset", user.read(&mut [0])).await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let ended = tunnel.event("the end", |event| matches!(event, EventKind::StreamEnded { .. })).await;
        assert!(
            matches!(&ended, EventKind::StreamEnded { reason: EndReason::TargetRefused(_), .. }),
            "{format:?}: {ended}"
        );
        tunnel.end().await;
    }
}

/// A proxy with two channels through a relay.
async fn through_a_relay(origin: SocketAddr) -> (Tunnel, Relay, SocketAddr) {
    let mut tunnel = Tunnel::start().await;
    let relay = Relay::to(tunnel.addr).await;
    let config = ProxyConfig { server: relay.addr.to_string(), channels: 2, ..tunnel.proxy_config(origin) };
    let public = tunnel.proxy_with(config).await;
    assert_eq!(relay.len(), 2);
    (tunnel, relay, public)
}

/// The relay's connection that carries the only stream, found by its bytes: the other has none to speak of.
async fn carrier(relay: &Relay) -> Arc<support::relay::Connection> {
    let both = [relay.connection(0).await, relay.connection(1).await];
    both.into_iter().max_by_key(|connection| connection.carried()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_survives_the_loss_of_its_channel() {
    let file = File { seed: 3, size: 100_000_000 };
    let origin = target::origin(50_000_000).await;
    let (tunnel, relay, public) = through_a_relay(origin.addr).await;
    let download = download(public, file);
    for cut in 0..3 {
        let half = file.size / 4 * (cut + 1);
        tunnel
            .until("the middle of a download", |snapshot| {
                snapshot.streams.iter().any(|stream| stream.down > half)
            })
            .await;
        // Each time the one that is busy, and with it what it has on the way.
        let connections = relay.len();
        let mut busiest = (0, relay.connection(0).await);
        let before: Vec<_> = counts(&relay).await;
        tunnel
            .until("more of it", |snapshot| {
                snapshot.streams.iter().any(|stream| stream.down > half + 2_000_000)
            })
            .await;
        for (index, (before, now)) in before.into_iter().zip(counts(&relay).await).enumerate() {
            if now - before > busiest.0 {
                busiest = (now - before, relay.connection(index).await);
            }
        }
        assert!(busiest.0 > 0);
        busiest.1.set(Wire::Cut);
        tunnel
            .until("both channels again", |snapshot| {
                relay.len() > connections && snapshot.proxies[0].channels.len() == 2
            })
            .await;
        assert!(!download.has_ended(), "it was cut too late to show anything");
    }
    assert_eq!(download.end("the download").await, Ok(Fetched::from(file)));
    let lost = |event: &&EventKind| matches!(event, EventKind::ChannelGone { .. });
    assert_eq!(tunnel.events().iter().filter(lost).count(), 3);
    tunnel.end().await;
}

async fn counts(relay: &Relay) -> Vec<u64> {
    let mut counts = Vec::new();
    for index in 0..relay.len() {
        counts.push(relay.connection(index).await.carried());
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_survives_the_loss_of_its_channel() {
    let file = File { seed: 4, size: 60_000_000 };
    let origin = target::origin(40_000_000).await;
    let (tunnel, relay, public) = through_a_relay(origin.addr).await;
    let upload = Running::start(async move {
        let socket = TcpStream::connect(public).await.unwrap();
        underpass::cli::demo::upload(socket, file, &Traffic::default()).await
    });
    tunnel
        .until("the middle of an upload", |snapshot| {
            snapshot.streams.iter().any(|stream| stream.up > file.size / 2)
        })
        .await;
    carrier(&relay).await.set(Wire::Cut);
    soon("the channel is replaced", relay.connection(2)).await;
    assert!(!upload.has_ended(), "it was cut too late to show anything");
    upload.end("the upload").await.unwrap();
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_short_streams_survive_the_loss_of_their_channel() {
    let echo = target::echo().await;
    let (tunnel, relay, public) = through_a_relay(echo.addr).await;
    let users: Vec<_> = (0..40u64)
        .map(|user| {
            Running::start(async move {
                for round in 0..20 {
                    let file =
                        File { seed: user * 100 + round, size: 1 + (user * 977 + round * 3931) % 50_000 };
                    let mut socket = TcpStream::connect(public).await.unwrap();
                    socket.write_all(file.piece(0)).await.unwrap();
                    socket.shutdown().await.unwrap();
                    let mut back = Vec::new();
                    socket.read_to_end(&mut back).await.unwrap();
                    assert_eq!(back, file.piece(0));
                }
            })
        })
        .collect();
    for cut in 0..6 {
        let ever = (cut + 1) * 100;
        tunnel.until("some streams", |snapshot| snapshot.totals.streams_ever >= ever).await;
        relay.connection(relay.len() - 1).await.set(Wire::Cut);
        tunnel.until("both channels again", |snapshot| snapshot.proxies[0].channels.len() == 2).await;
    }
    for user in users {
        user.end("a user of many streams").await;
    }
    assert_eq!(tunnel.telemetry.totals().streams_failed, 0);
    echo.when(|counts| counts.open == 0 && counts.failed == 0 && counts.accepted == 800, SECOND).await;
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_channel_is_found_and_the_download_goes_on() {
    let file = File { seed: 5, size: 40_000_000 };
    let origin = target::origin(20_000_000).await;
    let (tunnel, relay, public) = through_a_relay(origin.addr).await;
    let download = download(public, file);
    tunnel
        .until("the middle of a download", |snapshot| {
            snapshot.streams.iter().any(|stream| stream.down > file.size / 4)
        })
        .await;
    carrier(&relay).await.set(Wire::Dead);
    let begin = Instant::now();
    let silent =
        |event: &EventKind| matches!(event, EventKind::ChannelGone { reason: GoneReason::Silent, .. });
    within(Duration::from_secs(10), "a dead channel is found", tunnel.event("silence", silent)).await;
    println!("a dead channel was found after {:.1?}", begin.elapsed());
    assert_eq!(download.end("the download").await, Ok(Fetched::from(file)));
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_whose_channels_are_all_dead_is_found_and_comes_back() {
    // Text: a proxy whose channel took nothing more was not looked at, and stayed with the dead channel for ever.
    let test = async |format| {
        let origin = target::origin(RATE).await;
        let mut tunnel = Tunnel::start().await;
        let relay = Relay::to(tunnel.addr).await;
        let config =
            ProxyConfig { format, server: relay.addr.to_string(), ..tunnel.proxy_config(origin.addr) };
        let public = tunnel.proxy_with(config).await;
        let doomed = download(public, ENDLESS);
        flowing(&tunnel, 1).await;
        // Else the first channel that is found dead would be replaced before the second is, and the link live on.
        let refusal = relay.refuse();
        for index in 0..relay.len() {
            relay.connection(index).await.set(Wire::Dead);
        }
        let begin = Instant::now();
        tunnel
            .until_within(Duration::from_secs(10), "the silence is noticed", |s| s.totals.streams_open == 0)
            .await;
        println!("{format:?}: a dead proxy was found after {:.1?}", begin.elapsed());
        fails(doomed).await;
        tunnel.until("the proxy is gone", |snapshot| snapshot.proxies.is_empty()).await;
        drop(refusal);
        tunnel
            .until("the proxy is back", |snapshot| {
                snapshot.proxies.len() == 1 && snapshot.proxies[0].services.len() == 1
            })
            .await;
        assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);
        tunnel.end().await;
    };
    tokio::join!(test(ProxyFormat::Binary), test(ProxyFormat::Text));
}

/// Longer than a channel may be silent.
const LONG_SILENCE: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_not_dead_because_somebody_does_not_read() {
    let test = async |format| {
        // A user who reads nothing, and a target that reads nothing.
        let (sender, deaf) = (target::send(ENDLESS).await, target::deaf().await);
        let mut tunnel = Tunnel::start().await;
        let from = tunnel.proxy(sender.addr, format).await;
        let to = tunnel.proxy(deaf.addr, format).await;
        let mut slow_user = TcpStream::connect(from).await.unwrap();
        let mut user = TcpStream::connect(to).await.unwrap();
        user.set_nodelay(true).unwrap();
        let upload = Running::start(async move {
            let mut offset = 0;
            while user.write_all(ENDLESS.piece(offset)).await.is_ok() {
                offset += ENDLESS.piece(offset).len() as u64;
            }
        });
        tunnel
            .until("a long silence", |snapshot| {
                snapshot.proxies.iter().flat_map(|proxy| &proxy.channels).all(|c| c.age > LONG_SILENCE)
            })
            .await;
        let gone = |event: &EventKind| {
            matches!(event, EventKind::ChannelGone { .. } | EventKind::StreamEnded { .. })
        };
        assert!(!tunnel.events().iter().any(gone), "{format:?}: {:?}", tunnel.events());
        assert!(!upload.has_ended());
        // Nothing of it is lost.
        let (mut offset, mut buffer) = (0, vec![0; 64 * 1024]);
        let reads = async {
            while offset < 20_000_000 {
                let expected = ENDLESS.piece(offset);
                let bytes = &mut buffer[..expected.len()];
                slow_user.read_exact(bytes).await.unwrap();
                assert!(bytes == expected, "{format:?}: wrong bytes at {offset}");
                offset += expected.len() as u64;
            }
        };
        soon("what was held back", reads).await;
        // What the deaf one has not read makes its end a reset.
        drop((slow_user, deaf));
        upload.end("the upload is refused").await;
        tunnel.end().await;
    };
    tokio::join!(test(ProxyFormat::Binary), test(ProxyFormat::Text));
}
