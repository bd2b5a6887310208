//! Authenticated proxies that violate the binary protocol.

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use underpass::{
    ids::Priority,
    telemetry::DisconnectReason,
    wire::{
        Frame, Hello, Open, ResetCode, TunnelAction, TunnelMessage, Welcome,
        binary::{self, CHECKSUMS, FrameEncoder},
    },
};

use crate::{
    Server, WINDOW, after_preface, data, header, is_plain, rest,
    support::{
        binary::{BinaryChannel, bytes, hello},
        soon,
    },
};

#[tokio::test]
async fn every_protocol_violation_closes_its_channel_with_the_reason() {
    type Says = fn(u32) -> Vec<u8>;
    let cases: Vec<(&str, Says, &str)> = vec![
        (
            "OPEN",
            |stream| {
                let key = "ABC123:9".parse().unwrap();
                let open = Open {
                    stream: stream + 1,
                    key,
                    port: 1,
                    priority: Priority::default(),
                    window: 1,
                    user: None,
                };
                bytes([Frame::Open(open)])
            },
            "unexpected message (OPEN)",
        ),
        ("HELLO again", |_| bytes([Frame::Hello(hello())]), "unexpected message (HELLO)"),
        ("CHALLENGE", |_| bytes([Frame::Challenge { nonce: [0; 32] }]), "unexpected message (CHALLENGE)"),
        ("PROOF", |_| bytes([Frame::Proof { mac: [0; 32] }]), "unexpected message (PROOF)"),
        ("WELCOME", |_| bytes([Frame::Welcome(welcome())]), "unexpected message (WELCOME)"),
        (
            "PRIORITY",
            |stream| bytes([Frame::Priority { stream, priority: Priority::Low }]),
            "unexpected message (PRIORITY)",
        ),
        ("the preface again", |_| after_preface([]), "message of an unknown type ("),
        (
            "DATA for no stream",
            |s| bytes([data(s + 1, 0, b"x", false)]),
            "message for a stream that was never opened (DATA)",
        ),
        (
            "DATA for stream 0",
            |_| bytes([data(0, 0, b"x", false)]),
            "message for a stream that was never opened (DATA)",
        ),
        (
            "DATA for the last stream there is",
            |_| bytes([data(u32::MAX, 0, b"x", true)]),
            "message for a stream that was never opened (DATA)",
        ),
        (
            "OPEN_OK for no stream",
            |s| bytes([Frame::OpenOk { stream: s + 1, window: 1 }]),
            "message for a stream that was never opened (OPEN_OK)",
        ),
        (
            "WINDOW for no stream",
            |stream| bytes([Frame::Window { stream: stream + 1, consumed: 0, window: 1 }]),
            "message for a stream that was never opened (WINDOW)",
        ),
        ("BLOCKED, which version 2 removed", |_| header(0x15, 0, 0, 12), "message of an unknown type ("),
        (
            "RESET for no stream",
            |stream| bytes([Frame::Reset { stream: stream + 1, code: ResetCode::Killed, final_size: 0 }]),
            "message for a stream that was never opened (RESET)",
        ),
        (
            "one byte beyond the window",
            |s| bytes([data(s, WINDOW.into(), b"x", false)]),
            "data beyond the flow-control limit",
        ),
        (
            "far beyond the window",
            |s| bytes([data(s, (1 << 62) - 2, b"xxxx", false)]),
            "data beyond the flow-control limit",
        ),
        ("an unreachable offset", |s| raw_data(s, u64::MAX), "message with an invalid value (DATA: offset)"),
        (
            "more after the end",
            |stream| bytes([data(stream, 4, b"", true), data(stream, 4, b"x", false)]),
            "final size of a stream changed",
        ),
        (
            "a later end",
            |stream| bytes([data(stream, 4, b"", true), data(stream, 5, b"", true)]),
            "final size of a stream changed",
        ),
        (
            "an end before what came",
            |stream| bytes([data(stream, 10, b"x", false), data(stream, 5, b"", true)]),
            "final size of a stream changed",
        ),
        (
            "credit for what was never sent",
            |stream| bytes([Frame::Window { stream, consumed: 1000, window: 1 }]),
            "acknowledgement of data that was never sent",
        ),
        (
            "credit for the end, which was never sent",
            |stream| bytes([Frame::Window { stream, consumed: 1, window: 1 }]),
            "acknowledgement of data that was never sent",
        ),
        (
            "credit beyond all numbers",
            |stream| bytes([Frame::Window { stream, consumed: (1 << 62) - 1, window: u32::MAX }]),
            "acknowledgement of data that was never sent",
        ),
        (
            "single bytes with gaps",
            |stream| bytes((0..2000).map(|n| data(stream, 5 + 2 * n, b"x", false))),
            "too many out-of-order segments",
        ),
        ("a frame of 4 GiB", |_| header(0x12, 0, 0, u32::MAX), "message of 4294967295 bytes"),
        (
            "a frame that is a byte too long",
            |_| header(0x12, 0, 0, binary::MAX_FRAME as u32 + 1),
            "message of 262157",
        ),
        ("an unknown type", |_| header(0x7f, 0, 0, 0), "message of an unknown type ("),
        ("type 0", |_| header(0, 0, 0, 0), "message of an unknown type ("),
        (
            "a flag that PING has not",
            |_| header(0x20, 1, 0, 8),
            "message with reserved bits that are not zero (PING)",
        ),
        (
            "an unknown flag",
            |_| header(0x12, 2, 0, 12),
            "message with reserved bits that are not zero (DATA)",
        ),
        (
            "a reserved byte",
            |_| header(0x20, 0, 0x100, 8),
            "message with reserved bits that are not zero (PING)",
        ),
        ("a length that PING has not", |_| header(0x20, 0, 0, 7), "message of 7 bytes"),
        ("DATA without an offset", |_| header(0x12, 0, 0, 11), "message of 11 bytes"),
        (
            "a message that says nothing known",
            |_| [header(0x24, 0, 0, 4), b"\x03FLY".to_vec()].concat(),
            "unknown action in a message (MESSAGE)",
        ),
        (
            "a message that reaches past its end",
            |_| [header(0x24, 0, 0, 4), b"\xffFLY".to_vec()].concat(),
            "message whose inner length does not fit (MESSAGE)",
        ),
    ];
    let server = Server::start().await;
    for (what, says, reason) in cases {
        let (mut channel, mut user, open, public) = server.hostile().await;
        let stream = open.stream;
        channel.send([Frame::OpenOk { stream, window: WINDOW }, data(stream, 0, b"half", false)]).await;
        soon("half of it", user.read_exact(&mut [0; 4])).await.unwrap();
        let peer = channel.socket.local_addr().unwrap();
        channel.send_raw(&says(stream)).await;
        let gone = server.disconnect_reason(what, peer).await;
        assert!(
            matches!(&gone, DisconnectReason::Protocol(told) if told.contains(reason) && is_plain(told)),
            "{what}: {gone:?}"
        );
        assert_eq!(rest(&mut user).await, (vec![], Err(io::ErrorKind::ConnectionReset)), "{what}");
        // The proxy receives the reason.
        let told = channel.rest().await.into_iter().any(|frame| match frame {
            Frame::Message(TunnelMessage { action: TunnelAction::Error, data, .. }) => {
                String::from_utf8(data.to_vec()).unwrap().contains(reason)
            }
            _ => false,
        });
        assert!(told, "{what}");
        server.serves().await;
        // Its port can be registered by another proxy.
        let (again, ..) =
            BinaryChannel::serving(server.tunnel.addr, &server.tunnel.token, public.port()).await;
        drop(again);
    }
    server.end().await;
}

