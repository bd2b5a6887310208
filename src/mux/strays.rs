use std::{collections::VecDeque, ops::Range};

/// The bytes of a stream that are on their way, or were lost, elsewhere than on the stream's own channel.
///
/// Ascending, and none twice: each byte that went out and is not acknowledged stands in one of the two lists, or went
/// out on the stream's own channel. A stream that never left that has nothing here, and pays for nothing.
#[derive(Debug, Default)]
pub(super) struct Strays {
    /// On their way on another channel.
    away: VecDeque<(Range<u64>, u16)>,
    /// Lost with their channel: they go out again before anything else does.
    lost: VecDeque<Range<u64>>,
}

impl Strays {
    /// Bytes go out on another channel than the stream's own.
    pub(super) fn leave(&mut self, range: Range<u64>, channel: u16) {
        let at = self.away.partition_point(|(other, _)| other.start < range.start);
        match at.checked_sub(1).and_then(|before| self.away.get_mut(before)) {
            Some((before, on)) if before.end == range.start && *on == channel => before.end = range.end,
            _ => self.away.insert(at, (range, channel)),
        }
    }

    /// How many pieces are on other channels.
    pub(super) fn away(&self) -> usize {
        self.away.len()
    }

    /// The first bytes that have to go out again.
    pub(super) fn lost(&self) -> Option<Range<u64>> {
        self.lost.front().cloned()
    }

    /// So many of these go out now.
    pub(super) fn resend(&mut self, bytes: u64) {
        if let Some(first) = self.lost.front_mut() {
            first.start += bytes;
            if first.is_empty() {
                self.lost.pop_front();
            }
        }
    }

    /// How many bytes have to go out again.
    pub(super) fn lost_bytes(&self) -> u64 {
        self.lost.iter().map(|range| range.end - range.start).sum()
    }

    /// All below this offset has arrived.
    pub(super) fn acknowledge(&mut self, offset: u64) {
        while self.away.front().is_some_and(|(range, _)| range.end <= offset) {
            self.away.pop_front();
        }
        while self.lost.front().is_some_and(|range| range.end <= offset) {
            self.lost.pop_front();
        }
        let firsts = [self.away.front_mut().map(|(range, _)| range), self.lost.front_mut()];
        firsts.into_iter().flatten().for_each(|first| first.start = first.start.max(offset));
    }

    /// What went out on this channel, which is not the stream's own, is lost. Whether there was something.
    pub(super) fn lose(&mut self, channel: u16) -> bool {
        let before = self.away.len();
        let Self { away, lost } = self;
        away.retain(|(range, on)| {
            if *on == channel {
                lost.push_back(range.clone());
            }
            *on != channel
        });
        lost.make_contiguous().sort_unstable_by_key(|range| range.start);
        self.away.len() < before
    }

    /// The stream's own channel is this one from now on: what is on its way there is no longer astray, and is lost with
    /// all else that went out on it.
    pub(super) fn is_at_home_on(&mut self, channel: u16) {
        self.away.retain(|(_, on)| *on != channel);
    }

    /// What of `on_the_way` went out on the stream's own channel is lost.
    pub(super) fn lose_own(&mut self, on_the_way: Range<u64>) {
        let mut known: Vec<_> = self.away.iter().map(|(range, _)| range).chain(&self.lost).cloned().collect();
        known.sort_unstable_by_key(|range| range.start);
        let mut from = on_the_way.start;
        for range in known.into_iter().chain(std::iter::once(on_the_way.end..on_the_way.end)) {
            if from < range.start {
                self.lost.push_back(from..range.start);
            }
            from = range.end;
        }
        self.lost.make_contiguous().sort_unstable_by_key(|range| range.start);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_channel_takes_with_it_is_what_went_out_on_it() {
        let mut strays = Strays::default();
        strays.leave(10..20, 2);
        strays.leave(20..25, 2);
        strays.leave(40..50, 3);
        assert_eq!(strays.away(), 2, "neighbours are one");
        assert!(strays.lose(2) && !strays.lose(2));
        assert_eq!(strays.lost(), Some(10..25));
        strays.resend(5);
        strays.leave(10..15, 3);
        strays.acknowledge(12);
        strays.lose_own(12..60);
        assert_eq!(strays.lost, [15..25, 25..40, 50..60]);
        assert_eq!(strays.away, [(12..15, 3), (40..50, 3)]);
        strays.acknowledge(55);
        assert_eq!((strays.lost_bytes(), strays.away()), (5, 0));
    }

    /// They stayed astray on it, and nobody sent them again when it was lost, too.
    #[test]
    fn what_is_on_its_way_on_the_channel_that_takes_over_is_lost_with_that() {
        let mut strays = Strays::default();
        strays.leave(10..20, 2);
        strays.lose_own(0..20);
        strays.is_at_home_on(2);
        assert_eq!((strays.away(), strays.lost()), (0, Some(0..10)));
        strays.resend(10);
        strays.lose_own(0..20);
        assert_eq!((strays.lost(), strays.lost_bytes()), (Some(0..20), 20));
    }

    proptest! {
        /// Beside a list of every single byte.
        #[test]
        fn every_byte_is_in_one_place(ops in prop::collection::vec((0..6u8, 1..30u64, 1..4u16), 1..60)) {
            // Where each byte is: on a channel (0 is the stream's own), lost (9), or acknowledged (8).
            let (mut bytes, mut strays, mut acked) = (Vec::<u16>::new(), Strays::default(), 0u64);
            for (op, len, channel) in ops {
                match op {
                    0 => bytes.extend(vec![0; len as usize]),
                    1 => {
                        let from = bytes.len() as u64;
                        bytes.extend(vec![channel; len as usize]);
                        strays.leave(from..from + len, channel);
                    }
                    2 => {
                        strays.lose(channel);
                        bytes.iter_mut().filter(|byte| **byte == channel).for_each(|byte| *byte = 9);
                    }
                    3 => {
                        strays.lose_own(acked..bytes.len() as u64);
                        bytes.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = 9);
                    }
                    // The stream moves: its own channel is lost, and another is its own.
                    4 => {
                        strays.lose_own(acked..bytes.len() as u64);
                        strays.is_at_home_on(channel);
                        bytes.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = 9);
                        bytes.iter_mut().filter(|byte| **byte == channel).for_each(|byte| *byte = 0);
                    }
                    _ if len % 2 == 0 => {
                        acked = (acked + len).min(bytes.len() as u64);
                        strays.acknowledge(acked);
                        bytes[..acked as usize].fill(8);
                    }
                    _ => {
                        if let Some(range) = strays.lost() {
                            let len = len.min(range.end - range.start);
                            strays.resend(len);
                            strays.leave(range.start..range.start + len, channel);
                            bytes[range.start as usize..(range.start + len) as usize].fill(channel);
                        }
                    }
                }
                let mut seen: Vec<u16> = bytes.iter().map(|&byte| if byte == 8 { 8 } else { 0 }).collect();
                for range in &strays.lost {
                    seen[range.start as usize..range.end as usize].fill(9);
                }
                for (range, channel) in &strays.away {
                    seen[range.start as usize..range.end as usize].fill(*channel);
                }
                prop_assert_eq!(&seen, &bytes);
            }
        }
    }
}
