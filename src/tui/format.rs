//! Numbers as text: short, of one width, never jumping.

use std::time::{Duration, SystemTime};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The time of day in UTC.
pub(crate) fn time_of_day(at: SystemTime) -> String {
    let s = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
}

/// Bytes, or bytes a second, in at most five characters: `902`, `1.2K`, `18.4M`, `104M`. K is 1,000.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];
    if bytes < 1000 {
        return bytes.to_string();
    }
    let (mut value, mut unit) = (bytes as f64, 0);
    // 999.5 would round to four digits.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(value < 99.95);
    format!("{value:.decimals$}{}", UNITS[unit])
}

/// A rate in bytes a second, without the `/s`.
pub(crate) fn rate(per_second: f64) -> String {
    // A float cast saturates: no rate is too large or negative.
    bytes(per_second.round() as u64)
}

/// A whole number with its thousands set apart.
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

/// `n` things: `1 stream`, `2 streams`.
pub(crate) fn things(n: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(n), if n == 1 { "" } else { "s" })
}

/// What `n` things do: one `waits`, two `wait`.
pub(crate) fn verb(n: u64, does: &str) -> String {
    format!("{does}{}", if n == 1 { "s" } else { "" })
}

/// How often: `once`, `twice`, `3 times`.
pub(crate) fn times(n: u32) -> String {
    match n {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    }
}

/// A length of time in at most six characters: `41s`, `4m51`, `1h02`, `3d04h`.
pub(crate) fn age(age: Duration) -> String {
    let s = age.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

/// How long something took, in at most five characters: `840µs`, `1.2ms`, `45ms`, `1.3s`, `12m`.
pub(crate) fn took(took: Duration) -> String {
    match took.as_micros() {
        us @ 0..1000 => format!("{us}µs"),
        us @ 1000..9950 => format!("{:.1}ms", us as f64 / 1e3),
        us @ 9950..999_500 => format!("{:.0}ms", us as f64 / 1e3),
        us @ 999_500..99_950_000 => format!("{:.1}s", us as f64 / 1e6),
        us => format!("{}m", (us / 60_000_000).min(9999)),
    }
}

/// `text` in exactly `width` cells, cut with `…` if it is too long.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let mut out = cut(text, width);
    out.extend(std::iter::repeat_n(' ', width.saturating_sub(out.width())));
    out
}

/// `text` at the right end of exactly `width` cells.
pub(crate) fn fit_right(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let mut out = " ".repeat(width.saturating_sub(text.width()));
    out.push_str(&text);
    out
}

/// `text` in at most `width` cells; one that is cut says so.
pub(crate) fn cut(text: &str, width: usize) -> String {
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
    // What characters take together may be more than each by itself.
    while out.width() >= width.max(1) && out.pop().is_some() {}
    if width > 0 {
        out.push('…');
    }
    out
}

/// Like [`cut`], but the end is kept: of an address, the port tells more than the network.
pub(crate) fn cut_left(text: &str, width: usize) -> String {
    let excess = text.width().saturating_sub(width);
    if excess == 0 || width == 0 {
        return cut(text, width);
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

/// The name of a machine in at most `width` cells. Names that are alike differ at their end as often as not, so that one
/// that is too long is cut in its middle.
pub(crate) fn cut_name(name: &str, width: usize) -> String {
    if name.width() <= width || width < 5 {
        return cut(name, width);
    }
    let mut head = cut(name, width / 2 + 1);
    // The mark of the cut, which the other half has.
    head.pop();
    let rest = cut_left(name, width - head.width());
    head + &rest
}

/// The same in exactly `width` cells.
pub(crate) fn fit_name(name: &str, width: usize) -> String {
    fit(&cut_name(name, width), width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_both_its_ends() {
        assert_eq!(cut_name("edge-fra", 8), "edge-fra");
        assert_eq!(cut_name("edge-frankfurt-1", 9), "edge…rt-1");
        assert_eq!(cut_name("edge-frankfurt-1", 10), "edge-…rt-1");
        assert_eq!(cut_name("edge-frankfurt-1", 4), "edg…");
        for width in 0..12 {
            for name in ["端末の名前が長い", "👩‍👩‍👧‍👦👩‍👩‍👧‍👦🇩🇪🇫🇷👍🏽👍🏽", "ﷺﷺﷺ"]
            {
                for text in [cut_name(name, width), cut(name, width), cut_left(name, width)] {
                    assert!(text.width() <= width, "{name} in {width}: {text}");
                }
            }
        }
    }

    #[test]
    fn bytes_never_need_more_than_five_cells() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.0K"),
            (99_949, "99.9K"),
            (99_950, "100K"),
            (999_499, "999K"),
            (999_500, "1.0M"),
            (18_400_000, "18.4M"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(bytes(n), text);
        }
        let mut n = 1u64;
        while let Some(next) = n.checked_mul(7) {
            assert!(bytes(n).len() <= 5, "{n}");
            n = next / 3;
        }
        assert_eq!(rate(-4.0), "0");
        assert_eq!(rate(f64::NAN), "0");
    }

    #[test]
    fn ages_and_counts_are_short() {
        for (s, text) in [(0, "0s"), (59, "59s"), (291, "4m51"), (3720, "1h02"), (273_600, "3d04h")] {
            assert_eq!(age(Duration::from_secs(s)), text);
        }
        assert_eq!(count(1_284_003), "1,284,003");
        assert_eq!(things(1, "stream"), "1 stream");
    }

    #[test]
    fn how_long_it_took_needs_no_more_than_five_cells() {
        for (us, text) in [
            (0, "0µs"),
            (999, "999µs"),
            (1000, "1.0ms"),
            (9_949, "9.9ms"),
            (9_951, "10ms"),
            (999_499, "999ms"),
            (999_500, "1.0s"),
            (99_949_999, "99.9s"),
            (99_950_000, "1m"),
            (u64::MAX, "9999m"),
        ] {
            let text_of = took(Duration::from_micros(us));
            assert_eq!(text_of, text);
            assert!(text_of.chars().count() <= 5);
        }
    }

    #[test]
    fn text_is_cut_to_cells_not_to_bytes() {
        assert_eq!(fit("edge", 6), "edge  ");
        assert_eq!(fit_right("7", 3), "  7");
        assert_eq!(fit("edge-frankfurt", 6), "edge-…");
        assert_eq!(fit("界界界", 4), "界… ");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(cut_left("[2001:db8::1]:443", 8), "…:1]:443");
    }
}
