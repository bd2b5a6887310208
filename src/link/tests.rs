//! Tests of a link over real sockets: attachment, failure of channels, memory of waiting data.

use std::{
    future::{Future as _, poll_fn},
    net::Ipv4Addr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Poll,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::yield_now,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Driver, Link, LinkEvents, NewChannel, Stream, channel_io::CHANNEL_TURN_BYTES,
    delivery::DELIVERY_TURN_BYTES, state::LinkState,
};
use crate::{
    ids::{Priority, StreamKey, UserChannelId},
    mux::{ChannelWish, MuxConfig, Role},
    net::{BufferPool, ChannelSocket},
    telemetry::DisconnectReason,
    wire::{Frame, Open, ResetCode, TunnelAction, TunnelMessage, binary},
};

/// Longer than any step of these tests takes.
const LONG: Duration = Duration::from_secs(5);

/// Owner of a link that records what it is notified of.
#[derive(Default)]
struct RecordingOwner {
    opened: Mutex<Option<Stream>>,
    /// A channel that is attached from within the notification that the link is detached.
    resume_with: Mutex<Option<(Arc<Link>, NewChannel)>>,
    resumed_driver: Mutex<Option<Driver>>,
    notifications: Mutex<Vec<&'static str>>,
    /// When the grace of the last detachment expires.
    detached_until: Mutex<Option<Instant>>,
    /// Panic in `message_received`.
    panics_at_message: AtomicBool,
}

/// Returns the frame with which a server opens a stream.
fn open_frame(stream: u32) -> Frame {
    let key = StreamKey::new(UserChannelId::new(1), stream);
    Frame::Open(Open { stream, key, port: 80, priority: Priority::default(), window: 1 << 20, user: None })
}

impl LinkEvents for RecordingOwner {
    fn stream_opened(&self, stream: Stream, _open: Open) {
        *self.opened.lock() = Some(stream);
    }

    fn message_received(&self, _link: &Arc<Link>, _channel: u16, _message: TunnelMessage) {
        assert!(!self.panics_at_message.load(Relaxed), "the owner panics");
    }

    fn go_away_received(&self, _code: ResetCode) {}
    fn channels_wanted(&self, _wish: ChannelWish) {}
    fn unknown_stream(&self, _channel: u16, _key: StreamKey) {}

    fn detached(&self, until: Instant) {
        *self.detached_until.lock() = Some(until);
        if let Some((link, channel)) = self.resume_with.lock().take() {
            *self.resumed_driver.lock() = Driver::attach(&link, channel);
        }
        self.notifications.lock().push("detached");
    }

    fn resumed(&self, _after: Duration) {
        self.notifications.lock().push("resumed");
    }
}

/// Returns both ends of a TCP connection.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(addr), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// Returns a channel to attach, and the far end of its connection.
async fn channel(id: u16) -> (NewChannel, TcpStream) {
    let (near, far) = connection().await;
    let socket = ChannelSocket::plain(near);
    let (read_ahead, codec) = Default::default();
    (
        NewChannel { id, socket, rtt: None, read_ahead, codec, text: None, stats: None, registration: None },
        far,
    )
}

/// The resumption by a proxy that reconnected at once could be reported before the loss, so that the proxy was shown
/// as detached from then on.
#[tokio::test]
async fn a_resumption_is_reported_after_the_loss_however_soon_it_happens() {
    let owner = Arc::<RecordingOwner>::default();
    let link = Link::new(Role::Server, MuxConfig::default(), None, owner.clone());
    link.set_resume_grace(Duration::from_secs(30));
    let ((first, _far), (second, _other)) = (channel(1).await, channel(2).await);
    *owner.resume_with.lock() = Some((link.clone(), second));
    drop(Driver::attach(&link, first));
    assert_eq!(*owner.notifications.lock(), ["detached", "resumed"]);
    assert!(link.has_channel());
    // The recorded driver keeps the link's second channel.
    owner.resumed_driver.lock().take();
    assert_eq!(*owner.notifications.lock(), ["detached", "resumed", "detached"]);
}