/// A feature is in force only if both sides support it. With checksums, a frame without one, with a wrong one, or with
/// a corrupted length closes the channel.
#[tokio::test]
async fn a_wrong_checksum_closes_the_channel() {
    let server = Server::start().await;
    let ping = Frame::Ping { token: 1 };
    let mut checked = BytesMut::new();
    FrameEncoder::checked().encode(&ping, &mut checked);
    let changed = |at: usize| {
        let mut bytes = checked.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    for (what, says) in [
        ("no checksum", bytes([ping.clone()])),
        ("the same frame twice", [&checked[..], &checked[..]].concat()),
        ("another type", changed(0)),
        ("another length", changed(5)),
        ("another check", changed(2)),
        ("another checksum", changed(11)),
        ("another token", changed(19)),
    ] {
        let hello = Hello { features: u32::MAX, ..hello() };
        let greeted = BinaryChannel::greeted(server.tunnel.addr, &server.tunnel.token, hello, None);
        let (mut channel, welcome) = greeted.await.unwrap();
        assert!(welcome.features & CHECKSUMS != 0);
        let peer = channel.socket.local_addr().unwrap();
        channel.send_raw(&says).await;
        assert_eq!(server.disconnect_reason(what, peer).await, DisconnectReason::ChecksumMismatch, "{what}");
        let told = channel.rest().await.into_iter().any(|frame| {
            matches!(frame, Frame::Message(TunnelMessage { action: TunnelAction::Error, data, .. })
                if String::from_utf8_lossy(&data).contains("checksum mismatch"))
        });
        assert!(told, "{what}");
    }
    server.end().await;
}

/// Returns the WELCOME of the server with all features.
fn welcome() -> Welcome {
    Welcome {
        link: [0; 16],
        epoch: 0,
        channel: 1,
        features: 0,
        max_streams: 1,
        first_window: 1,
        grace_ms: 0,
        resume_secret: None,
        mac: [0; 32],
    }
}

/// Encodes a DATA frame that the library's codec would refuse to encode.
fn raw_data(stream: u32, offset: u64) -> Vec<u8> {
    [header(0x12, 0, 0, 13), stream.to_be_bytes().into(), offset.to_be_bytes().into(), b"x".to_vec()].concat()
}

#[tokio::test]
async fn a_channel_that_ends_within_a_frame_resets_its_users() {
    let server = Server::start().await;
    for (what, says, reset) in [
        ("half a header", header(0x12, 0, 0, 100)[..5].to_vec(), false),
        ("a header", header(0x12, 0, 0, 100), false),
        ("half of the bytes", [header(0x12, 0, 0, 112), vec![0; 60]].concat(), false),
        ("half of the bytes, and a reset", [header(0x12, 0, 0, 112), vec![0; 60]].concat(), true),
    ] {
        let (mut channel, mut user, open, _) = server.hostile().await;
        let stream = open.stream;
        channel.send([Frame::OpenOk { stream, window: WINDOW }, data(stream, 0, b"half", false)]).await;
        soon("half of it", user.read_exact(&mut [0; 4])).await.unwrap();
        let peer = channel.socket.local_addr().unwrap();
        channel.send_raw(&says).await;
        if reset {
            socket2::SockRef::from(&channel.socket).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(channel);
        let gone = server.disconnect_reason(what, peer).await;
        assert!(matches!(gone, DisconnectReason::Closed | DisconnectReason::Reset), "{what}: {gone:?}");
        assert_eq!(rest(&mut user).await, (vec![], Err(io::ErrorKind::ConnectionReset)), "{what}");
        server.serves().await;
    }
    server.end().await;
}
