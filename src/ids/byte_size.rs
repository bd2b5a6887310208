//! Numbers of bytes with units, as people write them.
//!
//! One meaning everywhere, on the command line, in the cockpit and on its screen: K, M, G and T are powers of 1,000, as
//! for the rates of network links and in `iperf3` and `tc`. KiB, MiB, GiB and TiB are powers of 1,024. With two
//! meanings (`curl --limit-rate 8K` is 8,192) what an operator types would not be what the screen shows.

use std::str::FromStr;

use super::error::IdError;

/// A number of bytes, parsed from text such as `4096`, `512K`, `1.5M`, `64KiB` or `1GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Largest size in bytes, 1 TiB: hours of transfer, and far below the offset at which a `u64` overflows.
    pub const MAX: u64 = 1 << 40;
}

impl FromStr for ByteSize {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = parse_bytes(text).filter(|bytes| *bytes <= Self::MAX as f64 && bytes.fract() == 0.0);
        bytes.map(|bytes| Self(bytes as u64)).ok_or(IdError::ByteSize)
    }
}

/// Parses a number of bytes, which may be a fraction: `200`, `1.5K`, `8KiB`, `10MB`. `None` if it is none, or negative.
pub fn parse_bytes(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (prefix, base) = match unit.strip_suffix('i') {
        Some(prefix) => (prefix, 1024.0_f64),
        None => (unit, 1000.0),
    };
    let power = match prefix {
        // `i` and `ib` are no units.
        "" if base == 1000.0 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    // `f64::from_str` takes signs, exponents, "inf" and "NaN" too.
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    digits.parse::<f64>().ok().filter(|_| is_plain).map(|number| number * base.powi(power))
}

/// Formats bytes, or bytes per second, in at most five characters: `902`, `1.2K`, `18.4M`, `104M`. K is 1,000.
pub fn format_bytes(bytes: u64) -> String {
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

#[cfg(test)]
mod tests;