/// A kicked proxy stayed connected, without getting users, if one of its channels joined its link at that moment.
#[tokio::test]
async fn a_closing_link_accepts_no_channel() {
    let (first, _far) = channel(1).await;
    let (second, _other) = channel(2).await;
    let link = Link::new(Role::Server, MuxConfig::default(), None, Arc::<RecordingOwner>::default());
    let joins = async {
        // The first driver runs by now, and is not polled again before the second channel is attached.
        link.close(&DisconnectReason::Kicked);
        Driver::attach_and_run(&link, second).await
    };
    let ends = async { tokio::join!(Driver::attach_and_run(&link, first), joins) };
    let (first, second) = timeout(LONG, ends).await.expect("both channels end");
    assert_eq!((first, second), (DisconnectReason::Kicked, DisconnectReason::Closed));
    assert!(link.has_ended());
}

/// Attaches two channels and ends both at their far ends, one after the other: closed, or else reset. Returns the
/// grace that the link then has.
async fn grace_after(link: &Arc<Link>, owner: &RecordingOwner, closed: [bool; 2]) -> Duration {
    let [first, second] = [channel(1).await, channel(2).await]
        .map(|(new, far)| (Driver::attach(link, new).expect("the link accepts channels"), far));
    for ((id, (driver, mut far)), closed) in [(1, first), (2, second)].into_iter().zip(closed) {
        if closed {
            far.shutdown().await.unwrap();
        }
        SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
        drop(far);
        // This write fails with a broken pipe after a close, and else with the reset, before the driver reads.
        link.send_message(id, TunnelMessage::control(TunnelAction::Successor, String::new()));
        let ended = timeout(LONG, driver.run()).await.expect("the channel ends");
        assert_eq!(ended, if closed { DisconnectReason::Closed } else { DisconnectReason::Reset });
    }
    let until = owner.detached_until.lock().take().expect("the link is detached");
    until.saturating_duration_since(Instant::now())
}

/// A peer that sends as fast as the driver reads would otherwise keep its thread, and all streams of that thread, from
/// work.
#[tokio::test]
async fn a_turn_of_a_driver_ends_although_the_peer_goes_on_sending() {
    const PINGS: usize = 150_000;
    let link = Link::new(Role::Server, MuxConfig::default(), None, Arc::<RecordingOwner>::default());
    let (new, far) = channel(1).await;
    let mut driver = Driver::attach(&link, new).unwrap();
    let mut bytes = BytesMut::new();
    (0..PINGS).for_each(|_| binary::encode(&Frame::Ping { token: 7 }, &mut bytes));
    let total = bytes.len();
    assert!(total > 4 * CHANNEL_TURN_BYTES);
    // The kernel holds megabytes of it, and its other thread sends the rest as soon as there is room.
    let far = far.into_std().unwrap();
    far.set_nonblocking(false).unwrap();
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut &far, &bytes).map(|()| far));
    let (mut received, mut longest) = (0, 0);
    while received < total {
        let turn = driver.read().unwrap();
        (received, longest) = (received + turn, longest.max(turn));
        yield_now().await;
    }
    assert!(longest < CHANNEL_TURN_BYTES + BufferPool::BUFFER_SIZE, "{longest} bytes in one turn");
    drop(sender.join().unwrap());
}

/// A target that reads as fast as the relay writes would otherwise keep its thread.
#[tokio::test]
async fn a_turn_of_a_relay_ends_although_the_target_goes_on_reading() {
    const SIZE: u64 = 16 << 20;
    let owner = Arc::<RecordingOwner>::default();
    let config = MuxConfig { initial_window: SIZE as u32, ..MuxConfig::default() };
    let link = Link::new(Role::Proxy, config, None, owner.clone());
    let (new, _server) = channel(1).await;
    let _driver = Driver::attach(&link, new);
    let stream = 1;
    let receive = |frame| link.with(|state| state.mux.handle_frame(1, frame, Instant::now())).unwrap();
    receive(open_frame(stream));
    for offset in (0..SIZE).step_by(64 << 10) {
        receive(Frame::Data { stream, offset, fin: false, payload: vec![7; 64 << 10].into() });
    }
    let opened = owner.opened.lock().take().unwrap();
    let (socket, target) = connection().await;
    let mut target = target.into_std().unwrap();
    target.set_nonblocking(false).unwrap();
    let reader = std::thread::spawn(move || std::io::copy(&mut target, &mut std::io::sink()));
    let cancel = CancellationToken::new();
    let mut relay = Box::pin(opened.relay(socket, ResetCode::Internal, &cancel, || ResetCode::Internal));
    let (mut left, mut longest) = (SIZE, 0);
    while left > 0 {
        let is_running = poll_fn(|cx| Poll::Ready(relay.as_mut().poll(cx).is_pending())).await;
        assert!(is_running, "the relay has ended");
        yield_now().await;
        let buffered = link.with(|state| state.mux.recv_flow(stream)).unwrap().buffered;
        (left, longest) = (buffered, longest.max(left - buffered));
    }
    assert!(longest <= DELIVERY_TURN_BYTES, "{longest} bytes in one turn");
    drop(relay);
    _ = reader.join().unwrap();
}

