use std::{fmt, time::Duration};

/// Who keeps a stream from going faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bottleneck {
    /// The operator: it is paused.
    Operator,
    /// A rate limit.
    Limit,
    /// The user: it takes what comes slowly, or gives slowly what it sends.
    User,
    /// The target, in the same way.
    Target,
    /// The channel is slower than what sends.
    Channel,
    /// As much is on its way as the window allows, and the path is too long for that to be enough.
    Window,
    /// The same, and there is no memory left for a larger window.
    Budget,
}

impl Bottleneck {
    /// All there are.
    pub const ALL: [Self; 7] =
        [Self::Operator, Self::Limit, Self::User, Self::Target, Self::Channel, Self::Window, Self::Budget];
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "operator",
            Self::Limit => "limit",
            Self::User => "user",
            Self::Target => "target",
            Self::Channel => "channel",
            Self::Window => "window",
            Self::Budget => "budget",
        })
    }
}

/// For how long each of them held a stream back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BottleneckTimes([Duration; Bottleneck::ALL.len()]);

impl BottleneckTimes {
    /// This one held it back for so much longer.
    pub fn add(&mut self, by: Bottleneck, time: Duration) {
        let stalled = &mut self.0[by as usize];
        *stalled = stalled.saturating_add(time);
    }

    /// Of both directions the one that each held back for longer: together they may come to more than there was time.
    pub fn or_longer(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(time, other)| *time = (*time).max(other));
        self
    }

    /// For how long this one held it back.
    pub fn of(&self, by: Bottleneck) -> Duration {
        self.0[by as usize]
    }

    /// Those that held it back, and for how long.
    pub fn all(&self) -> impl Iterator<Item = (Bottleneck, Duration)> {
        Bottleneck::ALL.into_iter().map(|by| (by, self.of(by))).filter(|(_, stalled)| !stalled.is_zero())
    }
}

/// How a stream flows: looked up for the one that is looked at closely, too costly for each of a hundred thousand at
/// each sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamDetails {
    /// How many bytes the proxy may have sent beyond what the user took: the receive window, down.
    pub download_window: u64,
    /// How many bytes we may have sent beyond what the target took: the peer's receive window, up.
    pub upload_window: u64,
    /// Bytes that came from the proxy and the user has not taken.
    pub download_buffered: u64,
    /// Bytes that came from the user and have not gone out on the channel.
    pub upload_buffered: u64,
    /// Bytes that went out and the target is not known to have taken.
    pub upload_in_flight: u64,
    /// Who holds it back at this moment, down and up. Nobody where nothing is to be carried.
    ///
    /// Downwards, the server sees only what comes. Where nothing waits here and the proxy has credit left, it is the
    /// target that gives no more, or has not answered what the user said last; or it is the channel, where its round trip
    /// is far above its shortest, because queues are full.
    pub download_bottleneck: Option<Bottleneck>,
    /// The same for the upload.
    pub upload_bottleneck: Option<Bottleneck>,
    /// For how long whom what waited here waited for, since the beginning.
    pub bottleneck_times: BottleneckTimes,
    /// How often another channel had to take it over.
    pub failovers: u32,
    /// Bytes that this side sent once more because their channel was lost.
    pub retransmitted_bytes: u64,
    /// How long the proxy took to reach the target.
    pub connect_latency: Option<Duration>,
    /// How long the user waited for the target's first byte.
    pub time_to_first_byte: Option<Duration>,
}

/// Who can say how a stream flows while it does.
pub trait StreamDetailsSource: fmt::Debug + Send + Sync {
    /// How it flows now; nothing where it has ended. Must not call the stream's counters for it.
    fn details(&self) -> Option<StreamDetails>;
}
