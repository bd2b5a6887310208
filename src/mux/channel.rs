//! One channel of a link: its queues, its path, its keepalive.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    config::MuxConfig,
    congestion::Path,
    error::ProtocolError,
    glitches::GlitchBudget,
    keepalive::{Keepalive, Liveness, PathState},
    limits::{MAX_QUEUED_CONTROL, MAX_QUEUED_MESSAGES, MAX_UNACKNOWLEDGED_CONTROL},
    placement::{COPY_WINDOW_FRACTION, ChannelPlacement, Obstacles},
    role::Role,
    scheduler::Scheduler,
};
use crate::wire::Frame;

/// A channel is suspect when a probe is unanswered for this long, or for four times the minimum RTT if that is
/// longer. It then sends no data of other channels' streams, and such data in flight on it is retransmitted on their
/// primary channels.
const SUSPECT_AFTER: Duration = Duration::from_millis(500);

/// The state of one channel in the mux: the frames queued for it, its congestion state, and whether it is alive.
#[derive(Debug)]
pub(super) struct Channel {
    /// Control frames that belong to no open stream: messages, GOAWAY, and the last frames of closed streams.
    pub(super) control_frames: VecDeque<Frame>,
    /// Streams with control frames to send. Each is queued once, however many it has.
    pub(super) control_queue: VecDeque<u32>,
    /// The streams with data to send on this channel, and the order in which they are served.
    pub(super) scheduler: Scheduler,
    /// How many streams have this channel as their primary channel.
    pub(super) primary_streams: usize,
    /// Bytes in flight on the channel, its RTT, and the congestion controller.
    pub(super) path: Path,
    /// Whether bulk data keeps off the channel, and copies of messages that were sent on other channels.
    pub(super) placement: ChannelPlacement,
    /// Control frames of closed streams that were sent, each with the token of the last probe before it, until the
    /// peer answers a later probe. If the channel dies before, they are retransmitted on another: a RESET that is
    /// lost would leave the peer with an open stream for ever.
    unacknowledged_control: VecDeque<(u64, Frame)>,
    /// How many of `control_frames` are messages (`Frame::Message`).
    queued_messages: usize,
    /// How many more frames without effect the peer may send on this channel.
    pub(super) glitches: GlitchBudget,
    /// Whether a probe is unanswered for longer than is usual on this channel.
    has_overdue_probe: bool,
    /// When another channel of the link was found dead; `None` once this one has shown since that it is not.
    doubted_at: Option<Instant>,
    /// Whether the stream that the scheduler selects next has to be checked for a small message, which may exceed the
    /// congestion window. False after a check has failed, until the next stream changes.
    pub(super) may_have_small_message: bool,
    /// Whether the channel's socket accepts no more data for now.
    pub(super) is_write_blocked: bool,
    /// Bytes that the peer's kernel has received on the channel since the planner last decided.
    pub(super) delivered_lately: u64,
    /// Whether the link has more channels than the planner wants for the data of this side, and this is one that gets
    /// no data of other channels' streams on a network path.
    pub(super) is_spare: bool,
    /// Whether the channel is being closed in an orderly way, because the link does not need it.
    pub(super) retirement: Retirement,
    /// The token of the peer's ping that was not answered yet. Only the last one is kept: a flood of pings costs no
    /// memory.
    peer_ping: Option<u64>,
    /// The token of the ping whose answer shows that an unresponsive channel works again.
    proving_token: u64,
    /// Whether it was the link's first channel when the timers were updated last.
    is_first: bool,
    /// When pings are due, and whether the peer answers.
    keepalive: Keepalive,
    /// Whether the peer answered when the timers were updated last, or something was received since.
    liveness: Liveness,
}

/// How far the orderly closing of a channel has come. RETIRE frames are exchanged three times: the proxy begins, the
/// server answers, the proxy confirms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retirement {
    /// The channel is used.
    None,
    /// This side has moved all streams to other channels, and has sent RETIRE. What is in flight may still be lost.
    Announced,
    /// The peer has received all that this side has sent on the channel.
    Confirmed,
}

