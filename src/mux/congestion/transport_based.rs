//! The congestion controller of channels whose kernel reports its view of the connection (`TCP_INFO`).

use std::time::{Duration, Instant};

use super::{
    controller::CongestionController,
    delay_based::{DelayBased, is_cpu_limited},
    delay_window::{DelayWindow, Measurement, typical_delay},
    foreign_delay::ForeignDelay,
    kernel_drain::KernelDrain,
    other_flows::OtherFlows,
    pacer::Pacer,
    probes::ProbeTracker,
    round::Round,
    rtt::RttEstimator,
    slow_start::{self, SlowStart},
    transport_sample::{LossEstimator, SEGMENT_LEN, TransportSample},
    upward_probe::UpwardProbe,
};
use crate::mux::limits::{CHUNK_SIZE, MIN_CHUNK_SIZE};

/// The shortest target of the queueing delay. The timer delays the wake-up of the driver by up to two milliseconds,
/// which must not leave the path idle, and on a busy host acknowledgements are late by as much: with four milliseconds,
/// that alone kept a window from growing.
const MIN_TARGET: Duration = Duration::from_millis(6);

/// The longest target of the queueing delay. Three quarters of it queue all the time beside a download, and a ping should
/// take no more than 8 ms beyond the RTT.
const MAX_TARGET: Duration = Duration::from_millis(7);

/// The target of the queueing delay is the minimum RTT divided by this number, within the two bounds: a long RTT varies
/// more.
const RTTS_PER_TARGET: u32 = 16;

/// With a longer queueing delay, lost segments are taken for dropped by a full queue.
const QUEUE_LOSS_DELAY: Duration = Duration::from_millis(20);

/// How many rounds the window is kept after slow start: while the losses of its overshoot are repaired, the queue
/// drains and less is delivered than the path can.
const SETTLING_ROUNDS: u32 = 2;

/// After as many rounds in which the kernel alone held data back it is taken to be slower than the path.
const KERNEL_BOUND_ROUNDS: u32 = 3;

/// How long the minimum RTT is valid under load. Longer than BBR's ten seconds: where the kernel uses BBR, it drains
/// the path by itself, which is as good.
const MIN_RTT_LIFETIME: Duration = Duration::from_secs(15);

/// How many round trips the path is drained to measure the minimum RTT. The kernel's smoothed RTT follows within one.
const PROBE_RTT_ROUNDS: u32 = 3;

/// The bytes in flight while the path is drained, as a share of the bandwidth-delay product.
const PROBE_RTT_BDP_FRACTION: f64 = 0.9;

/// An RTT within this share of the minimum confirms it.
const CONFIRMING_RTT: f64 = 1.02;

/// The minimum congestion window, in segments of the path.
const MIN_CWND_SEGMENTS: u64 = 8;

/// With fewer segments in flight, the channel is no cause of a queue, and its RTT includes delayed acknowledgements (up
/// to 40 ms) rather than a queue.
const MIN_CONTROLLED_SEGMENTS: u64 = 16;

/// The minimum congestion window, in bytes, where the CPU is the bottleneck.
const CPU_LIMITED_MIN_CWND: u64 = 2 << 20;

/// How long data may take through the bottleneck at most in one frame: urgent data waits for it.
const CHUNK_TIME: Duration = Duration::from_millis(1);

/// Small messages may exceed the congestion window by this fraction of it.
const SMALL_MESSAGE_FRACTION: u64 = 8;

/// The chunk size, in bytes, before the first estimate of the rate.
const INITIAL_CHUNK: usize = 16 * 1024;

/// The minimum interval between probes.
const MIN_PROBE_INTERVAL: Duration = Duration::from_millis(20);

