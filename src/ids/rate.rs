//! Rates and rate limits in bytes per second.

use std::{fmt, num::NonZeroU64, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{byte_size::parse_bytes, error::IdError};

/// The unit letters of rates with their decimal factors, largest first.
const UNITS: [(char, u64); 3] = [('G', 1_000_000_000), ('M', 1_000_000), ('K', 1_000)];

/// A rate limit in bytes per second. It cannot be zero: to stop a stream it is paused instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// Returns the rate of `bytes_per_second`; `None` for 0.
    pub fn new(bytes_per_second: u64) -> Option<Self> {
        NonZeroU64::new(bytes_per_second).map(Self)
    }

    /// Returns the rate in bytes per second.
    pub fn bytes_per_second(self) -> u64 {
        self.0.get()
    }
}

/// Prints `10M`, `1.5M`, `500K` or `800`, which parses to the same rate.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes_per_second();
        for (letter, unit) in UNITS {
            // As many decimals as are needed to be exact; with more than three the smaller unit is used.
            if bytes >= unit && bytes.is_multiple_of(unit / 1000) {
                let thousandths = bytes % unit / (unit / 1000);
                let text = format!("{}.{thousandths:03}", bytes / unit);
                return f.pad(&format!("{}{letter}", text.trim_end_matches('0').trim_end_matches('.')));
            }
        }
        f.pad(&bytes.to_string())
    }
}

impl FromStr for Rate {
    type Err = IdError;

    /// Parses a number of bytes per second with the units of [`parse_bytes`], with or without `/s`.
    fn from_str(s: &str) -> Result<Self, IdError> {
        let bytes = parse_bytes(s.strip_suffix("/s").unwrap_or(s)).ok_or(IdError::Rate)?.round();
        // More than a terabyte per second is more likely a typing error than a network.
        if !(1.0..=1e12).contains(&bytes) {
            return Err(IdError::Rate);
        }
        Self::new(bytes as u64).ok_or(IdError::Rate)
    }
}

/// The direction of a stream's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Download: from the target to the user.
    Down,
    /// Upload: from the user to the target.
    Up,
}

impl Direction {
    /// Both directions.
    pub const ALL: [Self; 2] = [Self::Down, Self::Up];
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Down => "down",
            Self::Up => "up",
        })
    }
}

/// The rate limits of a stream, user, proxy or service, for each direction; `None` is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RateLimits {
    /// The limit of downloads (target to user) in bytes per second; `None` is unlimited.
    pub down: Option<Rate>,
    /// The limit of uploads (user to target) in bytes per second; `None` is unlimited.
    pub up: Option<Rate>,
}

impl RateLimits {
    /// Returns the rate limit of one direction; `None` is unlimited.
    pub fn of(self, direction: Direction) -> Option<Rate> {
        match direction {
            Direction::Down => self.down,
            Direction::Up => self.up,
        }
    }
}

#[cfg(test)]
mod tests;
