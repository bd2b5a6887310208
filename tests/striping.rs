//! One stream over several channels of its proxy, on real sockets. Bounds are wide here, because the machine has other
//! things to do; how much it carries is proved in virtual time, in `tests/mux/lines.rs`.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use support::{
    client::{Fetched, download},
    link::{Link, Shape},
    target::{self, LOOPBACK},
    tunnel::Tunnel,
};
use underpass::{cli::demo::File, config::ProxyConfig};

const DELAY: Duration = Duration::from_millis(5);

/// How often a figure that the machine's other work can spoil is tried.
const ATTEMPTS: usize = 4;

/// How long a download takes over channels of so many Mbit/s each, in seconds.
async fn seconds(file: File, rates: &[u64], stripe: bool) -> f64 {
    let mut tunnel = Tunnel::start().await;
    let shapes: Vec<_> = rates.iter().map(|&rate| Shape::mbit(rate, DELAY)).collect();
    let link = Link::over_lines(LOOPBACK, tunnel.addr, &shapes).await.unwrap();
    let origin = target::origin(u64::MAX).await;
    let config = ProxyConfig {
        server: link.addr.to_string(),
        channels: rates.len() as u16,
        stripe,
        ..tunnel.proxy_config(origin.addr)
    };
    let public = tunnel.proxy_with(config).await;
    let begin = Instant::now();
    assert_eq!(download(public, file).end("the download").await, Ok(Fetched::from(file)));
    let seconds = begin.elapsed().as_secs_f64();
    println!("{rates:?} Mbit/s: {:.1} Mbit/s", file.size as f64 * 8.0 / 1e6 / seconds);
    tunnel.end().await;
    seconds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_download_uses_both_channels() {
    let file = File { seed: 1, size: 25_000_000 };
    for attempt in 1..=ATTEMPTS {
        let (one, two) = (seconds(file, &[100], true).await, seconds(file, &[100, 100], true).await);
        let pinned = seconds(file, &[100, 100], false).await;
        println!(
            "two channels carry {:.2} times what one does, {:.2} times if pinned",
            one / two,
            one / pinned
        );
        if one / two >= 1.5 && one / pinned < 1.1 {
            return;
        }
        assert!(attempt < ATTEMPTS, "two channels carry {:.2} times what one does", one / two);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_channel_does_not_hold_a_fast_one_up() {
    let file = File { seed: 2, size: 25_000_000 };
    for attempt in 1..=ATTEMPTS {
        let alone = seconds(file, &[100], true).await;
        let ratios =
            [alone / seconds(file, &[100, 10], true).await, alone / seconds(file, &[10, 100], true).await];
        println!("with a slow channel beside it, {ratios:.2?} times the fast one alone");
        if ratios.iter().all(|&ratio| ratio >= 0.7) {
            return;
        }
        assert!(attempt < ATTEMPTS, "{ratios:?}");
    }
}
