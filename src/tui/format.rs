//! Formats figures and names as text of a small, known width, so that columns do not move while values change. Pure
//! functions: nothing here reads the model or a clock.

use std::{net::SocketAddr, time::Duration};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

pub(crate) use crate::ids::format_bytes as bytes;
use crate::telemetry::civil_date;

/// Formats the address of a user; `-` for one that is not known, as on a proxy's link in the text format.
pub(crate) fn user_address(addr: SocketAddr) -> String {
    if addr.ip().is_unspecified() { "-".to_owned() } else { addr.to_string() }
}

/// Formats a wall-clock time in milliseconds since the Unix epoch as the time of day in UTC: `14:02:40Z`.
pub(crate) fn time_of_day(epoch_ms: u64) -> String {
    let s = epoch_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
}

/// Formats the date in UTC of a wall-clock time in milliseconds since the Unix epoch: `2026-11-28`.
pub(crate) fn date(epoch_ms: u64) -> String {
    let (year, month, day) = civil_date(epoch_ms / 86_400_000);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Formats bytes like [`bytes`](fn@bytes), with their unit: `0 B`, `131KB`.
pub(crate) fn bytes_with_unit(n: u64) -> String {
    format!("{}{}B", bytes(n), if n < 1000 { " " } else { "" })
}

/// Formats a rate in bytes per second like [`bytes`], without the `/s`.
pub(crate) fn rate(bytes_per_second: f64) -> String {
    // A cast from a float saturates: a negative rate becomes 0, one that is too large the largest integer.
    bytes(bytes_per_second.round() as u64)
}

/// Formats an integer with a comma between thousands: `1,284,003`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Formats a count with its noun: `1 stream`, `2 streams`. The plural is the noun with an `s`.
pub(crate) fn counted(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// Inflects a verb for a subject of `n` things: one `waits`, two `wait`.
pub(crate) fn verb(n: u64, infinitive: &str) -> String {
    format!("{infinitive}{}", if n == 1 { "s" } else { "" })
}

/// Formats an age in at most six characters: `41s`, `4m51`, `1h02`, `3d04h`.
pub(crate) fn age(age: Duration) -> String {
    let s = age.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

/// Formats a latency in at most five characters: `840µs`, `1.2ms`, `45ms`, `1.3s`, `12m`.
pub(crate) fn latency(latency: Duration) -> String {
    match latency.as_micros() {
        us @ 0..1000 => format!("{us}µs"),
        us @ 1000..9950 => format!("{:.1}ms", us as f64 / 1e3),
        us @ 9950..999_500 => format!("{:.0}ms", us as f64 / 1e3),
        us @ 999_500..99_950_000 => format!("{:.1}s", us as f64 / 1e6),
        us => format!("{}m", (us / 60_000_000).min(9999)),
    }
}

/// Returns `text` left-aligned in exactly `width` cells, [truncated](truncate) if it is too long.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let mut out = truncate(text, width);
    out.extend(std::iter::repeat_n(' ', width.saturating_sub(out.width())));
    out
}

/// Returns `text` right-aligned in exactly `width` cells, [truncated](truncate) if it is too long.
pub(crate) fn fit_right(text: &str, width: usize) -> String {
    let text = truncate(text, width);
    let mut out = " ".repeat(width.saturating_sub(text.width()));
    out.push_str(&text);
    out
}

/// Returns `text` in at most `width` cells. The end of a longer text is replaced with `…`.
///
/// The crate `unicode-truncate` does the same by grapheme cluster, but its version 2.0.1 asserts in debug builds that
/// the widths of clusters add up to the width of the text. That is not so for the Arabic ligature of lam and alef
/// (two clusters, one cell), and texts on the screen come from peers.
pub(crate) fn truncate(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut left = width.saturating_sub(1);
    for c in text.chars() {
        match left.checked_sub(c.width().unwrap_or(0)) {
            Some(rest) => left = rest,
            None => break,
        }
        out.push(c);
    }
    // The width of a text may exceed the sum of the widths of its characters.
    while out.width() >= width.max(1) && out.pop().is_some() {}
    if width > 0 {
        out.push('…');
    }
    out
}

/// Returns `text` in at most `width` cells. The start of a longer text is replaced with `…`: an address keeps its
/// port, a command line the characters before the cursor.
pub(crate) fn truncate_start(text: &str, width: usize) -> String {
    let excess = text.width().saturating_sub(width);
    if excess == 0 || width == 0 {
        return truncate(text, width);
    }
    let mut dropped = 0;
    let kept = text.chars().skip_while(|c| {
        let drop = dropped <= excess;
        dropped += c.width().unwrap_or(0);
        drop
    });
    let mut out: String = std::iter::once('…').chain(kept).collect();
    while out.width() > width && out.chars().count() > 1 {
        out.remove('…'.len_utf8());
    }
    out
}

/// Returns `name` in at most `width` cells. The middle of a longer name is replaced with `…`: names of machines that
/// are alike differ at their end as often as at their start.
pub(crate) fn truncate_middle(name: &str, width: usize) -> String {
    if name.width() <= width || width < 5 {
        return truncate(name, width);
    }
    let mut head = truncate(name, width / 2 + 1);
    // Removes the ellipsis: the second half begins with one.
    head.pop();
    let rest = truncate_start(name, width - head.width());
    head + &rest
}

/// Returns `name` left-aligned in exactly `width` cells, [truncated in its middle](truncate_middle) if it is too
/// long.
pub(crate) fn fit_middle(name: &str, width: usize) -> String {
    fit(&truncate_middle(name, width), width)
}

/// Breaks text between its words into lines of at most `width` characters. A longer word is broken too: what the
/// operator has to copy, such as a token, must be complete on the screen.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let whole_or_parts = |word: &str| -> Vec<String> {
        let chars: Vec<char> = word.chars().collect();
        chars.chunks(width.max(1)).map(|part| part.iter().collect()).collect()
    };
    for word in text.split_whitespace().flat_map(whole_or_parts) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

/// Breaks text into lines of at most `width` cells, between its words where that is possible: a word that is wider than
/// a line is broken too, so that nothing is lost. At least one line.
pub(crate) fn wrap_all(text: &str, width: usize) -> Vec<String> {
    let width = width.max(2);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let word_width = word.width();
        if used > 0 && used + 1 + word_width <= width {
            if let Some(line) = lines.last_mut() {
                line.push(' ');
                line.push_str(word);
            }
            used += 1 + word_width;
            continue;
        }
        if used > 0 {
            lines.push(String::new());
            used = 0;
        }
        for c in word.chars() {
            let cells = c.width().unwrap_or(0);
            if used + cells > width {
                lines.push(String::new());
                used = 0;
            }
            if let Some(line) = lines.last_mut() {
                line.push(c);
            }
            used += cells;
        }
    }
    lines
}

/// Returns public ports, `:80 :443`, in at most `width` cells; of more than fit, the first ones and the number of the
/// others,
/// `:80 :443 +10`, or the number of all, `12`. A single port is returned whatever its width.
pub(crate) fn ports(ports: &[u16], width: usize) -> String {
    let names: Vec<_> = ports.iter().map(|port| format!(":{port}")).take(width).collect();
    let with_first = |shown: usize| match ports.len() - shown {
        0 => names[..shown].join(" "),
        left => format!("{} +{left}", names[..shown].join(" ")),
    };
    match ports {
        [] => String::new(),
        [only] => format!(":{only}"),
        several => {
            let fitting = (1..=names.len()).rev().map(with_first).find(|text| text.len() <= width);
            fitting.unwrap_or_else(|| several.len().to_string())
        }
    }
}

#[cfg(test)]
mod tests;
