use std::time::Duration;

/// How long something took, over all the times it was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// How often it was measured.
    pub count: u64,
    /// Half of them were at most this long.
    pub p50: Duration,
    /// Nine of ten.
    pub p90: Duration,
    /// Ninety-nine of a hundred.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
    /// How often it fell between two powers of two of microseconds: less than 128 µs, less than 256 µs, … in the last
    /// one whatever took longer than the one before.
    pub bars: [u64; Self::BARS],
}

impl Latency {
    /// How many [`bars`](Self::bars) there are: the last one begins at 2 s.
    pub const BARS: usize = 16;

    /// Where a bar ends; nothing for the last one.
    pub fn bar_end(bar: usize) -> Option<Duration> {
        (bar + 1 < Self::BARS).then(|| Duration::from_micros(128 << bar))
    }
}

/// The latencies of a service or of a proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latencies {
    /// From giving a stream to a proxy until the proxy said that its target is there.
    pub open: Latency,
    /// From the user's connection until the target's first byte went to the user.
    pub first_byte: Latency,
    /// How long bytes waited in this process before they went out on their channel.
    pub queue: Latency,
}
