//! A reused snapshot equals a new one, and no stream escapes a sampler that runs while streams open and close.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::{
    ids::{ChannelId, Direction, Priority, ProxyId, Rate, StreamKey, UserChannelId},
    telemetry::{ChannelFormat, Content, EndReason, Progress, Sampler, StreamPhase, Telemetry},
};

#[test]
fn a_reused_snapshot_equals_a_new_one() {
    let hub = Telemetry::new();
    let addr: SocketAddr = "192.0.2.1:1000".parse().unwrap();
    let id = UserChannelId::new(0xABC123);
    let service = hub.service_opened("8080".parse().unwrap());
    let user = hub.user_joined(id, addr.ip(), service.stats());
    let stream = hub.stream_opened(StreamKey::new(id, 1), addr, user.stats());
    let mut sampler = Sampler::default();
    sampler.sample(&hub, &[]);

    let proxy = hub.proxy_up(ProxyId(1), "lab".into(), addr);
    let channel = hub.channel_up(ChannelId { proxy: ProxyId(1), index: 1 }, addr, ChannelFormat::Binary);
    stream.assigned(proxy.stats(), channel.stats());
    let stats = stream.stats();
    stats.set_phase(StreamPhase::Open);
    stats.set_paused(true);
    stats.set_priority(Priority::High);
    stats.set_total_size(9);
    stats.add_up(1);
    stats.add_down(2);
    let body = Some(Progress { begun: 1, size: 5 });
    let content = Content::Http { method: "GET".into(), target: "/".into(), status: Some(200), body };
    stats.set_content(Arc::new(content));
    sampler.sample(&hub, &[]);
    assert_eq!(format!("{:?}", sampler.snapshot().streams), format!("{:?}", hub.snapshot().streams));
    assert_eq!(sampler.snapshot().streams[0].progress, body);
    assert!(sampler.snapshot().streams[0].paused);

    let later = hub.stream_opened(StreamKey::new(id, 2), addr, user.stats());
    let other = hub.user_joined(UserChannelId::new(1), addr.ip(), service.stats());
    later.stats().set_limit(Direction::Down, Rate::new(7));
    sampler.sample(&hub, &[]);
    stream.end(EndReason::Finished);
    sampler.sample(&hub, &[]);
    assert_eq!(format!("{:?}", sampler.snapshot().streams), format!("{:?}", hub.snapshot().streams));
    assert_eq!((sampler.snapshot().streams.len(), sampler.snapshot().users.len()), (1, 2));
    drop((other, later));
    sampler.sample(&hub, &[]);
    assert_eq!((sampler.snapshot().streams.len(), sampler.snapshot().users.len()), (0, 1));
}

/// A sampler that missed a stream would show totals that differ from the sum of its streams, until that one ends.
#[test]
fn a_sampler_misses_no_stream_that_opens_while_it_samples() {
    let hub = Telemetry::new();
    let addr: SocketAddr = "192.0.2.1:1000".parse().unwrap();
    let service = hub.service_opened("8080".parse().unwrap());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let openers: Vec<_> = (0..3)
            .map(|number| {
                let (hub, service) = (&hub, &service);
                scope.spawn(move || {
                    let user = hub.user_joined(UserChannelId::new(number), addr.ip(), service.stats());
                    let open = |stream| {
                        hub.stream_opened(StreamKey::new(user.stats().id, stream), addr, user.stats())
                    };
                    let kept: Vec<_> =
                        (0..2000).map(open).enumerate().filter(|(at, _)| at % 3 == 0).collect();
                    (user, kept)
                })
            })
            .collect();
        let sampler = scope.spawn(|| {
            let mut sampler = Sampler::default();
            while !done.load(Relaxed) {
                sampler.sample(&hub, &[]);
            }
            sampler
        });
        let kept: Vec<_> = openers.into_iter().map(|opener| opener.join().unwrap()).collect();
        done.store(true, Relaxed);
        let mut sampler = sampler.join().unwrap();
        sampler.sample(&hub, &[]);
        let mut keys: Vec<_> = sampler.snapshot().streams.iter().map(|stream| stream.key).collect();
        let mut wanted: Vec<_> =
            kept.iter().flat_map(|(_, kept)| kept).map(|(_, guard)| guard.stats().key).collect();
        keys.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(keys, wanted);
        assert_eq!(sampler.snapshot().totals.streams_open, wanted.len() as u64);
    });
}
