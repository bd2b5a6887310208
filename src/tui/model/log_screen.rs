//! The log screen: which records are shown, and how far it is scrolled.

use std::collections::VecDeque;

use crate::{
    ids::{StreamKey, clean},
    telemetry::{LIFECYCLE_TARGET, LogRecord, LogRing},
    tui::format::wrap_all,
};

/// The cells of a record's line before its message: time and level.
pub(crate) const MESSAGE_INDENT: usize = 18;

/// The longest message that is shown, in characters; a longer one is cut.
pub(crate) const MAX_MESSAGE_CHARS: usize = 4000;

/// The log screen: the records of the log, their filter and how far they are scrolled.
#[derive(Debug, Default)]
pub(crate) struct LogScreen {
    /// What shown records contain: words in any order, or one name; empty shows all records.
    filter: String,
    /// Whether `filter` is the name of one object, such as a stream key, which must not match the beginning of a
    /// longer name.
    filter_is_name: bool,
    /// The number of filtered records by which the view is scrolled back from the newest one.
    scrolled_back: usize,
    /// Whether the records are those of another process, which tui-logger does not have.
    is_remote: bool,
    /// The newest records, the oldest first; bounded by [`LogRing::CAPACITY`].
    records: VecDeque<LogRecord>,
    /// tui-logger's own state: which targets and levels are shown, and its scroll position.
    pub(crate) widget: LoggerWidgetState,
}

/// The size of a page of the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageSize {
    /// The lines of a page.
    pub(crate) lines: usize,
    /// The cells that a message has in a line.
    pub(crate) message_width: usize,
}

/// Returns the lines of a message on the log screen. It may contain text from a peer.
pub(crate) fn message_lines(message: &str, width: usize) -> Vec<String> {
    wrap_all(clean(message, MAX_MESSAGE_CHARS).trim(), width)
}

impl PageSize {
    /// Returns how many of these records, the first ones, fit on a page; at least one, so that scrolling gets on.
    fn records<'a>(self, records: impl Iterator<Item = &'a LogRecord>) -> usize {
        let mut left = self.lines;
        let fitting = records.take_while(|record| {
            let lines = message_lines(&record.text, self.message_width).len();
            let fits = lines <= left;
            left = left.saturating_sub(lines);
            fits
        });
        fitting.count().max(1)
    }
}

impl LogScreen {
    /// Returns a log without records; `is_remote` says that they will be those of another process.
    pub(crate) fn new(is_remote: bool) -> Self {
        Self { is_remote, ..Self::default() }
    }

    /// Removes all records.
    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.scrolled_back = 0;
    }

    /// Returns whether the screen lists [`shown`](Self::shown) instead of what tui-logger has.
    pub(crate) fn lists_own_records(&self) -> bool {
        self.is_remote || !self.filter.is_empty()
    }

    /// Appends a log record, and drops the oldest one if there are [`LogRing::CAPACITY`] already. A view that is
    /// scrolled back keeps its position.
    pub(crate) fn push(&mut self, record: LogRecord) {
        // A view that is scrolled back keeps its records in place.
        let keeps_view = self.scrolled_back > 0 && self.filter_function()(&record);
        self.scrolled_back += usize::from(keeps_view);
        if self.records.len() == LogRing::CAPACITY {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    /// Returns the text that shown log records contain; empty if all are shown.
    pub(crate) fn filter(&self) -> &str {
        &self.filter
    }

    /// Shows only log records that contain each word of this text, from the newest one on, in upper or lower case; the
    /// name of a level (`warn`) stands for all records of that level, too. An empty text shows all.
    pub(crate) fn set_filter(&mut self, text: String) {
        (self.filter, self.filter_is_name, self.scrolled_back) = (text, false, 0);
    }

    /// Shows only records about the object with this name, such as `3F9A1C:1` or `P2`.
    pub(crate) fn filter_by_name(&mut self, name: String) {
        (self.filter, self.filter_is_name, self.scrolled_back) = (name, true, 0);
    }

    /// Returns whether a log record passes the filter, as a function to apply to many.
    fn filter_function(&self) -> impl Fn(&LogRecord) -> bool {
        let words: Vec<String> =
            self.filter.split_whitespace().filter(|_| !self.filter_is_name).map(str::to_lowercase).collect();
        move |record| {
            if self.filter_is_name {
                return contains_name(&record.text, &self.filter);
            }
            if words.is_empty() {
                return true;
            }
            let text = record.text.to_lowercase();
            let is_level = |word: &str| record.level.as_str().eq_ignore_ascii_case(word);
            words.iter().all(|word| is_level(word) || text.contains(word))
        }
    }

    /// Returns the log records that pass the filter, the newest first, from the scroll position on.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &LogRecord> {
        self.passing().skip(self.scrolled_back)
    }

    /// Scrolls the filtered records by `count` records, positive towards older ones. The oldest ones stay reachable as
    /// a full page of `size`.
    pub(crate) fn scroll(&mut self, count: isize, size: PageSize) {
        let to = self.scrolled_back.saturating_add_signed(count);
        let all = self.passing().count();
        let passes = self.filter_function();
        let last_page = size.records(self.records.iter().filter(|record| passes(record)));
        drop(passes);
        self.scrolled_back = to.min(all.saturating_sub(last_page));
    }

    /// Scrolls the filtered records by pages of `size`, positive towards older ones, so that each line is on one page.
    pub(crate) fn scroll_pages(&mut self, pages: isize, size: PageSize) {
        for _ in 0..pages.unsigned_abs().min(LogRing::CAPACITY) {
            let count = if pages > 0 {
                size.records(self.shown())
            } else {
                // From the newest record on the page to the ones after it, the next one first.
                let newer: Vec<&LogRecord> = self.passing().take(self.scrolled_back).collect();
                size.records(newer.into_iter().rev())
            };
            let count = isize::try_from(count).unwrap_or(isize::MAX);
            self.scroll(count * pages.signum(), size);
        }
    }

    /// Returns the log records that pass the filter, the newest first.
    fn passing(&self) -> impl Iterator<Item = &LogRecord> {
        let passes = self.filter_function();
        self.records.iter().rev().filter(move |record| passes(record))
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
