//! Soak test: half an hour of mixed traffic during which a channel is lost each second, and the users of one address
//! never read and open more connections than the limits allow. Memory, descriptors and threads of server and proxies do
//! not grow, the processes stay within the memory budget, and the other users lose nothing.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Display,
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};
use underpass::cli::demo::{DemoFile, Sha256Sum, TrafficCounters, TransferError, download, upload};

use crate::{
    SECOND, setting,
    support::{LONG, process::Process, relay::Wire, target, within},
    world::{MEMORY_KIB, World, losses},
};

/// Rate limit in bytes per second and direction: a tenth of a core, so that the machine can be used meanwhile.
const RATE: u64 = 8_000_000;

/// Time before the first measurement, in which caches, tables and the allocator's arenas are filled.
const WARM_UP: Duration = Duration::from_secs(60);

/// The address of the users that never read.
const GREEDY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// The limits of the server, which only those users exceed.
const LIMITS: [&str; 4] = ["--max-streams-per-address", "60", "--max-connections-per-second", "30"];

/// How much memory a process may hold beyond the budget: 64 MiB.
const BEYOND_BUDGET_KIB: u64 = 64 << 10;

/// What the users transferred and saw.
#[derive(Debug, Default)]
struct Tally {
    downloads: AtomicU64,
    uploads: AtomicU64,
    requests: AtomicU64,
    pings: AtomicU64,
    connections: AtomicU64,
    failed: AtomicU64,
    traffic: TrafficCounters,
    /// Bytes that are not counted in `traffic`.
    down: AtomicU64,
    up: AtomicU64,
}

impl Tally {
    async fn ask(&self, socket: &mut BufReader<TcpStream>, words: &[u8]) -> io::Result<()> {
        self.up.fetch_add(words.len() as u64, SeqCst);
        socket.write_all(words).await
    }

    async fn line(&self, socket: &mut BufReader<TcpStream>) -> io::Result<String> {
        let mut line = String::new();
        let n = socket.read_line(&mut line).await?;
        self.down.fetch_add(n as u64, SeqCst);
        if n == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(line) }
    }

    /// Sends several requests over one connection. Wrong bytes panic; other failures are returned.
    async fn browse(&self, public: SocketAddr, random: &mut StdRng) -> io::Result<()> {
        let mut socket = BufReader::new(TcpStream::connect(public).await?);
        for _ in 0..200 {
            let file = DemoFile { seed: random.random(), size: random.random_range(1..30_000) };
            self.ask(&mut socket, format!("GET {} HTTP/1.1\r\nHost: soak\r\n\r\n", file.path()).as_bytes())
                .await?;
            while self.line(&mut socket).await? != "\r\n" {}
            let mut body = vec![0; file.size as usize];
            socket.read_exact(&mut body).await?;
            self.down.fetch_add(file.size, SeqCst);
            assert_eq!(Sha256Sum::of(&body), file.sha256());
            self.requests.fetch_add(1, SeqCst);
            tokio::time::sleep(Duration::from_millis(random.random_range(0..40))).await;
        }
        finish(socket).await
    }

    /// Sends a short message at intervals over one connection and waits for each reply.
    async fn ping(&self, public: SocketAddr, rounds: u32, over: &AtomicBool) -> io::Result<()> {
        let mut socket = BufReader::new(TcpStream::connect(public).await?);
        for _ in 0..rounds {
            self.ask(&mut socket, b"PING\n").await?;
            assert_eq!(self.line(&mut socket).await?, "PONG\n");
            self.pings.fetch_add(1, SeqCst);
            if over.load(SeqCst) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        finish(socket).await
    }

    /// Counts the result of a user's connection.
    fn count(&self, ended: Result<(), impl Display>, whole: Option<&AtomicU64>) {
        self.connections.fetch_add(1, SeqCst);
        match ended {
            Ok(()) => _ = whole.map(|count| count.fetch_add(1, SeqCst)),
            Err(error) => {
                println!("failed: {error}");
                self.failed.fetch_add(1, SeqCst);
            }
        }
    }
}

/// Panics if a transfer delivered wrong bytes; returns other results.
fn seen(ended: Result<(), TransferError>) -> Result<(), TransferError> {
    assert!(!matches!(ended, Err(TransferError::Corrupt(_))), "silently wrong: {ended:?}");
    ended
}

async fn finish(mut socket: BufReader<TcpStream>) -> io::Result<()> {
    socket.shutdown().await?;
    assert_eq!(socket.read_to_end(&mut Vec::new()).await?, 0, "more than was asked for");
    Ok(())
}

