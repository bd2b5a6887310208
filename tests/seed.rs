//! The four tests of the seed document, under their original names, through the whole tunnel and in both formats.

#![allow(non_snake_case, clippy::unwrap_used)]

mod support;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use support::{
    soon,
    target::{self, Target},
    tunnel::{FORMATS, Tunnel},
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::{
    cli::demo::{DemoFile, FileVerifier},
    telemetry::{EventKind, StreamPhase},
};

/// The size of a transfer, in bytes.
const TEN_MB: u64 = 10_000_000;

/// Sends a ping line and expects the pong line.
async fn exchange(user: &mut TcpStream) {
    user.write_all(b"PING\n").await.unwrap();
    let mut answer = [0; 5];
    soon("PONG", user.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"PONG\n");
}

/// Shuts down the write direction and expects the end of the stream, without data and without an error.
async fn ends_cleanly(user: &mut TcpStream) {
    user.shutdown().await.unwrap();
    assert_eq!(soon("the end", user.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn testServerIsRunning() {
    for format in FORMATS {
        let mut tunnel = Tunnel::start().await;
        tunnel
            .event(
                "the server's listening address",
                |event| matches!(event, EventKind::Listening { addr } if *addr == tunnel.addr),
            )
            .await;
        soon("the tunnel port", TcpStream::connect(tunnel.addr)).await.unwrap();
        let target = target::idle().await;
        let public = tunnel.proxy(target.addr, format).await;
        let user = soon("the public port", TcpStream::connect(public)).await.unwrap();
        target.when(|counts| counts.open == 1, Duration::from_secs(5)).await;
        let address = user.local_addr().unwrap();
        let stream = tunnel.stream_of(address).await;
        assert_eq!(stream.info.addr, address);
        drop(user);
        target.when(|counts| counts.open == 0 && counts.failed == 0, Duration::from_secs(5)).await;
        tunnel.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn testTcpClientSendsPingAndReceivesPong() {
    for format in FORMATS {
        let mut tunnel = Tunnel::start().await;
        let target = target::ping_pong().await;
        let public = tunnel.proxy(target.addr, format).await;
        let mut user = TcpStream::connect(public).await.unwrap();
        exchange(&mut user).await;
        let address = user.local_addr().unwrap();
        let stream = tunnel
            .until("an open stream with its bytes", |snapshot| {
                snapshot.streams.iter().any(|s| s.info.addr == address && (s.up, s.down) == (5, 5))
            })
            .await;
        assert_eq!(stream.streams[0].phase, StreamPhase::Open);
        ends_cleanly(&mut user).await;
        tunnel.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn testMultiplePingPongExchanges() {
    for format in FORMATS {
        let mut tunnel = Tunnel::start().await;
        let target = target::ping_pong().await;
        let public = tunnel.proxy(target.addr, format).await;

        let mut user = TcpStream::connect(public).await.unwrap();
        for _ in 0..3 {
            exchange(&mut user).await;
        }

        // Two more connections, whose exchanges alternate with the first.
        let mut users =
            [user, TcpStream::connect(public).await.unwrap(), TcpStream::connect(public).await.unwrap()];
        for _ in 0..3 {
            for user in &mut users {
                exchange(user).await;
            }
        }
        let snapshot = tunnel.telemetry.snapshot();
        let mut ids: Vec<_> = snapshot.streams.iter().map(|stream| stream.key.to_string()).collect();
        ids.sort();
        let id = snapshot.users[0].id;
        assert_eq!(ids, [1, 2, 3].map(|n| format!("{id}:{n}")));
        for user in &mut users {
            ends_cleanly(user).await;
        }
        tunnel.end().await;
    }
}

/// A target that receives an upload, compares it with `file`, sends the verdict and closes.
async fn expects(file: DemoFile) -> Target {
    target::serve_with(move |mut socket| async move {
        let mut verifier = FileVerifier::new(file);
        let mut buffer = vec![0; 64 * 1024];
        let verdict = loop {
            match socket.read(&mut buffer).await? {
                0 if verifier.remaining_bytes() == 0 => break "same".to_owned(),
                0 => break format!("{} bytes are missing", verifier.remaining_bytes()),
                n => match verifier.verify(&buffer[..n]) {
                    Ok(()) => {}
                    Err(wrong) => break wrong.to_string(),
                },
            }
        };
        socket.write_all(verdict.as_bytes()).await?;
        socket.shutdown().await
    })
    .await
}

/// Downloads from the public port and compares the bytes with `file`.
async fn download(public: SocketAddr, file: DemoFile) {
    let mut user = TcpStream::connect(public).await.unwrap();
    let mut verifier = FileVerifier::new(file);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = user.read(&mut buffer).await.unwrap();
        if n == 0 {
            break;
        }
        verifier.verify(&buffer[..n]).unwrap();
    }
    assert_eq!(verifier.remaining_bytes(), 0);
}

/// Uploads `file` to the public port and expects the target's verdict that it is the same.
async fn upload(public: SocketAddr, file: DemoFile) {
    let mut user = TcpStream::connect(public).await.unwrap();
    let mut sent = 0;
    while sent < file.size {
        let piece = file.bytes_from(sent);
        user.write_all(piece).await.unwrap();
        sent += piece.len() as u64;
    }
    user.shutdown().await.unwrap();
    let mut verdict = String::new();
    user.read_to_string(&mut verdict).await.unwrap();
    assert_eq!(verdict, "same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn testSend10MBLargeData() {
    const LIMIT: Duration = Duration::from_secs(30);
    for format in FORMATS {
        let mut tunnel = Tunnel::start().await;
        let (down, up) = (DemoFile { seed: 1, size: TEN_MB }, DemoFile { seed: 2, size: TEN_MB });
        let (sender, receiver) = (target::send(down).await, expects(up).await);
        let from = tunnel.proxy(sender.addr, format).await;
        let to = tunnel.proxy(receiver.addr, format).await;
        let rate = |begin: Instant| TEN_MB as f64 / 1e6 / begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        within(LIMIT, "10 MB down", download(from, down)).await;
        let down_rate = rate(begin);
        let begin = Instant::now();
        within(LIMIT, "10 MB up", upload(to, up)).await;
        println!("{format:?}: 10 MB down at {down_rate:.0} MB/s, up at {:.0} MB/s", rate(begin));
        tunnel.until("both have ended", |snapshot| snapshot.totals.streams_open == 0).await;
        let totals = tunnel.telemetry.totals();
        assert_eq!((totals.down, totals.up), (TEN_MB + "same".len() as u64, TEN_MB));
        tunnel.end().await;
    }
}
