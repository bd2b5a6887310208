//! Snapshots of the screens, dialogs and themes, and what holds at every size.

use std::time::Duration;

use ratatui::{buffer::Buffer, layout::Rect, style::Modifier};

use super::fixture::Fixture;
use crate::tui::{theme::Theme, view};

const TICK: Duration = Duration::from_millis(100);

/// The screens, and the keys that open them from the streams screen.
const SCREENS: [(&str, &str); 5] =
    [("streams", "1"), ("detail", "1j>"), ("proxies", "2>"), ("sessions", "3j"), ("logs", "4")];

/// The sizes at which each screen has a snapshot.
const SIZES: [(u16, u16); 4] = [(200, 50), (120, 36), (80, 24), (60, 15)];
/// The usual size of a state or dialog.
const USUAL: (u16, u16) = (120, 36);
const SMALL: (u16, u16) = (80, 24);
/// The smallest size at which every action must work.
const SMALLEST: (u16, u16) = (40, 12);

/// The dialogs and other overlays, and the keys that open them on the busy streams screen.
const OVERLAYS: [(&str, &str); 11] = [
    ("kill_one", "jx"),
    ("kill_many", "mmmx"),
    ("kill_typed_number", ":mark-shown>x1"),
    ("kill_user", "jK"),
    ("kick", "jX"),
    ("kick_typed_number", "2jx1"),
    ("quit", "q"),
    ("add_proxy", "a"),
    ("help", "?"),
    ("columns", "ojj > j "),
    ("filter_prompt", "/pro"),
];

/// Returns a fixture in the state of this name.
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

/// Returns a fixture with more proxies and streams than fit on any screen.
fn overflowing(width: u16, height: u16) -> Fixture {
    let mut fixture = Fixture::empty(width, height);
    for i in 0..40 {
        fixture.proxy(&format!("a-proxy-with-a-long-name-{i}"));
    }
    for i in 0..300u32 {
        let index = fixture.open(0x20_0000 + (i % 90) * 0x5D37, i / 90 + 1_000_000);
        fixture.assign(index, (i % 40) as usize);
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
    fixture
}

/// Returns the keys that open a screen.
fn keys_of(screen: &str) -> &'static str {
    SCREENS.iter().find(|(name, _)| *name == screen).map(|(_, keys)| *keys).unwrap()
}

/// Asserts the snapshot of a screen in a state.
fn snapshot(screen: &str, state: &str, (width, height): (u16, u16)) {
    let fixture = look(state, (width, height), keys_of(screen));
    insta::assert_snapshot!(format!("{screen}_{state}_{width}x{height}"), text_of(&fixture));
}

/// Returns the screen as text with the digits of the time of day replaced: log records have that of the wall clock.
pub(super) fn text_of(fixture: &Fixture) -> String {
    let times = regex::Regex::new(r"\d\d:\d\d:[\dZ]*|\+\d\.\d\d\ds").unwrap();
    let zeros = |found: &regex::Captures<'_>| {
        found[0].chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>()
    };
    times.replace_all(&fixture.text(), zeros).into_owned()
}

#[test]
fn every_screen_matches_its_snapshot_at_every_size() {
    for size in SIZES.into_iter().chain([SMALLEST]) {
        for (screen, _) in SCREENS {
            snapshot(screen, "busy", size);
        }
    }
}

#[test]
fn every_state_matches_its_snapshot() {
    for screen in ["streams", "proxies", "sessions", "logs"] {
        snapshot(screen, "empty", USUAL);
    }
    snapshot("streams", "empty", SMALL);
    snapshot("streams", "empty", (60, 15));
    for screen in ["streams", "detail", "proxies", "sessions"] {
        snapshot(screen, "overflow", USUAL);
        snapshot(screen, "ascii", USUAL);
    }
    snapshot("streams", "overflow", SMALL);
    snapshot("proxies", "overflow", SMALL);
    for size in [USUAL, SMALLEST] {
        snapshot("streams", "frozen", size);
        snapshot("streams", "filtered", size);
    }
    snapshot("detail", "frozen", USUAL);
}

#[test]
fn every_overlay_matches_its_snapshot() {
    let small = ["kill_one", "kick", "quit", "add_proxy", "help"];
    let smallest = ["kill_one", "quit"];
    for (overlay, keys) in OVERLAYS {
        let sizes =
            [(USUAL, true), (SMALL, small.contains(&overlay)), (SMALLEST, smallest.contains(&overlay))];
        for ((width, height), _) in sizes.into_iter().filter(|(_, is_wanted)| *is_wanted) {
            let fixture = look("busy", (width, height), keys);
            insta::assert_snapshot!(format!("overlay_{overlay}_{width}x{height}"), text_of(&fixture));
        }
    }
}