/// Limits the bytes that a channel's TCP connection has on the network, so that the queue of the bottleneck stays short
/// while TCP fills the path.
///
/// Probes cannot tell a queue from a loss: a lost segment delays all data behind it by an RTT until it is
/// retransmitted. A window that shrinks because of that starves TCP, and on a path of 100 Mbit/s, 40 ms and 1 % loss
/// one download had 6 Mbit/s instead of 90. The kernel knows better: selective acknowledgements give the RTT and the
/// bytes in flight whether or not segments are missing. Its own congestion control reacts to losses; this controller
/// only keeps it from filling the queue, which BBR (two bandwidth-delay products) and CUBIC (up to the first loss) do.
#[derive(Debug)]
pub(in crate::mux) struct TransportBased {
    /// The configured lower bound of the target of the queueing delay.
    configured_target: Duration,
    /// The chunk size that the operator has set; `None` to choose it by the delivery rate.
    fixed_chunk_size: Option<usize>,
    /// What the kernel last reported.
    sample: TransportSample,
    /// Bytes of data that had been sent on the channel when `sample` was taken.
    sent_before: u64,
    /// The estimated delivery rate of the channel in bytes per second; `None` before the first estimate.
    rate: Option<f64>,
    /// The congestion window, which follows the queueing delay.
    window: DelayWindow,
    /// For how many more rounds the window is kept after slow start.
    settling_rounds: u32,
    /// In how many rounds in a row the kernel alone held data back.
    kernel_bound_rounds: u32,
    /// Whether the kernel's slow start has filled the path.
    slow_start: SlowStart,
    /// Spreads the window over a round trip after a pause; used after slow start.
    pacer: Pacer,
    /// The delivery rate, in bytes per second, that the path has had lately without a long queue, with what the other
    /// channels of the link delivered; zero before the first.
    known_rate: f64,
    /// The minimum RTT, and when it was last measured.
    min_rtt: Option<(Duration, Instant)>,
    /// While the path is drained to measure the minimum RTT: until when, the window from before, and the lowest RTT so
    /// far.
    drain: Option<Drain>,
    /// Whether the kernel drains the path.
    kernel_drain: KernelDrain,
    /// The measurements since the last update of the congestion window.
    round: Round,
    /// When the current round began; `None` once its second round trip has begun.
    round_started_at: Option<Instant>,
    /// The part of the queueing delay that is not caused by this channel.
    foreign_delay: ForeignDelay,
    /// Whether a larger window is being tried.
    upward_probe: UpwardProbe,
    /// The other channels of the link that carry bulk data.
    others: OtherFlows,
    /// The loss rate of the connection.
    loss: LossEstimator,
    /// Until when retransmissions are taken for those of a full queue; `None` before the first queue.
    queue_losses_until: Option<Instant>,
}

/// A drain of the path, to measure the minimum RTT.
#[derive(Debug, Clone, Copy)]
struct Drain {
    /// When the drain ends.
    until: Instant,
    /// The congestion window before it.
    restored_cwnd: u64,
    /// The lowest RTT since its second round trip began.
    lowest: Option<Duration>,
    /// When its second round trip begins, in which the RTT is that of the drained path.
    measured_from: Instant,
}

impl TransportBased {
    /// Creates a controller in slow start, with the configuration of the one that it replaces: until data queues, only
    /// the kernel limits the bytes in flight.
    pub(super) fn new(replaced: &DelayBased, now: Instant) -> Self {
        Self {
            configured_target: replaced.target,
            fixed_chunk_size: replaced.fixed_chunk_size,
            sample: TransportSample::default(),
            sent_before: 0,
            rate: None,
            window: DelayWindow::new(UNLIMITED),
            settling_rounds: 0,
            kernel_bound_rounds: 0,
            slow_start: SlowStart::default(),
            pacer: Pacer::default(),
            known_rate: 0.0,
            min_rtt: None,
            drain: None,
            kernel_drain: KernelDrain::default(),
            round: Round::new(now),
            round_started_at: Some(now),
            foreign_delay: ForeignDelay::default(),
            upward_probe: UpwardProbe::default(),
            others: OtherFlows::default(),
            loss: LossEstimator::default(),
            queue_losses_until: None,
        }
    }

    /// Returns what the kernel last reported.
    pub(super) fn last_sample(&self) -> TransportSample {
        self.sample
    }

