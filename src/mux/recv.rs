use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes, BytesMut};

use super::{
    error::ProtocolError,
    limits::{COPY_THRESHOLD, JOINED, MAX_PIECES_AHEAD, MAX_PIECES_READY, MIN_PIECE},
};

/// The receiving half of a stream: puts pieces in order again, and gives credit for what was passed on.
///
/// ```text
///      consumed        next              limit
/// ─────────┼─────────────┼─────────────────┼──────► offset
///  gone on │ ready       │ pieces ahead of │ refused
///          │ (in order)  │ a gap           │
/// ```
#[derive(Debug)]
pub(super) struct RecvBuffer {
    ready: VecDeque<Bytes>,
    /// How many pieces at the front of `ready` were joined from small ones already.
    joined: usize,
    /// The reader does not read for now: what comes is kept.
    put_off: bool,
    ahead: BTreeMap<u64, Bytes>,
    /// How many bytes stand in `ahead`.
    ahead_bytes: u64,
    next: u64,
    consumed: u64,
    /// What the peer was told last of what was consumed, and how far it may send.
    told: u64,
    limit: u64,
    window: u32,
    /// Whether the limit is enforced: a text peer knows none.
    enforced: bool,
    /// The operator holds the stream: the limit stays where it is.
    paused: bool,
    /// The window would be larger if there was budget for it.
    starved: bool,
    final_size: Option<u64>,
    end: End,
}

/// How the receiving half of a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecvFlow {
    /// How many bytes the peer may send beyond what was passed on.
    pub window: u64,
    /// Bytes that came and were not passed on.
    pub buffered: u64,
    /// Bytes that the peer may still send.
    pub credit: u64,
    /// The window would be larger if there was budget for it.
    pub is_budget_limited: bool,
    /// The peer has sent its last byte.
    pub is_end_received: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// Every byte and the end are here.
    Whole,
    /// They have been passed on.
    Consumed,
}

impl RecvBuffer {
    pub(super) fn new(window: u32, enforced: bool) -> Self {
        Self {
            ready: VecDeque::new(),
            joined: 0,
            put_off: false,
            ahead: BTreeMap::new(),
            ahead_bytes: 0,
            next: 0,
            consumed: 0,
            told: 0,
            limit: window.into(),
            window,
            enforced,
            paused: false,
            starved: false,
            final_size: None,
            end: End::Open,
        }
    }

    /// Takes a piece in. `Ok(true)` if there is something new to pass on.
    pub(super) fn insert(
        &mut self,
        offset: u64,
        mut payload: Bytes,
        fin: bool,
    ) -> Result<bool, ProtocolError> {
        let end = offset.checked_add(payload.len() as u64).ok_or(ProtocolError::OffsetOverflow)?;
        if self.enforced && end > self.limit {
            return Err(ProtocolError::FlowControl);
        }
        match self.final_size {
            Some(size) if end > size || (fin && end != size) => return Err(ProtocolError::FinalSize),
            None if fin => {
                let last =
                    self.ahead.last_key_value().map_or(self.next, |(at, piece)| at + piece.len() as u64);
                if last.max(self.next) > end {
                    return Err(ProtocolError::FinalSize);
                }
                self.final_size = Some(end);
            }
            _ => {}
        }
        let before = (self.next, self.end);
        if offset > self.next {
            self.keep_ahead(offset, payload)?;
        } else if end > self.next {
            payload.advance(usize::try_from(self.next - offset).unwrap_or(usize::MAX));
            if self.put_off {
                copy_if_small(&mut payload);
            }
            self.append(payload);
            self.close_gaps();
        }
        if self.end == End::Open && self.final_size == Some(self.next) {
            self.end = End::Whole;
        }
        Ok(before != (self.next, self.end))
    }

    fn append(&mut self, payload: Bytes) {
        self.next += payload.len() as u64;
        self.ready.push_back(payload);
        if self.ready.len() > self.joined + MAX_PIECES_READY {
            // A peer that sends single bytes would make us keep a hundred bytes for each: join them. Only those that
            // came since the last time, or what is long already would be copied again and again.
            let pieces = self.ready.split_off(self.joined.min(self.ready.len()));
            let mut joined = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
            pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
            self.ready.push_back(joined.freeze());
            self.joined = self.ready.len();
        }
    }

