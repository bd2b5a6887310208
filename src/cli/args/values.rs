//! The values of arguments: the names of enum values, and parsers that return what is wrong with a value.

use std::{ops::RangeInclusive, time::Duration};

use clap::{ValueEnum, builder::PossibleValue};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{ChannelCount, CongestionControl, ProxyConfig, ProxyFormat, REFRESH_RANGE, TextProxies},
    ids::{ByteSize, IdError, Policy, ProxyProtocolVersion, near_miss},
    mux::MAX_CHUNK_SIZE,
    net::{CongestionControlError, check_congestion_control},
    operator::Role,
    tui::RawSettings,
};

/// The value of an argument that enables or disables a feature which is enabled by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnOff {
    On,
    Off,
}

impl OnOff {
    /// Returns whether the feature is enabled.
    pub(super) fn is_on(self) -> bool {
        self == Self::On
    }
}

impl ValueEnum for Role {
    /// Lists the subcommands of `underpass config show`.
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    /// Names a subcommand, with its help text.
    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()).help(format!("`underpass {}`", self.as_str())))
    }
}

impl ValueEnum for Policy {
    /// Lists all load-balancing policies for `--policy`.
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    /// Names a policy on the command line, with its help text.
    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Self::RoundRobin => ("round-robin", "Gives each proxy the next stream in turn (round robin)"),
            Self::Weighted => (
                "weighted",
                "Gives each proxy new streams in proportion to its weight (weighted round robin)",
            ),
            Self::LeastStreams => {
                ("least-streams", "Chooses the proxy with the fewest open streams relative to its weight")
            }
            Self::PeakEwma => (
                "peak-ewma",
                "Takes two random proxies and chooses the one with the lower product of latency (EWMA) and open streams",
            ),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

impl ValueEnum for TextProxies {
    /// Lists the values of `--text`.
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Off, Self::Loopback, Self::Anywhere]
    }

    /// Names a value of `--text`, with its help text.
    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Self::Off => ("off", "Proxies that speak the text format are refused"),
            Self::Loopback => {
                ("loopback", "Text-format proxies may connect from this machine only (loopback addresses)")
            }
            Self::Anywhere => ("any", "Text-format proxies may connect from any address"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

impl ValueEnum for ProxyFormat {
    /// Lists the values of `--format`.
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Binary, Self::Text]
    }

    /// Names a frame format on the command line, with its help text.
    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Self::Binary => (
                "binary",
                "Binary frames: several channels, flow control for each stream; the token is never sent",
            ),
            Self::Text => ("text", "Lines of text on one channel; the token is sent in clear text"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

impl ValueEnum for ProxyProtocolVersion {
    /// Lists the values of `--proxy-protocol`.
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::V1, Self::V2]
    }

    /// Names a version of the PROXY protocol on the command line, with its help text.
    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Self::V1 => ("v1", "One line of text"),
            Self::V2 => ("v2", "Binary; a connection without a user is marked as such (LOCAL)"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

/// Parses the name of a colour theme.
pub(super) fn theme(text: &str) -> Result<String, String> {
    let settings = RawSettings { theme: Some(text.to_owned()), ..RawSettings::default() };
    settings.resolve().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// The levels of log records.
const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The targets of log records: those of events, and the modules of the program.
const LOG_TARGETS: [&str; 4] = ["lifecycle", "operator", "panic", "underpass"];

/// Parses a filter for log records. An empty one is the default: an environment variable that is set to nothing.
///
/// `EnvFilter` takes every misspelt level for a target of which all records are logged, so that none are.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Ok("info".to_owned());
    }
    // A directive for a span is left to the filter.
    for directive in text.split(',').map(str::trim).filter(|directive| !directive.contains('[')) {
        let (target, level) =
            directive.split_once('=').map_or((directive, None), |(t, level)| (t, Some(level)));
        let is_level = |word: &str| LOG_LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
        let is_target = LOG_TARGETS.contains(&target) || target.starts_with("underpass::");
        let wrong = match level {
            None if is_level(target) || is_target => continue,
            Some(level) if is_target && is_level(level) => continue,
            Some(level) if is_target => level,
            _ => target,
        };
        let near = near_miss(wrong, LOG_LEVELS.iter().chain(&LOG_TARGETS));
        let hint = near.map(|word| format!("; did you mean {word}?"));
        return Err(format!(
            "{} is no level ({}) and no target ({}){}",
            wrong.escape_debug(),
            LOG_LEVELS.join(", "),
            LOG_TARGETS.join(", "),
            hint.unwrap_or_default()
        ));
    }
    text.parse::<EnvFilter>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Parses the name of a congestion control that the kernel offers, or `system`.
pub(super) fn congestion(text: &str) -> Result<CongestionControl, CongestionControlError> {
    if text == "system" {
        return Ok(CongestionControl::System);
    }
    check_congestion_control(text).map(|()| CongestionControl::Named(text.to_owned()))
}

/// Returns a parser of whole numbers within `range`.
pub(super) fn number(range: RangeInclusive<u32>) -> impl Fn(&str) -> Result<u32, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("expected a number of {} to {}", range.start(), range.end()))
    }
}

