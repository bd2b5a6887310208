//! Multipath striping over real sockets: one stream uses several channels of its proxy. Bounds are wide, because
//! other load on the machine spoils timings; exact throughput is tested in virtual time, in `tests/mux`. On an idle
//! machine `UNDERPASS_BARS=1 cargo test --release --test tunnel striping:: -- --test-threads 1 --nocapture` requires
//! the exact ratios, as the medians of five rounds.

use std::time::{Duration, Instant};

use crate::support::{
    client::{Fetched, download},
    link::{Link, Shape},
    target::{self, LOOPBACK},
    tunnel::Tunnel,
};
use underpass::{
    cli::demo::DemoFile,
    config::{ChannelCount, ProxyConfig},
};

/// One-way delay of every emulated channel.
const DELAY: Duration = Duration::from_millis(5);

/// How often a measurement that other load on the machine can spoil is repeated.
const ATTEMPTS: usize = 8;

/// Number of rounds of which the strict mode takes the median.
const ROUNDS: usize = 5;

/// Downloads `file` over one channel for each of `rates`, in Mbit/s. Returns how many seconds it takes.
async fn download_seconds(file: DemoFile, rates: &[u64], stripe: bool) -> f64 {
    let mut tunnel = Tunnel::start().await;
    let shapes: Vec<_> = rates.iter().map(|&rate| Shape::mbit(rate, DELAY)).collect();
    let link = Link::over_lines(LOOPBACK, tunnel.addr, &shapes).await.unwrap();
    let origin = target::origin(u64::MAX).await;
    let config = ProxyConfig {
        channels: ChannelCount::Fixed(rates.len() as u16),
        stripe,
        ..tunnel.proxy_config(origin.addr).with_server(link.addr.to_string())
    };
    let public = tunnel.proxy_with(config).await;
    let begin = Instant::now();
    assert_eq!(download(public, file).end("the download").await, Ok(Fetched::from(file)));
    let seconds = begin.elapsed().as_secs_f64();
    println!("{rates:?} Mbit/s: {:.1} Mbit/s", file.size as f64 * 8.0 / 1e6 / seconds);
    tunnel.end().await;
    seconds
}

/// Measures ratios in several rounds. In strict mode returns the median of each ratio, else the ratios of the first
/// round that is `enough`, or of the last round.
async fn measure_ratios<const N: usize>(
    round: impl AsyncFn() -> [f64; N],
    enough: impl Fn(&[f64; N]) -> bool,
) -> [f64; N] {
    if !is_strict() {
        for _ in 1..ATTEMPTS {
            let ratios = round().await;
            if enough(&ratios) {
                return ratios;
            }
        }
        return round().await;
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(round().await);
    }
    std::array::from_fn(|index| {
        let mut column: Vec<_> = rounds.iter().map(|ratios| ratios[index]).collect();
        column.sort_by(f64::total_cmp);
        println!("median of {column:.3?}");
        column[ROUNDS / 2]
    })
}

/// Returns whether the exact ratios are required: the machine is idle.
fn is_strict() -> bool {
    std::env::var_os("UNDERPASS_BARS").is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_download_uses_both_channels() {
    let file = DemoFile { seed: 1, size: 10_000_000 };
    let least = if is_strict() { 1.8 } else { 1.5 };
    let enough = |&[two, pinned]: &[f64; 2]| two >= least && pinned < 1.1;
    let round = async || {
        let (one, two) =
            (download_seconds(file, &[40], true).await, download_seconds(file, &[40, 40], true).await);
        [one / two, one / download_seconds(file, &[40, 40], false).await]
    };
    let ratios = measure_ratios(round, enough).await;
    println!("two channels carry {:.2} times what one does, {:.2} times if pinned", ratios[0], ratios[1]);
    assert!(enough(&ratios), "{ratios:.3?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_channel_does_not_slow_a_fast_one_down() {
    let file = DemoFile { seed: 2, size: 10_000_000 };
    let least = if is_strict() { 1.0 } else { 0.7 };
    let enough = |ratios: &[f64; 2]| ratios.iter().all(|&ratio| ratio >= least);
    let round = async || {
        let alone = download_seconds(file, &[40], true).await;
        [
            alone / download_seconds(file, &[40, 4], true).await,
            alone / download_seconds(file, &[4, 40], true).await,
        ]
    };
    let ratios = measure_ratios(round, enough).await;
    println!("with a slow channel beside it, {ratios:.2?} times the fast one alone");
    assert!(enough(&ratios), "{ratios:.3?}");
}
