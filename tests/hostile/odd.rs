//! Peers that behave oddly without violating the protocol: others are not affected.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::{
    telemetry::{DisconnectReason, EndReason},
    wire::{Frame, ResetCode, TunnelAction, TunnelMessage},
};

use crate::{
    SECOND, Server, WINDOW, after_preface, data, rest,
    support::{
        Running,
        binary::{BinaryChannel, add_proxy, bytes, hello},
        soon, target,
    },
};

#[tokio::test]
async fn legal_but_odd_frames_change_nothing() {
    let server = Server::start().await;
    let (mut channel, mut user, open, public) = server.hostile().await;
    let stream = open.stream;
    let message = |action| Frame::Message(TunnelMessage::control(action, "what?"));
    let keyed = TunnelMessage::stream("ABC123:1".parse().unwrap(), TunnelAction::StreamData, "what?");
    channel.send([Frame::OpenOk { stream, window: WINDOW }, data(stream, 0, b"ab", false)]).await;
    channel
        .send([
            Frame::OpenOk { stream, window: WINDOW },
            // Duplicate data with other bytes: the bytes received first stay.
            data(stream, 0, b"XX", false),
            data(stream, 1, b"Ycd", false),
            data(stream, 5, b"f", false),
            data(stream, 5, b"fg", false),
            data(stream, 4, b"e", false),
            Frame::Window { stream, consumed: 0, window: 0 },
            Frame::Window { stream, consumed: 0, window: u32::MAX },
            Frame::Window { stream, consumed: 0, window: 1 },
            Frame::Pong { token: 12_345 },
            message(TunnelAction::Error),
            message(TunnelAction::Auth),
            message(TunnelAction::Pong),
            message(TunnelAction::StreamReset),
            Frame::Message(keyed),
            add_proxy(public.port()),
            Frame::Channels { serial: 7, count: u16::MAX },
            Frame::Channels { serial: 3, count: 0 },
            // The only channel: its streams stay on it.
            Frame::Retire,
            Frame::Retire,
            Frame::Retire,
        ])
        .await;
    channel.send((0..5000).map(|_| data(stream, 7, b"", false))).await;
    channel.send((0..5000).map(|_| Frame::Window { stream, consumed: 0, window: 9 })).await;
    channel
        .send([data(stream, 7, b"", true), data(stream, 7, b"", true), data(stream, 2, b"??", false)])
        .await;
    assert_eq!(rest(&mut user).await, (b"abcdefg".to_vec(), Ok(())));
    user.shutdown().await.unwrap();
    let fin = loop {
        if let Frame::Data { offset, fin: true, .. } = channel.hear_other().await {
            break offset;
        }
    };
    // The end is acknowledged. Then the stream has ended, and frames that still arrive for it are ignored.
    channel.send([Frame::Window { stream, consumed: fin + 1, window: 0 }]).await;
    channel
        .send([
            Frame::Window { stream, consumed: 1 << 40, window: 0 },
            data(stream, 1 << 40, b"late", true),
            Frame::OpenOk { stream, window: 5 },
            Frame::Reset { stream, code: ResetCode::TargetIoError, final_size: 1 << 40 },
            Frame::Reset { stream, code: ResetCode::TargetIoError, final_size: 0 },
        ])
        .await;
    channel.settle().await;
    assert_eq!(server.tunnel.ended(open.key).await, (EndReason::Finished, 7, 0));

    let mut user = TcpStream::connect(public).await.unwrap();
    let open = channel.opened().await;
    channel.send([data(open.stream, 0, b"as ever", true)]).await;
    assert_eq!(rest(&mut user).await, (b"as ever".to_vec(), Ok(())));
    drop((user, channel));
    server.end().await;
}

/// The proxy grants 4 GiB of credit and acknowledges nothing. The server keeps unacknowledged bytes for retransmission,
/// and its own limit bounds them.
#[tokio::test]
async fn unlimited_credit_does_not_grow_the_retransmission_buffer_beyond_a_window() {
    let server = Server::start().await;
    let (mut channel, user, open, _) = server.hostile().await;
    let stream = open.stream;
    channel
        .send([
            Frame::OpenOk { stream, window: u32::MAX },
            Frame::Window { stream, consumed: 0, window: u32::MAX },
        ])
        .await;
    channel.settle().await;
    let (_read, mut write) = user.into_split();
    let upload = Running::start(async move {
        let piece = vec![7; 1 << 20];
        while write.write_all(&piece).await.is_ok() {}
    });
    let mut received = 0;
    while let Ok(frame) = tokio::time::timeout(SECOND, channel.hear_other()).await {
        if let Frame::Data { payload, .. } = frame {
            received += payload.len();
        }
        assert!(received <= 16 << 20, "{received} bytes are kept");
    }
    drop(channel);
    upload.end("the upload").await;
    server.end().await;
}

