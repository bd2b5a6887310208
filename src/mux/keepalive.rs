//! The keepalive of a channel: when it is pinged, and when its peer counts as unresponsive or lost.
//!
//! A side decides by its own pings. Silence means nothing where nothing was asked: an idle peer sends nothing for many
//! seconds, so that thousands of idle channels cost hardly any processor time.

use std::time::{Duration, Instant};

use super::{config::MuxConfig, role::Role};

/// The interval between two updates of the timers of a busy channel: one that is active, or has a ping unanswered. An
/// idle channel's timers fire only when something is due.
const BUSY_TIMER_INTERVAL: Duration = Duration::from_millis(250);

/// How long a ping is unanswered, and nothing else received, before the peer counts as unresponsive; at least twice the
/// RTT and a fifth of a second, which is the kernel's shortest retransmission timeout. With half a second, a busy peer
/// was often taken for unresponsive.
const UNRESPONSIVE_AFTER: Duration = Duration::from_millis(750);

/// How late a timer may fire. If it is later, this process had no processor, and may not have read an answer either:
/// that time does not count as silence of the peer.
const MAX_TIMER_DELAY: Duration = Duration::from_millis(100);

/// How many late timers are excused during one silence of the peer. Where every timer is late, because other programs
/// use the processor, a dead channel was otherwise detected only after most of a minute.
const MAX_EXCUSED_DELAYS: u32 = 3;

/// What the kernel adds to the RTT before it retransmits a lost segment (the minimum of its retransmission timeout).
const MIN_RETRANSMISSION_DELAY: Duration = Duration::from_millis(200);

/// The longest RTT that is allowed for. A queue of half a minute may be measured once; a dead channel must be
/// detected nevertheless.
const MAX_RTT: Duration = Duration::from_secs(8);

/// What the mux knows of a channel besides its keepalive state.
#[derive(Debug, Clone, Copy)]
pub(super) struct PathState {
    /// When the oldest ping or probe without an answer was sent; `None` if all are answered.
    pub(super) unanswered_since: Option<Instant>,
    /// The RTT of the probe that was answered last; `None` before the first answer.
    pub(super) rtt: Option<Duration>,
    /// The minimum RTT that probes have measured; `None` before the first answer.
    pub(super) min_rtt: Option<Duration>,
    /// Whether streams have the channel as their primary channel.
    pub(super) has_streams: bool,
    /// Whether it is the link's first channel. Another one without streams is pinged less often: once the first does
    /// not answer, all are pinged.
    pub(super) is_first: bool,
    /// Whether pings are sent at the same interval on an idle channel, as to a text peer, so that silence counts from
    /// the last byte received.
    pub(super) has_fixed_ping_interval: bool,
}

/// Whether the peer of a channel answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Liveness {
    /// Nothing is unanswered, or not for long.
    Responsive,
    /// A ping is unanswered and nothing was received for longer than is usual on the path. A replacement should be
    /// connected, while this channel may still recover.
    Unresponsive,
    /// Nothing was received for the keepalive timeout although a ping is unanswered.
    Lost,
}

/// The keepalive state of a channel.
///
/// An active channel, on which frames other than pings and their answers were sent or received since the last ping,
/// is pinged every [`MuxConfig::ping_interval`], and at once with the first frame after a pause. So the timeout runs
/// from the moment at which a user's byte is sent on a dead channel. An idle channel is pinged rarely: to keep the
/// mapping of a NAT, and to find a peer that has vanished.
#[derive(Debug)]
pub(super) struct Keepalive {
    /// When the last ping or probe was sent; `None` before the first.
    last_ping_at: Option<Instant>,
    /// Since when a ping has to be sent with the next frames; `None` while none is due.
    ping_due_since: Option<Instant>,
    /// Whether frames other than pings and their answers were sent or received since the last ping.
    is_active: bool,
    /// When the peer last showed that it is alive: bytes were received, the peer's kernel acknowledged data of a queue
    /// that is not empty, or this side did not read the channel.
    last_alive_at: Instant,
    /// The RTT that the handshake measured, until a ping has measured one.
    initial_rtt: Option<Duration>,
    /// When the peer counts as unresponsive unless its kernel acknowledges what is in flight; `None` while nothing is,
    /// or where the owner does not report it.
    ack_due_at: Option<Instant>,
    /// How many late timers were excused since the peer last showed that it is alive.
    excused_delays: u32,
    /// When the owner's timer fires next: what [`next_timeout`](Self::next_timeout) returned last.
    timer_at: Option<Instant>,
}

