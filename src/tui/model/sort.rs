//! The order of the streams table: what it is sorted by, and how two rows compare.

use std::cmp::Ordering;

use super::stream_row::{StreamAttributes, StreamRow};
use crate::{
    telemetry::{Content, StreamPhase},
    tui::columns::{StreamColumn, TableColumn},
};

/// What the streams table is sorted by: one of its sortable columns, or a figure that has no column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SortBy {
    /// A column. Rates count as they were at the last full second, and the state by how near the stream is to
    /// transferring data: waiting streams come first.
    Column(StreamColumn),
    /// The bytes of the stream in both directions together.
    Bytes,
}

impl Default for SortBy {
    fn default() -> Self {
        Self::Column(StreamColumn::DownRate)
    }
}

impl SortBy {
    /// Returns all sort keys: the sortable columns in the order of the screen, then the others.
    fn all() -> impl Iterator<Item = Self> {
        StreamColumn::ALL.iter().filter_map(|column| Self::of_column(*column)).chain([Self::Bytes])
    }

    /// Returns the sort key of a column; `None` if the table cannot be sorted by it.
    pub(crate) fn of_column(column: StreamColumn) -> Option<Self> {
        column.spec().sort_name.map(|_| Self::Column(column))
    }

    /// Returns the sort key with this name in the command `sort`; `None` if there is none.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::all().find(|by| by.name() == name)
    }

    /// Returns the name of the sort key in the command `sort`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Column(column) => column.spec().sort_name.unwrap_or_default(),
            Self::Bytes => "bytes",
        }
    }

    /// Returns the sort key after (or before) this one among `shown`, cyclically; the first of them if this one is
    /// not among them.
    pub(crate) fn next(self, shown: &[Self], forward: bool) -> Self {
        let step = if forward { 1 } else { shown.len().saturating_sub(1) };
        let at = shown.iter().position(|by| *by == self).map_or(0, |at| (at + step) % shown.len());
        shown.get(at).copied().unwrap_or(self)
    }
}

/// The sort key of the streams table and its direction. Each key has a default direction: the fastest, the largest
/// and the newest first, names from A.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sort {
    /// The column, or the figure without a column, by which rows are sorted.
    pub(crate) by: SortBy,
    /// Whether the table is sorted in the opposite of the default direction of its sort key.
    pub(crate) reversed: bool,
}

impl Sort {
    /// Returns whether rows with the same [`sort_value`] are ordered by [`compare_texts`].
    pub(crate) fn compares_texts(self) -> bool {
        use StreamColumn::{Address, Content, Service};
        matches!(self.by, SortBy::Column(Address | Service | Content))
    }

    /// Returns whether large values come first.
    pub(crate) fn is_descending(self) -> bool {
        use StreamColumn::{Down, DownRate, Priority, Progress, Up, UpRate};
        let by_default = match self.by {
            SortBy::Column(column) => {
                matches!(column, Priority | UpRate | DownRate | Up | Down | Progress)
            }
            SortBy::Bytes => true,
        };
        by_default != self.reversed
    }
}

/// Returns the number by which the row of an open stream is sorted: the smallest comes first, whatever the direction.
pub(crate) fn sort_value(row: StreamRow<'_>, sort: Sort) -> u64 {
    use StreamColumn as Column;
    let column = match sort.by {
        SortBy::Column(column) => column,
        SortBy::Bytes => return if sort.is_descending() { u64::MAX - row.bytes() } else { row.bytes() },
    };
    let value = match column {
        Column::Stream => u64::from(row.key.user.bits()) << 32 | u64::from(row.key.stream.0),
        Column::State => state_order(row),
        Column::Service => row.service.port.into(),
        // In the order of the proxies screen.
        Column::Proxy => row.proxy.map_or(u64::MAX, |proxy| proxy.0.into()),
        Column::Channel => {
            row.channel.map_or(u64::MAX, |id| u64::from(id.proxy.0) << 16 | u64::from(id.index))
        }
        // `compare_texts` orders these; the last two cannot be sorted by.
        Column::Address | Column::Content | Column::Limit | Column::Trend => 0,
        Column::Priority => row.priority as u64,
        Column::UpRate => row.rank.up as u64,
        Column::DownRate => row.rank.down as u64,
        Column::Up => row.counters.up,
        Column::Down => row.counters.down,
        // Downloads of unknown size come after all others, by their bytes.
        Column::Progress => match row.progress() {
            Some(share) => (1 << 63) + (share * 1e18) as u64,
            None => row.bytes().min((1 << 63) - 1),
        },
        // Serials are given in the order in which streams open.
        Column::Age => u64::MAX - row.counters.serial,
    };
    if sort.is_descending() { u64::MAX - value } else { value }
}

/// Compares the texts of two rows by which the table is sorted: address, group or content. Called for rows with the
/// same [`sort_value`].
pub(crate) fn compare_texts(a: &StreamAttributes, b: &StreamAttributes, sort: Sort) -> Ordering {
    let order = match sort.by {
        SortBy::Column(StreamColumn::Address) => a.addr.cmp(&b.addr),
        SortBy::Column(StreamColumn::Service) => a.service.group.cmp(&b.service.group),
        SortBy::Column(StreamColumn::Content) => content_key(a).cmp(&content_key(b)),
        _ => Ordering::Equal,
    };
    if sort.is_descending() { order.reverse() } else { order }
}

/// Returns how near a stream is to transferring data; streams that wait for a proxy or a channel come first.
fn state_order(row: StreamRow<'_>) -> u64 {
    match row.phase {
        StreamPhase::Waiting => 0,
        StreamPhase::Opening => 1,
        _ if row.is_in_grace_period => 0,
        _ if row.paused => 2,
        StreamPhase::Open => 3,
        StreamPhase::UserDone => 4,
        StreamPhase::TargetDone => 5,
        StreamPhase::Ended => 6,
    }
}

/// Returns the rank of the detected protocol, and its texts by which streams of one protocol are ordered.
fn content_key(row: &StreamAttributes) -> (u8, &str, &str) {
    match row.content.as_deref() {
        Some(Content::Http { method, target, .. }) => (0, target, method),
        Some(Content::Tls { sni }) => (1, sni.as_deref().unwrap_or_default(), ""),
        Some(Content::Ssh { .. }) => (2, "", ""),
        Some(Content::Tcp) => (3, "", ""),
        None => (4, "", ""),
    }
}

#[cfg(test)]
mod tests;
