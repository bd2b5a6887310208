//! The number of channels with `--channels auto`: a real proxy beside a server whose mux is told, in place of a kernel,
//! that segments are lost. Its clock can be advanced, as channels that are not needed are kept for a minute.

use std::{
    io,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use underpass::{
    config::{ChannelCount, ProxyConfig},
    ids::{StreamKey, UserChannelId},
    mux::{ChannelWish, Mux, MuxConfig, MuxEvent, Role, TransportSample},
    wire::{
        Frame, HelloMode, TunnelAction, TunnelMessage, Welcome,
        binary::{self, FrameCodec},
        handshake::{ServerHandshake, ServerStep, Token},
    },
};

use crate::support::{
    soon,
    target::{self, LOOPBACK},
    tunnel::{RunningProxy, Tunnel},
};

/// The secret of the link's resumption ticket.
const SECRET: [u8; 32] = [9; 32];

/// A channel at the server.
struct ServerChannel {
    id: u16,
    socket: TcpStream,
    codec: FrameCodec,
    received: BytesMut,
    to_send: BytesMut,
    /// The counters that the kernel would report.
    sample: TransportSample,
    has_ended: bool,
}

/// A server of one link, which runs the real mux and handshake.
struct ModelServer {
    listener: TcpListener,
    token: Token,
    mux: Mux,
    /// By how much the clock of the mux is ahead.
    ahead: Duration,
    channels: Vec<ServerChannel>,
    last_channel: u16,
    events: Vec<MuxEvent>,
}

impl ModelServer {
    async fn start() -> Self {
        Self {
            listener: TcpListener::bind(LOOPBACK).await.unwrap(),
            token: Token::random(),
            mux: Mux::new(Role::Server, MuxConfig::default()),
            ahead: Duration::ZERO,
            channels: Vec::new(),
            last_channel: 0,
            events: Vec::new(),
        }
    }

    fn proxy(&self, channels: ChannelCount, target: std::net::SocketAddr) -> RunningProxy {
        let server = self.listener.local_addr().unwrap().to_string();
        let config = ProxyConfig::new(server, "0".parse().unwrap(), target.to_string());
        RunningProxy::start(ProxyConfig { channels, ..config }, self.token.clone())
    }

    fn now(&self) -> Instant {
        Instant::now() + self.ahead
    }

    /// Runs the handshake of a connection, and adds it to the link.
    async fn admit(&mut self, mut socket: TcpStream) {
        let mut received = BytesMut::new();
        let mut preface = [0; binary::PREFACE.len()];
        socket.read_exact(&mut preface).await.unwrap();
        let mut handshake = ServerHandshake::new(self.token.clone(), [5; 32]);
        let verified = loop {
            let frame = loop {
                if let Some(frame) = binary::decode(&mut received, binary::MAX_HANDSHAKE).unwrap() {
                    break frame;
                }
                assert!(socket.read_buf(&mut received).await.unwrap() > 0);
            };
            match handshake.on_frame(frame).unwrap() {
                ServerStep::Verified(verified) => break verified,
                ServerStep::Send(next, challenge) => {
                    handshake = if next.link().is_some() { next.with_secret(SECRET) } else { next };
                    let mut bytes = BytesMut::new();
                    binary::encode(&challenge, &mut bytes);
                    socket.write_all(&bytes).await.unwrap();
                }
            }
        };
        self.last_channel += 1;
        let is_new = verified.hello.mode == HelloMode::New;
        assert_eq!(is_new, self.last_channel == 1, "all other channels join the link of the first");
        let welcome = verified.welcome(Welcome {
            link: [3; 16],
            epoch: 1,
            channel: self.last_channel,
            features: 0,
            max_streams: 100,
            first_window: MuxConfig::default().initial_window,
            grace_ms: 30_000,
            resume_secret: is_new.then_some(SECRET),
            mac: [0; 32],
        });
        let mut bytes = BytesMut::new();
        binary::encode(&welcome, &mut bytes);
        socket.write_all(&bytes).await.unwrap();
        self.mux.add_channel(self.last_channel, self.now());
        self.channels.push(ServerChannel {
            id: self.last_channel,
            socket,
            codec: FrameCodec::default(),
            received,
            to_send: BytesMut::new(),
            sample: TransportSample { rtt: Duration::from_millis(20), ..TransportSample::default() },
            has_ended: false,
        });
    }

    /// Reads and writes all channels once, and admits new ones.
    async fn turn(&mut self) {
        if let Ok(Ok((socket, _))) =
            tokio::time::timeout(Duration::from_millis(1), self.listener.accept()).await
        {
            soon("a handshake", self.admit(socket)).await;
        }
        let now = self.now();
        for channel in &mut self.channels {
            match channel.socket.try_read_buf(&mut channel.received) {
                Ok(0) => channel.has_ended = true,
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
            }
            self.mux.record_alive(channel.id, now);
            while let Some(frame) =
                channel.codec.decoder.decode(&mut channel.received, binary::MAX_FRAME).unwrap()
            {
                self.mux.handle_frame(channel.id, frame, now).unwrap();
            }
            if channel.has_ended {
                self.mux.remove_channel(channel.id);
            }
            while let Some(frame) = self.mux.poll_transmit(channel.id, now) {
                channel.codec.encoder.encode(&frame, &mut channel.to_send);
            }
            if !channel.has_ended
                && let Ok(written) = channel.socket.try_write(&channel.to_send)
            {
                _ = channel.to_send.split_to(written);
            }
        }
        self.channels.retain(|channel| !channel.has_ended);
        while let Some(event) = self.mux.poll_event() {
            if let MuxEvent::Message { channel, message } = &event
                && let TunnelAction::AddProxy(_) = message.action
            {
                let answer = TunnelMessage::control(TunnelAction::Response, "4711:default");
                self.mux.send_message(*channel, answer).unwrap();
            }
            self.events.push(event);
        }
    }

    /// Reports that each channel has sent 40 segments more, of which `lost` were lost, and waits for its kernel.
    fn report(&mut self, lost: u64) {
        let now = self.now();
        for channel in &mut self.channels {
            channel.sample.sent_segments += 40;
            channel.sample.retransmitted_segments += lost;
            channel.sample.delivered += 40 * 1448;
            (channel.sample.in_flight, channel.sample.unsent) = (20_000, 20_000);
            (channel.sample.cwnd_used, channel.sample.cwnd) = (20_000, 20_000);
            self.mux.report_transport(channel.id, channel.sample, now);
        }
    }

    /// Runs with these losses in every 20 ms until `is_reached`.
    async fn until(&mut self, what: &str, lost: Option<u64>, is_reached: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !is_reached(self) {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "{what}: {} channels, {:?}",
                self.channels.len(),
                self.plans()
            );
            if let Some(lost) = lost {
                self.report(lost);
            }
            for _ in 0..10 {
                self.turn().await;
            }
        }
    }

    /// Sends `len` bytes on a stream, and reads as many of its answer. Returns these.
    async fn echoed(&mut self, stream: u32, bytes: Bytes, lost: Option<u64>) -> Vec<u8> {
        let (mut unsent, mut answer) = (bytes.clone(), Vec::new());
        let begin = Instant::now();
        while answer.len() < bytes.len() {
            assert!(begin.elapsed() < Duration::from_secs(30), "{} of {}", answer.len(), bytes.len());
            let writable = self.mux.writable(stream).min(unsent.len());
            if writable > 0 {
                self.mux.write(stream, unsent.split_to(writable));
            }
            let mut read = std::collections::VecDeque::new();
            self.mux.read(stream, &mut read);
            for chunk in read {
                answer.extend_from_slice(&chunk);
                self.mux.consume(stream, chunk.len() as u64, self.now());
            }
            if let Some(lost) = lost {
                self.report(lost);
            }
            self.turn().await;
        }
        answer
    }

    /// Returns the plans of the server's mux so far.
    fn plans(&self) -> Vec<String> {
        let plan = |event: &MuxEvent| match event {
            MuxEvent::ChannelsWanted(ChannelWish::Own(plan)) => Some(plan.to_string()),
            _ => None,
        };
        self.events.iter().filter_map(plan).collect()
    }

    fn stream(&mut self) -> u32 {
        self.mux.open(StreamKey::new(UserChannelId::new(1), 1), 4711, None, |_| false).unwrap()
    }
}

