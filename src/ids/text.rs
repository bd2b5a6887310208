//! Sanitizing text that a peer chose.

/// Removes everything from `text` that could harm a terminal or a log, and truncates it to `max_chars` characters.
///
/// It removes control characters (C0, C1, DEL), and the Unicode characters that reorder or hide the text behind them
/// (bidirectional overrides, zero-width characters), so that a proxy's name cannot redraw the row in which it is shown.
pub fn clean(text: &str, max_chars: usize) -> String {
    text.chars().filter(|&c| !c.is_control() && !is_invisible(c)).take(max_chars).collect()
}

/// Returns whether `c` is a zero-width character, a line separator or a bidirectional control.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests;
