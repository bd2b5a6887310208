//! Protocol detection through a whole tunnel: it shows requests and progress, and changes no byte.

use crate::support::{
    client, soon, target,
    tunnel::{FORMATS, Tunnel},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::{
    cli::demo::{DemoFile, FileVerifier, Sha256Sum},
    config::ProxyFormat,
    telemetry::{Content, EventKind, Progress, StreamSnapshot},
};

/// Waits until the only stream satisfies `wanted`, and returns its snapshot.
async fn stream(tunnel: &Tunnel, what: &str, wanted: impl Fn(&StreamSnapshot) -> bool) -> StreamSnapshot {
    let there = |streams: &[StreamSnapshot]| streams.iter().find(|stream| wanted(stream)).cloned();
    there(&tunnel.until(what, |now| there(&now.streams).is_some()).await.streams).unwrap()
}

fn content(stream: &StreamSnapshot) -> Option<&Content> {
    stream.content.as_deref()
}

/// Reads the head of an HTTP response, and returns its length.
async fn read_head(user: &mut TcpStream) -> u64 {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("the head of a response", user.read_u8()).await.unwrap());
    }
    head.len() as u64
}

async fn read_body(user: &mut TcpStream, verifier: &mut FileVerifier, mut bytes: usize) {
    let mut buffer = vec![0; 64 * 1024];
    while bytes > 0 {
        let limit = buffer.len().min(bytes);
        let n = soon("a body", user.read(&mut buffer[..limit])).await.unwrap();
        assert!(n > 0, "the body is truncated");
        verifier.verify(&buffer[..n]).unwrap();
        bytes -= n;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persistent_connection_shows_its_current_request_and_progress() {
    for format in FORMATS {
        let origin = target::origin(None).await;
        let mut tunnel = Tunnel::start().await;
        let public = tunnel.proxy(origin.addr, format).await;
        let mut user = TcpStream::connect(public).await.unwrap();
        let seen = stream(&tunnel, "a stream", |_| true).await;
        assert_eq!((content(&seen), seen.progress), (None, None), "no byte was sent yet");

        // Larger than all buffers of the path together, so that it stays unfinished until the user reads it.
        let first = DemoFile { seed: 1, size: 64 * 1024 * 1024 };
        let mut verifier = FileVerifier::new(first);
        user.write_all(format!("GET {} HTTP/1.1\r\nHost: demo\r\n\r\n", first.path()).as_bytes())
            .await
            .unwrap();
        let head = read_head(&mut user).await;
        read_body(&mut user, &mut verifier, 1024 * 1024).await;
        let begun = Progress { begun: head, size: first.size };
        let seen = stream(&tunnel, "progress", |stream| stream.down >= head + 1024 * 1024).await;
        assert_eq!(seen.progress, Some(begun));
        assert!(matches!(content(&seen), Some(Content::Http { status: Some(200), .. })), "{seen:?}");
        assert_eq!(content(&seen).unwrap().to_string(), "GET /file/67108864");
        let share = begun.share(seen.down);
        assert!(share > 0.015 && share < 1.0, "{share}");

        read_body(&mut user, &mut verifier, 63 * 1024 * 1024).await;
        assert_eq!(verifier.remaining_bytes(), 0);
        let whole = head + first.size;
        let seen = stream(&tunnel, "all of it", |stream| stream.down == whole).await;
        assert_eq!(seen.progress.unwrap().share(seen.down), 1.0);

        // The next request gets no response before its body was sent.
        let body = b"some bytes";
        let put = format!("PUT /upload HTTP/1.1\r\nHost: demo\r\nContent-Length: {}\r\n\r\n", body.len());
        user.write_all(put.as_bytes()).await.unwrap();
        let asked = |seen: &StreamSnapshot| content(seen).unwrap().to_string() == "PUT /upload";
        let seen = stream(&tunnel, "the next request", asked).await;
        assert!(matches!(content(&seen), Some(Content::Http { status: None, .. })), "{seen:?}");
        assert_eq!(seen.progress, None);
        user.write_all(body).await.unwrap();
        let head = read_head(&mut user).await;
        let seen = stream(&tunnel, "its response", |stream| stream.progress.is_some()).await;
        assert_eq!(seen.progress.unwrap().begun, whole + head);
        drop(user);
        // The event at the end names the content too, also of a stream that was too short for a sample.
        let end = tunnel.event("the end", |event| matches!(event, EventKind::StreamEnded { .. })).await;
        let EventKind::StreamEnded { content: Some(content), .. } = end else { panic!("{end:?}") };
        assert_eq!(content.to_string(), "PUT /upload");
        tunnel.end().await;
    }
}

/// Bytes that start like several protocols.
fn ambiguous_bytes() -> Vec<u8> {
    let mut bytes = b"GET /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcdeHTTP/1.1 200 OK\r\n".to_vec();
    bytes.extend_from_slice(
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n\x16\x03\x01\0\xff\x01SSH-2.0-x\r\n",
    );
    bytes.extend((0..200_000_u32).map(|n| ((n * 31) >> 7) as u8));
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_detection_changes_no_byte() {
    let bytes = ambiguous_bytes();
    for sniff in [true, false] {
        let echo = target::echo().await;
        let mut tunnel = Tunnel::with(|config| config.inspect_protocols = sniff).await;
        let public = tunnel.proxy(echo.addr, ProxyFormat::Binary).await;
        // Starting at each of these offsets, so that the stream starts differently, in writes of different sizes.
        for from in [0, 4, 38, 43, 103, 122, 128] {
            let user = TcpStream::connect(public).await.unwrap();
            let address = user.local_addr().unwrap();
            let (mut read, mut write) = user.into_split();
            let (sent, mut got) = (&bytes[from..], Vec::new());
            let send = async {
                for piece in sent.chunks(from * 97 + 5_001) {
                    write.write_all(piece).await.unwrap();
                }
                let looked =
                    |seen: &StreamSnapshot| seen.info.addr == address && seen.content.is_some() == sniff;
                stream(&tunnel, "the content", looked).await;
                write.shutdown().await.unwrap();
            };
            let both = async { tokio::join!(send, read.read_to_end(&mut got)) };
            soon("the echo", both).await.1.unwrap();
            assert_eq!(Sha256Sum::of(&got), Sha256Sum::of(sent), "from {from}, inspected: {sniff}");
            assert!(got == sent);
        }

        let origin = target::origin(None).await;
        let public = tunnel.proxy(origin.addr, ProxyFormat::Binary).await;
        let file = DemoFile { seed: 3, size: 5_000_000 };
        assert_eq!(client::fetch(public, &file.path()).await.unwrap(), file.into());
        tunnel.end().await;
    }
}
