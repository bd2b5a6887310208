//! The example proxies against a minimal server in this test: the lines that they send conform to the text format.
//! Neither side uses the library's codec, so that an error of the codec cannot hide itself.

use std::{net::SocketAddr, time::Duration};

use crate::support::{
    process::Process,
    soon,
    target::{self, LOOPBACK},
    text::{BOTH, FieldCount, TextChannel},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt},
    net::TcpListener,
};
use underpass::cli::demo::{DemoFile, FileVerifier, Sha256Sum};

/// What the server of these tests does on a channel.
trait AsServer {
    async fn open(&mut self, user: &str, stream: u32);
    async fn download(&mut self, user: &str) -> Vec<u8>;
}

impl AsServer for TextChannel {
    /// Opens a stream and waits until it is accepted.
    async fn open(&mut self, user: &str, stream: u32) {
        self.send(user, stream, "STREAM_START", b"").await;
        self.hear_that(user, stream, "STREAM_START", b"").await;
    }

    /// Reads the only open stream to its end.
    async fn download(&mut self, user: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let said = self.hear().await;
            assert_eq!(said.user, user);
            match said.action.as_str() {
                "STREAM_DATA" => bytes.extend(said.data),
                "STREAM_END" => return bytes,
                _ => panic!("{said:?}"),
            }
        }
    }
}

/// Starts an example and accepts its channel. Returns `None` without Python.
async fn connect(fields: FieldCount, target: SocketAddr, token: &[&str]) -> Option<(Process, TextChannel)> {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let (server, target) = (listener.local_addr().unwrap().to_string(), target.to_string());
    let script = if fields == FieldCount::Three { "text_proxy_old.py" } else { "text_proxy.py" };
    let arguments = [&[&server[..], "8080", &target], token].concat();
    let process = Process::example(script, &arguments)?;
    let (socket, _) = soon("the proxy connects", listener.accept()).await.unwrap();
    Some((process, TextChannel::new(socket, fields)))
}

/// Like [`connect`], and accepts its registration.
async fn serving(fields: FieldCount, target: SocketAddr) -> Option<(Process, TextChannel)> {
    let (mut process, mut channel) = connect(fields, target, &[]).await?;
    channel.hear().await;
    channel.send("", 0, "RESPONSE", b"41234:default").await;
    assert_eq!(process.line("serving").await, "serving 41234:default");
    Some((process, channel))
}

#[tokio::test]
async fn the_example_registers_with_a_token_and_answers_pings() {
    for fields in BOTH {
        let target = target::refusing().await;
        let Some((mut process, mut channel)) = connect(fields, target, &["s3cret"]).await else { return };
        channel.hear_that("", 0, "AUTH", b"s3cret").await;
        let request = match fields {
            FieldCount::Three => "ADDPROXY:8080".to_owned(),
            FieldCount::Four => format!("ADDPROXY:8080:default:{}", target.port()),
        };
        channel.hear_that("", 0, &request, b"").await;
        channel.send("", 0, "RESPONSE", b"8080:default").await;
        assert_eq!(process.line("serving").await, "serving 8080:default");
        channel.send("", 0, "PING", b"\0\x01two").await;
        channel.hear_that("", 0, "PONG", b"\0\x01two").await;
    }
}

#[tokio::test]
async fn a_refusal_is_printed_and_ends_the_program() {
    for fields in BOTH {
        let Some((mut process, mut channel)) = connect(fields, target::refusing().await, &[]).await else {
            return;
        };
        channel.hear().await;
        channel.send("", 0, "ERROR", b"port 8080 is in use").await;
        assert_eq!(process.exit().await.code(), Some(1));
        assert_eq!(process.stderr(), "refused: port 8080 is in use\n");
    }
}

#[tokio::test]
async fn two_interleaved_streams_are_kept_apart() {
    let target = target::ping_pong().await;
    let Some((_process, mut channel)) = serving(FieldCount::Four, target.addr).await else { return };
    channel.open("ABC123", 1).await;
    channel.open("ABC123", 2).await;
    for stream in [1, 2, 2, 1, 2, 1] {
        channel.send("ABC123", stream, "STREAM_DATA", b"PING\n").await;
        channel.hear_that("ABC123", stream, "STREAM_DATA", b"PONG\n").await;
    }
}

