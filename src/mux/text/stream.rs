//! The state that the text adapter keeps for each stream.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;

use crate::{ids::StreamKey, mux::limits::MAX_CLOSED_KEYS};

/// A stream of a text peer: the offsets and flags that the text format does not carry.
#[derive(Debug)]
pub(super) struct TextStream {
    /// The stream's key in the lines of this text peer.
    pub(super) wire_key: StreamKey,
    /// The stream key everywhere else. It differs for a peer that knows no stream ids.
    pub(super) key: StreamKey,
    /// Whether the peer's STREAM_START was received. Data before it is kept in `early_data`.
    pub(super) is_started: bool,
    /// Data that was received before STREAM_START.
    early_data: VecDeque<Bytes>,
    /// What `early_data` takes, in bytes, with its bookkeeping.
    early_bytes: usize,
    /// Bytes received since STREAM_START.
    pub(super) received: u64,
    /// Whether STREAM_END was received.
    pub(super) is_end_received: bool,
    /// How many of the received bytes have left this process.
    pub(super) consumed: u64,
    /// The consumed bytes in the last WINDOW frame of this side, where the END counts as one byte.
    pub(super) acknowledged: u64,
    /// Whether this side has closed the stream, while the RESET for the peer was not written yet.
    pub(super) is_abandoned: bool,
    /// Whether the peer has reset the stream, while not all of its data was consumed. Its key is closed already.
    pub(super) is_reset_by_peer: bool,
    /// Bytes of the stream that were sent to the peer.
    pub(super) sent: u64,
    /// Whether STREAM_END was sent.
    pub(super) is_end_sent: bool,
    /// Whether this side has sent STREAM_PAUSE and not yet STREAM_RESUME.
    pub(super) has_paused_peer: bool,
    /// Whether the peer has sent STREAM_PAUSE and not yet STREAM_RESUME.
    pub(super) is_paused_by_peer: bool,
}

impl TextStream {
    /// Creates a stream on which nothing was sent or received. `is_started` says whether no STREAM_START is expected.
    pub(super) fn new(wire_key: StreamKey, key: StreamKey, is_started: bool) -> Self {
        Self {
            wire_key,
            key,
            is_started,
            early_data: VecDeque::new(),
            early_bytes: 0,
            received: 0,
            is_end_received: false,
            consumed: 0,
            acknowledged: 0,
            is_abandoned: false,
            is_reset_by_peer: false,
            sent: 0,
            is_end_sent: false,
            has_paused_peer: false,
            is_paused_by_peer: false,
        }
    }

    /// Keeps data that was received before STREAM_START. Returns what it takes, in bytes, with its bookkeeping.
    pub(super) fn push_early_data(&mut self, payload: Bytes) -> usize {
        let cost = payload.len().max(256);
        self.early_data.push_back(payload);
        self.early_bytes += cost;
        cost
    }

    /// Returns what the data that was received before STREAM_START takes, in bytes, with its bookkeeping.
    pub(super) fn early_bytes(&self) -> usize {
        self.early_bytes
    }

    /// Removes and returns the data that was received before STREAM_START, and what it has taken.
    pub(super) fn take_early_data(&mut self) -> (VecDeque<Bytes>, usize) {
        (std::mem::take(&mut self.early_data), std::mem::take(&mut self.early_bytes))
    }

    /// Returns how many bytes were received and not consumed; 0 after this side has closed the stream.
    pub(super) fn buffered(&self) -> u64 {
        if self.is_abandoned { 0 } else { self.received - self.consumed }
    }

    /// Returns whether both directions have ended and all received data, with the END, is consumed.
    pub(super) fn is_finished(&self) -> bool {
        self.is_end_sent && self.is_end_received && self.acknowledged > self.received
    }
}

/// The stream keys that were closed last. Lines for them were in flight, and are no error.
#[derive(Debug, Default)]
pub(super) struct ClosedKeys {
    /// The keys of recently closed streams, oldest first.
    order: VecDeque<StreamKey>,
    /// The same keys as a set, for look-up.
    keys: HashSet<StreamKey>,
}

impl ClosedKeys {
    /// Adds a key, and removes the oldest if there are more than [`MAX_CLOSED_KEYS`].
    pub(super) fn insert(&mut self, key: StreamKey) {
        if self.keys.insert(key) {
            self.order.push_back(key);
        }
        if self.order.len() > MAX_CLOSED_KEYS
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }

    /// Returns whether a stream with this key was closed recently.
    pub(super) fn contains(&self, key: &StreamKey) -> bool {
        self.keys.contains(key)
    }
}
