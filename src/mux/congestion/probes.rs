//! Probes of a channel: pings behind its data whose answers tell how much of that the peer has received.

use std::{collections::VecDeque, time::Instant};

use crate::mux::limits::MAX_UNANSWERED_PROBES;

/// Counts the data sent on one channel, and stores the probes that the peer has not answered yet.
///
/// The answer to a probe acknowledges all data that was sent before the probe. (WINDOW frames say less: a slow reader
/// delays them.) The difference between the data sent and the data acknowledged in this way is in flight.
#[derive(Debug, Default)]
pub(in crate::mux) struct ProbeTracker {
    /// Bytes of DATA payload sent on the channel.
    sent: u64,
    /// How many of these the peer has acknowledged by answering a probe behind them.
    delivered: u64,
    /// How many of these were sent before the last probe.
    probed: u64,
    /// The token of the probe that was sent last; 0 before the first.
    last_token: u64,
    /// Probes without an answer, oldest first.
    unanswered: VecDeque<SentProbe>,
}

/// A probe that was sent and not answered yet: a ping behind data.
#[derive(Debug, Clone, Copy)]
pub(in crate::mux) struct SentProbe {
    /// The token by which the answer names the probe. Tokens rise by one with each probe of the channel.
    token: u64,
    /// When the probe was sent.
    pub(super) sent_at: Instant,
    /// How many bytes of data had been sent on the channel before it.
    data_sent: u64,
}

impl ProbeTracker {
    /// Counts `bytes` of DATA payload that are sent.
    pub(super) fn on_data_sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// Records that a probe is sent. Returns its token. Drops the oldest probe without an answer if there are too
    /// many of them.
    pub(super) fn send(&mut self, now: Instant) -> u64 {
        if self.is_full() {
            self.unanswered.pop_front();
        }
        self.last_token += 1;
        self.probed = self.sent;
        self.unanswered.push_back(SentProbe { token: self.last_token, sent_at: now, data_sent: self.sent });
        self.last_token
    }

    /// Records the answer to the probe with this token: all data sent before that probe is acknowledged. Returns that
    /// probe, or `None` if no answer to it is expected.
    pub(super) fn on_answer(&mut self, token: u64) -> Option<SentProbe> {
        let answered = self.unanswered.iter().position(|probe| probe.token == token)?;
        // A peer that finds several pings together answers only the last of them.
        let probe = self.unanswered.drain(..=answered).next_back()?;
        self.delivered = probe.data_sent;
        Some(probe)
    }

    /// Returns the bytes of data sent on the channel since it was established.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Returns the bytes of data that the peer has acknowledged by answering a probe behind them.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Returns the bytes of data in flight: sent, and not acknowledged by the answer to a probe.
    pub(super) fn in_flight(&self) -> u64 {
        self.sent - self.delivered
    }

    /// Returns the bytes of data that were sent after the last probe.
    pub(super) fn unprobed(&self) -> u64 {
        self.sent - self.probed
    }

    /// Returns the token of the probe that was sent last; 0 before the first.
    pub(super) fn last_token(&self) -> u64 {
        self.last_token
    }

    /// Returns the oldest probe without an answer; `None` if all are answered.
    pub(super) fn oldest_unanswered(&self) -> Option<&SentProbe> {
        self.unanswered.front()
    }

    /// Returns the newest probe without an answer; `None` if all are answered.
    pub(super) fn newest_unanswered(&self) -> Option<&SentProbe> {
        self.unanswered.back()
    }

    /// Returns whether every probe was answered.
    pub(super) fn is_empty(&self) -> bool {
        self.unanswered.is_empty()
    }

    /// Returns whether as many probes are unanswered as are tracked at most, so that the next one replaces the
    /// oldest.
    pub(super) fn is_full(&self) -> bool {
        self.unanswered.len() >= MAX_UNANSWERED_PROBES
    }
}

#[cfg(test)]
mod tests;
