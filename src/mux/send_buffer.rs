//! The sending half of a stream: the send buffer and the peer's credit.

use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use super::{
    budget::{BufferSide, Claim, MemoryBudget, Reservation},
    compact::copy_if_shorter,
    config::MuxConfig,
    error::ProtocolError,
    limits::{
        MAX_COALESCED_LEN, MAX_COMPACTED_LEN, MAX_RANGES_TO_MOVE, MAX_SMALL_CHUNKS_PER_STREAM,
        MAX_STRIPED_RANGES_PER_STREAM, MAX_UNSENT_PER_STREAM, MIN_WRITABLE_BYTES, SMALL_CHUNK_LEN,
    },
    peer_reader::PeerReader,
    ranges::RangeTracker,
    send_flow::SendFlow,
};

/// Buffers the data of a stream until the peer has acknowledged it, that is, until the peer's reader has consumed it.
///
/// ```text
///        acked          sent          written       limit
/// ─────────┼──────────────┼──────────────┼─────────────┼──────► offset
///  freed   │ in flight    │ unsent       │ credit left │ no credit
/// ```
///
/// The buffer keeps exactly `acked..written`: when a channel dies, the data in flight on it is retransmitted on
/// another. A [`RangeTracker`] records which data is in flight on a channel other than the stream's primary channel.
#[derive(Debug)]
pub(super) struct SendBuffer {
    /// The data that the peer has not acknowledged, with the offset of each chunk.
    chunks: VecDeque<(u64, Bytes)>,
    /// How many chunks at the end of `chunks` are small and not coalesced yet.
    small_chunks: usize,
    /// Index in `chunks` of the chunk that contains the offset `sent`, or an index before it.
    cursor: usize,
    /// The peer has acknowledged all data below this offset.
    acked: u64,
    /// All data below this offset was sent at least once.
    sent: u64,
    /// The ranges of data in flight on other channels than the primary one, and those that have to be retransmitted.
    ranges: RangeTracker,
    /// The offset up to which the writer has written data.
    written: u64,
    /// The peer's credit: the offset up to which it accepts data. It never falls.
    limit: u64,
    /// The limit that [ended](Self::end_early_credit) with the peer's answer. A writer that asked for its credit before
    /// may still write up to it: the peer expects that.
    early_limit: u64,
    /// The largest window that this side honours, whatever the peer advertises.
    max_window: u32,
    /// Up to how many buffered bytes a stream whose peer consumes them competes with others for the budget. Beyond it
    /// the stream is one on a long path.
    initial_window: u64,
    /// What is reserved from the memory budget for buffered bytes beyond the minimum of a stream.
    reservation: Reservation,
    /// What is known of the peer's reader.
    peer_reader: PeerReader,
    /// Whether the operator has paused the stream: nothing may be written.
    is_paused: bool,
    /// Whether the peer's window is larger than the budget allows this side to buffer.
    is_budget_limited: bool,
    /// Bytes that were retransmitted since the stream was opened.
    retransmitted: u64,
    /// An offset, and the time at which the data below it was written, while its queue wait is being measured.
    queue_wait_mark: Option<(u64, Instant)>,
    /// Whether the END is queued, sent, or acknowledged.
    end: SendEnd,
}

/// How far the sending half of a stream is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SendEnd {
    /// More data may be written.
    Open,
    /// No more data will be written. The END was not sent, or has to be retransmitted.
    Queued,
    /// The END was sent.
    Sent,
    /// The peer has acknowledged all data and the END.
    Acked,
    /// The peer has reset the stream: nothing is sent any more.
    Abandoned,
}

/// The payload of one DATA frame, from [`SendBuffer::next_chunk`].
#[derive(Debug)]
pub(super) struct OutgoingChunk {
    /// The offset of the payload in the stream.
    pub(super) offset: u64,
    /// The data; empty if only the END is sent.
    pub(super) payload: Bytes,
    /// Whether the END flag is set: the chunk ends the stream's data.
    pub(super) fin: bool,
    /// When the data was written whose queue wait is measured, if this is the last of it.
    pub(super) written_at: Option<Instant>,
}

