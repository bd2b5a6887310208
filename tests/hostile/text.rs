//! Registered text proxies that send malformed or unexpected lines.

use std::{io, net::SocketAddr};

use tokio::{io::AsyncReadExt, net::TcpStream};
use underpass::telemetry::{DisconnectReason, EventKind, Snapshot};

use crate::{
    Server, rest,
    support::{
        soon,
        target::LOOPBACK,
        text::{BOTH, FieldCount, Said, TextChannel},
    },
};

/// Connects a text proxy and one of its users, who has received half of a response. Returns both and the opening line
/// of the stream.
async fn hostile(server: &Server, fields: FieldCount) -> (TextChannel, TcpStream, Said) {
    let mut channel = TextChannel::connect(server.tunnel.addr, fields).await;
    channel.send("", 0, "AUTH", server.tunnel.token.reveal().as_bytes()).await;
    channel.send("", 0, "ADDPROXY:0", b"").await;
    let answer = channel.hear_action("RESPONSE").await.text();
    let port = answer.strip_suffix(":default").unwrap().parse().unwrap();
    let mut user = TcpStream::connect(SocketAddr::new(LOOPBACK.ip(), port)).await.unwrap();
    let start = channel.hear_action("STREAM_START").await;
    channel.answer(&start, "STREAM_START", b"").await;
    channel.answer(&start, "STREAM_DATA", b"half").await;
    soon("half of it", user.read_exact(&mut [0; 4])).await.unwrap();
    (channel, user, start)
}

fn named(stream: &Said) -> String {
    format!("{}|{}", stream.user, stream.stream)
}

fn alone(snapshot: &Snapshot) -> bool {
    snapshot.proxies.len() == 1
}

#[tokio::test]
async fn a_malformed_line_closes_its_channel_with_the_reason() {
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("one field", b"HELLO\n".into(), "a line is USER|STREAM|ACTION|DATA"),
        ("two fields", b"ABC123|1\n".into(), "a line is"),
        ("five fields", b"ABC123|1|STREAM_DATA|eA==|x\n".into(), "a line is"),
        ("an unknown action", b"ABC123|1|FLY|\n".into(), "unknown action"),
        ("an action in small letters", b"ABC123|1|stream_data|eA==\n".into(), "unknown action"),
        ("a registration without a port", b"|0|ADDPROXY:|\n".into(), "ADDPROXY"),
        ("port 65536", b"|0|ADDPROXY:65536|\n".into(), "ADDPROXY"),
        ("port -1", b"|0|ADDPROXY:-1|\n".into(), "ADDPROXY"),
        ("a group with escapes", b"|0|ADDPROXY:0:\x1b[2J|\n".into(), "ADDPROXY"),
        ("data that is not base64", b"ABC123|1|STREAM_DATA|????\n".into(), "not base64"),
        ("base64 that stops", b"ABC123|1|STREAM_DATA|eA=\n".into(), "not base64"),
        ("base64 with bits to spare", b"ABC123|1|STREAM_DATA|eB==\n".into(), "not base64"),
        ("a user of five digits", b"ABC12|1|STREAM_DATA|eA==\n".into(), "invalid user channel id"),
        ("a user of no digits", b"user!!|1|STREAM_DATA|eA==\n".into(), "invalid user channel id"),
        ("no user and a stream", b"|1|STREAM_DATA|eA==\n".into(), "invalid user channel id"),
        ("stream 4294967296", b"ABC123|4294967296|STREAM_DATA|eA==\n".into(), "invalid stream id"),
        ("stream -1", b"ABC123|-1|STREAM_DATA|eA==\n".into(), "invalid stream id"),
        ("not UTF-8", b"\xff\xfe|1|STREAM_DATA|eA==\n".into(), "not UTF-8"),
        (
            "a frame of the binary format",
            [&[0x12, 0, 0, 0, 0, 0, 0, 12][..], &[0; 12], b"\n"].concat(),
            "a line is",
        ),
        ("a line of more than 1 MiB", [vec![b'A'; 1 << 20], b"\n".to_vec()].concat(), "too long"),
        ("a line without end", vec![b'A'; 2 << 20], "too long"),
    ];
    let server = Server::start().await;
    for (what, says, reason) in cases {
        let (mut channel, mut user, _) = hostile(&server, FieldCount::Four).await;
        // The server may close the channel before everything is sent.
        _ = soon(what, tokio::io::AsyncWriteExt::write_all(&mut channel.write, &says)).await;
        let told = |event: &EventKind| matches!(event, EventKind::ChannelDisconnected { reason: DisconnectReason::Protocol(told), .. } if told.contains(reason));
        server.tunnel.event(what, told).await;
        assert_eq!(rest(&mut user).await, (vec![], Err(io::ErrorKind::ConnectionReset)), "{what}");
        server.tunnel.until(what, alone).await;
        server.serves().await;
    }
    server.end().await;
}

