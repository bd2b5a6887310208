//! From keys and commands to orders that change how streams are carried.

use std::time::Duration;

use super::fixture::{Fixture, key};
use crate::{
    control::{Command, CommandError, Executed, LimitScope},
    ids::{Direction, Policy, ProxyId, Rate, RateLimits, ServiceKey},
    tui::{
        command_id::CommandId,
        model::{LoadMeasure, Overlay, ScreenId},
        msg::{Effect, Msg},
        terminal::{Key, KeyCode},
    },
};

const TICK: Duration = Duration::from_millis(100);

/// Two streams of one user on one proxy.
fn two() -> Fixture {
    let mut fixture = Fixture::empty(120, 36);
    fixture.proxy("lab");
    for stream in 1..=2 {
        let index = fixture.open(0xABC123, stream);
        fixture.assign(index, 0);
    }
    for _ in 0..20 {
        fixture.streams[0].stats().add_down(9_000_000);
        fixture.streams[1].stats().add_down(500_000);
        fixture.tick(TICK);
    }
    fixture
}

/// Answers a command with success.
fn executed(fixture: &mut Fixture, id: u64) {
    fixture.send(Msg::Replied(CommandId(id), Ok(Executed { affected_streams: 1 })));
}

/// Of an attached cockpit, states and replies come on two connections: a state from before the command showed the row
/// as open once more, and `p` in that time paused the stream again.
#[test]
fn a_row_keeps_what_the_operator_has_set_until_a_state_has_it() {
    let mut fixture = two();
    let selected = fixture.selected().unwrap();
    let at = fixture.streams.iter().position(|stream| stream.stats().key == selected).unwrap();
    let pause = Effect::SendCommand(CommandId(1), Command::PauseStream(selected));
    assert_eq!(fixture.press("p"), [pause]);
    for _ in 0..3 {
        fixture.tick(TICK);
        assert!(fixture.text().contains("PAUSED"), "before the reply: {}", fixture.text());
    }
    executed(&mut fixture, 1);
    for _ in 0..3 {
        fixture.tick(TICK);
        assert!(fixture.text().contains("PAUSED"), "after the reply: {}", fixture.text());
    }
    fixture.streams[at].stats().set_paused(true);
    fixture.tick(TICK);
    // From here on the server is right: another operator resumes the stream.
    fixture.streams[at].stats().set_paused(false);
    fixture.tick(TICK);
    assert!(!fixture.text().contains("PAUSED"), "{}", fixture.text());
    // Another operator does so before any state of this cockpit had it.
    fixture.press("p");
    executed(&mut fixture, 2);
    for _ in 0..12 {
        fixture.tick(TICK);
    }
    assert!(!fixture.text().contains("PAUSED"), "{}", fixture.text());
    // A command that failed changes nothing.
    fixture.press("p");
    fixture.send(Msg::Replied(CommandId(3), Err(CommandError::NotFound)));
    fixture.tick(TICK);
    assert!(!fixture.text().contains("PAUSED"), "{}", fixture.text());
}

#[test]
fn a_limit_of_both_directions_is_kept_until_the_last_reply() {
    let mut fixture = two();
    assert_eq!(fixture.press(":limit 1M>").len(), 2);
    let limits = |fixture: &Fixture| fixture.model.selected().unwrap().1.limits;
    executed(&mut fixture, 1);
    fixture.tick(TICK);
    assert_eq!(limits(&fixture).down, Rate::new(1_000_000));
    executed(&mut fixture, 2);
    fixture.tick(TICK);
    assert_eq!(limits(&fixture).up, Rate::new(1_000_000));
    for _ in 0..12 {
        fixture.tick(TICK);
    }
    assert_eq!(limits(&fixture), RateLimits::default(), "the server has none");
}

fn limit(id: u64, scope: LimitScope, direction: Direction, rate: Option<u64>) -> Effect {
    Effect::SendCommand(CommandId(id), Command::SetLimit(scope, direction, rate.and_then(Rate::new)))
}

fn stream(number: u32) -> LimitScope {
    LimitScope::Stream(key(0xABC123, number))
}

fn service() -> ServiceKey {
    "8080".parse().unwrap()
}

