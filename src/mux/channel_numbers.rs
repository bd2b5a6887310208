//! What both sides have said about the number of channels of a link.

/// The serial numbers of CHANNELS frames, and what the peer has said in them.
#[derive(Debug, Default)]
pub(super) struct ChannelNumbers {
    /// The serial number of the last CHANNELS frame that was sent; 0 before the first. The planner decides once a
    /// second at most, so that it lasts for 136 years.
    pub(super) sent_serial: u32,
    /// The serial number of the last CHANNELS frame that was received; 0 before the first.
    pub(super) received_serial: u32,
    /// On a server: the most channels that the proxy opens; `None` if it keeps a fixed number.
    pub(super) peer_max: Option<u16>,
}
