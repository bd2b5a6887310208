//! The cockpit with synthetic traffic: a real telemetry hub and command queue without a tunnel behind them, to look at
//! the screens and to measure frames: `cargo run --release --example cockpit -- [STREAMS] [PROXIES]`.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use tracing_subscriber::{Layer, filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt};
use underpass::{
    control::{self, Command, CommandError, Executed},
    ids::{ChannelId, Group, ProxyId, ServiceKey, StreamKey, UserChannelId},
    telemetry::{
        ChannelFormat, ChannelGuard, DisconnectReason, EndReason, EventKind, LogRing, ProxyGuard,
        StreamGuard, StreamPhase, Telemetry, UserGuard,
    },
    tui,
};

/// A synthetic stream: it transfers `size` bytes at about `rate` bytes per second.
struct SyntheticStream {
    guard: StreamGuard,
    size: u64,
    rate: u64,
    upload: bool,
    born: Instant,
}

/// A xorshift generator with a fixed seed, so that runs differ only by the clock.
struct Dice(u64);

impl Dice {
    /// Returns a number below `below`.
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below.max(1)
    }
}

fn main() -> Result<(), tui::Error> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>().unwrap_or(0));
    let (streams, proxies) = (args.next().unwrap_or(24), args.next().unwrap_or(4));
    let log = LogRing::new();
    tracing_subscriber::registry()
        .with(tui::LogLayer::new(log.clone()).with_filter(LevelFilter::INFO))
        .init();
    let telemetry = Telemetry::new();
    let (control, requests) = control::command_queue();
    let stop = Arc::new(AtomicBool::new(false));
    let drain = Arc::new(AtomicBool::new(false));
    let feeder = {
        let (telemetry, stop, drain) = (telemetry.clone(), stop.clone(), drain.clone());
        thread::spawn(move || feed(&telemetry, requests, &stop, &drain, streams, proxies))
    };
    let exit = tui::run(tui::Options {
        source: Box::new(tui::InProcessSource::new(telemetry, control, log)),
        labels: tui::Labels {
            role: tui::Role::Server,
            title: "synthetic".into(),
            listen: "127.0.0.1:7000".into(),
            join: Some(
                "underpass proxy --server 203.0.113.1:7000 --port 8080 --to 127.0.0.1:80 --token 5f1c".into(),
            ),
            secret: Some("5f1c".into()),
            curl: (proxies > 0).then(|| "curl -O http://127.0.0.1:8080/big.iso".into()),
            drain: None,
            ..tui::Labels::default()
        },
        settings: tui::Settings::default(),
        ignored_signals: Vec::new(),
        stop: stop.clone(),
        on_drain: Some(Box::new(move || match std::env::var("COCKPIT_PANIC").as_deref() {
            Ok("ui") => panic!("asked for"),
            Ok("task") => drop(thread::spawn(|| panic!("asked for, elsewhere"))),
            _ => drain.store(true, SeqCst),
        })),
    });
    stop.store(true, SeqCst);
    let left = feeder.join().unwrap_or_default();
    println!("{exit:?}, {left} streams were open");
    exit.map(drop)
}