    /// Returns the minimum RTT of the connection; `None` before the first sample.
    pub(super) fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt.map(|(min_rtt, _)| min_rtt)
    }

    /// Returns the smoothed RTT of the connection; `None` before the first sample.
    pub(super) fn latest_rtt(&self) -> Option<Duration> {
        (!self.sample.rtt.is_zero()).then_some(self.sample.rtt)
    }

    /// Returns the share of recently sent segments that were retransmissions, from 0 to 1; `None` before enough
    /// segments were sent.
    pub(super) fn loss_rate(&self) -> Option<f64> {
        self.loss.rate()
    }

    /// Returns whether the kernel's slow start has not filled the path yet.
    pub(super) fn is_in_slow_start(&self) -> bool {
        self.window.is_in_slow_start()
    }

    /// Returns whether segments that are retransmitted now are taken for those that a full queue has dropped.
    pub(super) fn has_queue_losses(&self, now: Instant) -> bool {
        self.queue_losses_until.is_some_and(|until| now < until)
    }

    /// Returns whether the kernel is repairing a loss: data sent now is delivered after the missing segment.
    pub(super) fn is_recovering(&self) -> bool {
        self.sample.is_recovering
    }

    /// Returns how many bytes of the kernel's congestion window are in use or about to be.
    pub(super) fn kernel_cwnd_used(&self, probes: &ProbeTracker) -> u64 {
        self.sample.cwnd_used + self.sample.unsent + (probes.sent() - self.sent_before)
    }

    /// Sets what the other channels of the link do that carry bulk data. All share the growth of one, so that a link
    /// with many channels does not get many times as much of the bottleneck as one with few (coupled congestion
    /// control, RFC 6356).
    pub(super) fn set_other_flows(&mut self, others: OtherFlows) {
        self.others = others;
    }

    /// Returns whether the kernel's congestion control has been slower than the path for [`KERNEL_BOUND_ROUNDS`].
    pub(super) fn is_kernel_bound(&self) -> bool {
        self.kernel_bound_rounds >= KERNEL_BOUND_ROUNDS
    }

    /// Counts the rounds in which neither the sender, nor this controller, nor the path held data back: then the
    /// kernel's window did, which does not grow as fast as in slow start either.
    fn count_kernel_bound_rounds(&mut self, rate: f64, rate_before: Option<f64>, is_queue_short: bool) {
        let has_grown = rate_before.is_none_or(|before| rate > before * slow_start::GAIN);
        if self.round.is_app_limited {
            return;
        }
        self.kernel_bound_rounds = if self.round.is_cwnd_limited || !is_queue_short || has_grown {
            // One round after a loss grows like slow start.
            self.kernel_bound_rounds.saturating_sub(2)
        } else {
            (self.kernel_bound_rounds + 1).min(2 * KERNEL_BOUND_ROUNDS)
        };
    }

    /// Returns whether the kernel's congestion window holds data back while the bottleneck has a short queue.
    pub(super) fn is_transport_limited(&self) -> bool {
        let Some(min_rtt) = self.min_rtt() else { return false };
        let is_queue_short = self.sample.rtt.saturating_sub(min_rtt) <= self.target(min_rtt);
        is_queue_short && self.sample.unsent > 0 && self.sample.cwnd_used + SEGMENT_LEN >= self.sample.cwnd
    }

    /// Returns whether data has to wait for another report although the window is not full, because a pause is over and
    /// the whole window would be sent at once. Where the CPU is the bottleneck, the window is larger than the path
    /// needs.
    pub(super) fn is_pacing_limited(&self) -> bool {
        !self.window.is_in_slow_start() && self.pacer.is_limited() && !self.rate.is_some_and(is_cpu_limited)
    }

    /// Returns how long data may queue at the bottleneck.
    fn target(&self, min_rtt: Duration) -> Duration {
        self.configured_target.max((min_rtt / RTTS_PER_TARGET).clamp(MIN_TARGET, MAX_TARGET))
    }

    /// Records what the kernel reports at `now`, when `sent` bytes of data had been handed out on the channel, and
    /// updates the congestion window at the end of each round.
    pub(super) fn on_sample(&mut self, sample: TransportSample, sent: u64, now: Instant) {
        (self.sample, self.sent_before) = (sample, sent);
        if sample.rtt.is_zero() {
            return;
        }
        self.update_min_rtt(sample.rtt, now);
        let Some(min_rtt) = self.min_rtt() else { return };
        if sample.rtt.saturating_sub(min_rtt) > QUEUE_LOSS_DELAY {
            // Segments that were dropped meanwhile are retransmitted for some round trips.
            self.queue_losses_until = Some(now + 3 * sample.rtt);
        }
        self.loss.update(&sample, self.has_queue_losses(now));
        if !self.window.is_in_slow_start() {
            self.pacer.update(self.window.cwnd, min_rtt + typical_delay(self.target(min_rtt)), now);
            if self.kernel_drain.is_running(&sample, self.window.cwnd, now) {
                // What is measured meanwhile says nothing about the path.
                self.pacer.hold(sample.unsent);
                return self.start_round(now);
            }
        }
        match self.round_started_at {
            // With few segments in flight, there is nothing to measure yet.
            Some(started_at) if now.saturating_duration_since(started_at) >= sample.rtt => {
                // A small window allows no more: one that was never measured would never grow again.
                let most = self.window.cwnd / 4 * 3;
                if sample.in_flight >= most.min(MIN_CONTROLLED_SEGMENTS * SEGMENT_LEN) {
                    self.round.start_measuring(sample.delivered, now);
                    self.round_started_at = None;
                } else {
                    self.start_round(now);
                }
            }
            Some(_) => {}
            None => {
                self.round.record_rtt(sample.rtt);
                if now.saturating_duration_since(self.round.measured_since) >= sample.rtt {
                    self.end_round(min_rtt, now);
                    self.start_round(now);
                }
            }
        }
    }

    /// Records an RTT: a lower one is the new minimum, one as low confirms it, and after a drain of the path the lowest
    /// since then replaces it.
    fn update_min_rtt(&mut self, rtt: Duration, now: Instant) {
        match &mut self.min_rtt {
            Some((min, at)) if rtt > *min => {
                if rtt <= min.mul_f64(CONFIRMING_RTT) {
                    *at = now;
                }
            }
            min => *min = Some((rtt, now)),
        }
        let Some(probe) = &mut self.drain else { return };
        let is_confirmed = self.min_rtt.is_some_and(|(_, at)| at == now);
        if now >= probe.measured_from {
            probe.lowest = Some(probe.lowest.map_or(rtt, |lowest| lowest.min(rtt)));
        }
        if is_confirmed || now >= probe.until {
            self.window.cwnd = probe.restored_cwnd;
            self.pacer.hold(self.sample.unsent);
            // Without data since the path was drained, the kernel's smoothed RTT is still that from before.
            if let Some(lowest) = probe.lowest.filter(|_| !is_confirmed) {
                self.min_rtt = Some((lowest, now));
                self.foreign_delay = ForeignDelay::default();
            }
            self.drain = None;
            self.start_round(now);
        }
    }

    /// Starts a new round.
    fn start_round(&mut self, now: Instant) {
        self.round = Round::new(now);
        self.round_started_at = Some(now);
    }

    /// Limits the window for the first time: the kernel's slow start has filled the path, which delivers `rate` bytes
    /// per second.
    fn leave_slow_start(&mut self, rate: f64, min_rtt: Duration) {
        let cwnd = (rate * (min_rtt + self.target(min_rtt)).as_secs_f64()) as u64;
        self.window.leave_slow_start(cwnd.max(self.min_cwnd()));
        self.settling_rounds = SETTLING_ROUNDS;
        self.known_rate = rate + self.others.rate;
    }

    /// Updates the delivery rate and the congestion window at the end of a round.
    fn end_round(&mut self, min_rtt: Duration, now: Instant) {
        let round = self.round;
        let Some(rate) = round.delivery_rate(self.sample.delivered, now) else { return };
        let delay = round.typical_rtt().saturating_sub(min_rtt);
        let target = self.target(min_rtt);
        self.count_kernel_bound_rounds(rate, self.rate, delay <= target);
        self.rate = round.update_rate(self.rate, rate, delay > target);
        if self.drain.is_some() {
            return;
        }
        if self.window.is_in_slow_start() {
            if let Some(rate) = self.slow_start.on_round(&round, rate, self.others.rate, min_rtt) {
                self.leave_slow_start(rate, min_rtt);
            }
            return;
        }
        if self.settling_rounds > 0 {
            self.settling_rounds -= 1;
            return;
        }
        // A window that was hardly used is no cause of a queue.
        let was_used = !round.is_app_limited || round.max_in_flight > self.window.cwnd / 4;
        if !was_used {
            return;
        }
        let used = self.window.cwnd.min(round.max_in_flight);
        let all = used + self.others.in_flight;
        if let Some(cwnd) = self.foreign_delay.detect(delay, target, rate + self.others.rate, all, now) {
            let own = cwnd as f64 * used as f64 / all.max(1) as f64;
            self.window.cwnd = (own as u64).max(self.min_cwnd());
            return;
        }
        let foreign = self.foreign_delay.delay(now);
        let own_delay = delay.saturating_sub(foreign);
        let may_grow = round.is_cwnd_limited && (target / 2..=target).contains(&own_delay);
        let (cwnd, others) = (self.window.cwnd, self.others);
        if let Some(cwnd) = self.upward_probe.on_round(cwnd, others, own_delay, min_rtt, may_grow) {
            self.window.cwnd = cwnd.max(self.min_cwnd());
            return;
        }
        let additive = FAIRNESS_SEGMENTS * SEGMENT_LEN / (self.others.count + 1);
        let known_bdp = ((self.known_rate - others.rate) * min_rtt.as_secs_f64()) as u64;
        if own_delay > target && !round.is_app_limited {
            self.known_rate = self.known_rate.min((self.known_rate + rate + others.rate) / 2.0);
        } else if own_delay <= target {
            if others.count == 0 {
                self.known_rate = self.known_rate.max(self.rate.unwrap_or(0.0).min(rate));
            }
            if round.is_cwnd_limited && self.window.cwnd < known_bdp && others.rate < rate / 4.0 {
                // It shrank because of a pause, or another channel had a share of the path, which it uses no more.
                self.window.cwnd = known_bdp;
                return;
            }
        }
        // Without data for a part of the round, the rate is not that of the path.
        let rate = if round.is_app_limited { rate.max(self.known_rate - others.rate) } else { rate };
        let measured = Measurement { rate, min_rtt: min_rtt + foreign, queueing_delay: own_delay, target };
        if own_delay > target {
            self.window.shrink(&round, measured);
        } else {
            let mean_rate = (rate + others.rate) / (others.count + 1) as f64;
            self.window.grow(&round, measured, rate.max(mean_rate), additive);
        }
        self.window.cwnd = self.window.cwnd.max(self.min_cwnd());
        let is_old =
            self.min_rtt.is_some_and(|(_, at)| now.saturating_duration_since(at) >= MIN_RTT_LIFETIME);
        if round.is_cwnd_limited && is_old {
            let bdp = self.rate.unwrap_or(rate) * min_rtt.as_secs_f64();
            let drained = (bdp * PROBE_RTT_BDP_FRACTION) as u64;
            self.drain = Some(Drain {
                until: now + PROBE_RTT_ROUNDS * self.sample.rtt,
                measured_from: now + self.sample.rtt + self.sample.rtt / 2,
                restored_cwnd: self.window.cwnd,
                lowest: None,
            });
            self.window.cwnd = drained.clamp(self.min_cwnd(), self.window.cwnd);
        }
    }

    /// Returns the minimum congestion window: with less in flight, acknowledgements come too rarely to detect losses,
    /// and where the CPU is the bottleneck, the tasks run too often.
    fn min_cwnd(&self) -> u64 {
        match self.rate {
            Some(rate) if is_cpu_limited(rate) => CPU_LIMITED_MIN_CWND,
            _ => (2 * self.chunk_size() as u64).max(MIN_CWND_SEGMENTS * SEGMENT_LEN),
        }
    }
}

