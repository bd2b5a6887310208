use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use super::{
    error::ProtocolError,
    limits::{JOINED, MAX_AWAY, SEND_AHEAD, SINGLES, SMALL, WORTHWHILE},
    strays::Strays,
};

/// The sending half of a stream: bytes that were written here and are not yet known to have left the receiver.
///
/// ```text
///        acked        sent          written      limit
/// ─────────┼────────────┼──────────────┼────────────┼──────► offset
///  let go  │ on the way │ not sent yet │ may come   │ no credit
/// ```
///
/// Exactly `acked..written` is kept: when a channel dies, what went out on it goes out again on another. Until then
/// [`Strays`] knows where each byte is that left its stream's own channel.
#[derive(Debug)]
pub(super) struct SendBuffer {
    chunks: VecDeque<(u64, Bytes)>,
    /// How many at the end of these are small, and not joined yet.
    singles: usize,
    /// Index of the chunk that holds `sent`, or just before it.
    cursor: usize,
    acked: u64,
    sent: u64,
    strays: Strays,
    written: u64,
    limit: u64,
    /// The most that is kept, whatever window the peer gives.
    most: u32,
    /// The window that costs nothing: the first one.
    first: u64,
    paused: bool,
    /// The peer would take more than we are ready to keep for it.
    starved: bool,
    /// How many bytes went out once more.
    resent: u64,
    /// When what was written below this offset came.
    mark: Option<(u64, Instant)>,
    end: End,
}

/// How the sending half of a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendFlow {
    /// How many bytes may be kept for the peer: those it has not passed on, and the credit that is left.
    pub window: u64,
    /// Bytes that were written and have not gone out.
    pub unsent: u64,
    /// Bytes that went out and that the peer has not passed on.
    pub in_flight: u64,
    /// How far the peer has passed them on.
    pub acknowledged: u64,
    /// Bytes that went out once more.
    pub retransmitted: u64,
    /// The owner holds it.
    pub is_paused: bool,
    /// The window would be larger if there was budget for it.
    pub is_budget_limited: bool,
    /// The shortest round trip of its channel.
    pub min_rtt: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Wanted,
    Sent,
    Acked,
}

/// What [`SendBuffer::take`] gives out: the payload of one DATA frame.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) payload: Bytes,
    pub(super) fin: bool,
    /// When a marked piece came, if this was the last of it.
    pub(super) marked: Option<Instant>,
}

impl SendBuffer {
    pub(super) fn new(window: u32, most: u32) -> Self {
        Self {
            chunks: VecDeque::new(),
            singles: 0,
            cursor: 0,
            acked: 0,
            sent: 0,
            strays: Strays::default(),
            written: 0,
            limit: window.min(most).into(),
            most,
            first: window.min(most).into(),
            paused: false,
            starved: false,
            resent: 0,
            mark: None,
            end: End::Open,
        }
    }

    /// How many bytes may be written now: bounded by the peer's credit, and by how far ahead of the channel it helps.
    pub(super) fn writable(&self) -> usize {
        if self.end != End::Open || self.paused {
            return 0;
        }
        let ahead = self.unsent();
        let room = (self.limit - self.written.min(self.limit)).min(SEND_AHEAD.saturating_sub(ahead));
        // Little room, and more to come by itself: to wait for it saves system calls (silly windows, RFC 1122).
        let worthwhile = WORTHWHILE.min((self.limit - self.acked) / 2);
        if room < worthwhile && self.written > self.acked {
            0
        } else {
            usize::try_from(room).unwrap_or(usize::MAX)
        }
    }

