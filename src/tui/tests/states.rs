//! States that need more than streams: limits, weights, latencies, a closed port, an outage.

use std::{sync::Arc, time::Duration};

use super::{
    fixture::{Fixture, addr},
    screens::text_of,
};
use crate::{
    ids::{Direction, Operator, Policy, ProxyId, Rate},
    telemetry::{
        Bottleneck, BottleneckTimes, ChannelState, CommandOutcome, EndReason, EventKind, Latencies,
        LatencySummary, Snapshot, StreamDetails, TcpInfo,
    },
};

const TICK: Duration = Duration::from_millis(100);

/// Adds what the kernel and the server measure and the hub of the test does not.
fn add_measurements(snapshot: &mut Snapshot) {
    let latency = |p50: u64| {
        let mut bars = [0; LatencySummary::BARS];
        bars[5..11].copy_from_slice(&[3, 40, 180, 90, 12, 1]);
        let ms = Duration::from_millis;
        LatencySummary {
            count: 326,
            p50: ms(p50),
            p90: ms(p50 * 3),
            p99: ms(p50 * 9),
            max: ms(p50 * 20),
            bars,
        }
    };
    let all = Latencies { connect: latency(12), time_to_first_byte: latency(45), queue_wait: latency(2) };
    for service in &mut snapshot.services {
        service.latency = Arc::new(all);
    }
    for proxy in &mut snapshot.proxies {
        proxy.latency = Arc::new(all);
        for channel in &mut proxy.channels {
            channel.last_rtt = Some(Duration::from_micros(12_400));
            channel.rtt_summary = Arc::new(latency(11));
            (channel.send_queue_bytes, channel.chunk_size) = (120_000, 16_384);
            channel.tcp = Some(TcpInfo {
                smoothed_rtt: Duration::from_micros(12_900),
                rtt_deviation: Duration::from_micros(800),
                min_rtt: Duration::from_micros(10_200),
                retransmitted_segments: 3,
                delivery_rate: 24_300_000,
                unsent_bytes: 14_000,
                acknowledged_bytes: 9_000_000,
                last_ack_age: Duration::from_millis(3),
                received_segments: 2_000,
                bytes_in_flight: 248_000,
                congestion_window: 310_000,
            });
            channel.state = if proxy.id == ProxyId(2) { ChannelState::Stalled } else { ChannelState::Up };
        }
    }
}

/// Returns a busy server with limits, weights, a policy and a draining proxy.
fn steered(width: u16, height: u16) -> Fixture {
    let mut fixture = Fixture::busy(width, height);
    fixture.adjust_snapshot = add_measurements;
    let service = fixture.service.stats().clone();
    service.set_policy(Policy::Weighted);
    service.limits.set(Direction::Down, Rate::new(200_000_000));
    let [(first, _), (second, _)] = fixture.proxies.as_slice() else { panic!("two proxies are up") };
    first.stats().set_weight(3);
    first.stats().limits.set(Direction::Up, Rate::new(1_500_000));
    second.stats().set_draining(true);
    fixture.proxy("edge-lon");
    fixture.users[1].stats().limits.set(Direction::Down, Rate::new(50_000_000));
    for stream in &fixture.streams {
        if stream.stats().key.user == fixture.users[1].stats().id {
            stream.stats().set_limit(Direction::Down, Rate::new(10_000_000));
        }
    }
    fixture.tick(TICK);
    fixture
}

fn flow() -> StreamDetails {
    let mut stalls = BottleneckTimes::default();
    stalls.add(Bottleneck::User, Duration::from_millis(1300));
    stalls.add(Bottleneck::Channel, Duration::from_millis(40));
    StreamDetails {
        download_window: 4_194_304,
        upload_window: 262_144,
        download_buffered: 1_200_000,
        upload_buffered: 0,
        download_in_flight: 0,
        upload_in_flight: 65_536,
        download_bottleneck: Some(Bottleneck::Limit),
        upload_bottleneck: None,
        bottleneck_times: stalls,
        failovers: 2,
        retransmitted_bytes: 131_072,
        connect_latency: Some(Duration::from_millis(12)),
        time_to_first_byte: Some(Duration::from_millis(48)),
    }
}

