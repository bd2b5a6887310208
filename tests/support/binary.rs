//! One end of a channel in the binary format, for tests that send what the real proxy, or the real server, never sends.

use std::net::SocketAddr;

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::wire::{
    AddProxy, Frame, Hello, HelloMode, Open, TunnelAction, TunnelMessage, Welcome,
    binary::{self, FrameCodec, VERSION},
    handshake::{ClientHandshake, ClientStep, HandshakeError, ServerHandshake, ServerStep, Token},
};

use super::{soon, target::LOOPBACK};

/// Returns the HELLO of a conforming proxy that does not support checksums.
pub fn hello() -> Hello {
    Hello {
        version: VERSION,
        mode: HelloMode::New,
        features: 0,
        nonce: [7; 16],
        link: [0; 16],
        epoch: 0,
        name: "tester".into(),
    }
}

/// Encodes frames without checksums.
pub fn bytes(frames: impl IntoIterator<Item = Frame>) -> Vec<u8> {
    let mut out = BytesMut::new();
    frames.into_iter().for_each(|frame| binary::encode(&frame, &mut out));
    out.to_vec()
}

/// Returns the frame that registers a public port.
pub fn add_proxy(port: u16) -> Frame {
    let service = format!("{port}:default").parse().unwrap();
    Frame::Message(TunnelMessage::control(
        TunnelAction::AddProxy(AddProxy {
            service,
            target_port: None,
            weight: None,
            has_networks: false,
            number: None,
        }),
        "",
    ))
}

/// One end of a channel: the proxy's, unless it was [accepted](Self::accepted).
pub struct BinaryChannel {
    pub socket: TcpStream,
    pub buffer: BytesMut,
    pub codec: FrameCodec,
}

impl BinaryChannel {
    pub async fn connect(server: SocketAddr) -> Self {
        Self::new(soon("a connection", TcpStream::connect(server)).await.unwrap())
    }

    /// Wraps a connection of a proxy to the tunnel port.
    pub fn new(socket: TcpStream) -> Self {
        socket.set_nodelay(true).unwrap();
        Self { socket, buffer: BytesMut::new(), codec: FrameCodec::default() }
    }

    /// Connects and authenticates. Returns the server's WELCOME.
    pub async fn greeted(
        server: SocketAddr,
        token: &Token,
        hello: Hello,
        secret: Option<[u8; 32]>,
    ) -> Result<(Self, Welcome), HandshakeError> {
        Self::connect(server).await.authenticated(token, hello, secret).await
    }

    /// Authenticates a new connection. Returns it with the server's WELCOME.
    pub async fn authenticated(
        self,
        token: &Token,
        hello: Hello,
        secret: Option<[u8; 32]>,
    ) -> Result<(Self, Welcome), HandshakeError> {
        let mut channel = self;
        let (mut client, hello) = ClientHandshake::start(token.clone(), hello);
        if let Some(secret) = secret {
            client = client.with_secret(secret);
        }
        channel.send_raw(&[&binary::PREFACE[..], &bytes([hello])].concat()).await;
        loop {
            let frame = channel.hear().await.expect("the server goes on with the handshake");
            match client.on_frame(frame)? {
                ClientStep::Done(welcome) => {
                    channel.codec = FrameCodec::with_features(welcome.features);
                    return Ok((channel, welcome));
                }
                ClientStep::Send(next, frame) => {
                    client = *next;
                    channel.send([frame]).await;
                }
            }
        }
    }