#[test]
fn l_limits_the_selected_stream_and_reports_invalid_input() {
    let mut fixture = two();
    assert_eq!(fixture.press("jl"), []);
    assert!(fixture.text().contains("limit ABC123:2:"), "{}", fixture.text());
    for (typed, wrong) in [
        ("sideways", "invalid rate"),
        ("down", "missing argument: down RATE, or down off"),
        ("down 10 X", "invalid rate"),
        ("down fast", "invalid rate"),
    ] {
        fixture.type_in(typed);
        assert_eq!(fixture.press(">"), []);
        assert!(fixture.text().contains(wrong), "{typed}: {}", fixture.text());
        assert!(matches!(fixture.model.overlay, Some(Overlay::Prompt(_))), "the prompt stays open");
        for _ in typed.chars() {
            fixture.send(Msg::Key(Key::plain(KeyCode::Backspace)));
        }
    }
    fixture.type_in("do");
    fixture.press("_");
    fixture.type_in(" 10M up 500k");
    assert_eq!(
        fixture.press(">"),
        [
            limit(1, stream(2), Direction::Down, Some(10_000_000)),
            limit(2, stream(2), Direction::Up, Some(500_000))
        ]
    );
    fixture.send(Msg::Replied(CommandId(1), Ok(Executed { affected_streams: 1 })));
    assert_eq!(fixture.notice(), "ABC123:2 limited to 10MB/s down");
    fixture.send(Msg::Replied(CommandId(2), Err(CommandError::NotFound)));
    assert_eq!(fixture.notice(), "ABC123:2 was not limited: the object of the command no longer exists");
    // The prompt starts empty; the arrow key recalls the present limits.
    fixture.streams[1].stats().set_limit(Direction::Down, Rate::new(10_000_000));
    fixture.tick(TICK);
    fixture.press("l");
    assert!(!fixture.text().contains("limit ABC123:2: down 10M"), "{}", fixture.text());
    fixture.send(Msg::Key(Key::plain(KeyCode::Up)));
    assert!(fixture.text().contains("limit ABC123:2: down 10M"), "{}", fixture.text());
    fixture.press("<");
    assert_eq!(
        fixture.press(":limit off>"),
        [limit(3, stream(2), Direction::Down, None)],
        "only what was on"
    );
    fixture.send(Msg::Replied(CommandId(3), Ok(Executed { affected_streams: 1 })));
    assert_eq!(fixture.notice(), "down limit of ABC123:2 removed");
    // Another operator has set it again.
    for _ in 0..12 {
        fixture.tick(TICK);
    }
    assert_eq!(fixture.press(">:limit down 10M>"), [], "in the detail: it already has this limit");
}

#[test]
fn marked_streams_are_limited_as_a_batch_and_no_stream_that_took_a_key_since() {
    let mut fixture = two();
    fixture.press("gmml");
    assert!(fixture.text().contains("limit 2 streams:"), "{}", fixture.text());
    // One stream ends, and a new one gets its key.
    fixture.end(0, crate::telemetry::EndReason::Finished);
    fixture.tick(TICK);
    fixture.open(0xABC123, 1);
    fixture.tick(TICK);
    fixture.type_in("down 1M");
    assert_eq!(fixture.press(">"), [limit(1, stream(2), Direction::Down, Some(1_000_000))]);
    fixture.press("Mgmm");
    assert_eq!(fixture.press(":limit up 3K>").len(), 2);
    for id in 2..=3 {
        fixture.send(Msg::Replied(CommandId(id), Ok(Executed { affected_streams: 1 })));
    }
    assert_eq!(fixture.notice(), "limited 2 streams");
}

#[test]
fn users_proxies_and_services_are_limited_where_they_are_listed() {
    let mut fixture = two();
    fixture.press("3l");
    fixture.type_in("down 5M");
    let user = key(0xABC123, 1).user;
    assert_eq!(fixture.press(">"), [limit(1, LimitScope::User(user), Direction::Down, Some(5_000_000))]);
    fixture.press("2l");
    fixture.type_in("up 1G");
    assert_eq!(
        fixture.press(">"),
        [limit(2, LimitScope::Proxy(ProxyId(1)), Direction::Up, Some(1_000_000_000))]
    );
    fixture.send(Msg::Replied(CommandId(2), Ok(Executed { affected_streams: 2 })));
    assert_eq!(fixture.notice(), "lab limited to 1GB/s up");
    // Services are listed after the proxies.
    fixture.press("Gl");
    fixture.type_in("down 2G");
    assert_eq!(
        fixture.press(">"),
        [limit(3, LimitScope::Service(service()), Direction::Down, Some(2_000_000_000))]
    );
    fixture.send(Msg::Replied(CommandId(3), Ok(Executed { affected_streams: 2 })));
    assert_eq!(fixture.notice(), "service 8080:default limited to 2GB/s down");
    assert_eq!(fixture.press("x"), [], "a service is not kicked");
    assert_eq!(fixture.notice(), "no proxy selected");
    assert_eq!(fixture.press("l>"), [], "nothing typed is nothing wanted");
}

