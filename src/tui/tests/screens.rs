use std::time::Duration;

use ratatui::{buffer::Buffer, layout::Rect, style::Modifier};

use super::fixture::Fixture;
use crate::tui::{theme::Theme, view};

const TICK: Duration = Duration::from_millis(100);

/// The keys that lead to each screen.
const SCREENS: [(&str, &str); 5] =
    [("streams", "1"), ("detail", "1j>"), ("proxies", "2>"), ("sessions", "3j"), ("logs", "4")];

pub(super) const SIZES: [(u16, u16); 3] = [(120, 36), (80, 24), (40, 12)];

/// Brings a fixture into a state by its name.
fn in_state(state: &str, (width, height): (u16, u16)) -> Fixture {
    let mut fixture = match state {
        "empty" => {
            let mut empty = Fixture::empty(width, height);
            empty.tick(TICK);
            empty
        }
        "overflow" => overflowing(width, height),
        _ => Fixture::busy(width, height),
    };
    match state {
        "filtered" => {
            fixture.type_in("/proxy:fra down>1M");
            fixture.press(">");
        }
        "frozen" => {
            fixture.press(" ");
            fixture.tick(Duration::from_secs(2));
        }
        "plain" => fixture.model.theme = Theme::plain(),
        "light" => fixture.model.theme = Theme::light(),
        "ascii" => fixture.model.display.ascii = true,
        _ => {}
    }
    fixture
}

/// More of everything than has room.
fn overflowing(width: u16, height: u16) -> Fixture {
    let mut fixture = Fixture::empty(width, height);
    for i in 0..40 {
        fixture.proxy(&format!("a-proxy-with-a-long-name-{i}"));
    }
    for i in 0..300u32 {
        let index = fixture.open(0x20_0000 + (i % 90) * 0x5D37, i / 90 + 1_000_000);
        fixture.carry(index, (i % 40) as usize);
    }
    fixture.now += Duration::from_millis(500);
    for _ in 0..12 {
        for (i, stream) in fixture.streams.iter().enumerate() {
            stream.stats().add_down(i as u64 * 1_000_000_000);
        }
        fixture.tick(TICK);
    }
    fixture
}

fn look(state: &str, size: (u16, u16), keys: &str) -> Fixture {
    let mut fixture = in_state(state, size);
    fixture.press(keys);
    if state == "dialog" {
        fixture.press("K");
    }
    fixture
}

/// The screen as text, the same whenever it is made.
pub(super) fn text_of(fixture: &Fixture) -> String {
    // Events and records have the time of day.
    let times = regex::Regex::new(r"\d\d:\d\d:[\dZ]*|\+\d\.\d\d\ds").unwrap();
    let zeros = |found: &regex::Captures<'_>| {
        found[0].chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>()
    };
    times.replace_all(&fixture.text(), zeros).into_owned()
}

#[test]
fn screens_look_as_they_should() {
    for size in SIZES {
        for (screen, keys) in SCREENS {
            for state in ["empty", "busy", "overflow", "frozen", "filtered", "dialog", "ascii"] {
                let fixture = look(state, size, keys);
                let name = format!("{screen}_{state}_{}x{}", size.0, size.1);
                insta::assert_snapshot!(name, text_of(&fixture));
            }
        }
    }
}

/// Text alone does not tell themes apart: here the styles stand beside it, each style as a letter.
#[test]
fn themes_look_as_they_should() {
    for size in SIZES {
        for (screen, keys) in SCREENS {
            for state in ["busy", "plain", "light"] {
                let name = format!("styles_{screen}_{state}_{}x{}", size.0, size.1);
                insta::assert_snapshot!(name, styles(&look(state, size, keys)));
            }
        }
    }
}

#[test]
fn the_columns_look_as_they_should() {
    for size in SIZES {
        let mut fixture = look("busy", size, "ojj > j ");
        insta::assert_snapshot!(format!("columns_{}x{}", size.0, size.1), text_of(&fixture));
        fixture.press("G<");
        insta::assert_snapshot!(format!("streams_chosen_{}x{}", size.0, size.1), text_of(&fixture));
    }
}

