//! Guards restore every counter and report every end.

use std::{net::SocketAddr, time::Instant};

use tokio::sync::broadcast::error::TryRecvError;

use crate::{
    ids::{ChannelId, ProxyId, StreamKey, UserChannelId},
    telemetry::{
        ChannelFormat, EndReason, EventKind, MAX_LIFECYCLE_PER_SECOND, MAX_REFUSALS_PER_SECOND, StreamPhase,
        Telemetry, Totals,
    },
};

#[test]
fn all_counters_return_to_zero_and_every_end_is_reported() {
    let hub = Telemetry::new();
    let mut events = hub.subscribe();
    let addr: SocketAddr = "192.0.2.1:1000".parse().unwrap();
    let id = UserChannelId::new(0xABC123);
    {
        let service = hub.service_opened("8080".parse().unwrap());
        let proxy = hub.proxy_up(ProxyId(1), "lab".into(), addr);
        let channel = hub.channel_up(ChannelId { proxy: ProxyId(1), index: 1 }, addr, ChannelFormat::Binary);
        let user = hub.user_joined(id, addr.ip(), service.stats());
        let stream = hub.stream_opened(StreamKey::new(id, 1), addr, user.stats());
        stream.assigned(proxy.stats(), channel.stats());
        stream.stats().add_down(7);
        let forgotten = hub.stream_opened(StreamKey::new(id, 2), addr, user.stats());
        assert_eq!(hub.totals().streams_open, 2);
        assert_eq!(hub.snapshot().proxies[0].down, 7);
        let stats = forgotten.stats().clone();
        drop(forgotten);
        assert_eq!(stats.phase(), StreamPhase::Ended);
        assert_eq!(stats.ended(), Some(&EndReason::Internal));
        stream.end(EndReason::Finished);
    }
    let after = hub.snapshot();
    let expected = Totals { down: 7, streams_total: 2, streams_failed: 1, ..Totals::default() };
    assert_eq!(after.totals, expected);
    assert!(after.streams.is_empty() && after.users.is_empty() && after.proxies.is_empty());
    let mut ends = 0;
    while let Ok(event) = events.try_recv() {
        ends += usize::from(matches!(event.kind, EventKind::StreamEnded { .. }));
    }
    assert_eq!(ends, 2);
}

/// 3,000 streams begin and end at once: the events of some are suppressed, both of them, and every counter is exact.
#[test]
fn a_flood_of_streams_is_announced_in_part_and_counted_in_full() {
    const FLOOD: u32 = 3000;
    let hub = Telemetry::new();
    let mut events = hub.subscribe();
    let addr: SocketAddr = "192.0.2.1:1000".parse().unwrap();
    let id = UserChannelId::new(0xABC123);
    let begin = Instant::now();
    let service = hub.service_opened("8080".parse().unwrap());
    let user = hub.user_joined(id, addr.ip(), service.stats());
    let streams: Vec<_> =
        (1..=FLOOD).map(|n| hub.stream_opened(StreamKey::new(id, n), addr, user.stats())).collect();
    assert_eq!(hub.totals().streams_open, u64::from(FLOOD));
    streams.into_iter().for_each(|stream| stream.end(EndReason::ProxyGone));
    let seconds = begin.elapsed().as_secs() as usize + 1;
    let (mut opened, mut ended) = (Vec::new(), Vec::new());
    while let Ok(event) = events.try_recv() {
        match event.kind {
            EventKind::StreamOpened { key, .. } => opened.push(key),
            EventKind::StreamEnded { key, .. } => ended.push(key),
            _ => {}
        }
    }
    let max = MAX_LIFECYCLE_PER_SECOND as usize * seconds;
    assert!((1..=max).contains(&opened.len()), "{} in {seconds} s", opened.len());
    assert!(opened.iter().all(|key| ended.contains(key)), "the end of an announced stream is suppressed");
    assert!(ended.len() <= opened.len() + MAX_REFUSALS_PER_SECOND as usize * seconds, "{}", ended.len());
    let totals = hub.totals();
    let counted = (totals.streams_open, totals.streams_total, totals.streams_failed);
    assert_eq!(counted, (0, u64::from(FLOOD), u64::from(FLOOD)));
}

#[test]
fn further_services_and_proxies_have_no_series_of_their_own() {
    let hub = Telemetry::new();
    let services: Vec<_> =
        (1..=1001_u16).map(|port| hub.service_opened(port.to_string().parse().unwrap())).collect();
    let addr = "192.0.2.1:1000".parse().unwrap();
    let proxies: Vec<_> =
        (1..=501).map(|number| hub.proxy_up(ProxyId(number), format!("edge-{number}"), addr)).collect();
    let services: Vec<_> = services.iter().map(|service| &*service.stats().series.label).collect();
    let proxies: Vec<_> = proxies.iter().map(|proxy| &*proxy.stats().series.label).collect();
    assert_eq!(services[999..], ["1000:default", "other"]);
    assert_eq!(proxies[499..], ["edge-500", "other"]);
}

#[test]
fn a_receiver_that_takes_no_events_keeps_the_last_4096() {
    let hub = Telemetry::new();
    let mut events = hub.subscribe();
    for _ in 0..5000 {
        hub.emit(EventKind::Listening { addr: "192.0.2.1:7000".parse().unwrap() });
    }
    assert_eq!(events.try_recv().unwrap_err(), TryRecvError::Lagged(5000 - 4096));
    assert_eq!(std::iter::from_fn(|| events.try_recv().ok()).count(), 4096);
}