#[test]
fn streams_of_an_unfolded_user_can_be_acted_on() {
    let mut fixture = two();
    fixture.press("3>");
    assert!(fixture.text().contains("ABC123:2"), "{}", fixture.text());
    fixture.press("jjx");
    assert!(fixture.text().contains("Kill this stream?") && fixture.text().contains("ABC123:2"));
    assert_eq!(
        fixture.press("y"),
        [Effect::SendCommand(CommandId(1), Command::KillStream(key(0xABC123, 2)))]
    );
    fixture.press("kl");
    fixture.type_in("down 1K");
    assert_eq!(fixture.press(">"), [limit(2, stream(1), Direction::Down, Some(1000))]);
    // The detail opens from here, and closing it leads back here.
    fixture.press(">");
    assert_eq!(fixture.model.detail_screen.open.as_ref().map(|detail| detail.key), Some(key(0xABC123, 1)));
    fixture.press("j");
    assert_eq!(fixture.model.detail_screen.open.as_ref().map(|detail| detail.key), Some(key(0xABC123, 2)));
    fixture.press("<");
    assert!(fixture.model.detail_screen.open.is_none() && fixture.model.screen == ScreenId::Sessions);
    // A stream that ends is removed; its user stays unfolded.
    fixture.end(1, crate::telemetry::EndReason::Finished);
    fixture.tick(TICK);
    assert_eq!(fixture.model.sessions_screen.lines.len(), 2);
    fixture.press("g>");
    assert_eq!(fixture.model.sessions_screen.lines.len(), 1);
}

#[test]
fn drain_weight_and_policy_are_sent_for_the_selected_proxy() {
    let mut fixture = two();
    let proxy = ProxyId(1);
    assert_eq!(fixture.press("2D"), [Effect::SendCommand(CommandId(1), Command::DrainProxy(proxy))]);
    assert!(fixture.text().contains("drain"), "{}", fixture.text());
    fixture.send(Msg::Replied(CommandId(1), Ok(Executed { affected_streams: 2 })));
    assert_eq!(fixture.notice(), "lab is draining: no new streams");
    fixture.proxies[0].0.stats().set_draining(true);
    fixture.tick(TICK);
    assert_eq!(fixture.press(":drain>"), []);
    assert_eq!(fixture.notice(), "lab is already draining");
    assert_eq!(fixture.press("D"), [Effect::SendCommand(CommandId(2), Command::UndrainProxy(proxy))]);
    fixture.send(Msg::Replied(CommandId(2), Ok(Executed { affected_streams: 2 })));
    assert_eq!(fixture.notice(), "lab receives new streams again");

    fixture.press("w");
    assert!(fixture.text().contains("weight of lab, now 1: "), "{}", fixture.text());
    fixture.type_in("0000");
    assert_eq!(fixture.press(">"), []);
    assert!(fixture.text().contains("expected: a number from 1 to 1000"), "{}", fixture.text());
    fixture.press("<");
    assert_eq!(
        fixture.press(":weight 3>"),
        [Effect::SendCommand(CommandId(3), Command::SetWeight(proxy, 3))]
    );
    fixture.send(Msg::Replied(CommandId(3), Ok(Executed { affected_streams: 2 })));
    assert_eq!(fixture.notice(), "weight of lab set to 3");
    assert_eq!(fixture.press(":weight heavy>"), []);
    assert_eq!(fixture.notice(), "expected: a number from 1 to 1000");

    let policy = |id, policy| Effect::SendCommand(CommandId(id), Command::SetPolicy(service(), policy));
    fixture.press("P");
    assert!(fixture.text().contains("policy of :8080:default:"), "{}", fixture.text());
    // An unambiguous beginning of a name is enough.
    fixture.type_in("l");
    assert_eq!(fixture.press(">"), [policy(4, Policy::LeastStreams)]);
    fixture.send(Msg::Replied(CommandId(4), Ok(Executed { affected_streams: 2 })));
    assert_eq!(fixture.notice(), "policy of service 8080:default set to least-streams");
    assert_eq!(fixture.press(":policy pe_>"), [policy(5, Policy::PeakEwma)]);
    fixture.press("GP");
    fixture.type_in("weighted");
    assert_eq!(fixture.press(">"), [policy(6, Policy::Weighted)]);
    assert_eq!(fixture.press(":policy fair>"), []);
    assert_eq!(fixture.notice(), "expected: round-robin|weighted|least-streams|peak-ewma");
}

