//! The path of one channel, seen from the sender: bytes in flight, probes, RTT, and the congestion controller.

use std::time::{Duration, Instant};

use super::{
    controller::CongestionController,
    delay_based::{DelayBased, ProbeAck, is_cpu_limited},
    other_flows::OtherFlows,
    probes::ProbeTracker,
    rtt::RttEstimator,
    transport_based::TransportBased,
    transport_sample::TransportSample,
};
use crate::mux::config::MuxConfig;

/// From this minimum RTT on, a frame has to fit in a segment.
const LONG_RTT: Duration = Duration::from_secs(1);

/// The largest payload of a frame on a path with a long RTT, in bytes: with its header it fits in a segment of an MTU
/// of 1,280 bytes. After an outage the kernel retransmits one segment, and more in each round that follows; the
/// receiver delivers only complete frames, and a frame of 16 KiB took three rounds of 3.6 s.
const LONG_RTT_CHUNK: usize = 1024;

/// The sending side of a channel's path, with its congestion controller.
///
/// Data in flight cannot be overtaken by data that is sent later. Therefore the congestion window is as small as the
/// bottleneck allows: data beyond it waits in the mux, where the scheduler decides which goes first.
#[derive(Debug)]
pub(in crate::mux) struct Path {
    /// Whether data has to wait for the congestion window. False for a text peer: it may not answer the pings whose
    /// answers open the window.
    enforces_cwnd: bool,
    /// The bytes in flight, and the probes that were not answered yet.
    pub(super) probes: ProbeTracker,
    /// The minimum and the latest RTT of the channel.
    rtt: RttEstimator,
    /// The congestion controller of a channel about whose connection the kernel reports nothing.
    pub(super) probe_controller: DelayBased,
    /// The congestion controller of a channel about whose connection the kernel reports; `None` before its first
    /// report.
    pub(super) transport: Option<TransportBased>,
    /// Whether the congestion window was full when data was last polled, so that only another report of the kernel can
    /// open it.
    is_awaiting_sample: bool,
    /// The other channels of the link that carry bulk data.
    others: OtherFlows,
}

impl Path {
    /// Creates a path on which nothing has been sent, with the delay-based controller.
    pub(in crate::mux) fn new(config: &MuxConfig, now: Instant) -> Self {
        Self {
            enforces_cwnd: config.peer_has_flow_control,
            probes: ProbeTracker::default(),
            rtt: RttEstimator::default(),
            probe_controller: DelayBased::new(config, now),
            transport: None,
            is_awaiting_sample: false,
            others: OtherFlows::default(),
        }
    }

    /// Returns the congestion controller in charge.
    fn controller(&self) -> &dyn CongestionController {
        match &self.transport {
            Some(transport) => transport,
            None => &self.probe_controller,
        }
    }

    /// Returns the congestion controller in charge, to report an event to it.
    fn controller_mut(&mut self) -> &mut dyn CongestionController {
        match &mut self.transport {
            Some(transport) => transport,
            None => &mut self.probe_controller,
        }
    }

    // Measurements.

    /// Returns the bytes of data in flight: on the network or waiting in this host where the kernel reports that, and
    /// otherwise those that no answer to a probe has acknowledged.
    pub(super) fn in_flight(&self) -> u64 {
        self.controller().in_flight(&self.probes)
    }

    /// Returns the minimum RTT of the channel; `None` before it was measured.
    pub(in crate::mux) fn min_rtt(&self) -> Option<Duration> {
        self.transport.as_ref().and_then(TransportBased::min_rtt).or_else(|| self.rtt.min())
    }

    /// Returns the minimum RTT of the probes; `None` before the first answer. Unlike the kernel's, it is that of the
    /// whole path where an intermediary terminates the TCP connection.
    pub(in crate::mux) fn min_probe_rtt(&self) -> Option<Duration> {
        self.rtt.min()
    }

    /// Returns the RTT of the last probe, which includes the time that its answer or the probe itself waited behind
    /// lost segments; `None` before the first answer.
    pub(in crate::mux) fn latest_probe_rtt(&self) -> Option<Duration> {
        self.rtt.latest()
    }

    /// Returns whether the channel crosses a network that is its bottleneck: the kernel reports about its connection,
    /// and the CPU is not the bottleneck. False on loopback.
    pub(in crate::mux) fn is_network(&self) -> bool {
        self.transport.is_some() && self.is_cpu_limited() != Some(true)
    }

