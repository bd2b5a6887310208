//! The flow-control state of a stream's sending half, for telemetry.

use std::time::Duration;

/// The flow-control state of the sending half of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendFlow {
    /// The send window: how many bytes may be buffered for the peer, those in flight or unsent and the credit left.
    pub window: u64,
    /// Bytes that were written and are not sent, or have to be retransmitted.
    pub unsent: u64,
    /// Bytes that were sent and that the peer has not acknowledged, i.e. not consumed.
    pub in_flight: u64,
    /// The offset up to which the peer has acknowledged data.
    pub acknowledged: u64,
    /// Bytes that were retransmitted because their channel was lost or did not answer.
    pub retransmitted: u64,
    /// Whether the operator has paused the stream.
    pub is_paused: bool,
    /// Whether the send window would be larger if the memory budget of all windows allowed it.
    pub is_budget_limited: bool,
    /// The minimum RTT of the stream's primary channel.
    pub min_rtt: Option<Duration>,
}
