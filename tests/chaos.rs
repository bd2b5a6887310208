//! Real processes, real curls, and wires between them that are cut, torn, delayed and dead, and that change what they
//! carry, while proxies are killed and frozen at random. What a user gets is whole, or an error that it can see; nothing
//! hangs, and nothing is left.
//!
//! A run takes twenty seconds. `UNDERPASS_CHAOS=600 cargo test --test chaos` takes ten minutes, and
//! `UNDERPASS_SEED=7` repeats the faults of a seed, though not their moments.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};
use support::{
    LONG,
    client::{Fetched, fetch},
    process::{Process, Signal},
    relay::{Relay, Wire},
    soon,
    target::{self, OriginTarget, Target},
};
use tokio::{io::AsyncReadExt, net::TcpStream, task::JoinSet};
use underpass::cli::demo::{Checksum, File};

const TOKEN: &str = "a-token-of-the-tests";
const SECOND: Duration = Duration::from_secs(1);

/// What the raw service sends to everybody who comes: there is no length, so only the end tells that it was all.
const RAW: File = File { seed: 77, size: 3_000_000 };

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A real proxy process behind a wire of its own.
struct Victim {
    relay: Relay,
    public: SocketAddr,
    target: SocketAddr,
    process: Process,
    /// When it comes back from what was done to it.
    frozen: Option<Instant>,
    dead: Option<Instant>,
}

impl Victim {
    async fn start(server: SocketAddr, port: u16, target: SocketAddr) -> Self {
        let relay = Relay::to(server).await;
        let mut process = Self::process(&relay, port, target);
        let line = process.line("serving ").await;
        let service = line.split("serving ").nth(1).unwrap().split(':').next().unwrap();
        let public = SocketAddr::new(server.ip(), service.parse().unwrap());
        Self { relay, public, target, process, frozen: None, dead: None }
    }

    fn process(relay: &Relay, port: u16, target: SocketAddr) -> Process {
        let (server, port, target) = (relay.addr.to_string(), port.to_string(), target.to_string());
        Process::underpass(&[
            "proxy", "--server", &server, "--port", &port, "--to", &target, "--token", TOKEN,
        ])
    }

    /// Does it some harm; what.
    async fn harm(&mut self, random: &mut StdRng) -> &'static str {
        if self.frozen.is_some() || self.dead.is_some() {
            return "nothing";
        }
        let wires = self.relay.all();
        let wire = |random: &mut StdRng| &wires[wires.len() - 1 - random.random_range(0..wires.len().min(2))];
        let now = Instant::now();
        // Long enough to be taken for dead, now and then.
        let long = Duration::from_millis(if random.random_ratio(1, 10) { 11_000 } else { 800 });
        match random.random_range(0..19) {
            0..4 => {
                wire(random).set(Wire::Cut);
                "a cut"
            }
            4..7 => {
                wire(random).set(Wire::Torn);
                "a torn frame"
            }
            7..9 => {
                wire(random).set(Wire::Dead);
                "a dead wire"
            }
            9..11 => {
                wire(random).set(Wire::Slow);
                "a slow wire"
            }
            11 => {
                wires.iter().for_each(|wire| wire.set(Wire::Cut));
                "a cut of all wires"
            }
            12..15 => {
                wire(random).set(Wire::Flipped { least: 0 });
                "a changed bit"
            }
            15..17 => {
                self.process.signal(Signal::Stop).await;
                self.frozen = Some(now + long);
                "a freeze"
            }
            _ => {
                self.process.kill_9().await;
                self.dead = Some(now + long / 2);
                "a kill"
            }
        }
    }

    /// Lets it go on where its time is up, or at once if `all` is well again.
    async fn heal(&mut self, all: bool) {
        let now = Instant::now();
        for wire in self.relay.all().iter().rev().take(2).filter(|_| all) {
            wire.set(Wire::Up);
        }
        if self.frozen.take_if(|until| all || *until <= now).is_some() {
            self.process.signal(Signal::Cont).await;
        }
        if self.dead.take_if(|until| all || *until <= now).is_some() {
            self.process = Self::process(&self.relay, self.public.port(), self.target);
        }
    }
}

/// What became of the downloads.
#[derive(Debug, Default)]
struct Tally {
    begun: AtomicU64,
    whole: AtomicU64,
    failed: AtomicU64,
    wrong: AtomicU64,
}

