//! The kinds of events that a reader of a recording looks for.

use super::EventKind;

/// A kind of event that a reader of a recording jumps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notable {
    /// A stream ended with a failure.
    Failure,
    /// A proxy connected, was lost or resumed.
    Proxy,
    /// A public port was opened or closed.
    Service,
    /// The operator changed something.
    Operator,
    /// A user, a handshake or a registration was refused, or an address was blocked.
    Refusal,
    /// Any other warning.
    Warning,
}

impl Notable {
    /// All kinds, in the order of declaration.
    pub const ALL: [Self; 6] =
        [Self::Failure, Self::Proxy, Self::Service, Self::Operator, Self::Refusal, Self::Warning];

    /// The words for the kinds, in the same order, as an operator types them.
    pub const NAMES: [&str; 6] = ["failure", "proxy", "service", "operator", "refusal", "warning"];

    /// Returns the kind with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().zip(Self::NAMES).find(|(_, known)| *known == name).map(|(kind, _)| kind)
    }

    /// Returns the kind of an event; `None` if it is not notable.
    pub fn of(event: &EventKind) -> Option<Self> {
        match event {
            EventKind::StreamEnded { .. } => event.is_warning().then_some(Self::Failure),
            EventKind::ServerConnected { .. }
            | EventKind::ServerDisconnected { .. }
            | EventKind::ProxyConnected { .. }
            | EventKind::ProxyDisconnected { .. }
            | EventKind::GracePeriodStarted { .. }
            | EventKind::ProxyResumed { .. } => Some(Self::Proxy),
            EventKind::ServiceOpened { .. } | EventKind::ServiceClosed { .. } => Some(Self::Service),
            EventKind::OperatorActed { .. } | EventKind::DrainStarted { .. } => Some(Self::Operator),
            EventKind::UserRejected { .. }
            | EventKind::HandshakeFailed { .. }
            | EventKind::AddressBlocked { .. }
            | EventKind::RegistrationRefused { .. } => Some(Self::Refusal),
            other => other.is_warning().then_some(Self::Warning),
        }
    }
}
