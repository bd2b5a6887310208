//! Parallel downloads and uploads of one user with real clients.

use std::{
    collections::BTreeMap,
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::support::{
    Running,
    client::{Fetched, curl_command, fetch},
    target,
    tunnel::{FORMATS, Tunnel},
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::{
    cli::demo::{DemoFile, FileVerifier, TrafficCounters, upload},
    config::ProxyFormat,
    ids::{ProxyId, StreamKey},
    telemetry::{EventKind, Snapshot, StreamSnapshot},
};

const FILE: DemoFile = DemoFile { seed: 7, size: 200_000_000 };

/// Timeout of a transfer, long enough for a debug build on two busy cores.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits until the bytes of three open streams have all increased within one interval.
async fn all_three_progress(tunnel: &Tunnel, bytes: fn(&StreamSnapshot) -> u64) {
    let progress = |snapshot: &Snapshot| -> BTreeMap<StreamKey, u64> {
        snapshot.streams.iter().map(|stream| (stream.key, bytes(stream))).collect()
    };
    let three = |snapshot: &Snapshot| snapshot.streams.iter().filter(|stream| bytes(stream) > 0).count() == 3;
    let first = progress(&tunnel.until("three streams with bytes", three).await);
    tunnel
        .until("all three progress", |snapshot| {
            let now = progress(snapshot);
            assert_eq!(now.len(), 3, "one was done before the others began: {first:?} {now:?}");
            first.iter().all(|(key, before)| now[key] > before + (1 << 20))
        })
        .await;
}

/// Returns the stream keys in the order of their opening, and the number of streams of each proxy.
fn told(tunnel: &Tunnel) -> (Vec<StreamKey>, BTreeMap<ProxyId, usize>) {
    let (mut keys, mut shares) = (Vec::new(), BTreeMap::new());
    for event in tunnel.events() {
        match event {
            EventKind::StreamOpened { key, .. } => keys.push(key),
            EventKind::StreamAssigned { proxy, .. } => *shares.entry(proxy).or_default() += 1,
            _ => {}
        }
    }
    (keys, shares)
}

fn three_streams_of_one_user_over_two_proxies(tunnel: &Tunnel) {
    let (keys, shares) = told(tunnel);
    let user = keys[0].user;
    assert_eq!(keys, [1, 2, 3].map(|stream| StreamKey::new(user, stream)));
    let mut shares: Vec<_> = shares.into_values().collect();
    shares.sort_unstable();
    assert_eq!(shares, [1, 2]);
}

fn rate(bytes: u64, begin: Instant) -> String {
    let elapsed = begin.elapsed().as_secs_f64();
    format!("{elapsed:.2} s, {:.0} MB/s", bytes as f64 / 1e6 / elapsed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_downloads_of_one_user_run_in_parallel() {
    let expected = Fetched::from(FILE);
    for format in FORMATS {
        let origin = target::origin(None).await;
        let mut tunnel = Tunnel::start().await;
        let public = tunnel.proxy(origin.addr, format).await;
        tunnel.join(public, origin.addr, format).await;
        let begin = Instant::now();
        let downloads: Vec<_> =
            (0..3).map(|_| Running::start(async move { fetch(public, &FILE.path()).await })).collect();
        all_three_progress(&tunnel, |stream| stream.down).await;
        for download in downloads {
            let got = download.end_within(LIMIT, "a download ends").await.unwrap();
            assert_eq!(got, expected);
        }
        println!("{format:?}: 3 downloads of 200 MB in {}", rate(3 * FILE.size, begin));
        three_streams_of_one_user_over_two_proxies(&tunnel);
        tunnel.end().await;
    }
}

/// A file on disk, for clients that upload one. Dropping it deletes the file.
struct OnDisk(PathBuf);

impl OnDisk {
    fn new(file: DemoFile) -> Self {
        let path = std::env::temp_dir().join(format!("underpass-{}-{}", std::process::id(), file.seed));
        let on_disk = Self(path);
        let mut disk = std::fs::File::create(&on_disk.0).unwrap();
        let mut offset = 0;
        while offset < file.size {
            let piece = file.bytes_from(offset);
            disk.write_all(piece).unwrap();
            offset += piece.len() as u64;
        }
        on_disk
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_uploads_of_one_user_run_in_parallel() {
    let disk = OnDisk::new(FILE);
    let expected = format!("length {}\nsha256 {}\n", FILE.size, FILE.sha256());
    let origin = target::origin(None).await;
    let mut tunnel = Tunnel::start().await;
    let public = tunnel.proxy(origin.addr, ProxyFormat::Binary).await;
    tunnel.join(public, origin.addr, ProxyFormat::Binary).await;
    let begin = Instant::now();
    let uploads: Vec<_> = (0..3)
        .map(|_| {
            let curl =
                curl_command(&["--fail", "-T", disk.0.to_str().unwrap(), &format!("http://{public}/upload")]);
            let expected = expected.clone();
            Running::start(async move {
                let Some(mut curl) = curl else {
                    let socket = TcpStream::connect(public).await.unwrap();
                    return upload(socket, FILE, &TrafficCounters::default()).await.unwrap();
                };
                let output = curl.output().await.unwrap();
                assert!(output.status.success(), "{output:?}");
                assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
            })
        })
        .collect();
    all_three_progress(&tunnel, |stream| stream.up).await;
    for upload in uploads {
        upload.end_within(LIMIT, "an upload ends").await;
    }
    println!("3 uploads of 200 MB in {}", rate(3 * FILE.size, begin));
    three_streams_of_one_user_over_two_proxies(&tunnel);
    tunnel.end().await;
}

/// Like `nc -N`: sends, half-closes, and reads the response.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_half_closes_receives_the_whole_response() {
    let file = DemoFile { seed: 8, size: 30_000_000 };
    for format in FORMATS {
        let target = target::after_end(1 << 30).await;
        let mut tunnel = Tunnel::start().await;
        let public = tunnel.proxy(target.addr, format).await;
        let mut user = TcpStream::connect(public).await.unwrap();
        let conversation = async {
            let mut sent = 0;
            while sent < file.size {
                let piece = file.bytes_from(sent);
                user.write_all(piece).await.unwrap();
                sent += piece.len() as u64;
            }
            user.shutdown().await.unwrap();
            let receipt = format!("{} {}\n", file.size, file.sha256());
            let mut first = vec![0; receipt.len()];
            user.read_exact(&mut first).await.unwrap();
            assert_eq!(String::from_utf8(first).unwrap(), receipt);
            let (mut verifier, mut buffer) = (FileVerifier::new(file), vec![0; 64 * 1024]);
            loop {
                match user.read(&mut buffer).await.unwrap() {
                    0 => break,
                    n => verifier.verify(&buffer[..n]).unwrap(),
                }
            }
            assert_eq!(verifier.remaining_bytes(), 0);
        };
        within(LIMIT, "the whole answer", conversation).await;
        tunnel.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_work_with_the_smallest_and_the_largest_window() {
    let file = DemoFile { seed: 9, size: 50_000_000 };
    for window in [16 * 1024, 64 << 20] {
        let origin = target::origin(None).await;
        let mut tunnel = Tunnel::with(|config| config.initial_window = window).await;
        let public = tunnel.proxy(origin.addr, ProxyFormat::Binary).await;
        let got = within(LIMIT, "a download", fetch(public, &file.path())).await;
        assert_eq!(got, Ok(Fetched::from(file)), "window {window}");
        tunnel.end().await;
    }
}
