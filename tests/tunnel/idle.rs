//! Idle channels and streams: they cost next to nothing, and are there when they are needed.

use std::time::Duration;

use crate::support::{Running, client::fetch, relay::Wire, soon, target, tunnel::Tunnel, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::telemetry::{ChannelState, DisconnectReason, EventKind};

/// An active channel becomes idle within this time: its last ping is sent a second after its last frame.
const SETTLED: Duration = Duration::from_millis(2500);

/// Shorter than the ping interval of an idle channel with streams, and longer than that of an active one.
const SILENCE: Duration = Duration::from_secs(2);

/// Regression test: both sides of an idle channel pinged every second, and woke four times a second for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_channel_is_silent() {
    let echo = target::echo().await;
    let (tunnel, relay, public) = Tunnel::through_a_relay(|_| {}, echo.addr).await;
    // Without a stream; then with an idle one. A machine that stalls makes a channel look unresponsive, so that a ping
    // more is sent: three attempts.
    let mut user = None;
    for what in ["no stream", "an idle stream"] {
        let mut is_silent = false;
        for _ in 0..3 {
            if is_silent {
                break;
            }
            tokio::time::sleep(SETTLED).await;
            let before: u64 = relay.all().iter().map(|connection| connection.carried()).sum();
            tokio::time::sleep(SILENCE).await;
            let sent = relay.all().iter().map(|connection| connection.carried()).sum::<u64>() - before;
            println!("{what}: {sent} bytes in {SILENCE:?}");
            // The two channels of an idle stream ping every five seconds, 80 bytes at most.
            is_silent |= sent <= 160;
        }
        assert!(is_silent, "{what}");
        if user.is_none() {
            let mut socket = TcpStream::connect(public).await.unwrap();
            socket.write_all(b"first").await.unwrap();
            soon("an echo", socket.read_exact(&mut [0; 5])).await.unwrap();
            user = Some(socket);
        }
    }
    let mut user = user.unwrap();
    user.write_all(b"again").await.unwrap();
    soon("an echo", user.read_exact(&mut [0; 5])).await.unwrap();
    drop(user);
    // The health of a channel is read when somebody looks.
    let snapshot = tunnel.telemetry.snapshot();
    let channels = &snapshot.proxies[0].channels;
    assert!(channels.iter().all(|channel| channel.state == ChannelState::Up), "{channels:?}");
    #[cfg(target_os = "linux")]
    assert!(channels.iter().all(|channel| channel.tcp.is_some()), "{channels:?}");
    tunnel.end().await;
}

/// Both channels die while nothing is sent. The next user's request finds that out, and is served when the proxy has
/// connected again; nothing that was sent is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_on_channels_that_have_died_silently_is_served() {
    let origin = target::origin(20_000_000).await;
    let (tunnel, relay, public) = Tunnel::through_a_relay(|_| {}, origin.addr).await;
    tokio::time::sleep(SETTLED).await;
    relay.set_all(Wire::Dead);
    let request = Running::start(async move { fetch(public, "/file/1000").await.unwrap().length });
    let lost = |event: &EventKind| matches!(event, EventKind::ChannelDisconnected { .. });
    // The server detects it by its ping behind the request, and keeps the channels: they are its only ones. The proxy
    // pings them within twenty seconds, and replaces them.
    let detected = tunnel.event("a dead channel", lost);
    let detected = within(Duration::from_secs(28), "it is detected", detected).await;
    let is_expected = |reason: &DisconnectReason| {
        matches!(reason, DisconnectReason::KeepaliveTimeout | DisconnectReason::Replaced)
    };
    assert!(
        matches!(&detected, EventKind::ChannelDisconnected { reason, .. } if is_expected(reason)),
        "{detected:?}"
    );
    assert_eq!(request.end("the request").await, 1000);
    tunnel.end().await;
}
