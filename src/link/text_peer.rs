//! What is different on the link of a text peer.

use std::time::Duration;

use crate::mux::{CHUNK_SIZE, MuxConfig};

/// How often a text peer is pinged.
const TEXT_PING_INTERVAL: Duration = Duration::from_secs(3);

/// How long a text peer may send nothing.
const TEXT_TIMEOUT: Duration = Duration::from_secs(9);

/// Adapts the configuration of a mux to a text peer.
pub(super) fn adapt_config(config: &mut MuxConfig) {
    config.peer_has_flow_control = false;
    // A third-party proxy may not accept longer lines.
    config.chunk_size = config.chunk_size.map(|chunk| chunk.min(CHUNK_SIZE));
    // A simple proxy handles one stream at a time, and one slow target may block it for a while. It may detect the loss
    // of its server by the pings.
    config.ping_interval = TEXT_PING_INTERVAL;
    config.idle_stream_ping_interval = TEXT_PING_INTERVAL;
    config.idle_ping_interval = TEXT_PING_INTERVAL;
    config.spare_ping_interval = TEXT_PING_INTERVAL;
    config.keepalive_timeout = TEXT_TIMEOUT;
    config.idle_timeout = TEXT_TIMEOUT;
}
