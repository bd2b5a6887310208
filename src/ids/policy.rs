use std::{fmt, str::FromStr};

use super::IdError;

/// The largest weight of a proxy.
pub const MAX_WEIGHT: u32 = 1000;

/// How a service gives its new streams to its proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Policy {
    /// To each in turn.
    #[default]
    RoundRobin = 0,
    /// To each in turn as often as its weight says, evenly spread (smooth weighted round robin).
    Weighted = 1,
    /// To the one that has the fewest open streams for its weight.
    LeastStreams = 2,
    /// To the better of two taken at random, by how long it took to open streams lately (peak-sensitive moving
    /// average) and how many it has.
    PeakEwma = 3,
}

impl Policy {
    /// Every policy.
    pub const ALL: [Self; 4] = [Self::RoundRobin, Self::Weighted, Self::LeastStreams, Self::PeakEwma];

    /// The policy with this number.
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
