//! Tests of the number of channels that a peer asks for.

use super::*;
use crate::mux::MuxConfig;

/// The server plans for as many channels as the proxy says that it opens, within its own limit: whatever a peer asks
/// for, the server neither plans for thousands nor for none.
#[test]
fn the_number_of_channels_that_a_proxy_announces_is_clamped() {
    let mut server = Mux::new(Role::Server, MuxConfig::default());
    let mut announce = |serial, count| {
        server.on_channels(serial, count);
        server.max_auto_channels()
    };
    assert_eq!(announce(1, u16::MAX), Some(MAX_PLANNED_CHANNELS));
    assert_eq!(announce(2, 0), Some(1));
    assert_eq!(announce(3, 7), Some(7));
    // An older frame that arrives late, and one that arrives twice.
    assert_eq!([announce(2, 64), announce(3, 64)], [Some(7), Some(7)]);
}
