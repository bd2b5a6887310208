//! The receiving half of a stream: the reassembly buffer and the credit for the peer.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes, BytesMut};

use super::{
    budget::{BufferSide, Claim, MIN_WINDOW, MemoryBudget, Reservation},
    compact::{copy_if_shorter, copy_if_small},
    error::ProtocolError,
    limits::{BYTES_PER_EXTRA_SEGMENT, MAX_COALESCED_LEN, MAX_OUT_OF_ORDER_SEGMENTS, MAX_READY_SEGMENTS},
    window_tuning::ReceivedFlow,
};

/// While it is not proven that the reader makes progress, its window holds this many times what it is known to have
/// read, if so much is free. With a factor of 1, as in slow start, a download of 1 MB took two RTTs more.
const RAMP_FACTOR: u64 = 4;

/// So many consumed bytes are acknowledged at once if no more are waiting: a sender whose memory is short may buffer no
/// more than the reserved minimum until then, however large the window is.
const MIN_DRAINED_ACK: u64 = MIN_WINDOW / 2;

/// Reassembles the data of a stream, and grants the peer credit for what the reader has consumed.
///
/// ```text
///       consumed     next_offset              limit
/// ──────────┼─────────────┼─────────────────────┼──────► offset
///  consumed │ ready,      │ out-of-order data   │ beyond the limit:
///           │ in order    │ beyond a gap        │ protocol error
/// ```
#[derive(Debug)]
pub(super) struct RecvBuffer {
    /// Data in order that was not read yet.
    ready: VecDeque<Bytes>,
    /// How many segments at the front of `ready` were coalesced already.
    coalesced: usize,
    /// Slices that are received in order and are shorter than this are copied out of the pooled buffers they were
    /// received in; 0 unless the reader is blocked.
    copied_below: usize,
    /// Out-of-order data by its offset. No two segments overlap.
    out_of_order: BTreeMap<u64, Bytes>,
    /// The sum of the lengths of the segments in `out_of_order`, in bytes.
    out_of_order_bytes: u64,
    /// The offset up to which all data has been received without a gap.
    next_offset: u64,
    /// The offset up to which the reader has consumed data.
    consumed: u64,
    /// The value of `consumed` in the last WINDOW or OPEN_OK frame.
    advertised_consumed: u64,
    /// The flow-control limit: the offset up to which the peer may send. It never falls.
    limit: u64,
    /// The offset up to which a server may have sent before it knows the limit; 0 for the data of a proxy, which may
    /// send nothing before. Beyond the limit, bytes are reserved when they arrive.
    early_limit: u64,
    /// The receive window in bytes: how many the peer may send beyond those that were consumed.
    window: u32,
    /// The receive window, in bytes, that the stream would have with enough memory: the initial one, or what
    /// auto-tuning has raised it to.
    wanted_window: u32,
    /// What is reserved from the memory budget for the bytes beyond the minimum that the peer may send or that were not
    /// consumed.
    reservation: Reservation,
    /// Whether the reader has consumed so much that it makes progress, beyond what kernels take.
    is_reader_proven: bool,
    /// How many bytes the reader is known to have read, while that does not suffice as a proof.
    read_bytes: u64,
    /// Whether data beyond the limit is a protocol error. A text peer knows no limit.
    enforces_limit: bool,
    /// Whether the operator has paused the stream: the limit is not raised.
    is_paused: bool,
    /// Whether the receive window would be larger if the memory budget of all windows allowed it.
    is_budget_limited: bool,
    /// The size of the stream in bytes; `None` until its END was received.
    final_size: Option<u64>,
    /// The number of bytes that precede the peer's RESET, where the END counts as one; `None` unless the peer has reset
    /// the stream after its data.
    reset_size: Option<u64>,
    /// Whether the END was received, and whether it was consumed.
    end: RecvEnd,
}

/// The flow-control state of the receiving half of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecvFlow {
    /// The receive window: how many bytes the peer may send beyond those that were consumed.
    pub window: u64,
    /// Bytes received and not consumed.
    pub buffered: u64,
    /// Bytes that the peer may still send before it needs another WINDOW.
    pub credit: u64,
    /// Whether the receive window would be larger if the memory budget of all windows allowed it.
    pub is_budget_limited: bool,
    /// Whether all data of the stream and its END have been received.
    pub is_end_received: bool,
}

