//! What the server measures of itself, over real connections: how long things take.
#![allow(clippy::unwrap_used)]

mod support;

use std::{net::SocketAddr, time::Duration};

use support::{
    soon, target,
    text::{Fields, TextChannel},
    tunnel::{FORMATS, Tunnel},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::{
    config::ProxyFormat,
    telemetry::{ChannelState, TcpInfo},
};

/// A target that thinks for a while before each answer.
async fn slow_to_answer(thinks: Duration) -> target::Target {
    let serve = move |mut socket: TcpStream| async move {
        let mut question = [0; 64];
        while socket.read(&mut question).await? > 0 {
            tokio::time::sleep(thinks).await;
            socket.write_all(b"answer").await?;
        }
        Ok(())
    };
    target::serve_with(serve).await
}

#[tokio::test]
async fn a_target_that_thinks_shows_in_the_time_to_its_first_byte_and_nowhere_else() {
    const USERS: u64 = 5;
    let thinks = Duration::from_millis(200);
    for format in FORMATS {
        let mut tunnel = Tunnel::start().await;
        let target = slow_to_answer(thinks).await;
        let public = tunnel.proxy(target.addr, format).await;
        for number in 0..USERS {
            let mut user = soon("a user", TcpStream::connect(public)).await.unwrap();
            let info = tunnel.stream_of(user.local_addr().unwrap()).await.info;
            // How long somebody takes to ask is nobody's fault.
            let idle = Duration::from_millis(if number == 0 { 1000 } else { 0 });
            tokio::time::sleep(idle).await;
            for _ in 0..2 {
                user.write_all(b"question").await.unwrap();
                soon("an answer", user.read_exact(&mut [0; 6])).await.unwrap();
            }
            let first_byte = info.first_byte_after().unwrap();
            assert!(first_byte >= thinks, "{first_byte:?}");
            assert!(number > 0 || first_byte < idle + thinks, "{first_byte:?}");
            assert!(info.opened_after().is_some());
        }
        let all = tunnel.until("all are in", |now| now.services[0].latency.first_byte.count == USERS).await;
        for latency in [&all.services[0].latency, &all.proxies[0].latency] {
            assert_eq!(latency.open.count, USERS);
            assert!(latency.open.p50 < thinks, "{latency:?}");
            assert!(latency.first_byte.p50 >= thinks, "{latency:?}");
            assert_eq!(latency.first_byte.bars.iter().sum::<u64>(), USERS);
        }
        for channel in &all.proxies[0].channels {
            assert!(channel.round_trips.count >= 1, "{channel:?}");
            assert!(channel.round_trips.max >= channel.rtt.unwrap(), "{channel:?}");
        }
        tunnel.end().await;
    }
}

/// What the kernel measures is there, and it is of this very connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(target_os = "linux")]
async fn a_channel_shows_what_the_kernel_measures() {
    let mut tunnel = Tunnel::start().await;
    let target = target::sink().await;
    let public = tunnel.proxy(target.addr, ProxyFormat::Binary).await;
    let mut user = soon("a user", TcpStream::connect(public)).await.unwrap();
    soon("an upload", user.write_all(&vec![7; 8 << 20])).await.unwrap();
    let channel = tunnel.stream_of(user.local_addr().unwrap()).await.channel.unwrap();
    let measured = |tcp: &TcpInfo| {
        !tcp.rtt.is_zero()
            && tcp.rtt_min <= tcp.rtt
            && tcp.congestion_window > 0
            && tcp.delivery_rate > 10_000_000
    };
    let now = tunnel.until("the kernel's figures", |now| {
        let known = now.proxies[0].channels.iter().find(|known| known.id == channel).unwrap();
        known.tcp.as_ref().is_some_and(measured) && known.sent > 8 << 20
    });
    let now = now.await;
    assert!(now.proxies[0].channels.iter().all(|channel| channel.state == ChannelState::Up));
    drop(user);
    tunnel.end().await;
}

/// A proxy that takes nothing: what waits for it is counted, here and in the kernel, and its channel is shown as what
/// it is. So is one that says goodbye.
#[tokio::test]
async fn a_channel_that_takes_nothing_shows_what_waits_for_it() {
    let tunnel = Tunnel::start().await;
    let mut proxy = TextChannel::connect(tunnel.addr, Fields::Four).await;
    proxy.send("", 0, "AUTH", tunnel.token.reveal().as_bytes()).await;
    proxy.send("", 0, "ADDPROXY:0", b"").await;
    let service = proxy.hear_action("RESPONSE").await.text();
    let port = service.split_once(':').unwrap().0.parse().unwrap();
    let public = SocketAddr::new(target::LOOPBACK.ip(), port);
    let mut user = soon("a user", TcpStream::connect(public)).await.unwrap();
    // Until nothing more fits anywhere on the way.
    let piece = vec![7; 64 * 1024];
    while tokio::time::timeout(Duration::from_millis(500), user.write_all(&piece)).await.is_ok() {}
    let stuck =
        tunnel.until("it is stuck", |now| now.proxies[0].channels[0].state == ChannelState::Stuck).await;
    let channel = &stuck.proxies[0].channels[0];
    assert!(channel.queued > 100_000, "{channel:?}");
    if let Some(tcp) = channel.tcp {
        assert!(tcp.unsent + tcp.unacknowledged > 10_000, "{channel:?}");
    }
    proxy.send("", 0, "EXIT", b"").await;
    tunnel.until("it leaves", |now| now.proxies[0].channels[0].state == ChannelState::Leaving).await;
    drop((proxy, user));
    tunnel.end().await;
}