/// Bytes of which no two kilobytes are equal.
fn pattern(len: usize) -> Bytes {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

#[tokio::test]
async fn losses_open_channels_that_are_closed_later_without_disturbing_a_stream() {
    let echo = target::echo().await;
    let mut server = ModelServer::start().await;
    let proxy = server.proxy(ChannelCount::Auto, echo.addr);
    server.until("two channels", None, |server| server.channels.len() == 2).await;
    let stream = server.stream();
    let bytes = pattern(300_000);
    assert_eq!(server.echoed(stream, bytes.clone(), None).await, bytes);
    assert_eq!((server.channels.len(), server.plans()), (2, vec![]), "nothing is lost yet");

    // The kernel of each channel is slower than the path, and the rate rises with their number.
    server.until("eight channels", Some(1), |server| server.channels.len() == 8).await;
    assert_eq!(server.echoed(stream, bytes.clone(), None).await, bytes);
    assert_eq!(server.plans().len(), 2, "{:?}", server.plans());
    assert!(server.plans()[0].starts_with("2 → 4 channels: loss"), "{:?}", server.plans());

    // More than a minute later six of them are closed while the stream transfers data.
    let failovers = |server: &ModelServer| {
        server.events.iter().filter(|event| matches!(event, MuxEvent::FailedOver { .. })).count()
    };
    server.ahead += Duration::from_secs(100);
    let more = pattern(2_000_000);
    assert_eq!(server.echoed(stream, more.clone(), Some(0)).await, more);
    server.until("two channels again", Some(0), |server| server.channels.len() == 2).await;
    assert_eq!(server.echoed(stream, more.clone(), None).await, more);
    assert_eq!(failovers(&server), 0);
    let retransmitted = server.mux.send_flow(stream).unwrap().retransmitted;
    assert_eq!(retransmitted, 0, "no channel was lost");
    let ended =
        server.events.iter().filter(|event| matches!(event, MuxEvent::ChannelRetiring { .. })).count();
    assert_eq!(ended, 6);
    proxy.stop().await;
}

#[tokio::test]
async fn a_fixed_number_of_channels_stays_whatever_is_lost() {
    let echo = target::echo().await;
    let mut server = ModelServer::start().await;
    let proxy = server.proxy(ChannelCount::Fixed(4), echo.addr);
    server.until("four channels", None, |server| server.channels.len() == 4).await;
    let stream = server.stream();
    let bytes = pattern(1_000_000);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        assert_eq!(server.echoed(stream, bytes.clone(), Some(1)).await, bytes);
    }
    server.ahead += Duration::from_secs(100);
    assert_eq!(server.echoed(stream, bytes.clone(), Some(0)).await, bytes);
    assert_eq!((server.channels.len(), server.plans()), (4, vec![]));
    proxy.stop().await;
}

