//! Users in large numbers, at high rates, and with short connections.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use underpass::{
    telemetry::EventKind,
    wire::{Frame, Open, ResetCode},
};

use crate::{
    SECOND, Server, WINDOW, limits, machine, rest,
    support::{
        Running,
        binary::{BinaryChannel, hello},
        client::is_refused,
        process::{Process, Signal, TOKEN},
        soon,
        target::LOOPBACK,
        text::{FieldCount, TextChannel},
    },
};

/// Uploads until the socket accepts no more, or `size` bytes were sent. Returns how many were.
async fn upload(user: &mut TcpStream, size: usize) -> usize {
    let piece = [7; 64 * 1024];
    let mut sent = 0;
    while sent < size {
        match tokio::time::timeout(SECOND, user.write(&piece)).await {
            Ok(written) => sent += written.unwrap(),
            Err(_) => break,
        }
    }
    sent
}

/// A proxy that has read a user's data and answers nothing: the server keeps no copy of what it has sent to a text
/// proxy.
#[tokio::test]
async fn an_upload_to_a_silent_text_proxy_is_not_retained() {
    const SIZE: usize = 48 << 20;
    let (server, addr) = Process::server(TOKEN, &[]).await;
    let mut channel = TextChannel::connect(addr, FieldCount::Four).await;
    channel.send("", 0, "AUTH", TOKEN.as_bytes()).await;
    channel.send("", 0, "ADDPROXY:0", b"").await;
    let answer = channel.hear_action("RESPONSE").await.text();
    let port = answer.strip_suffix(":default").unwrap().parse().unwrap();
    let mut user = TcpStream::connect((LOOPBACK.ip(), port)).await.unwrap();
    channel.hear_action("STREAM_START").await;
    let Some(before) = server.resident_kib() else { return };
    let mut buffer = vec![0; 256 * 1024];
    let mut received = 0;
    let reads = async {
        // Base64 makes four bytes of three.
        while received < SIZE / 3 * 4 {
            received += soon("data", channel.read.read(&mut buffer)).await.unwrap();
        }
    };
    let (sent, ()) = tokio::join!(upload(&mut user, SIZE), reads);
    assert!(sent >= SIZE, "{sent}");
    let after = server.resident_kib().unwrap();
    assert!(after < before + 24 * 1024, "{before} KiB before an upload of {} KiB, {after} after", SIZE >> 10);
}

/// The server keeps a user's data until the proxy accepts its stream, and a proxy that grants credit before does not
/// make it keep more than the first window.
#[tokio::test]
async fn credit_before_acceptance_does_not_extend_the_first_window() {
    let server = Server::start().await;
    let (mut channel, mut user, open, _) = server.hostile().await;
    let stream = open.stream;
    let credit = [1 << 20, u32::MAX].map(|window| Frame::Window { stream, consumed: 0, window });
    channel.send(credit.clone()).await;
    let uploading = Running::start(async move { upload(&mut user, 16 << 20).await });
    let mut received = 0;
    // The upload ends once the socket has accepted nothing for a second: then the server has sent all that it may.
    loop {
        match tokio::time::timeout(SECOND / 10, channel.hear_other()).await {
            Ok(Frame::Data { payload, .. }) => {
                received += payload.len();
                channel.send(credit.clone()).await;
            }
            Ok(_) => {}
            Err(_) if uploading.has_ended() => break,
            Err(_) => {}
        }
    }
    assert!(uploading.end("an upload that is blocked").await < 16 << 20);
    assert_eq!(received, WINDOW as usize);
    drop(channel);
    server.tunnel.until("the user's end", |snapshot| snapshot.totals.streams_open == 0).await;
    server.end().await;
}

#[tokio::test]
async fn users_that_disconnect_at_once_are_released() {
    let server = Server::start().await;
    let (mut channel, _, public) = BinaryChannel::serving(server.tunnel.addr, &server.tunnel.token, 0).await;
    let users = Running::start(async move {
        for n in 0..300 {
            let user = TcpStream::connect(public).await.unwrap();
            if n % 2 == 0 {
                socket2::SockRef::from(&user).set_linger(Some(Duration::ZERO)).unwrap();
            }
        }
    });
    // The proxy resets one half of the streams and ignores the other.
    let mut opened = 0;
    while opened < 100 || !users.has_ended() {
        let Ok(frame) = tokio::time::timeout(SECOND, channel.hear_other()).await else { break };
        if let Frame::Open(Open { stream, .. }) = frame {
            opened += 1;
            if stream % 2 == 0 {
                let (code, final_size) = (ResetCode::TargetRefused, 0);
                channel.send([Frame::Reset { stream, code, final_size }]).await;
            }
        }
    }
    users.end("three hundred users").await;
    drop(channel);
    let ever = server.tunnel.until("their end", |snapshot| snapshot.totals.streams_open == 0).await;
    assert!(ever.totals.streams_total <= 300);
    server.end().await;
}

#[tokio::test]
async fn a_user_beyond_the_limit_is_refused_and_the_next_is_served() {
    let server = Server::with(|config| config.max_streams = 3).await;
    let mut users = Vec::new();
    for _ in 0..3 {
        let mut user = TcpStream::connect(server.public).await.unwrap();
        user.write_all(b"x").await.unwrap();
        soon("an echo", user.read_exact(&mut [0])).await.unwrap();
        users.push(user);
    }
    is_refused(server.public).await;
    // Not the maximum of an address, of a service or of a proxy, which is lower by default.
    let refused = |event: &EventKind| matches!(event, EventKind::UserRejected { reason, .. } if reason.ends_with("(option --max-streams)"));
    server.tunnel.event("a user that is refused", refused).await;
    drop(users.pop());
    server.tunnel.until("room", |snapshot| snapshot.totals.streams_open == 2).await;
    server.serves().await;
    drop(users);
    server.tunnel.until("all have left", |snapshot| snapshot.totals.streams_open == 0).await;
    server.end().await;
}

