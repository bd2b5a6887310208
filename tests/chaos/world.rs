//! The processes that faults are injected into, and the evaluation of the server's log.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{RngExt, rngs::StdRng};

use crate::{
    SECOND,
    support::{
        process::{Process, Signal, TOKEN},
        relay::{Refusal, Relay, Wire},
    },
};

/// The memory budget of the server and of each proxy, as an option and in KiB.
const MEMORY: &str = "128M";
pub const MEMORY_KIB: u64 = 128 << 10;

/// A proxy process behind its own relay.
pub struct Victim {
    pub relay: Relay,
    pub public: SocketAddr,
    target: SocketAddr,
    pub process: Process,
    /// Its name in the server's log. A restarted proxy has a new name.
    name: String,
    lives: u32,
    temporary_fault: Option<(Instant, TemporaryFault)>,
}

/// A temporary fault.
enum TemporaryFault {
    Frozen,
    Dead,
    /// All connections are lost and new ones refused.
    Away {
        _refusal: Refusal,
    },
}

impl Victim {
    async fn start(server: SocketAddr, port: u16, target: SocketAddr, name: String) -> Self {
        let relay = Relay::to(server).await;
        let mut process = Self::process(&relay, port, target, &name);
        let public = SocketAddr::new(server.ip(), process.serves().await.port);
        Self { relay, public, target, process, name, lives: 1, temporary_fault: None }
    }

    fn process(relay: &Relay, port: u16, target: SocketAddr, name: &str) -> Process {
        let (server, port, target) = (relay.addr.to_string(), port.to_string(), target.to_string());
        Process::underpass(&[
            "proxy", "--server", &server, "--port", &port, "--to", &target, "--token", TOKEN, "--name", name,
            "--memory", MEMORY,
        ])
    }

    /// Injects a random fault and returns its name, or `None` while a temporary fault lasts.
    pub async fn harm(&mut self, random: &mut StdRng, killed: &mut BTreeSet<String>) -> Option<&'static str> {
        let live = self.relay.live();
        if self.temporary_fault.is_some() || live.is_empty() {
            return None;
        }
        let wire = &live[random.random_range(0..live.len())];
        let now = Instant::now();
        // Sometimes longer than the keepalive timeout.
        let long = Duration::from_millis(if random.random_ratio(1, 10) { 11_000 } else { 800 });
        let (what, how) = match random.random_range(0..22) {
            0..4 => ("a cut", Wire::Cut),
            4..7 => ("a torn frame", Wire::Torn),
            7..9 => ("a dead wire", Wire::Dead),
            9..11 => ("a slow wire", Wire::Slow),
            11 => ("half a cut", Wire::HalfOpen),
            12..15 => ("a changed bit", Wire::Flipped { least: 0 }),
            15..18 => {
                let away = TemporaryFault::Away { _refusal: self.relay.refuse() };
                self.relay.set_all(Wire::Closed);
                self.temporary_fault =
                    Some((now + Duration::from_millis(random.random_range(0..3000)), away));
                return Some("a loss of all wires");
            }
            18..20 => {
                self.process.signal(Signal::Stop).await;
                self.temporary_fault = Some((now + long, TemporaryFault::Frozen));
                return Some("a freeze");
            }
            _ => {
                self.process.kill_9().await;
                killed.insert(self.name.clone());
                self.temporary_fault = Some((now + long / 2, TemporaryFault::Dead));
                return Some("a kill");
            }
        };
        wire.set(how);
        Some(what)
    }

    /// Ends a temporary fault whose time is up, or any of them if `all` is set.
    pub async fn heal(&mut self, all: bool) {
        if all {
            self.relay.all().iter().rev().take(2).for_each(|wire| wire.set(Wire::Up));
        }
        let now = Instant::now();
        match self.temporary_fault.take_if(|(until, _)| all || *until <= now) {
            Some((_, TemporaryFault::Frozen)) => self.process.signal(Signal::Cont).await,
            Some((_, TemporaryFault::Dead)) => {
                self.lives += 1;
                self.name = format!("{}.{}", self.name.split('.').next().unwrap(), self.lives);
                self.process = Self::process(&self.relay, self.public.port(), self.target, &self.name);
            }
            Some((_, TemporaryFault::Away { .. })) | None => {}
        }
    }
}

/// A server, and two proxies for each of two targets.
pub struct World {
    pub server: Process,
    pub victims: Vec<Victim>,
}

impl World {
    /// Starts the server with `more` arguments, and the proxies.
    pub async fn start(grace: &str, more: &[&str], targets: [SocketAddr; 2]) -> Self {
        // `losses` and the balance of the soak read the begin of each object, too.
        let args = ["--grace", grace, "--log", "info,lifecycle=debug", "--memory", MEMORY];
        let (server, addr) = Process::server(TOKEN, &[&args[..], more].concat()).await;
        let mut victims = Vec::new();
        for (target, [first, second]) in targets.into_iter().zip([["A1", "A2"], ["B1", "B2"]]) {
            victims.push(Victim::start(addr, 0, target, first.into()).await);
            let port = victims.last().unwrap().public.port();
            victims.push(Victim::start(addr, port, target, second.into()).await);
        }
        Self { server, victims }
    }

    /// Returns the public address of a target.
    pub fn public(&self, target: usize) -> SocketAddr {
        self.victims[2 * target].public
    }

    /// Shuts the server down, asserts that nothing was left, and returns its log.
    pub async fn end(mut self) -> String {
        self.server.signal(Signal::Term).await;
        let status = self.server.exit_within(20 * SECOND).await;
        let log = self.server.output();
        let tail = log.lines().rev().take(50).collect::<Vec<_>>();
        assert_eq!(status.code(), Some(0), "{tail:#?}");
        assert!(log.contains("streams aborted: 0"), "{tail:#?}");
        assert!(!log.contains("panicked"), "{:?}", log.lines().find(|line| line.contains("panicked")));
        log
    }
}

/// Counts the streams that did not finish by the server's log: those of killed proxies, and the others by reason.
pub fn losses(log: &str, killed: &BTreeSet<String>) -> (u64, BTreeMap<String, u64>) {
    let (mut names, mut proxies, mut waits) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let (mut by_kills, mut others) = (0, BTreeMap::new());
    for line in log.lines().filter_map(|line| Some(line.split_once("lifecycle: ")?.1)) {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["proxy", proxy, name, "connected", ..] => _ = names.insert(proxy, name),
            ["proxy", proxy, "lost", "its", "last", .., "for", grace, "s"] => _ = waits.insert(proxy, grace),
            ["stream", stream, "assigned", "to", "proxy", proxy] => _ = proxies.insert(stream, proxy),
            ["stream", stream, "ended:", ..] => {
                let why = line.split_once(" ended: ").unwrap().1.split(" (down").next().unwrap();
                let proxy = proxies.get(stream);
                let killed =
                    proxy.and_then(|proxy| names.get(proxy)).is_some_and(|&name| killed.contains(name));
                let grace = proxy.and_then(|proxy| waits.get(proxy));
                match (why, grace) {
                    ("finished", _) => {}
                    _ if killed => by_kills += 1,
                    // After an RST on the last channel the grace time is much shorter than after a timeout.
                    ("link to the proxy lost", Some(grace)) => {
                        *others.entry(format!("{why} for more than {grace}")).or_default() += 1;
                    }
                    _ => *others.entry(why.to_owned()).or_default() += 1,
                }
            }
            _ => {}
        }
    }
    (by_kills, others)
}
