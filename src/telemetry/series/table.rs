//! A bounded table of series, by the value of their label.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The label of the series that counts for all objects that have none of their own.
const OTHER: &str = "other";

/// How long a series continues without an object. A scrape is made every minute or more often.
const MAX_IDLE: Duration = Duration::from_secs(3600);

/// A bounded table of series: what is counted under each value of one label, also while no object has that label.
///
/// A series outlives its objects, so that its counters only grow when a proxy connects again, and what the object
/// counted after the last scrape is not lost. It ends when the label has been without an object for [`MAX_IDLE`], or
/// for longest while there are as many as the maximum: labels come from peers, and a monitoring system keeps each for
/// months. If each has an object, new labels share the series `other`. What a series has counted ends with it: a reader
/// has seen that, and would count it twice under another label.
#[derive(Debug)]
pub(in crate::telemetry) struct SeriesTable<C> {
    /// The most labels beside `other`.
    max: usize,
    /// The series.
    entries: Mutex<SeriesEntries<C>>,
}

/// The series of a [`SeriesTable`].
#[derive(Debug)]
struct SeriesEntries<C> {
    /// All series but `other`, by label.
    by_label: HashMap<Arc<str>, Entry<C>>,
    /// The series of all labels that have none of their own.
    other: Entry<C>,
}

/// One series.
#[derive(Debug)]
struct Entry<C> {
    /// Label and counters, shared with the objects.
    series: Series<C>,
    /// How many objects have the label now.
    live: usize,
    /// When it had an object last; `None` before the first one has left.
    left_at: Option<Instant>,
}

/// The label of an object in metrics, and the counters under it.
#[derive(Debug)]
pub(in crate::telemetry) struct Series<C> {
    /// The value of the label: that of the object, or `other`.
    pub(in crate::telemetry) label: Arc<str>,
    /// What is counted for all objects with this label, since the label was first seen.
    pub(in crate::telemetry) counters: Arc<C>,
}

impl<C> Clone for Series<C> {
    fn clone(&self) -> Self {
        Self { label: self.label.clone(), counters: self.counters.clone() }
    }
}

impl<C: Default> Entry<C> {
    /// Creates a series without objects.
    fn new(label: &str) -> Self {
        Self { series: Series { label: label.into(), counters: Arc::default() }, live: 0, left_at: None }
    }
}

impl<C: Default> SeriesTable<C> {
    /// Creates a table of at most `max` labels beside `other`.
    pub(in crate::telemetry) fn new(max: usize) -> Self {
        let entries = SeriesEntries { by_label: HashMap::new(), other: Entry::new(OTHER) };
        Self { max, entries: Mutex::new(entries) }
    }

    /// Adds an object with this label to its series, and returns that.
    pub(in crate::telemetry) fn join(&self, label: &str) -> Series<C> {
        let mut entries = self.entries.lock();
        let entry = entries.entry_for_new_object(label, self.max);
        entry.live += 1;
        entry.series.clone()
    }

    /// Removes an object from its series. `retire` unregisters it and adds what it counted itself to the series, under
    /// the lock of the table: a reader sees that once, in the object or in the series.
    pub(in crate::telemetry) fn leave(&self, series: &Series<C>, retire: impl FnOnce(&C)) {
        let mut entries = self.entries.lock();
        retire(&series.counters);
        let entry = entries.existing(&series.label);
        entry.live = entry.live.saturating_sub(1);
        entry.left_at = Some(Instant::now());
    }

    /// Runs `change` under the lock of the table: an object that is no member of a series moves its counts to one.
    pub(in crate::telemetry) fn locked<T>(&self, change: impl FnOnce() -> T) -> T {
        let _entries = self.entries.lock();
        change()
    }

    /// Runs `read` with each series and its number of objects, under the lock of the table; `other` is left out until
    /// it has been used. Series come in the order of their labels.
    pub(in crate::telemetry) fn read<T>(&self, read: impl FnOnce(Vec<(&Series<C>, usize)>) -> T) -> T {
        let mut entries = self.entries.lock();
        entries.remove_idle(Instant::now());
        let is_used = entries.other.live > 0 || entries.other.left_at.is_some();
        let mut all: Vec<_> = entries.by_label.values().map(|entry| (&entry.series, entry.live)).collect();
        all.sort_by(|(a, _), (b, _)| a.label.cmp(&b.label));
        all.extend(is_used.then_some((&entries.other.series, entries.other.live)));
        read(all)
    }
}

impl<C: Default> SeriesEntries<C> {
    /// Returns the series with this label, which exists, or `other`.
    fn existing(&mut self, label: &str) -> &mut Entry<C> {
        self.by_label.get_mut(label).unwrap_or(&mut self.other)
    }

    /// Returns the series of a new object with this label; makes room for it if there are `max`.
    fn entry_for_new_object(&mut self, label: &str, max: usize) -> &mut Entry<C> {
        if label == OTHER {
            return &mut self.other;
        }
        if !self.by_label.contains_key(label) {
            if self.by_label.len() >= max && !self.evict_longest_idle() {
                return &mut self.other;
            }
            self.by_label.insert(label.into(), Entry::new(label));
        }
        self.existing(label)
    }

    /// Removes the series that has been without an object for longest. Returns whether there was one.
    fn evict_longest_idle(&mut self) -> bool {
        let idle = self.by_label.values().filter(|entry| entry.live == 0);
        let oldest = idle.min_by_key(|entry| entry.left_at).map(|entry| entry.series.label.clone());
        oldest.is_some_and(|label| self.by_label.remove(&label).is_some())
    }

    /// Removes the series that have been without an object for [`MAX_IDLE`] at `now`.
    fn remove_idle(&mut self, now: Instant) {
        let is_idle = |entry: &Entry<C>| {
            entry.live == 0 && entry.left_at.is_some_and(|at| now.saturating_duration_since(at) >= MAX_IDLE)
        };
        self.by_label.retain(|_, entry| !is_idle(entry));
    }
}

#[cfg(test)]
mod tests;