    /// Runs the server's side of the handshake of a new link on a connection, with at most these features in force.
    pub async fn accepted(socket: TcpStream, token: &Token, features: u32) -> Self {
        let mut channel = Self::new(socket);
        let mut preface = [0; binary::PREFACE.len()];
        soon("the preface", channel.socket.read_exact(&mut preface)).await.unwrap();
        assert_eq!(preface, binary::PREFACE);
        let mut server = ServerHandshake::new([token.key()], [1; 32]);
        loop {
            match server.on_frame(channel.hear().await.unwrap()).unwrap() {
                ServerStep::Send(next, challenge) => {
                    server = next;
                    channel.send([challenge]).await;
                }
                ServerStep::Verified(verified) => {
                    let features = verified.hello.features & features;
                    let welcome = Welcome {
                        link: [3; 16],
                        epoch: 0,
                        channel: 1,
                        features,
                        max_streams: 100,
                        first_window: 65_536,
                        grace_ms: 0,
                        resume_secret: Some([2; 32]),
                        mac: [0; 32],
                    };
                    channel.send([verified.welcome(welcome)]).await;
                    channel.codec = FrameCodec::with_features(features);
                    return channel;
                }
            }
        }
    }

    /// Opens a new link and registers a public port, any free one for 0. Returns the public address, too.
    pub async fn serving(server: SocketAddr, token: &Token, port: u16) -> (Self, Welcome, SocketAddr) {
        let (mut channel, welcome) = Self::greeted(server, token, hello(), None).await.unwrap();
        channel.send([add_proxy(port)]).await;
        let port = loop {
            if let Frame::Message(TunnelMessage { action: TunnelAction::Response, data, .. }) =
                channel.hear_other().await
            {
                let service = String::from_utf8(data.to_vec()).unwrap();
                break service.strip_suffix(":default").unwrap().parse().unwrap();
            }
        };
        (channel, welcome, SocketAddr::new(LOOPBACK.ip(), port))
    }

    pub async fn send(&mut self, frames: impl IntoIterator<Item = Frame>) {
        let mut out = BytesMut::new();
        frames.into_iter().for_each(|frame| self.codec.encoder.encode(&frame, &mut out));
        self.send_raw(&out).await;
    }

    pub async fn send_raw(&mut self, bytes: &[u8]) {
        soon("the server reads", self.socket.write_all(bytes)).await.unwrap();
    }

    /// Reads the next frame; `None` at the end of the channel, after a FIN as well as after an RST.
    pub async fn hear(&mut self) -> Option<Frame> {
        soon("a frame", async {
            loop {
                if let Some(frame) = self.codec.decoder.decode(&mut self.buffer, binary::MAX_FRAME).unwrap() {
                    return Some(frame);
                }
                if self.socket.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        })
        .await
    }

    /// Reads the next frame other than PING, and answers PINGs.
    pub async fn hear_other(&mut self) -> Frame {
        loop {
            match self.hear().await.expect("the channel is gone") {
                Frame::Ping { token } => self.send([Frame::Pong { token }]).await,
                frame => return frame,
            }
        }
    }

    /// Waits for the OPEN of a user's stream.
    pub async fn opened(&mut self) -> Open {
        loop {
            if let Frame::Open(open) = self.hear_other().await {
                return open;
            }
        }
    }

    /// Waits until the server has processed everything sent before. Returns the frames that it sent meanwhile.
    pub async fn settle(&mut self) -> Vec<Frame> {
        self.send([Frame::Ping { token: u64::MAX }]).await;
        let mut said = Vec::new();
        loop {
            match self.hear_other().await {
                Frame::Pong { token: u64::MAX } => return said,
                frame => said.push(frame),
            }
        }
    }

    /// Answers PINGs until `other` has completed.
    pub async fn during<T>(&mut self, other: impl Future<Output = T>) -> T {
        let awake = async {
            loop {
                let frame = self.hear_other().await;
                assert!(!matches!(frame, Frame::Open(_)), "no caller waits for {frame:?}");
            }
        };
        tokio::select! {
            done = other => done,
            () = awake => unreachable!("it ends with the channel only"),
        }
    }

    /// Reads all frames until the end of the channel.
    pub async fn rest(&mut self) -> Vec<Frame> {
        let mut said = Vec::new();
        while let Some(frame) = self.hear().await {
            said.push(frame);
        }
        said
    }
}
