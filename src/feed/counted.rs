//! Tables with many rows: users and streams. The sending half compares the rows with what was sent, the receiving half
//! applies the changes.

use std::collections::HashMap;

use super::{
    changes::{CountedChanges, Counters, RowCounters},
    decode_error::DecodeError,
    pace::Pace,
    spread::Spread,
};
use crate::{
    ids::RateLimits,
    telemetry::{StreamSnapshot, UserSnapshot},
};

/// A row with a serial number and counters.
pub(super) trait CountedRow: Clone {
    /// What tells whether anything but the counters has changed.
    type Version: Copy + PartialEq + std::fmt::Debug;

    /// Returns the serial number of the row in its server.
    fn number(&self) -> u64;
    /// Returns the version of everything but the counters.
    fn version(&self) -> Self::Version;
    /// Returns the counters.
    fn counters(&self) -> RowCounters;
    /// Sets the counters.
    fn set_counters(&mut self, counters: RowCounters);
}

impl CountedRow for StreamSnapshot {
    type Version = u32;

    fn number(&self) -> u64 {
        self.number
    }

    fn version(&self) -> u32 {
        self.changes
    }

    fn counters(&self) -> RowCounters {
        [self.down, self.up, 0, 0]
    }

    fn set_counters(&mut self, [down, up, ..]: RowCounters) {
        (self.down, self.up) = (down, up);
    }
}

impl CountedRow for UserSnapshot {
    type Version = RateLimits;

    fn number(&self) -> u64 {
        self.number
    }

    fn version(&self) -> RateLimits {
        self.limits
    }

    fn counters(&self) -> RowCounters {
        [self.down, self.up, self.streams_open, self.streams_total]
    }

    fn set_counters(&mut self, [down, up, open, total]: RowCounters) {
        (self.down, self.up, self.streams_open, self.streams_total) = (down, up, open, total);
    }
}

/// What the consumer has of one row.
#[derive(Debug, Clone, Copy)]
struct SentRow<V> {
    /// The serial number of the row.
    number: u64,
    /// The version of its attributes.
    version: V,
    /// Its counters.
    counters: RowCounters,
}

impl<V> SentRow<V> {
    /// Returns what the consumer has once it has got this row.
    fn of<R: CountedRow<Version = V>>(row: &R) -> Self {
        Self { number: row.number(), version: row.version(), counters: row.counters() }
    }
}

/// The sending half of a table.
#[derive(Debug)]
pub(super) struct CountedSender<R: CountedRow> {
    /// What the consumer has, in the order of the last snapshot: most rows are at the same place in the next one.
    sent: Vec<SentRow<R::Version>>,
    /// The number of the last row whose counters had their turn.
    counted_cursor: u64,
    /// The number of the last row that had its turn to be sent whole.
    changed_cursor: u64,
}

impl<R: CountedRow> Default for CountedSender<R> {
    fn default() -> Self {
        Self { sent: Vec::new(), counted_cursor: 0, changed_cursor: 0 }
    }
}

impl<R: CountedRow> CountedSender<R> {
    /// Records that the consumer gets all rows.
    pub(super) fn reset(&mut self, rows: &[R]) {
        self.sent.clear();
        self.sent.extend(rows.iter().map(SentRow::of));
    }

    /// Returns what the consumer lacks: all of it, except for changes of rows that are not in `view`, of which it
    /// contains as many as `pace` says. Records it as sent. `view` is sorted.
    pub(super) fn encode(&mut self, rows: &[R], pace: Pace, view: &[u64]) -> Option<CountedChanges<R>> {
        let mut changes = CountedChanges::default();
        // Rows that are no longer where they were: they went, or others went and they have moved.
        let is_moved =
            |(at, sent): &(usize, &SentRow<_>)| rows.get(*at).is_none_or(|row| row.number() != sent.number);
        let mut moved: HashMap<u64, SentRow<R::Version>> =
            self.sent.iter().enumerate().filter(is_moved).map(|(_, sent)| (sent.number, *sent)).collect();
        self.sent.truncate(rows.len());
        // The index of each row with new counters, and of each with other new attributes.
        let (mut counted, mut changed) = (Vec::new(), Vec::new());
        for (at, row) in rows.iter().enumerate() {
            let known = match self.sent.get(at) {
                Some(sent) if sent.number == row.number() => Some(*sent),
                _ => moved.remove(&row.number()),
            };
            let sent = match known {
                Some(sent) => {
                    if sent.version != row.version() {
                        changed.push(at);
                    } else if sent.counters != row.counters() {
                        counted.push(at);
                    }
                    sent
                }
                None => {
                    changes.rows.push(row.clone());
                    SentRow::of(row)
                }
            };
            match self.sent.get_mut(at) {
                Some(place) => *place = sent,
                None => self.sent.push(sent),
            }
        }
        changes.gone = moved.into_keys().collect();
        changes.gone.sort_unstable();
        let all_changed = changed.clone();
        let (whole, _) = choose(&self.sent, &mut self.changed_cursor, &mut changed, pace.changed, view);
        changed.extend(whole);
        for &at in &changed {
            changes.rows.push(rows[at].clone());
            self.sent[at] = SentRow::of(&rows[at]);
        }
        // Those that are not sent whole now have counters, too.
        let waits = |at: &usize| self.sent[*at].counters != rows[*at].counters();
        counted.extend(all_changed.into_iter().filter(waits));
        let budget = pace.counted_beside(changed.len());
        let (in_turn, rounds) = choose(&self.sent, &mut self.counted_cursor, &mut counted, budget, view);
        let mut counters_of = |places: Vec<usize>| {
            let grown = places.into_iter().map(|at| {
                let (counters, row) = (rows[at].counters(), &mut self.sent[at]);
                let before = std::mem::replace(&mut row.counters, counters);
                let grown = |column: usize| counters[column].wrapping_sub(before[column]) as i64;
                (row.number, std::array::from_fn(grown))
            });
            let mut grown: Vec<_> = grown.collect();
            grown.sort_unstable_by_key(|(number, _)| *number);
            Counters::of(&grown)
        };
        changes.counters = counters_of(counted);
        (changes.in_turn, changes.rounds) = (counters_of(in_turn), rounds);
        changes.some()
    }
}

