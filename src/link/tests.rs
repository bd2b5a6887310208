use std::{net::Ipv4Addr, pin::pin, time::Duration};

use bytes::BytesMut;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::yield_now,
    time::timeout,
};

use super::*;
use crate::{
    ids::{Priority, UserChannelId},
    link::{Driver, NewChannel},
    net::ChannelSocket,
    wire::{Frame, TunnelAction},
};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Listener {
    opened: Mutex<Option<Stream>>,
    /// What comes back the moment in which the link is told to wait.
    back: Mutex<Option<(Arc<Link>, NewChannel)>>,
    attached: Mutex<Option<Driver>>,
    told: Mutex<Vec<&'static str>>,
    /// Until when the link was waited for last.
    until: Mutex<Option<Instant>>,
}

impl LinkEvents for Listener {
    fn stream_opened(&self, stream: Stream, _open: Open) {
        *self.opened.lock() = Some(stream);
    }

    fn message_received(&self, _link: &Arc<Link>, _channel: u16, _message: TunnelMessage) {}
    fn go_away_received(&self, _code: ResetCode) {}
    fn unknown_stream(&self, _channel: u16, _key: StreamKey) {}

    fn detached(&self, until: Instant) {
        *self.until.lock() = Some(until);
        if let Some((link, drive)) = self.back.lock().take() {
            *self.attached.lock() = link.attach(drive);
        }
        self.told.lock().push("waits");
    }

    fn resumed(&self, _after: Duration) {
        self.told.lock().push("is back");
    }
}

async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(addr), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// One end of a channel, and the other.
async fn channel(id: u16) -> (NewChannel, TcpStream) {
    let (near, far) = connection().await;
    let socket = ChannelSocket::plain(near);
    let (read_ahead, codec) = Default::default();
    (NewChannel { id, socket, read_ahead, codec, text: None, stats: None }, far)
}

/// A proxy that came back at once could be told of before its loss, and was shown as waiting from then on.
#[tokio::test]
async fn a_return_is_told_after_the_loss_however_soon_it_comes() {
    let listener = Arc::<Listener>::default();
    let link = Link::new(Role::Server, MuxConfig::default(), None, listener.clone());
    link.set_grace(Duration::from_secs(30));
    let ((first, _far), (second, _other)) = (channel(1).await, channel(2).await);
    *listener.back.lock() = Some((link.clone(), second));
    drop(link.attach(first));
    assert_eq!(*listener.told.lock(), ["waits", "is back"]);
    assert!(link.has_channel());
    // Which it would keep alive.
    listener.attached.lock().take();
    assert_eq!(*listener.told.lock(), ["waits", "is back", "waits"]);
}

/// A kicked proxy lived on, and was given no more users, if one of its channels joined again in that moment.
#[tokio::test]
async fn a_link_that_is_being_closed_takes_no_channel() {
    let (first, _far) = channel(1).await;
    let (second, _other) = channel(2).await;
    let link = Link::new(Role::Server, MuxConfig::default(), None, Arc::<Listener>::default());
    let joins = async {
        // The first is driven by now, and is not polled again before the second comes.
        link.close(&DisconnectReason::Kicked);
        link.drive(second).await
    };
    let ends = async { tokio::join!(link.drive(first), joins) };
    let (first, second) = timeout(LONG, ends).await.expect("the link lives on");
    assert_eq!((first, second), (DisconnectReason::Kicked, DisconnectReason::Closed));
    assert!(link.is_closed());
}

/// Takes two channels on and ends both at their far ends, in turn: closed, or else reset. For how long the link waits then.
async fn waits_after(link: &Arc<Link>, listener: &Listener, closed: [bool; 2]) -> Duration {
    let [first, second] = [channel(1).await, channel(2).await]
        .map(|(drive, far)| (link.attach(drive).expect("the link takes channels"), far));
    for ((id, (attached, mut far)), closed) in [(1, first), (2, second)].into_iter().zip(closed) {
        if closed {
            far.shutdown().await.unwrap();
        }
        SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
        drop(far);
        // Finds the pipe broken after a close, and is told of the reset else, before anybody has read.
        link.send_message(id, TunnelMessage::control(TunnelAction::Successor, String::new()));
        let ended = timeout(LONG, attached.run()).await.expect("the channel lives on");
        assert_eq!(ended, if closed { DisconnectReason::Closed } else { DisconnectReason::Reset });
    }
    let until = listener.until.lock().take().expect("the link waits");
    until.saturating_duration_since(Instant::now())
}

