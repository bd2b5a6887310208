use ratatui::style::Modifier;

use super::fixture::Fixture;
use crate::tui::theme::Theme;

#[test]
fn screens_look_as_they_should() {
    for (width, height) in [(120, 36), (80, 24), (40, 12)] {
        let mut empty = Fixture::empty(width, height);
        empty.tick(std::time::Duration::from_millis(100));
        insta::assert_snapshot!(format!("empty_{width}x{height}"), empty.text());
        let mut busy = Fixture::busy(width, height);
        insta::assert_snapshot!(format!("busy_{width}x{height}"), busy.text());
        busy.press("jjx");
        insta::assert_snapshot!(format!("dialog_{width}x{height}"), busy.text());
    }
}

#[test]
fn the_help_looks_as_it_should() {
    let mut fixture = Fixture::busy(120, 36);
    fixture.press("?");
    insta::assert_snapshot!("help_120x36", fixture.text());
}

/// Every size, with whatever may lie over the screen.
#[test]
fn no_size_panics() {
    let mut plain = Fixture::busy(0, 0);
    let mut asking = Fixture::busy(120, 36);
    asking.press("jx");
    let mut helping = Fixture::busy(120, 36);
    helping.press("?G");
    let step = if cfg!(debug_assertions) { 7 } else { 1 };
    // All small sizes, where the arithmetic is tight, then larger strides.
    let widths = || (0..30).chain((30..=200).step_by(step));
    let heights = || (0..18).chain((18..=60).step_by(step));
    for width in widths() {
        for height in heights() {
            plain.resize(width, height);
            plain.screen();
            for fixture in [&mut asking, &mut helping] {
                // Without the message, which would close what is open.
                fixture.model.size = ratatui::layout::Size::new(width, height);
                fixture.screen();
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
    for state in ["WAIT", "DIAL", "OPEN", "HALF↓", "HALF↑", "failed", "killed"] {
        assert!(text.contains(state), "{state}: {text}");
    }
}

#[test]
fn text_from_outside_cannot_reach_the_terminal_as_control() {
    let mut fixture = Fixture::empty(120, 36);
    fixture.proxy("evil\u{1b}[2J\u{202e}\u{7}proxy");
    fixture.tick(std::time::Duration::from_millis(100));
    let text = fixture.text();
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()) && !text.contains('\u{202e}'));
    assert!(text.contains("evil[2Jproxy"), "{text}");
}
