//! Input that is nearly right: rates, commands, keys of other screens, recalled lines, and notices that expire.

use std::time::Duration;

use super::fixture::Fixture;
use crate::{
    control::{Command, Executed},
    ids::{Direction, Rate},
    tui::{
        Exit,
        columns::{StreamColumn, TableColumn},
        model::ColumnSelection,
        msg::{Effect, Msg},
        terminal::{Key, KeyCode},
    },
};

const TICK: Duration = Duration::from_millis(100);

/// Types a line into the command line and accepts it.
fn run(fixture: &mut Fixture, line: &str) -> Vec<Effect> {
    fixture.press(":");
    fixture.type_in(line);
    fixture.press(">")
}

fn up(fixture: &mut Fixture) {
    fixture.send(Msg::Key(Key::plain(KeyCode::Up)));
}

fn last_row(fixture: &Fixture) -> String {
    fixture.text().lines().last().unwrap_or_default().trim_end().to_owned()
}

#[test]
fn limits_are_understood_as_people_write_them() {
    let (down, up) = (Direction::Down, Direction::Up);
    let million = || Rate::new(1_000_000);
    for (line, limits) in [
        ("limit 1M", vec![(down, million()), (up, million())]),
        ("limit 1MB/s", vec![(down, million()), (up, million())]),
        ("limit 1 MB/s", vec![(down, million()), (up, million())]),
        ("limit down 1 M, up 500 kB/s", vec![(down, million()), (up, Rate::new(500_000))]),
        ("limit down 1M", vec![(down, million())]),
        ("limit down=1M/s", vec![(down, million())]),
        ("limit 1M down", vec![(down, million())]),
        ("limit Down 1m, Up 500kB/s", vec![(down, million()), (up, Rate::new(500_000))]),
        ("limit upload 500kB/s", vec![(up, Rate::new(500_000))]),
        ("down 1M", vec![(down, million())]),
        ("up 1000000", vec![(up, million())]),
    ] {
        let mut fixture = Fixture::busy(120, 36);
        let sent = run(&mut fixture, line);
        let set: Vec<_> = sent
            .iter()
            .map(|effect| match effect {
                Effect::SendCommand(_, Command::SetLimit(_, direction, rate)) => (*direction, *rate),
                other => panic!("{line}: {other:?}"),
            })
            .collect();
        assert_eq!(set, limits, "{line}: {}", fixture.notice());
    }
    // One notice about both directions, whichever reply comes last.
    let mut fixture = Fixture::busy(120, 36);
    let key = fixture.selected().unwrap();
    let sent = run(&mut fixture, "limit 1M");
    for effect in sent {
        let Effect::SendCommand(id, _) = effect else { panic!("{effect:?}") };
        fixture.send(Msg::Replied(id, Ok(Executed { affected_streams: 1 })));
    }
    assert_eq!(fixture.notice(), format!("{key} limited to 1MB/s in each direction"));
    let mut fixture = Fixture::busy(120, 36);
    for line in ["limit off", "limit none", "limit down off"] {
        assert_eq!(run(&mut fixture, line), [], "{line}: nothing is limited");
        assert_eq!(fixture.notice(), "no rate limit to remove: none was set");
    }
    // Some take 0 for no limit, others for no traffic.
    for line in ["limit 0", "limit down 0", "limit up 0 down 1M", "limit 0M", "limit 0/s", "limit 0.0"] {
        assert_eq!(run(&mut fixture, line), [], "{line}");
        assert!(
            fixture.notice().contains("off removes the limit, pause stops"),
            "{line}: {}",
            fixture.notice()
        );
    }
    for line in ["limit fast", "limit down", "down down", "limit 1X"] {
        assert_eq!(run(&mut fixture, line), [], "{line}");
        assert!(fixture.notice().contains("RATE"), "{line}: {}", fixture.notice());
    }
}

#[test]
fn commands_of_other_programs_work() {
    let mut fixture = Fixture::busy(120, 36);
    for (line, extension) in [("export", "csv"), ("export csv", "csv"), ("export json", "json")] {
        let effects = run(&mut fixture, line);
        assert!(matches!(effects.as_slice(), [Effect::Save(file)] if file.extension == extension), "{line}");
    }
    assert_eq!(run(&mut fixture, "export xml"), []);
    assert_eq!(fixture.notice(), "expected: csv|json");
    for line in ["q", "quit"] {
        assert_eq!(run(&mut fixture, line), []);
        assert!(fixture.text().contains("Quit?"), "{line} asks");
        fixture.press("<");
    }
    for line in ["q!", "quit!"] {
        assert_eq!(run(&mut fixture, line), [Effect::Exit(Exit::Quit)], "{line} does not ask");
    }
}

