//! The log screen: which records are shown, and how far it is scrolled.

use std::collections::VecDeque;

use crate::{
    ids::StreamKey,
    telemetry::{LogRecord, LogRing},
};

/// The log target of records that repeat lifecycle events.
const LIFECYCLE_TARGET: &str = "lifecycle";

/// The log screen: the records of the log, their filter and how far they are scrolled.
#[derive(Debug, Default)]
pub(crate) struct LogScreen {
    /// The text that shown records contain; empty shows all records.
    filter: String,
    /// Whether `filter` is the name of one object, such as a stream key, which must not match the beginning of a
    /// longer name.
    filter_is_name: bool,
    /// The number of filtered records by which the view is scrolled back from the newest one.
    scrolled_back: usize,
    /// The newest records, the oldest first; bounded by [`LogRing::CAPACITY`].
    records: VecDeque<LogRecord>,
    /// tui-logger's own state: which targets and levels are shown, and its scroll position.
    pub(crate) widget: LoggerWidgetState,
}

impl LogScreen {
    /// Appends a log record, and drops the oldest one if there are [`LogRing::CAPACITY`] already. A view that is
    /// scrolled back keeps its position.
    pub(crate) fn push(&mut self, record: LogRecord) {
        // A view that is scrolled back keeps its records in place.
        self.scrolled_back += usize::from(self.scrolled_back > 0 && self.passes(&record));
        if self.records.len() == LogRing::CAPACITY {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    /// Returns the text that shown log records contain; empty if all are shown.
    pub(crate) fn filter(&self) -> &str {
        &self.filter
    }

    /// Shows only log records that contain this text, from the newest one on; an empty text shows all.
    pub(crate) fn set_filter(&mut self, text: String) {
        (self.filter, self.filter_is_name, self.scrolled_back) = (text, false, 0);
    }

    /// Shows only records about the object with this name, such as `3F9A1C:1` or `P2`.
    pub(crate) fn filter_by_name(&mut self, name: String) {
        (self.filter, self.filter_is_name, self.scrolled_back) = (name, true, 0);
    }

    /// Returns whether the log record passes the filter.
    fn passes(&self, record: &LogRecord) -> bool {
        if self.filter_is_name {
            contains_name(&record.text, &self.filter)
        } else {
            record.text.contains(&self.filter)
        }
    }

    /// Returns the log records that pass the filter, the newest first, from the scroll position on.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &LogRecord> {
        self.records.iter().rev().filter(|record| self.passes(record)).skip(self.scrolled_back)
    }

    /// Scrolls the filtered records by `lines`, positive towards older ones. The last `page` records stay reachable
    /// as a full page.
    pub(crate) fn scroll(&mut self, lines: isize, page: usize) {
        let all = self.records.iter().filter(|record| self.passes(record)).count();
        self.scrolled_back = self.scrolled_back.saturating_add_signed(lines).min(all.saturating_sub(page));
    }

    /// Returns the log records that name this stream, the oldest first, without those that repeat lifecycle events.
    pub(crate) fn records_about(&self, key: StreamKey) -> impl Iterator<Item = &LogRecord> {
        let name = key.to_string();
        self.records
            .iter()
            .filter(move |record| record.target != LIFECYCLE_TARGET && contains_name(&record.text, &name))
    }
}

/// Returns whether `text` contains `name` other than as a part of a longer name: `3F9A1C:1` is not in `3F9A1C:12`, nor
/// `8080:default` in `18080:default`.
fn contains_name(text: &str, name: &str) -> bool {
    let is_name_char = |c: char| c.is_alphanumeric();
    text.match_indices(name).any(|(at, _)| {
        !text[..at].ends_with(is_name_char) && !text[at + name.len()..].starts_with(is_name_char)
    })
}

/// tui-logger's widget state. A wrapper, because the state does not implement `Debug`.
#[derive(Default)]
pub(crate) struct LoggerWidgetState(pub(crate) tui_logger::TuiWidgetState);

impl std::fmt::Debug for LoggerWidgetState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoggerWidgetState")
    }
}
