//! What a cockpit says that is not the server's own: attached to a server, or on a recording.

use std::time::Duration;

use super::fixture::Fixture;
use crate::{
    control::Capabilities,
    telemetry::{Bottleneck, StreamDetails},
    tui::{
        Labels, RawSettings, Role, Subject,
        model::Model,
        msg::{Effect, Msg},
        source::{Playback, SourceState},
    },
};

const TICK: Duration = Duration::from_millis(100);

/// A paused recording.
const PAUSED: Playback = Playback {
    position: 52_605_000,
    begins: 0,
    ends: 60_000_000,
    speed: 1.0,
    is_paused: true,
    is_seeking: false,
};

/// A cockpit of this role that shows the streams of a busy server, and knows no join command.
fn guest(role: Role) -> Fixture {
    guest_of(Fixture::busy(120, 36), role)
}

/// A cockpit of this role that shows the server of `fixture`.
fn guest_of(mut fixture: Fixture, role: Role) -> Fixture {
    let labels = Labels { role, ..Labels::default() };
    let mut model = Model::new(labels, fixture.model.theme.clone(), fixture.model.size, fixture.now);
    let all = Capabilities::all();
    let capabilities = if role == Role::Replay { Capabilities { kill: false, ..all } } else { all };
    model.apply_settings(&RawSettings::default().resolve().unwrap(), capabilities);
    fixture.model = model;
    fixture.tick(TICK);
    fixture
}

/// Detaching ends nothing, so that it needs no question; the server's own cockpit asks, because its streams would end.
#[test]
fn quitting_asks_only_where_streams_would_end() {
    for (role, exits) in [(Role::Attached, true), (Role::Replay, true), (Role::Server, false)] {
        let mut fixture = guest(role);
        let effects = fixture.press("q");
        assert_eq!(matches!(effects.as_slice(), [Effect::Exit(_)]), exits, "{role:?}: {effects:?}");
        assert_eq!(fixture.model.overlay.is_none(), exits, "{role:?}");
    }
}

#[test]
fn a_cockpit_that_cannot_do_something_says_why() {
    let mut fixture = guest(Role::Replay);
    fixture.press("x");
    assert_eq!(fixture.notice(), "kill (x) is disabled: a recording cannot be changed");
    fixture.press("a");
    assert!(fixture.notice().contains("a recording has no join command"), "{}", fixture.notice());
    let mut fixture = guest(Role::Attached);
    fixture.press("a");
    assert!(fixture.notice().contains("the log of the server has the join command"), "{}", fixture.notice());
}

/// A proxy measures its side of a stream, and knows no limits.
#[test]
fn the_detail_at_a_proxy_has_its_side_of_the_flow_and_says_where_limits_are_set() {
    let mut fixture = guest(Role::Attached);
    fixture.model.labels.subject = Subject::Proxy;
    let settings = RawSettings::default().resolve().unwrap();
    fixture.model.apply_capabilities(&settings, Capabilities::of_proxy());
    fixture.press("j>");
    fixture.model.detail_screen.open.as_mut().unwrap().flow = Some(StreamDetails {
        download_window: 1_000_000,
        download_buffered: 200_000,
        download_in_flight: 300_000,
        download_bottleneck: Some(Bottleneck::User),
        ..StreamDetails::default()
    });
    let text = fixture.text();
    assert!(text.contains("in flight ↓ 300K"), "{text}");
    assert!(text.contains("window used        50%"), "{text}");
    assert!(!text.contains("priority"), "{text}");
    fixture.press("l");
    assert_eq!(fixture.notice(), "limit (l) is disabled: a proxy cannot do it; attach to its server");
    // Its binding is that of another screen.
    fixture.press("<D");
    assert_eq!(fixture.notice(), "toggle-drain (D) is disabled: a proxy cannot do it; attach to its server");
}

/// Without a filter nothing was searched for.
#[test]
fn an_empty_log_says_why_it_is_empty() {
    let mut fixture = guest(Role::Attached);
    fixture.press("4");
    let text = fixture.text();
    assert!(text.contains("No record since attaching") && !text.contains("these words"), "{text}");
    fixture.press("/");
    fixture.type_in("refused");
    assert!(fixture.text().contains("No record contains these words."), "{}", fixture.text());
}

/// Old figures must not pass for those of a server now, also where the header has little room.
#[test]
fn every_screen_of_every_size_says_that_it_shows_the_past() {
    for (width, height) in [(200, 50), (120, 36), (80, 24), (60, 15)] {
        for screen in ["1", "2", "3", "4"] {
            let mut fixture = guest(Role::Replay);
            fixture.resize(width, height);
            fixture.send(Msg::SourceState(SourceState::Playing(PAUSED)));
            fixture.press(screen);
            let text = fixture.text();
            assert!(text.contains("● replay paused 14:36:45Z"), "{width}, {screen}: {text}");
            let mut fixture = guest(Role::Attached);
            fixture.resize(width, height);
            fixture.send(Msg::SourceState(SourceState::Reconnecting("no server «lost» is running".into())));
            fixture.press(screen);
            let text = fixture.text();
            assert!(text.contains("● reconnecting…"), "{width}, {screen}: {text}");
            assert!(text.contains("! connection lost, what is shown is old"), "{width}, {screen}: {text}");
        }
    }
}

/// At its begin a recording has no proxy and no stream.
#[test]
fn a_recording_without_a_proxy_has_its_time_in_the_smallest_header() {
    let mut fixture = guest_of(Fixture::empty(60, 15), Role::Replay);
    fixture.send(Msg::SourceState(SourceState::Playing(PAUSED)));
    assert!(fixture.text().contains("● replay paused 14:36:45Z"), "{}", fixture.text());
}

/// A recording has a state each second. Between two of them the header had the uptime of the first one, and the rows
/// the ages of the time that the header names.
#[test]
fn uptime_and_ages_of_a_paused_replay_are_of_the_same_time() {
    let mut fixture = guest(Role::Replay);
    let uptime = |fixture: &Fixture| fixture.model.shown().uptime_now();
    let (now, before) = (fixture.model.live.now, uptime(&fixture));
    fixture.send(Msg::DataTime(now + Duration::from_millis(900)));
    assert_eq!(uptime(&fixture), before + Duration::from_millis(900));
    // Where the recording has a gap, nothing says that the server ran.
    fixture.send(Msg::DataTime(now + Duration::from_secs(60)));
    assert_eq!(uptime(&fixture), before + Duration::from_secs(1));
}
