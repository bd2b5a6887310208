//! What comes at the server from strangers, from proxies that break the protocol, and from a machine that has run out
//! of descriptors. Every case ends with a fresh user who is served, and every server with nothing left.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod floods;
mod machine;
mod odd;
mod proofs;
mod protocol;
mod registers;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
mod text;
mod users;

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use support::{
    binary::BinaryChannel,
    soon,
    target::{self, Target},
    tunnel::Tunnel,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::{
    config::{ProxyFormat, ServerConfig},
    ids::ChannelId,
    telemetry::{DisconnectReason, EventKind},
    wire::{Frame, Open, binary},
};

const SECOND: Duration = Duration::from_secs(1);

/// The first window of a stream.
const WINDOW: u32 = 256 * 1024;

/// A server with an honest proxy, whose users shall never notice anything.
struct Server {
    tunnel: Tunnel,
    public: SocketAddr,
    _echo: Target,
}

impl Server {
    async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let change = |config: &mut ServerConfig| {
            // Those who come here do not come back, and their users should not have to wait for it.
            config.grace_period = Duration::ZERO;
            change(config);
        };
        let mut tunnel = Tunnel::with(change).await;
        let echo = target::echo().await;
        let public = tunnel.proxy(echo.addr, ProxyFormat::Binary).await;
        Self { tunnel, public, _echo: echo }
    }

    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn serves(&self) {
        serves_a_fresh_user(self.public).await;
    }

    /// Why the stranger with this address was turned away.
    async fn turned_away(&self, what: &str, stranger: SocketAddr) -> String {
        let told =
            |event: &EventKind| matches!(event, EventKind::HandshakeFailed { addr, .. } if *addr == stranger);
        match self.tunnel.event(what, told).await {
            EventKind::HandshakeFailed { reason, .. } => reason,
            other => unreachable!("{other}"),
        }
    }

    /// Why the channel from this address is gone.
    async fn gone(&self, what: &str, peer: SocketAddr) -> DisconnectReason {
        let channel = self.channel(peer).await;
        let told = |event: &EventKind| matches!(event, EventKind::ChannelDisconnected { channel: gone, .. } if *gone == channel);
        match self.tunnel.event(what, told).await {
            EventKind::ChannelDisconnected { reason, .. } => reason,
            other => unreachable!("{other}"),
        }
    }

    async fn channel(&self, peer: SocketAddr) -> ChannelId {
        let told =
            |event: &EventKind| matches!(event, EventKind::ChannelConnected { addr, .. } if *addr == peer);
        match self.tunnel.event("a channel", told).await {
            EventKind::ChannelConnected { channel, .. } => channel,
            other => unreachable!("{other}"),
        }
    }

    /// A hostile proxy, one of its users, and how the server opened that.
    async fn hostile(&self) -> (BinaryChannel, TcpStream, Open, SocketAddr) {
        let (mut channel, _, public) = BinaryChannel::serving(self.tunnel.addr, &self.tunnel.token, 0).await;
        let user = TcpStream::connect(public).await.unwrap();
        let open = channel.opened().await;
        (channel, user, open, public)
    }

    async fn end(self) {
        self.serves().await;
        self.tunnel.end().await;
    }
}

async fn serves_a_fresh_user(public: SocketAddr) {
    let mut user = TcpStream::connect(public).await.unwrap();
    user.write_all(b"still there?").await.unwrap();
    user.shutdown().await.unwrap();
    let mut answer = Vec::new();
    soon("an answer", user.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"still there?");
}

/// What a user gets until its connection ends, and how that ends.
async fn rest(user: &mut TcpStream) -> (Vec<u8>, Result<(), io::ErrorKind>) {
    let mut bytes = Vec::new();
    let ended = soon("the user's end", user.read_to_end(&mut bytes)).await;
    (bytes, ended.map(drop).map_err(|error| error.kind()))
}

fn data(stream: u32, offset: u64, payload: &'static [u8], fin: bool) -> Frame {
    Frame::Data { stream, offset, fin, payload: Bytes::from_static(payload) }
}

fn header(kind: u8, flags: u8, reserved: u16, length: u32) -> Vec<u8> {
    [&[kind, flags][..], &reserved.to_be_bytes(), &length.to_be_bytes()].concat()
}

fn after_preface(rest: impl AsRef<[u8]>) -> Vec<u8> {
    [&binary::PREFACE[..], rest.as_ref()].concat()
}