/// A number of channels from the network is limited by the proxy, and a number from a proxy by the server.
#[tokio::test]
async fn a_hostile_number_of_channels_is_limited() {
    let echo = target::echo().await;
    let mut server = ModelServer::start().await;
    let proxy = server.proxy(ChannelCount::Auto, echo.addr);
    server.until("two channels", None, |server| server.channels.len() == 2).await;
    let channel = &mut server.channels[0];
    for (serial, count) in [(1000, u16::MAX), (1001, 0), (1002, 30_000), (5, 0)] {
        channel.codec.encoder.encode(&Frame::Channels { serial, count }, &mut channel.to_send);
    }
    server.until("eight channels", None, |server| server.channels.len() == 8).await;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(300) {
        server.turn().await;
    }
    assert_eq!(server.channels.len(), 8);
    proxy.stop().await;
}

/// A server that alternates between two numbers would otherwise make the proxy connect, and run a handshake, thirty
/// times a second and more.
#[tokio::test]
async fn a_server_that_keeps_changing_the_number_gets_few_connections() {
    let echo = target::echo().await;
    let mut server = ModelServer::start().await;
    let proxy = server.proxy(ChannelCount::Auto, echo.addr);
    server.until("two channels", None, |server| server.channels.len() == 2).await;
    let begin = Instant::now();
    let mut serial = 1000;
    while begin.elapsed() < Duration::from_secs(2) {
        // The number changes again as soon as the proxy has followed.
        let many = server.channels.len() > 4;
        let channel = &mut server.channels[0];
        serial += 1;
        let count = if many { 2 } else { 8 };
        channel.codec.encoder.encode(&Frame::Channels { serial, count }, &mut channel.to_send);
        for _ in 0..10 {
            server.turn().await;
        }
    }
    println!("{} connections in {:?}", server.last_channel, begin.elapsed());
    // Two at first, twelve at once, and one for each five seconds.
    let allowed = 14 + u16::try_from(begin.elapsed().as_secs() / 5).unwrap();
    assert!(server.last_channel <= allowed, "{} connections", server.last_channel);
    assert!(server.last_channel > 8, "the number was followed");
    proxy.stop().await;
}

/// On loopback the kernel is not asked, and nothing changes the number of channels.
#[tokio::test]
async fn a_tunnel_over_loopback_keeps_two_channels() {
    let mut tunnel = Tunnel::start().await;
    let target = target::echo().await;
    let config = tunnel.proxy_config(target.addr);
    assert_eq!(config.channels, ChannelCount::Auto);
    let public = tunnel.proxy_with(config).await;
    let mut user = TcpStream::connect(public).await.unwrap();
    let bytes = pattern(8 << 20);
    let (mut read, mut write) = user.split();
    let mut answer = vec![0; bytes.len()];
    let transfer = async {
        let (written, read) = tokio::join!(write.write_all(&bytes), read.read_exact(&mut answer));
        written.and(read.map(|_| ()))
    };
    soon("an echo", transfer).await.unwrap();
    assert_eq!(answer, bytes);
    let snapshot = tunnel.telemetry.snapshot();
    assert_eq!(snapshot.proxies[0].channels.len(), 2);
    drop(user);
    tunnel.end().await;
}