    /// Keeps a piece that comes before its turn. No two pieces overlap: a peer that said the same bytes at many offsets would
    /// have them all kept, far more than its window.
    fn keep_ahead(&mut self, mut offset: u64, mut payload: Bytes) -> Result<(), ProtocolError> {
        let before = self.ahead.range(..offset).next_back().map(|(at, piece)| at + piece.len() as u64);
        let known = before.unwrap_or(0).saturating_sub(offset).min(payload.len() as u64);
        offset += known;
        payload.advance(usize::try_from(known).unwrap_or(usize::MAX));
        let end = offset + payload.len() as u64;
        while let Some((&at, after)) = self.ahead.range(offset..end).next() {
            if at + after.len() as u64 > end {
                payload.truncate(usize::try_from(at - offset).unwrap_or(usize::MAX));
                break;
            }
            self.ahead_bytes -= after.len() as u64;
            self.ahead.remove(&at);
        }
        if payload.is_empty() {
            return Ok(());
        }
        if before == Some(offset)
            && let Some((_, before)) = self.ahead.range_mut(..offset).next_back()
            && before.len() + payload.len() <= JOINED
        {
            self.ahead_bytes += payload.len() as u64;
            *before = [&before[..], &payload[..]].concat().into();
            return Ok(());
        }
        if self.ahead.len() as u64 >= MAX_PIECES_AHEAD as u64 + self.ahead_bytes / MIN_PIECE {
            return Err(ProtocolError::TooManyGaps);
        }
        copy_if_small(&mut payload);
        self.ahead_bytes += payload.len() as u64;
        self.ahead.insert(offset, payload);
        debug_assert!(!self.enforced || self.next + self.ahead_bytes <= self.limit, "more than the window");
        Ok(())
    }

    fn close_gaps(&mut self) {
        while let Some(entry) = self.ahead.first_entry() {
            if *entry.key() > self.next {
                break;
            }
            let (offset, mut piece) = entry.remove_entry();
            self.ahead_bytes -= piece.len() as u64;
            let known = usize::try_from(self.next - offset).unwrap_or(usize::MAX);
            if known < piece.len() {
                piece.advance(known);
                if known > 0 {
                    copy_if_small(&mut piece);
                }
                self.append(piece);
            }
        }
    }

    /// Moves what is in order to `out`. True if that was all there will ever be.
    pub(super) fn read(&mut self, out: &mut VecDeque<Bytes>) -> bool {
        self.joined = 0;
        self.put_off = false;
        out.append(&mut self.ready);
        self.end != End::Open
    }

    /// The reader will not read for now.
    pub(super) fn put_off(&mut self) {
        if !std::mem::replace(&mut self.put_off, true) {
            self.ready.iter_mut().for_each(copy_if_small);
        }
    }

    /// The reader has passed `bytes` more on.
    pub(super) fn consume(&mut self, bytes: u64) {
        self.consumed += bytes;
        debug_assert!(self.consumed <= self.next, "consumed what never came");
    }

    /// The reader has passed the end on. True the first time.
    pub(super) fn consume_end(&mut self) -> bool {
        let whole = self.end == End::Whole && self.consumed == self.next;
        if whole {
            self.end = End::Consumed;
        }
        whole
    }

    pub(super) fn is_done(&self) -> bool {
        self.end == End::Consumed
    }

    /// Changes the window within `bounds`, growing by at most `room`. By how much it changed.
    pub(super) fn resize(&mut self, wanted: u32, bounds: (u32, u32), room: u64) -> i64 {
        let before = self.window;
        let most = before.saturating_add(u32::try_from(room).unwrap_or(u32::MAX));
        // What the peer was granted stays granted: the limit does not fall, it only rises later. The lower bound is the
        // operator's word, and goes before the upper one.
        self.window = wanted.min(bounds.1).max(bounds.0).min(most);
        i64::from(self.window) - i64::from(before)
    }

    pub(super) fn set_starved(&mut self, starved: bool) {
        self.starved = starved;
    }

    pub(super) fn flow(&self) -> RecvFlow {
        let ahead: u64 = self.ahead.values().map(|piece| piece.len() as u64).sum();
        RecvFlow {
            window: self.window.into(),
            buffered: self.next - self.consumed + ahead,
            credit: self.limit.saturating_sub(self.next + ahead),
            is_budget_limited: self.starved,
            is_end_received: self.end != End::Open,
        }
    }

