//! The words with which an operator gives a command, in the cockpit, on the command line of the program and on the
//! control socket: rates, weights, policies and the objects that a command is about.

use std::{fmt, str::FromStr};

use crate::ids::{
    Direction, MAX_WEIGHT, Policy, ProxyId, Rate, ServiceKey, StreamKey, UserChannelId, parse_bytes,
};

/// What streams are sorted by, in the order of the cockpit's columns.
pub const SORT_KEYS: [&str; 15] = [
    "key",
    "state",
    "service",
    "proxy",
    "channel",
    "user",
    "content",
    "priority",
    "up",
    "down",
    "up-bytes",
    "down-bytes",
    "progress",
    "age",
    "bytes",
];

/// A change of a rate limit in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitChange {
    /// The direction that is limited: download (to the user) or upload (from the user).
    pub direction: Direction,
    /// The new limit in bytes per second; `None` removes the limit.
    pub rate: Option<Rate>,
}

/// A proxy as an operator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyRef {
    /// By its id, which only it has: `P3`.
    Id(ProxyId),
    /// By the name that it gave itself.
    Name(String),
}

impl FromStr for ProxyRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) if text.trim().is_empty() => {
                Err("expected: the id of a proxy, like P3, or its name".to_owned())
            }
            Err(_) => Ok(Self::Name(text.to_owned())),
        }
    }
}

impl fmt::Display for ProxyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// The object that a command is about. The notations exclude each other: a user's id has six hexadecimal digits, a port
/// at most five; what is neither is the name of a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `3F9A1C:1`
    Stream(StreamKey),
    /// `3F9A1C`
    User(UserChannelId),
    /// `8080` or `8080:default`
    Service(ServiceKey),
    /// `P3` or `edge-1`
    Proxy(ProxyRef),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(key) = text.parse() {
            return Ok(Self::Stream(key));
        }
        if let Ok(user) = text.parse() {
            return Ok(Self::User(user));
        }
        if let Ok(service) = text.parse() {
            return Ok(Self::Service(service));
        }
        text.parse().map(Self::Proxy).map_err(|_: String| {
            "expected: a stream (3F9A1C:1), a user (3F9A1C), a service (8080) or a proxy (P3 or its name)"
                .to_owned()
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(key) => key.fmt(f),
            Self::User(user) => user.fmt(f),
            Self::Service(service) => service.fmt(f),
            Self::Proxy(proxy) => proxy.fmt(f),
        }
    }
}

/// Parses rate limits, in bytes per second of each direction: `down 10M`, `up 500K down off`, `10M down`; a rate or
/// `off` alone is for both directions. A comma separates only where white space follows: `1,5M` is an error, and not 1
/// and 5M.
pub fn parse_limits(text: &str) -> Result<Vec<LimitChange>, String> {
    let mut changes: Vec<LimitChange> = Vec::new();
    let text = join_units(text);
    let words = text.split([' ', '\t', '=']).map(|word| word.trim_end_matches(','));
    let mut words = words.filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        let (direction, rate) = match (parse_direction(word), words.peek()) {
            (Some(_), None) => return Err(format!("missing argument: {word} RATE, or {word} off")),
            (Some(direction), Some(rate)) => {
                let rate = parse_rate(rate)?;
                words.next();
                (Some(direction), rate)
            }
            (None, next) => {
                let direction = next.and_then(|next| parse_direction(next));
                direction.inspect(|_| _ = words.next());
                (direction, parse_rate(word)?)
            }
        };
        for direction in direction.map_or(vec![Direction::Down, Direction::Up], |one| vec![one]) {
            if changes.iter().any(|known| known.direction == direction) {
                return Err(format!("two rates for the same direction: {text} (down|up RATE, RATE, or off)"));
            }
            changes.push(LimitChange { direction, rate });
        }
    }
    if changes.is_empty() && !text.trim().is_empty() {
        return Err("missing argument: down|up RATE, RATE, or off".to_owned());
    }
    Ok(changes)
}

/// Removes the blanks between a number and its unit: `1 MB/s` becomes `1MB/s`, as in `down 1 M, up 500 kB/s`.
fn join_units(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        let follows_digit = joined.ends_with(|c: char| c.is_ascii_digit());
        let is_unit = parse_bytes(&format!("1{}", rate_of(word.trim_end_matches(',')))).is_some()
            && word.starts_with(|c: char| c.is_ascii_alphabetic());
        let continues = joined.is_empty() || (follows_digit && is_unit);
        if !continues {
            joined.push(' ');
        }
        joined.push_str(word);
    }
    joined
}

/// Returns the text of a rate without `/s`.
fn rate_of(word: &str) -> &str {
    word.strip_suffix("/s").unwrap_or(word)
}

/// Parses the name of a direction; `None` for another word.
fn parse_direction(word: &str) -> Option<Direction> {
    match word.to_ascii_lowercase().as_str() {
        "down" | "download" => Some(Direction::Down),
        "up" | "upload" => Some(Direction::Up),
        _ => None,
    }
}

/// Parses a rate in bytes per second, such as `1M`, `1MB/s` or `500kB/s`; `None` is no limit. 0 is an error: some take
/// it for no limit, and some for no traffic.
pub fn parse_rate(word: &str) -> Result<Option<Rate>, String> {
    if ["off", "none"].contains(&word.to_ascii_lowercase().as_str()) {
        return Ok(None);
    }
    if parse_bytes(rate_of(word)) == Some(0.0) {
        return Err("0 is no rate: off removes the limit, pause stops a stream".to_owned());
    }
    let rate = word.parse::<Rate>();
    rate.map(Some).map_err(|why| format!("{why} (down|up RATE, RATE, or off)"))
}

/// Parses the weight of a proxy, 1 to [`MAX_WEIGHT`].
///
/// # Errors
/// A message for the operator.
pub fn parse_weight(text: &str) -> Result<u32, String> {
    let weight = text.parse().ok().filter(|weight| (1..=MAX_WEIGHT).contains(weight));
    weight.ok_or_else(|| format!("expected: a number from 1 to {MAX_WEIGHT}"))
}

/// Parses a balancing policy: its name, or a beginning that only one name has.
///
/// # Errors
/// A message for the operator.
pub fn parse_policy(text: &str) -> Result<Policy, String> {
    let mut fitting = Policy::ALL.into_iter().filter(|policy| policy.to_string().starts_with(text));
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(format!("expected: {}", Policy::ALL.map(|policy| policy.to_string()).join("|"))),
    }
}

#[cfg(test)]
mod tests;
