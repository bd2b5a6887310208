//! Users that leave and return: their rows, their streams, and what can be done to them.

use std::time::Duration;

use super::fixture::{Fixture, key};
use crate::{
    ids::UserChannelId,
    telemetry::EndReason,
    tui::model::{ScreenId, UserLine},
};

const TICK: Duration = Duration::from_millis(100);
const FIRST: u32 = 0xAA_0001;
const SECOND: u32 = 0xBB_0002;

/// Ends the streams of a user and lets it leave.
fn leave(fixture: &mut Fixture, user: u32) {
    let id = UserChannelId::new(user);
    while let Some(at) = fixture.streams.iter().position(|stream| stream.stats().key.user == id) {
        fixture.end(at, EndReason::Finished);
    }
    fixture.users.retain(|guard| guard.stats().id != id);
    fixture.tick(TICK);
}

/// A server with a proxy and two users, of which the first has carried a megabyte.
fn two_users() -> Fixture {
    let mut fixture = Fixture::empty(120, 36);
    fixture.proxy("edge");
    for user in [FIRST, SECOND] {
        let at = fixture.open(user, 1);
        fixture.assign(at, 0);
    }
    fixture.streams[0].stats().add_down(1_000_000);
    fixture.tick(TICK);
    fixture.press("3");
    fixture
}

/// The users in the order of the screen.
fn users(fixture: &Fixture) -> Vec<u32> {
    let lines = fixture.model.sessions_screen.lines.iter();
    lines.filter(|line| matches!(line, UserLine::User(_))).map(|line| line.user().bits()).collect()
}

#[test]
fn a_user_that_returns_has_its_row_again() {
    let mut fixture = two_users();
    assert_eq!(users(&fixture), [FIRST, SECOND]);
    let selected = fixture.model.sessions_screen.cursor.selected();
    leave(&mut fixture, FIRST);
    fixture.tick(Duration::from_secs(20));
    let text = fixture.text();
    assert!(text.contains("left 20s ago; 1.0MB in 1 stream"), "{text}");
    assert!(text.contains("1 active"), "{text}");
    assert_eq!(users(&fixture), [FIRST, SECOND]);
    // It has no limits that could be set, and nothing to kill.
    fixture.press("l");
    assert_eq!(fixture.notice(), "user AA0001 has left: it has no limits");
    assert_eq!(fixture.press("x"), []);
    assert_eq!(fixture.notice(), "user AA0001 has no open stream");

    let again = fixture.open(FIRST, 2);
    fixture.streams[again].stats().add_down(500);
    fixture.tick(TICK);
    assert_eq!(users(&fixture), [FIRST, SECOND]);
    assert_eq!(fixture.model.sessions_screen.cursor.selected(), selected);
    let text = fixture.text();
    assert!(text.contains("2 active") && !text.contains("left 2"), "{text}");
    let row = fixture.model.live.users.get(UserChannelId::new(FIRST)).unwrap();
    assert_eq!((row.down, row.down_rate, row.streams), (500, 0.0, 1), "counted from its return");
}

#[test]
fn the_streams_of_a_user_that_has_left_are_found_by_its_id() {
    let mut fixture = two_users();
    leave(&mut fixture, FIRST);
    fixture.press("f");
    assert_eq!(fixture.model.screen, ScreenId::Streams);
    assert_eq!(fixture.keys(), [key(FIRST, 1)]);
    fixture.press("<:");
    fixture.type_in("filter user:AA0001");
    fixture.press(">");
    assert_eq!(fixture.keys(), [key(FIRST, 1)]);
}

#[test]
fn rows_of_users_that_have_left_are_dropped_after_five_minutes_and_the_first_beyond_fifty() {
    let mut fixture = two_users();
    leave(&mut fixture, FIRST);
    fixture.tick(Duration::from_secs(200));
    leave(&mut fixture, SECOND);
    fixture.tick(Duration::from_secs(101));
    assert_eq!(users(&fixture), [SECOND]);
    for user in 1..=55 {
        fixture.open(user, 1);
        fixture.tick(TICK);
        leave(&mut fixture, user);
    }
    assert_eq!(users(&fixture), (6..=55).collect::<Vec<u32>>());
    assert_eq!(fixture.model.live.users.connected_count(), 0);
}
