//! The selection and streams that end: it moves on to open streams, and no key acts on what it has moved to meanwhile.

use std::time::Duration;

use super::fixture::{Fixture, key};
use crate::{
    control::{Command, CommandError},
    ids::StreamKey,
    telemetry::EndReason,
    tui::{
        command_id::CommandId,
        msg::{Effect, Msg},
        terminal::{Key, KeyCode},
    },
};

const TICK: Duration = Duration::from_millis(100);

/// Four streams with decreasing rates.
fn four() -> Fixture {
    let mut fixture = Fixture::empty(120, 36);
    fixture.proxy("lab");
    for stream in 1..=4 {
        let index = fixture.open(0xABC123, stream);
        fixture.assign(index, 0);
    }
    for _ in 0..20 {
        for (i, bytes) in [9_000_000, 500_000, 20_000, 9_000].into_iter().enumerate() {
            fixture.streams[i].stats().add_down(bytes);
        }
        fixture.tick(TICK);
    }
    fixture
}

fn stream(number: u32) -> StreamKey {
    key(0xABC123, number)
}

/// Lets the open streams go on at their rates for this time.
fn go_on(fixture: &mut Fixture, time: Duration) {
    for _ in 0..time.as_millis() / TICK.as_millis() {
        for stream in &fixture.streams {
            let bytes = [0, 9_000_000, 500_000, 20_000, 9_000][stream.stats().key.stream.0 as usize];
            stream.stats().add_down(bytes);
        }
        fixture.tick(TICK);
    }
}

/// Ends the stream with this key.
fn end(fixture: &mut Fixture, key: StreamKey) {
    let index = fixture.streams.iter().position(|stream| stream.stats().key == key).unwrap();
    fixture.end(index, EndReason::Finished);
    fixture.tick(TICK);
}

#[test]
fn the_selection_moves_to_the_next_open_row_after_a_moment() {
    let mut fixture = four();
    fixture.press("j");
    end(&mut fixture, stream(2));
    assert_eq!(fixture.selected(), Some(stream(2)), "the operator sees how it ended");
    assert_eq!(fixture.keys()[1], stream(2), "in its place");
    go_on(&mut fixture, Duration::from_secs(3));
    assert_eq!(fixture.selected(), Some(stream(3)));
    assert_eq!(fixture.keys(), [1, 3, 4, 2].map(stream), "it is sorted among the ended ones");
    // Behind the last open row, the one before it.
    fixture.press("j");
    end(&mut fixture, stream(4));
    go_on(&mut fixture, Duration::from_secs(3));
    assert_eq!(fixture.selected(), Some(stream(3)));
}

#[test]
fn a_row_that_the_operator_did_not_select_is_left_at_once() {
    let mut fixture = four();
    assert_eq!(fixture.selected(), Some(stream(1)), "the first open row");
    end(&mut fixture, stream(1));
    assert_eq!(fixture.selected(), Some(stream(2)));
    assert_eq!(fixture.keys(), [2, 3, 4, 1].map(stream));
}

#[test]
fn a_key_on_an_ended_row_says_so_once_and_selects_an_open_one() {
    let mut fixture = four();
    fixture.press("gj");
    end(&mut fixture, stream(2));
    assert_eq!(fixture.press("x"), []);
    assert_eq!(fixture.notice(), "ABC123:2 has already ended; ABC123:3 is selected now");
    fixture.press("x");
    assert!(fixture.text().contains("Kill this stream?"));
    assert_eq!(fixture.press("y"), [Effect::SendCommand(CommandId(1), Command::KillStream(stream(3)))]);
}

#[test]
fn an_ended_row_that_the_operator_chose_stays_selected() {
    let mut fixture = four();
    end(&mut fixture, stream(4));
    fixture.send(Msg::Key(Key::plain(KeyCode::End)));
    assert_eq!(fixture.selected(), Some(stream(4)));
    fixture.tick(Duration::from_secs(10));
    assert_eq!(fixture.selected(), Some(stream(4)));
    assert_eq!(fixture.press("p"), []);
    assert_eq!(fixture.notice(), "ABC123:4 has already ended");
    // Its detail too, whenever it ended.
    fixture.press("g>");
    end(&mut fixture, stream(1));
    fixture.tick(Duration::from_secs(10));
    assert_eq!(fixture.selected(), Some(stream(1)));
    fixture.press("<");
    fixture.tick(TICK);
    assert_eq!(fixture.selected(), Some(stream(2)));
}

#[test]
fn a_hidden_row_is_not_shown_because_it_is_selected() {
    let mut fixture = four();
    fixture.press("jt");
    end(&mut fixture, stream(2));
    assert_eq!(fixture.keys(), [1, 3, 4].map(stream));
    assert_eq!(fixture.selected(), Some(stream(3)));
    fixture.press("tG");
    assert_eq!(fixture.selected(), Some(stream(2)));
    fixture.press("t");
    fixture.tick(TICK);
    assert!(!fixture.keys().contains(&stream(2)) && fixture.selected().is_some());
}

#[test]
fn no_key_acts_on_a_row_that_has_just_been_selected() {
    let mut fixture = four();
    fixture.press("j");
    end(&mut fixture, stream(2));
    go_on(&mut fixture, Duration::from_millis(2900));
    assert_eq!(fixture.selected(), Some(stream(2)));
    go_on(&mut fixture, TICK);
    for act in ["p", "+", "-"] {
        assert_eq!(fixture.press(act), []);
        assert_eq!(fixture.notice(), "ignored: the selection has just moved to ABC123:3; press it again");
    }
    go_on(&mut fixture, Duration::from_millis(700));
    assert_eq!(fixture.press("p"), [Effect::SendCommand(CommandId(1), Command::PauseStream(stream(3)))]);
    fixture.send(Msg::Replied(CommandId(1), Err(CommandError::NotFound)));
    // Marks name their streams.
    fixture.press("gmm");
    end(&mut fixture, stream(4));
    assert_eq!(fixture.press("p").len(), 2);
}