/// What follows the data that was read from a stream, once no more data does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataEnd {
    /// The END: the peer has finished its sending direction. The peer's RESET may follow it.
    Fin,
    /// The peer's RESET, without an END before it.
    Reset,
}

/// How far the receiving half of a stream is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecvEnd {
    /// Data or the END is missing.
    Open,
    /// All data and the END have been received.
    Received,
    /// All data and the END have been consumed.
    Consumed,
}

impl RecvBuffer {
    /// Creates an empty buffer with this receive window in bytes, which [`adapt_window`](Self::adapt_window) raises to
    /// `wanted_window`. Without `enforces_limit`, data beyond the limit is accepted.
    pub(super) fn new(window: u32, wanted_window: u32, enforces_limit: bool) -> Self {
        Self {
            ready: VecDeque::new(),
            coalesced: 0,
            copied_below: 0,
            out_of_order: BTreeMap::new(),
            out_of_order_bytes: 0,
            next_offset: 0,
            consumed: 0,
            advertised_consumed: 0,
            limit: window.into(),
            early_limit: 0,
            window,
            wanted_window,
            reservation: Reservation::new(BufferSide::Receiving),
            is_reader_proven: false,
            read_bytes: 0,
            enforces_limit,
            is_paused: false,
            is_budget_limited: false,
            final_size: None,
            reset_size: None,
            end: RecvEnd::Open,
        }
    }

    /// Accepts `window` bytes of a server that does not know the limit yet.
    pub(super) fn allow_early(&mut self, window: u32) {
        self.early_limit = window.into();
    }

    /// Inserts the payload of a DATA frame; `fin` is its END flag. Returns whether there is new data, or the END, to
    /// read.
    ///
    /// # Errors
    /// The peer sent data beyond the limit, changed the final size, or leaves too many gaps.
    pub(super) fn insert(
        &mut self,
        offset: u64,
        mut payload: Bytes,
        fin: bool,
    ) -> Result<bool, ProtocolError> {
        let end = offset.checked_add(payload.len() as u64).ok_or(ProtocolError::OffsetOverflow)?;
        let limit = self.limit.max(self.early_limit);
        if self.enforces_limit && end > limit {
            return Err(ProtocolError::FlowControl);
        }
        if self.reset_size.is_some_and(|size| end + u64::from(fin) > size) {
            return Err(ProtocolError::FinalSize);
        }
        match self.final_size {
            Some(size) if end > size || (fin && end != size) => return Err(ProtocolError::FinalSize),
            None if fin => {
                if self.received_to() > end {
                    return Err(ProtocolError::FinalSize);
                }
                self.final_size = Some(end);
            }
            _ => {}
        }
        let before = (self.next_offset, self.end);
        if offset > self.next_offset {
            self.insert_out_of_order(offset, payload)?;
        } else if end > self.next_offset {
            payload.advance(usize::try_from(self.next_offset - offset).unwrap_or(usize::MAX));
            copy_if_shorter(&mut payload, self.copied_below);
            self.append_ready(payload);
            self.move_to_ready();
        }
        if self.end == RecvEnd::Open && self.final_size == Some(self.next_offset) {
            self.end = RecvEnd::Received;
        }
        Ok(before != (self.next_offset, self.end))
    }

    /// Appends a segment that continues the data in order. Coalesces the segments if too many wait for the reader.
    fn append_ready(&mut self, payload: Bytes) {
        self.next_offset += payload.len() as u64;
        self.ready.push_back(payload);
        if self.ready.len() > self.coalesced + MAX_READY_SEGMENTS {
            // A peer that sends single bytes would make us keep a hundred bytes for each. Only the segments that were
            // received since the last time are coalesced, or long ones would be copied again and again.
            let segments = self.ready.split_off(self.coalesced.min(self.ready.len()));
            let mut coalesced = BytesMut::with_capacity(segments.iter().map(Bytes::len).sum());
            segments.iter().for_each(|segment| coalesced.extend_from_slice(segment));
            self.ready.push_back(coalesced.freeze());
            self.coalesced = self.ready.len();
        }
    }

