//! The delay-based congestion controller: it keeps the queueing delay of a channel below a target.

use std::time::{Duration, Instant};

use super::{
    controller::CongestionController,
    delay_window::{DelayWindow, Measurement},
    probes::ProbeTracker,
    round::Round,
    rtt::RttEstimator,
    transport_sample::SEGMENT_LEN,
};
use crate::mux::{
    config::MuxConfig,
    limits::{CHUNK_SIZE, MIN_CHUNK_SIZE},
};

/// The minimum interval between probes. A shorter one would wake both sides more often without need.
const MIN_PROBE_INTERVAL: Duration = Duration::from_millis(1);

/// The minimum number of unprobed bytes for a probe while the congestion window is not full. Less data than that
/// needs no measurement, and each answer wakes both sides.
const MIN_PROBED_BYTES: u64 = 16 * 1024;

/// How many probes are sent in one RTT at most, where that makes their interval longer than [`MIN_PROBE_INTERVAL`]. A
/// long RTT need not be measured to the millisecond.
const MAX_PROBES_PER_RTT: u32 = 64;

/// A probe is due at once when the path delivers the unprobed data in one interval divided by this number. The answer
/// to a probe allows as many bytes to be sent at once as it acknowledges, and data that is sent at once is
/// acknowledged at once: with fewer probes, bursts of several milliseconds never ended.
const PROBES_PER_INTERVAL: f64 = 2.0;

/// While the congestion window is full, a probe is also due after this fraction of the window.
const PROBES_PER_CWND: u64 = 8;

/// Small messages may exceed the congestion window by this fraction of it.
const SMALL_MESSAGE_FRACTION: u64 = 8;

/// How long the minimum RTT is valid under load. After that time the controller drains the path for a moment, to
/// measure the RTT without a queue of its own (BBR's ProbeRTT).
const MIN_RTT_LIFETIME: Duration = Duration::from_secs(10);

/// How long the minimum RTT of a channel is valid while data queues although the congestion window is at its minimum.
/// Then either the bottleneck is too slow for that minimum, or the queue belongs to others or to a changed path.
/// ProbeRtt shows which.
const DOUBTFUL_MIN_RTT_LIFETIME: Duration = Duration::from_secs(1);

/// The bytes in flight during ProbeRtt, as a fraction of the bandwidth-delay product.
const PROBE_RTT_BDP_FRACTION: f64 = 0.75;

/// The target of the queueing delay is at least the minimum RTT divided by this number: a long RTT varies more.
pub(super) const MIN_RTTS_PER_TARGET: u32 = 16;

/// The delivery rate, in bytes per second, from which the CPU is taken to be the bottleneck and not the network.
const CPU_LIMITED_RATE: f64 = 134e6;

/// The minimum congestion window of an unobserved network path, in bandwidth-delay products. A lost segment delays what
/// was sent behind it by one RTT or two, which probes cannot tell from a queue: with less in flight than is delivered
/// in that time, the measured rate, and then the window, would fall with each loss. A queue of two RTTs is the price.
const UNOBSERVED_BDPS: f64 = 3.0;

/// Where the CPU is the bottleneck, the minimum congestion window is what is delivered in this time, within the
/// following two bounds.
const CPU_LIMITED_MIN_CWND_TIME: Duration = Duration::from_millis(1);

/// The lower bound, in bytes, of the minimum congestion window where the CPU is the bottleneck.
const CPU_LIMITED_MIN_CWND: u64 = 1 << 20;

/// The upper bound, in bytes, of the minimum congestion window where the CPU is the bottleneck. On loopback, 2 MiB
/// instead of 1 MiB made one download faster by a seventh; 4 MiB exceed the cache.
const CPU_LIMITED_MAX_MIN_CWND: u64 = 2 << 20;

/// The initial congestion window of a channel on a link with several channels: 50 ms of 10 Mbit/s. A faster channel
/// doubles it in every second round trip. With the 256 KiB of a single channel, half a second of a download had
/// passed before the fast channel was found.
const CONSERVATIVE_CWND: u64 = 64 * 1024;

/// How many chunks the bottleneck delivers in the target queueing delay.
pub(super) const CHUNKS_PER_TARGET: u32 = 2;

