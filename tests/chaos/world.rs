//! The processes that harm is done to, and what the server's log says of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{RngExt, rngs::StdRng};

use crate::{
    SECOND,
    support::{
        process::{Process, Signal},
        relay::{Refusal, Relay, Wire},
    },
};

const TOKEN: &str = "a-token-of-the-tests";

/// A real proxy process behind a wire of its own.
pub struct Victim {
    pub relay: Relay,
    pub public: SocketAddr,
    target: SocketAddr,
    pub process: Process,
    /// What the server's log calls it. One that is started anew is another.
    name: String,
    lives: u32,
    ill: Option<(Instant, Ill)>,
}

/// What a proxy comes back from by itself, after a while.
enum Ill {
    Frozen,
    Dead,
    /// It has lost all wires, and gets no new one.
    Away {
        _refusal: Refusal,
    },
}

impl Victim {
    async fn start(server: SocketAddr, port: u16, target: SocketAddr, name: String) -> Self {
        let relay = Relay::to(server).await;
        let mut process = Self::process(&relay, port, target, &name);
        let line = process.line("serving ").await;
        let service = line.split("serving ").nth(1).unwrap().split(':').next().unwrap();
        let public = SocketAddr::new(server.ip(), service.parse().unwrap());
        Self { relay, public, target, process, name, lives: 1, ill: None }
    }

    fn process(relay: &Relay, port: u16, target: SocketAddr, name: &str) -> Process {
        let (server, port, target) = (relay.addr.to_string(), port.to_string(), target.to_string());
        Process::underpass(&[
            "proxy", "--server", &server, "--port", &port, "--to", &target, "--token", TOKEN, "--name", name,
        ])
    }

    /// Does it some harm; what. One that is ill already is let be.
    pub async fn harm(&mut self, random: &mut StdRng, killed: &mut BTreeSet<String>) -> Option<&'static str> {
        let live = self.relay.live();
        if self.ill.is_some() || live.is_empty() {
            return None;
        }
        let wire = &live[random.random_range(0..live.len())];
        let now = Instant::now();
        // Long enough to be taken for dead, now and then.
        let long = Duration::from_millis(if random.random_ratio(1, 10) { 11_000 } else { 800 });
        let (what, how) = match random.random_range(0..22) {
            0..4 => ("a cut", Wire::Cut),
            4..7 => ("a torn frame", Wire::Torn),
            7..9 => ("a dead wire", Wire::Dead),
            9..11 => ("a slow wire", Wire::Slow),
            11 => ("half a cut", Wire::HalfOpen),
            12..15 => ("a changed bit", Wire::Flipped { least: 0 }),
            15..18 => {
                let away = Ill::Away { _refusal: self.relay.refuse() };
                self.relay.set_all(Wire::Closed);
                self.ill = Some((now + Duration::from_millis(random.random_range(0..3000)), away));
                return Some("a loss of all wires");
            }
            18..20 => {
                self.process.signal(Signal::Stop).await;
                self.ill = Some((now + long, Ill::Frozen));
                return Some("a freeze");
            }
            _ => {
                self.process.kill_9().await;
                killed.insert(self.name.clone());
                self.ill = Some((now + long / 2, Ill::Dead));
                return Some("a kill");
            }
        };
        wire.set(how);
        Some(what)
    }

    /// Lets it go on where its time is up, or at once if `all` is well again.
    pub async fn heal(&mut self, all: bool) {
        if all {
            self.relay.all().iter().rev().take(2).for_each(|wire| wire.set(Wire::Up));
        }
        let now = Instant::now();
        match self.ill.take_if(|(until, _)| all || *until <= now) {
            Some((_, Ill::Frozen)) => self.process.signal(Signal::Cont).await,
            Some((_, Ill::Dead)) => {
                self.lives += 1;
                self.name = format!("{}.{}", self.name.split('.').next().unwrap(), self.lives);
                self.process = Self::process(&self.relay, self.public.port(), self.target, &self.name);
            }
            Some((_, Ill::Away { .. })) | None => {}
        }
    }
}

/// A server, and two proxies for each of two targets.
pub struct World {
    pub server: Process,
    pub victims: Vec<Victim>,
}

impl World {
    pub async fn start(grace: &str, targets: [SocketAddr; 2]) -> Self {
        let mut server = Process::underpass(&[
            "server",
            "--listen",
            "127.0.0.1:0",
            "--bind",
            "127.0.0.1",
            "--no-tui",
            "--token",
            TOKEN,
            "--grace",
            grace,
        ]);
        let line = server.line("listening for proxies on").await;
        let addr: SocketAddr = line.rsplit(' ').next().unwrap().parse().unwrap();
        let mut victims = Vec::new();
        for (target, [first, second]) in targets.into_iter().zip([["A1", "A2"], ["B1", "B2"]]) {
            victims.push(Victim::start(addr, 0, target, first.into()).await);
            let port = victims.last().unwrap().public.port();
            victims.push(Victim::start(addr, port, target, second.into()).await);
        }
        Self { server, victims }
    }

    /// Where the users of a target go.
    pub fn public(&self, target: usize) -> SocketAddr {
        self.victims[2 * target].public
    }

    /// Ends the server, in which nothing may be left, and gives its log.
    pub async fn end(mut self) -> String {
        self.server.signal(Signal::Term).await;
        let status = self.server.exit_within(20 * SECOND).await;
        let log = self.server.output();
        let tail = log.lines().rev().take(50).collect::<Vec<_>>();
        assert_eq!(status.code(), Some(0), "{tail:#?}");
        assert!(log.contains("streams cut off: 0"), "{tail:#?}");
        assert!(!log.contains("panicked"), "{:?}", log.lines().find(|line| line.contains("panicked")));
        log
    }
}

/// Why streams did not finish, as the server's log has it, and how many: first those whose proxy was killed.
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
                    // A reset of the last channel is taken for a death much sooner than silence is.
                    ("proxy link lost", Some(grace)) => {
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
