//! Tests of the delay-based congestion controller over a simulated bottleneck, in virtual time.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    super::{
        Path,
        delay_based::{CHUNKS_PER_TARGET, MIN_RTTS_PER_TARGET},
    },
    MS,
};
use crate::mux::{config::MuxConfig, limits::CHUNK_SIZE};

/// A sender that always has data, and a path with one bottleneck.
struct SimulatedPath {
    path: Path,
    now: Instant,
    /// The rate of the bottleneck in bytes per second.
    rate: f64,
    /// The RTT without a queue.
    base_rtt: Duration,
    /// When the last byte sent so far leaves the bottleneck.
    idle_at: Instant,
    /// Answers to probes, with the time at which they arrive.
    answers: VecDeque<(Instant, u64)>,
    bytes_sent: u64,
    /// Every how many chunks one is lost, so that all after it arrive one RTT later; `None` without loss.
    loss_interval: Option<u64>,
    /// Until when the peer waits for a lost chunk.
    blocked_until: Instant,
}

impl SimulatedPath {
    fn new(rate: f64, base_rtt: Duration) -> Self {
        let now = Instant::now();
        let mut path = Path::new(&MuxConfig::default(), now);
        let token = path.send_probe(now);
        let answers = [(now + base_rtt, token)].into();
        Self {
            path,
            now,
            rate,
            base_rtt,
            idle_at: now,
            answers,
            bytes_sent: 0,
            loss_interval: None,
            blocked_until: now,
        }
    }

    fn step(&mut self) {
        self.now += MS / 20;
        while let Some(&(_, token)) = self.answers.front().filter(|(at, _)| *at <= self.now) {
            self.answers.pop_front();
            self.path.on_probe_answered(token, self.now);
        }
        loop {
            // Everything behind a lost chunk waits at the peer until TCP has retransmitted that.
            let answered_at = (self.idle_at.max(self.now) + self.base_rtt).max(self.blocked_until);
            if let Some(token) = self.path.poll_probe(self.now) {
                self.answers.push_back((answered_at, token));
                continue;
            }
            if self.path.check_cwnd_limited() {
                break;
            }
            let chunk = self.path.chunk_size();
            self.path.on_data_sent(chunk, self.now);
            self.bytes_sent += chunk as u64;
            self.idle_at = self.idle_at.max(self.now) + Duration::from_secs_f64(chunk as f64 / self.rate);
            let chunks = self.bytes_sent / chunk as u64;
            if self.loss_interval.is_some_and(|interval| chunks.is_multiple_of(interval)) {
                self.blocked_until = self.idle_at + 2 * self.base_rtt;
            }
        }
        assert!(self.path.has_output() || !self.answers.is_empty(), "no data will ever be sent again");
    }

    /// Runs for this time. Returns the fraction of the bottleneck's rate that was used, and the 90th percentile of
    /// the queueing delay.
    fn run(&mut self, time: Duration) -> (f64, Duration) {
        let (begin, before) = (self.now, self.bytes_sent);
        let mut delays = Vec::new();
        while self.now < begin + time {
            self.step();
            delays.push(self.idle_at.saturating_duration_since(self.now));
        }
        delays.sort();
        let utilization = (self.bytes_sent - before) as f64 / (self.rate * time.as_secs_f64());
        (utilization, delays[delays.len() * 9 / 10])
    }

    /// The longest queueing delay that the tests accept.
    fn max_queueing_delay(&self) -> Duration {
        let chunk = Duration::from_secs_f64(self.path.chunk_size() as f64 / self.rate);
        let target = self.path.probe_controller.target.max(self.base_rtt / MIN_RTTS_PER_TARGET);
        target.max(CHUNKS_PER_TARGET * chunk) * 7 / 4
    }
}

#[test]
fn path_is_fully_used_with_a_short_queue() {
    for (mb, base_rtt) in [(1, 5), (1, 20), (1, 100), (12, 20), (25, 20), (25, 1), (125, 10), (1250, 1)] {
        let mut sim = SimulatedPath::new(f64::from(mb) * 1e6, base_rtt * MS);
        sim.run(3000 * MS);
        let (used, delay) = sim.run(30_000 * MS);
        let max = sim.max_queueing_delay();
        println!("{mb} MB/s, RTT {base_rtt} ms: {used:.4} used, queueing delay {delay:?} of {max:?}");
        assert!(used >= 0.8 && delay <= max, "{mb} MB/s, RTT {base_rtt} ms: {used} {delay:?}");
    }
}

