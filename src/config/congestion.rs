//! The congestion control of channels.

/// The kernel's congestion control of the channels' TCP connections. Connections of users and targets always have that
/// of the system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CongestionControl {
    /// `bbr` where the kernel offers it and the other side is not on this machine, else that of the system. With packet
    /// loss of 1 % bbr fills a path of which cubic, the usual default of systems, uses a twentieth. A loopback
    /// connection cannot be congested, and there the pacing of bbr costs a third of the throughput.
    #[default]
    PreferBbr,
    /// That of the system.
    System,
    /// The one with this name, which the kernel has to offer.
    Named(String),
}

impl CongestionControl {
    /// Returns the name of the congestion control to request for a channel; `None` leaves that of the system.
    /// `is_loopback` says whether the other side is on this machine.
    pub fn requested_name(&self, is_loopback: bool) -> Option<&str> {
        match self {
            Self::PreferBbr => (!is_loopback).then_some("bbr"),
            Self::System => None,
            Self::Named(name) => Some(name),
        }
    }
}

#[cfg(test)]
mod tests;