impl Channel {
    /// Creates a channel on which nothing was sent or received yet.
    pub(super) fn new(config: &MuxConfig, now: Instant) -> Self {
        Self {
            control_frames: VecDeque::new(),
            control_queue: VecDeque::new(),
            scheduler: Scheduler::default(),
            primary_streams: 0,
            path: Path::new(config, now),
            placement: ChannelPlacement::default(),
            unacknowledged_control: VecDeque::new(),
            queued_messages: 0,
            glitches: GlitchBudget::new(now),
            has_overdue_probe: false,
            doubted_at: None,
            may_have_small_message: false,
            is_write_blocked: false,
            delivered_lately: 0,
            is_spare: false,
            retirement: Retirement::None,
            peer_ping: None,
            proving_token: 0,
            is_first: true,
            keepalive: Keepalive::new(now),
            liveness: Liveness::Responsive,
        }
    }

    /// Returns whether a frame of the channel's own streams, or of the channel itself, can be sent now.
    pub(super) fn has_output(&self) -> bool {
        self.peer_ping.is_some()
            || self.keepalive.is_ping_due()
            || self.placement.has_copy()
            || !(self.control_frames.is_empty() && self.control_queue.is_empty())
            || (!self.scheduler.is_empty()
                && (self.path.has_output()
                    || (self.may_have_small_message && self.path.allows_small_message())))
            || self.path.needs_probe()
    }

    /// Returns whether the channel can send data of other channels' streams: none of its own is queued, the peer
    /// answers its probes, and the link needs the channel for its data.
    pub(super) fn is_idle(&self) -> bool {
        let is_needed = !(self.is_retiring() || self.is_spare && self.path.is_network());
        self.scheduler.is_empty() && !self.is_suspect() && is_needed
    }

    /// Returns whether the channel is being closed in an orderly way: it gets no streams and no data any more.
    pub(super) fn is_retiring(&self) -> bool {
        self.retirement != Retirement::None
    }

    /// Begins the orderly closing: empties the queues of streams, which the caller moves, and queues RETIRE behind all
    /// other frames.
    pub(super) fn announce_retirement(&mut self) {
        self.retirement = Retirement::Announced;
        self.scheduler = Scheduler::default();
        self.control_queue.clear();
        self.may_have_small_message = false;
        self.control_frames.push_back(Frame::Retire);
    }

    /// Queues RETIRE once more, with which the proxy confirms the server's.
    pub(super) fn push_retire(&mut self) {
        self.control_frames.push_back(Frame::Retire);
    }

    /// Records that the peer has received all frames that were sent on the channel before RETIRE. Control frames are
    /// kept nevertheless: some are sent after it if the link has lost all other channels.
    pub(super) fn confirm_retirement(&mut self) {
        self.retirement = Retirement::Confirmed;
    }

    /// Returns whether data is queued on this channel that other channels could carry: its congestion window is full or
    /// its socket accepts no more. False where they would not help: where the CPU is the bottleneck, and on a network
    /// path which the kernel fills, because they cross the same bottleneck. It does not where most round trips lose a
    /// segment, for which bulk data is striped (`stripes_bulk`): BBR leaves its slow start after three rounds that
    /// losses have slowed down, and one download had 11 of 50 Mbit/s in its first ten seconds, because its rate grew
    /// too fast for a kernel that is slower than the path.
    pub(super) fn is_congested(&self, stripes_bulk: bool) -> bool {
        if self.path.is_network() {
            return (stripes_bulk || self.path.is_kernel_bound()) && !self.scheduler.is_empty();
        }
        let is_full = match self.path.is_cpu_limited() {
            Some(is_cpu_limited) => !is_cpu_limited && (self.is_write_blocked || self.path.is_full()),
            None => self.path.is_full(),
        };
        is_full && !self.scheduler.is_empty()
    }