/// Small chunks are not copied when they arrive, although each keeps the read buffer of 260 KiB alive that it is part
/// of: they must be copied if they have to wait.
#[tokio::test]
async fn data_that_waits_for_a_slow_target_keeps_no_read_buffer_alive() {
    let owner = Arc::<RecordingOwner>::default();
    let link = Link::new(Role::Proxy, MuxConfig::default(), None, owner.clone());
    let (new, _server) = channel(1).await;
    let _driver = Driver::attach(&link, new);
    let stream = 1;
    let receive = |frame| link.with(|state| state.mux.handle_frame(1, frame, Instant::now())).unwrap();
    receive(open_frame(stream));
    let mut offset = 0;
    // Receives a chunk, and returns whether its read buffer can be reused.
    let mut frees_buffer = || {
        let mut buffer = BytesMut::zeroed(64 << 10);
        let payload = buffer.split_to(16 << 10).freeze();
        receive(Frame::Data { stream, offset, fin: false, payload });
        offset += 16 << 10;
        buffer.clear();
        buffer.try_reclaim(64 << 10)
    };
    assert!(frees_buffer(), "the target is not connected yet");
    let opened = owner.opened.lock().take().unwrap();
    let control = opened.control();
    control.set_paused(true);
    assert!(frees_buffer(), "the stream is paused");
    control.set_paused(false);
    let (socket, mut target) = connection().await;
    SockRef::from(&socket).set_send_buffer_size(4 << 10).unwrap();
    let cancel = CancellationToken::new();
    let mut relay = pin!(opened.relay(socket, ResetCode::Internal, &cancel, || ResetCode::Internal));
    for chunk in 0..14 {
        tokio::select! {
            biased;
            _ = &mut relay => panic!("the relay has ended"),
            () = yield_now() => assert!(frees_buffer(), "chunk {chunk}"),
        }
    }
    let buffered = link.with(|state| state.mux.recv_flow(stream)).unwrap().buffered;
    assert!(buffered > 64 << 10, "the target has taken all but {buffered} bytes");

    // A waiting chunk is copied once, however often the target takes bytes from the front; except for the first chunk.
    let endpoint = link.with(|state| state.endpoints[&stream].clone());
    let addresses = || endpoint.lock_delivery().queue.iter().map(|chunk| chunk.as_ptr()).collect::<Vec<_>>();
    let (mut taken, mut before, mut bytes) = (0, Vec::new(), [0; 8 << 10]);
    while taken < 200 << 10 {
        tokio::select! {
            biased;
            _ = &mut relay => panic!("the relay has ended"),
            read = target.read(&mut bytes) => taken += read.unwrap(),
        }
        let (now, rest) = (addresses(), before);
        let same = now.iter().skip(1).zip(rest.iter().skip(rest.len().saturating_sub(now.len()) + 1));
        assert!(rest.is_empty() || now.len() > rest.len() || same.clone().all(|(now, then)| now == then));
        before = now;
    }
}

