//! The text format against the real server, through a socket: what the server sends is checked line by line. This file
//! has the helpers; the tests are in the modules below.

mod backpressure;
mod registration;
mod streams;

use std::{io, net::SocketAddr, time::Duration};

use crate::support::{
    soon,
    target::{self, LOOPBACK},
    text::{BOTH, FieldCount, Said, TextChannel},
    tunnel::Tunnel,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::{
    config::{ProxyFormat, TextProxies},
    telemetry::{ChannelFormat, DisconnectReason, EndReason, EventKind},
};

/// The initial flow-control window of a stream, in bytes.
const WINDOW: usize = 256 * 1024;

/// The most data of a text proxy that the server buffers, in bytes, with one read and the overhead of its lines.
const MAX_BUFFERED: usize = (16 << 20) + (1 << 20);

/// Connects, authenticates and registers a proxy for `port` (0: any free port). Returns its channel and the public
/// address.
async fn registered_proxy(tunnel: &Tunnel, fields: FieldCount, port: u16) -> (TextChannel, SocketAddr) {
    let mut channel = TextChannel::connect(tunnel.addr, fields).await;
    channel.send("", 0, "AUTH", tunnel.token.reveal().as_bytes()).await;
    channel.send("", 0, &format!("ADDPROXY:{port}"), b"").await;
    let answer = channel.hear_action("RESPONSE").await.text();
    let port = answer.strip_suffix(":default").unwrap().parse().unwrap();
    (channel, SocketAddr::new(LOOPBACK.ip(), port))
}

/// Connects a user. Returns its socket and the STREAM_START line that the proxy received.
async fn connect_user(channel: &mut TextChannel, public: SocketAddr) -> (TcpStream, Said) {
    let socket = TcpStream::connect(public).await.unwrap();
    (socket, channel.hear_action("STREAM_START").await)
}

/// Reads from the user's socket until its end. Returns the bytes, and the kind of the error if the end is not clean.
async fn read_to_end(socket: &mut TcpStream) -> (Vec<u8>, Result<(), io::ErrorKind>) {
    let mut bytes = Vec::new();
    let ended = soon("the user's end", socket.read_to_end(&mut bytes)).await;
    (bytes, ended.map(drop).map_err(|error| error.kind()))
}

/// Asserts that the channel works: it serves one user from connect to close in both directions.
async fn assert_serves_one(channel: &mut TextChannel, public: SocketAddr) {
    let (mut socket, start) = connect_user(channel, public).await;
    socket.write_all(b"question").await.unwrap();
    socket.shutdown().await.unwrap();
    let message = channel.hear_action("STREAM_DATA").await;
    assert_eq!((message.key(), &message.data[..]), (start.key(), &b"question"[..]));
    channel.hear_action("STREAM_END").await;
    channel.answer(&start, "STREAM_START", b"").await;
    channel.answer(&start, "STREAM_DATA", b"answer").await;
    channel.answer(&start, "STREAM_END", b"").await;
    assert_eq!(read_to_end(&mut socket).await, (b"answer".to_vec(), Ok(())));
}

async fn wait_for_no_session(tunnel: &Tunnel, key: &str) {
    let is_expected = |event: &EventKind| matches!(event, EventKind::UnknownStream { key: of, .. } if of.to_string() == key);
    tunnel.event(&format!("no session for {key}"), is_expected).await;
}

/// Returns why the first channel that was lost was lost.
async fn disconnect_reason(tunnel: &Tunnel) -> DisconnectReason {
    let event =
        tunnel.event("a lost channel", |event| matches!(event, EventKind::ChannelDisconnected { .. })).await;
    let EventKind::ChannelDisconnected { reason, .. } = event else { unreachable!() };
    reason
}

async fn assert_echoes(public: SocketAddr) {
    let mut socket = TcpStream::connect(public).await.unwrap();
    socket.write_all(b"still there?").await.unwrap();
    socket.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut socket).await, (b"still there?".to_vec(), Ok(())));
}