impl SendBuffer {
    /// Creates an empty send buffer. `window` is the peer's initial window in bytes, `config` that of this side's mux.
    pub(super) fn new(window: u32, config: &MuxConfig) -> Self {
        let max_window = config.max_window;
        Self {
            chunks: VecDeque::new(),
            small_chunks: 0,
            cursor: 0,
            acked: 0,
            sent: 0,
            ranges: RangeTracker::default(),
            written: 0,
            limit: window.min(max_window).into(),
            early_limit: 0,
            max_window,
            initial_window: config.initial_window.into(),
            reservation: Reservation::new(BufferSide::Sending),
            peer_reader: PeerReader::new(window),
            is_paused: false,
            is_budget_limited: false,
            retransmitted: 0,
            queue_wait_mark: None,
            end: SendEnd::Open,
        }
    }

    /// Returns how many bytes may be written now: as many as the peer's credit, [`MAX_UNSENT_PER_STREAM`] and the
    /// memory budget allow.
    pub(super) fn writable(&mut self, budget: &MemoryBudget) -> usize {
        if self.end != SendEnd::Open || self.is_paused {
            return 0;
        }
        let credit = self.limit - self.written.min(self.limit);
        let wanted = credit.min(MAX_UNSENT_PER_STREAM.saturating_sub(self.unsent()));
        let buffered = self.written - self.acked;
        let max_buffered = self.max_buffered(buffered + wanted, budget);
        let writable = wanted.min(max_buffered.saturating_sub(buffered));
        self.is_budget_limited = writable < wanted;
        // If little is writable and more will be without any action of the writer, waiting for it saves system calls
        // (silly window syndrome, RFC 1122).
        let window = if self.is_budget_limited { max_buffered } else { self.limit - self.acked };
        let min_writable = MIN_WRITABLE_BYTES.min(window / 2);
        if writable < min_writable && self.written > self.acked {
            0
        } else {
            usize::try_from(writable).unwrap_or(usize::MAX)
        }
    }

    /// Returns how many bytes may be buffered now, if that is less than `wanted`.
    fn max_buffered(&self, wanted: u64, budget: &MemoryBudget) -> u64 {
        let (held, min_window) = (self.reservation.bytes(), budget.min_window());
        if wanted <= min_window + held {
            return wanted;
        }
        let initial = self.initial_window.saturating_sub(min_window);
        let claim = self.peer_reader.claim(self.acked, self.initial_window, budget);
        let allowance = |claim| self.reservation.allowance(claim, budget);
        let elastic = allowance(claim).min(initial).max(allowance(Claim::Growth));
        wanted.min(min_window + elastic.max(held))
    }

    /// Appends data to be sent, at most as much as is [writable](Self::writable), and reserves its bytes.
    pub(super) fn write(&mut self, bytes: Bytes, budget: &MemoryBudget) {
        debug_assert!(self.end == SendEnd::Open, "written after the end");
        debug_assert!(
            self.written + bytes.len() as u64 <= self.limit.max(self.early_limit),
            "written without credit"
        );
        if bytes.is_empty() {
            return;
        }
        let len = bytes.len();
        match self.chunks.back_mut() {
            // Neither is sent yet: they go out in one frame.
            Some((start, last)) if *start >= self.sent && last.len() + len <= MAX_COALESCED_LEN => {
                let mut coalesced = BytesMut::with_capacity(last.len() + len);
                coalesced.extend_from_slice(last);
                coalesced.extend_from_slice(&bytes);
                *last = coalesced.freeze();
            }
            _ => {
                self.chunks.push_back((self.written, bytes));
                self.small_chunks = if len < SMALL_CHUNK_LEN { self.small_chunks + 1 } else { 0 };
                if self.small_chunks >= MAX_SMALL_CHUNKS_PER_STREAM {
                    self.coalesce_small_chunks();
                }
            }
        }
        self.written += len as u64;
        // The writer may have asked for its credit before the peer's answer withdrew that.
        self.limit = self.limit.max(self.written);
        self.reserve_buffered(budget);
    }

