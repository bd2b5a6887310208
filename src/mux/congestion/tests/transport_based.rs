//! Tests of the controller that uses the kernel's view of a connection, over a simulated TCP path with losses.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use super::{
    super::{Path, TransportSample},
    MS,
};
use crate::mux::config::MuxConfig;

/// The payload of a TCP segment in bytes.
const SEGMENT: u64 = 1448;

/// The bytes that the socket accepts beyond what the kernel has sent.
const NOTSENT_LOWAT: u64 = 16 * 1024;

/// How the simulated kernel limits the bytes in flight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kernel {
    /// Like BBR: slow start up to twice the bandwidth-delay product, whatever is lost.
    Bbr,
    /// Like Reno: slow start up to the first loss, then one segment more in each RTT, and half after a loss.
    Reno,
}

/// A segment in flight.
struct Segment {
    /// When the sender learns of its arrival, or of its loss.
    answered_at: Instant,
    sent_at: Instant,
    is_lost: bool,
}

/// A sender over a TCP connection whose path has one bottleneck, a queue that drops, and random losses.
pub(super) struct SimulatedTcp {
    pub(super) path: Path,
    pub(super) now: Instant,
    kernel: Kernel,
    /// The rate of the bottleneck in bytes per second.
    pub(super) rate: f64,
    pub(super) base_rtt: Duration,
    /// The share of segments that are lost.
    pub(super) loss: f64,
    /// The longest time for which a segment may queue.
    max_queue: Duration,
    /// How long other connections make every segment queue.
    foreign_queue: Duration,
    /// Every acknowledgement is late by up to this time, at random: radio links and busy hosts.
    jitter: Duration,
    /// When the last byte sent so far leaves the bottleneck.
    pub(super) idle_at: Instant,
    segments: VecDeque<Segment>,
    cwnd: f64,
    is_in_slow_start: bool,
    /// Losses of segments sent before this time do not reduce the window again.
    reduced_at: Instant,
    unsent: u64,
    sample: TransportSample,
    rng: SmallRng,
    /// Whether the congestion window of the controller holds data back, or only that of the kernel.
    is_controlled: bool,
    /// How often the kernel drains the path to measure its minimum RTT, for 200 ms and an RTT; zero for never.
    probe_rtt_interval: Duration,
    begin: Instant,
}

impl SimulatedTcp {
    pub(super) fn new(kernel: Kernel, mbit: f64, base_rtt: Duration, loss: f64) -> Self {
        let now = Instant::now();
        Self {
            path: Path::new(&MuxConfig::default(), now),
            now,
            kernel,
            rate: mbit * 1e6 / 8.0,
            base_rtt,
            loss,
            max_queue: 50 * MS,
            foreign_queue: Duration::ZERO,
            jitter: Duration::ZERO,
            idle_at: now,
            segments: VecDeque::new(),
            cwnd: 10.0 * SEGMENT as f64,
            is_in_slow_start: true,
            reduced_at: now,
            unsent: 0,
            sample: TransportSample { rtt: base_rtt, ..TransportSample::default() },
            rng: SmallRng::seed_from_u64(1),
            is_controlled: true,
            probe_rtt_interval: Duration::ZERO,
            begin: now,
        }
    }

    /// Has other segments lost.
    pub(super) fn with_seed(mut self, seed: u64) -> Self {
        self.rng = SmallRng::seed_from_u64(seed);
        self
    }

    /// Begins at this time instead of the present.
    pub(super) fn starting_at(mut self, now: Instant) -> Self {
        self.path = Path::new(&MuxConfig::default(), now);
        (self.now, self.idle_at, self.reduced_at, self.begin) = (now, now, now, now);
        self
    }

    /// What the simulated kernel reports.
    pub(super) fn sample(&self) -> TransportSample {
        self.sample
    }

    /// Processes the answers that have arrived.
    fn receive(&mut self) {
        while self.segments.front().is_some_and(|segment| segment.answered_at <= self.now) {
            let Some(segment) = self.segments.pop_front() else { return };
            if segment.is_lost {
                self.unsent += SEGMENT;
                self.sample.retransmitted_segments += 1;
                self.sample.is_recovering = true;
                if self.kernel == Kernel::Reno && segment.sent_at >= self.reduced_at {
                    self.cwnd = (self.cwnd / 2.0).max(4.0 * SEGMENT as f64);
                    (self.reduced_at, self.is_in_slow_start) = (self.now, false);
                }
                continue;
            }
            let rtt = segment.answered_at - segment.sent_at;
            self.sample.rtt = (self.sample.rtt * 7 + rtt) / 8;
            self.sample.delivered += SEGMENT;
            self.cwnd +=
                if self.is_in_slow_start { SEGMENT as f64 } else { (SEGMENT * SEGMENT) as f64 / self.cwnd };
            if self.kernel == Kernel::Bbr {
                self.cwnd =
                    self.cwnd.min(2.0 * self.rate * self.base_rtt.as_secs_f64() + 10.0 * SEGMENT as f64);
            }
        }
    }