/// A middlebox that stopped was taken for a proxy that had died, if this side wrote to it a moment later: the grace
/// of its downloads was one second instead of thirty.
#[tokio::test]
async fn only_a_peer_whose_channels_are_all_reset_is_presumed_dead() {
    for (role, closed, dead) in [
        (Role::Server, [false, false], true),
        (Role::Server, [true, false], false),
        (Role::Server, [false, true], false),
        // This link has no streams; `tests/tunnel/resume.rs` tests one that has.
        (Role::Proxy, [false, false], true),
    ] {
        let owner = Arc::<RecordingOwner>::default();
        let link = Link::new(role, MuxConfig::default(), None, owner.clone());
        link.set_resume_grace(6 * LONG);
        let grace = grace_after(&link, &owner, closed).await;
        assert_eq!(grace < LONG, dead, "{role:?} {closed:?}: {grace:?}");
    }
}

/// An end without a reset from before the resumption was counted for the channels after it.
#[tokio::test]
async fn a_proxy_that_resumed_and_then_died_is_presumed_dead() {
    let owner = Arc::<RecordingOwner>::default();
    let link = Link::new(Role::Server, MuxConfig::default(), None, owner.clone());
    link.set_resume_grace(6 * LONG);
    assert!(grace_after(&link, &owner, [true, true]).await > LONG);
    assert!(grace_after(&link, &owner, [false, false]).await < LONG);
}

/// A panic of the owner is caught, and the process goes on: the relay tasks and drivers that were about to be woken or
/// stopped in the same batch would have waited forever.
#[tokio::test]
async fn a_panic_of_the_owner_drops_no_wake_and_no_cancellation() {
    let owner = Arc::<RecordingOwner>::default();
    let link = Link::new(Role::Proxy, MuxConfig::default(), None, owner.clone());
    let (new, _server) = channel(1).await;
    let driver = Driver::attach(&link, new).expect("the link accepts channels");
    let receive = |state: &mut LinkState, frame| state.mux.handle_frame(1, frame, Instant::now()).unwrap();
    let mut opened = Vec::new();
    for stream in 1..=2 {
        link.with(|state| receive(state, open_frame(stream)));
        opened.push(owner.opened.lock().take().expect("the owner gets the stream"));
    }
    opened.iter().for_each(|stream| _ = stream.endpoint().take_wake());

    owner.panics_at_message.store(true, Relaxed);
    let batch = || {
        link.with(|state| {
            receive(state, Frame::Message(TunnelMessage::control(TunnelAction::Successor, String::new())));
            receive(state, Frame::Data { stream: 1, offset: 0, fin: false, payload: vec![0; 100].into() });
            receive(state, Frame::Reset { stream: 2, code: ResetCode::Killed, final_size: 0 });
            receive(state, open_frame(3));
            state.collect_follow_ups();
            state.stop_channel(1, DisconnectReason::Kicked);
        });
    };
    assert!(catch_unwind(AssertUnwindSafe(batch)).is_err(), "the owner's panic is not swallowed");
    assert!(opened[0].endpoint().take_wake(), "the relay was not woken to deliver data");
    assert!(opened[1].endpoint().take_wake(), "the relay was not woken at the end of its stream");
    assert!(owner.opened.lock().is_none());
    assert_eq!(link.stream_count(), 1, "a stream that the owner never got is reset");
    let reason = timeout(LONG, driver.run()).await.expect("the driver was not stopped");
    assert_eq!(reason, DisconnectReason::Kicked);
}

/// A batch of received frames is decoded before any of them is handled: an invalid frame must not discard those
/// before it.
#[tokio::test]
async fn frames_before_an_invalid_one_are_handled() {
    let owner = Arc::<RecordingOwner>::default();
    let link = Link::new(Role::Proxy, MuxConfig::default(), None, owner.clone());
    let (new, mut server) = channel(1).await;
    let driver = Driver::attach(&link, new).expect("the link accepts channels");
    let key = StreamKey::new(UserChannelId::new(1), 1);
    let open = Open { stream: 1, key, port: 80, priority: Priority::default(), window: 1 << 20, user: None };
    let mut bytes = BytesMut::new();
    binary::encode(&Frame::Open(open), &mut bytes);
    bytes.extend_from_slice(&[0xff; 64]);
    server.write_all(&bytes).await.unwrap();
    let reason = timeout(LONG, driver.run()).await.expect("the channel ends");
    assert!(matches!(reason, DisconnectReason::Protocol(_)), "{reason:?}");
    assert!(owner.opened.lock().is_some(), "OPEN was not handled");
}