    /// Adjusts the reservation to what is buffered. An atomic operation for each chunk beyond the minimum costs little;
    /// multiples of 64 KiB, which were reserved at first, added up to more than was buffered where many streams
    /// stalled.
    fn reserve_buffered(&mut self, budget: &MemoryBudget) {
        self.reservation.resize((self.written - self.acked).saturating_sub(budget.min_window()), budget);
    }

    /// Returns everything that is reserved, because the stream has ended or is reset.
    pub(super) fn release(&mut self, budget: &MemoryBudget) {
        self.reservation.resize(0, budget);
    }

    /// Copies slices up to half a pooled buffer out of the buffers they were read into: the peer has taken nothing for
    /// long.
    pub(super) fn compact(&mut self) {
        self.chunks.iter_mut().for_each(|(_, chunk)| copy_if_shorter(chunk, MAX_COMPACTED_LEN));
    }

    /// Coalesces the small chunks at the end of the buffer. A user that types, or an attacker, writes single bytes;
    /// each would be kept with fifty bytes of bookkeeping.
    ///
    /// Charging that to the window until it is acknowledged was tried first. Acknowledgements are due after a number
    /// of bytes, so that after a thousand keys both sides waited for each other.
    fn coalesce_small_chunks(&mut self) {
        let first_small = self.chunks.len() - std::mem::take(&mut self.small_chunks);
        let bytes: usize = self.chunks.range(first_small..).map(|(_, chunk)| chunk.len()).sum();
        // The chunk that was coalesced last time is included if it is still short.
        let before =
            first_small.checked_sub(1).filter(|&last| self.chunks[last].1.len() + bytes <= MAX_COALESCED_LEN);
        let from = before.unwrap_or(first_small);
        let start = self.chunks[from].0;
        let mut coalesced =
            BytesMut::with_capacity(bytes + before.map_or(0, |last| self.chunks[last].1.len()));
        self.chunks.drain(from..).for_each(|(_, chunk)| coalesced.extend_from_slice(&chunk));
        self.chunks.push_back((start, coalesced.freeze()));
        self.cursor = self.cursor.min(from);
    }

    /// Starts to measure the queue wait of the data written so far, unless it was sent already or an earlier
    /// measurement is not finished.
    pub(super) fn measure_queue_wait(&mut self, now: Instant) {
        if self.sent < self.written {
            self.queue_wait_mark.get_or_insert((self.written, now));
        }
    }

    /// Returns the flow-control state for telemetry. `min_rtt` is that of the primary channel.
    pub(super) fn flow(&self, min_rtt: Option<Duration>) -> SendFlow {
        SendFlow {
            window: self.limit - self.acked,
            unsent: self.unsent(),
            in_flight: self.written - self.acked - self.unsent(),
            acknowledged: self.acked,
            retransmitted: self.retransmitted,
            is_paused: self.is_paused,
            is_budget_limited: self.is_budget_limited,
            min_rtt,
        }
    }

    /// Returns how many bytes were written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Withdraws the credit that the stream had before the peer accepted it, as far as it was not used: from now on the
    /// peer's counts.
    pub(super) fn end_early_credit(&mut self) {
        self.early_limit = self.limit;
        self.limit = self.written;
        self.peer_reader.forget_first_window();
    }

    /// Returns how many bytes were written and acknowledged, in sum.
    pub(super) fn progress(&self) -> u64 {
        self.written + self.acked
    }

    /// Pauses the stream, or resumes it: while it is paused, nothing is writable.
    pub(super) fn set_paused(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    /// Queues the END. Nothing may be written after it.
    pub(super) fn finish(&mut self) {
        if self.end == SendEnd::Open {
            self.end = SendEnd::Queued;
        }
    }

    /// Returns whether there is data or the END to send.
    pub(super) fn has_output(&self) -> bool {
        self.ranges.first_lost().is_some() || self.sent < self.written || self.end == SendEnd::Queued
    }

    /// Returns how many bytes were written and are not sent, or have to be retransmitted.
    pub(super) fn unsent(&self) -> u64 {
        self.written - self.sent + self.ranges.lost_bytes()
    }

    /// Returns whether the peer has acknowledged all data and the END.
    pub(super) fn is_done(&self) -> bool {
        self.end == SendEnd::Acked
    }

    /// Returns how many bytes were sent, where the END counts as one, for a RESET frame.
    pub(super) fn final_size(&self) -> u64 {
        self.sent + u64::from(matches!(self.end, SendEnd::Sent | SendEnd::Acked))
    }

    /// Returns whether the peer has acknowledged everything that was written, and the END if one was queued.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.acked == self.written && matches!(self.end, SendEnd::Open | SendEnd::Acked)
    }