    pub(super) fn write(&mut self, bytes: Bytes) {
        debug_assert!(self.end == End::Open, "written after the end");
        debug_assert!(bytes.len() as u64 <= self.limit - self.written, "written without credit");
        if bytes.is_empty() {
            return;
        }
        let len = bytes.len();
        match self.chunks.back_mut() {
            // They go out together.
            Some((start, last)) if *start >= self.sent && last.len() + len <= JOINED => {
                let mut joined = BytesMut::with_capacity(last.len() + len);
                joined.extend_from_slice(last);
                joined.extend_from_slice(&bytes);
                *last = joined.freeze();
            }
            _ => {
                self.chunks.push_back((self.written, bytes));
                self.singles = if len < SMALL { self.singles + 1 } else { 0 };
                if self.singles >= SINGLES {
                    self.join_singles();
                }
            }
        }
        self.written += len as u64;
    }

    /// Someone who types, or who means harm, writes single bytes; each would be kept with fifty bytes of bookkeeping.
    /// Charging for that until they are acknowledged was tried first: acknowledgements are due after so many bytes, so
    /// that after a thousand keys both sides waited for each other.
    fn join_singles(&mut self) {
        let singles = self.chunks.len() - std::mem::take(&mut self.singles);
        let bytes: usize = self.chunks.range(singles..).map(|(_, piece)| piece.len()).sum();
        // Those that were joined last time, if they are still few.
        let before = singles.checked_sub(1).filter(|&last| self.chunks[last].1.len() + bytes <= JOINED);
        let from = before.unwrap_or(singles);
        let start = self.chunks[from].0;
        let mut joined = BytesMut::with_capacity(bytes + before.map_or(0, |last| self.chunks[last].1.len()));
        self.chunks.drain(from..).for_each(|(_, piece)| joined.extend_from_slice(&piece));
        self.chunks.push_back((start, joined.freeze()));
        self.cursor = self.cursor.min(from);
    }

    /// Notes that what was written last came at `now`, if it is still to go out and none before it was marked.
    pub(super) fn mark(&mut self, now: Instant) {
        if self.sent < self.written {
            self.mark.get_or_insert((self.written, now));
        }
    }

    pub(super) fn flow(&self, min_rtt: Option<Duration>) -> SendFlow {
        SendFlow {
            window: self.limit - self.acked,
            unsent: self.unsent(),
            in_flight: self.written - self.acked - self.unsent(),
            acknowledged: self.acked,
            retransmitted: self.resent,
            is_paused: self.paused,
            is_budget_limited: self.starved,
            min_rtt,
        }
    }

    pub(super) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub(super) fn finish(&mut self) {
        if self.end == End::Open {
            self.end = End::Wanted;
        }
    }

    /// Whether [`take`](Self::take) would give something.
    pub(super) fn has_output(&self) -> bool {
        self.strays.lost().is_some() || self.sent < self.written || self.end == End::Wanted
    }

    /// How many bytes were written and wait to go out.
    pub(super) fn unsent(&self) -> u64 {
        self.written - self.sent + self.strays.lost_bytes()
    }

    /// Whether the peer has everything, the end included.
    pub(super) fn is_done(&self) -> bool {
        self.end == End::Acked
    }

    pub(super) fn final_size(&self) -> u64 {
        self.sent
    }

    /// Whether some of it may go out on other channels: it has been carried for a while, so that both sides know the
    /// stream, and that it is more than a message.
    pub(super) fn may_stray(&self, after: u64) -> bool {
        self.acked > 0 && self.acked >= after && self.unsent() > 0 && self.strays.away() < MAX_AWAY
    }

    /// The next piece to send, of `most` bytes at the most; what was lost goes first. The end rides on the last one, but
    /// not where it is sent `away`, on another channel than the stream's own.
    pub(super) fn take(&mut self, most: usize, away: Option<u16>) -> Option<Piece> {
        if !self.has_output() {
            return None;
        }
        let lost = self.strays.lost();
        let (offset, payload) = match &lost {
            Some(lost) => (lost.start, self.lost_piece(lost, most)),
            None => (self.sent, self.fresh_piece(most)),
        };
        let (len, end) = (payload.len() as u64, offset + payload.len() as u64);
        if lost.is_some() {
            self.strays.resend(len);
            self.resent += len;
        } else {
            self.sent = end;
        }
        let fin = away.is_none() && self.end == End::Wanted && end == self.written;
        if fin {
            self.end = End::Sent;
        }
        if let Some(channel) = away.filter(|_| len > 0) {
            self.strays.leave(offset..end, channel);
        }
        let marked = self.mark.take_if(|(end, _)| *end <= self.sent).map(|(_, came)| came);
        Some(Piece { offset, payload, fin, marked })
    }