/// Each cell's style as a letter, and what the letters stand for.
fn styles(fixture: &Fixture) -> String {
    let terminal = fixture.screen();
    let buffer = terminal.backend().buffer();
    let mut known = Vec::new();
    let mut out = String::new();
    for y in 0..buffer.area.height {
        let mut row = String::new();
        for x in 0..buffer.area.width {
            let cell = &buffer[(x, y)];
            let style = (cell.fg, cell.bg, cell.modifier);
            let at = known.iter().position(|one| *one == style).unwrap_or_else(|| {
                known.push(style);
                known.len() - 1
            });
            row.push(if at == 0 { ' ' } else { char::from(b'a' + (at as u8 - 1) % 26) });
        }
        out.push_str(row.trim_end());
        out.push('\n');
    }
    for (at, (fg, bg, modifier)) in known.iter().enumerate().skip(1) {
        out.push_str(&format!("{} {fg:?} on {bg:?} {modifier:?}\n", char::from(b'a' + (at as u8 - 1) % 26)));
    }
    out
}

#[test]
fn ascii_is_nothing_but_ascii() {
    for size in SIZES {
        for (screen, keys) in SCREENS {
            let fixture = look("ascii", size, keys);
            // A stand-in is a character that somebody chose, not a question mark. The help has one as a key.
            let text = text_of(&fixture);
            assert!(text.is_ascii(), "{screen} {text}");
            assert!(!text.replace("? help", "").contains('?'), "{screen} {text}");
        }
    }
}

#[test]
fn the_help_looks_as_it_should() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.press("?");
    insta::assert_snapshot!("help_120x36", text_of(&fixture));
}

/// Every size from nothing to 200×60, with whatever may lie over the screen.
#[test]
fn no_size_panics() {
    let plain = Fixture::busy(0, 0);
    let mut over = Fixture::busy(120, 36);
    over.press("jx");
    let mut others: Vec<Fixture> = ["?G", "j>", "2>", "3", "4", "a", "/x", "1 "]
        .into_iter()
        .map(|keys| {
            let mut fixture = Fixture::busy(120, 36);
            fixture.press(keys);
            fixture
        })
        .collect();
    others.push(over);
    others.push(plain);
    let mut buffer = Buffer::default();
    // All of them at every small size, where the arithmetic is tight; at every other size one of them in turn.
    for (width, height) in (0..=200).flat_map(|width| (0..=60).map(move |height| (width, height))) {
        let turn = usize::from(width * 7 + height) % others.len();
        for (at, fixture) in others.iter_mut().enumerate() {
            if at == turn || (width < 30 && height < 18) {
                // Without the message, which would close what is open.
                fixture.model.size = ratatui::layout::Size::new(width, height);
                buffer.resize(Rect::new(0, 0, width, height));
                buffer.reset();
                view::draw(&fixture.model, &mut buffer);
            }
        }
    }
}

#[test]
fn without_colour_the_selection_and_the_states_can_be_told() {
    let mut fixture = Fixture::busy(200, 90);
    fixture.model.theme = Theme::plain();
    fixture.press("j");
    let terminal = fixture.screen();
    let buffer = terminal.backend().buffer();
    let selected = fixture.selected().unwrap().to_string();
    let mut reversed = Vec::new();
    for y in 0..buffer.area.height {
        let row: String = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect();
        for x in 0..buffer.area.width {
            let cell = &buffer[(x, y)];
            assert_eq!((cell.fg, cell.bg), (ratatui::style::Color::Reset, ratatui::style::Color::Reset));
        }
        if buffer[(10, y)].modifier.contains(Modifier::REVERSED) {
            reversed.push(row);
        }
    }
    assert_eq!(reversed.len(), 1);
    assert!(reversed[0].contains(&selected) && reversed[0].starts_with('▌'), "{reversed:?}");
    let text = fixture.text();
    for state in ["WAIT", "DIAL", "OPEN", "PAUSED", "HALF↓", "HALF↑", "failed", "killed"] {
        assert!(text.contains(state), "{state}: {text}");
    }
}

#[test]
fn text_from_outside_cannot_reach_the_terminal_as_control() {
    let mut fixture = Fixture::empty(120, 36);
    fixture.proxy("evil\u{1b}[2J\u{202e}\u{7}proxy");
    fixture.tick(TICK);
    let text = fixture.text();
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()) && !text.contains('\u{202e}'));
    assert!(text.contains("evil[2Jproxy"), "{text}");
}
