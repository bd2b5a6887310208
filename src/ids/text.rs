/// Strips what could harm a terminal or a log from text that a peer chose, and cuts it to `max` characters.
///
/// Control characters (C0, C1, DEL) go, and so do the Unicode marks that reorder or hide what follows them
/// (bidirectional overrides, zero-width characters): a proxy's name must not be able to redraw the row it stands in.
pub fn clean(text: &str, max: usize) -> String {
    text.chars().filter(|&c| !c.is_control() && !is_invisible(c)).take(max).collect()
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests;
