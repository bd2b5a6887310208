//! Resumption: a proxy that has lost every channel reconnects to its link, and its streams continue at their offsets.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use crate::support::{
    client::{Download, Fetched, download, fetch, is_reset, is_reset_within, upload},
    promised_second,
    relay::{Relay, Wire},
    soon, target,
    tunnel::Tunnel,
    within,
};
use underpass::{
    cli::demo::DemoFile,
    control::{Command, Executed},
    telemetry::{Bottleneck, DisconnectReason, EndReason, EventKind, Snapshot},
};

const SECOND: Duration = Duration::from_secs(1);

/// A file that is larger than what a test downloads.
const ENDLESS: DemoFile = DemoFile { seed: 1, size: 1 << 36 };

/// Rate limit of the origin in bytes per second.
const RATE: u64 = 20_000_000;

/// Returns whether the only proxy has no channel.
fn is_disconnected(snapshot: &Snapshot) -> bool {
    snapshot.proxies.iter().any(|proxy| proxy.grace_remaining.is_some() && proxy.channels.is_empty())
}

/// Returns whether an event reports a resumed link.
fn resumed(event: &EventKind) -> bool {
    matches!(event, EventKind::ProxyResumed { .. })
}

/// Waits until the only stream has downloaded `bytes`.
async fn halfway(tunnel: &Tunnel, bytes: u64) {
    let far = |snapshot: &Snapshot| snapshot.streams.iter().any(|stream| stream.down + stream.up >= bytes);
    tunnel.until("some of it has come", far).await;
}

fn count(tunnel: &Tunnel, wanted: impl Fn(&EventKind) -> bool) -> usize {
    tunnel.events().iter().filter(|event| wanted(event)).count()
}

/// Starts a tunnel whose proxy has lost its channels and cannot reconnect, and an endless download that waits.
async fn disconnected(
    grace: Duration,
) -> (Tunnel, Relay, SocketAddr, target::OriginTarget, Download, impl Drop) {
    let origin = target::origin(RATE).await;
    let (tunnel, relay, public) =
        Tunnel::through_a_relay(|config| config.grace_period = grace, origin.addr).await;
    let download = download(public, ENDLESS);
    tunnel.flowing(1).await;
    let refusal = relay.refuse();
    relay.set_all(Wire::Closed);
    tunnel.until("the proxy has lost its channels", is_disconnected).await;
    (tunnel, relay, public, origin, download, refusal)
}

/// The proxy reconnects from another address each time, as after a change of its network. The channels are reset or
/// closed in turn; both are detected at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_survives_the_loss_of_all_channels_ten_times() {
    let file = DemoFile { seed: 2, size: 60_000_000 };
    let origin = target::origin(RATE).await;
    let (tunnel, relay, public) = Tunnel::through_a_relay(|_| {}, origin.addr).await;
    let download = download(public, file);
    for round in 0..10 {
        halfway(&tunnel, file.size / 12 * (round + 1)).await;
        relay.comes_from(Ipv4Addr::new(127, 0, 0, 2 + round as u8));
        relay.set_all(if round % 2 == 0 { Wire::Cut } else { Wire::Closed });
        tunnel.until("it is back", |_| count(&tunnel, resumed) > round as usize).await;
        assert!(!download.has_ended(), "it was cut too late to show anything");
    }
    assert_eq!(download.end("the download").await, Ok(Fetched::from(file)));
    assert_eq!(
        count(&tunnel, |event| matches!(event, EventKind::ProxyConnected { .. })),
        1,
        "it is still the same"
    );
    tunnel.until("both channels", |snapshot| snapshot.proxies[0].channels.len() == 2).await;
    let addr = tunnel.telemetry.snapshot().proxies[0].channels[0].addr;
    assert_ne!(addr.ip(), Ipv4Addr::LOCALHOST, "the relay did not move it");
    tunnel.end().await;
}