/// How many segments the windows of a link grow by together in each round without a queue above the target.
const FAIRNESS_SEGMENTS: u64 = 2;

/// A congestion window that never limits.
const UNLIMITED: u64 = u64::MAX / 4;

impl CongestionController for TransportBased {
    /// Counts the bytes in flight of the current round.
    fn on_data_sent(&mut self, bytes: u64, probes: &ProbeTracker, _now: Instant) {
        self.round.max_in_flight = self.round.max_in_flight.max(self.in_flight(probes) + bytes);
        self.pacer.on_data_sent(bytes);
    }

    /// Marks the current round as application-limited.
    fn on_app_limited(&mut self) {
        self.round.is_app_limited = true;
        self.pacer.on_app_limited();
    }

    /// Marks the current round as limited by the congestion window.
    fn on_cwnd_limited(&mut self) {
        self.round.is_cwnd_limited = true;
    }

    /// Returns whether the last probe was sent long enough ago. Probes only confirm control frames and show whether the
    /// peer is alive.
    fn is_probe_due(&self, probes: &ProbeTracker, _rtt: &RttEstimator, now: Instant) -> bool {
        let interval = MIN_PROBE_INTERVAL.max(self.sample.rtt / 2);
        probes.newest_unanswered().is_none_or(|last| now.saturating_duration_since(last.sent_at) >= interval)
            && probes.unprobed() >= CHUNK_SIZE as u64
    }