/// Controls a channel by probes alone: pings behind its data, whose answers tell the RTT and the data delivered.
///
/// It is meant for loopback, where nothing is lost and `TCP_INFO` would show nothing of a path behind a local relay. It
/// also has to do for network paths on systems without `TCP_INFO`, where it errs towards throughput: where TCP
/// retransmits a lost segment, all data behind it is delivered one RTT later, which an answer to a probe cannot tell
/// from a queue.
#[derive(Debug)]
pub(in crate::mux) struct DelayBased {
    /// The target of the queueing delay: how long data may queue on the path, from the configuration.
    pub(super) target: Duration,
    /// The chunk size that the operator has set; `None` to choose it by the delivery rate.
    pub(super) fixed_chunk_size: Option<usize>,
    /// The estimated delivery rate of the channel in bytes per second; `None` before the first estimate.
    pub(super) rate: Option<f64>,
    /// The congestion window, which follows the queueing delay.
    window: DelayWindow,
    /// Whether the controller started with [`CONSERVATIVE_CWND`], because the link has other channels. Until the rate
    /// is known, that is also the minimum window.
    is_conservative: bool,
    /// Whether the path is being drained to measure the minimum RTT.
    probe_rtt: ProbeRtt,
    /// The measurements since the last update of the congestion window.
    round: Round,
    /// The token of the first probe that was sent in the current round.
    first_token: u64,
    /// The token of the probe whose answer, or that to a later one, ends the current round; `None` in its first round
    /// trip.
    last_token: Option<u64>,
    /// Whether the channel crosses a network about which nothing but the answers to probes is known.
    is_unobserved: bool,
    /// How many times the chunk size is halved because of packet loss; at most 2.
    chunk_halvings: u32,
    /// The counters when the loss rate was last computed.
    loss_checkpoint: LossCheckpoint,
}

/// The state of ProbeRtt, in which the path is drained to measure the minimum RTT again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProbeRtt {
    /// The path is used normally.
    Inactive,
    /// The congestion window is reduced, and no data is sent until at most `max_in_flight` bytes are in flight. If a
    /// probe measures an RTT no longer than the minimum before that, ProbeRtt ends.
    Draining { max_in_flight: u64, restored_cwnd: u64 },
    /// The path is drained. The answer to `first_token` or to a later probe is the new minimum RTT; then the
    /// congestion window becomes `restored_cwnd` again.
    Measuring { first_token: u64, restored_cwnd: u64 },
}

/// The counters of a channel when its loss rate was last computed.
#[derive(Debug, Default)]
struct LossCheckpoint {
    /// Bytes of data that had been sent on the channel.
    bytes_sent: u64,
    /// TCP segments that the kernel had retransmitted on the channel.
    retransmitted_segments: u64,
}

/// The peer's answer to one probe.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProbeAck {
    /// The token of the probe. Tokens rise by one with each probe.
    pub(super) token: u64,
    /// The time from the probe to its answer.
    pub(super) rtt: Duration,
    /// Whether this RTT has become the minimum RTT.
    pub(super) is_new_min: bool,
}

/// Returns whether the CPU is the bottleneck at this delivery rate, in bytes per second.
pub(super) fn is_cpu_limited(rate: f64) -> bool {
    rate >= CPU_LIMITED_RATE
}

impl DelayBased {
    /// Creates a controller in slow start, with the initial congestion window of the configuration.
    pub(super) fn new(config: &MuxConfig, now: Instant) -> Self {
        Self {
            target: config.target_queueing_delay,
            fixed_chunk_size: config.chunk_size,
            rate: None,
            window: DelayWindow::new(config.initial_cwnd),
            is_conservative: false,
            probe_rtt: ProbeRtt::Inactive,
            round: Round::new(now),
            first_token: 1,
            last_token: None,
            is_unobserved: false,
            chunk_halvings: 0,
            loss_checkpoint: LossCheckpoint::default(),
        }
    }

    /// Starts a new round with the next probe.
    fn start_round(&mut self, probes: &ProbeTracker, now: Instant) {
        self.round = Round::new(now);
        (self.first_token, self.last_token) = (probes.last_token() + 1, None);
    }