    /// The kernel's congestion window, in bytes.
    fn cwnd(&self) -> f64 {
        let interval = self.probe_rtt_interval.as_nanos();
        let phase = if interval > 0 { (self.now - self.begin).as_nanos() % interval } else { 0 };
        let is_draining =
            self.now - self.begin > self.probe_rtt_interval && phase < (200 * MS + self.base_rtt).as_nanos();
        if interval > 0 && is_draining { self.cwnd.min(4.0 * SEGMENT as f64) } else { self.cwnd }
    }

    /// Sends what the kernel's congestion window admits.
    fn send(&mut self) {
        while self.unsent > 0 && ((self.segments.len() as u64 + 1) * SEGMENT) as f64 <= self.cwnd() {
            self.unsent = self.unsent.saturating_sub(SEGMENT);
            let begin = self.idle_at.max(self.now);
            let is_dropped = begin - self.now > self.max_queue;
            if !is_dropped {
                self.idle_at = begin + Duration::from_secs_f64(SEGMENT as f64 / self.rate);
            }
            let jitter = self.jitter.mul_f64(self.rng.random_range(0.0..=1.0));
            let arrival = self.idle_at + self.base_rtt + self.foreign_queue + jitter;
            let last = self.segments.back().map_or(arrival, |last| last.answered_at);
            self.segments.push_back(Segment {
                answered_at: arrival.max(last),
                sent_at: self.now,
                is_lost: is_dropped || self.rng.random_bool(self.loss),
            });
            self.sample.sent_segments += 1;
        }
    }

    /// Runs one millisecond of a sender that has data for the whole time.
    pub(super) fn step(&mut self) {
        for _ in 0..10 {
            self.now += MS / 10;
            self.receive();
            self.send();
        }
        self.report();
        while self.unsent < NOTSENT_LOWAT && !(self.path.check_cwnd_limited() && self.is_controlled) {
            let chunk = self.path.chunk_size();
            self.path.on_data_sent(chunk, self.now);
            self.unsent += chunk as u64;
            self.send();
            self.report();
        }
    }

    /// Runs without data to send, as while the receiver grants no credit.
    fn pause(&mut self, time: Duration) {
        let begin = self.now;
        while self.now < begin + time {
            self.now += MS;
            self.receive();
            self.send();
            self.report();
            self.path.on_app_limited();
        }
    }

    fn report(&mut self) {
        self.sample.in_flight = self.segments.len() as u64 * SEGMENT;
        self.sample.cwnd_used = self.sample.in_flight;
        (self.sample.unsent, self.sample.cwnd) = (self.unsent, self.cwnd() as u64);
        self.path.on_transport_sample(self.sample, self.now);
    }

    /// Runs for this time. Returns the fraction of the bottleneck's rate that was used, and the 99th percentile of the
    /// queueing delay.
    fn run(&mut self, time: Duration) -> (f64, Duration) {
        let (utilization, delays) = self.run_measured(time);
        (utilization, delays[delays.len() * 99 / 100])
    }

    /// Runs for this time. Returns the fraction of the bottleneck's rate that was used, and the queueing delay of each
    /// millisecond in ascending order.
    fn run_measured(&mut self, time: Duration) -> (f64, Vec<Duration>) {
        let (begin, before) = (self.now, self.sample.delivered);
        let mut delays = Vec::new();
        while self.now < begin + time {
            self.step();
            delays.push(self.idle_at.saturating_duration_since(self.now));
        }
        delays.sort();
        let utilization = (self.sample.delivered - before) as f64 / (self.rate * time.as_secs_f64());
        (utilization, delays)
    }

    /// Exchanges single segments for this time, as an interactive stream does. The peer delays its acknowledgements.
    fn run_interactive(&mut self, time: Duration) {
        let begin = self.now;
        while self.now < begin + time {
            self.path.on_data_sent(64, self.now);
            self.path.on_app_limited();
            self.now += self.base_rtt;
            self.sample.sent_segments += 1;
            self.sample.delivered += SEGMENT;
            self.sample.rtt = (self.sample.rtt * 7 + self.base_rtt + 40 * MS) / 8;
            self.report();
        }
        self.idle_at = self.now;
    }
}

/// The paths of the measurements: Mbit/s, RTT in milliseconds.
pub(super) const PATHS: [(f64, u32); 4] = [(20.0, 100), (100.0, 40), (300.0, 10), (50.0, 200)];