/// Opens, feeds and ends streams until `stop` is set, and executes kill commands. Returns how many streams were open.
fn feed(
    telemetry: &Arc<Telemetry>,
    mut requests: tokio::sync::mpsc::Receiver<control::CommandRequest>,
    stop: &AtomicBool,
    drain: &AtomicBool,
    wanted: u64,
    proxy_count: u64,
) -> usize {
    const NAMES: [&str; 6] = ["edge-fra", "edge-ams", "edge-lon", "lab", "office-nas", "old-edge"];
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let addr = |n: u64, port: u64| SocketAddr::from((Ipv4Addr::new(203, 0, 113, n as u8), port as u16));
    telemetry.emit(EventKind::Listening { addr: addr(1, 7000) });
    let service = telemetry.service_opened(ServiceKey { port: 8080, group: Group::default() });
    let ssh = telemetry.service_opened(ServiceKey { port: 2222, group: "ssh".parse().unwrap_or_default() });
    let mut proxies: Vec<(ProxyGuard, Vec<ChannelGuard>)> = (0..proxy_count)
        .map(|i| {
            let id = ProxyId(i as u32 + 1);
            let name = NAMES.get(i as usize).map_or(format!("proxy-{i}"), ToString::to_string);
            let guard = telemetry.proxy_up(id, name, addr(100 + i % 100, 40_000 + i));
            guard.registered(if i % 4 == 3 { ssh.stats().key.clone() } else { service.stats().key.clone() });
            let channels = (1..=2 + (i % 2) * 2)
                .map(|index| {
                    telemetry.channel_up(
                        ChannelId { proxy: id, index: index as u16 },
                        addr(9, 1),
                        ChannelFormat::Binary,
                    )
                })
                .collect();
            (guard, channels)
        })
        .collect();
    let mut users: HashMap<UserChannelId, (UserGuard, u32)> = HashMap::new();
    let mut open: Vec<SyntheticStream> = Vec::new();
    let mut last = Instant::now();
    let start = last;
    while !stop.load(SeqCst) {
        thread::sleep(Duration::from_millis(20));
        let elapsed = last.elapsed().as_secs_f64();
        last = Instant::now();
        let draining = drain.load(SeqCst);
        let target = if draining || proxies.is_empty() { 0 } else { wanted };
        for _ in 0..(target.saturating_sub(open.len() as u64)).min(1 + wanted / 20) {
            let id = UserChannelId::new(0x3F9A1C ^ ((dice.roll(wanted / 3 + 2) as u32) * 0x01_9D37));
            let (user, next) = users.entry(id).or_insert_with(|| {
                let service = if dice.roll(5) == 0 { &ssh } else { &service };
                (telemetry.user_joined(id, addr(dice.roll(250), 0).ip(), service.stats()), 1)
            });
            let from = SocketAddr::new(user.stats().addr, 30_000 + dice.roll(30_000) as u16);
            let guard = telemetry.stream_opened(StreamKey::new(id, *next), from, user.stats());
            *next += 1;
            let (proxy, channels) =
                &proxies[(dice.roll(proxies.len() as u64 * 3) % proxies.len() as u64) as usize];
            let channel = &channels[dice.roll(channels.len() as u64) as usize];
            guard.assigned(proxy.stats(), channel.stats());
            let upload = dice.roll(6) == 0;
            let size = 1 << (18 + dice.roll(11));
            if !upload && dice.roll(4) > 0 {
                guard.stats().set_total_size(size);
            }
            open.push(SyntheticStream { guard, size, rate: 1 << (11 + dice.roll(13)), upload, born: last });
        }
        let mut index = 0;
        while index < open.len() {
            let stream = &mut open[index];
            if stream.born.elapsed() < Duration::from_millis(150) {
                index += 1;
                continue;
            }
            let stats = stream.guard.stats();
            if stats.phase() == StreamPhase::Opening {
                stats.set_phase(if dice.roll(3) == 0 { StreamPhase::UserDone } else { StreamPhase::Open });
                stats.add_up(120 + dice.roll(400));
            }
            let jitter = 0.6 + dice.roll(80) as f64 / 100.0;
            let bytes = (stream.rate as f64 * elapsed * jitter) as u64;
            if stream.upload {
                stats.add_up(bytes);
            } else {
                stats.add_down(bytes.min(stream.size - stats.traffic.down().min(stream.size)));
            }
            let done = stats.traffic.down().max(stats.traffic.up()) >= stream.size;
            if done || dice.roll(400_000) < 100_000 / wanted.max(1_000) {
                let reason = match dice.roll(if done { 1 } else { 5 }) {
                    0 => EndReason::Finished,
                    1 => EndReason::TargetSocketError,
                    2 => EndReason::TargetConnectFailed("connection refused".into()),
                    _ => EndReason::UserSocketError,
                };
                open.swap_remove(index).guard.end(reason);
            } else {
                index += 1;
            }
        }
        while let Ok(request) = requests.try_recv() {
            let before = open.len();
            let hit = |key: StreamKey| match &request.command {
                Command::KillStream(wanted) => *wanted == key,
                Command::KillUser(user) => *user == key.user,
                // The other commands need a real tunnel.
                _ => false,
            };
            let (dead, alive): (Vec<_>, Vec<_>) =
                open.drain(..).partition(|stream| hit(stream.guard.stats().key));
            open = alive;
            dead.into_iter().for_each(|stream| stream.guard.end(EndReason::Killed));
            let streams = before - open.len();
            // The sender may have stopped waiting for the reply.
            _ = request.reply.send(if streams > 0 {
                Ok(Executed { affected_streams: streams })
            } else {
                Err(CommandError::NotFound)
            });
        }
        if proxies.len() > 3 && start.elapsed() > Duration::from_secs(6) {
            let (guard, _) = proxies.remove(2);
            guard.set_reason(DisconnectReason::KeepaliveTimeout);
        }
        if draining && open.is_empty() {
            stop.store(true, SeqCst);
        }
    }
    open.len()
}