/// Odd but legal lines: their stream ends as without them, and the channel continues.
#[tokio::test]
async fn legal_but_odd_lines_change_nothing() {
    type Says = fn(&Said) -> String;
    let cases: Vec<(&str, Says)> = vec![
        ("nothing", |_| String::new()),
        ("empty lines", |_| "\n\r\n\n".into()),
        ("START again", |s| format!("{}|STREAM_START|\n", named(s))),
        ("START with a size of -1", |s| format!("{}|STREAM_START|LTE=\n", named(s))),
        ("START with an endless size", |s| format!("{}|STREAM_START|99999999999999999999\n", named(s))),
        ("DATA without a byte", |s| format!("{}|STREAM_DATA|\n", named(s)).repeat(1000)),
        ("DATA for an unknown stream", |_| "000001|9|STREAM_DATA|eA==\n".repeat(1000)),
        ("START for an unknown stream", |_| {
            (0..1000).map(|n| format!("{n:06X}|7|STREAM_START|\n")).collect()
        }),
        ("END for an unknown stream", |_| "000001|9|STREAM_END|\n".repeat(1000)),
        ("RESET for an unknown stream", |_| "000001|9|STREAM_RESET|\n".repeat(1000)),
        ("PAUSE and RESUME", |s| format!("{0}|STREAM_PAUSE|\n{0}|STREAM_RESUME|\n", named(s)).repeat(1000)),
        ("PAUSE for an unknown stream", |_| "000001|9|STREAM_PAUSE|\n".repeat(1000)),
        ("PONG to nothing", |_| "|0|PONG|Nzc=\n".repeat(1000)),
        ("PING", |_| "|0|PING|Nzc=\n".repeat(100)),
        ("AUTH again, wrongly", |_| "|0|AUTH|eA==\n".repeat(100)),
        ("ERROR", |_| "|0|ERROR|eA==\n".repeat(100)),
        ("other forms of a line", |_| "|PONG|\n|PONG\n|0|PONG\r\n".into()),
    ];
    let server = Server::start().await;
    for (what, says) in cases {
        let (mut channel, mut user, start) = hostile(&server, FieldCount::Four).await;
        channel.send_raw(says(&start).as_bytes()).await;
        channel.answer(&start, "STREAM_DATA", b" and whole").await;
        channel.answer(&start, "STREAM_END", b"").await;
        channel.answer(&start, "STREAM_END", b"").await;
        assert_eq!(rest(&mut user).await, (b" and whole".to_vec(), Ok(())), "{what}");
        drop((user, channel));
        server.tunnel.until(what, alone).await;
        server.serves().await;
    }
    server.end().await;
}

/// A proxy that sends data after the end of a stream has lost track of its streams, so that its channel is closed.
#[tokio::test]
async fn data_after_the_end_of_a_stream_closes_its_channel() {
    let server = Server::start().await;
    for fields in BOTH {
        let (mut channel, mut user, start) = hostile(&server, fields).await;
        channel.answer(&start, "STREAM_END", b"").await;
        assert_eq!(rest(&mut user).await, (vec![], Ok(())));
        channel.answer(&start, "STREAM_DATA", b"more").await;
        while channel.hear_raw().await.is_some() {}
        server.tunnel.until("its end", alone).await;
        let told = |event: &EventKind| matches!(event, EventKind::ChannelDisconnected { reason: DisconnectReason::Protocol(told), .. } if told == "final size of a stream changed");
        server.tunnel.event("a lost channel", told).await;
        server.serves().await;
    }
    server.end().await;
}
