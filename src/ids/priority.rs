use std::{fmt, str::FromStr};

use super::IdError;

/// How much of a crowded channel a stream gets beside others: each step up is twice the share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Priority {
    /// One share.
    Background = 0,
    /// Two shares.
    Low = 1,
    /// Four shares.
    #[default]
    Normal = 2,
    /// Eight shares.
    High = 3,
    /// Sixteen shares.
    Urgent = 4,
}

impl Priority {
    /// Every priority, the lowest first.
    pub const ALL: [Self; 5] = [Self::Background, Self::Low, Self::Normal, Self::High, Self::Urgent];

    /// The priority with this number, 0 (background) to 4 (urgent).
    pub fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Its shares: 1, 2, 4, 8 or 16.
    pub fn weight(self) -> u32 {
        1 << self as u32
    }

    /// The next higher one, or itself at the top.
    #[must_use]
    pub fn raised(self) -> Self {
        Self::from_wire(self as u8 + 1).unwrap_or(self)
    }

    /// The next lower one, or itself at the bottom.
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