/// Parses the port that a proxy asks for.
pub(super) fn public_port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "expected a port of 1 to 65535, or 0 for any free one".to_owned())
}

/// Parses the display name of a proxy.
pub(super) fn display_name(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err("a name has no line breaks and other control characters".to_owned());
    }
    // What the handshake carries.
    if text.len() > usize::from(u8::MAX) {
        return Err(format!("the name has {} bytes; at most {} are possible", text.len(), u8::MAX));
    }
    Ok(text.to_owned())
}

/// Parses a number of seconds up to one day: longer than any timeout here should be, and far below the values for which
/// adding to an instant overflows.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "expected a number of seconds without a unit, such as 10 or 0.5".to_owned())?;
    if !(0.0..=86_400.0).contains(&seconds) {
        return Err("expected a time of 0 to 86400 seconds (a day)".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Parses the interval between two refreshes. Shorter ones are not visible, longer ones are no live view.
pub(super) fn refresh(text: &str) -> Result<Duration, String> {
    seconds(text)
        .ok()
        .filter(|time| REFRESH_RANGE.contains(&time.as_secs_f64()))
        .ok_or_else(|| "expected a refresh interval of 0.1 to 10 seconds".to_owned())
}

/// Parses a time before now: a number with its unit, or of seconds.
pub(super) fn time_before(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => 0,
    };
    // Ten thousand years are no time before now.
    let number = number.parse::<u64>().ok().filter(|number| seconds > 0 && *number < 1 << 32);
    number
        .map(|number| Duration::from_secs(number * seconds))
        .ok_or_else(|| "expected a time before now, such as 90s, 10m, 2h or 1d".to_owned())
}

/// Parses a number of channels, or `auto`.
pub(super) fn channels(text: &str) -> Result<ChannelCount, String> {
    if text == "auto" {
        return Ok(ChannelCount::Auto);
    }
    let max = ProxyConfig::MAX_CHANNELS;
    let count = text.parse().ok().filter(|count| (1..=max).contains(count));
    count.map(ChannelCount::Fixed).ok_or_else(|| format!("expected auto, or a number of 1 to {max}"))
}

/// Parses a chunk size. A read never returns more than 256 KiB, and below 1,000 bytes the overhead of the frame header
/// is significant.
pub(super) fn chunk(text: &str) -> Result<usize, String> {
    let ByteSize(bytes) = text.parse().map_err(|error: IdError| error.to_string())?;
    let chunk = usize::try_from(bytes).ok().filter(|bytes| (1000..=MAX_CHUNK_SIZE).contains(bytes));
    chunk.ok_or_else(|| {
        "expected a chunk size of 1K (1,000) to 256KiB (262,144), such as 8K or 8KiB".to_owned()
    })
}

/// Parses a number of bytes within `range`. `expected` says which; `former_unit` is the unit in which the option once
/// took plain numbers, so that a small one is explained, and proposed with that unit where this is within the range.
fn bytes_within(
    text: &str,
    range: RangeInclusive<u64>,
    expected: &str,
    former_unit: &str,
) -> Result<u64, String> {
    let ByteSize(bytes) = text.parse().map_err(|error: IdError| error.to_string())?;
    if range.contains(&bytes) {
        return Ok(bytes);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(expected.to_owned());
    }
    let with_unit = format!("{text}{former_unit}");
    let is_possible = with_unit.parse().is_ok_and(|ByteSize(bytes)| range.contains(&bytes));
    let hint = if is_possible { format!(": did you mean {with_unit}?") } else { String::new() };
    Err(format!("{expected}; without a unit, {text} is a number of bytes{hint}"))
}

/// Parses a memory budget. With less than 16 MB few streams would get more than their minimum.
pub(super) fn memory(text: &str) -> Result<u64, String> {
    let expected = "expected a memory budget of 16M (16,000,000 bytes) to 1TiB, such as 256M or 1GiB";
    bytes_within(text, 16_000_000..=ByteSize::MAX, expected, "MiB")
}

/// Parses the maximum size of all recordings. A file has a sixteenth of it, and may begin with the state of thousands
/// of streams.
pub(super) fn recording_size(text: &str) -> Result<u64, String> {
    let expected = "expected a size of 16M (16,000,000 bytes) to 1TiB, such as 500M or 1GiB";
    bytes_within(text, 16_000_000..=ByteSize::MAX, expected, "MiB")
}

/// Parses the speed of a replay.
pub(super) fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed| (0.1..=1000.0).contains(speed));
    speed.ok_or_else(|| "expected a number of 0.1 to 1000, such as 10".to_owned())
}

/// Parses the first flow-control window of a stream.
pub(super) fn window(text: &str) -> Result<u32, String> {
    let expected = "expected a window of 16K (16,000 bytes) to 64MiB, such as 512K or 256KiB";
    bytes_within(text, 16_000..=64 << 20, expected, "KiB").map(|bytes| bytes as u32)
}