    /// Discards all data and an unsent END, because the peer has reset the stream. Nothing is writable afterwards, and
    /// acknowledgements change nothing.
    pub(super) fn abandon(&mut self) {
        self.chunks.clear();
        (self.small_chunks, self.cursor) = (0, 0);
        (self.sent, self.acked) = (self.written, self.written);
        self.ranges = RangeTracker::default();
        self.queue_wait_mark = None;
        self.end = SendEnd::Abandoned;
    }

    /// Returns all data that the peer has not acknowledged.
    pub(super) fn into_data(self) -> Vec<Bytes> {
        self.chunks.into_iter().map(|(_, chunk)| chunk).collect()
    }

    /// Returns whether data may be sent on secondary channels. The peer must have acknowledged `min_acked` bytes, and
    /// at least one: then both sides know the stream, and it is longer than a message.
    pub(super) fn may_stripe(&self, min_acked: u64) -> bool {
        self.acked > 0
            && self.acked >= min_acked
            && self.unsent() > 0
            && self.ranges.ranges_on_secondaries() < MAX_STRIPED_RANGES_PER_STREAM
    }

    /// Returns the next payload to send, of at most `max_len` bytes, and records it as sent; `None` if there is
    /// nothing to send. Lost data is retransmitted before new data is sent. `secondary` is the channel, if it goes
    /// out on another than the primary one. The last chunk carries the END flag, except on a secondary channel.
    pub(super) fn next_chunk(&mut self, max_len: usize, secondary: Option<u16>) -> Option<OutgoingChunk> {
        if !self.has_output() {
            return None;
        }
        let lost = self.ranges.first_lost();
        let (offset, payload) = match &lost {
            Some(lost) => (lost.start, self.lost_data(lost, max_len)),
            None => (self.sent, self.new_data(max_len)),
        };
        let (len, end) = (payload.len() as u64, offset + payload.len() as u64);
        if lost.is_some() {
            self.ranges.retransmit(len);
            self.retransmitted += len;
        } else {
            self.sent = end;
        }
        let fin = secondary.is_none() && self.end == SendEnd::Queued && end == self.written;
        if fin {
            self.end = SendEnd::Sent;
        }
        if let Some(channel) = secondary.filter(|_| len > 0) {
            self.ranges.send_on_secondary(offset..end, channel);
        }
        let mark = self.queue_wait_mark.take_if(|(end, _)| *end <= self.sent);
        Some(OutgoingChunk { offset, payload, fin, written_at: mark.map(|(_, written_at)| written_at) })
    }

    /// Returns up to `max_len` bytes that were not sent yet, of one chunk; empty if there are none.
    fn new_data(&mut self, max_len: usize) -> Bytes {
        if self.sent == self.written {
            return Bytes::new();
        }
        while self.chunk_end(self.cursor) <= self.sent {
            self.cursor += 1;
        }
        self.slice_of(self.cursor, self.sent, max_len)
    }

    /// Returns up to `max_len` bytes from the start of a range that has to be retransmitted, of one chunk.
    fn lost_data(&self, lost: &Range<u64>, max_len: usize) -> Bytes {
        let index = self.chunks.partition_point(|(start, chunk)| start + chunk.len() as u64 <= lost.start);
        let lost_len = usize::try_from(lost.end - lost.start).unwrap_or(usize::MAX);
        self.slice_of(index, lost.start, max_len.min(lost_len))
    }

    /// Returns the data from `offset`, which is in the chunk with this index, to the end of that chunk, and at most
    /// `max_len` bytes.
    fn slice_of(&self, index: usize, offset: u64, max_len: usize) -> Bytes {
        let (start, chunk) = &self.chunks[index];
        // A chunk is no longer than one read, so that this index always fits.
        let from = usize::try_from(offset - start).unwrap_or(usize::MAX);
        chunk.slice(from..chunk.len().min(from.saturating_add(max_len)))
    }