#[test]
fn no_command_is_sent_for_a_disconnected_proxy() {
    let mut fixture = two();
    fixture.press("2");
    fixture.proxies.clear();
    fixture.tick(TICK);
    for keys in ["D", "w", "l", ":drain>", ":weight 2>"] {
        assert_eq!(fixture.press(keys), [], "{keys}");
        assert_eq!(fixture.notice(), "lab has already disconnected", "{keys}");
        assert!(fixture.model.overlay.is_none());
    }
    assert_eq!(fixture.press("1:weight 3>"), []);
    assert_eq!(fixture.notice(), "weight has no effect here; it works on: 2 Proxies");
}

#[test]
fn a_policy_for_a_proxy_with_several_services_needs_a_selected_service() {
    let mut fixture = two();
    let other = fixture.hub.service_opened("9090".parse().unwrap());
    fixture.proxies[0].0.registered(other.stats().key.clone());
    fixture.tick(TICK);
    assert_eq!(fixture.press("2P"), []);
    assert_eq!(fixture.notice(), "the proxy serves 2 services: select one of them below");
    fixture.press("GP");
    assert!(fixture.text().contains("policy of :9090:default:"), "{}", fixture.text());
}

#[test]
fn the_load_is_measured_by_streams_or_by_bytes() {
    let mut fixture = two();
    fixture.proxy("edge");
    let index = fixture.open(0xABC123, 7);
    fixture.assign(index, 1);
    fixture.tick(TICK);
    let text = fixture.text();
    assert!(text.contains("by streams  round-robin") && text.contains(" 67%"), "{text}");
    fixture.press("b");
    let text = fixture.text();
    assert!(text.contains("by traffic  round-robin") && text.contains("100%"), "{text}");
    fixture.press(":load str_>");
    assert_eq!(fixture.model.display.load_measure, LoadMeasure::Streams);
}

#[test]
fn imbalance_is_relative_to_the_weights() {
    let mut fixture = two();
    fixture.proxy("edge");
    let index = fixture.open(0xABC123, 7);
    fixture.assign(index, 1);
    fixture.tick(TICK);
    let imbalance = |fixture: &Fixture, policy| {
        fixture.model.live.proxies.balance(policy, LoadMeasure::Streams).unwrap().imbalance
    };
    assert!((imbalance(&fixture, Policy::Weighted) - 4.0 / 3.0).abs() < 1e-9);
    // A proxy with twice the weight is due twice the streams.
    fixture.proxies[0].0.stats().set_weight(2);
    fixture.tick(TICK);
    assert!((imbalance(&fixture, Policy::Weighted) - 1.0).abs() < 1e-9);
    assert!((imbalance(&fixture, Policy::RoundRobin) - 4.0 / 3.0).abs() < 1e-9);
    fixture.proxies[0].0.stats().set_draining(true);
    fixture.tick(TICK);
    assert_eq!(fixture.model.live.proxies.balance(Policy::Weighted, LoadMeasure::Streams), None);
}

#[test]
fn a_frozen_display_freezes_the_detail_too() {
    let mut fixture = two();
    fixture.press(">");
    fixture.press(" ");
    let points = |fixture: &Fixture| fixture.model.shown_detail().unwrap().history.points(60, 30);
    let before = points(&fixture);
    for _ in 0..20 {
        fixture.streams[0].stats().add_down(50_000_000);
        fixture.tick(TICK);
    }
    assert_eq!(points(&fixture), before);
    fixture.press(" ");
    assert_ne!(points(&fixture), before, "it went on beneath");
}
