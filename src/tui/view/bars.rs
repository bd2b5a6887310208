//! Bars and curves out of characters.

use ratatui::{style::Style, text::Span};

/// A bar of `width` cells, `share` of it filled, to half a cell: what is filled, and the track it runs on. They differ
/// in weight too, for screens without colour.
pub(crate) fn horizontal(share: f64, width: usize) -> (String, String) {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let mut halves = (share * width as f64 * 2.0).round() as usize;
    // What is there at all is to be seen, and what is not all there is not to look whole.
    if share > 0.0 {
        halves = halves.max(1);
    }
    if share < 1.0 {
        halves = halves.min(width.saturating_mul(2).saturating_sub(1));
    }
    halves = halves.min(width * 2);
    let mut filled = "━".repeat(halves / 2);
    if halves % 2 == 1 {
        filled.push('╸');
    }
    (filled, "─".repeat(width - halves.div_ceil(2)))
}

/// The same as spans, with a mark where the bar would end if all was `due`.
pub(crate) fn marked(
    share: f64,
    due: Option<f64>,
    width: usize,
    filled: Style,
    track: Style,
    mark: Style,
) -> Vec<Span<'static>> {
    let (bar, rest) = horizontal(share, width);
    let cells = bar.chars().map(|c| (c, filled)).chain(rest.chars().map(|c| (c, track)));
    let at = due.map(|due| ((due * width as f64) as usize).min(width.saturating_sub(1)));
    let cell = |(i, (c, style))| if Some(i) == at { ('┃', mark) } else { (c, style) };
    let mut spans: Vec<(String, Style)> = Vec::new();
    for (c, style) in cells.enumerate().map(cell) {
        match spans.last_mut() {
            Some((text, last)) if *last == style => text.push(c),
            _ => spans.push((c.to_string(), style)),
        }
    }
    spans.into_iter().map(|(text, style)| Span::styled(text, style)).collect()
}

/// One character a value, as high as its share of the largest; nothing is a blank. The highest is not a full block:
/// rows above each other would grow together. `headroom` is how much higher than the largest the scale goes: with
/// some, a steady value is a line at middle height and not a wall.
pub(crate) fn spark(values: impl Iterator<Item = f64> + Clone, headroom: f64) -> String {
    const LEVELS: [char; 7] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇'];
    let largest = values.clone().fold(0.0, f64::max) * (1.0 + headroom);
    values
        .map(|value| {
            if value <= 0.0 || largest <= 0.0 {
                ' '
            } else {
                LEVELS[((value / largest * 7.0).ceil() as usize).clamp(1, 7) - 1]
            }
        })
        .collect()
}

/// The largest value of a scale: the next of 1, 2, 5 times a power of ten, so that the axis keeps still.
pub(crate) fn nice_ceiling(value: f64) -> f64 {
    if value.is_nan() || value <= 1000.0 {
        return 1000.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0, 10.0].into_iter().map(|n| n * power).find(|&n| n >= value).unwrap_or(value)
}

/// Braille dots of one cell: bit for (column, row from the top).
pub(crate) fn dot(column: usize, row: usize) -> u8 {
    const BITS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
    BITS[column & 1][row & 3]
}

/// The character with these dots.
pub(crate) fn braille(dots: u8) -> char {
    char::from_u32(0x2800 + u32::from(dots)).unwrap_or(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fill_their_width_and_no_more() {
        let bar = |share, width| {
            let (filled, track) = horizontal(share, width);
            filled + &track
        };
        assert_eq!(bar(0.5, 4), "━━──");
        assert_eq!(bar(1.0, 3), "━━━");
        assert_eq!(bar(0.999, 3), "━━╸");
        assert_eq!(bar(0.0001, 3), "╸──");
        assert_eq!(bar(f64::NAN, 2), "──");
        assert_eq!(bar(7.0, 0), "");
        for i in 0..=100 {
            assert_eq!(bar(f64::from(i) / 100.0, 9).chars().count(), 9);
        }
    }

    #[test]
    fn a_mark_stands_where_a_fair_share_ends() {
        let bar = |share, due| {
            let plain = Style::new();
            let spans = marked(share, due, 8, plain, plain, plain);
            spans.iter().map(|span| span.content.as_ref()).collect::<String>()
        };
        assert_eq!(bar(0.25, Some(0.5)), "━━──┃───");
        assert_eq!(bar(1.0, Some(0.5)), "━━━━┃━━━");
        assert_eq!(bar(0.25, None), "━━──────");
        assert_eq!(bar(0.0, Some(1.0)), "───────┃");
    }

    #[test]
    fn scales_are_round() {
        assert_eq!(nice_ceiling(0.0), 1000.0);
        assert_eq!(nice_ceiling(32_600_000.0), 40_000_000.0);
        assert_eq!(nice_ceiling(9_100_000.0), 10_000_000.0);
        assert_eq!(spark([0.0, 1.0, 4.0, 8.0].into_iter(), 0.0), " ▁▄▇");
    }
}
