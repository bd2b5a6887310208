use std::{fmt, num::NonZeroU64, str::FromStr};

use super::IdError;

/// What the letters stand for, the largest first: decimal, as in all rates of this program.
const UNITS: [(char, u64); 3] = [('G', 1_000_000_000), ('M', 1_000_000), ('K', 1_000)];

/// Bytes a second, never none: what should not flow at all is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// So many bytes a second; nothing for 0.
    pub fn new(bytes_per_second: u64) -> Option<Self> {
        NonZeroU64::new(bytes_per_second).map(Self)
    }

    /// Bytes a second.
    pub fn bytes_per_second(self) -> u64 {
        self.0.get()
    }
}

/// `10M`, `1.5M`, `500K`, `800`: it reads back as it is written.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes_per_second();
        for (letter, unit) in UNITS {
            // As many places as are needed to lose nothing; beyond three the smaller unit reads better.
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

    fn from_str(s: &str) -> Result<Self, IdError> {
        let last = s.chars().last().map(|letter| letter.to_ascii_uppercase());
        let unit = UNITS.iter().find(|(letter, _)| Some(*letter) == last);
        let (number, unit) = unit.map_or((s, 1), |(_, unit)| (&s[..s.len() - 1], *unit));
        let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let number: f64 = number.parse().ok().filter(|_| plain).ok_or(IdError::Rate)?;
        let bytes = (number * unit as f64).round();
        // Beyond a terabyte a second a typing error is likelier than a network.
        if !(1.0..=1e12).contains(&bytes) {
            return Err(IdError::Rate);
        }
        Self::new(bytes as u64).ok_or(IdError::Rate)
    }
}

/// Which way bytes flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Target to user.
    Down,
    /// User to target.
    Up,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Down => "down",
            Self::Up => "up",
        })
    }
}

/// How fast something may go, each direction apart; no rate is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// To users.
    pub down: Option<Rate>,
    /// From users.
    pub up: Option<Rate>,
}

impl RateLimits {
    /// The limit of one direction.
    pub fn of(self, direction: Direction) -> Option<Rate> {
        match direction {
            Direction::Down => self.down,
            Direction::Up => self.up,
        }
    }
}

#[cfg(test)]
mod tests;
