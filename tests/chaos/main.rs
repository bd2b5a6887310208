//! Random faults with real processes and curl: connections of proxies are reset, truncated, delayed, stalled and
//! corrupted, and proxies are killed and stopped. Every transfer is complete or fails with an error that the user sees;
//! nothing hangs, and no resource is left in use.
//!
//! A run takes twenty seconds. `UNDERPASS_CHAOS=600 cargo test --test chaos` takes ten minutes, and
//! `UNDERPASS_SEED=7` repeats the faults of a seed, but not their timing.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod soak;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};
use support::{
    LONG,
    client::{Fetched, fetch},
    soon, target, within,
};
use tokio::{io::AsyncReadExt, net::TcpStream, task::JoinSet};
use underpass::cli::demo::{DemoFile, Sha256Sum, TrafficCounters, TransferError, upload};
use world::{World, losses};

const SECOND: Duration = Duration::from_secs(1);

/// File that the raw service sends on each connection. It sends no length, so that only the FIN tells that the file is
/// complete.
const RAW: DemoFile = DemoFile { seed: 77, size: 3_000_000 };

/// Reads a number from an environment variable.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Numbers of transfers by result.
#[derive(Debug, Default)]
struct Tally {
    begun: AtomicU64,
    whole: AtomicU64,
    failed: AtomicU64,
    wrong: AtomicU64,
}

impl Tally {
    fn count(&self, got: Result<Fetched, String>, file: DemoFile) {
        match got {
            Ok(got) if got == Fetched::from(file) => self.whole.fetch_add(1, SeqCst),
            Ok(got) => {
                println!("silently wrong: {got:?} instead of {:?}", Fetched::from(file));
                self.wrong.fetch_add(1, SeqCst)
            }
            Err(_) => self.failed.fetch_add(1, SeqCst),
        };
    }

    fn numbers(&self) -> [u64; 4] {
        [&self.begun, &self.whole, &self.failed, &self.wrong].map(|count| count.load(SeqCst))
    }
}

/// Uploads a file. Fails if the upload failed visibly; a wrong receipt of the origin is returned as other content.
async fn send(public: SocketAddr, file: DemoFile) -> Result<Fetched, String> {
    let socket = TcpStream::connect(public).await.map_err(|error| error.to_string())?;
    match upload(socket, file, &TrafficCounters::default()).await {
        Ok(()) => Ok(file.into()),
        Err(TransferError::Corrupt(what)) => {
            println!("{what}");
            Ok(Fetched { length: 0, sha256: Sha256Sum::of(b"") })
        }
        Err(fault) => Err(fault.to_string()),
    }
}

/// Reads until the FIN and hashes everything.
async fn fetch_raw(public: SocketAddr) -> Result<Fetched, String> {
    let mut socket = TcpStream::connect(public).await.map_err(|error| error.to_string())?;
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match socket.read(&mut buffer).await {
            Ok(0) => return Ok(Fetched { length, sha256: Sha256Sum(hash.finalize().into()) }),
            Ok(n) => {
                hash.update(&buffer[..n]);
                length += n as u64;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Starts nine users that transfer files until `over`.
fn users(world: &World, tally: &Arc<Tally>, over: &Arc<AtomicBool>, seed: u64) -> JoinSet<()> {
    let mut users = JoinSet::new();
    for user in 0..9u64 {
        let public = world.public(usize::from(user >= 6));
        let (tally, over) = (tally.clone(), over.clone());
        let mut random = StdRng::seed_from_u64(seed ^ user << 32);
        users.spawn(async move {
            while !over.load(SeqCst) {
                let file = DemoFile { seed: random.random(), size: random.random_range(1..3_000_000) };
                tally.begun.fetch_add(1, SeqCst);
                match user {
                    0..4 => tally.count(ends(fetch(public, &file.path())).await, file),
                    4..6 => tally.count(ends(send(public, file)).await, file),
                    _ => tally.count(ends(fetch_raw(public)).await, RAW),
                }
            }
        });
    }
    users
}

/// Asserts that a transfer ends within the keepalive timeout and the grace time.
async fn ends<T>(transfer: impl Future<Output = T>) -> T {
    within(2 * LONG, "a transfer ends", transfer).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_transfer_is_complete_or_fails_visibly_under_faults() {
    let length = Duration::from_secs(setting("UNDERPASS_CHAOS").unwrap_or(20));
    let seed = setting("UNDERPASS_SEED").unwrap_or_else(rand::random);
    println!("UNDERPASS_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (origin, raw) = (target::origin(20_000_000).await, target::send(RAW).await);
    // A short grace time, so that some streams expire.
    let mut world = World::start("5", &[], [origin.addr, raw.addr]).await;
    let (tally, over) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
    let mut users = users(&world, &tally, &over, seed);

    let begin = Instant::now();
    let (mut harms, mut killed) = (BTreeMap::<_, u32>::new(), BTreeSet::new());
    while begin.elapsed() < length {
        let victim = random.random_range(0..world.victims.len());
        if let Some(harm) = world.victims[victim].harm(&mut random, &mut killed).await {
            *harms.entry(harm).or_default() += 1;
        }
        let pause = Duration::from_millis(random.random_range(50..600));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            Some(ended) = users.join_next() => ended.unwrap(),
        }
        for victim in &mut world.victims {
            victim.heal(false).await;
        }
    }
    over.store(true, SeqCst);
    for victim in &mut world.victims {
        victim.heal(true).await;
    }
    while let Some(ended) = ends(users.join_next()).await {
        ended.unwrap();
    }

    // After the faults, new transfers succeed and no old connection is open.
    let recovered = |public, raw: bool| async move {
        let file = DemoFile { seed: 1, size: 100_000 };
        loop {
            let got = if raw { fetch_raw(public).await } else { fetch(public, &file.path()).await };
            match got {
                Ok(got) => return assert_eq!(got, Fetched::from(if raw { RAW } else { file })),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    soon("a whole download", recovered(world.public(0), false)).await;
    soon("a whole download", recovered(world.public(1), true)).await;
    origin.when_open(0, LONG).await;
    raw.when(|counts| counts.open == 0, LONG).await;
    let (by_kills, others) = losses(&world.end().await, &killed);

    let [begun, whole, failed, wrong] = tally.numbers();
    println!("harms: {harms:?}");
    println!("{begun} transfers begun, {whole} whole, {failed} failed visibly, {wrong} silently wrong");
    println!("streams that did not finish: {by_kills} of killed proxies, others: {others:?}");
    assert_eq!(wrong, 0);
    assert_eq!(begun, whole + failed);
    assert!(failed <= by_kills + others.values().sum::<u64>(), "a failure that the log knows nothing of");
    assert!(whole >= 10 && harms.values().sum::<u32>() >= 10, "too little happened");
}
