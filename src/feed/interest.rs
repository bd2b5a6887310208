//! What a consumer shows: rows that it wants to see at each tick, and those whose details it needs.

use serde::{Deserialize, Serialize};

/// What a consumer shows at present. It may change at any time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interest {
    /// The [numbers](crate::telemetry::StreamSnapshot::number) of the streams whose details are wanted.
    pub selected: Vec<u64>,
    /// The numbers of the streams on the screen, whose counters are sent with each change; others may come later.
    pub streams: Vec<u64>,
    /// The [numbers](crate::telemetry::UserSnapshot::number) of the users on the screen.
    pub users: Vec<u64>,
}

impl Interest {
    /// The largest number of selected streams: the details of each lock the stream's link.
    pub const MAX_SELECTED: usize = 16;

    /// The largest number of rows on a screen, of each kind.
    pub const MAX_ROWS: usize = 500;

    /// Returns the interest within its bounds, with the rows sorted: it comes from another process.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.selected.truncate(Self::MAX_SELECTED);
        for rows in [&mut self.streams, &mut self.users] {
            rows.truncate(Self::MAX_ROWS);
            rows.sort_unstable();
        }
        self
    }
}