/// Regression test: a proxy whose channels were all reset discarded its streams after a second and registered again,
/// and their users waited for half a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_survives_two_seconds_without_its_relay() {
    let file = DemoFile { seed: 4, size: 40_000_000 };
    let origin = target::origin(RATE).await;
    let (tunnel, relay, public) = Tunnel::through_a_relay(|_| {}, origin.addr).await;
    let download = download(public, file);
    halfway(&tunnel, file.size / 3).await;
    let refusal = relay.refuse();
    let begin = Instant::now();
    relay.set_all(Wire::Killed);
    tunnel.until("the proxy has lost its channels", is_disconnected).await;
    tokio::time::sleep(2 * SECOND).await;
    drop(refusal);
    tunnel.event("it is back", resumed).await;
    let flow = tunnel.stats_of(&tunnel.telemetry.snapshot().streams[0]).details().expect("it flows");
    let waited = flow.bottleneck_times.of(Bottleneck::Channel);
    assert!((2 * SECOND..=begin.elapsed()).contains(&waited), "it was not held by the channel: {waited:?}");
    assert_eq!(download.end("the download").await, Ok(Fetched::from(file)));
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_resumes_at_its_offset() {
    let file = DemoFile { seed: 3, size: 30_000_000 };
    let origin = target::origin(RATE).await;
    let (tunnel, relay, public) = Tunnel::through_a_relay(|_| {}, origin.addr).await;
    let upload = upload(public, file);
    halfway(&tunnel, file.size / 3).await;
    relay.set_all(Wire::Cut);
    tunnel.event("it is back", resumed).await;
    assert!(!upload.has_ended(), "it was cut too late to show anything");
    upload.end("the upload").await.unwrap();
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_grace_time_streams_are_reset_at_both_ends() {
    let begin = Instant::now();
    let (tunnel, _relay, public, origin, download, refusal) = disconnected(2 * SECOND).await;
    is_reset_within(4 * SECOND, download).await;
    let took = begin.elapsed();
    assert!(took >= 2 * SECOND, "the grace time was not kept: {took:?}");
    origin.when_open(0, 3 * SECOND).await;
    let ended =
        |event: &EventKind| matches!(event, EventKind::StreamEnded { reason: EndReason::ProxyGone, .. });
    tunnel.event("the end of the stream", ended).await;
    tunnel.until("the proxy is gone", |snapshot| snapshot.proxies.is_empty()).await;
    drop(refusal);
    // The running proxy learns that its link has expired, and registers again.
    let back = |snapshot: &Snapshot| snapshot.proxies.iter().any(|proxy| !proxy.services.is_empty());
    tunnel.until("the proxy is back", back).await;
    assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);
    tunnel.end().await;
}

/// A command takes effect at the server at once, and at the proxy when it reconnects.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_a_channel_can_be_killed() {
    let (tunnel, _relay, public, origin, download, refusal) = disconnected(30 * SECOND).await;
    let key = tunnel.telemetry.snapshot().streams[0].key;
    assert_eq!(tunnel.order(Command::KillStream(key)).await, Ok(Executed { affected_streams: 1 }));
    within(promised_second(), "the user's end", is_reset(download)).await;
    assert_eq!(origin.open(), 1, "the proxy is disconnected and cannot know yet");
    drop(refusal);
    origin.when_open(0, 5 * SECOND).await;
    assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnected_proxy_can_be_kicked() {
    let (tunnel, _relay, _, _origin, download, refusal) = disconnected(30 * SECOND).await;
    let id = tunnel.telemetry.snapshot().proxies[0].id;
    assert_eq!(tunnel.order(Command::KickProxy(id)).await, Ok(Executed { affected_streams: 1 }));
    within(promised_second(), "the user's end", is_reset(download)).await;
    let kicked = |event: &EventKind| matches!(event, EventKind::ProxyDisconnected { proxy, reason: DisconnectReason::Kicked, .. } if *proxy == id);
    tunnel.event("the end of the proxy", kicked).await;
    drop(refusal);
    let another =
        |event: &EventKind| matches!(event, EventKind::ProxyConnected { proxy, .. } if *proxy != id);
    tunnel.event("the proxy comes as another", another).await;
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_shuts_down_does_not_wait_for_reconnects() {
    let (mut tunnel, _relay, _, _origin, download, _refusal) = disconnected(30 * SECOND).await;
    let begin = Instant::now();
    let report = tunnel.stop_server().await;
    assert_eq!(report.aborted_streams, 1);
    assert!(begin.elapsed() < 5 * SECOND, "{:?}", begin.elapsed());
    is_reset(download).await;
}

/// A server that has not detected the loss of the old channels resumes the link and closes them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reconnect_before_the_server_detects_the_loss_resumes_the_link() {
    let file = DemoFile { seed: 4, size: 40_000_000 };
    let origin = target::origin(RATE).await;
    let (tunnel, relay, public) = Tunnel::through_a_relay(|_| {}, origin.addr).await;
    let download = download(public, file);
    halfway(&tunnel, file.size / 4).await;
    relay.set_all(Wire::HalfOpen);
    let replaced = |event: &EventKind| {
        matches!(event, EventKind::ChannelDisconnected { reason: DisconnectReason::Replaced, .. })
    };
    soon("the old channels are let go", tunnel.event("a channel that was replaced", replaced)).await;
    assert_eq!(download.end("the download").await, Ok(Fetched::from(file)));
    tunnel.end().await;
}