    /// Updates the delivery rate and the congestion window at the end of a round, and begins ProbeRtt if the minimum
    /// RTT is too old.
    fn end_round(&mut self, delivered: u64, rtt: &RttEstimator, now: Instant) {
        let round = self.round;
        let Some((min_rtt, min_rtt_at)) = rtt.min_with_time() else { return };
        let Some(rate) = round.delivery_rate(delivered, now) else { return };
        let queueing_delay = round.typical_rtt().saturating_sub(min_rtt);
        let target = self.target.max(min_rtt / MIN_RTTS_PER_TARGET);
        self.rate = round.update_rate(self.rate, rate, queueing_delay > target);
        if self.probe_rtt != ProbeRtt::Inactive {
            return;
        }
        // On a slow path the smallest chunks take longer than the target.
        let chunks = f64::from(CHUNKS_PER_TARGET) * self.chunk_size() as f64 / self.rate.unwrap_or(rate);
        let target = target.max(Duration::from_secs_f64(chunks));
        let measured = Measurement { rate, min_rtt, queueing_delay, target };
        if queueing_delay <= target {
            self.window.grow(&round, measured, rate, 0);
        } else if round.max_in_flight > self.window.cwnd / 4 {
            // A window that was hardly used is not too large.
            self.window.shrink(&round, measured);
        }
        let min_cwnd = self.min_cwnd(min_rtt);
        let is_doubtful = self.window.cwnd <= min_cwnd && queueing_delay > target;
        let lifetime = if is_doubtful { DOUBTFUL_MIN_RTT_LIFETIME } else { MIN_RTT_LIFETIME };
        self.window.cwnd = self.window.cwnd.max(min_cwnd);
        if round.is_cwnd_limited && now.saturating_duration_since(min_rtt_at) >= lifetime {
            let bdp = rate * min_rtt.as_secs_f64();
            let max_in_flight = ((bdp * PROBE_RTT_BDP_FRACTION) as u64).max(self.chunk_size() as u64);
            self.probe_rtt = ProbeRtt::Draining { max_in_flight, restored_cwnd: self.window.cwnd };
            self.window.cwnd = max_in_flight.min(self.window.cwnd);
        }
    }

    /// Has the minimum congestion window hold [`UNOBSERVED_BDPS`]: the channel crosses a network that may lose
    /// segments.
    pub(super) fn set_unobserved(&mut self) {
        self.is_unobserved = true;
    }

    /// Returns the minimum congestion window. With less than a few chunks in flight a path idles, and where the CPU
    /// is the bottleneck, a smaller window makes the tasks run more often. On an unobserved network path the window
    /// never falls below a few bandwidth-delay products.
    fn min_cwnd(&self, min_rtt: Duration) -> u64 {
        let bdp = self.rate.unwrap_or(0.0) * min_rtt.as_secs_f64();
        match self.rate {
            Some(rate) if self.is_unobserved && !is_cpu_limited(rate) => {
                ((bdp * UNOBSERVED_BDPS) as u64).max(4 * self.chunk_size() as u64)
            }
            Some(rate) if is_cpu_limited(rate) => ((rate * CPU_LIMITED_MIN_CWND_TIME.as_secs_f64()) as u64)
                .clamp(CPU_LIMITED_MIN_CWND, CPU_LIMITED_MAX_MIN_CWND),
            None if self.is_conservative => CONSERVATIVE_CWND,
            _ => 4 * self.chunk_size() as u64,
        }
    }

    /// Adds the RTT to the current round, ends ProbeRtt if the RTT is the new minimum, and ends the round after its
    /// second round trip.
    pub(super) fn on_probe_acked(
        &mut self,
        ack: ProbeAck,
        probes: &ProbeTracker,
        rtt: &RttEstimator,
        now: Instant,
    ) {
        if ack.is_new_min
            && let ProbeRtt::Draining { restored_cwnd, .. } | ProbeRtt::Measuring { restored_cwnd, .. } =
                std::mem::replace(&mut self.probe_rtt, ProbeRtt::Inactive)
        {
            self.window.cwnd = restored_cwnd;
        }
        if ack.token < self.first_token {
            return;
        }
        let Some(last_token) = self.last_token else {
            self.last_token = Some(probes.last_token() + 1);
            self.round.start_measuring(probes.delivered(), now);
            return;
        };
        self.round.record_rtt(ack.rtt);
        // Once the last data is acknowledged, a pause would count as time that the path took.
        if ack.token >= last_token || (self.round.is_app_limited && probes.is_empty()) {
            self.end_round(probes.delivered(), rtt, now);
            self.start_round(probes, now);
        }
    }

    /// Updates the loss rate, and halves the chunk size where more than one segment in fifty was retransmitted: data
    /// that waits behind a chunk until its lost segments arrive waits for less.
    pub(super) fn on_retransmissions(&mut self, total_segments: u64, bytes_sent: u64) {
        let sent = bytes_sent - self.loss_checkpoint.bytes_sent;
        let retransmitted = total_segments.saturating_sub(self.loss_checkpoint.retransmitted_segments);
        if sent >= CHUNK_SIZE as u64 {
            let is_lossy = retransmitted * SEGMENT_LEN * 50 > sent;
            self.chunk_halvings = if is_lossy {
                (self.chunk_halvings + 1).min(2)
            } else {
                self.chunk_halvings.saturating_sub(1)
            };
            self.loss_checkpoint = LossCheckpoint { bytes_sent, retransmitted_segments: total_segments };
        }
    }

    /// Reduces the initial congestion window to [`CONSERVATIVE_CWND`].
    pub(super) fn start_conservatively(&mut self) {
        self.window.cwnd = self.window.cwnd.min(CONSERVATIVE_CWND);
        self.is_conservative = true;
    }