    pub(super) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// The offset up to which all has come.
    pub(super) fn came(&self) -> u64 {
        self.next
    }

    pub(super) fn window(&self) -> u32 {
        self.window
    }

    /// Whether enough was passed on since the last WINDOW to say so: a quarter of the window, at most 256 KiB, so
    /// that the sender's buffers come back while they are still in its cache. Not only by how much the limit would rise:
    /// after the window has shrunk it does not for a while, and the sender would wait for a word of what it knows to
    /// have sent.
    pub(super) fn update_due(&self) -> bool {
        let progress = (self.consumed + u64::from(self.window)).saturating_sub(self.limit);
        progress.max(self.consumed - self.told) >= u64::from((self.window / 4).clamp(1, 256 * 1024))
    }

    /// What a WINDOW frame says now: all that was consumed (the end counts as one more byte), and the window.
    pub(super) fn advertise(&mut self) -> (u64, u32) {
        let end = u64::from(self.end == End::Consumed);
        self.told = self.consumed;
        if self.paused {
            let left = self.limit.saturating_sub(self.consumed);
            return (self.consumed + end, u32::try_from(left).unwrap_or(u32::MAX));
        }
        self.limit = self.limit.max(self.consumed + u64::from(self.window));
        (self.consumed + end, self.window)
    }
}

