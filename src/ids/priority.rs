//! Scheduling priorities of streams.

use std::{fmt, str::FromStr};

use super::error::IdError;

/// The scheduling priority of a stream: its share of a congested channel. Each step up doubles the weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Priority {
    /// Weight 1.
    Background = 0,
    /// Weight 2.
    Low = 1,
    /// Weight 4.
    #[default]
    Normal = 2,
    /// Weight 8.
    High = 3,
    /// Weight 16.
    Urgent = 4,
}

impl Priority {
    /// Every priority, lowest first.
    pub const ALL: [Self; 5] = [Self::Background, Self::Low, Self::Normal, Self::High, Self::Urgent];

    /// Returns the priority with this number, 0 (background) to 4 (urgent), or `None` if there is none.
    pub fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Returns the weight in the scheduler: 1, 2, 4, 8 or 16.
    pub fn weight(self) -> u32 {
        1 << self as u32
    }

    /// Returns the next higher priority; the highest returns itself.
    #[must_use]
    pub fn raised(self) -> Self {
        Self::from_wire(self as u8 + 1).unwrap_or(self)
    }

    /// Returns the next lower priority; the lowest returns itself.
    #[must_use]
    pub fn lowered(self) -> Self {
        (self as u8).checked_sub(1).and_then(Self::from_wire).unwrap_or(self)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Background => "background",
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Urgent => "urgent",
        })
    }
}

impl FromStr for Priority {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        Self::ALL.into_iter().find(|priority| priority.to_string() == s).ok_or(IdError::Priority)
    }
}

#[cfg(test)]
mod tests;