#[test]
fn path_is_filled_with_a_short_queue_whatever_is_lost() {
    for (mbit, rtt) in PATHS {
        for loss in [0.0, 0.001, 0.005, 0.01, 0.03] {
            let mut sim = SimulatedTcp::new(Kernel::Bbr, mbit, rtt * MS, loss);
            let mut kernel = SimulatedTcp::new(Kernel::Bbr, mbit, rtt * MS, loss);
            kernel.is_controlled = false;
            let ((first, _), (kernels, _)) = (sim.run(10_000 * MS), kernel.run(10_000 * MS));
            let (used, delay) = sim.run(20_000 * MS);
            println!("{mbit} Mbit/s {rtt} ms loss {loss}: {first:.3} of {kernels:.3} {used:.3} {delay:?}");
            assert!(used >= 0.97 * (1.0 - loss), "{mbit} Mbit/s, {rtt} ms, loss {loss}: {used} used");
            assert!(
                first >= 0.97 * kernels,
                "{mbit} Mbit/s, {rtt} ms, loss {loss}: {first} of {kernels} in the first ten seconds"
            );
            assert!(
                delay <= 15 * MS + rtt * MS / 64,
                "{mbit} Mbit/s, {rtt} ms, loss {loss}: queueing delay {delay:?}"
            );
            assert!(!sim.path.is_kernel_bound(), "{mbit} Mbit/s, {rtt} ms, loss {loss}: the path is full");
        }
    }
}

/// Delayed acknowledgements of an interactive stream look like a queue, and must not make the download after them slow.
#[test]
fn download_after_interactive_traffic_starts_as_fast() {
    for (mbit, rtt) in PATHS {
        let [used, kernels] = [true, false].map(|is_controlled| {
            let mut sim = SimulatedTcp::new(Kernel::Bbr, mbit, rtt * MS, 0.0);
            sim.is_controlled = is_controlled;
            sim.run_interactive(3000 * MS);
            sim.run(10_000 * MS).0
        });
        println!("{mbit} Mbit/s {rtt} ms: {used:.3} of {kernels:.3}");
        assert!(used >= 0.92 * kernels, "{mbit} Mbit/s, {rtt} ms: {used} of {kernels}");
    }
}

/// With a kernel that halves its window at each loss, the controller must not make it worse.
#[test]
fn window_of_the_kernel_is_used_where_losses_limit_it() {
    for loss in [0.001, 0.01] {
        let mut sim = SimulatedTcp::new(Kernel::Reno, 100.0, 40 * MS, loss);
        let (used, _) = sim.run(30_000 * MS);
        // The rate of Reno: 1.22 segments per RTT over the square root of the loss rate (Mathis et al., 1997).
        let reno = 1.22 * SEGMENT as f64 / 0.04 / loss.sqrt() / sim.rate;
        println!("loss {loss}: {used:.3} of {reno:.3}");
        assert!(used >= reno * 0.8 && sim.path.is_network(), "loss {loss}: {used} of {reno}");
        assert!(sim.path.is_kernel_bound(), "loss {loss}: more channels would carry more");
    }
}

#[test]
fn window_follows_a_rate_that_rises_and_falls() {
    let mut sim = SimulatedTcp::new(Kernel::Bbr, 20.0, 40 * MS, 0.001);
    sim.run(5000 * MS);
    sim.rate *= 10.0;
    sim.run(2000 * MS);
    let (used, delay) = sim.run(2000 * MS);
    println!("{used:.3} {delay:?}");
    assert!(used >= 0.95 && delay <= 15 * MS, "risen: {used} {delay:?}");
    sim.rate /= 10.0;
    sim.run(8000 * MS);
    let (used, delay) = sim.run(2000 * MS);
    println!("{used:.3} {delay:?}");
    assert!(used >= 0.95 && delay <= 15 * MS, "fallen: {used} {delay:?}");
}

/// The longer RTT of a new route looks like a queue, until the minimum RTT is measured again.
#[test]
fn path_is_filled_again_after_its_rtt_rises() {
    let mut sim = SimulatedTcp::new(Kernel::Bbr, 100.0, 20 * MS, 0.0);
    sim.run(5000 * MS);
    sim.base_rtt = 80 * MS;
    sim.run(20_000 * MS);
    let (used, _) = sim.run(5000 * MS);
    println!("{used:.3}");
    assert!(used >= 0.9, "{used}");
}