/// Sees to it that a piece keeps no more memory alive than its own length, or not much.
pub fn copy_if_small(piece: &mut Bytes) {
    if piece.len() < COPY_THRESHOLD {
        *piece = Bytes::copy_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(recv: &mut RecvBuffer) -> (String, bool) {
        let mut out = VecDeque::new();
        let end = recv.read(&mut out);
        (out.iter().map(|piece| String::from_utf8_lossy(piece).into_owned()).collect(), end)
    }

    /// With small first windows a stream stood still for ever: its sender had used half of a window that had shrunk
    /// meanwhile and waited to hear that it was passed on; the receiver waited until it could raise the limit again.
    #[test]
    fn what_was_passed_on_is_told_also_when_the_limit_does_not_rise() {
        let bounds = (16 << 10, 1 << 20);
        let mut recv = RecvBuffer::new(bounds.0, true);
        assert_eq!(recv.resize(32 << 10, bounds, 1 << 20), 16 << 10);
        assert_eq!(recv.advertise(), (0, 32 << 10));
        recv.insert(0, vec![0; 16 << 10].into(), false).unwrap();
        recv.resize(16 << 10, bounds, 0);
        assert!(!recv.update_due());
        text(&mut recv);
        recv.consume(16 << 10);
        assert!(recv.update_due(), "the sender may wait for it");
        assert_eq!(recv.advertise(), (16 << 10, 16 << 10));
        assert!(!recv.update_due());
    }

    #[test]
    fn pieces_come_out_in_order_whatever_way_they_came_in() {
        let mut recv = RecvBuffer::new(100, true);
        assert_eq!(recv.insert(4, Bytes::from_static(b"ef"), true), Ok(false));
        assert_eq!(recv.insert(2, Bytes::from_static(b"cde"), false), Ok(false));
        assert_eq!(recv.insert(0, Bytes::from_static(b"abc"), false), Ok(true));
        assert_eq!(text(&mut recv), ("abcdef".into(), true));
        assert_eq!(recv.insert(1, Bytes::from_static(b"bcd"), false), Ok(false));
    }

    /// Each of four thousand pieces of 100 KiB that began a byte after the one before was kept.
    #[test]
    fn what_comes_again_ahead_of_a_gap_is_kept_once() {
        let mut recv = RecvBuffer::new(1000, true);
        let mut insert = |offset: u64, len: u64| {
            let payload = (offset..offset + len).map(|at| at as u8).collect::<Vec<_>>();
            recv.insert(offset, payload.into(), false).unwrap();
            let kept: u64 = recv.ahead.values().map(|piece| piece.len() as u64).sum();
            assert_eq!(recv.ahead_bytes, kept);
            kept
        };
        assert_eq!((1..500).map(|offset| insert(offset, 400)).max(), Some(898));
        // Between two, over the whole of one, into the next, and nothing new.
        assert_eq!(insert(910, 10), 908);
        assert_eq!(insert(940, 10), 918);
        assert_eq!(insert(905, 40), 943);
        assert_eq!(insert(930, 5), 943);
        assert_eq!(insert(899, 101), 999);
        recv.insert(0, Bytes::from_static(&[0]), false).unwrap();
        let mut out = VecDeque::new();
        recv.read(&mut out);
        assert!(out.iter().flatten().copied().eq((0..1000u64).map(|at| at as u8)));
    }

    #[test]
    fn a_hostile_sender_is_refused() {
        let some = || Bytes::from_static(b"abcd");
        let mut recv = RecvBuffer::new(10, true);
        assert_eq!(recv.insert(7, some(), false), Err(ProtocolError::FlowControl));
        assert_eq!(recv.insert(u64::MAX - 1, some(), false), Err(ProtocolError::OffsetOverflow));
        assert_eq!(recv.insert(4, some(), false), Ok(false));
        assert_eq!(recv.insert(0, Bytes::from_static(b"ab"), true), Err(ProtocolError::FinalSize));
        assert_eq!(recv.insert(0, some(), false), Ok(true));
        assert_eq!(recv.insert(8, Bytes::new(), true), Ok(true));
        assert_eq!(recv.insert(9, Bytes::new(), true), Err(ProtocolError::FinalSize));
        assert_eq!(recv.insert(8, Bytes::from_static(b"x"), false), Err(ProtocolError::FinalSize));
        let mut recv = RecvBuffer::new(1 << 20, true);
        let flood = (0..).map(|n| recv.insert(1 + 2 * n, Bytes::from_static(b"x"), false));
        assert_eq!(flood.take_while(Result::is_ok).count(), MAX_PIECES_AHEAD + 2);
    }

    /// `--window 65536` is more than windows grow to by themselves, and the bounds crossed.
    #[test]
    fn a_first_window_beyond_the_largest_stays_as_it_is() {
        let mut recv = RecvBuffer::new(64 << 20, true);
        assert_eq!(recv.resize(128 << 20, (64 << 20, 16 << 20), 1 << 30), 0);
        assert_eq!(recv.resize(32 << 20, (64 << 20, 16 << 20), 1 << 30), 0);
    }

    /// Each piece of a slow stream would keep a buffer of 260 KiB.
    #[test]
    fn what_is_kept_lets_go_of_the_buffer_that_it_came_in() {
        let mut recv = RecvBuffer::new(1 << 20, true);
        let insert = |recv: &mut RecvBuffer, offset, len| {
            let mut buffer = BytesMut::zeroed(64 << 10);
            recv.insert(offset, buffer.split_to(len).freeze(), false).unwrap();
            buffer.clear();
            buffer
        };
        let is_free = |mut buffer: BytesMut| buffer.try_reclaim(64 << 10);
        assert!(is_free(insert(&mut recv, 8, 4)), "it is kept until there is what comes before");
        let passed_on = insert(&mut recv, 0, 4);
        assert!(!is_free(insert(&mut recv, 4, 4)), "the reader may pass it on at once");
        recv.put_off();
        assert!(is_free(passed_on) && is_free(insert(&mut recv, 12, 4)));
        assert!(!is_free(insert(&mut recv, 16, COPY_THRESHOLD)), "which is not much less than the buffer");
        text(&mut recv);
        assert!(!is_free(insert(&mut recv, 16 + COPY_THRESHOLD as u64, 4)), "it reads again");
    }

    #[test]
    fn what_waits_and_what_may_come_is_told() {
        let mut recv = RecvBuffer::new(100, true);
        recv.insert(0, Bytes::from_static(b"abcd"), false).unwrap();
        recv.insert(10, Bytes::from_static(b"xy"), false).unwrap();
        recv.consume(1);
        let flow = recv.flow();
        assert_eq!((flow.window, flow.buffered, flow.credit, flow.is_end_received), (100, 5, 94, false));
    }

    #[test]
    fn the_end_counts_as_a_byte() {
        let mut recv = RecvBuffer::new(10, true);
        recv.insert(0, Bytes::from_static(b"ab"), true).unwrap();
        assert!(!recv.consume_end());
        recv.consume(2);
        assert_eq!(recv.advertise(), (2, 10));
        assert!(recv.consume_end() && !recv.consume_end());
        assert_eq!(recv.advertise(), (3, 10));
    }
}
