//! Loss of channels by an RST, corruption and keepalive timeouts: streams continue on another channel.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::support::{
    Running,
    client::{Fetched, download, echoes, fetch, is_reset, upload},
    promised_second,
    relay::{Connection, Relay, Wire},
    soon, target,
    tunnel::Tunnel,
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::{
    cli::demo::DemoFile,
    config::{ProxyConfig, ProxyFormat},
    telemetry::{DisconnectReason, EventKind},
};

/// A file that is larger than what a test downloads.
const ENDLESS: DemoFile = DemoFile { seed: 1, size: 1 << 36 };

/// Rate limit of the target of an endless download in bytes per second.
const RATE: u64 = 4_000_000;

/// Returns the relay's connection that carries the only stream, which is the one with the most bytes.
async fn carrier(relay: &Relay) -> Arc<Connection> {
    let both = [relay.connection(0).await, relay.connection(1).await];
    both.into_iter().max_by_key(|connection| connection.carried()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_survives_the_loss_of_its_channel() {
    let file = DemoFile { seed: 3, size: 100_000_000 };
    let origin = target::origin(50_000_000).await;
    let (tunnel, relay, public) = Tunnel::through_a_relay(|_| {}, origin.addr).await;
    let download = download(public, file);
    for cut in 0..3 {
        let half = file.size / 4 * (cut + 1);
        tunnel
            .until("the middle of a download", |snapshot| {
                snapshot.streams.iter().any(|stream| stream.down > half)
            })
            .await;
        // Resets the busy connection each time, with the bytes in flight on it.
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
    let lost = |event: &&EventKind| matches!(event, EventKind::ChannelDisconnected { .. });
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
    let file = DemoFile { seed: 4, size: 60_000_000 };
    let origin = target::origin(40_000_000).await;
    let (tunnel, relay, public) = Tunnel::through_a_relay(|_| {}, origin.addr).await;
    let upload = upload(public, file);
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
    let (tunnel, relay, public) = Tunnel::through_a_relay(|_| {}, echo.addr).await;
    let users: Vec<_> = (0..40u64)
        .map(|user| {
            Running::start(async move {
                for round in 0..20 {
                    let file =
                        DemoFile { seed: user * 100 + round, size: 1 + (user * 977 + round * 3931) % 50_000 };
                    echoes(public, file).await;
                }
            })
        })
        .collect();
    for cut in 0..6 {
        let ever = (cut + 1) * 100;
        tunnel.until("some streams", |snapshot| snapshot.totals.streams_total >= ever).await;
        relay.connection(relay.len() - 1).await.set(Wire::Cut);
        tunnel.until("both channels again", |snapshot| snapshot.proxies[0].channels.len() == 2).await;
    }
    for user in users {
        user.end("a user of many streams").await;
    }
    assert_eq!(tunnel.telemetry.totals().streams_failed, 0);
    echo.when(|counts| counts.open == 0 && counts.failed == 0 && counts.accepted == 800, promised_second())
        .await;
    tunnel.end().await;
}

/// Without checksums the user would receive a corrupted file without an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_survives_a_corrupted_bit() {
    let file = DemoFile { seed: 6, size: 40_000_000 };
    let origin = target::origin(20_000_000).await;
    let (tunnel, relay, public) = Tunnel::through_a_relay(|_| {}, origin.addr).await;
    let download = download(public, file);
    tunnel
        .until("the middle of a download", |snapshot| {
            snapshot.streams.iter().any(|stream| stream.down > file.size / 4)
        })
        .await;
    carrier(&relay).await.set(Wire::Flipped { least: 1000 });
    let found = |event: &EventKind| {
        matches!(event, EventKind::ChannelDisconnected { reason: DisconnectReason::ChecksumMismatch, .. })
    };
    tunnel.event("the corruption is detected", found).await;
    assert!(!download.has_ended(), "the bit was corrupted after the transfer");
    assert_eq!(download.end("the download").await, Ok(Fetched::from(file)));
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_survives_a_corrupted_bit() {
    let file = DemoFile { seed: 7, size: 40_000_000 };
    let origin = target::origin(20_000_000).await;
    let (tunnel, relay, public) = Tunnel::through_a_relay(|_| {}, origin.addr).await;
    let upload = upload(public, file);
    tunnel
        .until("the middle of an upload", |snapshot| {
            snapshot.streams.iter().any(|stream| stream.up > file.size / 4)
        })
        .await;
    carrier(&relay).await.set(Wire::Flipped { least: 1000 });
    // The proxy detects it and reconnects the channel.
    soon("the channel is replaced", relay.connection(2)).await;
    assert!(!upload.has_ended(), "the bit was corrupted after the transfer");
    upload.end("the upload").await.unwrap();
    assert_eq!(tunnel.telemetry.totals().streams_failed, 0);
    tunnel.end().await;
}

/// Three cases in parallel, because each waits nine seconds for a keepalive timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keepalive_timeouts_close_dead_channels_only() {
    tokio::join!(
        a_dead_channel_is_found_and_the_download_goes_on(),
        a_proxy_whose_channels_are_all_dead_is_found_and_comes_back(ProxyFormat::Binary),
        a_proxy_whose_channels_are_all_dead_is_found_and_comes_back(ProxyFormat::Text),
        a_channel_is_not_dead_because_somebody_does_not_read(ProxyFormat::Binary),
        a_channel_is_not_dead_because_somebody_does_not_read(ProxyFormat::Text),
    );
}

async fn a_dead_channel_is_found_and_the_download_goes_on() {
    let file = DemoFile { seed: 5, size: 40_000_000 };
    let origin = target::origin(20_000_000).await;
    let (tunnel, relay, public) = Tunnel::through_a_relay(|_| {}, origin.addr).await;
    let download = download(public, file);
    tunnel
        .until("the middle of a download", |snapshot| {
            snapshot.streams.iter().any(|stream| stream.down > file.size / 4)
        })
        .await;
    carrier(&relay).await.set(Wire::Dead);
    let begin = Instant::now();
    let silent = |event: &EventKind| {
        matches!(event, EventKind::ChannelDisconnected { reason: DisconnectReason::KeepaliveTimeout, .. })
    };
    within(Duration::from_secs(10), "a dead channel is found", tunnel.event("silence", silent)).await;
    println!("a dead channel was found after {:.1?}", begin.elapsed());
    assert_eq!(download.end("the download").await, Ok(Fetched::from(file)));
    tunnel.end().await;
}

async fn a_proxy_whose_channels_are_all_dead_is_found_and_comes_back(format: ProxyFormat) {
    // A text proxy whose channel was blocked did not check the keepalive timeout and kept the dead channel for ever.
    let origin = target::origin(RATE).await;
    let mut tunnel = Tunnel::with(|config| config.grace_period = Duration::ZERO).await;
    let relay = Relay::to(tunnel.addr).await;
    let config =
        ProxyConfig { format, ..tunnel.proxy_config(origin.addr).with_server(relay.addr.to_string()) };
    let public = tunnel.proxy_with(config).await;
    let doomed = download(public, ENDLESS);
    tunnel.flowing(1).await;
    // Otherwise the first dead channel would be replaced before the second is detected, and the link would survive.
    let refusal = relay.refuse();
    for index in 0..relay.len() {
        relay.connection(index).await.set(Wire::Dead);
    }
    let begin = Instant::now();
    tunnel
        .until_within(Duration::from_secs(10), "the silence is noticed", |s| s.totals.streams_open == 0)
        .await;
    println!("{format:?}: a dead proxy was found after {:.1?}", begin.elapsed());
    is_reset(doomed).await;
    tunnel.until("the proxy is gone", |snapshot| snapshot.proxies.is_empty()).await;
    drop(refusal);
    tunnel
        .until("the proxy is back", |snapshot| {
            snapshot.proxies.len() == 1 && snapshot.proxies[0].services.len() == 1
        })
        .await;
    assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);
    tunnel.end().await;
}

/// Longer than the keepalive timeout of a channel.
const LONG_SILENCE: Duration = Duration::from_secs(12);

async fn a_channel_is_not_dead_because_somebody_does_not_read(format: ProxyFormat) {
    // A user that reads nothing, and a target that reads nothing.
    let (sender, deaf) = (target::send(ENDLESS).await, target::deaf().await);
    let mut tunnel = Tunnel::start().await;
    let from = tunnel.proxy(sender.addr, format).await;
    let to = tunnel.proxy(deaf.addr, format).await;
    let mut slow_user = TcpStream::connect(from).await.unwrap();
    let mut user = TcpStream::connect(to).await.unwrap();
    user.set_nodelay(true).unwrap();
    let upload = Running::start(async move {
        let mut offset = 0;
        while user.write_all(ENDLESS.bytes_from(offset)).await.is_ok() {
            offset += ENDLESS.bytes_from(offset).len() as u64;
        }
    });
    tunnel
        .until("a long silence", |snapshot| {
            snapshot.proxies.iter().flat_map(|proxy| &proxy.channels).all(|c| c.age > LONG_SILENCE)
        })
        .await;
    let gone = |event: &EventKind| {
        matches!(event, EventKind::ChannelDisconnected { .. } | EventKind::StreamEnded { .. })
    };
    assert!(!tunnel.events().iter().any(gone), "{format:?}: {:?}", tunnel.events());
    assert!(!upload.has_ended());
    // No byte is lost.
    let (mut offset, mut buffer) = (0, vec![0; 64 * 1024]);
    let reads = async {
        while offset < 20_000_000 {
            let expected = ENDLESS.bytes_from(offset);
            let bytes = &mut buffer[..expected.len()];
            slow_user.read_exact(bytes).await.unwrap();
            assert!(bytes == expected, "{format:?}: wrong bytes at {offset}");
            offset += expected.len() as u64;
        }
    };
    soon("what was held back", reads).await;
    // The target that does not read has unread bytes, so that its close is an RST.
    drop((slow_user, deaf));
    upload.end("the upload is refused").await;
    tunnel.end().await;
}
