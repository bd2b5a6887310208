//! Numbers with units on the command line.

use std::time::Duration;

use crate::rig::emulator::QueueLimit;

/// Parses a number with one of these suffixes, and multiplies it by the factor of the suffix.
fn number(text: &str, units: &[(&str, f64)]) -> Result<f64, String> {
    let (unit, factor) = units.iter().find(|(unit, _)| text.ends_with(unit)).ok_or_else(|| {
        let suffixes: Vec<&str> = units.iter().map(|unit| unit.0).collect();
        format!("expected a number with one of the suffixes {}", suffixes.join(", "))
    })?;
    let number = text[..text.len() - unit.len()].parse::<f64>().map_err(|error| error.to_string())?;
    if number.is_finite() && number >= 0.0 { Ok(number * factor) } else { Err("out of range".into()) }
}

/// Parses a time, like 40ms.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    number(text, &[("us", 1e-6), ("ms", 1e-3), ("s", 1.0)])
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()))
}

/// Parses a rate in bits per second, like 100M.
pub(crate) fn bits_per_second(text: &str) -> Result<u64, String> {
    match number(text, &[("K", 1e3), ("M", 1e6), ("G", 1e9)])? as u64 {
        0 => Err("the rate is below one bit per second".into()),
        bits => Ok(bits),
    }
}

/// Parses a probability, like 1%.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    match number(text, &[("%", 0.01)])? {
        share if share <= 1.0 => Ok(share),
        _ => Err("more than 100%".into()),
    }
}

/// Parses the limit of a queue, like 50ms or 64KB.
pub(crate) fn queue(text: &str) -> Result<QueueLimit, String> {
    if text.ends_with('B') {
        number(text, &[("KB", 1e3), ("MB", 1e6), ("B", 1.0)]).map(|bytes| QueueLimit::Bytes(bytes as u64))
    } else {
        time(text).map(QueueLimit::Time)
    }
}