#[test]
fn limits_weights_and_policies_are_shown() {
    const ALL: [(&str, &str); 8] = [
        ("streams", "1"),
        ("bytes", "1b"),
        ("detail", "1jj>"),
        ("proxies", "2>"),
        ("services", "2G"),
        ("sessions", "3j>j"),
        ("limit", "1jjl"),
        ("policy", "2GP"),
    ];
    let usual = ALL.into_iter().map(|screen| (screen, (120, 36)));
    let small = ALL
        .into_iter()
        .filter(|(name, _)| matches!(*name, "detail" | "proxies"))
        .map(|screen| (screen, (80, 24)));
    for ((screen, keys), (width, height)) in usual.chain(small) {
        let mut fixture = steered(width, height);
        fixture.press(keys);
        if let Some(detail) = &mut fixture.model.detail_screen.open {
            detail.flow = Some(flow());
        }
        insta::assert_snapshot!(format!("steered_{screen}_{width}x{height}"), text_of(&fixture));
    }
    // Limits, prompts and policies are shown on smaller terminals too.
    for (width, height) in [(80, 24), (40, 12)] {
        for (keys, shown) in
            [("1jjl", "limit "), ("2GP", "policy of :8080"), ("2", "STREAMS"), ("2", "drain")]
        {
            let mut fixture = steered(width, height);
            fixture.press(keys);
            assert!(fixture.text().contains(shown), "{width}x{height} {keys}: {}", fixture.text());
        }
    }
}