    /// Returns the stream offset at which the chunk with this index ends.
    fn chunk_end(&self, index: usize) -> u64 {
        let (start, chunk) = &self.chunks[index];
        start + chunk.len() as u64
    }

    /// Returns the acknowledged offset, the offset up to which the peer accepts data, and whether the END is
    /// acknowledged. An acknowledgement that changes none of these is a glitch.
    pub(super) fn ack_state(&self) -> (u64, u64, bool) {
        (self.acked, self.limit, self.is_done())
    }

    /// Records that the peer has consumed `consumed` bytes, where the END counts as one, and accepts `window` more.
    /// What was reserved for them and is not needed any more returns to the budget.
    ///
    /// # Errors
    /// [`ProtocolError::AckOfUnsentData`] and [`ProtocolError::OffsetOverflow`].
    pub(super) fn acknowledge(
        &mut self,
        consumed: u64,
        window: u32,
        budget: &MemoryBudget,
    ) -> Result<(), ProtocolError> {
        if self.end == SendEnd::Abandoned {
            return Ok(());
        }
        let end_consumed = self.was_end_sent() && consumed == self.written + 1;
        let bytes = if end_consumed { self.written } else { consumed };
        if bytes > self.sent {
            return Err(ProtocolError::AckOfUnsentData);
        }
        let limit =
            bytes.checked_add(window.min(self.max_window).into()).ok_or(ProtocolError::OffsetOverflow)?;
        self.peer_reader.on_window(window, self.initial_window);
        // Frames of different channels overtake each other: an older acknowledgement changes nothing.
        self.limit = self.limit.max(limit);
        if bytes > self.acked {
            self.acked = bytes;
            self.ranges.acknowledge(bytes);
            while self.chunks.front().is_some_and(|(start, chunk)| start + chunk.len() as u64 <= bytes) {
                self.chunks.pop_front();
                self.cursor = self.cursor.saturating_sub(1);
            }
            self.small_chunks = self.small_chunks.min(self.chunks.len());
            self.reserve_buffered(budget);
        }
        if end_consumed {
            self.end = SendEnd::Acked;
        }
        Ok(())
    }

    /// Returns whether the END was sent at least once.
    fn was_end_sent(&self) -> bool {
        // After a loss the END is queued again, but the peer may have received the first one.
        matches!(self.end, SendEnd::Queued | SendEnd::Sent | SendEnd::Acked) && self.sent == self.written
    }

    /// Queues for retransmission the data in flight on the primary channel, because that channel is lost.
    pub(super) fn lose_primary(&mut self) {
        self.ranges.lose_primary(self.acked..self.sent);
        if self.end == SendEnd::Sent {
            self.end = SendEnd::Queued;
        }
    }

    /// Makes `channel` the stream's primary channel.
    pub(super) fn set_primary(&mut self, channel: u16) {
        self.ranges.set_primary(channel);
    }

    /// Returns whether the stream may move to another primary channel: no END was written, and few ranges are in flight
    /// on other channels.
    pub(super) fn may_move(&self) -> bool {
        self.end == SendEnd::Open && self.ranges.ranges_on_secondaries() < MAX_RANGES_TO_MOVE
    }

    /// Makes `to` the primary channel instead of `from`, which is not lost and still delivers what is in flight on it.
    /// An END that was sent is sent again: only one channel's loss may be needed to repeat it.
    pub(super) fn move_primary(&mut self, from: u16, to: u16) {
        self.ranges.move_primary(from, to, self.acked..self.sent);
        if self.end == SendEnd::Sent {
            self.end = SendEnd::Queued;
        }
    }

    /// Records that the peer has received everything that was sent on a secondary channel.
    pub(super) fn settle_secondary(&mut self, channel: u16) {
        self.ranges.settle_secondary(channel);
    }

    /// Queues for retransmission the data in flight on a secondary channel, because that channel is lost or suspect.
    /// Returns whether any data was in flight there.
    pub(super) fn lose_secondary(&mut self, channel: u16) -> bool {
        self.ranges.lose_secondary(channel)
    }
}

#[cfg(test)]
mod tests;