#[tokio::test]
async fn two_downloads_are_complete_and_in_order() {
    let file = DemoFile { seed: 6, size: 3_000_000 };
    let target = target::send(file).await;
    let Some((_process, mut channel)) = serving(FieldCount::Four, target.addr).await else { return };
    channel.send("ABC123", 1, "STREAM_START", b"").await;
    channel.send("ABC123", 2, "STREAM_START", b"").await;
    let mut verifiers = [FileVerifier::new(file), FileVerifier::new(file)];
    let (mut accepted, mut ended) = (0, 0);
    while ended < 2 {
        let said = channel.hear().await;
        let stream: usize = said.stream.parse().unwrap();
        match said.action.as_str() {
            "STREAM_START" => accepted += 1,
            "STREAM_DATA" => verifiers[stream - 1].verify(&said.data).unwrap(),
            "STREAM_END" => {
                assert_eq!(verifiers[stream - 1].remaining_bytes(), 0);
                channel.send("ABC123", stream as u32, "STREAM_END", b"").await;
                ended += 1;
            }
            _ => panic!("{said:?}"),
        }
    }
    assert_eq!(accepted, 2);
    target.when(|c| c.open == 0 && c.accepted == 2 && c.failed == 0, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn the_response_after_a_half_close_is_complete() {
    let target = target::after_end(1 << 20).await;
    for fields in BOTH {
        let Some((_process, mut channel)) = serving(fields, target.addr).await else { return };
        // The second stream of the user opens after the end of the first, which the format with three fields requires.
        for stream in [1, 2] {
            channel.open("ABC123", stream).await;
            for chunk in [&b"half"[..], b"", b" closed"] {
                channel.send("ABC123", stream, "STREAM_DATA", chunk).await;
            }
            channel.send("ABC123", stream, "STREAM_END", b"").await;
            let answer = String::from_utf8(channel.download("ABC123").await).unwrap();
            assert_eq!(answer, format!("11 {}\nhalf closed", Sha256Sum::of(b"half closed")));
        }
    }
    target.when(|c| c.open == 0 && c.accepted == 4 && c.failed == 0, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn data_before_the_target_connects_is_delivered() {
    let target = target::echo().await;
    let Some((_process, mut channel)) = serving(FieldCount::Four, target.addr).await else { return };
    // The size as the seed document prints it, and everything in one write.
    let all = format!(
        "U1|1|STREAM_START|20971520\nU1|1|STREAM_DATA|{}\nU1|1|STREAM_END|\n",
        BASE64.encode("early")
    );
    channel.write.write_all(all.as_bytes()).await.unwrap();
    channel.hear_that("U1", 1, "STREAM_START", b"").await;
    assert_eq!(channel.download("U1").await, b"early");
}

#[tokio::test]
async fn a_failing_target_sends_a_reset() {
    let reset = target::send_then_reset(DemoFile { seed: 0, size: 1 << 20 }, 1000).await;
    for fields in BOTH {
        let Some((_process, mut channel)) = serving(fields, target::refusing().await).await else { return };
        channel.send("U1", 1, "STREAM_START", b"").await;
        let said = channel.hear().await;
        assert!(said.action == "STREAM_RESET" && !said.data.is_empty(), "{said:?}");

        let Some((_process, mut channel)) = serving(fields, reset.addr).await else { return };
        channel.open("U1", 1).await;
        let mut received = 0;
        while received < 1000 {
            let said = channel.hear().await;
            assert_eq!(said.action, "STREAM_DATA");
            received += said.data.len();
        }
        channel.send("U1", 1, "STREAM_DATA", b"go").await;
        assert_eq!(channel.hear().await.action, "STREAM_RESET");
    }
}

#[tokio::test]
async fn a_user_reset_resets_the_target() {
    for fields in BOTH {
        let target = target::idle().await;
        let Some((_process, mut channel)) = serving(fields, target.addr).await else { return };
        channel.open("U1", 1).await;
        channel.send("U1", 1, "STREAM_DATA", b"so far").await;
        channel.send("U1", 1, "STREAM_RESET", b"killed by the operator").await;
        target.when(|c| c.open == 0 && c.failed == 1, Duration::from_secs(5)).await;
        // The proxy continues; a reset before or during the connect to the target is harmless.
        channel.send("U2", 1, "STREAM_START", b"").await;
        channel.send("U2", 1, "STREAM_RESET", b"").await;
        channel.send("", 0, "PING", b"x").await;
        while channel.hear().await.action != "PONG" {}
    }
}

#[tokio::test]
async fn losing_the_server_resets_the_targets() {
    let target = target::idle().await;
    for (fields, failed) in [(FieldCount::Three, 1), (FieldCount::Four, 2)] {
        let Some((mut process, mut channel)) = serving(fields, target.addr).await else { return };
        channel.open("U1", 1).await;
        drop(channel);
        target.when(|c| c.open == 0 && c.failed == failed, Duration::from_secs(5)).await;
        assert_eq!(process.exit().await.code(), Some(1));
        assert!(process.stderr().contains("closed the tunnel"), "{}", process.stderr());
    }
}

#[tokio::test]
async fn a_target_that_does_not_read_blocks_neither_memory_nor_other_streams() {
    let target = target::deaf().await;
    for fields in BOTH {
        let Some((process, mut channel)) = serving(fields, target.addr).await else { return };
        channel.open("ABC123", 1).await;
        let chunk = vec![7; 48 * 1024];
        let mut sent = 0;
        // More than the kernel buffers of two connections hold.
        let paused = loop {
            channel.send("ABC123", 1, "STREAM_DATA", &chunk).await;
            sent += chunk.len();
            if channel.read.buffer().is_empty() && sent < 64 << 20 {
                let silence = Duration::from_millis(if sent < 4 << 20 { 0 } else { 5 });
                if tokio::time::timeout(silence, channel.read.fill_buf()).await.is_err() {
                    continue;
                }
            }
            break channel.hear().await;
        };
        assert_eq!(paused.action, "STREAM_PAUSE");
        // The server may send one window before it reacts to PAUSE.
        for _ in 0..(1 << 20) / chunk.len() {
            channel.send("ABC123", 1, "STREAM_DATA", &chunk).await;
        }
        channel.send("", 0, "PING", b"still there?").await;
        channel.hear_that("", 0, "PONG", b"still there?").await;
        if let Some(resident) = process.resident_kib() {
            assert!(resident < 48 * 1024, "{resident} KiB");
        }
    }
}

#[tokio::test]
async fn a_target_that_reads_again_resumes_its_stream() {
    let file = DemoFile { seed: 3, size: 24 << 20 };
    let (go, wait) = tokio::sync::watch::channel(false);
    let target = target::serve_with(move |mut socket| {
        let mut wait = wait.clone();
        async move {
            wait.wait_for(|go| *go).await.unwrap();
            let mut hash = <sha2::Sha256 as sha2::Digest>::new();
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let n = tokio::io::AsyncReadExt::read(&mut socket, &mut buffer).await?;
                if n == 0 {
                    break;
                }
                sha2::Digest::update(&mut hash, &buffer[..n]);
            }
            socket.write_all(Sha256Sum(sha2::Digest::finalize(hash).into()).to_string().as_bytes()).await
        }
    })
    .await;
    for fields in BOTH {
        go.send_replace(false);
        let Some((_process, mut channel)) = serving(fields, target.addr).await else { return };
        channel.open("ABC123", 1).await;
        let mut paused = 0;
        let mut offset = 0;
        while offset < file.size {
            let piece = file.bytes_from(offset);
            let piece = &piece[..piece.len().min(32 * 1024)];
            channel.send("ABC123", 1, "STREAM_DATA", piece).await;
            offset += piece.len() as u64;
            while let Ok(said) = tokio::time::timeout(Duration::ZERO, channel.read.fill_buf()).await {
                assert!(!said.unwrap().is_empty());
                assert_eq!(channel.hear().await.action, "STREAM_PAUSE");
                paused += 1;
                go.send_replace(true);
                channel.hear_that("ABC123", 1, "STREAM_RESUME", b"").await;
            }
        }
        channel.send("ABC123", 1, "STREAM_END", b"").await;
        let mut said = channel.hear().await;
        while said.action != "STREAM_DATA" {
            said = channel.hear().await;
        }
        assert_eq!(said.data, file.sha256().to_string().into_bytes());
        assert!(paused > 0);
    }
}
