//! Paths that are long, interrupted, or change under the tunnel: nothing is lost, and the user sees a pause.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use crate::support::{
    client::{Fetched, download, fetch, upload},
    link::{Link, Shape, Wire as LinkWire},
    promised_second,
    relay::Wire,
    soon, target,
    tunnel::Tunnel,
    within,
};
use underpass::{
    cli::demo::DemoFile,
    config::{ChannelCount, ProxyConfig},
    telemetry::{DisconnectReason, EventKind, Snapshot},
};

/// Rate limit of the origin in bytes per second.
const RATE: u64 = 20_000_000;

/// Returns whether an event reports the end of a channel.
fn is_channel_end(event: &EventKind) -> bool {
    matches!(event, EventKind::ChannelDisconnected { .. })
}

/// Returns how many bytes the only stream has carried.
fn carried(snapshot: &Snapshot) -> u64 {
    snapshot.streams.iter().map(|stream| stream.down + stream.up).sum()
}

/// Waits until the only stream has carried `bytes`.
async fn halfway(tunnel: &Tunnel, bytes: u64) {
    tunnel.until("some of it has come", |snapshot| carried(snapshot) >= bytes).await;
}

/// Regression test: the handshake takes two RTTs, and the server gave it five seconds. A channel whose pings are
/// answered after 2.8 s was taken for dead after 2.5 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_rtt_of_seconds_delays_and_breaks_nothing() {
    let origin = target::origin(RATE).await;
    let mut tunnel = Tunnel::start().await;
    let link = Link::to(tunnel.addr, Shape::new(None, Duration::from_millis(1400))).await.unwrap();
    let config = ProxyConfig {
        channels: ChannelCount::Fixed(1),
        ..tunnel.proxy_config(origin.addr).with_server(link.addr.to_string())
    };
    let public = tunnel.proxy_with(config).await;
    let file = DemoFile { seed: 9, size: 1_000_000 };
    assert_eq!(download(public, file).end("a download").await, Ok(Fetched::from(file)));
    assert_eq!(tunnel.events().iter().filter(|event| is_channel_end(event)).count(), 0);
    tunnel.end().await;
}

/// The proxy's connections are black-holed for longer than the keepalive timeout, new ones too. Both TCP connections
/// are kept, because they continue at once when the path is back; the streams are not told of anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_path_continues_with_the_same_channels() {
    for is_upload in [false, true] {
        let file = DemoFile { seed: 10, size: 20_000_000 };
        let origin = target::origin(RATE).await;
        let mut tunnel = Tunnel::start().await;
        let link = Link::to(tunnel.addr, Shape::new(None, Duration::from_millis(5))).await.unwrap();
        let config = tunnel.proxy_config(origin.addr).with_server(link.addr.to_string());
        let public = tunnel.proxy_with(config).await;
        let down = (!is_upload).then(|| download(public, file));
        let up = is_upload.then(|| upload(public, file));
        halfway(&tunnel, file.size / 4).await;
        link.set_all(LinkWire::Dead);
        tokio::time::sleep(Duration::from_millis(3500)).await;
        let before = carried(&tunnel.telemetry.snapshot());
        link.set_all(LinkWire::Up);
        tunnel
            .until_within(promised_second(), "the transfer continues", |snapshot| carried(snapshot) > before)
            .await;
        if let Some(download) = down {
            assert_eq!(download.end("the download").await, Ok(Fetched::from(file)));
        }
        if let Some(upload) = up {
            upload.end("the upload").await.unwrap();
        }
        // A replacement whose handshake was under way when the path came back is closed again.
        let is_first = |event: &&EventKind| matches!(event, EventKind::ChannelDisconnected { channel, .. } if channel.index <= 2);
        assert_eq!(tunnel.events().iter().find(is_first), None);
        tunnel.end().await;
    }
}

/// Regression test: a silent channel was replaced only after the keepalive timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_channel_is_replaced_before_it_times_out() {
    let file = DemoFile { seed: 11, size: 40_000_000 };
    let origin = target::origin(RATE).await;
    let (tunnel, relay, public) = Tunnel::through_a_relay(|_| {}, origin.addr).await;
    let download = download(public, file);
    halfway(&tunnel, file.size / 4).await;
    let both = [relay.connection(0).await, relay.connection(1).await];
    let carrier = both.into_iter().max_by_key(|connection| connection.carried()).unwrap();
    carrier.set(Wire::Dead);
    let begin = Instant::now();
    soon("a replacement", relay.connection(2)).await;
    let lost = |event: &EventKind| {
        matches!(event, EventKind::ChannelDisconnected { reason: DisconnectReason::KeepaliveTimeout, .. })
    };
    // The proxy tells the server on another channel: the dead connection carries neither FIN nor RST.
    within(2 * promised_second(), "the server closes it, too", tunnel.event("its end", lost)).await;
    println!("a silent channel was replaced at both ends after {:.1?}", begin.elapsed());
    assert_eq!(download.end("the download").await, Ok(Fetched::from(file)));
    tunnel.end().await;
}

/// The host gets another address: its connections are dead in both directions without a FIN or an RST, and new ones
/// come from the new address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_address_is_a_pause() {
    for is_upload in [false, true] {
        let file = DemoFile { seed: 12, size: 30_000_000 };
        let origin = target::origin(RATE).await;
        let (tunnel, relay, public) = Tunnel::through_a_relay(|_| {}, origin.addr).await;
        let down = (!is_upload).then(|| download(public, file));
        let up = is_upload.then(|| upload(public, file));
        halfway(&tunnel, file.size / 4).await;
        relay.comes_from(Ipv4Addr::new(127, 0, 0, 9));
        relay.set_all(Wire::Dead);
        let begin = Instant::now();
        soon("new channels", relay.connection(3)).await;
        println!("upload {is_upload}: new channels after {:.1?}", begin.elapsed());
        if let Some(download) = down {
            assert_eq!(download.end("the download").await, Ok(Fetched::from(file)));
        }
        if let Some(upload) = up {
            upload.end("the upload").await.unwrap();
        }
        println!("upload {is_upload}: complete after {:.1?}", begin.elapsed());
        let proxies = |event: &&EventKind| matches!(event, EventKind::ProxyConnected { .. });
        assert_eq!(tunnel.events().iter().filter(proxies).count(), 1, "it is still the same proxy");
        assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);
        tunnel.end().await;
    }
}
