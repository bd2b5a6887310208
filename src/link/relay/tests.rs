//! Unit tests of the relay between a stream and its local socket.

use std::{net::Ipv4Addr, task::Poll, time::Duration};

use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::*;
use crate::{
    ids::{Priority, StreamKey, UserChannelId},
    link::{Link, LinkEvents, socket_reader::READ_TURN_BYTES},
    mux::{ChannelWish, MuxConfig, Role},
    wire::{Frame, Open, TunnelMessage},
};

/// An owner that keeps the last stream that the peer has opened.
#[derive(Default)]
struct Owner(Mutex<Option<Stream>>);

impl LinkEvents for Owner {
    fn stream_opened(&self, stream: Stream, _: Open) {
        *self.0.lock() = Some(stream);
    }
    fn message_received(&self, _: &Arc<Link>, _: u16, _: TunnelMessage) {}
    fn go_away_received(&self, _: ResetCode) {}
    fn channels_wanted(&self, _: ChannelWish) {}
    fn unknown_stream(&self, _: u16, _: StreamKey) {}
    fn detached(&self, _: Instant) {}
    fn resumed(&self, _: Duration) {}
}

/// A stream without a driver: the test takes its frames between two turns of the relay.
struct Driverless {
    link: Arc<Link>,
    stream: Stream,
    /// The socket that the stream relays, and its peer.
    socket: TcpStream,
    peer: TcpStream,
}

impl Driverless {
    async fn new() -> Self {
        let (owner, now) = (Arc::<Owner>::default(), Instant::now());
        let config = MuxConfig { initial_cwnd: 1 << 30, ..MuxConfig::default() };
        let link = Link::new(Role::Proxy, config, None, owner.clone());
        let (number, key) = (1, StreamKey::new(UserChannelId::new(1), 1));
        let window = 16 << 20;
        let open = Open { stream: number, key, port: 80, priority: Priority::default(), window, user: None };
        link.with(|state| {
            state.mux.add_channel(1, now);
            state.mux.handle_frame(1, Frame::Open(open), now).unwrap();
        });
        let stream = owner.0.lock().take().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (socket, peer) = tokio::join!(TcpStream::connect(addr), listener.accept());
        Self { link, stream, socket: socket.unwrap(), peer: peer.unwrap().0 }
    }
}

/// Takes the frames that the link has to send, and returns the bytes of data in them.
fn take_sent(link: &Arc<Link>) -> usize {
    link.with(|state| {
        let frames = std::iter::from_fn(|| state.mux.poll_transmit(1, Instant::now()));
        frames.map(|frame| if let Frame::Data { payload, .. } = frame { payload.len() } else { 0 }).sum()
    })
}

/// A stream that always has data to read, and whose peer takes all of it, never waits. It ends nevertheless after the
/// turn in which it is cancelled.
#[tokio::test]
async fn a_relay_that_never_waits_is_cancelled_after_its_turn() {
    let Driverless { link, stream, socket, peer: _peer } = Driverless::new().await;
    // As many bytes as end a turn, again and again.
    let replay = vec![Bytes::from(vec![0; READ_TURN_BYTES]); 8].into();
    let connection = RetryableConnection { socket, replay, are_buffers_small: false };
    let cancel = CancellationToken::new();
    let relay = stream.relay(connection, ResetCode::Internal, &cancel, || ResetCode::Killed);
    let mut relay = std::pin::pin!(relay);
    for turn in 1..=3 {
        assert!(futures_util::poll!(&mut relay).is_pending(), "turn {turn}");
        assert_eq!(take_sent(&link), READ_TURN_BYTES, "turn {turn}");
    }
    cancel.cancel();
    let Poll::Ready((outcome, _)) = futures_util::poll!(&mut relay) else { panic!("it goes on") };
    assert!(matches!(outcome, StreamOutcome::Cancelled), "{outcome:?}");
}

/// A user that was redispatched after memory had been tight kept its small receive buffer, and uploaded slowly, for
/// ever.
#[tokio::test]
async fn the_receive_buffer_of_a_redispatched_user_grows_once_it_sends() {
    let Driverless { link, stream, socket, peer } = Driverless::new().await;
    crate::net::fix_receive_buffer(&socket, 64 * 1024);
    let observed = socket2::SockRef::from(&socket).try_clone().unwrap();
    let fixed = observed.recv_buffer_size().unwrap();
    let connection = RetryableConnection { socket, replay: VecDeque::new(), are_buffers_small: true };
    let cancel = CancellationToken::new();
    let relay = stream.relay(connection, ResetCode::Internal, &cancel, || ResetCode::Killed);
    let mut relay = std::pin::pin!(relay);
    let mut sent = 0;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(30) && observed.recv_buffer_size().unwrap() == fixed {
        // The kernel enlarges the buffer of a reader that empties it, so it is filled each time.
        while peer.try_write(&[0; 64 * 1024]).is_ok() {}
        assert!(futures_util::poll!(&mut relay).is_pending());
        let taken = take_sent(&link);
        sent += taken;
        if taken > 0 {
            let credit = Frame::Window { stream: 1, consumed: sent as u64, window: 16 << 20 };
            link.with(|state| state.mux.handle_frame(1, credit, Instant::now())).unwrap();
        }
        tokio::task::yield_now().await;
    }
    assert!(observed.recv_buffer_size().unwrap() > fixed, "after {sent} bytes");
}