#[test]
fn the_detail_screen_shows_bottleneck_and_policy() {
    let mut fixture = steered(120, 36);
    fixture.press("jj>");
    // The flow section is empty until the first details arrive.
    assert!(!fixture.text().contains("bottleneck"));
    fixture.model.detail_screen.open.as_mut().unwrap().flow = Some(flow());
    let what = format!("pause stream {}", fixture.selected().unwrap());
    for what in [what, "pause stream 1674DC:31".to_owned()] {
        fixture.hub.emit(EventKind::OperatorActed {
            what,
            by: Operator::Cockpit,
            outcome: CommandOutcome::Done(1),
        });
    }
    fixture.tick(TICK);
    let text = fixture.text();
    assert_eq!(text.matches("operator:").count(), 1, "an action on another stream is not shown: {text}");
    for part in [
        "weighted among 3, weight 3 = 75%",
        "bottleneck  rate limit       none",
        "limited by   user 1.3s ",
        "failovers 2 · resent 131KB",
        "connected in 12ms  TTFB 48ms  HTTP 200",
        "proxy ↑1.5M, service ↓200M",
        "TTFB edge-fra      326  45ms 135ms 405ms       ▁▂▇▄▁▁",
        "operator: pause stream",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_chart_begins_with_the_trend_of_the_row() {
    let mut fixture = Fixture::busy(120, 36);
    for _ in 0..40 {
        for stream in &fixture.streams {
            stream.stats().add_down(100_000);
        }
        fixture.tick(TICK);
    }
    fixture.press("j>");
    let row = fixture.model.selected().unwrap().1;
    let (total, known) = (row.counters.down, row.trend.len());
    assert!(known >= 4, "{known}");
    let history = &fixture.model.shown_detail().unwrap().history;
    let seconds: Vec<f64> = history.points(30, 30).into_iter().flatten().map(|(down, _)| down).collect();
    assert!(seconds.len() >= known - 1, "{seconds:?}");
    assert!(seconds.iter().sum::<f64>() <= total as f64, "{seconds:?}");
    assert!(seconds.iter().skip(2).all(|second| *second > 900_000.0), "{seconds:?}");
    assert!(fixture.text().contains("▎ Throughput"));
}

#[test]
fn streams_of_a_reconnecting_proxy_show_the_remaining_grace_period() {
    for (width, height) in [(120, 36), (80, 24), (40, 12)] {
        for (screen, keys) in [("streams", "1"), ("detail", "1j>"), ("proxies", "2")] {
            let mut fixture = Fixture::busy(width, height);
            fixture.adjust_snapshot = |snapshot| {
                let proxies = snapshot.proxies.iter_mut().filter(|proxy| proxy.id == ProxyId(2));
                for proxy in proxies {
                    proxy.grace_remaining = Some(Duration::from_millis(21_500));
                    proxy.channels.clear();
                }
            };
            for stream in &fixture.streams {
                if stream.stats().proxy().is_some_and(|proxy| proxy.id == ProxyId(2)) {
                    stream.stats().set_channel(None);
                }
            }
            fixture.tick(TICK);
            fixture.press(keys);
            if width == 120 || (width == 80 && screen == "streams") {
                insta::assert_snapshot!(format!("waiting_{screen}_{width}x{height}"), text_of(&fixture));
            }
            let text = fixture.text();
            let shown = ["WAIT", "reconnecting", "none left"].iter().any(|part| text.contains(part));
            assert!(shown, "{screen} {width}x{height}: {text}");
        }
    }
}

#[test]
fn the_detail_screen_shows_an_outage_that_the_stream_survived() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.press("j>");
    let proxy = fixture.model.selected().and_then(|(_, row)| row.proxy).expect("it has a proxy");
    let is_shown = |fixture: &mut Fixture, proxy: ProxyId| {
        fixture.hub.emit(EventKind::GracePeriodStarted { proxy, grace: Duration::from_secs(30) });
        fixture.hub.emit(EventKind::ProxyResumed { proxy, after: Duration::from_millis(11_800) });
        fixture.tick(TICK);
        fixture.text().contains("reconnected after 11.8s; its streams resumed")
    };
    assert!(!is_shown(&mut fixture, ProxyId(99)), "the event is about another proxy");
    assert!(is_shown(&mut fixture, proxy), "{}", fixture.text());
}

/// Returns a server with a public port that closed, and a proxy that was refused one.
fn lost(width: u16, height: u16) -> Fixture {
    let mut fixture = Fixture::busy(width, height);
    let other = fixture.hub.service_opened("9090:blue".parse().unwrap());
    fixture.tick(TICK);
    drop(other);
    let late = fixture.hub.proxy_up(ProxyId(9), "late".into(), addr("192.0.2.9:4000"));
    fixture.tick(TICK);
    let reason = "port 443 is in use on the server".to_owned();
    fixture.hub.emit(EventKind::RegistrationRefused { proxy: ProxyId(9), name: "lab".into(), reason });
    fixture.tick(TICK);
    // The proxy stays connected until the test ends.
    std::mem::forget(late);
    fixture
}

/// Asserts that no screen calls the proxy `lab` up.
fn assert_not_up(fixture: &mut Fixture, step: &str) {
    for screen in ["1", "3", "2>", "2>"] {
        fixture.press(screen);
        let text = fixture.text();
        assert!(!text.contains("Proxies  1 up"), "{step} {screen}: {text}");
        for line in text.lines().filter(|line| line.contains("lab")) {
            assert!(!line.contains(" up ") && !line.contains("├━"), "{step} {screen}: {text}");
        }
    }
}

/// A proxy that joins, was refused its port, or has left after that, serves no users.
#[test]
fn a_proxy_that_was_refused_its_port_is_never_shown_as_up() {
    for (width, height) in [(200, 50), (120, 36), (80, 24), (60, 15)] {
        let mut fixture = Fixture::empty(width, height);
        let proxy = fixture.hub.proxy_up(ProxyId(1), "lab".into(), addr("192.0.2.9:4000"));
        fixture.tick(TICK);
        assert_not_up(&mut fixture, "joining");
        let reason = "port 443 is in use on the server".to_owned();
        fixture.hub.emit(EventKind::RegistrationRefused { proxy: ProxyId(1), name: "lab".into(), reason });
        fixture.tick(TICK);
        assert_not_up(&mut fixture, "refused");
        let text = fixture.text();
        assert!(text.contains("0 up, 1 without a port"), "{text}");
        assert!(text.contains("lab") && text.contains("has no public port: port 443"), "{text}");
        drop(proxy);
        fixture.tick(TICK);
        assert_not_up(&mut fixture, "gone");
        assert!(fixture.text().contains("lab") && fixture.text().contains("disconnected"));
    }
}

#[test]
fn a_closed_port_is_shown_on_every_screen() {
    for (width, height) in [(120, 36), (80, 24), (40, 12)] {
        for (screen, keys) in [("streams", "1"), ("proxies", "2G")] {
            let mut fixture = lost(width, height);
            fixture.press(keys);
            if width > 40 {
                insta::assert_snapshot!(format!("lost_{screen}_{width}x{height}"), text_of(&fixture));
            }
            // The smallest streams screen has no room for it; its proxies screen has.
            let is_shown = fixture.text().contains("9090");
            assert!(is_shown || (width == 40 && screen == "streams"), "{}", fixture.text());
        }
    }
    let mut fixture = lost(120, 36);
    assert_eq!(fixture.notice(), "registration of late refused: port 443 is in use on the server");
    for screen in ["1", "2", "3", "4"] {
        fixture.press(screen);
        assert!(fixture.text().contains("port 9090 closed"), "{}", fixture.text());
    }
    // The port opens again.
    let again = fixture.hub.service_opened("9090:blue".parse().unwrap());
    fixture.tick(TICK);
    assert!(!fixture.text().contains("9090 closed"), "{}", fixture.text());
    drop(again);
    fixture.tick(TICK);
    assert_eq!(fixture.notice(), "port 9090 closed: no proxy serves it");
    fixture.tick(Duration::from_secs(601));
    assert!(!fixture.text().contains("port 9090"), "it is removed after a while");
}

#[test]
fn a_disconnected_proxy_stays_for_a_while_with_the_reason() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.press("2");
    fixture.tick(Duration::from_secs(65));
    let text = fixture.text();
    assert!(text.contains("disconnected 1m05 ago: closed the connection; "), "{text}");
    fixture.tick(Duration::from_secs(600));
    assert!(!fixture.text().contains("disconnected"), "{}", fixture.text());
}