    /// Returns the share of recently sent segments that were retransmissions, from 0 to 1; `None` if it is unknown.
    pub(in crate::mux) fn loss_rate(&self) -> Option<f64> {
        self.transport.as_ref()?.loss_rate()
    }

    /// Returns whether only the kernel's slow start limits the bytes in flight.
    pub(in crate::mux) fn is_in_slow_start(&self) -> bool {
        self.transport.as_ref().is_some_and(TransportBased::is_in_slow_start)
    }

    /// Returns whether segments that are retransmitted now are taken for those that a full queue has dropped.
    pub(in crate::mux) fn has_queue_losses(&self, now: Instant) -> bool {
        self.transport.as_ref().is_some_and(|transport| transport.has_queue_losses(now))
    }

    /// Returns whether the kernel is repairing a loss on the channel: data sent now waits for it at the receiver.
    pub(in crate::mux) fn is_recovering(&self) -> bool {
        self.transport.as_ref().is_some_and(TransportBased::is_recovering)
    }

    /// Returns whether the kernel's own congestion control has been slower than the path for a while: its rate does not
    /// grow although no data queues at the bottleneck.
    pub(in crate::mux) fn is_kernel_bound(&self) -> bool {
        self.transport.as_ref().is_some_and(TransportBased::is_kernel_bound)
    }

    /// Returns whether the kernel's own congestion window holds data back while the queue of the bottleneck is short:
    /// more channels would carry more.
    pub(in crate::mux) fn is_transport_limited(&self) -> bool {
        self.transport.as_ref().is_some_and(TransportBased::is_transport_limited)
    }

    /// Returns how many bytes of the kernel's congestion window are in use or about to be; 0 if it is unknown.
    pub(in crate::mux) fn kernel_cwnd_used(&self) -> u64 {
        self.transport.as_ref().map_or(0, |transport| transport.kernel_cwnd_used(&self.probes))
    }

    /// Returns the bandwidth-delay product: how many bytes are delivered in a round trip. `None` before it is known.
    pub(in crate::mux) fn bytes_per_rtt(&self) -> Option<f64> {
        Some(self.controller().delivery_rate()? * self.min_rtt()?.as_secs_f64())
    }

    /// Returns the largest payload of a DATA frame on the channel, in bytes: what the controller says, and on a path
    /// with a long RTT no more than a segment.
    pub(in crate::mux) fn chunk_size(&self) -> usize {
        let size = self.controller().chunk_size();
        if self.transport.is_some() && self.min_rtt().is_some_and(|rtt| rtt >= LONG_RTT) {
            size.min(LONG_RTT_CHUNK)
        } else {
            size
        }
    }

    /// Estimates how long `bytes` sent now would take to reach the peer, behind all data in flight. `None` while the
    /// RTT or the delivery rate is unknown.
    pub(in crate::mux) fn estimated_delivery(&self, bytes: u64) -> Option<Duration> {
        let (min_rtt, rate) = (self.min_rtt()?, self.controller().delivery_rate()?);
        // Nearly nothing is delivered on a path that is about to be given up.
        let answered = Duration::try_from_secs_f64((self.in_flight() + bytes) as f64 / rate);
        Some(answered.unwrap_or(Duration::MAX).max(min_rtt) - min_rtt / 2)
    }

    /// Returns how long the oldest probe without an answer has been in flight. `None` if there is none, or if the
    /// peer need not answer.
    pub(in crate::mux) fn oldest_probe_age(&self, now: Instant) -> Option<Duration> {
        let sent_at = self.unanswered_since().filter(|_| self.enforces_cwnd)?;
        Some(now.saturating_duration_since(sent_at))
    }

    /// Returns when the oldest probe without an answer was sent; `None` if all are answered.
    pub(in crate::mux) fn unanswered_since(&self) -> Option<Instant> {
        self.probes.oldest_unanswered().map(|probe| probe.sent_at)
    }

