//! Throughput over several proxies.

use std::time::{Duration, Instant};

use crate::support::{
    Running,
    client::{Fetched, fetch},
    target::{self, OriginTarget},
    tunnel::Tunnel,
};
use underpass::{cli::demo::DemoFile, config::ProxyFormat};

/// Rate limit of each proxy's target in bytes per second.
const RATE: u64 = 20_000_000;

const FILE: DemoFile = DemoFile { seed: 3, size: 20_000_000 };

/// Number of attempts, because other load on the machine can spoil one.
const ATTEMPTS: usize = 4;

/// Runs `count` downloads in parallel over as many proxies, each with its own rate-limited target. Returns the time
/// until all are complete.
async fn downloads(count: usize) -> Duration {
    let mut tunnel = Tunnel::start().await;
    let mut origins: Vec<OriginTarget> = Vec::new();
    let mut public = None;
    for _ in 0..count {
        let origin = target::origin(RATE).await;
        match public {
            None => public = Some(tunnel.proxy(origin.addr, ProxyFormat::Binary).await),
            Some(public) => tunnel.join(public, origin.addr, ProxyFormat::Binary).await,
        }
        origins.push(origin);
    }
    let public = public.unwrap();
    let begin = Instant::now();
    let downloads: Vec<_> =
        (0..count).map(|_| Running::start(async move { fetch(public, &FILE.path()).await })).collect();
    for download in downloads {
        assert_eq!(download.end("a download ends").await, Ok(Fetched::from(FILE)));
    }
    let elapsed = begin.elapsed();
    for origin in &origins {
        assert!(origin.traffic.bytes_written() >= FILE.size, "each proxy has had one");
    }
    tunnel.end().await;
    elapsed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_downloads_over_three_proxies_take_as_long_as_one() {
    let _exclusive = crate::exclusive().await;
    let mut tried = Vec::new();
    for _ in 0..ATTEMPTS {
        let (one, three) = (downloads(1).await, downloads(3).await);
        let ratio = three.as_secs_f64() / one.as_secs_f64();
        println!(
            "20 MB at 20 MB/s: one {one:.3?}, three over three proxies {three:.3?}: {ratio:.2} times as long"
        );
        assert!(one > Duration::from_millis(700), "the target was not limited: {one:?}");
        if ratio <= 1.2 {
            return;
        }
        tried.push(ratio);
    }
    panic!("three took {tried:.2?} times as long as one");
}