    /// Returns whether ProbeRtt is measuring and the probe was sent since the path is drained.
    pub(super) fn replaces_min_rtt(&self, token: u64) -> bool {
        matches!(self.probe_rtt, ProbeRtt::Measuring { first_token, .. } if token >= first_token)
    }
}

impl CongestionController for DelayBased {
    /// Starts a new round after a pause, and begins the measurement of ProbeRtt once the path is drained.
    fn on_data_sent(&mut self, bytes: u64, probes: &ProbeTracker, now: Instant) {
        if probes.in_flight() == 0 && self.round.is_app_limited {
            // The measurements from before the pause do not describe the data that follows.
            self.start_round(probes, now);
        }
        if let ProbeRtt::Draining { max_in_flight, restored_cwnd } = self.probe_rtt
            && probes.in_flight() <= max_in_flight
        {
            self.probe_rtt = ProbeRtt::Measuring { first_token: probes.last_token() + 1, restored_cwnd };
        }
        self.round.max_in_flight = self.round.max_in_flight.max(probes.in_flight() + bytes);
    }

    /// Marks the current round as application-limited.
    fn on_app_limited(&mut self) {
        self.round.is_app_limited = true;
    }

    /// Marks the current round as limited by the congestion window.
    fn on_cwnd_limited(&mut self) {
        self.round.is_cwnd_limited = true;
    }

    /// Returns whether the bytes without a probe behind them are as many as the path delivers in half of the probe
    /// interval, or at least a minimum after that interval.
    fn is_probe_due(&self, probes: &ProbeTracker, rtt: &RttEstimator, now: Instant) -> bool {
        let unprobed = probes.unprobed();
        let interval =
            rtt.latest().map_or(MIN_PROBE_INTERVAL, |rtt| MIN_PROBE_INTERVAL.max(rtt / MAX_PROBES_PER_RTT));
        let has_interval_passed = probes
            .newest_unanswered()
            .is_none_or(|last| now.saturating_duration_since(last.sent_at) >= interval);
        let delivered =
            self.rate.map_or(f64::MAX, |rate| rate * interval.as_secs_f64() / PROBES_PER_INTERVAL);
        // `most` unprobed bytes make a probe due at once, `least` bytes after the interval.
        let cwnd_part = self.window.cwnd / PROBES_PER_CWND;
        // A rate that the sender limits is low. Small messages far below the window would be probed one in four, and
        // each answer is a packet that wakes this side: a quarter more system calls for a request.
        let floor =
            if probes.in_flight() < self.window.cwnd / 2 { MIN_PROBED_BYTES.min(cwnd_part) } else { 0 };
        let most = (delivered as u64).max(self.chunk_size() as u64).max(floor);
        let (least, most) = if probes.in_flight() >= self.window.cwnd {
            (1, most.min(cwnd_part))
        } else {
            (MIN_PROBED_BYTES.min(cwnd_part), most)
        };
        unprobed >= most || (unprobed >= least && has_interval_passed)
    }

    /// Returns the bytes that no answer to a probe has acknowledged.
    fn in_flight(&self, probes: &ProbeTracker) -> u64 {
        probes.in_flight()
    }

    /// Returns the congestion window in bytes; reduced during ProbeRtt.
    fn cwnd(&self) -> u64 {
        self.window.cwnd
    }

    /// Returns the congestion window plus an eighth of it, in bytes.
    fn small_message_cwnd(&self) -> u64 {
        // While ProbeRtt drains the path, the extra bytes are added to the reduced window, or it would never be
        // drained.
        let cwnd = match self.probe_rtt {
            ProbeRtt::Measuring { restored_cwnd, .. } => restored_cwnd,
            ProbeRtt::Inactive | ProbeRtt::Draining { .. } => self.window.cwnd,
        };
        cwnd + cwnd / SMALL_MESSAGE_FRACTION
    }

    /// Returns the estimated delivery rate in bytes per second; `None` before the first estimate.
    fn delivery_rate(&self) -> Option<f64> {
        self.rate
    }

    /// Returns the largest payload of a DATA frame in bytes: the configured size, or a power of two that the
    /// bottleneck delivers in half of the target queueing delay at most.
    fn chunk_size(&self) -> usize {
        self.fixed_chunk_size.unwrap_or_else(|| {
            let initial = if self.is_conservative { CONSERVATIVE_CWND / 4 } else { CHUNK_SIZE as u64 };
            let most = self
                .rate
                .map_or(initial as f64, |rate| rate * (self.target / CHUNKS_PER_TARGET).as_secs_f64());
            let most = (most as usize >> self.chunk_halvings).clamp(MIN_CHUNK_SIZE, CHUNK_SIZE);
            1 << most.ilog2()
        })
    }
}