    /// Returns the measurements of the path (bytes in flight, RTT, rate, congestion window) for telemetry.
    pub(in crate::mux) fn stats(&self) -> PathStats {
        let latest =
            self.transport.as_ref().and_then(TransportBased::latest_rtt).or_else(|| self.rtt.latest());
        let rtts = latest.zip(self.min_rtt());
        PathStats {
            in_flight: self.in_flight(),
            cwnd: self.controller().cwnd(),
            delivery_rate: self.controller().delivery_rate(),
            min_rtt: self.min_rtt(),
            latest_rtt: rtts.map(|(latest, _)| latest),
            queueing_delay: rtts.map(|(latest, min)| latest.saturating_sub(min)),
            chunk_size: self.chunk_size(),
        }
    }

    // Sending.

    /// Returns whether data has to wait for the congestion window, and reports to the controller that it does.
    pub(in crate::mux) fn check_cwnd_limited(&mut self) -> bool {
        let is_full = self.is_full();
        if is_full {
            // Data is paced where the window is nearly full, too, if acknowledgements arrive in bursts.
            if self.in_flight() >= self.controller().cwnd() / 4 * 3 {
                self.controller_mut().on_cwnd_limited();
            }
            self.is_awaiting_sample = self.transport.is_some();
        }
        is_full
    }

    /// Returns whether the congestion window is full, or as much of it as may be sent at once.
    pub(in crate::mux) fn is_full(&self) -> bool {
        let is_pacing_limited = self.transport.as_ref().is_some_and(TransportBased::is_pacing_limited);
        self.enforces_cwnd && (is_pacing_limited || self.in_flight() >= self.controller().cwnd())
    }

    /// Returns whether a small message may be sent although the congestion window may be full.
    pub(in crate::mux) fn allows_small_message(&self) -> bool {
        self.in_flight() < self.controller().small_message_cwnd()
    }

    /// Returns whether queued data may lead to a frame now: the data itself, or the probe whose answer opens the
    /// congestion window again. If the kernel reports about the connection, its last report may be outdated, and the
    /// next one open the window.
    pub(in crate::mux) fn has_output(&self) -> bool {
        !self.is_full()
            || if self.transport.is_some() { !self.is_awaiting_sample } else { self.probes.is_empty() }
    }

    /// Returns whether the congestion window is full and only a new report of the kernel can open it.
    pub(in crate::mux) fn is_awaiting_sample(&self) -> bool {
        self.is_awaiting_sample
    }

    /// Returns whether the congestion window is full and no probe is in flight whose answer would open it.
    pub(in crate::mux) fn needs_probe(&self) -> bool {
        self.transport.is_none() && self.is_full() && self.probes.is_empty() && self.probes.unprobed() > 0
    }

    /// Returns what the channel contributes to those that carry bulk data.
    pub(in crate::mux) fn flow(&self) -> OtherFlows {
        let in_flight = self.in_flight().min(self.controller().cwnd());
        OtherFlows { count: 1, rate: self.controller().delivery_rate().unwrap_or(0.0), in_flight }
    }

    /// Sets what the other channels of the link do that carry bulk data.
    pub(in crate::mux) fn set_other_flows(&mut self, others: OtherFlows) {
        self.others = others;
        if let Some(transport) = &mut self.transport {
            transport.set_other_flows(others);
        }
    }

    /// Returns what the kernel last reported about the channel's connection; `None` before its first report.
    pub(in crate::mux) fn transport_sample(&self) -> Option<TransportSample> {
        self.transport.as_ref().map(TransportBased::last_sample)
    }

    /// Records that the channel crosses a network and that the kernel reports nothing about its connection: then a long
    /// RTT may be a loss, and the probe controller errs towards throughput.
    pub(in crate::mux) fn set_unobserved(&mut self) {
        self.probe_controller.set_unobserved();
    }

    /// Records what the kernel reports about the channel's connection. From the first report on, its congestion window
    /// counts what the kernel has in flight.
    pub(in crate::mux) fn on_transport_sample(&mut self, sample: TransportSample, now: Instant) {
        self.is_awaiting_sample = false;
        let transport = self.transport.get_or_insert_with(|| {
            let mut transport = TransportBased::new(&self.probe_controller, now);
            transport.set_other_flows(self.others);
            transport
        });
        transport.on_sample(sample, self.probes.sent(), now);
    }

    /// Returns whether the delivery rate is so high that the CPU is the bottleneck and not the network; `None` while
    /// the rate is unknown.
    pub(in crate::mux) fn is_cpu_limited(&self) -> Option<bool> {
        self.controller().delivery_rate().map(is_cpu_limited)
    }