/// Opens connections from [`GREEDY`] at twice the rate that is allowed, requests a file on each and never reads it,
/// until `over` is set. Returns how many were served and how many were refused.
async fn stay_greedy(files: SocketAddr, over: Arc<AtomicBool>, mut random: StdRng) -> [u64; 2] {
    let (mut open, mut count) = (VecDeque::new(), [0, 0]);
    let mut ticks = tokio::time::interval(SECOND);
    while !over.load(SeqCst) {
        ticks.tick().await;
        for _ in 0..60 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::new(GREEDY, 0)).unwrap();
            // The RST of a refusal may arrive before `connect` returns.
            let Ok(mut user) = socket.connect(files).await else {
                count[1] += 1;
                continue;
            };
            let file = DemoFile { seed: random.random(), size: 20_000_000 };
            let request = format!("GET {} HTTP/1.1\r\nHost: soak\r\n\r\n", file.path());
            _ = user.write_all(request.as_bytes()).await;
            // Long, because each new one fills its buffers at the cost of the target's rate, which all users share.
            let leaves_at = Instant::now() + SECOND * random.random_range(60..180);
            open.push_back((leaves_at, user));
        }
        while open.front().is_some_and(|(at, _)| *at <= Instant::now()) {
            let (_, mut user) = open.pop_front().unwrap();
            // The file of one that is served may wait for a channel.
            let read = tokio::time::timeout(SECOND, user.read(&mut [0; 1])).await;
            let is_served = matches!(read, Ok(Ok(1)) | Err(_));
            count[usize::from(!is_served)] += 1;
        }
    }
    count
}

fn users(
    tally: &Arc<Tally>,
    over: &Arc<AtomicBool>,
    seed: u64,
    [files, pings]: [SocketAddr; 2],
) -> JoinSet<()> {
    let mut users = JoinSet::new();
    for user in 0..12u64 {
        let (tally, over) = (tally.clone(), over.clone());
        let mut random = StdRng::seed_from_u64(seed ^ user << 32);
        users.spawn(async move {
            while !over.load(SeqCst) {
                let file = DemoFile { seed: random.random(), size: random.random_range(1..4_000_000) };
                let does = async {
                    match user {
                        0..3 => {
                            let ended = match TcpStream::connect(files).await {
                                Ok(socket) => download(socket, file, &tally.traffic).await,
                                Err(error) => Err(TransferError::Connect(error)),
                            };
                            tally.count(seen(ended), Some(&tally.downloads));
                        }
                        3..6 => {
                            let ended = match TcpStream::connect(files).await {
                                Ok(socket) => upload(socket, file, &tally.traffic).await,
                                Err(error) => Err(TransferError::Connect(error)),
                            };
                            tally.count(seen(ended), Some(&tally.uploads));
                        }
                        6..9 => tally.count(tally.browse(files, &mut random).await, None),
                        // The last user keeps its connection for the whole run.
                        _ => {
                            let rounds = if user == 11 { u32::MAX } else { random.random_range(1..500) };
                            tally.count(tally.ping(pings, rounds, &over).await, None);
                        }
                    }
                };
                // The permanent connection ends with the others.
                if user == 11 { does.await } else { within(4 * LONG, "a user's connection ends", does).await }
            }
        });
    }
    users
}

/// Resources of a process.
#[derive(Debug, Clone, Copy)]
struct Held {
    kib: u64,
    descriptors: usize,
}

fn held(process: &Process) -> Held {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap().count();
    Held { kib: process.resident_kib().unwrap(), descriptors }
}

fn mean(samples: &[Held], of: impl Fn(&Held) -> f64) -> f64 {
    samples.iter().map(of).sum::<f64>() / samples.len() as f64
}

