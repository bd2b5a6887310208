//! Channels over TLS: everything that works without works, an unannounced end is a truncation, and a certificate can
//! be replaced while streams are open.

use crate::support::{
    Running,
    client::{Fetched, download, echoes, fetch, upload},
    relay::Wire,
    target,
    tunnel::{FORMATS, Tunnel},
};
use underpass::{
    cli::demo::DemoFile,
    config::{ChannelCount, ProxyConfig, ServerConfig},
    telemetry::{DisconnectReason, EventKind},
    tls::{Identity, ServerTls},
};

/// Rate limit of the target of a download that has to last, in bytes per second.
const RATE: u64 = 20_000_000;

/// Gives the server TLS.
fn encrypted(config: &mut ServerConfig) {
    config.tls = Some(ServerTls::self_signed().unwrap());
}

/// Returns the reasons of all channels that have ended.
fn ends(tunnel: &Tunnel) -> Vec<DisconnectReason> {
    let reason = |event| match event {
        EventKind::ChannelDisconnected { reason, .. } => Some(reason),
        _ => None,
    };
    tunnel.events().into_iter().filter_map(reason).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_formats_carry_downloads_uploads_and_many_streams_at_the_same_time() {
    for format in FORMATS {
        let file = DemoFile { seed: 5, size: 12_000_000 };
        let (origin, echo) = (target::origin(None).await, target::echo().await);
        let mut tunnel = Tunnel::with_tls().await;
        let public = tunnel.proxy(origin.addr, format).await;
        let echoing = tunnel.proxy(echo.addr, format).await;
        let (down, up) = (download(public, file), upload(public, file));
        let users: Vec<_> = (0..40u64)
            .map(|user| {
                Running::start(async move {
                    let file = DemoFile { seed: user, size: 1 + user * 977 };
                    echoes(echoing, file).await;
                })
            })
            .collect();
        for user in users {
            user.end("a user of the echo").await;
        }
        assert_eq!(down.end("the download").await, Ok(Fetched::from(file)));
        up.end("the upload").await.unwrap();
        for _ in 0..2 {
            tunnel.stop_proxy(0).await;
        }
        let ends = ends(&tunnel);
        assert!(!ends.contains(&DisconnectReason::Truncated), "an orderly end was not announced: {ends:?}");
        tunnel.end().await;
    }
}

/// The first channel ends with an RST, then both without an announcement, so that the link is resumed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_survives_a_truncated_channel_and_a_resumption() {
    let file = DemoFile { seed: 6, size: 30_000_000 };
    let origin = target::origin(RATE).await;
    let (tunnel, relay, public) = Tunnel::through_a_relay(encrypted, origin.addr).await;
    let download = download(public, file);
    tunnel.flowing(1).await;
    relay.connection(0).await.set(Wire::Cut);
    tunnel
        .until("both channels", |snapshot| relay.len() == 3 && snapshot.proxies[0].channels.len() == 2)
        .await;
    assert_eq!(ends(&tunnel), [DisconnectReason::Reset], "an RST is not a truncation");
    relay.set_all(Wire::Closed);
    tunnel.event("a resumption", |event| matches!(event, EventKind::ProxyResumed { .. })).await;
    assert!(!download.has_ended(), "it was cut too late to show anything");
    assert_eq!(download.end("the download").await, Ok(Fetched::from(file)));
    let ends = ends(&tunnel);
    assert!(ends.contains(&DisconnectReason::Truncated), "{ends:?}");
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_survives_a_changed_byte_which_ends_its_channel() {
    let file = DemoFile { seed: 7, size: 20_000_000 };
    let origin = target::origin(RATE).await;
    let (tunnel, relay, public) = Tunnel::through_a_relay(encrypted, origin.addr).await;
    let download = download(public, file);
    tunnel.flowing(1).await;
    relay.set_all(Wire::Flipped { least: 4096 });
    let is_lost = |event: &EventKind| {
        matches!(event, EventKind::ChannelDisconnected { reason: DisconnectReason::Tls(why), .. }
            if why.contains("decrypt"))
    };
    tunnel.event("a channel with a changed byte", is_lost).await;
    assert_eq!(download.end("the download").await, Ok(Fetched::from(file)));
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_channels_survive_a_replaced_certificate_and_new_ones_get_it() {
    let file = DemoFile { seed: 8, size: 4_000_000 };
    let origin = target::origin(RATE / 2).await;
    let (mut tunnel, relay, public) = Tunnel::through_a_relay(encrypted, origin.addr).await;
    let downloads: Vec<_> = (0..8).map(|_| download(public, file)).collect();
    tunnel.flowing(8).await;
    let tls = tunnel.tls.clone().unwrap();
    let before = tls.config();
    let pem = Identity::generate().unwrap();
    tls.replace(&Identity::from_pem(&pem, &pem).unwrap()).unwrap();
    assert!(!std::sync::Arc::ptr_eq(&before, &tls.config()));
    let config = ProxyConfig { channels: ChannelCount::Fixed(2), ..tunnel.proxy_config(origin.addr) };
    let other = tunnel.proxy_with(config).await;
    fetch(other, &file.path()).await.unwrap();
    for download in downloads {
        assert_eq!(download.end("a download").await, Ok(Fetched::from(file)));
    }
    assert_eq!((ends(&tunnel), relay.len()), (vec![], 2));
    tunnel.end().await;
}