/// Of the sizes without a snapshot: the title of each screen, the notices of each state, and the buttons of each
/// dialog.
#[test]
fn states_and_dialogs_are_recognisable_at_every_size() {
    for size in [USUAL, SMALL, (60, 15), SMALLEST] {
        for (screen, keys) in SCREENS {
            for (state, shown) in [("frozen", "FROZEN"), ("overflow", ""), ("empty", "")] {
                let text = look(state, size, keys).text();
                assert!(text.contains(shown), "{screen} {state} {size:?}: {text}");
                assert!(text.lines().all(|line| line.chars().count() <= usize::from(size.0)), "{text}");
            }
        }
        for (overlay, keys) in OVERLAYS {
            let text = look("busy", size, keys).text();
            let parts: &[&str] = match overlay {
                "kill_one" => &["Kill this stream?", "[ Cancel ]", "Kill"],
                "kill_many" => &["Kill these streams?", "[ Cancel ]", "3 open streams"],
                "kill_typed_number" => &["Type 37 to confirm: 1_", "[ Cancel ]"],
                "kill_user" => &["Kill this user?", "[ Cancel ]"],
                "kick" | "kick_typed_number" => &["Kick this proxy?", "[ Cancel ]", "Kick"],
                "quit" => &["Quit?", "[ Cancel ]", "Drain"],
                "add_proxy" => &["Add a proxy", "underpass proxy"],
                "help" => &["Help"],
                "columns" => &["Columns", "[x]"],
                _ => &["/pro", "proxy:"],
            };
            for part in parts {
                assert!(text.contains(part), "{overlay} {size:?}: no {part}: {text}");
            }
        }
    }
}

/// Text alone does not distinguish themes: here each cell's style is a letter, and a legend explains the letters.
#[test]
fn every_theme_matches_its_snapshot() {
    let themes = [
        ("busy", &["streams", "detail", "proxies", "sessions", "logs"][..]),
        ("plain", &["streams", "detail", "proxies", "sessions", "logs"][..]),
        ("light", &["streams", "detail", "proxies"][..]),
    ];
    for (theme, screens) in themes {
        for screen in screens {
            let (width, height) = USUAL;
            let fixture = look(theme, USUAL, keys_of(screen));
            insta::assert_snapshot!(format!("styles_{screen}_{theme}_{width}x{height}"), styles(&fixture));
        }
    }
    insta::assert_snapshot!("styles_streams_plain_80x24", styles(&look("plain", SMALL, "1")));
    insta::assert_snapshot!("styles_kill_one_busy_120x36", styles(&look("busy", USUAL, "jx")));
}

#[test]
fn chosen_columns_match_their_snapshots() {
    for (width, height) in [USUAL, SMALL] {
        let mut fixture = look("busy", (width, height), "ojj > j ");
        fixture.press("G<");
        insta::assert_snapshot!(format!("streams_chosen_{width}x{height}"), text_of(&fixture));
    }
}

/// Returns each cell's style as a letter, and the legend of the letters.
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
fn ascii_mode_draws_only_ascii() {
    for size in SIZES.into_iter().chain([SMALLEST]) {
        for (screen, keys) in SCREENS {
            let fixture = look("ascii", size, keys);
            // Every character that the cockpit draws has a chosen replacement; `?` would be a missing one. It is the
            // key of the help too.
            let text = text_of(&fixture);
            assert!(text.is_ascii(), "{screen} {text}");
            assert!(!text.replace("? help", "").contains('?'), "{screen} {text}");
        }
    }
}

/// Every size from nothing to 200×60, with each overlay.
#[test]
fn no_terminal_size_panics() {
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
    // All overlays at every small size, where the arithmetic is tight; at every other size one of them in turn.
    for (width, height) in (0..=200).flat_map(|width| (0..=60).map(move |height| (width, height))) {
        let turn = usize::from(width * 7 + height) % others.len();
        for (at, fixture) in others.iter_mut().enumerate() {
            if at == turn || (width < 30 && height < 18) {
                // Set directly: the resize message would close the overlay.
                fixture.model.size = ratatui::layout::Size::new(width, height);
                buffer.resize(Rect::new(0, 0, width, height));
                buffer.reset();
                view::draw(&fixture.model, &mut buffer);
            }
        }
    }
}

#[test]
fn selection_and_states_are_distinguishable_without_colour() {
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
fn control_characters_from_peers_do_not_reach_the_terminal() {
    let mut fixture = Fixture::empty(120, 36);
    fixture.proxy("evil\u{1b}[2J\u{202e}\u{7}proxy");
    fixture.tick(TICK);
    let text = fixture.text();
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()) && !text.contains('\u{202e}'));
    assert!(text.contains("evil[2Jproxy"), "{text}");
}
