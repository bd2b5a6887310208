//! The example proxies of `assets/examples` against the real server, with curl if it is installed: some forty lines of
//! Python without this library serve its users.

use std::{io, net::SocketAddr, time::Duration};

use crate::support::{
    client::{Fetched, curl, fetch},
    process::Process,
    promised_second, soon,
    target::{self, LOOPBACK},
    text::{BOTH, FieldCount},
    tunnel::Tunnel,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::{
    cli::demo::{DemoFile, Sha256Sum},
    ids::StreamKey,
    telemetry::{
        ChannelFormat, DisconnectReason, EndReason, EventKind, Snapshot, StreamPhase, StreamSnapshot,
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// Returns the example program for a number of fields.
fn script(fields: FieldCount) -> &'static str {
    match fields {
        FieldCount::Three => "text_proxy_old.py",
        FieldCount::Four => "text_proxy.py",
    }
}

/// Runs an example as a proxy of the tunnel. Returns the process and its public address, or `None` without Python.
async fn serving(tunnel: &Tunnel, fields: FieldCount, target: SocketAddr) -> Option<(Process, SocketAddr)> {
    let (server, target) = (tunnel.addr.to_string(), target.to_string());
    let mut process = Process::example(script(fields), &[&server, "0", &target, tunnel.token.reveal()])?;
    let line = process.line("serving ").await;
    let port = line.strip_prefix("serving ").unwrap().strip_suffix(":default").unwrap().parse().unwrap();
    Some((process, SocketAddr::new(LOOPBACK.ip(), port)))
}

/// Stops the proxy and then the server, and asserts that nothing is left.
async fn end(tunnel: Tunnel, mut process: Process) {
    process.kill_9().await;
    tunnel.until("the proxy is gone", |snapshot| snapshot.proxies.is_empty()).await;
    tunnel.end().await;
}

#[tokio::test]
async fn two_downloads_run_in_parallel() {
    // A second for each download, so that a snapshot shows both.
    let origin = target::origin(12_000_000).await;
    for fields in BOTH {
        let tunnel = Tunnel::start().await;
        let Some((process, public)) = serving(&tunnel, fields, origin.addr).await else { return };
        let files = [1, 2].map(|seed| DemoFile { seed, size: 6_000_000 });
        let both = async {
            let paths = files.map(|file| file.path());
            tokio::join!(fetch(public, &paths[0]), fetch(public, &paths[1]))
        };
        let seen = tunnel.until("both in progress", |snapshot| {
            snapshot.streams.len() == 2 && snapshot.streams.iter().all(|stream| stream.down > 500_000)
        });
        let ((first, second), snapshot) = tokio::join!(both, seen);
        assert_eq!((first.unwrap(), second.unwrap()), (files[0].into(), files[1].into()));

        // The cockpit's data shows it like any other proxy.
        let [proxy] = &snapshot.proxies[..] else { panic!("{snapshot:?}") };
        let format =
            if fields == FieldCount::Three { ChannelFormat::ThreeFieldText } else { ChannelFormat::Text };
        assert_eq!((proxy.streams_open, proxy.channels.len(), proxy.channels[0].format), (2, 1, format));
        assert_eq!(proxy.channels[0].streams_open, 2);
        // Two streams of one user, also where an old proxy names each a user.
        let mut keys: Vec<_> = snapshot.streams.iter().map(|stream| stream.key).collect();
        keys.sort();
        assert_eq!((snapshot.users.len(), keys[0].stream.0, keys[1].stream.0), (1, 1, 2));
        assert_eq!(keys[0].user, keys[1].user);
        for key in keys {
            assert_eq!(tunnel.ended(key).await.0, EndReason::Finished);
        }
        end(tunnel, process).await;
    }
}

#[tokio::test]
async fn an_upload_arrives_complete() {
    let origin = target::origin(None).await;
    for fields in BOTH {
        let tunnel = Tunnel::start().await;
        let Some((process, public)) = serving(&tunnel, fields, origin.addr).await else { return };
        let path = std::env::temp_dir().join(format!("underpass-text-{}-{fields:?}", std::process::id()));
        let body = vec![7; 8 << 20];
        std::fs::write(&path, &body).unwrap();
        let output = curl(&["-T", path.to_str().unwrap(), &format!("http://{public}/upload")]).await;
        std::fs::remove_file(&path).unwrap();
        if let Some(output) = output {
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(text, format!("length {}\nsha256 {}\n", body.len(), Sha256Sum::of(&body)));
        }
        end(tunnel, process).await;
    }
}

#[tokio::test]
async fn half_closes_are_forwarded_in_both_directions() {
    let target = target::after_end(0).await;
    for fields in BOTH {
        let tunnel = Tunnel::start().await;
        let Some((process, public)) = serving(&tunnel, fields, target.addr).await else { return };
        let file = DemoFile { seed: 9, size: 3_000_000 };
        let mut socket = TcpStream::connect(public).await.unwrap();
        let mut offset = 0;
        while offset < file.size {
            let piece = file.bytes_from(offset);
            soon("an upload", socket.write_all(piece)).await.unwrap();
            offset += piece.len() as u64;
        }
        socket.shutdown().await.unwrap();
        let mut answer = String::new();
        soon("the answer", socket.read_to_string(&mut answer)).await.unwrap();
        assert_eq!(answer, format!("{} {}\n", file.size, file.sha256()));
        target.when(|counts| counts.open == 0 && counts.failed == 0, 5 * SECOND).await;

        // The opposite order: the target closes first.
        drop(socket);
        end(tunnel, process).await;
    }
    let target = target::send(DemoFile { seed: 2, size: 100_000 }).await;
    for fields in BOTH {
        let tunnel = Tunnel::start().await;
        let Some((process, public)) = serving(&tunnel, fields, target.addr).await else { return };
        let mut socket = TcpStream::connect(public).await.unwrap();
        let mut bytes = Vec::new();
        soon("the target's end", socket.read_to_end(&mut bytes)).await.unwrap();
        assert_eq!(bytes.len(), 100_000);
        for _ in 0..10 {
            socket.write_all(&[3; 100_000]).await.unwrap();
        }
        socket.shutdown().await.unwrap();
        target.when(|counts| counts.open == 0 && counts.failed == 0, 5 * SECOND).await;
        end(tunnel, process).await;
    }
}

/// Waits until the proxy has reported the connection to the target. Returns the stream key.
async fn open(tunnel: &Tunnel, socket: &TcpStream) -> StreamKey {
    let user = socket.local_addr().unwrap();
    let is_open = |stream: &&StreamSnapshot| stream.info.addr == user && stream.phase == StreamPhase::Open;
    let find = |snapshot: &Snapshot| snapshot.streams.iter().find(is_open).map(|stream| stream.key);
    find(&tunnel.until("an open stream", |snapshot| find(snapshot).is_some()).await).unwrap()
}

/// Reads behind the first 1000 bytes of a user and returns the result.
async fn ending(mut socket: TcpStream) -> io::Result<usize> {
    soon("the user's end", socket.read(&mut [0; 64])).await
}

#[tokio::test]
async fn a_failing_target_resets_the_user() {
    let reset = target::send_then_reset(DemoFile { seed: 0, size: 1 << 20 }, 1000).await;
    for fields in BOTH {
        let tunnel = Tunnel::start().await;
        let Some((process, public)) = serving(&tunnel, fields, reset.addr).await else { return };
        let mut socket = TcpStream::connect(public).await.unwrap();
        soon("some bytes", socket.read_exact(&mut [0; 1000])).await.unwrap();
        let key = tunnel.stream_of(socket.local_addr().unwrap()).await.key;
        socket.write_all(b"go").await.unwrap();
        assert_eq!(ending(socket).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(tunnel.ended(key).await.0, EndReason::TargetSocketError);
        end(tunnel, process).await;

        let tunnel = Tunnel::start().await;
        let Some((process, public)) = serving(&tunnel, fields, target::refusing().await).await else {
            return;
        };
        assert!(fetch(public, "/").await.is_err());
        let refused = |event: &EventKind| {
            matches!(event, EventKind::StreamEnded { reason: EndReason::TargetConnectFailed(_), .. })
        };
        tunnel.event("a refused target", refused).await;
        end(tunnel, process).await;

        // A target that resets within a file.
        let tunnel = Tunnel::start().await;
        let origin = target::origin(1_000_000).await;
        let Some((process, public)) = serving(&tunnel, fields, origin.addr).await else { return };
        let path = DemoFile { seed: 4, size: 50_000_000 }.path();
        let killed = async {
            tunnel.until("some bytes", |s| s.streams.iter().any(|stream| stream.down > 100_000)).await;
            drop(origin);
        };
        let (fetched, ()) = tokio::join!(fetch(public, &path), killed);
        assert!(fetched.is_err(), "{fetched:?}");
        end(tunnel, process).await;
    }
}

#[tokio::test]
async fn killing_a_user_resets_the_target() {
    let target = target::idle().await;
    for (fields, failed) in [(FieldCount::Three, 1), (FieldCount::Four, 2)] {
        let tunnel = Tunnel::start().await;
        let Some((process, public)) = serving(&tunnel, fields, target.addr).await else { return };
        let mut socket = TcpStream::connect(public).await.unwrap();
        socket.write_all(b"half of a").await.unwrap();
        let key = open(&tunnel, &socket).await;
        tunnel.order(underpass::control::Command::KillStream(key)).await.unwrap();
        assert_eq!(ending(socket).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        target.when(|counts| counts.open == 0 && counts.failed == failed, promised_second()).await;
        end(tunnel, process).await;
    }
}

#[tokio::test]
async fn killing_the_proxy_process_resets_user_and_target() {
    let origin = target::origin(1_000_000).await;
    let idle = target::idle().await;
    for (fields, failed) in [(FieldCount::Three, 1), (FieldCount::Four, 2)] {
        let tunnel = Tunnel::start().await;
        let Some((mut process, public)) = serving(&tunnel, fields, origin.addr).await else { return };
        let Some((mut other, uploads)) = serving(&tunnel, fields, idle.addr).await else { return };
        let mut socket = TcpStream::connect(uploads).await.unwrap();
        socket.write_all(b"half of a").await.unwrap();
        open(&tunnel, &socket).await;
        let path = DemoFile { seed: 4, size: 50_000_000 }.path();
        let killed = async {
            tunnel.until("some bytes", |s| s.streams.iter().any(|stream| stream.down > 100_000)).await;
            process.kill_9().await;
            other.kill_9().await;
        };
        let (fetched, ()) = tokio::join!(fetch(public, &path), killed);
        assert!(fetched.is_err(), "{fetched:?}");
        assert_eq!(ending(socket).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        idle.when(|counts| counts.open == 0 && counts.failed == failed, 5 * SECOND).await;
        let gone = |event: &EventKind| {
            matches!(
                event,
                EventKind::ProxyDisconnected {
                    reason: DisconnectReason::Closed | DisconnectReason::Reset,
                    ..
                }
            )
        };
        tunnel.event("a proxy that left without a word", gone).await;
        tunnel.end().await;
    }
}

#[tokio::test]
async fn the_example_prints_why_its_registration_was_refused() {
    let tunnel = Tunnel::start().await;
    let taken = target::idle().await;
    let (server, target) = (tunnel.addr.to_string(), taken.addr.to_string());
    let (port, token) = (taken.addr.port().to_string(), tunnel.token.reveal());
    let in_use = format!("PORT_IN_USE: port {port} is in use on the server");
    for fields in BOTH {
        for (arguments, reason) in [
            (&[&server[..], "0", &target, "wrong"][..], "WRONG_TOKEN: wrong token"),
            (
                &[&server, "0", &target],
                "NOT_AUTHENTICATED: not authenticated: send AUTH with the token first",
            ),
            (&[&server, &port, &target, token], &in_use),
        ] {
            let Some(mut process) = Process::example(script(fields), arguments) else { return };
            assert_eq!(process.exit().await.code(), Some(1));
            assert_eq!(process.stderr(), format!("refused: {reason}\n"));
        }
    }
    tunnel.end().await;
}

#[tokio::test]
async fn many_short_streams_are_served() {
    let origin = target::origin(None).await;
    for fields in BOTH {
        let tunnel = Tunnel::start().await;
        let Some((process, public)) = serving(&tunnel, fields, origin.addr).await else { return };
        for round in 0..5 {
            let mut users = tokio::task::JoinSet::new();
            for n in 0..20 {
                let file = DemoFile { seed: round * 20 + n, size: 1000 * n };
                users.spawn(async move {
                    assert_eq!(fetch(public, &file.path()).await.unwrap(), Fetched::from(file));
                });
            }
            soon("twenty downloads", users.join_all()).await;
        }
        let snapshot = tunnel.until("their end", |snapshot| snapshot.totals.streams_open == 0).await;
        assert_eq!((snapshot.totals.streams_total, snapshot.totals.streams_failed), (100, 0));
        end(tunnel, process).await;
    }
}
