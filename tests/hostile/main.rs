//! Attacks and faults: unauthenticated connections, proxies that violate the protocol, floods, and a machine that has
//! run out of a resource. Each case ends with a new user that is served, and each server with no resource left in use.

#![allow(clippy::unwrap_used, unreachable_pub)]

#[cfg(target_os = "linux")]
mod descriptors;
mod floods;
mod limits;
mod loops;
mod machine;
mod memory;
mod odd;
mod pending_connections;
mod proofs;
mod protocol;
mod registers;
#[path = "../support/mod.rs"]
mod support;
mod text;
mod tls;
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

/// Initial flow-control window of a stream in bytes.
const WINDOW: u32 = 256 * 1024;

/// A server with a conforming proxy, whose users must not be affected.
struct Server {
    tunnel: Tunnel,
    public: SocketAddr,
    _echo: Target,
}

impl Server {
    async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let change = |config: &mut ServerConfig| {
            // The hostile proxies do not reconnect, so that waiting for them would only delay the tests.
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

    /// Returns the reason for which the server closed the pending connection from this address.
    async fn rejection_reason(&self, what: &str, pending: SocketAddr) -> String {
        let told =
            |event: &EventKind| matches!(event, EventKind::HandshakeFailed { addr, .. } if *addr == pending);
        match self.tunnel.event(what, told).await {
            EventKind::HandshakeFailed { reason, .. } => reason,
            other => unreachable!("{other}"),
        }
    }

    /// Returns the reason for which the channel from this address was disconnected.
    async fn disconnect_reason(&self, what: &str, peer: SocketAddr) -> DisconnectReason {
        let channel = self.channel(peer).await;
        let told = |event: &EventKind| matches!(event, EventKind::ChannelDisconnected { channel: gone, .. } if *gone == channel);
        match self.tunnel.event(what, told).await {
            EventKind::ChannelDisconnected { reason, .. } => reason,
            other => unreachable!("{other}"),
        }
    }

    /// Returns the ID of the channel from this address.
    async fn channel(&self, peer: SocketAddr) -> ChannelId {
        let told =
            |event: &EventKind| matches!(event, EventKind::ChannelConnected { addr, .. } if *addr == peer);
        match self.tunnel.event("a channel", told).await {
            EventKind::ChannelConnected { channel, .. } => channel,
            other => unreachable!("{other}"),
        }
    }

    /// Connects a hostile proxy and one of its users. Returns both, the OPEN of that user's stream and the public
    /// address.
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

/// Asserts that a new user of the echo behind `public` is served.
async fn serves_a_fresh_user(public: SocketAddr) {
    let mut user = TcpStream::connect(public).await.unwrap();
    user.write_all(b"still there?").await.unwrap();
    user.shutdown().await.unwrap();
    let mut answer = Vec::new();
    soon("an answer", user.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"still there?");
}

/// Reads everything that a user receives, and returns how its connection ends: `Ok` for a FIN.
async fn rest(user: &mut TcpStream) -> (Vec<u8>, Result<(), io::ErrorKind>) {
    let mut bytes = Vec::new();
    let ended = soon("the user's end", user.read_to_end(&mut bytes)).await;
    (bytes, ended.map(drop).map_err(|error| error.kind()))
}

/// Returns a DATA frame.
fn data(stream: u32, offset: u64, payload: &'static [u8], fin: bool) -> Frame {
    Frame::Data { stream, offset, fin, payload: Bytes::from_static(payload) }
}

/// Returns whether a reason is in words that an operator understands, without details of the format.
fn is_plain(reason: &str) -> bool {
    !["frame", "preface", "0x"].iter().any(|detail| reason.contains(detail))
}

/// Encodes a frame header.
fn header(kind: u8, flags: u8, reserved: u16, length: u32) -> Vec<u8> {
    [&[kind, flags][..], &reserved.to_be_bytes(), &length.to_be_bytes()].concat()
}

/// Returns the preface of the binary format, followed by `rest`.
fn after_preface(rest: impl AsRef<[u8]>) -> Vec<u8> {
    [&binary::PREFACE[..], rest.as_ref()].concat()
}