    /// Inserts a segment of the stream that arrived before data preceding it, into the out-of-order data. Overlaps
    /// are trimmed: otherwise a peer that sends the same bytes at many offsets could make us keep far more than its
    /// window.
    fn insert_out_of_order(&mut self, mut offset: u64, mut payload: Bytes) -> Result<(), ProtocolError> {
        let before =
            self.out_of_order.range(..offset).next_back().map(|(at, segment)| at + segment.len() as u64);
        let known = before.unwrap_or(0).saturating_sub(offset).min(payload.len() as u64);
        offset += known;
        payload.advance(usize::try_from(known).unwrap_or(usize::MAX));
        let end = offset + payload.len() as u64;
        while let Some((&at, after)) = self.out_of_order.range(offset..end).next() {
            if at + after.len() as u64 > end {
                payload.truncate(usize::try_from(at - offset).unwrap_or(usize::MAX));
                break;
            }
            self.out_of_order_bytes -= after.len() as u64;
            self.out_of_order.remove(&at);
        }
        if payload.is_empty() {
            return Ok(());
        }
        if before == Some(offset)
            && let Some((_, before)) = self.out_of_order.range_mut(..offset).next_back()
            && before.len() + payload.len() <= MAX_COALESCED_LEN
        {
            self.out_of_order_bytes += payload.len() as u64;
            *before = [&before[..], &payload[..]].concat().into();
            return Ok(());
        }
        let max_segments =
            MAX_OUT_OF_ORDER_SEGMENTS as u64 + self.out_of_order_bytes / BYTES_PER_EXTRA_SEGMENT;
        if self.out_of_order.len() as u64 >= max_segments {
            return Err(ProtocolError::TooManyGaps);
        }
        copy_if_small(&mut payload);
        self.out_of_order_bytes += payload.len() as u64;
        self.out_of_order.insert(offset, payload);
        debug_assert!(
            !self.enforces_limit
                || self.next_offset + self.out_of_order_bytes <= self.limit.max(self.early_limit),
            "more data than the window is buffered"
        );
        Ok(())
    }

    /// Moves the out-of-order data that has become contiguous to the data in order.
    fn move_to_ready(&mut self) {
        while let Some(entry) = self.out_of_order.first_entry() {
            if *entry.key() > self.next_offset {
                break;
            }
            let (offset, mut segment) = entry.remove_entry();
            self.out_of_order_bytes -= segment.len() as u64;
            let known = usize::try_from(self.next_offset - offset).unwrap_or(usize::MAX);
            if known < segment.len() {
                segment.advance(known);
                if known > 0 {
                    copy_if_small(&mut segment);
                }
                self.append_ready(segment);
            }
        }
    }

    /// Moves all data in order to `out`, and unblocks the reader. Returns what follows it; `None` if there may be more.
    pub(super) fn read(&mut self, out: &mut VecDeque<Bytes>) -> Option<DataEnd> {
        self.coalesced = 0;
        self.copied_below = 0;
        out.append(&mut self.ready);
        match self.end {
            RecvEnd::Received | RecvEnd::Consumed => Some(DataEnd::Fin),
            RecvEnd::Open => (self.reset_size == Some(self.next_offset)).then_some(DataEnd::Reset),
        }
    }

    /// Returns the end of the furthest data that was received.
    fn received_to(&self) -> u64 {
        let last = self.out_of_order.last_key_value().map(|(at, segment)| at + segment.len() as u64);
        last.unwrap_or(0).max(self.next_offset)
    }

    /// Records that the peer resets the stream after `size` bytes, where the END counts as one.
    ///
    /// # Errors
    /// The size contradicts the data or the END that was received, or exceeds the limit.
    pub(super) fn reset_after(&mut self, size: u64) -> Result<(), ProtocolError> {
        if self.enforces_limit && size > self.limit.max(self.early_limit) + 1 {
            return Err(ProtocolError::FlowControl);
        }
        if size < self.received_to() || self.final_size.is_some_and(|end| size != end + 1) {
            return Err(ProtocolError::FinalSize);
        }
        self.reset_size = Some(size);
        Ok(())
    }

