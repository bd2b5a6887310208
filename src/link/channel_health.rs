//! Reads the health of a channel for the cockpit, when a snapshot is taken.

use std::{sync::Arc, time::Instant};

use super::{channel_io::ChannelIo, handle::Link};
use crate::telemetry::{ChannelHealth, ChannelHealthSource};

/// Reads the health of one channel of a link.
#[derive(Debug)]
pub(super) struct ChannelHealthReader {
    /// The link to which the channel belongs.
    link: Arc<Link>,
    /// The channel.
    io: Arc<ChannelIo>,
}

impl ChannelHealthReader {
    /// Creates the reader of a channel of `link`.
    pub(super) fn new(link: &Arc<Link>, io: &Arc<ChannelIo>) -> Self {
        Self { link: link.clone(), io: io.clone() }
    }
}

impl ChannelHealthSource for ChannelHealthReader {
    /// Reads `TCP_INFO` and then, under the link's lock, the queues and the RTT of the channel.
    fn health(&self) -> ChannelHealth {
        let (tcp, now) = (self.io.socket().tcp_info(), Instant::now());
        self.link.with(|state| self.io.shared().health(&state.mux, tcp, now))
    }
}
