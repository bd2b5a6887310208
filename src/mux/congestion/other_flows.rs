//! What the channels of a link know of each other.

use std::ops::{AddAssign, Sub};

/// Channels of a link that carry bulk data, beside the one that is told of them. What they take of the bottleneck is
/// not taken by other connections.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::mux) struct OtherFlows {
    /// How many they are.
    pub(super) count: u64,
    /// The sum of their delivery rates, in bytes per second.
    pub(super) rate: f64,
    /// The sum of the bytes that they have in flight.
    pub(super) in_flight: u64,
}

impl AddAssign for OtherFlows {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.rate += other.rate;
        self.in_flight += other.in_flight;
    }
}

impl Sub for OtherFlows {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            count: self.count - other.count,
            rate: (self.rate - other.rate).max(0.0),
            in_flight: self.in_flight - other.in_flight,
        }
    }
}
