//! Scripts generated from a seed: participants, their transfers, and the faults.

use std::{net::Ipv4Addr, time::Duration};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use underpass::{cli::demo::DemoFile, ids::Priority};

use crate::{
    support::relay::Wire,
    users::{Break, Exchange, Transfer},
};

/// The participants of a simulation and its faults.
#[derive(Debug)]
pub struct Script {
    pub seed: u64,
    /// Whether none of its faults may end a stream.
    pub gentle: bool,
    /// Threads of the runtime: with 1, concurrent tasks are interleaved; with 2, they run in parallel.
    pub threads: usize,
    /// Grace time for proxies without a channel.
    pub grace: Duration,
    /// Time for which users wait for a proxy.
    pub wait: Duration,
    /// Initial window of a stream in bytes.
    pub window: u32,
    pub proxies: Vec<Seat>,
    /// Users, each with its consecutive transfers.
    pub users: Vec<Vec<Transfer>>,
    /// Faults in their order, each with the share of all bytes after whose transfer it happens.
    pub acts: Vec<(f64, Act)>,
}

/// Configuration of one proxy.
#[derive(Debug, Clone, Copy)]
pub struct Seat {
    /// Index of its service: 0 serves files over HTTP, 1 exchanges.
    pub service: usize,
    pub channels: u16,
    /// Whether it uses the text format, which has neither checksums nor resumption.
    pub text: bool,
}

/// A fault. It affects the proxy with the given index, or a stream selected by a number modulo the number of streams.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// Sets the state of one connection, counted from the latest.
    One(usize, usize, Wire),
    /// Sets the state of all connections at once.
    All(usize, Wire),
    /// Stalls all connections for this long without an error.
    Partition(usize, Duration),
    /// Closes all connections and refuses new ones for this long.
    Outage(usize, Duration),
    /// Stalls one connection for ever.
    Silence(usize),
    /// Blocks a thread.
    Freeze(Duration),
    /// The proxy crashes, and a new one starts after this long.
    Crash(usize, Duration),
    /// The proxy shuts down in order, and a new one starts after this long.
    Stop(usize, Duration),
    /// The server shuts down, and a new one starts on its port.
    Restart,
    Kill(usize),
    KillUser(usize),
    Kick(usize),
    Drain(usize, Duration),
    Pause(usize, Duration),
    Prefer(usize, Priority),
    Limit(usize, Duration),
}

impl Act {
    pub const NAMES: [&str; 21] = [
        "cut",
        "closed",
        "torn",
        "half-open",
        "slow",
        "flipped",
        "all cut",
        "all closed",
        "all torn",
        "partition",
        "outage",
        "silence",
        "freeze",
        "crash",
        "stop",
        "restart",
        "kill",
        "kick",
        "drain",
        "pause",
        "limit",
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::One(_, _, Wire::Cut) => "cut",
            Self::One(_, _, Wire::Closed) => "closed",
            Self::One(_, _, Wire::Torn) => "torn",
            Self::One(_, _, Wire::Slow) => "slow",
            Self::One(_, _, Wire::Flipped { .. }) => "flipped",
            Self::One(..) => "another wire",
            Self::All(_, Wire::Cut) => "all cut",
            Self::All(_, Wire::Closed) => "all closed",
            Self::All(_, Wire::Torn) => "all torn",
            Self::All(_, Wire::HalfOpen) => "half-open",
            Self::All(..) => "other wires",
            Self::Partition(..) => "partition",
            Self::Outage(..) => "outage",
            Self::Silence(_) => "silence",
            Self::Freeze(_) => "freeze",
            Self::Crash(..) => "crash",
            Self::Stop(..) => "stop",
            Self::Restart => "restart",
            Self::Kill(_) => "kill",
            Self::KillUser(_) => "kill user",
            Self::Kick(_) => "kick",
            Self::Drain(..) => "drain",
            Self::Pause(..) => "pause",
            Self::Prefer(..) => "prefer",
            Self::Limit(..) => "limit",
        }
    }
}

