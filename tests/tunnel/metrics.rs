//! The server's own measurements over real connections: latencies, TCP_INFO, queues and the bottleneck of each stream.
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::support::{
    Running,
    relay::{Relay, Wire},
    soon, target,
    text::{FieldCount, TextChannel},
    tunnel::{FORMATS, Tunnel},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::{
    cli::demo::DemoFile,
    config::{ChannelCount, ProxyConfig, ProxyFormat},
    control::{Command, LimitScope},
    ids::{Direction, Rate},
    telemetry::{Bottleneck, ChannelState, StreamDetails, StreamStats, TcpInfo},
};

/// Starts a target that waits before each response.
async fn slow_to_answer(delay: Duration) -> target::Target {
    let serve = move |mut socket: TcpStream| async move {
        let mut question = [0; 64];
        while socket.read(&mut question).await? > 0 {
            tokio::time::sleep(delay).await;
            socket.write_all(b"answer").await?;
        }
        Ok(())
    };
    target::serve_with(serve).await
}

#[tokio::test]
async fn a_slow_target_shows_in_its_ttfb_only() {
    const USERS: u64 = 5;
    let delay = Duration::from_millis(200);
    for format in FORMATS {
        let mut tunnel = Tunnel::start().await;
        let target = slow_to_answer(delay).await;
        let public = tunnel.proxy(target.addr, format).await;
        for number in 0..USERS {
            let mut user = soon("a user", TcpStream::connect(public)).await.unwrap();
            let info = tunnel.stats_of(&tunnel.stream_of(user.local_addr().unwrap()).await);
            // The user's delay before the request must not count.
            let idle = Duration::from_millis(if number == 0 { 1000 } else { 0 });
            tokio::time::sleep(idle).await;
            for _ in 0..2 {
                user.write_all(b"question").await.unwrap();
                soon("an answer", user.read_exact(&mut [0; 6])).await.unwrap();
            }
            let first_byte = info.time_to_first_byte().unwrap();
            assert!(first_byte >= delay, "{first_byte:?}");
            assert!(number > 0 || first_byte < idle + delay, "{first_byte:?}");
            assert!(info.connect_latency().is_some());
        }
        let all =
            tunnel.until("all are in", |now| now.services[0].latency.time_to_first_byte.count == USERS).await;
        for latency in [&all.services[0].latency, &all.proxies[0].latency] {
            assert_eq!(latency.connect.count, USERS);
            assert!(latency.connect.p50 < delay, "{latency:?}");
            assert!(latency.time_to_first_byte.p50 >= delay, "{latency:?}");
            assert_eq!(latency.time_to_first_byte.bars.iter().sum::<u64>(), USERS);
        }
        for channel in &all.proxies[0].channels {
            assert!(channel.rtt_summary.count >= 1, "{channel:?}");
            assert!(channel.rtt_summary.max >= channel.last_rtt.unwrap(), "{channel:?}");
        }
        tunnel.end().await;
    }
}

/// TCP_INFO is available and belongs to the channel's own connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(target_os = "linux")]
async fn a_channel_reports_tcp_info() {
    let mut tunnel = Tunnel::with(|config| config.stripe = false).await;
    let target = target::sink().await;
    let public = tunnel.proxy(target.addr, ProxyFormat::Binary).await;
    let mut user = soon("a user", TcpStream::connect(public)).await.unwrap();
    soon("an upload", user.write_all(&vec![7; 8 << 20])).await.unwrap();
    let channel = tunnel.stream_of(user.local_addr().unwrap()).await.channel.unwrap();
    let measured = |tcp: &TcpInfo| {
        !tcp.smoothed_rtt.is_zero()
            && tcp.min_rtt <= tcp.smoothed_rtt
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

/// For a proxy that reads nothing, the bytes queued in the server and in the kernel are counted, and the state of its
/// channel is reported. So is the state of a channel that sent GOAWAY.
#[tokio::test]
async fn a_blocked_channel_reports_its_queues() {
    let tunnel = Tunnel::start().await;
    let mut proxy = TextChannel::connect(tunnel.addr, FieldCount::Four).await;
    proxy.send("", 0, "AUTH", tunnel.token.reveal().as_bytes()).await;
    proxy.send("", 0, "ADDPROXY:0", b"").await;
    let service = proxy.hear_action("RESPONSE").await.text();
    let port = service.split_once(':').unwrap().0.parse().unwrap();
    let public = SocketAddr::new(target::LOOPBACK.ip(), port);
    let mut user = soon("a user", TcpStream::connect(public)).await.unwrap();
    // Until all buffers are full.
    let piece = vec![7; 64 * 1024];
    while tokio::time::timeout(Duration::from_millis(500), user.write_all(&piece)).await.is_ok() {}
    let stuck =
        tunnel.until("it is stuck", |now| now.proxies[0].channels[0].state == ChannelState::Stalled).await;
    let channel = &stuck.proxies[0].channels[0];
    assert!(channel.send_queue_bytes > 100_000, "{channel:?}");
    let info = tunnel.stats_of(&tunnel.stream_of(user.local_addr().unwrap()).await);
    let flow =
        flow_of(&info, "its channel is to blame", |flow| flow.upload_bottleneck == Some(Bottleneck::Channel))
            .await;
    assert!(flow.upload_buffered > 100_000, "{flow:?}");
    if let Some(tcp) = channel.tcp {
        assert!(tcp.unsent_bytes + tcp.bytes_in_flight > 4_000, "{channel:?}");
    }
    proxy.send("", 0, "EXIT", b"").await;
    tunnel.until("it leaves", |now| now.proxies[0].channels[0].state == ChannelState::GoingAway).await;
    // When it reads again, the queued bytes are sent, and their queueing time is recorded.
    let (mut read, write) = (proxy.read, proxy.write);
    let reads = Running::start(async move { _ = tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
    let late = Duration::from_secs(2);
    let late = tunnel.until("what waited is timed", |now| now.proxies[0].latency.queue_wait.max > late).await;
    assert_eq!(late.services[0].latency.queue_wait, late.proxies[0].latency.queue_wait);
    drop((reads, write, user));
    tunnel.end().await;
}

/// Polls the figures of a stream as the cockpit does, until they satisfy the condition.
async fn flow_of(
    info: &StreamStats,
    what: &str,
    mut wanted: impl FnMut(&StreamDetails) -> bool,
) -> StreamDetails {
    let begin = Instant::now();
    loop {
        // None before a proxy serves the stream.
        let flow = info.details();
        if flow.as_ref().is_some_and(&mut wanted) {
            return flow.unwrap();
        }
        assert!(begin.elapsed() < crate::support::LONG, "never: {what}; there is {flow:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Starts an endless upload.
fn upload(mut user: tokio::net::tcp::OwnedWriteHalf) -> Running<()> {
    Running::start(async move {
        let piece = vec![7; 64 * 1024];
        while user.write_all(&piece).await.is_ok() {}
    })
}

const LARGE: DemoFile = DemoFile { seed: 5, size: 1 << 30 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_does_not_read_and_a_pause_are_reported_as_bottlenecks() {
    for format in FORMATS {
        let mut tunnel = Tunnel::start().await;
        let target = target::send(LARGE).await;
        let public = tunnel.proxy(target.addr, format).await;
        let user = soon("a user", TcpStream::connect(public)).await.unwrap();
        let stream = tunnel.stream_of(user.local_addr().unwrap()).await;
        let (key, info) = (stream.key, tunnel.stats_of(&stream));
        let second = Duration::from_secs(1);
        let flow =
            flow_of(&info, "the user is slow", |flow| flow.bottleneck_times.of(Bottleneck::User) > second)
                .await;
        assert_eq!(
            (flow.download_bottleneck, flow.upload_bottleneck),
            (Some(Bottleneck::User), None),
            "{flow:?}"
        );
        assert!(flow.download_buffered > 0 && flow.download_window > 0, "{flow:?}");
        assert!(flow.download_buffered <= flow.download_window || format == ProxyFormat::Text, "{flow:?}");
        let innocent = [Bottleneck::Target, Bottleneck::Operator, Bottleneck::Limit];
        assert_eq!(innocent.map(|by| flow.bottleneck_times.of(by)), [Duration::ZERO; 3], "{flow:?}");
        tunnel.order(Command::PauseStream(key)).await.unwrap();
        let both = (Some(Bottleneck::Operator), Some(Bottleneck::Operator));
        let held = flow_of(&info, "the operator holds it", |flow| {
            (flow.download_bottleneck, flow.upload_bottleneck) == both
                && flow.bottleneck_times.of(Bottleneck::Operator) > second / 2
        });
        held.await;
        tunnel.order(Command::ResumeStream(key)).await.unwrap();
        flow_of(&info, "the user again", |flow| flow.download_bottleneck == Some(Bottleneck::User)).await;
        drop(user);
        tunnel.until("it is over", |now| now.streams.is_empty()).await;
        assert_eq!(info.details(), None);
        tunnel.end().await;
        // The counters of a stream and the source of its flow figures refer to each other until the stream ends.
        assert_eq!(Arc::strong_count(&info), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_does_not_read_is_reported_as_the_bottleneck() {
    for format in FORMATS {
        let mut tunnel = Tunnel::start().await;
        let target = target::deaf().await;
        let public = tunnel.proxy(target.addr, format).await;
        let user = soon("a user", TcpStream::connect(public)).await.unwrap();
        let stream = tunnel.stream_of(user.local_addr().unwrap()).await;
        let (info, (_read, write)) = (tunnel.stats_of(&stream), user.into_split());
        let _sends = upload(write);
        let second = Duration::from_secs(1);
        let flow = flow_of(&info, "the target is slow", |flow| {
            flow.bottleneck_times.of(Bottleneck::Target) > second
        })
        .await;
        assert_eq!(
            (flow.download_bottleneck, flow.upload_bottleneck),
            (None, Some(Bottleneck::Target)),
            "{flow:?}"
        );
        assert_eq!(
            (flow.upload_buffered, flow.bottleneck_times.of(Bottleneck::User)),
            (0, Duration::ZERO),
            "{flow:?}"
        );
        if format == ProxyFormat::Binary {
            // The window is used up, except for a remainder that is not worth a system call.
            assert!(
                flow.upload_in_flight * 2 > flow.upload_window && flow.upload_window >= 256 * 1024,
                "{flow:?}"
            );
        }
        tunnel.order(Command::KillStream(stream.key)).await.unwrap();
        tunnel.end().await;
    }
}

/// A target that sends slowly but continuously, so that no queue builds up in the tunnel.
#[tokio::test]
async fn a_slow_target_is_the_bottleneck_and_an_idle_one_is_not() {
    let mut tunnel = Tunnel::start().await;
    let trickle = target::serve_with(|mut socket| async move {
        while socket.read(&mut [0; 1]).await? > 0 {
            for _ in 0..30 {
                socket.write_all(&[7; 3000]).await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    });
    let target = trickle.await;
    let public = tunnel.proxy(target.addr, ProxyFormat::Binary).await;
    let mut user = soon("a user", TcpStream::connect(public)).await.unwrap();
    let info = tunnel.stats_of(&tunnel.stream_of(user.local_addr().unwrap()).await);
    flow_of(&info, "nothing is to be carried", |flow| {
        (flow.download_bottleneck, flow.upload_bottleneck) == (None, None)
    })
    .await;
    user.write_all(b"x").await.unwrap();
    let mut shown = 0;
    flow_of(&info, "the target is slow", |flow| {
        shown += u32::from(flow.download_bottleneck == Some(Bottleneck::Target));
        shown == 10
    })
    .await;
    soon("all of it", user.read_exact(&mut [0; 90_000])).await.unwrap();
    let rests = flow_of(&info, "nothing is to be carried", |flow| {
        (flow.download_bottleneck, flow.upload_bottleneck) == (None, None)
    })
    .await;
    assert_eq!(rests.bottleneck_times.all().count(), 0, "{rests:?}");
    drop(user);
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_is_reported_as_the_bottleneck_where_it_applies() {
    let mut tunnel = Tunnel::start().await;
    let target = target::send(LARGE).await;
    let public = tunnel.proxy(target.addr, ProxyFormat::Binary).await;
    let user = soon("a user", TcpStream::connect(public)).await.unwrap();
    let stream = tunnel.stream_of(user.local_addr().unwrap()).await;
    let limit = Command::SetLimit(LimitScope::Stream(stream.key), Direction::Down, Rate::new(100_000));
    tunnel.order(limit).await.unwrap();
    let (mut read, _write) = user.into_split();
    let _reads = Running::start(async move { _ = tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
    let info = tunnel.stats_of(&stream);
    let flow = flow_of(&info, "the limit", |flow| {
        flow.download_bottleneck == Some(Bottleneck::Limit)
            && flow.bottleneck_times.of(Bottleneck::Limit) > Duration::from_secs(1)
    });
    flow.await;
    tunnel.order(Command::KillStream(stream.key)).await.unwrap();
    tunnel.end().await;
}

/// Bytes in flight to a target that does not read are retransmitted when their channel is reset, and counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_and_its_retransmitted_bytes_are_reported() {
    // All data is on the primary channel, which is the one to cut.
    let mut tunnel = Tunnel::with(|config| config.stripe = false).await;
    let relay = Relay::to(tunnel.addr).await;
    let target = target::deaf().await;
    let config = ProxyConfig {
        channels: ChannelCount::Fixed(2),
        ..tunnel.proxy_config(target.addr).with_server(relay.addr.to_string())
    };
    let public = tunnel.proxy_with(config).await;
    let user = soon("a user", TcpStream::connect(public)).await.unwrap();
    let stream = tunnel.stream_of(user.local_addr().unwrap()).await;
    let (info, (_read, write)) = (tunnel.stats_of(&stream), user.into_split());
    let _sends = upload(write);
    let full = flow_of(&info, "a full window", |flow| {
        flow.bottleneck_times.of(Bottleneck::Target) > Duration::from_secs(1)
    })
    .await;
    assert_eq!((full.failovers, full.retransmitted_bytes), (0, 0));
    let both = [relay.connection(0).await, relay.connection(1).await];
    both.iter().max_by_key(|connection| connection.carried()).unwrap().set(Wire::Cut);
    let moved =
        flow_of(&info, "it has moved", |flow| flow.failovers == 1 && flow.retransmitted_bytes > 0).await;
    assert!(moved.retransmitted_bytes <= moved.upload_window, "{moved:?}");
    tunnel.order(Command::KillStream(stream.key)).await.unwrap();
    tunnel.end().await;
}

#[tokio::test]
async fn bytes_sent_at_once_report_no_queueing() {
    let mut tunnel = Tunnel::start().await;
    let target = target::echo().await;
    let public = tunnel.proxy(target.addr, ProxyFormat::Binary).await;
    let mut user = soon("a user", TcpStream::connect(public)).await.unwrap();
    let pings = async {
        for _ in 0..5 {
            user.write_all(b"ping").await.unwrap();
            user.read_exact(&mut [0; 4]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(120)).await;
        }
    };
    soon("five pings", pings).await;
    let timed = tunnel.until("they are timed", |now| now.services[0].latency.queue_wait.count >= 5).await;
    let latency = timed.services[0].latency.queue_wait;
    assert!(latency.count == 5 && latency.p50 < Duration::from_millis(50), "{latency:?}");
    drop(user);
    tunnel.end().await;
}
