//! Where the data of a stream is in flight, when it is not only on the stream's primary channel.

use std::ops::Range;

use rangemap::{RangeMap, RangeSet};

/// The ranges of a stream that are in flight on secondary channels, and those that were lost with a channel.
///
/// Every byte that was sent and is not acknowledged is in exactly one place: in one of the two sets, or in flight on
/// the primary channel. A stream that uses only its primary channel has nothing here, and allocates nothing.
#[derive(Debug, Default)]
pub(super) struct RangeTracker {
    /// Ranges in flight on secondary channels, with the id of the channel.
    on_secondaries: RangeMap<u64, u16>,
    /// Ranges that were lost with their channel. They are retransmitted before new data is sent.
    lost: RangeSet<u64>,
}

impl RangeTracker {
    /// Records that a range of the stream, which is not empty, is sent on a secondary channel.
    pub(super) fn send_on_secondary(&mut self, range: Range<u64>, channel: u16) {
        self.on_secondaries.insert(range, channel);
    }

    /// Returns how many ranges are in flight on secondary channels. Adjacent ranges on one channel count as one.
    pub(super) fn ranges_on_secondaries(&self) -> usize {
        self.on_secondaries.len()
    }

    /// Returns the first range of the stream that has to be retransmitted; `None` if there is none.
    pub(super) fn first_lost(&self) -> Option<Range<u64>> {
        // An empty set is recognised at once; its iterator takes 10 ns, for every frame of every stream.
        if self.lost.is_empty() { None } else { self.lost.first().cloned() }
    }

    /// Removes the first `bytes` of the first lost range: they are retransmitted now.
    pub(super) fn retransmit(&mut self, bytes: u64) {
        if let Some(first) = self.first_lost()
            && bytes > 0
        {
            self.lost.remove(first.start..first.end.min(first.start + bytes));
        }
    }

    /// Returns how many bytes have to be retransmitted.
    pub(super) fn lost_bytes(&self) -> u64 {
        if self.lost.is_empty() {
            return 0;
        }
        self.lost.iter().map(|range| range.end - range.start).sum()
    }

    /// Removes all ranges below `offset`: the peer has acknowledged those bytes.
    pub(super) fn acknowledge(&mut self, offset: u64) {
        let is_acked = |first: &Range<u64>| first.start < offset;
        if !self.on_secondaries.is_empty()
            && self.on_secondaries.first_range_value().is_some_and(|(first, _)| is_acked(first))
        {
            self.on_secondaries.remove(0..offset);
        }
        if self.first_lost().as_ref().is_some_and(is_acked) {
            self.lost.remove(0..offset);
        }
    }

    /// Marks the ranges in flight on a secondary channel as lost. Returns whether there were any.
    pub(super) fn lose_secondary(&mut self, channel: u16) -> bool {
        let ranges = self.take_secondary(channel);
        let has_lost = !ranges.is_empty();
        ranges.into_iter().for_each(|range| self.lost.insert(range));
        has_lost
    }

    /// Makes this channel the primary channel. The ranges in flight on it are no longer on a secondary channel: they
    /// are lost together with all else that is in flight on the primary channel.
    pub(super) fn set_primary(&mut self, channel: u16) {
        self.take_secondary(channel);
    }

    /// Makes `to` the primary channel instead of `from`, which is not lost: what is in flight on `from`, that is all of
    /// the range `in_flight` that is in no set, becomes data in flight on a secondary channel. What is in flight on
    /// `to` is in flight on the primary channel from now on.
    pub(super) fn move_primary(&mut self, from: u16, to: u16, in_flight: Range<u64>) {
        if !in_flight.is_empty() {
            let on_primary: Vec<_> = self.on_secondaries.gaps(&in_flight).collect();
            let on_from: Vec<_> = on_primary.iter().flat_map(|gap| self.lost.gaps(gap)).collect();
            on_from.into_iter().for_each(|range| self.on_secondaries.insert(range, from));
        }
        self.take_secondary(to);
    }

    /// Records that the peer has received everything in flight on a secondary channel, which is about to be closed.
    /// The ranges count as in flight on the primary channel until the peer acknowledges them.
    pub(super) fn settle_secondary(&mut self, channel: u16) {
        self.take_secondary(channel);
    }

    /// Marks the data in flight on the primary channel as lost: of the range `in_flight`, all that is not in flight
    /// on a secondary channel.
    pub(super) fn lose_primary(&mut self, in_flight: Range<u64>) {
        if in_flight.is_empty() {
            return;
        }
        for range in self.on_secondaries.gaps(&in_flight) {
            self.lost.insert(range);
        }
    }

    /// Removes and returns the ranges in flight on a secondary channel.
    fn take_secondary(&mut self, channel: u16) -> Vec<Range<u64>> {
        let mut taken = Vec::new();
        if self.on_secondaries.iter().any(|(_, on)| *on == channel) {
            // Inserting the other ranges again is cheaper than removing the ranges of this channel one by one.
            for (range, on) in std::mem::take(&mut self.on_secondaries) {
                if on == channel {
                    taken.push(range);
                } else {
                    self.on_secondaries.insert(range, on);
                }
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests;