/// Every frame of a proxy arrives in two parts, split at every byte, from the preface to the last DATA.
#[tokio::test]
async fn a_frame_may_be_split_at_every_byte() {
    let server = Server::start().await;
    let (mut channel, _, public) = BinaryChannel::serving(server.tunnel.addr, &server.tunnel.token, 0).await;
    let length = bytes([data(1, 0, b"whole", true)]).len();
    for cut in 1..length {
        let mut user = TcpStream::connect(public).await.unwrap();
        let stream = channel.opened().await.stream;
        let frame = bytes([data(stream, 0, b"whole", true)]);
        channel.send_raw(&frame[..cut]).await;
        // The server has read the first part once it has served another user.
        server.serves().await;
        channel.send_raw(&frame[cut..]).await;
        assert_eq!(rest(&mut user).await, (b"whole".to_vec(), Ok(())), "cut at {cut}");
    }
    drop(channel);
    // The handshake, byte by byte.
    let mut channel = BinaryChannel::connect(server.tunnel.addr).await;
    for byte in after_preface(bytes([Frame::Hello(hello())])) {
        channel.send_raw(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert!(matches!(channel.hear().await, Some(Frame::Challenge { .. })));
    drop(channel);
    server.end().await;
}

/// A proxy that grants no credit blocks its stream and uses one permit; other streams are not affected.
#[tokio::test]
async fn a_proxy_without_credit_blocks_its_own_stream_only() {
    let server = Server::start().await;
    let (mut channel, mut user, open, public) = server.hostile().await;
    let stream = open.stream;
    channel.send([Frame::OpenOk { stream, window: 0 }, data(stream, 0, b"come on", false)]).await;
    soon("what it says", user.read_exact(&mut [0; 7])).await.unwrap();
    let (mut read, mut write) = user.into_split();
    let upload = Running::start(async move { while write.write_all(&[7; 64 * 1024]).await.is_ok() {} });
    // Another user of the same channel has unlimited credit.
    let mut other = TcpStream::connect(public).await.unwrap();
    let next = channel.opened().await.stream;
    channel.send([Frame::OpenOk { stream: next, window: WINDOW }]).await;
    other.write_all(&[8; 1000]).await.unwrap();
    let mut got = (0, 0);
    while got.1 < 1000 {
        match channel.hear_other().await {
            Frame::Data { stream: of, payload, .. } if of == stream => got.0 += payload.len(),
            Frame::Data { stream: of, payload, .. } if of == next => got.1 += payload.len(),
            _ => {}
        }
    }
    // Nothing is sent beyond the initial window, which needs no grant.
    for frame in channel.settle().await {
        if let Frame::Data { stream: of, payload, .. } = frame {
            got.0 += payload.len() * usize::from(of == stream);
        }
    }
    assert!(got.0 <= WINDOW as usize, "{} bytes came without credit", got.0);
    assert!(!upload.has_ended());
    channel.during(server.serves()).await;
    // The stream ends with its user.
    channel.send([Frame::Reset { stream, code: ResetCode::TargetIoError, final_size: 0 }]).await;
    assert_eq!(
        soon("the user's end", read.read(&mut [0])).await.map_err(|error| error.kind()),
        Err(io::ErrorKind::ConnectionReset)
    );
    upload.end("the upload").await;
    drop((other, channel));
    server.end().await;
}

/// A user that reads nothing blocks its own download: the proxy gets no credit beyond a window, and other streams get
/// theirs.
#[tokio::test]
async fn a_user_that_does_not_read_blocks_its_own_stream_only() {
    let mut server = Server::start().await;
    let endless = underpass::cli::demo::DemoFile { seed: 3, size: 1 << 36 };
    let target = target::send(endless).await;
    let public = server.tunnel.proxy(target.addr, underpass::config::ProxyFormat::Binary).await;
    let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    deaf.set_recv_buffer_size(4096).unwrap();
    deaf.connect(&public.into()).unwrap();
    let mut reads = TcpStream::connect(public).await.unwrap();
    let mut buffer = vec![0; 1 << 20];
    for _ in 0..32 {
        soon("a MiB", reads.read_exact(&mut buffer)).await.unwrap();
    }
    let snapshot = server.tunnel.telemetry.snapshot();
    let held: Vec<u64> = snapshot.streams.iter().map(|stream| stream.down).collect();
    assert!(
        held.iter().any(|&down| down < 16 << 20) && held.iter().any(|&down| down >= 32 << 20),
        "{held:?}"
    );
    drop((deaf, reads));
    server.end().await;
}

/// A proxy that sends keepalives but reads nothing is disconnected, and its users are reset.
#[tokio::test]
async fn a_proxy_that_stops_reading_is_disconnected() {
    let server = Server::start().await;
    let (mut channel, user, _, _) = server.hostile().await;
    let peer = channel.socket.local_addr().unwrap();
    socket2::SockRef::from(&channel.socket).set_recv_buffer_size(4096).unwrap();
    let (mut read, mut write) = user.into_split();
    let upload = Running::start(async move { while write.write_all(&[7; 64 * 1024]).await.is_ok() {} });
    let alive = Running::start(async move {
        let mut tick = tokio::time::interval(SECOND / 2);
        loop {
            tick.tick().await;
            if channel.socket.write_all(&bytes([Frame::Ping { token: 1 }])).await.is_err() {
                return;
            }
        }
    });
    let gone = server.disconnect_reason("a proxy that reads nothing", peer).await;
    assert!(
        matches!(
            gone,
            DisconnectReason::Reset | DisconnectReason::IoError(_) | DisconnectReason::KeepaliveTimeout
        ),
        "{gone:?}"
    );
    assert!(soon("the user's end", read.read(&mut [0])).await.is_err());
    upload.end("the upload").await;
    alive.end("the proxy").await;
    server.end().await;
}