    fn fresh_piece(&mut self, most: usize) -> Bytes {
        if self.sent == self.written {
            return Bytes::new();
        }
        while self.chunk_end(self.cursor) <= self.sent {
            self.cursor += 1;
        }
        self.piece_of(self.cursor, self.sent, most)
    }

    fn lost_piece(&self, lost: &Range<u64>, most: usize) -> Bytes {
        let index = self.chunks.partition_point(|(start, chunk)| start + chunk.len() as u64 <= lost.start);
        let left = usize::try_from(lost.end - lost.start).unwrap_or(usize::MAX);
        self.piece_of(index, lost.start, most.min(left))
    }

    fn piece_of(&self, index: usize, offset: u64, most: usize) -> Bytes {
        let (start, chunk) = &self.chunks[index];
        // A chunk is at most as long as what one read gave, so this index always fits.
        let from = usize::try_from(offset - start).unwrap_or(usize::MAX);
        chunk.slice(from..chunk.len().min(from.saturating_add(most)))
    }

    fn chunk_end(&self, index: usize) -> u64 {
        let (start, chunk) = &self.chunks[index];
        start + chunk.len() as u64
    }

    /// How far the peer has come: an acknowledgement that is worth something changes it.
    pub(super) fn agreed(&self) -> (u64, u64, bool) {
        (self.acked, self.limit, self.is_done())
    }

    /// How much more than its first window this stream may make us keep.
    pub(super) fn grown(&self) -> u64 {
        (self.limit - self.acked).saturating_sub(self.first)
    }

    /// How much more of a budget it would take to give in to a peer that takes `window`.
    pub(super) fn wanted(&self, window: u32) -> u64 {
        let wanted = u64::from(window.min(self.most)).saturating_sub(self.first);
        wanted.saturating_sub(self.grown())
    }

    /// The peer has passed on all below `consumed` and takes `window` more. The end counts as one byte. What is kept
    /// grows by at most `room`; a peer that gives more credit than that is taken to have given less.
    pub(super) fn acknowledge(&mut self, consumed: u64, window: u32, room: u64) -> Result<(), ProtocolError> {
        let most = u64::from(self.most).min((self.first + self.grown()).saturating_add(room));
        self.starved = u64::from(window.min(self.most)) > most;
        let end_consumed = self.end_was_sent() && consumed == self.written + 1;
        let bytes = if end_consumed { self.written } else { consumed };
        if bytes > self.sent {
            return Err(ProtocolError::AckOfUnsentData);
        }
        let limit = bytes.checked_add(most.min(window.into())).ok_or(ProtocolError::OffsetOverflow)?;
        // Frames of different channels overtake each other: an older acknowledgement changes nothing.
        self.limit = self.limit.max(limit);
        if bytes > self.acked {
            self.acked = bytes;
            self.strays.acknowledge(bytes);
            while self.chunks.front().is_some_and(|(start, chunk)| start + chunk.len() as u64 <= bytes) {
                self.chunks.pop_front();
                self.cursor = self.cursor.saturating_sub(1);
            }
            self.singles = self.singles.min(self.chunks.len());
        }
        if end_consumed {
            self.end = End::Acked;
        }
        Ok(())
    }

    fn end_was_sent(&self) -> bool {
        // After a loss the end is `Wanted` again, but the peer may have seen the first one.
        matches!(self.end, End::Wanted | End::Sent | End::Acked) && self.sent == self.written
    }

