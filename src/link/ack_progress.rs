//! What the kernel knows of the path of a channel: acknowledgements of the peer, and data behind a lost segment.

use std::time::{Duration, Instant};

use crate::telemetry::TcpInfo;

/// How long the peer's kernel may leave data unacknowledged before it counts as silent; at least the time in which a
/// lost segment is repaired and an RTT more. A kernel acknowledges within a few milliseconds also where the process is
/// busy, so this is less than a process has for the answer to a ping. With it, and the three RTTs of a replacement, a
/// transfer continues within a second after the address of a proxy has changed.
const MIN_ACK_TIMEOUT: Duration = Duration::from_millis(500);

/// What the kernel adds to the RTT before it retransmits a segment for the first time, at least.
const MIN_RETRANSMISSION_DELAY: Duration = Duration::from_millis(200);

/// What it adds where the RTT varies: so many of its mean deviations.
const RETRANSMISSION_DEVIATIONS: u32 = 4;

/// A peer that sends nothing for longer than this has paused: the interval of its pings, and time to repair a loss.
const MAX_SEND_PAUSE: Duration = Duration::from_secs(3);

/// Follows the acknowledgements of the peer's kernel on one channel.
///
/// A ping behind a lot of data on a slow path is answered late. While the kernel acknowledges the data before it, the
/// peer is not silent. Once the peer's kernel has the ping, only an answer counts: the process, or the network behind
/// an intermediary that terminates the connection, may be dead.
#[derive(Debug)]
pub(super) struct AckProgress {
    /// How many bytes the peer's kernel had acknowledged at the last update.
    acknowledged: u64,
    /// When the peer's kernel last acknowledged further bytes.
    progress_at: Instant,
    /// How many bytes had been written to the channel, or were about to be, when an answer became due; `None` while
    /// none is.
    written_when_due: Option<u64>,
    /// Since when data is known to be in flight and no segment with an acknowledgement has arrived; `None` while none
    /// is in flight. In an outage of one direction the peer's own data carries acknowledgements of nothing new, and
    /// only the pings show it.
    unacknowledged_since: Option<Instant>,
    /// In which time a lost segment is repaired, and an RTT more, at the last update.
    repair_time: Duration,
    /// How many data segments had been received at the last update.
    received_segments: u64,
    /// Whether more were received until the last update than until the one before, at which an answer was due already.
    has_received: bool,
    /// Whether an answer was due at the last update.
    was_answer_due: bool,
    /// When data was first and last received without a pause of [`MAX_SEND_PAUSE`]; `None` before the first.
    receiving: Option<(Instant, Instant)>,
}

impl AckProgress {
    /// Creates the state of a channel on which nothing was acknowledged yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            acknowledged: 0,
            progress_at: now,
            written_when_due: None,
            unacknowledged_since: None,
            repair_time: Duration::ZERO,
            received_segments: 0,
            has_received: false,
            was_answer_due: false,
            receiving: None,
        }
    }

    /// Updates the state with the kernel's statistics. `queued` is the number of encoded bytes that the socket has not
    /// accepted, and `is_answer_due` whether the peer owes an answer. Returns when data before the unanswered ping was
    /// acknowledged, if it was since the last update.
    pub(super) fn update(
        &mut self,
        tcp: &TcpInfo,
        queued: usize,
        is_answer_due: bool,
        now: Instant,
    ) -> Option<Instant> {
        let retransmission_delay =
            MIN_RETRANSMISSION_DELAY.max(tcp.rtt_deviation * RETRANSMISSION_DEVIATIONS);
        self.repair_time = tcp.smoothed_rtt * 3 + retransmission_delay;
        let has_received = tcp.received_segments > self.received_segments;
        self.received_segments = tcp.received_segments;
        self.has_received = has_received && self.was_answer_due;
        self.was_answer_due = is_answer_due;
        if has_received {
            let is_paused = |last| now.saturating_duration_since(last) > MAX_SEND_PAUSE;
            let begin = self.receiving.filter(|&(_, last)| !is_paused(last)).map_or(now, |(begin, _)| begin);
            self.receiving = Some((begin, now));
        }
        self.unacknowledged_since = (tcp.bytes_in_flight > 0).then(|| {
            // What is in flight may have been sent long after the last acknowledgement.
            let known_since = self.unacknowledged_since.unwrap_or(now);
            now.checked_sub(tcp.last_ack_age).map_or(known_since, |last_ack_at| known_since.max(last_ack_at))
        });
        let has_progress = tcp.acknowledged_bytes > self.acknowledged;
        self.acknowledged = tcp.acknowledged_bytes;
        if has_progress {
            self.progress_at = now.checked_sub(tcp.last_ack_age).unwrap_or(now);
        }
        if !is_answer_due {
            self.written_when_due = None;
            return None;
        }
        let written = tcp.acknowledged_bytes + tcp.bytes_in_flight + tcp.unsent_bytes + queued as u64;
        let written_when_due = *self.written_when_due.get_or_insert(written);
        (has_progress && self.acknowledged < written_when_due).then_some(self.progress_at)
    }

    /// Returns whether data was received between the last two updates while an answer was due, be it behind a lost
    /// segment. Then a read returns none of it until that is retransmitted, which after an outage of a long path takes
    /// two RTTs more: the peer is not silent meanwhile. What an idle channel received since its last update, many
    /// seconds ago, says nothing about an answer that is due only now.
    pub(super) fn has_received(&self) -> bool {
        self.has_received
    }

    /// Returns for how long the peer has sent without a pause, until the last update at which something had arrived.
    /// What arrives right after an outage does not show that the peer, which could not be reached, has read nothing.
    pub(super) fn receiving_time(&self) -> Duration {
        self.receiving.map_or(Duration::ZERO, |(begin, last)| last.saturating_duration_since(begin))
    }

    /// Returns when the peer's kernel counts as silent if it acknowledges nothing until then; `None` while nothing is
    /// in flight.
    pub(super) fn ack_due_at(&self) -> Option<Instant> {
        let timeout = MIN_ACK_TIMEOUT.max(self.repair_time);
        self.unacknowledged_since.map(|since| since + timeout)
    }

    /// Returns for how long the peer's kernel has acknowledged nothing.
    pub(super) fn stall(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.progress_at)
    }
}

#[cfg(test)]
mod tests;