impl Script {
    pub fn of(seed: u64) -> Self {
        let random = &mut StdRng::seed_from_u64(seed);
        let gentle = seed.is_multiple_of(3);
        let proxies: Vec<_> = (0..random.random_range(2..=4))
            .map(|index| Seat {
                service: index % 2,
                channels: random.random_range(1..=3),
                text: random.random_ratio(1, 6),
            })
            .collect();
        let users = (0..random.random_range(2..=4))
            .map(|_| (0..random.random_range(2..=4)).map(|_| transfer(random)).collect())
            .collect();
        let mut acts: Vec<(f64, Act)> = (0..random.random_range(3..=7))
            .map(|_| (random.random_range(0.0..0.9), act(random, gentle, &proxies)))
            .collect();
        if seed % 50 == 49 && !proxies[0].text {
            acts.push((random.random_range(0.0..0.5), Act::Silence(0)));
        }
        acts.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        // In a gentle script the grace time must outlast any load on the machine; otherwise it may expire.
        let graces = if gentle { 20_000..20_001 } else { 50..600 };
        Self {
            seed,
            gentle,
            threads: random.random_range(1..=2),
            grace: millis(random, graces),
            wait: Duration::from_millis(if gentle { 20_000 } else { 300 }),
            window: (16 * 1024) << random.random_range(0..5),
            proxies,
            users,
            acts,
        }
    }

    /// Returns a loopback address that no other running seed uses. A late user could otherwise reach the service of
    /// another seed on the port that it knew.
    pub fn address(&self) -> Ipv4Addr {
        let [.., a, b, c] = self.seed.to_be_bytes();
        Ipv4Addr::new(127, 64 + a % 64, b, c)
    }

    /// Returns the bytes of all users in both directions.
    pub fn bytes(&self) -> u64 {
        self.users.iter().flatten().map(Transfer::bytes).sum()
    }
}

fn millis(random: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.random_range(range))
}

fn file(random: &mut StdRng) -> DemoFile {
    // Empty and tiny files have their own edge cases.
    let most = *[1, 100, 20_000, 150_000, 300_000, 400_000].get(random.random_range(0..6)).unwrap();
    DemoFile { seed: random.next_u64(), size: random.random_range(0..=most) }
}

fn transfer(random: &mut StdRng) -> Transfer {
    match random.random_range(0..10) {
        0..3 => Transfer::Download(file(random)),
        3..5 => Transfer::Upload(file(random)),
        kind => {
            let (up, down) = (file(random), file(random));
            let breaks = match kind {
                5 => Some(Break::ByUser(random.random_range(0..=up.size))),
                6 => Some(Break::ByTarget(random.random_range(0..=down.size))),
                _ => None,
            };
            Transfer::Exchange(Exchange { up, down, duplex: random.random(), breaks })
        }
    }
}

fn act(random: &mut StdRng, gentle: bool, proxies: &[Seat]) -> Act {
    let victim = random.random_range(0..proxies.len());
    let stream = random.random_range(0..1000);
    let wire = random.random_range(0..3);
    let text = proxies[victim].text;
    let kinds = if gentle { 13 } else { 22 };
    match random.random_range(0..kinds) {
        // The loss of its channel ends the streams of a text proxy.
        0..8 if gentle && text => Act::One(victim, 0, Wire::Slow),
        0 => Act::One(victim, wire, Wire::Cut),
        1 => Act::One(victim, wire, Wire::Closed),
        2 => Act::One(victim, wire, Wire::Torn),
        // The text format has no checksums to detect it.
        3 if text => Act::One(victim, wire, Wire::Torn),
        // Longer than any message of the handshake: a corrupted reply could tell a proxy that its link is unknown.
        3 => Act::One(victim, wire, Wire::Flipped { least: 300 }),
        4 => Act::All(victim, Wire::Cut),
        5 => Act::All(victim, if random.random() { Wire::Closed } else { Wire::Torn }),
        // The keepalive timeout of a text proxy is a minute.
        6 if text => Act::All(victim, Wire::Cut),
        6 => Act::All(victim, Wire::HalfOpen),
        7 => Act::Outage(victim, millis(random, if gentle { 1..300 } else { 1..900 })),
        8 => Act::One(victim, wire, Wire::Slow),
        9 => Act::Partition(victim, millis(random, 1..300)),
        10 => Act::Freeze(millis(random, 20..200)),
        11 => Act::Pause(stream, millis(random, 1..200)),
        12 => match random.random_range(0..3) {
            0 => Act::Prefer(stream, if random.random() { Priority::Urgent } else { Priority::Background }),
            1 => Act::Limit(stream, millis(random, 1..200)),
            _ => Act::Drain(victim, millis(random, 1..200)),
        },
        13..15 => Act::Crash(victim, millis(random, 1..300)),
        15 => Act::Stop(victim, millis(random, 1..300)),
        16 => Act::Restart,
        17..19 => Act::Kill(stream),
        19 => Act::KillUser(stream),
        _ => Act::Kick(victim),
    }
}
