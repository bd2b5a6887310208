//! Load-balancing policies and weights.

use std::{fmt, str::FromStr};

use super::error::IdError;

/// The largest load-balancing weight of a proxy.
pub const MAX_WEIGHT: u32 = 1000;

/// How a service distributes new streams over its proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Policy {
    /// Gives each proxy the next stream in turn (round robin).
    #[default]
    RoundRobin = 0,
    /// Each proxy in proportion to its weight, evenly spread (smooth weighted round robin).
    Weighted = 1,
    /// The proxy with the fewest open streams in proportion to its weight.
    LeastStreams = 2,
    /// The better of two random proxies, by the product of open streams and recent latency (peak-sensitive
    /// exponentially weighted moving average).
    PeakEwma = 3,
}

impl Policy {
    /// Every policy.
    pub const ALL: [Self; 4] = [Self::RoundRobin, Self::Weighted, Self::LeastStreams, Self::PeakEwma];

    /// Returns the policy with this number, or `None` if there is none.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::RoundRobin => "round-robin",
            Self::Weighted => "weighted",
            Self::LeastStreams => "least-streams",
            Self::PeakEwma => "peak-ewma",
        })
    }
}

impl FromStr for Policy {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        Self::ALL.into_iter().find(|policy| policy.to_string() == s).ok_or(IdError::Policy)
    }
}

#[cfg(test)]
mod tests;
