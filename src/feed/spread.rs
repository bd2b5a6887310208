//! Counters that are sent in turn, shown as if they grew evenly.
//!
//! A row that is sent once a second makes a step once a second. A rate over the last second, which a screen computes
//! from ten samples, would be twice the true one where two steps fall into the second, and zero where none does. The
//! steps are therefore spread over the changes that they cover: the row is late by up to a second, and its rate is
//! right.

use super::changes::RowCounters;

/// The counters of one row: what is shown now, and what will be shown when the last step is complete.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread {
    /// The counters that are shown.
    shown: RowCounters,
    /// The counters as they were sent.
    sent: RowCounters,
    /// In how many changes `shown` has reached `sent`; 0 if it has.
    changes_left: u32,
    /// The number of changes since the last step; saturates.
    changes_since: u32,
}

impl Spread {
    /// Returns the state of a row that shows what was sent.
    pub(super) fn at(counters: RowCounters) -> Self {
        Self { shown: counters, sent: counters, changes_left: 0, changes_since: 0 }
    }

    /// Adds a step. It covers the changes since the last one, and takes as many to be shown; at most `rounds`, because
    /// a row that is sent in turn may have been idle before.
    pub(super) fn grow(&mut self, grown: [i64; 4], rounds: u32) {
        for (counter, step) in self.sent.iter_mut().zip(grown) {
            *counter = counter.wrapping_add_signed(step);
        }
        self.changes_left = self.changes_since.clamp(1, rounds.max(1));
        self.changes_since = 0;
        // Counts of streams are not rates: they are shown as they are.
        (self.shown[2], self.shown[3]) = (self.sent[2], self.sent[3]);
    }

    /// Advances by one change. Returns the counters to show if they have changed.
    pub(super) fn advance(&mut self) -> Option<RowCounters> {
        if self.changes_left == 0 {
            self.changes_since = self.changes_since.saturating_add(1);
            return None;
        }
        let left = u64::from(self.changes_left);
        for (shown, sent) in self.shown.iter_mut().zip(self.sent) {
            *shown += sent.saturating_sub(*shown) / left;
        }
        self.changes_left -= 1;
        self.changes_since = self.changes_since.saturating_add(1);
        if self.changes_left == 0 {
            self.shown = self.sent;
        }
        Some(self.shown)
    }
}
