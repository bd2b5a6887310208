//! The streams of one user, in deficit round robin.

use std::collections::VecDeque;

/// How many entries of the ring are searched for a returning stream. A stream further back waits for its turn like
/// one that has spent its quantum.
const MAX_SEARCHED: usize = 64;

/// The queued streams of one user on a channel, in the order in which they are served.
///
/// A new stream goes first, and so does one that returns before its next turn with a positive deficit: a keystroke
/// waits for one chunk, and not for a chunk of every download to the same address. Its quantum is the same as that of
/// the others, so that a stream gains nothing by leaving and returning.
#[derive(Debug, Default)]
pub(super) struct StreamRing {
    /// Streams that are queued, and those that have had no data since their last turn.
    ring: VecDeque<RingEntry>,
    /// Streams of the ring that returned with a positive deficit.
    returning: VecDeque<u32>,
    /// How many streams of the ring are queued: have data to send.
    queued: usize,
}

/// A stream in the ring.
#[derive(Debug, Clone, Copy)]
struct RingEntry {
    /// The id of the stream.
    stream: u32,
    /// How many bytes the stream may still send in this round; negative if it has sent too many.
    deficit: i64,
    /// Whether the stream has data to send.
    is_queued: bool,
}

impl StreamRing {
    /// Queues a stream that has data to send. A stream that is not in the ring starts with `quantum` bytes.
    pub(super) fn enqueue(&mut self, stream: u32, quantum: i64) {
        self.queued += 1;
        let is_short = self.ring.len() < MAX_SEARCHED;
        let known =
            self.ring.iter_mut().enumerate().take(MAX_SEARCHED).find(|(_, entry)| entry.stream == stream);
        if let Some((index, entry)) = known {
            entry.is_queued = true;
            if entry.deficit > 0 && index > 0 {
                self.returning.push_back(stream);
            }
        } else if is_short {
            self.ring.push_front(RingEntry { stream, deficit: quantum, is_queued: true });
        } else {
            self.ring.push_back(RingEntry { stream, deficit: 0, is_queued: true });
        }
    }

    /// Returns whether no stream is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Returns the ids of the queued streams, in no order.
    pub(super) fn streams(&self) -> impl Iterator<Item = u32> {
        self.ring.iter().filter(|entry| entry.is_queued).map(|entry| entry.stream)
    }

    /// Selects the stream that sends next. It has to be [charged](Self::charge) before another is selected.
    pub(super) fn next(&mut self, quantum: i64) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        if let Some(&stream) = self.returning.front() {
            return Some(stream);
        }
        loop {
            let entry = self.ring.front_mut()?;
            if !entry.is_queued {
                self.ring.pop_front();
                continue;
            }
            if entry.deficit <= 0 {
                entry.deficit += quantum;
            }
            if entry.deficit > 0 {
                return Some(entry.stream);
            }
            self.ring.rotate_left(1);
        }
    }

    /// Subtracts the `bytes` that the selected stream has sent from its deficit. `has_more` says whether the stream
    /// stays queued.
    pub(super) fn charge(&mut self, stream: u32, bytes: i64, has_more: bool) {
        let is_returning = self.returning.front() == Some(&stream);
        let mut entries = self.ring.iter_mut();
        let entry = if is_returning { entries.find(|entry| entry.stream == stream) } else { entries.next() };
        let Some(entry) = entry else { return };
        entry.deficit -= bytes;
        entry.is_queued = has_more;
        let has_turn_ended = !has_more || entry.deficit <= 0;
        self.queued -= usize::from(!has_more);
        if has_turn_ended && is_returning {
            self.returning.pop_front();
        } else if has_turn_ended {
            self.ring.rotate_left(1);
        }
    }

    /// Removes all streams.
    pub(super) fn clear(&mut self) {
        self.ring.clear();
        self.returning.clear();
        self.queued = 0;
    }
}

#[cfg(test)]
mod tests;
