//! Streams of text proxies: START, DATA, END, errors, malformed lines.

use super::*;

#[tokio::test]
async fn data_before_start_is_buffered_and_delivered_after_it() {
    let tunnel = Tunnel::start().await;
    for fields in BOTH {
        let (mut channel, public) = registered_proxy(&tunnel, fields, 0).await;
        let (mut socket, start) = connect_user(&mut channel, public).await;
        for piece in [&b"ear"[..], b"", b"ly "] {
            channel.answer(&start, "STREAM_DATA", piece).await;
        }
        channel.settle().await;
        assert_eq!(socket.try_read(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        channel.answer(&start, "STREAM_START", b"").await;
        channel.answer(&start, "STREAM_DATA", b"bird").await;
        channel.answer(&start, "STREAM_START", b"").await;
        channel.answer(&start, "STREAM_END", b"").await;
        let mut bytes = [0; 10];
        soon("the bytes", socket.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(&bytes, b"early bird");
        drop(socket);
        assert_serves_one_after_stale_lines(&mut channel, public).await;
    }
    tunnel.end().await;
}

/// [`assert_serves_one`], after discarding lines that are in flight for the stream before.
async fn assert_serves_one_after_stale_lines(channel: &mut TextChannel, public: SocketAddr) {
    let mut left = channel.hear_other().await;
    while left.action != "STREAM_END" && left.action != "STREAM_RESET" {
        left = channel.hear_other().await;
    }
    assert_serves_one(channel, public).await;
}

#[tokio::test]
async fn too_much_data_before_start_is_answered_with_no_session() {
    let tunnel = Tunnel::start().await;
    for (fields, line) in [(FieldCount::Four, 30_000), (FieldCount::Three, 1)] {
        let (mut channel, public) = registered_proxy(&tunnel, fields, 0).await;
        let (mut socket, start) = connect_user(&mut channel, public).await;
        let name = tunnel.stream_of(socket.local_addr().unwrap()).await.key.to_string();
        let lines = 300_000 / line.max(256) + 1;
        for _ in 0..lines {
            channel.answer(&start, "STREAM_DATA", &vec![1; line]).await;
        }
        let message = channel.hear_action("ERROR").await;
        assert_eq!(
            (message.key(), message.text()),
            (start.key(), format!("no session for stream {}", start.key()))
        );
        wait_for_no_session(&tunnel, &name).await;
        let (bytes, ended) = read_to_end(&mut socket).await;
        assert_eq!((bytes.len(), ended), (0, Err(io::ErrorKind::ConnectionReset)));
        // Lines that were in flight for that stream are not answered one by one.
        channel.settle().await;
        assert_serves_one(&mut channel, public).await;
    }
    tunnel.end().await;
}

#[tokio::test]
async fn data_for_an_unknown_stream_is_answered_with_no_session() {
    let tunnel = Tunnel::start().await;
    for (fields, key) in [(FieldCount::Four, "ABC123:7"), (FieldCount::Three, "ABC123:0")] {
        let (mut channel, public) = registered_proxy(&tunnel, fields, 0).await;
        for action in ["STREAM_DATA", "STREAM_DATA", "RESPONSE", "FORWARD", "STREAM_START"] {
            channel.send("ABC123", 7, action, b"who am I").await;
        }
        let message = channel.hear_action("ERROR").await;
        assert_eq!((message.key(), message.text()), (key.to_owned(), format!("no session for stream {key}")));
        wait_for_no_session(&tunnel, key).await;
        // Ending or pausing an unknown stream is not an error.
        for action in ["STREAM_END", "STREAM_RESET", "ERROR", "EXIT", "STREAM_PAUSE", "STREAM_RESUME"] {
            channel.send("ABC124", 7, action, b"").await;
        }
        channel.settle().await;
        assert_serves_one(&mut channel, public).await;
    }
    tunnel.end().await;
}

#[tokio::test]
async fn a_malformed_line_closes_its_channel_only() {
    let long = |n: usize| [&b"ABC123|1|STREAM_DATA|"[..], &vec![b'A'; n], b"\n"].concat();
    let cases: [(&str, Vec<u8>, &str); 12] = [
        ("bad base64", b"|0|PING|@@@@\n".into(), "not base64"),
        ("base64 without its padding", b"|0|PING|QQ\n".into(), "not base64"),
        ("unknown action", b"|0|STREAM_FLY|\n".into(), "unknown action"),
        ("an action in lower case", b"|0|ping|\n".into(), "unknown action"),
        ("no fields", b"hello\n".into(), "a line is USER|STREAM|ACTION|DATA"),
        ("too many fields", b"|0|PING|QQ==|QQ==\n".into(), "a line is USER|STREAM|ACTION|DATA"),
        ("a user that is none", b"XYZ|1|STREAM_DATA|\n".into(), "six hexadecimal digits"),
        ("a stream id that is none", b"ABC123|99999999999|STREAM_DATA|\n".into(), "decimal number"),
        ("not UTF-8", b"\xff|0|PING|\n".into(), "not UTF-8"),
        ("a bad registration", b"|0|ADDPROXY:99999|\n".into(), "ADDPROXY expects"),
        ("a line of more than 1 MiB", long(1 << 20), "too long"),
        ("a line of more than 1 MiB without an end", vec![b'A'; (1 << 20) + 1], "too long"),
    ];
    let mut tunnel = Tunnel::start().await;
    let echo = target::echo().await;
    let other = tunnel.proxy(echo.addr, ProxyFormat::Binary).await;
    for (what, line, reason) in cases {
        let (mut channel, public) = registered_proxy(&tunnel, FieldCount::Four, 0).await;
        let (mut socket, start) = connect_user(&mut channel, public).await;
        channel.answer(&start, "STREAM_START", b"").await;
        channel.answer(&start, "STREAM_DATA", b"half of").await;
        let is_expected = |event: &EventKind| matches!(event, EventKind::ChannelDisconnected { reason: DisconnectReason::Protocol(text), .. } if text.contains(reason));
        let before = tunnel.events().iter().filter(|event| is_expected(event)).count();
        // The server may close the channel before it has read the last byte.
        _ = soon(what, channel.write.write_all(&line)).await;
        let (bytes, ended) = read_to_end(&mut socket).await;
        assert_eq!((&bytes[..], ended), (&b"half of"[..], Err(io::ErrorKind::ConnectionReset)), "{what}");
        tunnel
            .until(what, |_| tunnel.events().iter().filter(|event| is_expected(event)).count() == before + 1)
            .await;
        let mut last = None;
        while let Some(line) = channel.hear_raw().await {
            last = Some(line);
        }
        let last = last.unwrap_or_default();
        let data = last.strip_prefix("|0|ERROR|").unwrap_or_else(|| panic!("{what}: {last}"));
        let data = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data).unwrap();
        assert!(String::from_utf8(data).unwrap().contains(reason), "{what}: {last}");
        assert_echoes(other).await;
        let (mut again, public) = registered_proxy(&tunnel, FieldCount::Four, public.port()).await;
        assert_serves_one(&mut again, public).await;
    }
    tunnel.end().await;
}

#[tokio::test]
async fn a_line_of_one_mebibyte_is_accepted() {
    let tunnel = Tunnel::start().await;
    let (mut channel, public) = registered_proxy(&tunnel, FieldCount::Four, 0).await;
    let (mut socket, start) = connect_user(&mut channel, public).await;
    channel.answer(&start, "STREAM_START", b"").await;
    let around = channel.line(&start.user, 1, "STREAM_DATA", b"").len();
    let data: Vec<u8> = (0..((1 << 20) - around) / 4 * 3).map(|n| n as u8).collect();
    let (read, _) = tokio::join!(read_to_end(&mut socket), async {
        channel.answer(&start, "STREAM_DATA", &data).await;
        channel.answer(&start, "STREAM_END", b"").await;
    });
    assert!(read == (data, Ok(())));
    socket.shutdown().await.unwrap();
    tunnel.end().await;
}

#[tokio::test]
async fn bytes_after_the_end_of_a_stream_never_reach_the_user() {
    let tunnel = Tunnel::start().await;
    let (mut channel, public) = registered_proxy(&tunnel, FieldCount::Four, 0).await;
    let (mut socket, start) = connect_user(&mut channel, public).await;
    for (action, data) in [
        ("STREAM_START", ""),
        ("STREAM_DATA", "all"),
        ("STREAM_END", ""),
        ("STREAM_END", ""),
        ("STREAM_DATA", "not"),
    ] {
        channel.answer(&start, action, data.as_bytes()).await;
    }
    let (bytes, ended) = read_to_end(&mut socket).await;
    assert!(
        b"all".starts_with(&bytes) && ended == Err(io::ErrorKind::ConnectionReset),
        "{bytes:?} {ended:?}"
    );
    assert_eq!(
        disconnect_reason(&tunnel).await,
        DisconnectReason::Protocol("final size of a stream changed".into())
    );
    tunnel.end().await;
}

#[tokio::test]
async fn forward_and_response_open_the_stream_and_carry_data() {
    let tunnel = Tunnel::start().await;
    for action in ["FORWARD", "RESPONSE"] {
        let (mut channel, public) = registered_proxy(&tunnel, FieldCount::Four, 0).await;
        let (mut socket, start) = connect_user(&mut channel, public).await;
        channel.answer(&start, action, b"all at ").await;
        channel.answer(&start, action, b"once").await;
        channel.answer(&start, "STREAM_END", b"").await;
        assert_eq!(read_to_end(&mut socket).await, (b"all at once".to_vec(), Ok(())));
        drop(socket);
        channel.hear_action("STREAM_END").await;
        assert_serves_one(&mut channel, public).await;
    }
    tunnel.end().await;
}

#[tokio::test]
async fn the_size_in_stream_start_is_shown() {
    let tunnel = Tunnel::start().await;
    let (mut channel, public) = registered_proxy(&tunnel, FieldCount::Four, 0).await;
    for (data, size) in
        [("20971520", Some(20_971_520)), ("MjA5NzE1MjA=", Some(20_971_520)), ("", None), ("LTE=", None)]
    {
        let (socket, start) = connect_user(&mut channel, public).await;
        channel.send_raw(format!("{}|{}|STREAM_START|{data}\n", start.user, start.stream).as_bytes()).await;
        channel.settle().await;
        let stream = tunnel.stream_of(socket.local_addr().unwrap()).await;
        assert_eq!(
            (stream.key.to_string(), stream.progress.map(|progress| progress.size)),
            (start.key(), size),
            "{data}"
        );
        drop(socket);
        channel.hear_action("STREAM_END").await;
        channel.answer(&start, "STREAM_END", b"").await;
    }
    tunnel.end().await;
}

#[tokio::test]
async fn pings_are_answered_and_the_rtt_is_measured() {
    let tunnel = Tunnel::start().await;
    for fields in BOTH {
        let (mut channel, public) = registered_proxy(&tunnel, fields, 0).await;
        for data in [&b""[..], b"x", &[0, 255, b'|', b'\n']] {
            channel.send("", 0, "PING", data).await;
            assert_eq!(channel.hear_action("PONG").await.data, data);
        }
        // The server sends its own ping before it answers the registration.
        tunnel
            .until("a round trip", |snapshot| {
                let mut proxies = snapshot.proxies.iter();
                let proxy = proxies.find(|proxy| proxy.services[0].port == public.port()).unwrap();
                proxy.channels[0].last_rtt.is_some_and(|rtt| rtt < Duration::from_secs(1))
            })
            .await;
    }
    tunnel.end().await;
}

/// A proxy of the three-field format knows users only, so that each stream gets a user id of its own on the wire.
/// Screens and events keep the real stream keys.
#[tokio::test]
async fn three_field_proxies_see_each_stream_as_a_user() {
    let tunnel = Tunnel::start().await;
    let (mut channel, public) = registered_proxy(&tunnel, FieldCount::Three, 0).await;
    let (mut first, one) = connect_user(&mut channel, public).await;
    let (mut second, two) = connect_user(&mut channel, public).await;
    assert_ne!(one.user, two.user);
    let keys = [&first, &second].map(|socket| socket.local_addr().unwrap());
    let keys = [tunnel.stream_of(keys[0]).await.key, tunnel.stream_of(keys[1]).await.key];
    assert_eq!(keys.map(|key| key.stream.0), [1, 2]);
    assert_eq!([&keys[0].user.to_string(), &keys[1].user.to_string()], [&one.user, &one.user]);
    for (start, bytes) in [(&two, &b"second"[..]), (&one, b"first")] {
        channel.answer(start, "STREAM_START", b"").await;
        channel.answer(start, "STREAM_DATA", bytes).await;
        channel.answer(start, "STREAM_END", b"").await;
    }
    assert_eq!(read_to_end(&mut first).await, (b"first".to_vec(), Ok(())));
    assert_eq!(read_to_end(&mut second).await, (b"second".to_vec(), Ok(())));
    drop((first, second));
    for _ in 0..2 {
        channel.hear_action("STREAM_END").await;
    }

    // The third stream floods before its START: the proxy gets an ERROR with the id on the wire, the operator an event
    // with the stream key.
    let (mut third, three) = connect_user(&mut channel, public).await;
    let key = tunnel.stream_of(third.local_addr().unwrap()).await.key;
    for _ in 0..12 {
        channel.answer(&three, "STREAM_DATA", &[1; 30_000]).await;
    }
    let message = channel.hear_action("ERROR").await;
    assert_eq!(message.user, three.user);
    assert_eq!(read_to_end(&mut third).await.1, Err(io::ErrorKind::ConnectionReset));
    wait_for_no_session(&tunnel, &key.to_string()).await;
    assert_eq!(tunnel.ended(key).await.0, EndReason::Protocol("protocol violation".into()));
    tunnel.end().await;
}

#[tokio::test]
async fn resets_before_and_after_accept_have_different_reasons() {
    let tunnel = Tunnel::start().await;
    let (mut channel, public) = registered_proxy(&tunnel, FieldCount::Four, 0).await;
    for (accepts, action, reason) in [
        (false, "STREAM_RESET", EndReason::TargetConnectFailed("the target refused the connection".into())),
        (true, "STREAM_RESET", EndReason::TargetSocketError),
        (true, "ERROR", EndReason::TargetSocketError),
        (true, "EXIT", EndReason::TargetSocketError),
    ] {
        let (mut socket, start) = connect_user(&mut channel, public).await;
        if accepts {
            channel.answer(&start, "STREAM_START", b"").await;
            channel.answer(&start, "STREAM_DATA", b"half").await;
            soon("half", socket.read_exact(&mut [0; 4])).await.unwrap();
        }
        channel.answer(&start, action, b"it broke").await;
        assert_eq!(read_to_end(&mut socket).await, (vec![], Err(io::ErrorKind::ConnectionReset)));
        assert_eq!(tunnel.ended(start.key().parse().unwrap()).await.0, reason);
    }
    tunnel.end().await;
}
