//! Names that are alike: jumps and kills reach exactly what was selected, and equal names are told apart.

use std::time::Duration;

use super::fixture::{Fixture, key};
use crate::{
    control::Command,
    ids::{ProxyId, UserChannelId},
    tui::msg::Effect,
};

const TICK: Duration = Duration::from_millis(100);

/// Proxies with these names, each with two streams.
fn with_proxies(names: &[&str]) -> Fixture {
    let mut fixture = Fixture::empty(120, 36);
    for (at, name) in names.iter().enumerate() {
        fixture.proxy(name);
        for stream in 1..=2 {
            let index = fixture.open(0xA0_0000 + at as u32, stream);
            fixture.assign(index, at);
        }
    }
    fixture.tick(TICK);
    fixture.tick(TICK);
    fixture
}

/// Returns the users whose streams the effects kill.
fn killed(effects: Vec<Effect>) -> Vec<u32> {
    let mut users: Vec<u32> = effects
        .iter()
        .map(|effect| match effect {
            Effect::SendCommand(_, Command::KillStream(key)) => key.user.bits() - 0xA0_0000,
            other => panic!("{other:?}"),
        })
        .collect();
    users.sort_unstable();
    users
}

#[test]
fn streams_of_one_proxy_are_not_those_of_another_whose_name_begins_alike() {
    for (names, filter) in [
        (["edge-1", "edge-10", "my edge-1"], "proxy=edge-1"),
        (["my laptop", "my desk", "my"], "proxy=\"my laptop\""),
        (["say \"a\"", "say", "\"a\""], "proxy=P1"),
        (["lab", "lab", "lab"], "proxy=P1"),
    ] {
        let mut fixture = with_proxies(&names);
        fixture.press("2f");
        assert_eq!(fixture.model.streams_screen.filter.text(), filter);
        assert_eq!(fixture.keys().len(), 2, "{names:?}: {}", fixture.text());
        fixture.press("A");
        assert_eq!(killed(fixture.press("y")), [0, 0], "{names:?}");
    }
}

#[test]
fn a_filter_with_an_equals_sign_matches_whole_names() {
    let mut fixture = with_proxies(&["edge-1", "edge-10"]);
    let mut count = |filter: &str| {
        fixture.press("/");
        fixture.type_in(filter);
        fixture.press(">");
        assert_eq!(fixture.model.streams_screen.filter.text(), filter);
        fixture.keys().len()
    };
    let address = key(0xA0_0000, 1).user;
    for (filter, rows) in [
        ("proxy:edge-1", 4),
        ("proxy=edge-1", 2),
        ("proxy=EDGE-1", 2),
        ("proxy=edge", 0),
        ("!proxy=edge-1", 2),
        ("proxy=P2", 2),
        ("service=8080", 4),
        ("service=8080:default", 4),
        ("service=080:default", 0),
        ("key=A00000:1", 1),
        ("key=A00000:", 0),
        (&format!("user={address}"), 2),
        ("state=open", 3),
    ] {
        assert_eq!(count(filter), rows, "{filter}");
    }
}

#[test]
fn equal_names_are_numbered_everywhere_and_have_timelines_of_their_own() {
    let mut fixture = with_proxies(&["lab", "lab", "edge"]);
    let text = fixture.text();
    assert!(text.contains("  lab P1 ") && text.contains("  lab P2 ") && !text.contains("edge P3"), "{text}");
    fixture.press("2");
    let text = fixture.text();
    assert!(text.contains("▸ lab P1 ") && text.contains("192.0.2.7:4000"), "{text}");
    fixture.press("jD");
    assert_eq!(fixture.model.live.proxies.name(ProxyId(2)), "lab P2");
    fixture.press("x");
    assert!(fixture.text().contains("lab P2  P2  192.0.2.7:4000"), "{}", fixture.text());
    fixture.press("<");
    // One drains, the other is up.
    fixture.proxies[1].0.stats().set_draining(true);
    fixture.tick(Duration::from_secs(20));
    fixture.tick(Duration::from_secs(20));
    fixture.press("3");
    let line = |fixture: &Fixture, name: &str| {
        fixture.text().lines().find(|line| line.contains(name)).unwrap_or_default().to_owned()
    };
    assert!(line(&fixture, "lab P1").contains('━') && !line(&fixture, "lab P1").contains('▒'));
    assert!(line(&fixture, "lab P2").contains('▒'));
    // The row of one that leaves is not removed because the other is connected.
    fixture.proxies.remove(1);
    fixture.tick(Duration::from_secs(61));
    fixture.tick(TICK);
    fixture.press("2");
    let row = line(&fixture, "lab P2");
    assert!(row.contains(" disconnected "), "{row}");
    // A name that is not shared any more needs no number, and a proxy that reconnects continues its timeline.
    let mut fixture = with_proxies(&["lab"]);
    fixture.proxies.clear();
    fixture.tick(TICK);
    fixture.tick(TICK);
    assert_eq!(fixture.model.live.proxies.links().all().len(), 1);
    assert_eq!(fixture.model.live.proxies.name(ProxyId(1)), "lab");
}

#[test]
fn the_join_command_has_a_name_that_no_proxy_has() {
    let mut fixture = with_proxies(&["proxy-1", "edge"]);
    fixture.press("a");
    assert!(fixture.text().contains("--name ") && fixture.text().contains("proxy-3 "), "{}", fixture.text());
    let effects = fixture.press("y");
    let [Effect::Copy(command)] = effects.as_slice() else { panic!("{effects:?}") };
    assert!(command.ends_with(" --to 127.0.0.1:80 --name proxy-3"), "{command}");
}

#[test]
fn the_log_of_one_object_has_no_records_of_another_whose_name_contains_its_name() {
    let mut fixture = with_proxies(&["edge-1", "edge-10"]);
    let record = |text: &str| crate::telemetry::LogRecord {
        epoch_ms: 1000,
        level: crate::telemetry::LogLevel::Info,
        target: "lifecycle".into(),
        text: text.into(),
    };
    for text in
        ["port 8080:default opened", "port 18080:default opened", "proxy P1 up", "proxy P10 up", "SP1 up"]
    {
        fixture.model.log_screen.push(record(text));
    }
    fixture.press("2L");
    let text = fixture.text();
    assert!(text.contains("proxy P1 up") && !text.contains("P10 up") && !text.contains("SP1"), "{text}");
    fixture.press("2GL");
    let text = fixture.text();
    assert!(text.contains("port 8080:default") && !text.contains("port 18080"), "{text}");
    assert_eq!(UserChannelId::new(0xA0_0000).to_string(), "A00000");
}
