//! Draws bars, sparklines and Braille dots with characters.

use ratatui::{style::Style, symbols::braille::BRAILLE, text::Span};

/// Returns the filled part and the unfilled part of a horizontal bar, together exactly `width` cells, in steps of
/// half a cell. The two parts differ in line weight too, for terminals without colour.
pub(crate) fn horizontal(share: f64, width: usize) -> (String, String) {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let mut halves = (share * width as f64 * 2.0).round() as usize;
    // A share above zero fills at least half a cell, and one below 1 never the whole bar.
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

/// Returns a horizontal bar as spans, with a mark where the bar would end at the share `fair`.
pub(crate) fn marked(
    share: f64,
    fair: Option<f64>,
    width: usize,
    filled: Style,
    track: Style,
    mark: Style,
) -> Vec<Span<'static>> {
    let (bar, rest) = horizontal(share, width);
    let cells = bar.chars().map(|c| (c, filled)).chain(rest.chars().map(|c| (c, track)));
    let at = fair.map(|fair| ((fair * width as f64) as usize).min(width.saturating_sub(1)));
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

/// Returns a sparkline: one block character for each value, its height proportional to the largest value; a blank for
/// zero. The highest block is not a full one, so that sparklines in adjacent rows do not touch. `headroom` extends
/// the scale above the largest value by this fraction: with some of it, a steady rate is a line at middle height.
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

/// Returns the top of a chart's scale: the next of 1, 2, 4, 6, 8 or 10 times a power of ten, at least 1,000, so that
/// the scale seldom changes.
pub(crate) fn nice_ceiling(value: f64) -> f64 {
    if value.is_nan() || value <= 1000.0 {
        return 1000.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0, 10.0].into_iter().map(|n| n * power).find(|&n| n >= value).unwrap_or(value)
}

/// Returns the bit of a Braille dot in the index of [`BRAILLE`]: its patterns are in row-major order, two dots a row.
pub(crate) fn dot(column: usize, row_from_top: usize) -> u8 {
    1 << (row_from_top * 2 + column)
}

/// Returns the Braille character with these dots.
pub(crate) fn braille(dots: u8) -> char {
    BRAILLE[usize::from(dots)]
}

#[cfg(test)]
mod tests;
