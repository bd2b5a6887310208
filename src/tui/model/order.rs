use super::row::Row;

/// What the table is sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum SortBy {
    /// The rate to the user.
    #[default]
    DownRate,
    /// The rate from the user.
    UpRate,
    /// Bytes both ways.
    Bytes,
    /// How long it has been open.
    Age,
    /// Its name.
    Key,
}

impl SortBy {
    const ALL: [Self; 5] = [Self::DownRate, Self::UpRate, Self::Bytes, Self::Age, Self::Key];

    /// The one that the command line calls so.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let at = ["down", "up", "bytes", "age", "key"].iter().position(|known| *known == name)?;
        Self::ALL.get(at).copied()
    }

    /// The next one, or the one before.
    pub(crate) fn next(self, forward: bool) -> Self {
        let at = Self::ALL.iter().position(|by| *by == self).unwrap_or(0);
        let step = if forward { 1 } else { Self::ALL.len() - 1 };
        Self::ALL[(at + step) % Self::ALL.len()]
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
    /// Whether large values come first.
    pub(crate) fn is_descending(self) -> bool {
        matches!(self.by, SortBy::DownRate | SortBy::UpRate | SortBy::Bytes) != self.reversed
    }
}

/// Where a row belongs: its section (live rows, then ended ones), then its rank there. Rows of one rank stand in the
/// order in which they came.
pub(crate) fn place(row: &Row, sort: Sort) -> (u8, u64) {
    if let Some(number) = row.sunk {
        // The last one to end comes first, whatever the live ones are sorted by.
        return (1, u64::MAX - number);
    }
    let value = match sort.by {
        SortBy::DownRate => row.down_rank as u64,
        SortBy::UpRate => row.up_rank as u64,
        SortBy::Bytes => row.bytes(),
        // A sortable stand-in for the time of opening: serials are given in that order.
        SortBy::Age => u64::MAX - row.serial,
        SortBy::Key => u64::from(row.key.user.bits()) << 32 | u64::from(row.key.stream.0),
    };
    (0, if sort.is_descending() { u64::MAX - value } else { value })
}
