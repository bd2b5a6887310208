//! STREAM_PAUSE, STREAM_RESUME and slow users of text proxies.

use super::*;

/// Sends data of a stream until writing blocks for half a second. Returns the number of bytes in whole lines.
async fn send_until_blocked(channel: &mut TextChannel, start: &Said) -> u64 {
    let line = channel.line(&start.user, start.stream.parse().unwrap(), "STREAM_DATA", &[7; 30_000]);
    let mut lines = 0;
    // Cancelling the write may leave half a line, so that the channel cannot be written to afterwards.
    while tokio::time::timeout(Duration::from_millis(500), channel.write.write_all(line.as_bytes()))
        .await
        .is_ok()
    {
        lines += 1;
    }
    lines * 30_000
}

#[tokio::test]
async fn a_slow_user_pauses_and_resumes_its_stream() {
    let tunnel = Tunnel::start().await;
    for fields in BOTH {
        let (mut channel, public) = registered_proxy(&tunnel, fields, 0).await;
        let (mut slow, first) = connect_user(&mut channel, public).await;
        let (mut fast, second) = connect_user(&mut channel, public).await;
        channel.answer(&first, "STREAM_START", b"").await;
        channel.answer(&second, "STREAM_START", b"").await;
        let mut sent = 0;
        let paused = loop {
            channel.answer(&first, "STREAM_DATA", &[7; 30_000]).await;
            sent += 30_000;
            if sent > 1_000_000
                && let Ok(message) =
                    tokio::time::timeout(Duration::from_millis(2), channel.hear_other()).await
            {
                break message;
            }
        };
        assert_eq!((paused.action.as_str(), paused.key()), ("STREAM_PAUSE", first.key()));
        // A proxy that honours the pause can still serve its other streams.
        channel.answer(&second, "STREAM_DATA", b"quick").await;
        channel.answer(&second, "STREAM_END", b"").await;
        assert_eq!(read_to_end(&mut fast).await, (b"quick".to_vec(), Ok(())));
        fast.shutdown().await.unwrap();
        channel.answer(&first, "STREAM_END", b"").await;
        let (bytes, ended) = read_to_end(&mut slow).await;
        assert_eq!((bytes.len(), ended), (sent, Ok(())));
        slow.shutdown().await.unwrap();
        // The kernel's buffers may drain in between, so that pause and resume alternate.
        let (mut paused, mut ends) = (true, 0);
        while ends < 2 {
            let message = channel.hear_other().await;
            match message.action.as_str() {
                "STREAM_END" => ends += 1,
                "STREAM_PAUSE" if !paused && message.key() == first.key() => paused = true,
                "STREAM_RESUME" if paused && message.key() == first.key() => paused = false,
                _ => panic!("{message:?}"),
            }
        }
        assert!(!paused);
    }
    tunnel.end().await;
}

#[tokio::test]
async fn a_proxy_that_ignores_pause_blocks_only_its_own_channel() {
    let mut tunnel = Tunnel::start().await;
    let echo = target::echo().await;
    let other = tunnel.proxy(echo.addr, ProxyFormat::Text).await;
    let (mut channel, public) = registered_proxy(&tunnel, FieldCount::Four, 0).await;
    let (mut slow, start) = connect_user(&mut channel, public).await;
    channel.answer(&start, "STREAM_START", b"").await;
    send_until_blocked(&mut channel, &start).await;
    let stream = tunnel.stream_of(slow.local_addr().unwrap()).await;
    let snapshot = tunnel.telemetry.snapshot();
    let proxy = snapshot.proxies.iter().find(|proxy| proxy.services[0].port == public.port()).unwrap();
    let held = (proxy.channels[0].received * 3 / 4) as usize - stream.down as usize;
    assert!(held < MAX_BUFFERED, "{held} bytes wait in the server");
    assert_echoes(other).await;
    // The channel is only not read; once its user has disconnected the server reads it again.
    slow.read_exact(&mut vec![0; 100_000]).await.unwrap();
    drop(slow);
    let (mut another, public) = registered_proxy(&tunnel, FieldCount::Four, public.port()).await;
    reset_one_stream(&mut another, public).await;
    drop(channel);
    tunnel.end().await;
}