/// Users beyond the limit are refused at once, however many arrive. The limit is small, because each accepted user
/// needs two descriptors at each end.
#[tokio::test]
async fn a_crowd_from_one_address_is_refused_and_released() {
    const ROOM: usize = 1000;
    const ALL: usize = 100_000;
    let server = Server::with(|config| config.max_streams = ROOM).await;
    let (public, begin) = (server.public, Instant::now());
    let mut crowd = Vec::new();
    let mut refused = 0;
    for _ in 0..ALL / 100 {
        let mut batch = JoinSet::new();
        for _ in 0..100 {
            batch.spawn(async move {
                // The RST may arrive before the connection is established.
                let mut user = TcpStream::connect(public).await.ok()?;
                _ = user.write_all(b"x").await;
                // The echo, or the end of the connection.
                let read = soon("an answer", user.read(&mut [0])).await;
                matches!(read, Ok(1)).then_some(user)
            });
        }
        for user in batch.join_all().await {
            match user {
                Some(user) => crowd.push(user),
                None => refused += 1,
            }
        }
    }
    assert_eq!((crowd.len(), refused), (ROOM, ALL - ROOM));
    let snapshot = server.tunnel.telemetry.snapshot();
    assert_eq!((snapshot.users.len(), snapshot.totals.streams_open), (1, ROOM as u64));
    assert_eq!(snapshot.totals.users_rejected, (ALL - ROOM) as u64);
    // Log lines that unauthenticated peers can cause are rate-limited.
    let told = server.tunnel.events();
    let told = told.iter().filter(|event| matches!(event, EventKind::UserRejected { .. })).count();
    assert!(told as u64 <= 100 * (begin.elapsed().as_secs() + 2), "{told} lines");
    drop(crowd);
    server.tunnel.until("all have left", |snapshot| snapshot.totals.streams_open == 0).await;
    server.end().await;
}

/// Proxies connect, register and leave in every possible way while users connect to their ports.
#[tokio::test]
async fn proxies_that_register_and_leave_are_released() {
    let server = Server::start().await;
    let mut churn = JoinSet::new();
    for n in 0..60u32 {
        let (addr, token) = (server.tunnel.addr, server.tunnel.token.clone());
        churn.spawn(async move {
            let (mut channel, _, public) = BinaryChannel::serving(addr, &token, 0).await;
            let mut user = TcpStream::connect(public).await.unwrap();
            let open = channel.opened().await;
            let stream = open.stream;
            match n % 6 {
                0 => {}
                1 => socket2::SockRef::from(&channel.socket).set_linger(Some(Duration::ZERO)).unwrap(),
                2 => {
                    // After GOAWAY it gets no new users, and its streams continue.
                    channel.send([Frame::GoAway { code: ResetCode::Shutdown }]).await;
                    user.write_all(b"x").await.unwrap();
                    while !matches!(channel.hear_other().await, Frame::Data { .. }) {}
                }
                3 => {
                    let code = ResetCode::TargetRefused;
                    channel.send([Frame::Reset { stream, code, final_size: 0 }]).await;
                    channel.settle().await;
                }
                4 => channel.send_raw(&[0xff; 8]).await,
                _ => channel.send([Frame::Hello(hello())]).await,
            }
            drop(channel);
            assert_eq!(rest(&mut user).await, (vec![], Err(io::ErrorKind::ConnectionReset)), "{n}");
        });
    }
    soon("sixty proxies", churn.join_all()).await;
    server.tunnel.until("one proxy", |s| s.proxies.len() == 1 && s.totals.streams_open == 0).await;
    server.end().await;
}

/// Users that are refused as fast as they connect: the log has a limited number of lines, which say how many are
/// missing, and users from elsewhere are served.
#[tokio::test]
async fn a_flood_of_refused_users_leaves_a_short_log_that_counts_all() {
    const FLOOD: u64 = 3000;
    let (mut server, addr) = Process::server(TOKEN, &["--plain", "--max-connections-per-second", "1"]).await;
    let (proxy, _echo, public) = machine::proxy(&addr.to_string()).await;
    let begin = Instant::now();
    let mut served = 0;
    for _ in 0..FLOOD {
        // The RST of some arrives before connect(2) returns.
        served += u64::from(limits::connect_from([127, 0, 0, 2], public).await.is_some_and(|user| {
            let mut byte = [0];
            user.try_write(b"x").is_ok() && user.try_read(&mut byte).is_ok_and(|read| read == 1)
        }));
    }
    let seconds = begin.elapsed().as_secs() + 1;
    drop(limits::served_from([127, 0, 0, 3], public).await.unwrap());
    // The first refusal of the next second tells how many were suppressed.
    let mut suppressed = None;
    while suppressed.is_none() {
        _ = limits::connect_from([127, 0, 0, 2], public).await;
        let output = server.output();
        let line = output.lines().rfind(|line| line.contains("refused user connections were not logged"));
        suppressed = line.map(str::to_owned);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let output = server.output();
    let logged = output.lines().filter(|line| line.contains("--max-connections-per-second)")).count() as u64;
    println!(
        "{logged} lines about more than {FLOOD} refusals in {seconds} s, {served} served; {suppressed:?}"
    );
    assert!(logged <= 100 * (begin.elapsed().as_secs() + 2), "{logged} lines in {:?}", begin.elapsed());
    assert!(output.len() < 1 << 20, "{} bytes", output.len());
    proxy.stop().await;
    server.signal(Signal::Term).await;
    assert_eq!(server.exit().await.code(), Some(0), "{}", server.output());
}