/// Beside connections that keep the queue full, a window that follows the delay alone would shrink to its minimum.
#[test]
fn channel_competes_with_connections_that_fill_the_queue() {
    let mut sim = SimulatedTcp::new(Kernel::Bbr, 50.0, 40 * MS, 0.0);
    sim.run(5000 * MS);
    sim.foreign_queue = 60 * MS;
    sim.run(5000 * MS);
    let (used, _) = sim.run(20_000 * MS);
    println!("{used:.3}");
    assert!(used >= 0.7, "{used}");
    sim.foreign_queue = Duration::ZERO;
    sim.run(70_000 * MS);
    let (used, delay) = sim.run(10_000 * MS);
    println!("{used:.3} {delay:?}");
    assert!(used >= 0.95 && delay <= 15 * MS, "alone again: {used} {delay:?}");
}

/// Regression test: after a download that was limited by the reader, the window was far below what the path holds, and
/// a busy host delayed acknowledgements by more than half of the target. It took more than ten seconds to grow.
#[test]
fn window_grows_on_a_busy_host() {
    for (mbit, rtt) in PATHS {
        let mut sim = SimulatedTcp::new(Kernel::Bbr, mbit / 5.0, rtt * MS, 0.001);
        sim.run(5000 * MS);
        sim.rate *= 5.0;
        sim.jitter = 9 * MS;
        sim.run(20 * rtt * MS + 2000 * MS);
        let (used, _) = sim.run(5000 * MS);
        println!("{mbit} Mbit/s {rtt} ms: {used:.3}");
        assert!(used >= 0.4, "{mbit} Mbit/s, {rtt} ms: {used}");
    }
}

/// Acknowledgements that are late for other reasons than a queue must not make the window shrink for ever.
#[test]
fn path_with_jitter_is_filled() {
    for (mbit, rtt) in PATHS {
        let mut sim = SimulatedTcp::new(Kernel::Bbr, mbit, rtt * MS, 0.001);
        sim.run(3000 * MS);
        sim.jitter = (rtt * MS / 4).min(15 * MS);
        let (used, _) = sim.run(20_000 * MS);
        println!("{mbit} Mbit/s {rtt} ms: {used:.3}");
        assert!(used >= 0.8, "{mbit} Mbit/s, {rtt} ms: {used}");
    }
}

/// Regression test: a window that had shrunk to its minimum on a slow path never had as many segments in flight as a
/// round was measured with. It stayed there for ever.
#[test]
fn window_grows_from_its_minimum_when_a_slow_path_becomes_fast() {
    let mut sim = SimulatedTcp::new(Kernel::Bbr, 0.5, 40 * MS, 0.0);
    sim.run(10_000 * MS);
    sim.rate *= 100.0;
    sim.run(5000 * MS);
    let (used, delay) = sim.run(2000 * MS);
    println!("{used:.3} {delay:?}");
    assert!(used >= 0.9, "{used} {delay:?}");
}

/// Regression test: BBR drains the path every ten seconds, and the controller then sent its whole window at once, took
/// the queue of that for that of another connection, and grew far beyond what the path holds.
#[test]
fn queue_stays_short_after_the_kernel_has_drained_the_path() {
    for (mbit, rtt) in PATHS {
        let mut sim = SimulatedTcp::new(Kernel::Bbr, mbit, rtt * MS, 0.0);
        sim.probe_rtt_interval = 10_000 * MS;
        sim.max_queue = 100 * MS;
        sim.run(4000 * MS);
        let (used, delays) = sim.run_measured(60_000 * MS);
        let max = delays[delays.len() - 1];
        println!("{mbit} Mbit/s {rtt} ms: {used:.3} {max:?}");
        assert!(used >= 0.9, "{mbit} Mbit/s, {rtt} ms: {used} used");
        assert!(max <= 14 * MS + rtt * MS / 20, "{mbit} Mbit/s, {rtt} ms: queueing delay {max:?}");
    }
}

/// A receiver grants credit for a whole window at once, after a lost segment that all data had waited for has arrived.
#[test]
fn window_is_not_sent_at_once_after_a_pause() {
    for (mbit, rtt) in PATHS {
        let mut sim = SimulatedTcp::new(Kernel::Bbr, mbit, rtt * MS, 0.0);
        sim.max_queue = 100 * MS;
        sim.run(8000 * MS);
        sim.pause(2 * rtt * MS);
        // The first answers arrive after an RTT.
        sim.run(rtt * MS / 2);
        let (used, delays) = sim.run_measured(4000 * MS);
        let max = delays[delays.len() - 1];
        println!("{mbit} Mbit/s {rtt} ms: {used:.3} {max:?}");
        assert!(used >= 0.95, "{mbit} Mbit/s, {rtt} ms: {used} used");
        assert!(max <= 16 * MS + rtt * MS / 16, "{mbit} Mbit/s, {rtt} ms: queueing delay {max:?}");
    }
}
