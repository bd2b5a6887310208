//! An emulated link to put between two programs, with a rate, a delay and faults: see `--help`.
//!
//! The tests use the same link; this is its command line.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    dead_code
)]

#[path = "../tests/support/link/mod.rs"]
mod link;

use std::{net::SocketAddr, num::NonZeroU64, time::Duration};

use clap::Parser;
use link::{Link, Shape, Wire};

/// Forwards connections with a rate and a delay, which all of them share in each direction; nothing is dropped
#[derive(Parser)]
struct Args {
    /// Address to accept connections on
    #[arg(long, value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// Address to forward them to
    #[arg(long, value_name = "ADDR:PORT")]
    to: SocketAddr,
    /// Rate in bits per second and direction, like 200M or 1G [default: unlimited]
    #[arg(long, value_name = "BITS", value_parser = bits)]
    rate: Option<NonZeroU64>,
    /// One-way delay, like 10ms
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = time)]
    delay: Duration,
    /// Length of the queue in each direction, in bytes [default: 2 ms of the rate, at least 64 KiB]
    #[arg(long, value_name = "BYTES")]
    buffer: Option<usize>,
    /// Interval at which all connections are reset
    #[arg(long, value_name = "TIME", value_parser = time)]
    cut_every: Option<Duration>,
    /// Interval at which all connections stall
    #[arg(long, value_name = "TIME", value_parser = time, requires = "stall_for")]
    stall_every: Option<Duration>,
    /// Duration of a stall
    #[arg(long, value_name = "TIME", value_parser = time, requires = "stall_every")]
    stall_for: Option<Duration>,
}

fn number(text: &str, units: &[(&str, f64)]) -> Result<f64, String> {
    let (unit, factor) = units.iter().find(|(unit, _)| text.ends_with(unit)).ok_or_else(|| {
        format!(
            "expected a number with one of the suffixes {}",
            units.iter().map(|u| u.0).collect::<Vec<_>>().join(", ")
        )
    })?;
    let number = text[..text.len() - unit.len()].parse::<f64>().map_err(|error| error.to_string())?;
    if number.is_finite() && number >= 0.0 { Ok(number * factor) } else { Err("out of range".into()) }
}

fn time(text: &str) -> Result<Duration, String> {
    number(text, &[("us", 1e-6), ("ms", 1e-3), ("s", 1.0)])
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()))
}

/// Parses a rate in bits per second. Returns bytes per second.
fn bits(text: &str) -> Result<NonZeroU64, String> {
    let bits = number(text, &[("K", 1e3), ("M", 1e6), ("G", 1e9)])?;
    NonZeroU64::new((bits / 8.0) as u64).ok_or_else(|| "the rate is below one byte per second".into())
}

async fn every(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let mut shape = Shape::new(args.rate, args.delay);
    shape.buffer = args.buffer.unwrap_or(shape.buffer);
    let link = Link::between(args.listen, args.to, shape).await?;
    println!("link {} to {}", link.addr, args.to);
    let cuts = async {
        loop {
            every(args.cut_every).await;
            link.set_all(Wire::Cut);
        }
    };
    let stalls = async {
        loop {
            every(args.stall_every).await;
            link.set_all(Wire::Dead);
            every(args.stall_for).await;
            link.set_all(Wire::Up);
        }
    };
    tokio::join!(cuts, stalls);
    Ok(())
}