    /// Ends the data where the first gap is, because the rest will never arrive: a reset follows what was received so
    /// far. Out-of-order data is discarded.
    pub(super) fn reset_at_gap(&mut self) {
        self.out_of_order.clear();
        self.out_of_order_bytes = 0;
        self.reset_size = Some(self.next_offset + u64::from(self.end != RecvEnd::Open));
    }

    /// Returns whether the reader has consumed all data that precedes the first gap, and the END if that follows it.
    pub(super) fn is_consumed(&self) -> bool {
        self.consumed == self.next_offset && self.end != RecvEnd::Received
    }

    /// Returns whether the reader has consumed all that precedes the peer's RESET.
    pub(super) fn is_consumed_to_reset(&self) -> bool {
        let end = u64::from(self.end == RecvEnd::Consumed);
        self.is_consumed() && self.reset_size == Some(self.consumed + end)
    }

    /// Frees all data that was not read, because the reader wants none any more.
    pub(super) fn discard(&mut self) {
        self.ready.clear();
        self.coalesced = 0;
        self.out_of_order.clear();
        self.out_of_order_bytes = 0;
    }

    /// Marks the reader as blocked until it [reads](Self::read) again. Slices shorter than `copied_below`, and those
    /// received until then, are copied out of the pooled buffers that they would keep alive.
    pub(super) fn set_reader_blocked(&mut self, copied_below: usize) {
        if copied_below > self.copied_below {
            self.copied_below = copied_below;
            self.ready.iter_mut().for_each(|segment| copy_if_shorter(segment, copied_below));
        }
    }

    /// Records that the reader makes progress: it gets the window that the stream wants.
    pub(super) fn set_reader_proven(&mut self) {
        self.is_reader_proven = true;
    }

    /// Records how many bytes the reader is known to have read: up to as many more are granted to it, if they are free.
    pub(super) fn set_read_bytes(&mut self, read_bytes: u64) {
        self.read_bytes = read_bytes;
    }

    /// Records that the reader has consumed `bytes` more bytes, which are acknowledged with the next WINDOW.
    pub(super) fn consume(&mut self, bytes: u64) {
        self.consumed += bytes;
        debug_assert!(self.consumed <= self.next_offset, "consumed data that was not received");
    }

    /// Records that the reader has consumed the END. Returns whether that is new.
    pub(super) fn consume_end(&mut self) -> bool {
        let is_new = self.end == RecvEnd::Received && self.consumed == self.next_offset;
        if is_new {
            self.end = RecvEnd::Consumed;
        }
        is_new
    }

    /// Returns whether all data and the END have been consumed.
    pub(super) fn is_done(&self) -> bool {
        self.end == RecvEnd::Consumed
    }

    /// Sets the receive window, in bytes, that the stream would have with enough memory.
    pub(super) fn set_wanted_window(&mut self, wanted_window: u32) {
        self.wanted_window = wanted_window;
    }

    /// Returns whether [`adapt_window`](Self::adapt_window) may change anything. Mostly not: then the window is what
    /// the stream wants, and what is consumed is promised again.
    pub(super) fn must_adapt(&self, budget: &MemoryBudget) -> bool {
        self.window != self.wanted_window
            || self.reservation.bytes() > self.committed(budget)
            || (self.enforces_limit && self.reservation.bytes() > 0 && budget.is_tight())
    }

    /// Sets the receive window to what the stream wants, as far as the memory budget allows that beyond the minimum,
    /// and adjusts the reservation. `initial_window` is the one up to which a stream need not be on a long path.
    ///
    /// Credit that was granted stays granted: if the window shrinks, the limit does not fall, it rises later.
    pub(super) fn adapt_window(&mut self, initial_window: u32, budget: &MemoryBudget) {
        if self.enforces_limit {
            let min = budget.min_window().min(self.wanted_window.into());
            let wanted = u64::from(self.wanted_window) - min;
            let initial = wanted.min(u64::from(initial_window).saturating_sub(min));
            let allowance = |claim| self.reservation.allowance(claim, budget);
            let first = if self.is_reader_proven {
                allowance(Claim::Proven)
            } else {
                // Half of the window, so that the whole of it tells the sender that the reader makes progress.
                let taken = self.read_bytes.saturating_mul(RAMP_FACTOR).min(initial / 2);
                allowance(Claim::Unproven).max(allowance(Claim::Ramp).min(taken))
            };
            let allowed = first.min(initial).max(allowance(Claim::Growth)).min(wanted);
            let beyond_min = allowed.min(self.reservation.grow(allowed, budget));
            self.is_budget_limited = beyond_min < wanted;
            self.window = u32::try_from(min + beyond_min).unwrap_or(u32::MAX);
        }
        self.reservation.resize(self.committed(budget), budget);
    }