#[test]
fn a_key_or_command_without_effect_says_where_it_works() {
    let mut fixture = Fixture::busy(120, 36);
    for (keys, notice) in [
        ("D", "D has no effect here; it works on: 2 Proxies (toggle-drain)"),
        ("Q", "Q has no meaning; ? lists all keys"),
        ("3m", "m has no effect here; it works on: 1 Streams (mark)"),
        (
            "4x",
            "x has no effect here; it works on: 1 Streams (kill), detail of a stream (kill), 2 Proxies (kick), 3 Users (kill-user)",
        ),
        ("1:weight 5>", "weight has no effect here; it works on: 2 Proxies"),
        (":wieght 5>", "unknown command «wieght»"),
    ] {
        assert_eq!(fixture.press(keys), [], "{keys}");
        assert_eq!(fixture.notice(), notice, "{keys}");
    }
    fixture.send(Msg::Key(Key::plain(KeyCode::F(7))));
    assert_eq!(fixture.notice(), "F7 has no meaning; ? lists all keys");
}

#[test]
fn prompts_start_empty_and_recall_earlier_lines() {
    let mut fixture = Fixture::busy(120, 36);
    let all = fixture.keys().len();
    for filter in ["proxy:fra", "down>1M"] {
        fixture.press("/");
        assert!(last_row(&fixture).starts_with(" /   words"), "{}", last_row(&fixture));
        assert_eq!(fixture.keys().len(), all, "the empty text lists all");
        fixture.type_in(filter);
        fixture.press(">");
    }
    assert_eq!(fixture.keys().len(), 5);
    fixture.press("/");
    up(&mut fixture);
    assert!(last_row(&fixture).starts_with(" /down>1M"), "{}", last_row(&fixture));
    assert_eq!(fixture.keys().len(), 5, "a recalled filter applies");
    up(&mut fixture);
    assert!(last_row(&fixture).starts_with(" /proxy:fra"), "{}", last_row(&fixture));
    up(&mut fixture);
    assert!(last_row(&fixture).starts_with(" /proxy:fra"), "there is no older one");
    fixture.send(Msg::Key(Key::plain(KeyCode::Down)));
    assert!(last_row(&fixture).starts_with(" /down>1M"));
    fixture.press("<");
    assert_eq!(fixture.model.streams_screen.filter.text(), "down>1M", "Escape restores the filter");
    // The command line has lines of its own.
    run(&mut fixture, "sort age");
    fixture.press(":");
    up(&mut fixture);
    assert!(last_row(&fixture).starts_with(" :sort age"), "{}", last_row(&fixture));
}

#[test]
fn notices_expire_on_an_idle_server() {
    let mut fixture = Fixture::empty(120, 36);
    fixture.tick(TICK);
    fixture.press("Q");
    assert!(!fixture.notice().is_empty());
    fixture.tick(Duration::from_secs(5));
    assert!(!fixture.notice().is_empty());
    fixture.tick(Duration::from_secs(1));
    assert_eq!(fixture.notice(), "");
}

#[test]
fn a_column_that_is_asked_for_appears_or_the_screen_says_what_has_no_room() {
    let mut fixture = Fixture::busy(80, 24);
    fixture.press("oG ");
    assert!(fixture.model.visible_columns().contains(StreamColumn::Trend), "{}", fixture.text());
    assert!(fixture.notice().starts_with("trend is shown; no room for "), "{}", fixture.notice());
    fixture.press("<");
    assert!(fixture.text().contains("TREND"), "{}", fixture.text());
    fixture.model.streams_screen.columns = ColumnSelection::only(StreamColumn::ALL.to_vec());
    fixture.resize(120, 36);
    let missing = fixture.model.streams_screen.columns.missing(&fixture.model.visible_columns());
    let names: Vec<&str> = missing.into_iter().map(StreamColumn::name).collect();
    assert!(!names.is_empty());
    let says = format!("no room for column {}", names.join(", "));
    assert!(fixture.text().contains(&says), "{says}: {}", fixture.text());
}

#[test]
fn up_and_down_are_rates_wherever_they_are_typed() {
    let mut fixture = Fixture::busy(200, 50);
    run(&mut fixture, "sort down");
    assert!(fixture.text().contains("DOWN/s▾"), "{}", fixture.text());
    run(&mut fixture, "sort down-bytes");
    assert!(fixture.text().contains("DOWN▾"), "{}", fixture.text());
    assert_eq!(StreamColumn::named("down"), Some(StreamColumn::DownRate));
    assert_eq!(StreamColumn::named("down-rate"), Some(StreamColumn::DownRate), "as before");
    assert_eq!(StreamColumn::named("up-bytes"), Some(StreamColumn::Up));
    let head = |fixture: &Fixture| fixture.text().lines().next().unwrap_or_default().to_owned();
    assert!(head(&fixture).contains("B/s") && head(&fixture).contains("uptime "), "{}", head(&fixture));
    fixture.press("u");
    assert!(head(&fixture).contains("bit/s"), "{}", head(&fixture));
}
