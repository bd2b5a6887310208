//! Ranges of public ports.

use std::{fmt, ops::RangeInclusive, str::FromStr};

/// The text is not a range of ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortRangeError {
    /// It is not one or two numbers from 1 to 65535.
    #[error("expected FIRST-LAST or one port, from 1 to 65535, like 1024-65535")]
    Syntax,
    /// No port is in the range.
    #[error("the first port is above the last one: write {last}-{first}")]
    Empty {
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
    },
}

/// An inclusive range of public ports that proxies may request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest port of the range; at least 1.
    first: u16,
    /// The highest port of the range.
    last: u16,
}

/// The ephemeral ports of Linux by default (`ip_local_port_range`). A listener on a port of this range may
/// find it taken by an outgoing connection.
const EPHEMERAL_PORTS: RangeInclusive<u16> = 32_768..=60_999;

impl Default for PortRange {
    /// All ports that can be opened without privileges.
    fn default() -> Self {
        Self { first: 1024, last: u16::MAX }
    }
}

impl PortRange {
    /// Returns the highest port of the range.
    pub fn last(self) -> u16 {
        self.last
    }

    /// Returns whether the range contains `port`.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// Returns the ports to try if a proxy requests any free port, beginning with the `start`-th and wrapping around:
    /// those from 20000 up to the ephemeral ports, or the whole range if it has none of these.
    pub fn candidates(self, start: u16) -> impl Iterator<Item = u16> {
        let (first, last) = match (self.first.max(20_000), self.last.min(EPHEMERAL_PORTS.start() - 1)) {
            (first, last) if first <= last => (first, last),
            _ => (self.first, self.last),
        };
        let count = u32::from(last - first) + 1;
        (0..count).map(move |n| first + u16::try_from((u32::from(start) + n) % count).unwrap_or(0))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = PortRangeError;

    fn from_str(s: &str) -> Result<Self, PortRangeError> {
        let (first, last) = s.split_once('-').unwrap_or((s, s));
        let port =
            |text: &str| text.trim().parse().ok().filter(|&port| port > 0).ok_or(PortRangeError::Syntax);
        let (first, last) = (port(first)?, port(last)?);
        if first <= last { Ok(Self { first, last }) } else { Err(PortRangeError::Empty { first, last }) }
    }
}

#[cfg(test)]
mod tests;