impl Tally {
    fn count(&self, got: Result<Fetched, String>, file: File) {
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

/// Everything until the connection ends; a clean end means that it was all.
async fn fetch_raw(public: SocketAddr) -> Result<Fetched, String> {
    let mut socket = TcpStream::connect(public).await.map_err(|error| error.to_string())?;
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match socket.read(&mut buffer).await {
            Ok(0) => return Ok(Fetched { length, sha256: Checksum(hash.finalize().into()) }),
            Ok(n) => {
                hash.update(&buffer[..n]);
                length += n as u64;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

struct World {
    server: Process,
    victims: Vec<Victim>,
    origin: OriginTarget,
    raw: Target,
}

impl World {
    async fn start() -> Self {
        let args = ["server", "--listen", "127.0.0.1:0", "--bind", "127.0.0.1", "--no-tui", "--token", TOKEN];
        let mut server = Process::underpass(&args);
        let line = server.line("listening for proxies on").await;
        let addr: SocketAddr = line.rsplit(' ').next().unwrap().parse().unwrap();
        let origin = target::origin(20_000_000).await;
        let raw = target::send(RAW).await;
        let mut victims = Vec::new();
        for target in [origin.addr, raw.addr] {
            let first = Victim::start(addr, 0, target).await;
            let port = first.public.port();
            victims.push(first);
            victims.push(Victim::start(addr, port, target).await);
        }
        Self { server, victims, origin, raw }
    }

    fn users(&self, tally: &Arc<Tally>, over: &Arc<AtomicBool>, seed: u64) -> JoinSet<()> {
        let mut users = JoinSet::new();
        for user in 0..8u64 {
            let public = self.victims[if user < 5 { 0 } else { 2 }].public;
            let (tally, over) = (tally.clone(), over.clone());
            let mut random = StdRng::seed_from_u64(seed ^ user << 32);
            users.spawn(async move {
                while !over.load(SeqCst) {
                    tally.begun.fetch_add(1, SeqCst);
                    if user < 5 {
                        let file = File { seed: random.next_u64(), size: random.random_range(1..3_000_000) };
                        tally.count(soon("a curl ends", fetch(public, &file.path())).await, file);
                    } else {
                        tally.count(soon("a download ends", fetch_raw(public)).await, RAW);
                    }
                }
            });
        }
        users
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_gets_is_whole_or_an_error() {
    let length = Duration::from_secs(setting("UNDERPASS_CHAOS").unwrap_or(20));
    let seed = setting("UNDERPASS_SEED").unwrap_or_else(rand::random);
    println!("UNDERPASS_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::start().await;
    let (tally, over) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
    let mut users = world.users(&tally, &over, seed);

    let begin = Instant::now();
    let mut harms = std::collections::BTreeMap::<_, u32>::new();
    while begin.elapsed() < length {
        let victim = random.random_range(0..world.victims.len());
        *harms.entry(world.victims[victim].harm(&mut random).await).or_default() += 1;
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
    while let Some(ended) = soon("the last downloads end", users.join_next()).await {
        ended.unwrap();
    }
    let [begun, whole, failed, wrong] = tally.numbers();
    println!("harms: {harms:?}");
    println!("{begun} downloads begun, {whole} whole, {failed} failed visibly, {wrong} silently wrong");
    assert_eq!(wrong, 0);
    assert_eq!(begun, whole + failed);
    assert!(whole >= 10 && harms.values().sum::<u32>() >= 10, "too little happened");

    // All is well again, and nothing of what was is left.
    let recovered = |public, raw: bool| async move {
        let file = File { seed: 1, size: 100_000 };
        loop {
            let got = if raw { fetch_raw(public).await } else { fetch(public, &file.path()).await };
            match got {
                Ok(got) => return assert_eq!(got, Fetched::from(if raw { RAW } else { file })),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    soon("a whole download", recovered(world.victims[0].public, false)).await;
    soon("a whole download", recovered(world.victims[2].public, true)).await;
    world.origin.when_open(0, LONG).await;
    world.raw.when(|counts| counts.open == 0, LONG).await;
    world.server.signal(Signal::Term).await;
    let status = world.server.exit_within(20 * SECOND).await;
    assert_eq!(status.code(), Some(0), "{}", world.server.output());
    assert!(world.server.output().contains("0 streams were cut off"), "{}", world.server.output());
    assert!(!world.server.output().contains("panicked"), "{}", world.server.output());
}
