use std::time::Duration;

/// Who keeps a stream from going faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBy {
    /// The operator: it is paused.
    Operator,
    /// A rate limit.
    Limit,
    /// The user reads slowly.
    User,
    /// The target reads slowly.
    Target,
    /// The channel is slower than what sends.
    Channel,
}

/// How a stream flows: looked up for the one that is looked at closely, too costly for each of a hundred thousand at
/// each sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flow {
    /// How many bytes the proxy may have sent beyond what the user took: the receive window, down.
    pub window_down: u64,
    /// How many bytes we may have sent beyond what the target took: the peer's receive window, up.
    pub window_up: u64,
    /// Bytes that came from the proxy and the user has not taken.
    pub queued_down: u64,
    /// Bytes that came from the user and have not gone out on the channel.
    pub queued_up: u64,
    /// Bytes that went out and the target is not known to have taken.
    pub unacknowledged: u64,
    /// Who holds it back at this moment, down and up.
    pub held_by: (Option<HeldBy>, Option<HeldBy>),
    /// For how long the user held it back, altogether.
    pub stalled_by_user: Duration,
    /// For how long the target did.
    pub stalled_by_target: Duration,
    /// For how long the channel did.
    pub stalled_by_channel: Duration,
    /// How often another channel had to take it over.
    pub migrations: u32,
    /// Bytes that this side sent once more because their channel was lost.
    pub resent: u64,
    /// How long the proxy took to reach the target.
    pub opened_after: Option<Duration>,
    /// How long the user waited for the target's first byte.
    pub first_byte_after: Option<Duration>,
}