/// Connects users until the channel gets one, because another proxy of the service may get them, and resets its stream.
async fn reset_one_stream(channel: &mut TextChannel, public: SocketAddr) {
    loop {
        let _socket = TcpStream::connect(public).await.unwrap();
        if let Ok(message) =
            tokio::time::timeout(Duration::from_millis(200), channel.hear_action("STREAM_START")).await
        {
            channel.answer(&message, "STREAM_RESET", b"").await;
            return;
        }
    }
}

/// A simple proxy does one thing at a time: while it cannot write, it does not read. Regression: a download whose user
/// did not read made the server stop reading, an upload filled the other direction, and both sides waited for each
/// other for ever, because the server noticed that the slow user had continued to read, or had disconnected, only when
/// it could write.
#[tokio::test]
async fn a_proxy_that_writes_before_it_reads_does_not_deadlock() {
    for slow_user_leaves in [false, true] {
        let tunnel = Tunnel::start().await;
        let (mut channel, public) = registered_proxy(&tunnel, FieldCount::Four, 0).await;
        let (mut slow, down) = connect_user(&mut channel, public).await;
        channel.answer(&down, "STREAM_START", b"").await;
        let (uploading, up) = connect_user(&mut channel, public).await;
        channel.answer(&up, "STREAM_START", b"").await;
        channel.settle().await;
        // The proxy does not read from here on.
        let line = channel.line(&down.user, down.stream.parse().unwrap(), "STREAM_DATA", &[7; 30_000]);
        let mut written = 0;
        while let Ok(n) =
            tokio::time::timeout(Duration::from_millis(500), channel.write.write(&line.as_bytes()[written..]))
                .await
        {
            written = (written + n.unwrap()) % line.len();
        }
        let (mut uploading_read, mut uploading_write) = uploading.into_split();
        let piece = vec![1; 256 * 1024];
        while tokio::time::timeout(Duration::from_millis(500), uploading_write.write_all(&piece))
            .await
            .is_ok()
        {}
        let writing = async {
            channel.write.write_all(&line.as_bytes()[written..]).await.unwrap();
            // As much again as the kernel buffered.
            for _ in 0..400 {
                channel.write.write_all(line.as_bytes()).await.unwrap();
            }
        };
        if slow_user_leaves {
            drop(slow);
            soon("the proxy continues to write", writing).await;
        } else {
            let reading = async {
                let mut buffer = vec![0; 256 * 1024];
                while slow.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
            };
            tokio::select! {
                () = soon("the proxy continues to write", writing) => {}
                () = reading => panic!("the slow user lost its stream"),
            }
        }
        drop(channel);
        let mut nothing = Vec::new();
        _ = soon("the end of the upload", uploading_read.read_to_end(&mut nothing)).await;
        drop(uploading_write);
        tunnel.end().await;
    }
}

#[tokio::test]
async fn a_paused_upload_stops_within_one_window() {
    let tunnel = Tunnel::start().await;
    for fields in BOTH {
        let (mut channel, public) = registered_proxy(&tunnel, fields, 0).await;
        let (socket, start) = connect_user(&mut channel, public).await;
        channel.answer(&start, "STREAM_START", b"").await;
        channel.answer(&start, "STREAM_PAUSE", b"").await;
        channel.settle().await;
        let (_read, mut write) = socket.into_split();
        let size = 8 << 20;
        let upload = crate::support::Running::start(async move {
            write.write_all(&vec![5; size]).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut received = 0;
        while let Ok(message) = tokio::time::timeout(Duration::from_millis(500), channel.hear_other()).await {
            assert_eq!(message.action, "STREAM_DATA");
            received += message.data.len();
        }
        assert!(received <= WINDOW, "{received} bytes came after the pause");
        channel.answer(&start, "STREAM_RESUME", b"").await;
        loop {
            let message = channel.hear_other().await;
            received += message.data.len();
            if message.action == "STREAM_END" {
                break;
            }
        }
        assert_eq!(received, size);
        upload.end("the upload").await;
        channel.answer(&start, "STREAM_END", b"").await;
    }
    tunnel.end().await;
}