    /// Returns whether a probe is unanswered for longer than is usual on this channel.
    pub(super) fn has_overdue_probe(&self) -> bool {
        self.has_overdue_probe
    }

    /// Returns whether the channel may be dead: a probe is unanswered for longer than is usual, the peer does not
    /// answer, or another channel was found dead and this one has yet to show that it is not.
    pub(super) fn is_suspect(&self) -> bool {
        self.has_overdue_probe || self.is_doubtful()
    }

    /// Returns whether the peer does not answer, or another channel was found dead and this one has yet to show that it
    /// is not. A probe that is overdue alone may wait for a lost segment, or while the kernel drains the path.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubted_at.is_some() || self.liveness != Liveness::Responsive
    }

    /// Makes the channel suspect until something is received on it, and a ping due, because another channel of the link
    /// was found dead. Often all channels of a path are, and an idle one has not been missed yet: after a change of
    /// address, streams continued on it for most of a second before it was found dead, too.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.doubted_at = Some(now);
        self.request_ping(now);
    }

    /// Returns how much is in the way of a message on the channel.
    pub(super) fn obstacles(&self, now: Instant) -> Obstacles {
        let carries_bulk = self.placement.carries_bulk(self.path.min_rtt(), now);
        Obstacles {
            is_blocked: self.is_suspect()
                || self.is_retiring()
                || self.is_write_blocked
                || self.has_control_backlog()
                || !self.path.allows_small_message()
                || self.is_held_by_kernel(now),
            hazards: u8::from(self.placement.is_recovering(now)) + u8::from(carries_bulk),
        }
    }

    /// Returns whether the kernel would keep a message back, because its own congestion window is full. BBR drains the
    /// path every ten seconds: then it allows four segments for a fifth of a second and a round trip, and messages
    /// waited that long on a channel without anything else, one in fifty of those that are sent all the time.
    fn is_held_by_kernel(&self, now: Instant) -> bool {
        self.path.transport_sample().is_some_and(|sample| {
            !self.placement.is_report_outdated(sample.rtt, now) && self.path.kernel_cwnd_used() >= sample.cwnd
        })
    }

    /// Returns whether the kernel sends a copy of `len` bytes on the channel at once and still has capacity for
    /// messages.
    pub(super) fn has_room_for_copy(&self, len: usize, now: Instant) -> bool {
        self.path.transport_sample().is_none_or(|sample| {
            self.placement.is_report_outdated(sample.rtt, now)
                || self.path.kernel_cwnd_used() + len as u64 <= sample.cwnd / COPY_WINDOW_FRACTION
        })
    }

    /// Returns whether the budget of copies allows one of `len` bytes on the channel, or of a frame that was sent on
    /// it.
    pub(super) fn may_copy(&mut self, len: usize, now: Instant) -> bool {
        self.placement.may_copy(len, &self.path.stats(), now)
    }

    /// Returns whether so many control frames are queued that the channel should get no new stream.
    pub(super) fn has_control_backlog(&self) -> bool {
        self.control_frames.len() >= MAX_QUEUED_CONTROL
    }

    /// Removes and returns the next frame of the channel that belongs to no open stream: an answer to a ping, a ping,
    /// or a queued control frame.
    pub(super) fn poll_control(&mut self, now: Instant) -> Option<Frame> {
        if let Some(token) = self.peer_ping.take() {
            return Some(Frame::Pong { token });
        }
        if self.keepalive.is_ping_due() {
            return Some(Frame::Ping { token: self.path.send_probe(now) });
        }
        let frame = self.control_frames.pop_front()?;
        match &frame {
            Frame::Message(_) => self.queued_messages -= 1,
            Frame::Window { .. } | Frame::Reset { .. } | Frame::OpenOk { .. } | Frame::Channels { .. } => {
                self.track_unacknowledged(frame.clone());
            }
            _ => {}
        }
        Some(frame)
    }

    /// Keeps a control frame of a closed stream, which was sent, until the peer answers a later probe.
    pub(super) fn track_unacknowledged(&mut self, frame: Frame) {
        if self.unacknowledged_control.len() >= MAX_UNACKNOWLEDGED_CONTROL {
            self.unacknowledged_control.pop_front();
        }
        self.unacknowledged_control.push_back((self.path.last_token(), frame));
    }

    /// Queues a message about the link on this channel.
    ///
    /// # Errors
    /// [`ProtocolError::TooManyUnreadReplies`] if too many are queued.
    pub(super) fn push_message(&mut self, frame: Frame) -> Result<(), ProtocolError> {
        if self.queued_messages >= MAX_QUEUED_MESSAGES {
            return Err(ProtocolError::TooManyUnreadReplies);
        }
        self.queued_messages += 1;
        self.control_frames.push_back(frame);
        Ok(())
    }

    /// Returns the control frames that have to be retransmitted on another channel, because this one is lost: those
    /// that the peer has not confirmed, and those that were not sent.
    pub(super) fn into_unacknowledged(self) -> impl Iterator<Item = Frame> {
        self.unacknowledged_control.into_iter().map(|(_, frame)| frame).chain(self.control_frames)
    }

    /// Queues a control frame of a lost channel for retransmission on this one. A RETIRE, which concerned that channel
    /// only, is dropped.
    pub(super) fn take_over(&mut self, frame: Frame) {
        if frame == Frame::Retire {
            return;
        }
        self.queued_messages += usize::from(matches!(frame, Frame::Message(_)));
        self.control_frames.push_back(frame);
    }

    /// Records a frame that is sent, for the keepalive. Returns whether the timer of the channel's owner fires too
    /// late.
    pub(super) fn on_frame_sent(&mut self, frame: &Frame, config: &MuxConfig, now: Instant) -> bool {
        match frame {
            Frame::Ping { .. } => self.keepalive.on_ping_sent(now),
            Frame::Pong { .. } => return false,
            _ => self.keepalive.on_frame_sent(config, now),
        }
        self.keepalive.take_late_timer(now)
    }

    /// Records that a frame other than a ping or its answer was received, or a part of a frame. Returns whether the
    /// timer of the channel's owner fires too late.
    pub(super) fn on_frame_received(&mut self, now: Instant) -> bool {
        self.keepalive.on_frame_received();
        self.keepalive.take_late_timer(now)
    }

    /// Stores the RTT that the handshake measured, which is used until a ping measures one.
    pub(super) fn set_initial_rtt(&mut self, rtt: Duration) {
        self.keepalive.set_initial_rtt(rtt);
    }

    /// Sets when the peer counts as unresponsive because its kernel has acknowledged nothing of what is in flight.
    pub(super) fn set_ack_due(&mut self, at: Option<Instant>) {
        self.keepalive.set_ack_due(at);
    }

    /// Records that bytes were received at `now`. A channel whose peer did not answer stays unresponsive until a ping
    /// of that time is answered: received bytes do not show that this side's data arrives, which its kernel may
    /// retransmit a second later than the peer's.
    pub(super) fn on_received(&mut self, now: Instant) {
        self.doubted_at = None;
        self.keepalive.on_alive(now);
    }

    /// Records that the kernel has received data that cannot be read yet: the peer was not silent, but may have sent
    /// that before the channel became suspect.
    pub(super) fn on_incomplete(&mut self, now: Instant) {
        self.keepalive.on_alive(now);
    }

    /// Records that the peer was alive at `at`: bytes were received, the peer's kernel acknowledged some of many, or
    /// this side does not read the channel. Returns whether the peer counted as unresponsive.
    pub(super) fn on_alive(&mut self, at: Instant) -> bool {
        self.doubted_at.take_if(|doubted_at| *doubted_at <= at);
        self.keepalive.on_alive(at);
        std::mem::replace(&mut self.liveness, Liveness::Responsive) != Liveness::Responsive
    }

    /// Returns whether the answer to the ping with this token shows that an unresponsive channel works again, and
    /// records that it does.
    pub(super) fn prove_alive(&mut self, token: u64, now: Instant) -> bool {
        token >= self.proving_token && self.on_alive(now)
    }

    /// Returns what the keepalive needs to know of the path.
    fn path_state(&self, config: &MuxConfig) -> PathState {
        PathState {
            unanswered_since: self.path.unanswered_since(),
            rtt: self.path.latest_probe_rtt(),
            min_rtt: self.path.min_probe_rtt(),
            has_streams: self.primary_streams > 0,
            is_first: self.is_first,
            has_fixed_ping_interval: config.idle_ping_interval == config.ping_interval,
        }
    }

    /// Returns whether the peer answered when the timers were updated last.
    pub(super) fn liveness(&self) -> Liveness {
        self.liveness
    }

    /// Returns whether the peer answers, and the channel is not being closed.
    pub(super) fn is_usable(&self) -> bool {
        self.liveness == Liveness::Responsive && !self.is_retiring()
    }

    /// Makes a ping due with the next frames unless the peer owes an answer already.
    pub(super) fn request_ping(&mut self, now: Instant) {
        if !self.is_answer_due() {
            self.keepalive.request_ping(now);
        }
    }

    /// Returns whether the peer owes an answer to a ping, or to one that could not be sent yet.
    pub(super) fn is_answer_due(&self) -> bool {
        self.path.unanswered_since().is_some() || self.keepalive.is_ping_due()
    }

    /// Returns for how long the peer has owed an answer and sent nothing, beyond the time after which the channel
    /// counts as lost.
    pub(super) fn overdue(&self, config: &MuxConfig, now: Instant) -> Duration {
        let path = self.path_state(config);
        self.keepalive.silence(path, now).saturating_sub(self.keepalive.lost_after(config, path))
    }

    /// Returns when the owner has to update the timers next. `is_first` tells whether this is the link's first channel.
    pub(super) fn next_timeout(
        &mut self,
        config: &MuxConfig,
        role: Role,
        is_first: bool,
        now: Instant,
    ) -> Instant {
        self.is_first = is_first;
        let path = self.path_state(config);
        self.keepalive.next_timeout(config, role, path, now)
    }

    /// Records a ping of the peer, to be answered with the next frames.
    pub(super) fn on_ping(&mut self, token: u64) {
        self.peer_ping = Some(token);
    }

    /// Records the answer to a ping. Returns the RTT, or `None` if no ping with this token is unanswered.
    pub(super) fn on_pong(&mut self, token: u64, now: Instant) -> Option<Duration> {
        let rtt = self.path.on_probe_answered(token, now)?;
        while self.unacknowledged_control.front().is_some_and(|(sent_after, _)| *sent_after < token) {
            self.unacknowledged_control.pop_front();
        }
        Some(rtt)
    }

    /// Updates the channel's timers: a ping becomes due, and the channel suspect, or its peer unresponsive.
    pub(super) fn on_timeout(&mut self, config: &MuxConfig, role: Role, now: Instant) {
        let path = self.path_state(config);
        let suspect_after = self.path.min_rtt().map_or(SUSPECT_AFTER, |rtt| SUSPECT_AFTER.max(rtt * 4));
        self.has_overdue_probe = self.path.oldest_probe_age(now).is_some_and(|age| age >= suspect_after);
        self.keepalive.on_timeout(config, role, path, now);
        let was_responsive = self.liveness == Liveness::Responsive;
        self.liveness = match self.keepalive.liveness(config, path, now) {
            Liveness::Responsive if !was_responsive && self.is_answer_due() => Liveness::Unresponsive,
            liveness => liveness,
        };
        if was_responsive && self.liveness != Liveness::Responsive {
            self.proving_token = self.path.last_token();
            self.request_ping(now);
        }
    }
}

#[cfg(test)]
mod tests;
