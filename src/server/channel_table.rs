//! The channel numbers that one proxy uses.

use std::{collections::HashMap, sync::Arc};

use crate::{config::ProxyConfig, telemetry::ChannelStats};

/// The maximum number of channels of one proxy: twice as many as it may be told to keep. Before it gives a channel up
/// on which nothing is answered it connects a replacement, for each of them at the same time after an outage.
const MAX_CHANNELS: usize = 2 * ProxyConfig::MAX_CHANNELS as usize;

/// The channel numbers of one proxy that are in use, from the handshake to the end of each channel.
#[derive(Debug, Default)]
pub(super) struct ChannelTable {
    /// The numbers in use, with the channel's counters; `None` until the handshake has completed.
    by_index: HashMap<u16, Option<Arc<ChannelStats>>>,
    /// The number that was allocated last. The next one differs even if this one is free again, so that events of two
    /// successive channels are not attributed to one.
    last_index: u16,
}

impl ChannelTable {
    /// Allocates a channel number that the proxy does not use, at least 1, in ascending order. Returns `None` if the
    /// proxy has its maximum of channels. A channel that resumes the link may exceed the maximum by one, because it
    /// replaces all others.
    pub(super) fn allocate(&mut self, is_resuming: bool) -> Option<u16> {
        if self.by_index.len() >= MAX_CHANNELS + usize::from(is_resuming) {
            return None;
        }
        let is_free = |index: &u16| *index > 0 && !self.by_index.contains_key(index);
        let index = (1..=u16::MAX).map(|n| self.last_index.wrapping_add(n)).find(is_free)?;
        self.by_index.insert(index, None);
        self.last_index = index;
        Some(index)
    }

    /// Returns the number of channels.
    pub(super) fn len(&self) -> usize {
        self.by_index.len()
    }

    /// Stores the telemetry counters of a channel that has completed its handshake.
    pub(super) fn set_stats(&mut self, index: u16, stats: Arc<ChannelStats>) {
        self.by_index.insert(index, Some(stats));
    }

    /// Returns the telemetry counters of the proxy's channel with this number; `None` if there is none that has
    /// completed its handshake and has not ended.
    pub(super) fn stats(&self, index: u16) -> Option<Arc<ChannelStats>> {
        self.by_index.get(&index).cloned().flatten()
    }

    /// Frees a channel number. Returns whether it was the last one in use.
    pub(super) fn release(&mut self, index: u16) -> bool {
        self.by_index.remove(&index);
        self.by_index.is_empty()
    }
}

#[cfg(test)]
mod tests;
