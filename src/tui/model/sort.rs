use std::cmp::Ordering;

use super::stream_row::{StreamAttributes, StreamRow};
use crate::telemetry::{Content, StreamPhase};

/// What the table is sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum SortBy {
    /// Its name.
    Key,
    /// How near it is to carrying: those that wait come first.
    State,
    Service,
    /// In the order of the screen of proxies.
    Proxy,
    Channel,
    /// The user's address.
    User,
    Content,
    Priority,
    /// The rate from the user.
    UpRate,
    /// The rate to the user.
    #[default]
    DownRate,
    /// Bytes from the user.
    Up,
    /// Bytes to the user.
    Down,
    /// Bytes both ways.
    Bytes,
    /// How far the download is, then those of unknown size by their bytes.
    Progress,
    /// How long it has been open.
    Age,
}

impl SortBy {
    const ALL: [Self; 15] = [
        Self::Key,
        Self::State,
        Self::Service,
        Self::Proxy,
        Self::Channel,
        Self::User,
        Self::Content,
        Self::Priority,
        Self::UpRate,
        Self::DownRate,
        Self::Up,
        Self::Down,
        Self::Bytes,
        Self::Progress,
        Self::Age,
    ];

    /// What the command line calls them.
    pub(crate) const NAMES: [&str; 15] = [
        "key",
        "state",
        "service",
        "proxy",
        "channel",
        "user",
        "carries",
        "priority",
        "up",
        "down",
        "up-bytes",
        "down-bytes",
        "bytes",
        "progress",
        "age",
    ];

    /// The one that the command line calls so.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        let at = Self::ALL.iter().position(|by| *by == self);
        at.map_or("", |at| Self::NAMES[at])
    }

    /// The next one of `shown`, or the one before; the first where it is none of them.
    pub(crate) fn next(self, shown: &[Self], forward: bool) -> Self {
        let step = if forward { 1 } else { shown.len().saturating_sub(1) };
        let at = shown.iter().position(|by| *by == self).map_or(0, |at| (at + step) % shown.len());
        shown.get(at).copied().unwrap_or(self)
    }
}

/// What the table is sorted by, and which way. Each column has a direction that is useful first: the fastest, the
/// largest, the newest, and names from A.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sort {
    pub(crate) by: SortBy,
    pub(crate) reversed: bool,
}

impl Sort {
    /// Whether [`compare_texts`] has a say.
    pub(crate) fn has_texts(self) -> bool {
        matches!(self.by, SortBy::User | SortBy::Service | SortBy::Content)
    }

    /// Whether large values come first.
    pub(crate) fn is_descending(self) -> bool {
        use SortBy::{Bytes, Down, DownRate, Priority, Progress, Up, UpRate};
        matches!(self.by, Priority | UpRate | DownRate | Up | Down | Bytes | Progress) != self.reversed
    }
}

/// Where a row belongs among the open ones: the smallest first.
pub(crate) fn place(row: StreamRow<'_>, sort: Sort) -> u64 {
    let value = match sort.by {
        SortBy::Key => u64::from(row.key.user.bits()) << 32 | u64::from(row.key.stream.0),
        SortBy::State => standing(row),
        SortBy::Service => row.service.port.into(),
        SortBy::Proxy => row.proxy.map_or(u64::MAX, |proxy| proxy.0.into()),
        SortBy::Channel => {
            row.channel.map_or(u64::MAX, |id| u64::from(id.proxy.0) << 16 | u64::from(id.index))
        }
        // Texts are no numbers; `compare_texts` looks at them.
        SortBy::User | SortBy::Content => 0,
        SortBy::Priority => row.priority as u64,
        SortBy::UpRate => row.rank.up as u64,
        SortBy::DownRate => row.rank.down as u64,
        SortBy::Up => row.figures.up,
        SortBy::Down => row.figures.down,
        SortBy::Bytes => row.bytes(),
        SortBy::Progress => match row.progress() {
            Some(share) => (1 << 63) + (share * 1e18) as u64,
            None => row.bytes().min((1 << 63) - 1),
        },
        // A sortable stand-in for the time of opening: serials are given in that order.
        SortBy::Age => u64::MAX - row.figures.serial,
    };
    if sort.is_descending() { u64::MAX - value } else { value }
}

/// Which of two rows with the same [`place`] comes first, by what no number tells.
pub(crate) fn compare_texts(a: &StreamAttributes, b: &StreamAttributes, sort: Sort) -> Ordering {
    let order = match sort.by {
        SortBy::User => a.addr.cmp(&b.addr),
        SortBy::Service => a.service.group.cmp(&b.service.group),
        SortBy::Content => carried(a).cmp(&carried(b)),
        _ => Ordering::Equal,
    };
    if sort.is_descending() { order.reverse() } else { order }
}

fn standing(row: StreamRow<'_>) -> u64 {
    match row.phase {
        StreamPhase::Waiting => 0,
        StreamPhase::Opening => 1,
        _ if row.waits => 0,
        _ if row.paused => 2,
        StreamPhase::Open => 3,
        StreamPhase::UserDone => 4,
        StreamPhase::TargetDone => 5,
        StreamPhase::Ended => 6,
    }
}

/// What kind of thing a stream carries, and what it is called.
fn carried(row: &StreamAttributes) -> (u8, &str, &str) {
    match row.content.as_deref() {
        Some(Content::Http { method, target, .. }) => (0, target, method),
        Some(Content::Tls { sni }) => (1, sni.as_deref().unwrap_or_default(), ""),
        Some(Content::Ssh { .. }) => (2, "", ""),
        Some(Content::Tcp) => (3, "", ""),
        None => (4, "", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sort_goes_round_the_columns_on_screen() {
        let shown = [SortBy::Key, SortBy::DownRate, SortBy::Age];
        let go = |by: SortBy, forward| by.next(&shown, forward);
        assert_eq!(go(SortBy::DownRate, true), SortBy::Age);
        assert_eq!(go(SortBy::Age, true), SortBy::Key);
        assert_eq!(go(SortBy::Key, false), SortBy::Age);
        assert_eq!(go(SortBy::Proxy, true), SortBy::Key, "not on screen");
        assert_eq!(SortBy::Age.next(&[], false), SortBy::Age);
        for (name, by) in SortBy::NAMES.iter().zip(SortBy::ALL) {
            assert_eq!((SortBy::named(name), by.name()), (Some(by), *name));
        }
    }
}