    /// The stream's own channel is lost: what went out on it goes out again.
    pub(super) fn lose_own(&mut self) {
        self.strays.lose_own(self.acked..self.sent);
        if self.end == End::Sent {
            self.end = End::Wanted;
        }
    }

    /// The stream's own channel is this one from now on.
    pub(super) fn is_at_home_on(&mut self, channel: u16) {
        self.strays.is_at_home_on(channel);
    }

    /// Another channel is lost, or as good as lost. Whether something of this stream goes out again for it.
    pub(super) fn lose(&mut self, channel: u16) -> bool {
        self.strays.lose(channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::CHUNK_SIZE;

    #[test]
    fn what_is_not_acknowledged_goes_out_again() {
        let mut send = SendBuffer::new(100, 100);
        send.write(Bytes::from_static(b"abc"));
        assert_eq!(send.take(100, None).unwrap().payload, "abc");
        send.write(Bytes::from_static(b"def"));
        send.finish();
        let last = send.take(100, None).unwrap();
        assert_eq!((last.offset, last.fin), (3, true));
        assert!(send.take(100, None).is_none());
        send.acknowledge(4, 100, u64::MAX).unwrap();
        send.lose_own();
        let again = send.take(100, None).unwrap();
        assert_eq!((again.offset, &again.payload[..], again.fin), (4, &b"ef"[..], true));
        assert_eq!(send.flow(None).retransmitted, 2);
        send.acknowledge(7, 100, u64::MAX).unwrap();
        assert!(send.is_done());
    }

    #[test]
    fn acknowledging_what_was_never_sent_is_refused() {
        let mut send = SendBuffer::new(100, 100);
        send.write(Bytes::from_static(b"abc"));
        assert_eq!(send.acknowledge(1, 100, u64::MAX), Err(ProtocolError::AckOfUnsentData));
        send.take(100, None);
        assert_eq!(send.acknowledge(4, 100, u64::MAX), Err(ProtocolError::AckOfUnsentData));
        assert_eq!(send.acknowledge(3, 100, u64::MAX), Ok(()));
    }

    /// Frames of different channels overtake each other, and a peer may say anything.
    #[test]
    fn what_was_granted_and_acknowledged_stays_so() {
        let mut send = SendBuffer::new(100, 100);
        send.write(Bytes::from_static(b"abc"));
        send.take(100, None);
        assert_eq!(send.acknowledge(3, 100, u64::MAX), Ok(()));
        let before = send.agreed();
        for (consumed, window) in [(1, 100), (3, 10), (0, 0)] {
            assert_eq!(send.acknowledge(consumed, window, u64::MAX), Ok(()));
            assert_eq!(send.agreed(), before);
        }
    }

    /// Nothing is dropped before it is acknowledged, and there is never more of it than the peer would take.
    #[test]
    fn what_is_kept_is_what_was_not_acknowledged() {
        let mut send = SendBuffer::new(100, 100);
        let kept = |send: &SendBuffer| send.chunks.iter().map(|(_, chunk)| chunk.len()).sum::<usize>();
        for round in 0..50 {
            send.write(vec![7; send.writable()].into());
            assert_eq!((send.writable(), kept(&send)), (0, 100), "round {round}");
            while send.take(30, None).is_some() {}
            assert_eq!(kept(&send), 100, "what has gone out may have to go out again");
            assert_eq!(send.acknowledge(100 * (round + 1), 100, u64::MAX), Ok(()));
            assert_eq!(kept(&send), 0);
        }
    }

    #[test]
    fn a_mark_tells_when_the_last_of_a_piece_goes_out() {
        let (mut send, came) = (SendBuffer::new(1 << 20, 1 << 20), Instant::now());
        send.write(vec![7; CHUNK_SIZE + 1].into());
        send.mark(came);
        send.write(Bytes::from_static(b"later"));
        // A second one would hide how long the first one waits.
        send.mark(came + Duration::from_secs(1));
        let marks: Vec<_> =
            std::iter::from_fn(|| send.take(CHUNK_SIZE, None)).map(|piece| piece.marked).collect();
        assert_eq!(marks, [None, Some(came), None]);
        send.write(Bytes::from_static(b"more"));
        send.mark(came);
        send.take(CHUNK_SIZE, None);
        send.lose_own();
        assert!(
            std::iter::from_fn(|| send.take(CHUNK_SIZE, None)).all(|piece| piece.marked.is_none()),
            "it was told already"
        );
    }

    #[test]
    fn what_is_on_its_way_and_what_waits_is_told() {
        let mut send = SendBuffer::new(100, 1000);
        send.write(vec![7; 60].into());
        send.take(CHUNK_SIZE, None);
        send.write(vec![7; 30].into());
        let flow = send.flow(None);
        assert_eq!((flow.window, flow.unsent, flow.in_flight, flow.acknowledged), (100, 30, 60, 0));
        // The peer would take 500, and there is budget for 50 more than the first window.
        send.acknowledge(20, 500, 50).unwrap();
        let flow = send.flow(None);
        assert_eq!((flow.window, flow.in_flight, flow.acknowledged), (150, 40, 20));
        assert!(flow.is_budget_limited);
        send.acknowledge(20, 500, 350).unwrap();
        assert!(!send.flow(None).is_budget_limited);
    }

    /// A peer that gives endless credit and acknowledges nothing would otherwise make us keep all that it is sent.
    #[test]
    fn no_window_is_larger_than_what_we_are_ready_to_keep() {
        let mut send = SendBuffer::new(u32::MAX, 100);
        send.acknowledge(0, u32::MAX, u64::MAX).unwrap();
        assert_eq!(send.writable(), 100);
        send.write(Bytes::from_static(&[0; 100]));
        send.take(100, None);
        assert_eq!(send.writable(), 0);
        send.acknowledge(100, u32::MAX, u64::MAX).unwrap();
        assert_eq!(send.writable(), 100);
    }

    /// Each message was copied together with those before it that were not acknowledged yet.
    #[test]
    fn a_message_that_goes_out_at_once_is_not_copied() {
        let mut send = SendBuffer::new(1 << 20, 1 << 20);
        let copied = (0..1000).filter(|_| {
            let message = Bytes::from(vec![7; 100]);
            send.write(message.clone());
            send.take(CHUNK_SIZE, None).unwrap().payload.as_ptr() != message.as_ptr()
        });
        assert_eq!(copied.count(), 1000 / SINGLES, "those with which the ones before are joined");
        let waits = [Bytes::from(vec![7; 100]), Bytes::from(vec![8; 100])];
        waits.into_iter().for_each(|message| send.write(message));
        assert_eq!(send.take(CHUNK_SIZE, None).unwrap().payload.len(), 200, "those that wait go together");
    }

    #[test]
    fn single_bytes_are_kept_together_and_sent_one_by_one() {
        let mut send = SendBuffer::new(1 << 20, 1 << 20);
        let text: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
        for (at, byte) in text.iter().enumerate() {
            assert!(send.writable() > 0, "no room for byte {at}, though none waits");
            send.write(Bytes::copy_from_slice(&[*byte]));
            let piece = send.take(100, None).unwrap();
            assert_eq!((piece.offset, &piece.payload[..]), (at as u64, &[*byte][..]));
        }
        assert!(send.chunks.len() <= 2 * text.len() / JOINED + SINGLES, "{}", send.chunks.len());
        send.acknowledge(3333, 1 << 20, u64::MAX).unwrap();
        send.lose_own();
        let again: Vec<u8> =
            std::iter::from_fn(|| send.take(100, None)).flat_map(|piece| piece.payload.to_vec()).collect();
        assert_eq!(again, text[3333..]);
    }
}
