//! The values of arguments: the names of enum values, and parsers that return what is wrong with a value.

use std::{net::SocketAddr, time::Duration};

use clap::{ValueEnum, builder::PossibleValue};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{ChannelCount, CongestionControl, ProxyConfig, ProxyFormat, REFRESH_RANGE, TextProxies},
    ids::Policy,
    mux::MAX_CHUNK_SIZE,
    net::{CongestionControlError, check_congestion_control},
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

/// Parses an IP address with a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected ADDR:PORT, such as 0.0.0.0:7000 or [::]:7000".to_owned())
}

/// Parses a host name or address with a port above 0.
pub(super) fn host_port(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse().is_ok_and(|port: u16| port > 0) => {
            Ok(text.to_owned())
        }
        _ => Err("expected HOST:PORT, such as example.org:7000 or 127.0.0.1:80".to_owned()),
    }
}

/// Parses the name of a colour theme.
pub(super) fn theme(text: &str) -> Result<String, String> {
    let settings = RawSettings { theme: Some(text.to_owned()), ..RawSettings::default() };
    settings.resolve().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Parses a filter for log records.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    text.parse::<EnvFilter>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Parses the name of a congestion control that the kernel offers, or `system`.
pub(super) fn congestion(text: &str) -> Result<CongestionControl, CongestionControlError> {
    if text == "system" {
        return Ok(CongestionControl::System);
    }
    check_congestion_control(text).map(|()| CongestionControl::Named(text.to_owned()))
}

/// Parses a token: any text that is not blank.
pub(super) fn secret(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("the token must not be blank".to_owned()) } else { Ok(text.to_owned()) }
}

/// Parses a number of seconds up to one day: longer than any timeout here should be, and far below the values for which
/// adding to an instant overflows.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 =
        text.parse().map_err(|_| "expected a number of seconds, such as 10 or 0.5".to_owned())?;
    if !(0.0..=86_400.0).contains(&seconds) {
        return Err("expected a time of 0 to 86400 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Parses the refresh interval of the cockpit. Shorter ones are not visible, longer ones are no live view.
pub(super) fn refresh(text: &str) -> Result<Duration, String> {
    seconds(text)
        .ok()
        .filter(|time| REFRESH_RANGE.contains(&time.as_secs_f64()))
        .ok_or_else(|| "expected a refresh interval of 0.1 to 10 seconds".to_owned())
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

/// Parses a chunk size in bytes, or in KiB with the suffix `K`. A read never returns more than 256 KiB, and below 1 KiB
/// the overhead of the frame header is significant.
pub(super) fn chunk(text: &str) -> Result<usize, String> {
    let (number, unit) = match text.strip_suffix(['K', 'k']) {
        Some(number) => (number, 1024),
        None => (text, 1),
    };
    let bytes = number.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    bytes
        .filter(|bytes| (1024..=MAX_CHUNK_SIZE).contains(bytes))
        .ok_or_else(|| "expected a chunk size of 1K to 256K bytes, such as 8K or 8192".to_owned())
}