    /// Returns the time from sending to arrival on the idle channel: half the minimum RTT.
    pub(in crate::mux) fn one_way_delay(&self) -> Option<Duration> {
        self.min_rtt().map(|min_rtt| min_rtt / 2)
    }

    /// Has the controller start with a small congestion window if no data was sent yet. Called where the link has
    /// other channels: this one may be the slowest, and all that follows in a stream would wait for the data in
    /// flight here.
    pub(in crate::mux) fn start_conservatively(&mut self) {
        // Where the kernel reports about the connection, it starts slowly by itself.
        if self.probes.sent() == 0 && self.transport.is_none() {
            self.probe_controller.start_conservatively();
        }
    }

    /// Records that a DATA frame with a payload of `bytes` bytes is sent on the channel.
    pub(in crate::mux) fn on_data_sent(&mut self, bytes: usize, now: Instant) {
        match &mut self.transport {
            Some(transport) => transport.on_data_sent(bytes as u64, &self.probes, now),
            None => self.probe_controller.on_data_sent(bytes as u64, &self.probes, now),
        }
        self.probes.on_data_sent(bytes as u64);
    }

    /// Records that there is no more data to send on the channel (application-limited).
    pub(in crate::mux) fn on_app_limited(&mut self) {
        self.controller_mut().on_app_limited();
    }

    /// Returns the token of the next probe if one is due, and records that the probe is sent.
    pub(in crate::mux) fn poll_probe(&mut self, now: Instant) -> Option<u64> {
        if !self.enforces_cwnd || self.probes.unprobed() == 0 {
            return None;
        }
        let is_due = self.controller().is_probe_due(&self.probes, &self.rtt, now) && !self.probes.is_full();
        is_due.then(|| self.send_probe(now))
    }

    /// Records that a probe is sent, and returns its token.
    pub(in crate::mux) fn send_probe(&mut self, now: Instant) -> u64 {
        self.probes.send(now)
    }

    /// Returns the token of the last probe; 0 before the first.
    pub(in crate::mux) fn last_token(&self) -> u64 {
        self.probes.last_token()
    }

    /// Records the answer to a probe. Returns its RTT, or `None` if no probe with this token is unanswered.
    pub(in crate::mux) fn on_probe_answered(&mut self, token: u64, now: Instant) -> Option<Duration> {
        let probe = self.probes.on_answer(token)?;
        let rtt = now.saturating_duration_since(probe.sent_at);
        let is_controlled = self.transport.is_none();
        let replaces_min = is_controlled && self.probe_controller.replaces_min_rtt(token);
        let is_new_min = self.rtt.update(rtt, now, replaces_min);
        // Where the kernel reports about the connection, the answer says less: it waited for lost segments.
        if self.enforces_cwnd && is_controlled {
            let ack = ProbeAck { token, rtt, is_new_min };
            self.probe_controller.on_probe_acked(ack, &self.probes, &self.rtt, now);
        }
        Some(rtt)
    }

    /// Passes the number of TCP segments that the kernel has retransmitted on the channel on to the controller that has
    /// only probes; other reports of the kernel contain it.
    pub(in crate::mux) fn on_retransmissions(&mut self, total_segments: u64) {
        if self.transport.is_none() {
            self.probe_controller.on_retransmissions(total_segments, self.probes.sent());
        }
    }
}

/// Measurements of a channel's path, and its congestion window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathStats {
    /// Bytes of data in flight: what the kernel reports to be on the network or waiting in this host; without its
    /// reports, what no answer to a probe has acknowledged.
    pub in_flight: u64,
    /// The congestion window in bytes: how many may be in flight.
    pub cwnd: u64,
    /// The rate at which data arrives at the peer, in bytes per second; `None` before the first estimate.
    pub delivery_rate: Option<f64>,
    /// The minimum RTT: the time of a round trip when no data queues on the path. `None` before it was measured.
    pub min_rtt: Option<Duration>,
    /// The kernel's smoothed RTT; without its reports, the RTT of the probe that was answered last. `None` before both.
    pub latest_rtt: Option<Duration>,
    /// How much longer than the minimum RTT the latest RTT was: the time in queues of the path.
    pub queueing_delay: Option<Duration>,
    /// The largest payload of a DATA frame, in bytes.
    pub chunk_size: usize,
}
