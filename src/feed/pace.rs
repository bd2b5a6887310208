//! How many rows one change may carry.

/// How many rows one change carries of each table, beside the rows on the consumer's screen. New rows and rows that
/// went are always in it; the counters and the changed attributes of the others follow in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Streams and users whose counters are sent, of each.
    pub counted: usize,
    /// Streams and users of which anything but counters has changed, and which are sent whole, of each. One takes the
    /// place of `ROW_COST` of those whose counters are sent.
    pub changed: usize,
    /// Services, proxies and channels that are sent, of each.
    pub keyed: usize,
    /// In how many changes the percentiles of services, proxies and channels are sent once.
    pub percentiles: u32,
}

impl Pace {
    /// Everything at once.
    pub const EXACT: Self =
        Self { counted: usize::MAX, changed: usize::MAX, keyed: usize::MAX, percentiles: 1 };

    /// For a recording with a change each second: everything, except that percentiles come every ten seconds. They
    /// cover the last 5 to 10 minutes and change a little with each stream.
    pub const RECORDING: Self = Self { percentiles: 10, ..Self::EXACT };

    /// For a screen that is refreshed ten times a second: with 10,000 streams that all carry data, each row is sent
    /// once a second, which is 130 KB/s; sent with each change they would be 1.2 MB/s. With up to 1,000 streams, all of
    /// them are sent each time. Where each response of a kept-alive connection changes a row, 40 of them are sent with
    /// each change, beside the counters of 240: unpaced, 10,000 connections with two changes a second were 5 MB/s.
    pub const SCREEN: Self = Self { counted: 1000, changed: 40, keyed: 100, percentiles: 1 };

    /// How many times as long a whole row of a stream is as its counters: 250 bytes, and 13.
    const ROW_COST: usize = 19;

    /// Returns for how many rows the counters are sent beside `changed` whole rows.
    pub(super) fn counted_beside(self, changed: usize) -> usize {
        match self.counted {
            usize::MAX => usize::MAX,
            counted => counted.saturating_sub(changed.saturating_mul(Self::ROW_COST)).max(1),
        }
    }
}
