//! Tests of how long a link waits for its peer.

use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
};

use super::*;
use crate::{
    link::{channel_shared::ChannelShared, write_queue::WriteQueue},
    mux::MuxConfig,
    net::ChannelSocket,
    wire::{binary::FrameEncoder, text::FieldCount},
};

/// Regression test: a driver without processor time had not reported the acknowledgements of its channel. A channel
/// that was added judged it by the report before, each busy channel was taken for dead, and the replacements judged the
/// next.
#[tokio::test]
async fn a_new_channel_does_not_judge_others_by_old_reports() {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut state = LinkState::new(Mux::new(Role::Server, MuxConfig::default()), None);
    for id in [1, 2] {
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let shared = ChannelShared::new(id, Handle::current().id(), false, None);
        let queue = WriteQueue::new(FrameEncoder::default(), None);
        let channel = Arc::new(ChannelIo::new(shared, ChannelSocket::plain(socket), queue));
        assert!(state.add_channel(&channel, None));
        state.mux.set_ack_due(id, Some(Instant::now()));
    }
    assert!(state.mux.is_responsive(1));
    state.mux.handle_channel_timeout(1, Instant::now());
    assert!(!state.mux.is_responsive(1), "its own driver judges it");
}

#[test]
fn resets_shorten_the_grace_unless_a_channel_ended_without_one() {
    let secs = Duration::from_secs;
    let (near, far) = (Duration::from_millis(1), Duration::from_millis(500));
    for (rtt, last_end_without_reset, grace) in [
        (near, None, Duration::from_millis(1004)),
        (near, Some(Duration::ZERO), Duration::MAX),
        (near, Some(secs(1)), Duration::MAX),
        (near, Some(secs(2)), Duration::from_millis(1004)),
        (far, None, secs(3)),
        (far, Some(secs(2)), Duration::MAX),
    ] {
        assert_eq!(reset_grace(rtt, last_end_without_reset), grace, "{rtt:?} {last_end_without_reset:?}");
    }
}

#[test]
fn the_list_for_received_lines_is_freed_if_it_is_long() {
    for (capacity, kept) in [(512, 512), (513, 0)] {
        let config = MuxConfig::default();
        let adapter = TextAdapter::new(Role::Server, FieldCount::Four, 1 << 20, config.budget.clone());
        let mut state = LinkState::new(Mux::new(Role::Server, config), Some(adapter));
        state.text_inputs = Vec::with_capacity(capacity);
        // Refused, because the link has no channel 1; it is translated before.
        let line = TunnelMessage::control(TunnelAction::Ping, String::new());
        _ = state.handle_line(1, line, Instant::now());
        assert_eq!(state.text_inputs.capacity(), kept, "a list for {capacity} elements");
    }
}