    /// Returns how many bytes are on the network or wait in this host to be sent.
    fn in_flight(&self, probes: &ProbeTracker) -> u64 {
        self.sample.in_flight + self.sample.unsent + (probes.sent() - self.sent_before)
    }

    /// Returns the congestion window in bytes.
    fn cwnd(&self) -> u64 {
        self.window.cwnd
    }

    /// Returns the congestion window plus an eighth of it, in bytes.
    fn small_message_cwnd(&self) -> u64 {
        self.window.cwnd + self.window.cwnd / SMALL_MESSAGE_FRACTION
    }

    /// Returns the estimated delivery rate in bytes per second; `None` before the first estimate.
    fn delivery_rate(&self) -> Option<f64> {
        self.rate
    }

    /// Returns the largest payload of a DATA frame in bytes: the configured size, or a power of two that the
    /// bottleneck delivers in [`CHUNK_TIME`] at most.
    fn chunk_size(&self) -> usize {
        self.fixed_chunk_size.unwrap_or_else(|| {
            let most = self.rate.map_or(INITIAL_CHUNK as f64, |rate| rate * CHUNK_TIME.as_secs_f64());
            1 << (most as usize).clamp(MIN_CHUNK_SIZE, CHUNK_SIZE).ilog2()
        })
    }
}