/// Of a flood of streams, some events are suppressed. Snapshots tell the rest: every open stream has a row, and no row
/// stays open after its stream has ended.
#[test]
fn suppressed_events_leave_no_ghost_rows() {
    const FLOOD: usize = 1500;
    let mut fixture = Fixture::empty(120, 36);
    fixture.proxy("lab");
    fixture.tick(TICK);
    for n in 1..=FLOOD {
        fixture.open(0xABC123, n as u32);
    }
    fixture.deliver_events();
    assert!(fixture.model.live.streams.open_count() < FLOOD, "no event was suppressed");
    fixture.tick(TICK);
    assert_eq!(fixture.model.live.streams.open_count(), FLOOD);
    fixture.streams.drain(..).for_each(|stream| stream.end(EndReason::ProxyGone));
    for _ in 0..3 {
        fixture.tick(TICK);
    }
    assert_eq!(fixture.model.live.streams.open_count(), 0);
    assert!(fixture.text().contains("0 open"), "{}", fixture.text());
    assert!(fixture.text().contains("1,500 failed"), "{}", fixture.text());
}

/// Refusals are on the screen that is about those refused, the last one with its reason; the streams screen has the
/// counts.
#[test]
fn refused_users_and_failed_handshakes_are_counted_with_the_last_reason() {
    let mut fixture = Fixture::busy(120, 36);
    assert!(!fixture.text().contains("refused"), "{}", fixture.text());
    let service = fixture.service.stats().key.clone();
    let reason = "203.0.113.9 has its maximum of 4 open connections (option --max-streams-per-address)";
    for port in 0..150 {
        let addr = addr(&format!("203.0.113.9:{}", 5000 + port));
        fixture.hub.emit(EventKind::UserRejected { addr, service: service.clone(), reason: reason.into() });
        let reason = "wrong token".to_owned();
        fixture.hub.emit(EventKind::HandshakeFailed { addr, reason, is_refusal: true });
    }
    fixture.tick(TICK);
    assert!(fixture.text().contains(" · 150 refused"), "{}", fixture.text());
    fixture.press("2");
    assert!(fixture.text().contains("150 handshakes failed: 203.0.113.9 wr"), "{}", fixture.text());
    fixture.press("3");
    let refused = "150 refused: 203.0.113.9 has its maximum of 4 open connections";
    assert!(fixture.text().contains(refused), "{}", fixture.text());
    // The count has precedence over the reason.
    fixture.resize(60, 24);
    assert!(fixture.text().contains("150 refused"), "{}", fixture.text());
}