/// Returns pairs of figures that have to be equal: started and ended, counted by users and by the server.
fn balance(log: &str, tally: &Tally) -> [(&'static str, u64, u64); 7] {
    let count = |begins: &str, has: &str| {
        let lines = log.lines().filter_map(|line| line.split_once("lifecycle: "));
        lines.filter(|(_, line)| line.starts_with(begins) && line.contains(has)).count() as u64
    };
    // Those that never read do not know what the server has sent them.
    let (opened_by_greedy, ended_of_greedy) = (format!(" opened from {GREEDY}:"), format!(" user={GREEDY}:"));
    let sum = |direction: &str| {
        let ends = log.lines().filter(|line| line.contains(" ended: ") && !line.contains(&ended_of_greedy));
        ends.filter_map(|line| {
            line.split_once(direction)?.1.split([',', ' ', ')']).next()?.parse::<u64>().ok()
        })
        .sum::<u64>()
    };
    let opened = count("stream ", " opened from ");
    [
        ("streams", opened, count("stream ", " ended: ")),
        ("channels", count("channel ", " connected from "), count("channel ", " disconnected")),
        ("proxies", count("proxy ", " authenticated from "), count("proxy ", " disconnected")),
        ("users", count("user ", " connected to "), count("user ", " disconnected")),
        ("connections", tally.connections.load(SeqCst), opened - count("stream ", &opened_by_greedy)),
        ("bytes down", tally.traffic.bytes_read() + tally.down.load(SeqCst), sum("(down ")),
        ("bytes up", tally.traffic.bytes_written() + tally.up.load(SeqCst), sum(" up ")),
    ]
}

/// `UNDERPASS_SOAK=60 cargo test --release --test chaos -- --ignored --nocapture` takes a minute, and half an hour
/// without the variable.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half an hour"]
async fn resources_do_not_grow_in_half_an_hour() {
    let length = Duration::from_secs(setting("UNDERPASS_SOAK").unwrap_or(1800));
    let seed = setting("UNDERPASS_SEED").unwrap_or_else(rand::random);
    println!("UNDERPASS_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (origin, ping_pong) = (target::origin(RATE).await, target::ping_pong().await);
    let world = World::start("30", &LIMITS, [origin.addr, ping_pong.addr]).await;
    let (tally, over) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
    let mut users = users(&tally, &over, seed, [0, 1].map(|index| world.public(index)));
    let mut greedy = JoinSet::new();
    greedy.spawn(stay_greedy(world.public(0), over.clone(), StdRng::seed_from_u64(!seed)));

    let begin = Instant::now();
    let (mut samples, mut deaths) = (vec![Vec::new(); world.victims.len() + 1], 0);
    let mut ticks = tokio::time::interval(SECOND);
    let mut silent = VecDeque::new();
    while begin.elapsed() < length {
        tokio::select! {
            _ = ticks.tick() => {}
            Some(ended) = users.join_next() => ended.unwrap(),
        }
        let live = world.victims[random.random_range(0..world.victims.len())].relay.live();
        if !live.is_empty() {
            let wire = &live[random.random_range(0..live.len())];
            let how =
                [Wire::Cut, Wire::Torn, Wire::Closed, Wire::Dead, Wire::HalfOpen, Wire::Flipped { least: 0 }];
            wire.set(how[random.random_range(0..how.len())]);
            silent.push_back((Instant::now(), wire.clone()));
            deaths += 1;
        }
        // Both ends have closed it by then, so that the relay can drop it too.
        while silent.front().is_some_and(|(since, _)| since.elapsed() > LONG) {
            silent.pop_front().unwrap().1.set(Wire::Cut);
        }
        let processes =
            std::iter::once(&world.server).chain(world.victims.iter().map(|victim| &victim.process));
        let now: Vec<_> = processes.map(held).collect();
        let second = begin.elapsed().as_secs();
        if second.is_multiple_of(60) {
            println!("after {second} s, {deaths} deaths: {now:?}");
        }
        if begin.elapsed() > WARM_UP.min(length / 10) {
            samples.iter_mut().zip(now).for_each(|(samples, now)| samples.push(now));
        }
    }
    over.store(true, SeqCst);
    while let Some(ended) = within(4 * LONG, "the last users leave", users.join_next()).await {
        ended.unwrap();
    }
    let [served, refused] = greedy.join_next().await.unwrap().unwrap();
    println!(
        "{deaths} channels died under {tally:?}; users that never read: {served} served, {refused} refused"
    );
    origin.when_open(0, LONG).await;
    ping_pong.when(|counts| counts.open == 0, LONG).await;
    let log = world.end().await;

    let pairs = balance(&log, &tally);
    println!("{pairs:?}");
    println!("streams that did not finish: {:?}", losses(&log, &BTreeSet::new()).1);
    let mut flat = true;
    for (index, samples) in samples.iter().enumerate() {
        let third = samples.len() / 3;
        // In the first third the histories of ended streams, refusals and failures fill up.
        let (middle, last) = (&samples[third..2 * third], &samples[samples.len() - third..]);
        let [before, after] = [middle, last].map(|third| mean(third, |held| held.kib as f64));
        let [open, still] = [middle, last].map(|third| mean(third, |held| held.descriptors as f64));
        let grown = (after / before - 1.0) * 100.0;
        let who = if index == 0 { "server".to_owned() } else { format!("proxy {index}") };
        println!(
            "{who}: {before:.0} KiB, then {after:.0} ({grown:+.2} %); {open:.2} descriptors, then {still:.2}"
        );
        flat &= grown.abs() < 5.0 && (still - open).abs() < 5.0;
        let most = samples.iter().map(|held| held.kib).max().unwrap();
        assert!(most <= MEMORY_KIB + BEYOND_BUDGET_KIB, "{who}: {most} KiB");
    }
    assert!(served > 0 && refused > served, "{served} served, {refused} refused");
    assert_eq!(tally.failed.load(SeqCst), 0, "a transfer failed although no process was killed");
    for (what, begun, ended) in pairs {
        assert_eq!(begun, ended, "{what}");
    }
    assert!(flat, "not flat");
}