/// Where there are more than `budget` places of rows in `chosen`, leaves those of rows in `view`. Returns the others
/// whose turn it is after `cursor`, at most `budget`, and in how many rounds each of them has its turn.
fn choose<V>(
    sent: &[SentRow<V>],
    cursor: &mut u64,
    chosen: &mut Vec<usize>,
    budget: usize,
    view: &[u64],
) -> (Vec<usize>, u32) {
    if chosen.len() <= budget {
        return (Vec::new(), 0);
    }
    let number = |at: &usize| sent[*at].number;
    let is_in_view = |at: &usize| view.binary_search(&number(at)).is_ok();
    let mut others;
    (*chosen, others) = chosen.drain(..).partition::<Vec<usize>, _>(is_in_view);
    let rounds = others.len().div_ceil(budget.max(1));
    if others.len() > budget {
        // Ascending from the number after the cursor, and around.
        let first = cursor.wrapping_add(1);
        if budget > 0 {
            let turn = |at: &usize| number(at).wrapping_sub(first);
            let (_, last, _) = others.select_nth_unstable_by_key(budget - 1, turn);
            *cursor = number(last);
        }
        others.truncate(budget);
    }
    (others, u32::try_from(rounds).unwrap_or(u32::MAX))
}

/// The receiving half of a table, beside the rows themselves, which are a list of the snapshot.
#[derive(Debug, Default)]
pub(super) struct CountedReceiver {
    /// The place of each row in the list, by its number.
    places: HashMap<u64, usize>,
    /// Counters that are still catching up, at the place of their row.
    spreads: Vec<Spread>,
}

impl CountedReceiver {
    /// Takes over the rows of a full snapshot.
    pub(super) fn reset<R: CountedRow>(&mut self, rows: &[R]) {
        self.places = rows.iter().enumerate().map(|(at, row)| (row.number(), at)).collect();
        self.spreads = rows.iter().map(|row| Spread::at(row.counters())).collect();
    }

    /// Applies changes to the rows: a row that went is replaced by the last one, and new ones are appended. Advances
    /// the counters that are catching up.
    ///
    /// # Errors
    /// The changes name a row that is not in the list, or their columns have different lengths. If the list
    /// `is_partial`, because a newer version has written some of its rows, it need not have those that are named.
    pub(super) fn apply<R: CountedRow>(
        &mut self,
        rows: &mut Vec<R>,
        changes: CountedChanges<R>,
        is_partial: bool,
    ) -> Result<(), DecodeError> {
        for number in changes.gone {
            let at = match self.places.remove(&number) {
                Some(at) => at,
                None if is_partial => continue,
                None => return Err(DecodeError::UnknownRow),
            };
            rows.swap_remove(at);
            self.spreads.swap_remove(at);
            if let Some(moved) = rows.get(at) {
                self.places.insert(moved.number(), at);
            }
        }
        for row in changes.rows {
            let spread = Spread::at(row.counters());
            match self.places.get(&row.number()) {
                Some(&at) => (rows[at], self.spreads[at]) = (row, spread),
                None => {
                    self.places.insert(row.number(), rows.len());
                    rows.push(row);
                    self.spreads.push(spread);
                }
            }
        }
        for (counters, rounds) in [(&changes.counters, 1), (&changes.in_turn, changes.rounds)] {
            self.grow(counters, rounds, is_partial)?;
        }
        for (row, spread) in rows.iter_mut().zip(&mut self.spreads) {
            if let Some(counters) = spread.advance() {
                row.set_counters(counters);
            }
        }
        Ok(())
    }

    /// Adds the steps of counters, which are shown within `rounds` changes.
    fn grow(&mut self, counters: &Counters, rounds: u32, is_partial: bool) -> Result<(), DecodeError> {
        let (columns, length) = (counters.columns(), counters.steps.len());
        if columns.iter().any(|column| !column.is_empty() && column.len() != length) {
            return Err(DecodeError::UnknownRow);
        }
        for (number, grown) in counters.rows() {
            let at = match self.places.get(&number) {
                Some(at) => *at,
                None if is_partial => continue,
                None => return Err(DecodeError::UnknownRow),
            };
            self.spreads[at].grow(grown, rounds);
        }
        Ok(())
    }

    /// Sorts the rows by their numbers: of the users this is the order of arrival, which screens show.
    pub(super) fn sort<R: CountedRow>(&mut self, rows: &mut [R]) {
        if !rows.is_sorted_by_key(CountedRow::number) {
            rows.sort_unstable_by_key(CountedRow::number);
            let mut by_number: HashMap<u64, Spread> =
                self.places.iter().map(|(number, at)| (*number, self.spreads[*at])).collect();
            self.spreads = rows.iter().filter_map(|row| by_number.remove(&row.number())).collect();
            self.places = rows.iter().enumerate().map(|(at, row)| (row.number(), at)).collect();
        }
    }
}
