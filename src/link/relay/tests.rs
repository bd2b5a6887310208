//! Unit tests of the relay: how soon it ends.

use std::{convert::Infallible, net::Ipv4Addr, sync::Mutex};

use tokio::net::TcpListener;

use super::*;
use crate::{
    ids::{Priority, StreamKey, UserChannelId},
    link::{Link, LinkEvents},
    mux::{ChannelWish, MuxConfig, Role},
    wire::{Frame, Open, TunnelMessage},
};

/// Owner of a link that keeps the stream that the peer has opened.
#[derive(Default)]
struct StreamOwner(Mutex<Option<Stream>>);

impl LinkEvents for StreamOwner {
    fn stream_opened(&self, stream: Stream, _open: Open) {
        *self.0.lock().unwrap() = Some(stream);
    }

    fn message_received(&self, _link: &Arc<Link>, _channel: u16, _message: TunnelMessage) {}
    fn go_away_received(&self, _code: ResetCode) {}
    fn channels_wanted(&self, _wish: ChannelWish) {}
    fn unknown_stream(&self, _channel: u16, _key: StreamKey) {}
    fn detached(&self, _until: Instant) {}
    fn resumed(&self, _after: std::time::Duration) {}
}

/// Takes what the link sends, as a peer whose target is as fast as the sender does, for as long as it is polled.
async fn receive_all(link: &Arc<Link>) -> Infallible {
    loop {
        link.with(|state| {
            while let Some(frame) = state.mux.poll_transmit(1, Instant::now()) {
                let answer = match frame {
                    Frame::Ping { token } => Frame::Pong { token },
                    Frame::Data { stream, offset, payload, .. } => {
                        Frame::Window { stream, consumed: offset + payload.len() as u64, window: 1 << 20 }
                    }
                    _ => continue,
                };
                state.mux.handle_frame(1, answer, Instant::now()).unwrap();
            }
        });
        tokio::task::yield_now().await;
    }
}

/// A stream of a fast sender was killed only when its sender paused or its credit was used up.
#[tokio::test]
async fn a_stream_that_always_has_data_to_read_ends_after_one_turn() {
    const CHUNK: usize = 64 * 1024;
    let owner = Arc::<StreamOwner>::default();
    let link = Link::new(Role::Proxy, MuxConfig::default(), None, owner.clone());
    let key = StreamKey::new(UserChannelId::new(1), 1);
    let open = Open { stream: 1, key, port: 80, priority: Priority::default(), window: 1 << 20, user: None };
    link.with(|state| {
        state.mux.add_channel(1, Instant::now());
        state.mux.handle_frame(1, Frame::Open(open), Instant::now())
    })
    .unwrap();
    let stream = owner.0.lock().unwrap().take().unwrap();
    stream.accept();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();

    // Bytes that an earlier stream has read are as fast as a sender can be.
    let replay = std::iter::repeat_n(Bytes::from_static(&[0; CHUNK]), 64).collect();
    let connection = RetryableConnection { socket, replay };
    let cancel = CancellationToken::new();
    cancel.cancel();
    let mut written = None;
    let relay = stream.relay(connection, ResetCode::Internal, &cancel, || {
        let flow = link.with(|state| state.mux.send_flow(1));
        written = flow.map(|flow| flow.acknowledged + flow.in_flight + flow.unsent);
        ResetCode::Killed
    });
    let (outcome, _) = tokio::select! {
        ended = relay => ended,
        never = receive_all(&link) => match never {},
    };
    assert!(matches!(outcome, StreamOutcome::Cancelled), "{outcome:?}");
    let written = written.expect("the stream exists until it is reset");
    assert!(
        (1..=4 * CHUNK as u64).contains(&written),
        "{written} bytes were read after the end of the stream"
    );
}