/// Reads the frames that arrive at the far end of a channel until it is closed.
async fn frames_until_end(mut far: TcpStream) -> Vec<Frame> {
    let mut bytes = BytesMut::new();
    while timeout(LONG, far.read_buf(&mut bytes)).await.expect("the channel is closed").unwrap() > 0 {}
    let mut decoder = binary::FrameDecoder::default();
    std::iter::from_fn(|| decoder.decode(&mut bytes, binary::MAX_FRAME).unwrap()).collect()
}

/// A GOAWAY that is left to the flush of another thread, or the RETIRE that completes an orderly closing, was lost if
/// the driver ended first: the peer then waited for the whole grace period.
#[tokio::test]
async fn the_last_frames_of_a_channel_are_sent_before_it_is_closed() {
    let new_link = |role| Link::new(role, MuxConfig::default(), None, Arc::<RecordingOwner>::default());
    for is_run in [false, true] {
        let (new, far) = channel(1).await;
        let link = new_link(Role::Server);
        let driver = Driver::attach(&link, new).expect("the link accepts channels");
        // Queued, and not flushed.
        link.with(|state| {
            state.mux.send_go_away(ResetCode::Shutdown);
            state.stop_channel(1, DisconnectReason::GoAway);
        });
        if is_run {
            assert_eq!(timeout(LONG, driver.run()).await.unwrap(), DisconnectReason::GoAway);
        } else {
            drop(driver);
        }
        let frames = frames_until_end(far).await;
        assert!(frames.contains(&Frame::GoAway { code: ResetCode::Shutdown }), "{is_run}: {frames:?}");
    }

    let ((first, _far), (second, far)) = (channel(1).await, channel(2).await);
    let link = new_link(Role::Proxy);
    link.set_resume_grace(LONG);
    let [_first, second] =
        [first, second].map(|new| Driver::attach(&link, new).expect("the link accepts channels"));
    assert!(link.retire_channel());
    // The server answers; what the proxy confirms it with is queued by the frame that stops the driver.
    link.with(|state| state.mux.handle_frame(2, Frame::Retire, Instant::now()).unwrap());
    assert_eq!(timeout(LONG, second.run()).await.unwrap(), DisconnectReason::Retired);
    let frames = frames_until_end(far).await;
    assert_eq!(frames.iter().filter(|frame| **frame == Frame::Retire).count(), 2, "{frames:?}");
}

/// A target that takes its first read for the whole request finds it behind the header. What is delivered with the
/// preamble is not delivered again, and its credit returns like that of all data.
#[tokio::test]
async fn a_preamble_leaves_with_the_data_that_has_arrived_before_it() {
    let owner = Arc::<RecordingOwner>::default();
    let link = Link::new(Role::Proxy, MuxConfig::default(), None, owner.clone());
    let (new, _server) = channel(1).await;
    let _driver = Driver::attach(&link, new).expect("the link accepts channels");
    let receive = |frame| link.with(|state| state.mux.handle_frame(1, frame, Instant::now()).unwrap());
    let data =
        |offset, fin, payload| Frame::Data { stream: 1, offset, fin, payload: Bytes::from_static(payload) };
    receive(open_frame(1));
    receive(data(0, false, b"GET /"));
    let stream = owner.opened.lock().take().expect("the owner gets the stream");
    let (socket, mut target) = connection().await;
    stream.write_preamble(&socket, Bytes::from_static(b"PROXY UNKNOWN\r\n")).await.unwrap();
    let mut first = [0; 100];
    let read = timeout(LONG, target.read(&mut first)).await.unwrap().unwrap();
    assert_eq!(first[..read].escape_ascii().to_string(), "PROXY UNKNOWN\\r\\nGET /");
    receive(data(5, true, b" HTTP/1.0"));
    let cancel = CancellationToken::new();
    let relay = stream.relay(socket, ResetCode::TargetIoError, &cancel, || ResetCode::Shutdown);
    let mut rest = String::new();
    tokio::select! {
        read = timeout(LONG, target.read_to_string(&mut rest)) => assert!(read.unwrap().is_ok()),
        ended = relay => panic!("the target has not closed its connection: {:?}", ended.0),
    }
    assert_eq!(rest, " HTTP/1.0");
}
