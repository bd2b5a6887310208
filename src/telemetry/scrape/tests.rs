//! What series count, and that it never shrinks.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    ids::{ChannelId, ProxyId, StreamKey, UserChannelId},
    telemetry::{
        ChannelFormat, ChannelHealth, ChannelHealthSource, EndReason, ProxySeries, TcpInfo, Telemetry,
    },
};

/// A channel on which the kernel has retransmitted segments.
#[derive(Debug)]
struct Lossy(u64);

impl ChannelHealthSource for Lossy {
    fn health(&self) -> ChannelHealth {
        let tcp = TcpInfo { retransmitted_segments: self.0, ..TcpInfo::default() };
        ChannelHealth { tcp: Some(tcp), send_queue_bytes: 11, ..ChannelHealth::default() }
    }
}

/// Returns the series of the only proxy name.
fn proxy(hub: &Telemetry) -> ProxySeries {
    let [only] = &hub.series().proxies[..] else { panic!("{:?}", hub.series()) };
    only.clone()
}

#[test]
fn a_proxy_that_comes_back_continues_its_series() {
    let hub = Telemetry::new();
    let addr: SocketAddr = "192.0.2.1:1000".parse().unwrap();
    let id = UserChannelId::new(0xABC123);
    let service = hub.service_opened("8080".parse().unwrap());
    let user = hub.user_joined(id, addr.ip(), service.stats());
    let mut before = ProxySeries::default();
    for round in 1..=3 {
        let guard = hub.proxy_up(ProxyId(round), "lab".into(), addr);
        let channel_id = ChannelId { proxy: ProxyId(round), index: 1 };
        let channel = hub.channel_up(channel_id, addr, ChannelFormat::Binary);
        channel.stats().add_received(100);
        channel.stats().add_sent(10);
        channel.stats().set_health_source(Some(Arc::new(Lossy(5))));
        let stream = hub.stream_opened(StreamKey::new(id, round), addr, user.stats());
        stream.assigned(guard.stats(), channel.stats());
        stream.stats().add_down(7);
        let open = proxy(&hub);
        assert_eq!((open.connected, open.streams_open, open.channels, open.send_queue_bytes), (1, 1, 1, 11));
        assert!(open.down > before.down && open.received > before.received, "{open:?}");
        // The driver of the channel has ended before the channel is unregistered.
        channel.stats().set_health_source(None);
        stream.end(EndReason::Finished);
        drop(channel);
        drop(guard);
        let gone = proxy(&hub);
        let n = u64::from(round);
        assert_eq!((gone.connected, gone.streams_open, gone.channels), (0, 0, 0));
        assert_eq!((gone.links, gone.streams_assigned, gone.down), (n, n, 7 * n));
        assert_eq!((gone.received, gone.sent, gone.retransmitted_segments), (100 * n, 10 * n, 5 * n));
        before = gone;
    }
}

/// A stream that another proxy serves after all is no longer one of the first proxy, but was assigned to it.
#[test]
fn a_reassigned_stream_shrinks_no_counter() {
    let hub = Telemetry::new();
    let addr: SocketAddr = "192.0.2.1:1000".parse().unwrap();
    let id = UserChannelId::new(0xABC123);
    let service = hub.service_opened("8080".parse().unwrap());
    let user = hub.user_joined(id, addr.ip(), service.stats());
    let proxies = [1, 2].map(|n| hub.proxy_up(ProxyId(n), format!("p{n}"), addr));
    let channel = hub.channel_up(ChannelId { proxy: ProxyId(1), index: 1 }, addr, ChannelFormat::Binary);
    let stream = hub.stream_opened(StreamKey::new(id, 1), addr, user.stats());
    proxies.iter().for_each(|proxy| stream.assigned(proxy.stats(), channel.stats()));
    let counts: Vec<_> =
        hub.series().proxies.iter().map(|proxy| (proxy.streams_open, proxy.streams_assigned)).collect();
    assert_eq!(counts, [(0, 1), (1, 1)]);
    drop((stream, proxies));
}

#[test]
fn a_service_that_is_opened_again_continues_its_series() {
    let hub = Telemetry::new();
    let addr: SocketAddr = "192.0.2.1:1000".parse().unwrap();
    let id = UserChannelId::new(0xABC123);
    for round in 1..=2 {
        let service = hub.service_opened("8080".parse().unwrap());
        let user = hub.user_joined(id, addr.ip(), service.stats());
        let stream = hub.stream_opened(StreamKey::new(id, round), addr, user.stats());
        let proxy = hub.proxy_up(ProxyId(1), "lab".into(), addr);
        stream.stats().record_connect_latency(proxy.stats(), Duration::from_millis(3));
        stream.stats().add_up(50);
        stream.end(EndReason::NoProxy);
    }
    let series = hub.series();
    let [service] = &series.services[..] else { panic!("{series:?}") };
    assert_eq!((&*service.label, service.open, service.streams_open), ("8080:default", 0, 0));
    assert_eq!((service.streams_opened, service.streams_failed, service.up), (2, 2, 100));
    assert_eq!((service.connect.count(), service.connect.sum), (2, 6000));
    assert_eq!((service.stream_up.count(), service.stream_up.sum, service.duration.count()), (2, 100, 2));
    let ends: Vec<_> = series.ends.iter().filter(|ends| ends.count > 0).collect();
    assert!(matches!(&ends[..], [ends] if ends.reason == "no_proxy" && ends.count == 2), "{ends:?}");
}

/// Each reason has a place of its own, and a label that no other one has.
#[test]
fn every_reason_is_counted_apart() {
    let hub = Telemetry::new();
    EndReason::ALL.iter().for_each(|reason| hub.stream_ends.count(reason));
    let ends = hub.series().ends;
    assert!(ends.iter().all(|ends| ends.count == 1 && !ends.reason.is_empty()), "{ends:?}");
    let names: std::collections::BTreeSet<_> = ends.iter().map(|ends| &ends.reason).collect();
    assert_eq!(names.len(), EndReason::ALL.len());
    assert!(names.contains(&"target_connect_failed".to_owned()), "{names:?}");
    // The error lists all variants, so that none can be missing from the list that is counted by.
    let error = serde_json::from_value::<EndReason>("?".into()).unwrap_err().to_string();
    assert_eq!(error.matches('`').count() / 2, EndReason::COUNT + 1, "{error}");
}

/// A port is opened again while a download of its earlier service continues: nothing shrinks, and nothing is counted
/// twice.
#[test]
fn a_service_that_is_replaced_keeps_what_its_streams_have_carried() {
    let hub = Telemetry::new();
    let addr: SocketAddr = "192.0.2.1:1000".parse().unwrap();
    let id = UserChannelId::new(0xABC123);
    let earlier = hub.service_opened("8080".parse().unwrap());
    let user = hub.user_joined(id, addr.ip(), earlier.stats());
    let stream = hub.stream_opened(StreamKey::new(id, 1), addr, user.stats());
    stream.stats().add_down(100);
    let later = hub.service_opened("8080".parse().unwrap());
    let figures = |hub: &Telemetry| {
        let service = hub.series().services.remove(0);
        (service.open, service.streams_open, service.down)
    };
    assert_eq!(figures(&hub), (2, 1, 100));
    stream.end(EndReason::Finished);
    drop(user);
    drop(earlier);
    assert_eq!(figures(&hub), (1, 0, 100));
    drop(later);
    assert_eq!(figures(&hub), (0, 0, 100));
}
