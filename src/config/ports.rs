use std::{fmt, str::FromStr};

/// Text that is no range of ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a range of ports is FIRST-LAST or one port, from 1 to 65535, like 1024-65535")]
pub struct PortRangeError;

/// The public ports that proxies may ask for, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// Where Linux takes the ports of outgoing connections from by default. A listener in there may find its port taken
/// by somebody's download.
const EPHEMERAL: (u16, u16) = (32_768, 60_999);

impl Default for PortRange {
    /// All that need no privilege.
    fn default() -> Self {
        Self { first: 1024, last: u16::MAX }
    }
}

impl PortRange {
    /// Whether `port` may be asked for.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// The ports to try when any will do, beginning with the `start`-th and coming round: those from 20000 that
    /// outgoing connections do not use, or, where the range has none of these, all of it.
    pub fn candidates(self, start: u16) -> impl Iterator<Item = u16> {
        let (first, last) = match (self.first.max(20_000), self.last.min(EPHEMERAL.0 - 1)) {
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
            |text: &str| text.trim().parse::<u16>().ok().filter(|&port| port > 0).ok_or(PortRangeError);
        let (first, last) = (port(first)?, port(last)?);
        if first <= last { Ok(Self { first, last }) } else { Err(PortRangeError) }
    }
}

#[cfg(test)]
mod tests;
