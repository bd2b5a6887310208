//! Accounting and errors of the simulated users, against a real origin over loopback.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    super::{DemoOrigin, DemoOriginOptions, LoadReport},
    *,
};

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn quick(transfers: u64) -> DemoLoadOptions {
    DemoLoadOptions {
        sizes: 0..=300_000,
        upload_percent: 30,
        max_pause: Duration::ZERO,
        max_transfers: Some(transfers),
        ..DemoLoadOptions::default()
    }
}

/// Runs a load of two users against an origin behind `relay`, which may corrupt or truncate what the origin sends.
async fn run_through<F>(relay: fn(TcpStream, TcpStream) -> F, options: DemoLoadOptions) -> LoadReport
where
    F: Future<Output = ()> + Send + 'static,
{
    let cancel = CancellationToken::new();
    let origin = DemoOrigin::bind(LOOPBACK, DemoOriginOptions::default()).await.unwrap();
    let target = origin.addr();
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let load = DemoLoad::new(listener.local_addr().unwrap(), 2, 1).with_options(options);
    let counters = load.counters();
    let mut tasks = JoinSet::new();
    tasks.spawn(origin.run(cancel.clone()));
    tasks.spawn(async move {
        let mut relays = JoinSet::new();
        loop {
            let (user, _) = listener.accept().await.unwrap();
            relays.spawn(relay(user, TcpStream::connect(target).await.unwrap()));
        }
    });
    load.run(cancel).await;
    counters.report()
}

#[tokio::test]
async fn users_and_origin_count_the_same_bytes() {
    let cancel = CancellationToken::new();
    let origin = DemoOrigin::bind(LOOPBACK, DemoOriginOptions::default()).await.unwrap();
    let seen = origin.traffic();
    let load = DemoLoad::new(origin.addr(), 3, 42).with_options(quick(200));
    let counters = load.counters();
    let mut tasks = JoinSet::new();
    tasks.spawn(origin.run(cancel.clone()));
    load.run(cancel.clone()).await;
    let report = counters.report();
    assert_eq!((report.started, report.open(), report.errors.len()), (200, 0, 0), "{report:?}");
    assert!(report.downloads > 100 && report.uploads > 20, "{report:?}");
    assert_eq!(report.downloads + report.uploads, 200);
    assert_eq!((report.down, report.up), (seen.bytes_written(), seen.bytes_read()));
    cancel.cancel();
    tasks.join_all().await;
}

#[tokio::test]
async fn each_user_has_its_own_source_address() {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let cancel = CancellationToken::new();
    let load = DemoLoad::new(listener.local_addr().unwrap(), 3, 0);
    let mut tasks = JoinSet::new();
    tasks.spawn(load.run(cancel.clone()));
    let mut sources = std::collections::BTreeSet::new();
    let mut held = Vec::new();
    while sources.len() < 3 {
        let (socket, peer) = listener.accept().await.unwrap();
        held.push(socket);
        sources.insert(peer.ip().to_string());
    }
    assert_eq!(sources.into_iter().collect::<Vec<_>>(), ["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    cancel.cancel();
    tasks.join_all().await;
}

#[tokio::test]
async fn cancelling_ends_all_transfers_at_once() {
    let cancel = CancellationToken::new();
    let slow = DemoOriginOptions { rate: std::num::NonZeroU64::new(10_000), ..DemoOriginOptions::default() };
    let origin = DemoOrigin::bind(LOOPBACK, slow).await.unwrap();
    let load = DemoLoad::new(origin.addr(), 4, 7);
    let counters = load.counters();
    let mut tasks = JoinSet::new();
    tasks.spawn(origin.run(cancel.clone()));
    tasks.spawn(load.run(cancel.clone()));
    while counters.report().down == 0 {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    tokio::time::timeout(Duration::from_secs(2), tasks.join_all()).await.unwrap();
    let report = counters.report();
    assert!(report.cancelled > 0, "{report:?}");
    assert_eq!((report.open(), report.failed, report.checksum_failures), (0, 0, 0), "{report:?}");
}

#[tokio::test]
async fn a_corrupted_byte_is_a_checksum_failure() {
    async fn flip(mut user: TcpStream, mut origin: TcpStream) {
        let (mut user_read, mut user_write) = user.split();
        let (mut origin_read, mut origin_write) = origin.split();
        let up = async {
            _ = tokio::io::copy(&mut user_read, &mut origin_write).await;
        };
        let down = async {
            let mut bytes = Vec::new();
            _ = origin_read.read_to_end(&mut bytes).await;
            // The last byte of a file, or of the receipt of an upload.
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            _ = user_write.write_all(&bytes).await;
            _ = user_write.shutdown().await;
        };
        tokio::select! {
            () = up => {}
            () = down => {}
        }
    }
    let options = DemoLoadOptions { sizes: 1000..=300_000, connections: 4..=4, ..quick(6) };
    let report = run_through(flip, options).await;
    assert_eq!((report.checksum_failures, report.failed, report.started), (6, 0, 6), "{report:?}");
    assert_eq!(report.errors.len(), 5);
}

#[tokio::test]
async fn a_reset_or_truncated_transfer_counts_as_failed() {
    async fn cut(mut user: TcpStream, mut origin: TcpStream) {
        let mut head = [0; 40];
        _ = user.read_exact(&mut head).await;
        let mut rest = vec![0; 1 << 20];
        let n = user.read(&mut rest).await.unwrap_or(0);
        _ = origin.write_all(&head).await;
        _ = origin.write_all(&rest[..n]).await;
        let mut bytes = [0; 200];
        if origin.read_exact(&mut bytes).await.is_ok() {
            _ = user.write_all(&bytes).await;
        }
    }
    let options =
        DemoLoadOptions { sizes: 100_000..=300_000, upload_percent: 0, connections: 4..=4, ..quick(6) };
    let report = run_through(cut, options).await;
    assert_eq!((report.checksum_failures, report.failed, report.started), (0, 6, 6), "{report:?}");
    assert!(report.errors[0].contains("bytes: "), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn refused_connections_are_not_retried_in_a_tight_loop() {
    let port = TcpListener::bind(LOOPBACK).await.unwrap();
    let target = port.local_addr().unwrap();
    drop(port);
    let load = DemoLoad::new(target, 1, 3).with_options(DemoLoadOptions {
        connections: 1..=1,
        max_transfers: Some(20),
        ..DemoLoadOptions::default()
    });
    let counters = load.counters();
    let start = tokio::time::Instant::now();
    load.run(CancellationToken::new()).await;
    assert_eq!(counters.report().failed, 20);
    assert!(start.elapsed() >= Duration::from_secs(4), "{:?}", start.elapsed());
}