    /// Reserves received bytes that were not promised to the peer from the memory budget: those of a peer without flow
    /// control, and those that a server has sent before it knew the limit. Returns false if the latter are not free.
    pub(super) fn reserve_received(&mut self, budget: &MemoryBudget) -> bool {
        if !self.enforces_limit {
            self.reservation.resize(self.committed(budget), budget);
        } else if self.received_to() > self.limit {
            return self.reservation.grow_early(self.committed(budget), budget);
        }
        true
    }

    /// Returns everything that is reserved, because the stream has ended.
    pub(super) fn release(&mut self, budget: &MemoryBudget) {
        self.reservation.resize(0, budget);
    }

    /// Returns how many bytes beyond the minimum the peer may send or were not consumed.
    fn committed(&self, budget: &MemoryBudget) -> u64 {
        let received = self.next_offset - self.consumed + self.out_of_order_bytes;
        let committed = if self.enforces_limit {
            self.limit.saturating_sub(self.consumed).max(self.window.into()).max(received)
        } else {
            received
        };
        committed.saturating_sub(budget.min_window())
    }

    /// Returns the flow-control state of the receiving half for telemetry.
    pub(super) fn flow(&self) -> RecvFlow {
        let out_of_order: u64 = self.out_of_order.values().map(|segment| segment.len() as u64).sum();
        RecvFlow {
            window: self.window.into(),
            buffered: self.next_offset - self.consumed + out_of_order,
            credit: self.limit.saturating_sub(self.next_offset + out_of_order),
            is_budget_limited: self.is_budget_limited,
            is_end_received: self.end != RecvEnd::Open,
        }
    }

    /// Returns how many bytes were consumed.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Pauses the stream, or resumes it: while it is paused, no WINDOW raises the limit.
    pub(super) fn set_paused(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    /// Returns how far the stream has been received, for the tuning of the window.
    pub(super) fn received_flow(&self) -> ReceivedFlow {
        let unread = self.next_offset - self.consumed;
        ReceivedFlow { received: self.next_offset, unread, limit: self.limit, window: self.window }
    }

    /// Returns whether a WINDOW frame is due: the reader has consumed a quarter of the window, at most 256 KiB, since
    /// the last one, so that the sender's buffers come back while they are in its cache.
    ///
    /// It is not enough to look at how far the limit would rise. After the window has shrunk, the limit does not rise
    /// for a while, and the sender would wait for the acknowledgement of data that it has sent.
    pub(super) fn is_update_due(&self) -> bool {
        let raise = (self.consumed + u64::from(self.window)).saturating_sub(self.limit);
        let acknowledged = self.consumed - self.advertised_consumed;
        let is_drained = self.consumed == self.next_offset && acknowledged >= MIN_DRAINED_ACK;
        is_drained || raise.max(acknowledged) >= u64::from((self.window / 4).clamp(1, 256 * 1024))
    }

    /// Returns whether the peer may send less than half of the window beyond what has arrived: it may soon have to wait
    /// for the next WINDOW frame.
    pub(super) fn is_credit_short(&self) -> bool {
        self.limit.saturating_sub(self.next_offset + self.out_of_order_bytes) < u64::from(self.window / 2)
    }

    /// Raises the limit, unless the stream is paused. Returns the fields of a WINDOW frame: the bytes consumed, where
    /// the END counts as one byte, and the window.
    pub(super) fn advertise(&mut self) -> (u64, u32) {
        let end = u64::from(self.end == RecvEnd::Consumed);
        self.advertised_consumed = self.consumed;
        if self.is_paused {
            let left = self.limit.saturating_sub(self.consumed);
            return (self.consumed + end, u32::try_from(left).unwrap_or(u32::MAX));
        }
        self.limit = self.limit.max(self.consumed + u64::from(self.window));
        (self.consumed + end, self.window)
    }
}

#[cfg(test)]
mod tests;