/// Small pieces are not copied where they arrive, but each keeps the buffer of 260 KiB alive that it came in.
#[tokio::test]
async fn what_waits_for_a_slow_target_keeps_no_buffer_alive() {
    let listener = Arc::<Listener>::default();
    let link = Link::new(Role::Proxy, MuxConfig::default(), None, listener.clone());
    let (drive, _server) = channel(1).await;
    let _attached = link.attach(drive);
    let (stream, key) = (1, StreamKey::new(UserChannelId::new(1), 1));
    let open = Open { stream, key, port: 80, priority: Priority::default(), window: 1 << 20, user: None };
    let says = |frame| link.with(|state| state.mux.handle_frame(1, frame, Instant::now())).unwrap();
    says(Frame::Open(open));
    let mut offset = 0;
    // Whether a piece that comes lets go of its buffer.
    let mut comes = || {
        let mut buffer = BytesMut::zeroed(64 << 10);
        let payload = buffer.split_to(16 << 10).freeze();
        says(Frame::Data { stream, offset, fin: false, payload });
        offset += 16 << 10;
        buffer.clear();
        buffer.try_reclaim(64 << 10)
    };
    assert!(comes(), "the target is not reached yet");
    let opened = listener.opened.lock().take().unwrap();
    let control = opened.control();
    control.set_paused(true);
    assert!(comes(), "it is held");
    control.set_paused(false);
    let (socket, mut target) = connection().await;
    SockRef::from(&socket).set_send_buffer_size(4 << 10).unwrap();
    let cancel = CancellationToken::new();
    let mut carried = pin!(opened.relay(socket, ResetCode::Internal, &cancel, || ResetCode::Internal));
    for piece in 0..14 {
        tokio::select! {
            biased;
            _ = &mut carried => panic!("it has ended"),
            () = yield_now() => assert!(comes(), "piece {piece}"),
        }
    }
    let waits = link.with(|state| state.mux.recv_flow(stream)).unwrap().buffered;
    assert!(waits > 64 << 10, "the target has taken all but {waits}");

    // What waits is copied once, however often the target takes some of it; but for the first piece.
    let endpoint = link.with(|state| state.endpoints[&stream].clone());
    let places = || endpoint.delivery().queue.iter().map(|piece| piece.as_ptr()).collect::<Vec<_>>();
    let (mut taken, mut before, mut bytes) = (0, Vec::new(), [0; 8 << 10]);
    while taken < 200 << 10 {
        tokio::select! {
            biased;
            _ = &mut carried => panic!("it has ended"),
            read = target.read(&mut bytes) => taken += read.unwrap(),
        }
        let (now, rest) = (places(), before);
        let same = now.iter().skip(1).zip(rest.iter().skip(rest.len().saturating_sub(now.len()) + 1));
        assert!(rest.is_empty() || now.len() > rest.len() || same.clone().all(|(now, then)| now == then));
        before = now;
    }
}

/// A relay that stopped was taken for a proxy that had died, if something was written to it a moment later: its downloads
/// were waited for for a second instead of thirty.
#[tokio::test]
async fn only_a_peer_whose_channels_are_all_reset_is_taken_for_dead() {
    for (role, closed, dead) in [
        (Role::Server, [false, false], true),
        (Role::Server, [true, false], false),
        (Role::Server, [false, true], false),
        // It has no streams to wait with; `tests/resume.rs` has one that has.
        (Role::Proxy, [false, false], true),
    ] {
        let listener = Arc::<Listener>::default();
        let link = Link::new(role, MuxConfig::default(), None, listener.clone());
        link.set_grace(6 * LONG);
        let waits = waits_after(&link, &listener, closed).await;
        assert_eq!(waits < LONG, dead, "{role:?} {closed:?}: {waits:?}");
    }
}

/// What happened before it came back was counted to what happened after it.
#[tokio::test]
async fn a_proxy_that_came_back_and_died_is_taken_for_dead() {
    let listener = Arc::<Listener>::default();
    let link = Link::new(Role::Server, MuxConfig::default(), None, listener.clone());
    link.set_grace(6 * LONG);
    assert!(waits_after(&link, &listener, [true, true]).await > LONG);
    assert!(waits_after(&link, &listener, [false, false]).await < LONG);
}