impl Keepalive {
    /// Creates the keepalive of a channel that was established at `now`. The first timeout makes a ping due, which
    /// measures the RTT.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last_ping_at: None,
            ping_due_since: None,
            is_active: true,
            last_alive_at: now,
            initial_rtt: None,
            ack_due_at: None,
            excused_delays: 0,
            timer_at: None,
        }
    }

    /// Stores the RTT that the handshake measured.
    pub(super) fn set_initial_rtt(&mut self, rtt: Duration) {
        self.initial_rtt = Some(rtt);
    }

    /// Sets when the peer counts as unresponsive because its kernel has acknowledged nothing of what is in flight. Most
    /// of a second is saved where this side sends: between two pings there is nothing else that the peer has to answer.
    pub(super) fn set_ack_due(&mut self, at: Option<Instant>) {
        self.ack_due_at = at;
    }

    /// Makes a ping due with the next frames.
    pub(super) fn request_ping(&mut self, now: Instant) {
        self.ping_due_since.get_or_insert(now);
    }

    /// Returns whether a ping has to be sent with the next frames.
    pub(super) fn is_ping_due(&self) -> bool {
        self.ping_due_since.is_some()
    }

    /// Records that a ping or a probe is sent.
    pub(super) fn on_ping_sent(&mut self, now: Instant) {
        self.last_ping_at = Some(now);
        self.ping_due_since = None;
        self.is_active = false;
    }

    /// Records that a frame other than a ping or its answer is sent: a ping follows it if none was sent for the ping
    /// interval.
    pub(super) fn on_frame_sent(&mut self, config: &MuxConfig, now: Instant) {
        self.is_active = true;
        if self.last_ping_at.is_some_and(|at| now.saturating_duration_since(at) >= config.ping_interval) {
            self.request_ping(now);
        }
    }

    /// Records that something other than a ping or its answer was received, or a part of a frame. A peer on a slow
    /// path waits for answers behind its own data; the pings that follow from its data show it that this side is alive.
    pub(super) fn on_frame_received(&mut self) {
        self.is_active = true;
    }

    /// Records that the peer was alive at `at`.
    pub(super) fn on_alive(&mut self, at: Instant) {
        self.last_alive_at = self.last_alive_at.max(at);
        self.excused_delays = 0;
    }

    /// Returns since when the peer owes an answer and has sent nothing; `None` if nothing is unanswered. A ping that
    /// is due and could not be sent counts, too: the socket accepts nothing.
    fn silent_since(&self, path: PathState) -> Option<Instant> {
        let asked_at = match (path.unanswered_since, self.ping_due_since) {
            (Some(sent_at), Some(due_at)) => sent_at.min(due_at),
            (sent_at, due_at) => sent_at.or(due_at)?,
        };
        let counts_from_ping = !path.has_fixed_ping_interval;
        Some(if counts_from_ping { asked_at.max(self.last_alive_at) } else { self.last_alive_at })
    }

    /// Returns for how long the peer has owed an answer and sent nothing; zero if nothing is unanswered.
    pub(super) fn silence(&self, path: PathState, now: Instant) -> Duration {
        self.silent_since(path).map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Returns the RTT that timeouts have to allow for: the one that a ping measured last, or that of the handshake.
    fn rtt(&self, path: PathState) -> Option<Duration> {
        path.rtt.or(self.initial_rtt).map(|rtt| rtt.min(MAX_RTT))
    }

    /// Returns after which silence the peer counts as unresponsive.
    fn unresponsive_after(&self, config: &MuxConfig, path: PathState) -> Duration {
        // The last RTT may include a second in which a lost segment was repaired.
        path.min_rtt.or(self.initial_rtt).map_or(config.keepalive_timeout, |rtt| {
            let rtt = rtt.min(MAX_RTT);
            UNRESPONSIVE_AFTER.max(rtt * 2 + MIN_RETRANSMISSION_DELAY)
        })
    }

    /// Returns after which silence the channel counts as lost: the configured timeout, and at least three RTTs and a
    /// second. A lost segment stalls the receiver for an RTT and the retransmission timeout, and may be lost again.
    pub(super) fn lost_after(&self, config: &MuxConfig, path: PathState) -> Duration {
        match self.rtt(path) {
            None => config.idle_timeout,
            Some(rtt) => {
                let timeout = if path.has_streams { config.keepalive_timeout } else { config.idle_timeout };
                timeout.max(rtt * 3 + Duration::from_secs(1))
            }
        }
    }

    /// Returns whether the peer of the channel answers.
    pub(super) fn liveness(&self, config: &MuxConfig, path: PathState, now: Instant) -> Liveness {
        let silence = self.silence(path, now);
        let is_ack_overdue = self.ack_due_at.is_some_and(|at| now >= at);
        if silence >= self.lost_after(config, path) {
            Liveness::Lost
        } else if is_ack_overdue || silence >= self.unresponsive_after(config, path) {
            Liveness::Unresponsive
        } else {
            Liveness::Responsive
        }
    }

    /// Returns when the next ping becomes due if nothing else happens; `None` if no ping was sent yet, so that one is
    /// due at once.
    fn next_ping_at(&self, config: &MuxConfig, role: Role, path: PathState) -> Option<Instant> {
        let last_ping_at = self.last_ping_at?;
        if self.is_active {
            return Some(last_ping_at + config.ping_interval);
        }
        let interval = match (path.has_streams, path.is_first) {
            (true, _) => config.idle_stream_ping_interval,
            (false, true) => config.idle_ping_interval,
            (false, false) => config.spare_ping_interval,
        };
        // The proxy is the first to ping. Its ping shows the server that it is alive, so that the server need not
        // ping: half of the messages.
        let interval = if role == Role::Server { interval + interval / 4 } else { interval };
        Some(last_ping_at.max(self.last_alive_at) + interval)
    }

    /// Makes a ping due if it is time.
    pub(super) fn on_timeout(&mut self, config: &MuxConfig, role: Role, path: PathState, now: Instant) {
        let delay = self.timer_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let is_excused = delay > MAX_TIMER_DELAY && self.excused_delays < MAX_EXCUSED_DELAYS;
        if let Some(since) = self.silent_since(path).filter(|_| is_excused) {
            self.last_alive_at = self.last_alive_at.max((since + delay).min(now));
            self.excused_delays += 1;
        }
        if self.next_ping_at(config, role, path).is_none_or(|at| now >= at) {
            self.request_ping(now);
        }
    }

    /// Returns when the owner has to update the timers next, and remembers it. The timers of a busy channel fire at
    /// short intervals, so that its frames do not change them; those of an idle one when a ping is due.
    pub(super) fn next_timeout(
        &mut self,
        config: &MuxConfig,
        role: Role,
        path: PathState,
        now: Instant,
    ) -> Instant {
        let busy_at = now + BUSY_TIMER_INTERVAL;
        let at = match (self.silent_since(path), self.next_ping_at(config, role, path)) {
            (Some(since), _) => {
                let unresponsive_at = since + self.unresponsive_after(config, path);
                if unresponsive_at > now { unresponsive_at.min(busy_at) } else { busy_at }
            }
            (None, Some(ping_at)) if !self.is_active => ping_at,
            (None, _) => busy_at,
        };
        let at = self.ack_due_at.filter(|due| *due > now).map_or(at, |due| at.min(due));
        self.timer_at = Some(at);
        at
    }

    /// Returns whether the owner's timer fires too late, because it was set while the channel was idle. Returns true
    /// once: the owner then sets it again.
    pub(super) fn take_late_timer(&mut self, now: Instant) -> bool {
        self.timer_at.take_if(|at| *at > now + BUSY_TIMER_INTERVAL).is_some()
    }
}

#[cfg(test)]
mod tests;
