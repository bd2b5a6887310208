//! How many rows one change may carry.

/// How many rows one change carries of each table, beside the rows on the consumer's screen. New rows, rows that went, and
/// changed attributes of streams and users are always in it; the counters of the others follow in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Streams and users whose counters are sent, of each.
    pub counted: usize,
    /// Services, proxies and channels that are sent, of each.
    pub keyed: usize,
}

impl Pace {
    /// Everything at once.
    pub const EXACT: Self = Self { counted: usize::MAX, keyed: usize::MAX };

    /// For a screen that is refreshed ten times a second: with 10,000 streams that all carry data, each row is sent once a
    /// second, which is 130 KB/s; sent with each change they would be 1.2 MB/s. With up to 1,000 streams, all of
    /// them are sent each time.
    pub const SCREEN: Self = Self { counted: 1000, keyed: 100 };
}