#[test]
fn cwnd_follows_a_rate_that_rises_and_falls() {
    let mut sim = SimulatedPath::new(2e6, 20 * MS);
    sim.run(5000 * MS);
    sim.rate = 20e6;
    sim.run(1000 * MS);
    let (used, delay) = sim.run(1000 * MS);
    assert!(used >= 0.95 && delay <= sim.max_queueing_delay(), "{used} {delay:?}");
    sim.rate = 2e6;
    sim.run(3000 * MS);
    let (used, delay) = sim.run(1000 * MS);
    assert!(used >= 0.95 && delay <= sim.max_queueing_delay(), "{used} {delay:?}");
}

/// The longer RTT of a new route looks like a queue until ProbeRtt.
#[test]
fn path_is_fully_used_again_after_its_base_rtt_rises() {
    let mut sim = SimulatedPath::new(25e6, 10 * MS);
    sim.run(5000 * MS);
    sim.base_rtt = 100 * MS;
    sim.run(15_000 * MS);
    let (used, delay) = sim.run(5000 * MS);
    assert!(used >= 0.95 && delay <= sim.base_rtt / 2, "{used} {delay:?}");
}

#[test]
fn chunk_size_follows_delivery_rate_and_loss() {
    let chunk_size = |mb: f64| {
        let mut sim = SimulatedPath::new(mb * 1e6, 5 * MS);
        sim.run(3000 * MS);
        sim.path.chunk_size()
    };
    assert_eq!(
        [0.2, 6.0, 12.0, 30.0, 100.0, 1000.0].map(chunk_size),
        [4, 4, 8, 16, 64, 64].map(|kib| kib * 1024)
    );
    let mut path = SimulatedPath::new(100e6, 5 * MS).path;
    assert_eq!(path.chunk_size(), CHUNK_SIZE, "the rate is not known yet");
    for (retransmitted, chunk) in [(1, 64), (3, 32), (6, 16), (9, 16), (10, 32), (11, 64)] {
        path.on_data_sent(100_000, Instant::now());
        path.on_retransmissions(retransmitted);
        assert_eq!(path.chunk_size(), chunk * 1024);
    }
}

/// Single bytes now and then are no load: no probe follows them, and they tell nothing about the path.
#[test]
fn application_limited_sender_sends_no_probes() {
    let mut sim = SimulatedPath::new(100e6, 5 * MS);
    for _ in 0..10_000 {
        sim.path.on_data_sent(1, sim.now);
        sim.path.on_app_limited();
        sim.now += MS;
        assert_eq!(sim.path.poll_probe(sim.now), None);
    }
    assert_eq!((sim.path.probe_controller.rate, sim.path.in_flight()), (None, 10_000));
}

#[test]
fn delivery_time_is_estimated_from_queue_and_rate() {
    let mut sim = SimulatedPath::new(10e6, 20 * MS);
    assert_eq!(sim.path.estimated_delivery(1000), None);
    sim.run(5000 * MS);
    // The queue, half an RTT, and the bytes in question: they take a tenth of a second.
    let estimated = sim.path.estimated_delivery(1_000_000).unwrap();
    let real = sim.idle_at - sim.now + sim.base_rtt / 2 + 100 * MS;
    assert!(estimated.abs_diff(real) <= 3 * MS, "{estimated:?} {real:?}");
}

/// Regression test: the delay of TCP's retransmissions was taken for a queue, and the window shrank until TCP starved.
/// On a system without `TCP_INFO`, losses still cannot be told from a queue, but must not cost the throughput.
#[test]
fn unobserved_network_path_with_losses_is_filled() {
    let mut sim = SimulatedPath::new(12.5e6, 40 * MS);
    sim.loss_interval = Some(20);
    sim.run(5000 * MS);
    let (starved, _) = sim.run(5000 * MS);
    sim.path.set_unobserved();
    sim.run(5000 * MS);
    let (used, _) = sim.run(5000 * MS);
    println!("{starved:.3} {used:.3}");
    assert!(used >= 0.9 && starved < 0.7, "{starved} {used}");
}
