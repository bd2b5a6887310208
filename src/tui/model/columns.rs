//! The columns of the table of streams: each is defined once, in the list below. How many fit on a screen is decided
//! by [`table_columns`](crate::tui::table_columns); what a cell says, by the view.

use super::sort::SortBy;
use crate::tui::layout::LIMIT_WIDTH;

/// How the content of a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alignment {
    Left,
    Right,
}

/// The properties of one column. Widths are in terminal cells.
#[derive(Debug)]
pub(crate) struct ColumnSpec {
    pub(crate) column: StreamColumn,
    /// What settings and the list of columns call it.
    pub(crate) name: &'static str,
    pub(crate) heading: &'static str,
    /// Narrower than this the column is not shown at all.
    pub(crate) min_width: usize,
    /// The column grows up to this width where there is space to spare.
    pub(crate) max_width: usize,
    pub(crate) alignment: Alignment,
    /// The order in which columns are dropped on narrow screens, unless the operator chose columns: the highest first.
    pub(crate) drop_rank: u8,
    /// What a click on the heading sorts by.
    pub(crate) sort: Option<SortBy>,
}

/// Defines the columns in the order of the screen: variant, name, heading, widths, alignment, drop rank, sort key.
macro_rules! stream_columns {
    ($($column:ident $name:literal $heading:literal $min:tt..=$max:tt $alignment:ident $rank:literal $sort:expr;)+) => {
        /// A column of the table of streams.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum StreamColumn {
            $($column),+
        }

        impl StreamColumn {
            /// All columns, in the order of the screen.
            pub(crate) const ALL: [Self; SPECS.len()] = {
                let mut all = [Self::Stream; SPECS.len()];
                let mut at = 0;
                while at < all.len() {
                    all[at] = SPECS[at].column;
                    at += 1;
                }
                all
            };
        }

        const SPECS: &[ColumnSpec] = &[$(ColumnSpec {
            column: StreamColumn::$column,
            name: $name,
            heading: $heading,
            min_width: $min,
            max_width: $max,
            alignment: Alignment::$alignment,
            drop_rank: $rank,
            sort: $sort,
        }),+];
    };
}

stream_columns! {
    Stream "stream" "STREAM" 10..=10 Left 0 Some(SortBy::Key);
    State "state" "STATE" 6..=6 Left 2 Some(SortBy::State);
    Service "service" "SERVICE" 8..=14 Left 13 Some(SortBy::Service);
    Proxy "proxy" "PROXY" 10..=20 Left 4 Some(SortBy::Proxy);
    Channel "channel" "CH" 5..=6 Left 11 Some(SortBy::Channel);
    Address "address" "USER ADDRESS" 21..=47 Left 8 Some(SortBy::User);
    Content "carries" "CARRIES" 16..=60 Left 9 Some(SortBy::Content);
    Priority "priority" "PRI" 6..=6 Left 7 Some(SortBy::Priority);
    Limit "limit" "LIMIT" LIMIT_WIDTH..=LIMIT_WIDTH Left 15 None;
    UpRate "up-rate" "UP/s" 6..=7 Right 5 Some(SortBy::UpRate);
    DownRate "down-rate" "DOWN/s" 7..=8 Right 1 Some(SortBy::DownRate);
    Up "up" "UP" 6..=7 Right 14 Some(SortBy::Up);
    Down "down" "DOWN" 6..=7 Right 10 Some(SortBy::Down);
    Progress "progress" "PROGRESS" 14..=36 Left 6 Some(SortBy::Progress);
    Age "age" "AGE" 6..=7 Right 3 Some(SortBy::Age);
    Trend "trend" "TREND" 8..=8 Left 12 None;
}

impl StreamColumn {
    /// The properties of this column.
    pub(crate) fn spec(self) -> &'static ColumnSpec {
        &SPECS[self as usize]
    }

    /// What settings and the list of columns call it.
    pub(crate) fn name(self) -> &'static str {
        self.spec().name
    }

    /// The column that settings call so.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.name() == name)
    }
}

/// Which columns the operator asked for and which ones he hid. While neither is the case, the width of the screen alone
/// decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ColumnSelection {
    /// The columns asked for, the most important first: these are dropped last on a narrow screen.
    requested: Vec<StreamColumn>,
    hidden: Vec<StreamColumn>,
}

impl ColumnSelection {
    /// Selects these columns, the most important first, and hides all others.
    pub(crate) fn only(requested: Vec<StreamColumn>) -> Self {
        let hidden = StreamColumn::ALL.into_iter().filter(|column| !requested.contains(column)).collect();
        Self { requested, hidden }
    }

    /// Whether the operator has neither asked for a column nor hidden one.
    pub(crate) fn is_default(&self) -> bool {
        self.requested.is_empty() && self.hidden.is_empty()
    }

    /// Whether this column is hidden. The key of a stream never is: commands name it.
    pub(crate) fn hides(&self, column: StreamColumn) -> bool {
        column != StreamColumn::Stream && self.hidden.contains(&column)
    }

    /// The position of this column among those asked for, from 1; the stream key is 0, columns not asked for come last.
    pub(crate) fn precedence(&self, column: StreamColumn) -> usize {
        let at = self.requested.iter().position(|requested| *requested == column);
        if column == StreamColumn::Stream { 0 } else { at.map_or(usize::MAX, |at| at + 1) }
    }

    /// Shows or hides a column. The last one asked for takes precedence over the others, so that it fits at once.
    pub(crate) fn set(&mut self, column: StreamColumn, shown: bool) {
        self.requested.retain(|known| *known != column);
        self.hidden.retain(|known| *known != column);
        if shown {
            self.requested.insert(0, column);
        } else {
            self.hidden.push(column);
        }
    }
}

#[cfg(test)]
mod tests;
