//! Commands on a running stream: pause, resume, priority and kill.
use std::time::Duration;

use crate::support::{
    Running, promised_moment, promised_second, soon, target,
    tunnel::{FORMATS, Tunnel},
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::{
    cli::demo::{DemoFile, FileVerifier},
    control::{Command, CommandError},
    ids::{Priority, ProxyId, StreamKey, UserChannelId},
    telemetry::EndReason,
};

const SIZE: u64 = 40_000_000;

/// A paused download delivers no further byte, its target is stopped by TCP flow control, another stream continues, and
/// after the resume every byte arrives under the same stream key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_download_loses_no_byte() {
    for format in FORMATS {
        let mut tunnel = Tunnel::start().await;
        let file = DemoFile { seed: 7, size: SIZE };
        let target = target::send(file).await;
        let public = tunnel.proxy(target.addr, format).await;
        let mut user = soon("the user", TcpStream::connect(public)).await.unwrap();
        let mut verifier = FileVerifier::new(file);
        let mut buffer = vec![0; 64 * 1024];
        while verifier.verified_bytes() < SIZE / 8 {
            let n = soon("the first bytes", user.read(&mut buffer)).await.unwrap();
            verifier.verify(&buffer[..n]).unwrap();
        }
        let key = tunnel.stream_of(user.local_addr().unwrap()).await.key;
        tunnel.order(Command::PauseStream(key)).await.unwrap();
        // Bytes in kernel buffers still arrive, and then no more.
        while let Ok(read) = tokio::time::timeout(Duration::from_millis(700), user.read(&mut buffer)).await {
            verifier.verify(&buffer[..read.unwrap()]).unwrap();
        }
        let held =
            tunnel.until("the stream is shown as held", |now| now.streams[0].paused).await.streams[0].down;
        assert!(verifier.verified_bytes() == held && held < SIZE, "{held} of {SIZE} bytes went out");
        let mut other = soon("another user", TcpStream::connect(public)).await.unwrap();
        let mut whole = FileVerifier::new(file);
        while whole.remaining_bytes() > 0 {
            let n =
                within(Duration::from_secs(20), "the other download", other.read(&mut buffer)).await.unwrap();
            whole.verify(&buffer[..n]).unwrap();
        }
        assert_eq!(verifier.verified_bytes(), held);
        tunnel.order(Command::ResumeStream(key)).await.unwrap();
        while verifier.remaining_bytes() > 0 {
            let n = soon("the rest", user.read(&mut buffer)).await.unwrap();
            verifier.verify(&buffer[..n]).unwrap();
        }
        for mut socket in [user, other] {
            socket.shutdown().await.unwrap();
            assert_eq!(soon("the end", socket.read(&mut buffer)).await.unwrap(), 0);
        }
        assert_eq!(tunnel.ended(key).await.0, EndReason::Finished);
        tunnel.end().await;
    }
}

/// A relay whose socket always had data to read, or to which data always came, looked for the end of its stream only
/// when it had to wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_download_to_a_fast_user_ends_at_once() {
    let file = DemoFile { seed: 8, size: 1 << 36 };
    for what in ["the stream is killed", "the user is killed", "the proxy is kicked", "the server stops"] {
        for format in FORMATS {
            let mut tunnel = Tunnel::start().await;
            let target = target::send(file).await;
            let public = tunnel.proxy(target.addr, format).await;
            // Connected here: a reset that comes before a task has seen the connection would be an error of connecting.
            let mut user = soon("the user", TcpStream::connect(public)).await.unwrap();
            let user = Running::start(async move {
                let mut buffer = vec![0; 256 * 1024];
                loop {
                    match user.read(&mut buffer).await {
                        Ok(0) => panic!("a clean end"),
                        Ok(_) => {}
                        Err(error) => return error.kind(),
                    }
                }
            });
            let key = tunnel.flowing(1).await.streams[0].key;
            let order = match what {
                "the stream is killed" => Some(Command::KillStream(key)),
                "the user is killed" => Some(Command::KillUser(key.user)),
                "the proxy is kicked" => Some(Command::KickProxy(ProxyId(1))),
                _ => None,
            };
            match order {
                Some(order) => _ = tunnel.order(order).await.unwrap(),
                None => tunnel.shutdown.abort.cancel(),
            }
            let end = user.end_within(promised_moment(), what).await;
            assert_eq!(end, std::io::ErrorKind::ConnectionReset, "{what}");
            target.when(|counts| counts.open == 0, promised_second()).await;
            if what == "the server stops" {
                assert_eq!(tunnel.stop_server().await.aborted_streams, 1, "{what}");
            } else {
                tunnel.end().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_stream_can_be_killed() {
    let mut tunnel = Tunnel::start().await;
    let target = target::echo().await;
    let public = tunnel.proxy(target.addr, FORMATS[0]).await;
    let mut user = soon("the user", TcpStream::connect(public)).await.unwrap();
    let key = tunnel.stream_of(user.local_addr().unwrap()).await.key;
    tunnel.order(Command::PauseStream(key)).await.unwrap();
    user.write_all(b"never read").await.unwrap();
    tunnel.order(Command::KillStream(key)).await.unwrap();
    within(promised_second(), "the reset", user.read(&mut [0])).await.unwrap_err();
    target.when(|counts| counts.open == 0, promised_second()).await;
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_for_a_stream_that_waits_for_a_proxy_apply_later() {
    let mut tunnel = Tunnel::start().await;
    let target = target::echo().await;
    let public = tunnel.proxy(target.addr, FORMATS[0]).await;
    tunnel.stop_proxy(0).await;
    let user = soon("the user", TcpStream::connect(public)).await.unwrap();
    let key = tunnel.until("a stream that waits", |now| now.streams.len() == 1).await.streams[0].key;
    tunnel.order(Command::PauseStream(key)).await.unwrap();
    tunnel.order(Command::SetPriority(key, Priority::High)).await.unwrap();
    tunnel.join(public, target.addr, FORMATS[0]).await;
    let shown = tunnel.until("the stream has a proxy", |now| now.streams[0].proxy.is_some()).await;
    assert_eq!((shown.streams[0].paused, shown.streams[0].priority), (true, Priority::High));
    let nobody = StreamKey::new(UserChannelId::new(0), 1);
    assert_eq!(tunnel.order(Command::PauseStream(nobody)).await, Err(CommandError::NotFound));
    drop(user);
    tunnel.order(Command::KillStream(key)).await.unwrap();
    tunnel.end().await;
}
