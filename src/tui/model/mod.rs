//! What the cockpit knows. It changes only in [`update`](super::update); views read it.

mod balance;
mod channel;
mod columns;
mod cursor;
mod data;
mod detail;
mod dialog;
mod export;
mod filter;
mod history;
mod line;
mod meter;
mod order;
mod orders;
mod prompt;
mod proxies;
mod row;
mod services;
mod streams;
mod trend;
mod users;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use ratatui::layout::Size;

pub(crate) use balance::Balance;
pub(crate) use channel::Channel;
pub(crate) use columns::{Choice, Column};
pub(crate) use cursor::{Cursor, Step};
pub(crate) use data::Data;
pub(crate) use detail::{Detail, Journal};
pub(crate) use dialog::{Button, Dialog, Question, Target};
pub(crate) use export::{Export, export};
pub(crate) use filter::{Filter, state};
pub(crate) use history::{History, WINDOWS};
pub(crate) use line::{Edit, LineEdit};
pub(crate) use order::{Sort, SortBy};
pub(crate) use orders::Orders;
pub(crate) use prompt::{Asked, Limited, Prompt};
pub(crate) use proxies::{Ending, LinkState, Proxies, Proxy, ProxyLine, Span};
pub(crate) use row::{Row, RowId, Stream};
pub(crate) use services::{Service, ServiceId, Services};
pub(crate) use streams::Streams;
pub(crate) use trend::Trend;
pub(crate) use users::{User, UserLine, Users};

use super::{
    Labels,
    keymap::{Context, Keymap},
    layout::Layout,
    record::{self, Record},
    theme::Theme,
};
use crate::ids::{ProxyId, StreamKey, UserChannelId};

/// The target of the records that tell what events tell.
const LIFECYCLE: &str = "lifecycle";
/// How long a notice stays.
const NOTICE: Duration = Duration::from_secs(6);

/// Everything that is on the screen, and what is needed to answer the next key.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) labels: Labels,
    pub(crate) theme: Theme,
    pub(crate) keymap: Keymap,
    pub(crate) look: Look,
    pub(crate) size: Size,
    /// How often samples are taken at present.
    pub(crate) interval: Duration,
    /// What is going on.
    pub(crate) live: Data,
    /// What was going on when the operator stopped the display; `live` goes on beneath.
    pub(crate) frozen: Option<Box<Data>>,
    pub(crate) screen: Screen,
    pub(crate) cursor: Cursor<RowId>,
    pub(crate) proxy_cursor: Cursor<ProxyLine>,
    pub(crate) user_cursor: Cursor<UserLine>,
    /// Proxies whose channels are shown.
    pub(crate) unfolded: Vec<ProxyId>,
    /// Users whose streams are shown.
    pub(crate) unfolded_users: Vec<UserChannelId>,
    /// The rows of the users, with the streams of those that are unfolded.
    pub(crate) user_lines: Vec<UserLine>,
    /// Rows that are acted on together.
    pub(crate) marks: Vec<RowId>,
    pub(crate) show_ended: bool,
    /// Which columns the operator wants.
    pub(crate) columns: Choice,
    pub(crate) filter: Filter,
    /// The rows that pass the filter, where there is one, and how many of them are open.
    matching: Vec<RowId>,
    matching_open: usize,
    /// The stream that is looked at closely.
    pub(crate) detail: Option<Detail>,
    /// As it was when the operator stopped the display.
    still: Option<Detail>,
    pub(crate) journal: Journal,
    pub(crate) log: LogView,
    pub(crate) overlay: Option<Overlay>,
    pub(crate) notice: Option<Notice>,
    pub(crate) orders: Orders,
    /// Whether the server lets streams finish and takes nothing new.
    pub(crate) draining: bool,
    /// When it cuts off what is still open then, where that is known.
    pub(crate) drain_ends: Option<Instant>,
    /// Whether the operator asked for that here.
    pub(crate) asked_to_drain: bool,
    /// Lifecycle events that were missed since the start.
    pub(crate) missed: u64,
    /// Whether the first sample is there.
    pub(crate) sampled: bool,
}

/// How figures and charts are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// Rates in bits.
    pub(crate) bits: bool,
    /// Nothing but ASCII.
    pub(crate) ascii: bool,
    /// Clicks and the wheel.
    pub(crate) mouse: bool,
    /// Which of [`WINDOWS`] the charts cover.
    pub(crate) window: usize,
    /// What the bars of the proxies are shares of.
    pub(crate) load: Load,
}

/// What a proxy's load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Its open streams.
    Streams,
    /// Bytes a second, both ways.
    Bytes,
}

impl Default for Look {
    fn default() -> Self {
        Self { bits: false, ascii: false, mouse: false, window: 1, load: Load::Streams }
    }
}

/// The four screens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Screen {
    #[default]
    Streams,
    Proxies,
    Sessions,
    Logs,
}

impl Screen {
    pub(crate) const ALL: [Self; 4] = [Self::Streams, Self::Proxies, Self::Sessions, Self::Logs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Streams => "Streams",
            Self::Proxies => "Proxies",
            Self::Sessions => "Sessions",
            Self::Logs => "Logs",
        }
    }

    /// Its number from 0.
    pub(crate) fn index(self) -> usize {
        Self::ALL.iter().position(|screen| *screen == self).unwrap_or(0)
    }
}

/// The log as it is looked at.
#[derive(Debug, Default)]
pub(crate) struct LogView {
    /// Only records with this in them.
    only: String,
    /// That is a name, and the beginning of a longer one is another name.
    name: bool,
    /// How many of these below the last one on screen are scrolled past.
    back: usize,
    /// The last ones, the oldest first.
    records: VecDeque<Record>,
    /// Which targets and levels are shown, and how far it is scrolled: tui-logger's own.
    pub(crate) state: LogState,
}

impl LogView {
    /// Takes one more record.
    pub(crate) fn note(&mut self, record: Record) {
        // Whoever has scrolled back reads on undisturbed.
        self.back += usize::from(self.back > 0 && self.passes(&record));
        record::keep(&mut self.records, record);
    }

    /// What a record has to have in it; nothing where all are shown.
    pub(crate) fn only(&self) -> &str {
        &self.only
    }

    /// Shows only records with this in them.
    pub(crate) fn show_only(&mut self, text: String) {
        (self.only, self.name, self.back) = (text, false, 0);
    }

    /// Shows only records that speak of what has this name.
    pub(crate) fn show_about(&mut self, name: String) {
        (self.only, self.name, self.back) = (name, true, 0);
    }

    fn passes(&self, record: &Record) -> bool {
        if self.name { mentions(&record.text, &self.only) } else { record.text.contains(&self.only) }
    }

    /// The records that are to be shown, the newest first.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().rev().filter(|record| self.passes(record)).skip(self.back)
    }

    /// Scrolls through what is shown, towards the older ones; a whole screen stays on it.
    pub(crate) fn scroll(&mut self, lines: isize, page: usize) {
        let all = self.records.iter().filter(|record| self.passes(record)).count();
        self.back = self.back.saturating_add_signed(lines).min(all.saturating_sub(page));
    }

    /// What the log says of a stream besides what events tell, the oldest first.
    pub(crate) fn about(&self, key: StreamKey) -> impl Iterator<Item = &Record> {
        let name = key.to_string();
        self.records.iter().filter(move |record| record.target != LIFECYCLE && mentions(&record.text, &name))
    }
}

/// Whether a text has this name in it, and not as the beginning of a longer one: `3F9A1C:1` is not `3F9A1C:12`.
fn mentions(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| !text[at + name.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

/// tui-logger's state, which is not made to be printed.
#[derive(Default)]
pub(crate) struct LogState(pub(crate) tui_logger::TuiWidgetState);

impl std::fmt::Debug for LogState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogState")
    }
}

/// What lies over the screen and has the keyboard.
#[derive(Debug, Clone)]
pub(crate) enum Overlay {
    Help {
        /// The first line on screen.
        scroll: usize,
        /// Only entries with this in them.
        search: String,
    },
    Dialog(Dialog),
    Prompt(Prompt),
    /// How another machine becomes a proxy.
    AddProxy,
    /// Which columns the table has.
    Columns {
        /// The one in focus, by its place among all of them.
        at: usize,
    },
}

/// How loud a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Plain,
    Warning,
}

/// One line that says what just happened.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    pub(crate) text: String,
    pub(crate) tone: Tone,
    until: Instant,
}

impl Model {
    pub(crate) fn new(labels: Labels, theme: Theme, size: Size, now: Instant) -> Self {
        Self {
            labels,
            theme,
            keymap: Keymap::default(),
            look: Look::default(),
            size,
            interval: Duration::from_millis(100),
            live: Data::new(now),
            frozen: None,
            screen: Screen::default(),
            cursor: Cursor::default(),
            proxy_cursor: Cursor::default(),
            user_cursor: Cursor::default(),
            unfolded: Vec::new(),
            unfolded_users: Vec::new(),
            user_lines: Vec::new(),
            marks: Vec::new(),
            show_ended: true,
            columns: Choice::default(),
            filter: Filter::default(),
            matching: Vec::new(),
            matching_open: 0,
            detail: None,
            still: None,
            journal: Journal::default(),
            log: LogView::default(),
            overlay: None,
            notice: None,
            orders: Orders::default(),
            draining: false,
            drain_ends: None,
            asked_to_drain: false,
            missed: 0,
            sampled: false,
        }
    }

    /// What is on the screen: what is going on, or what was when the display was stopped.
    pub(crate) fn shown(&self) -> &Data {
        self.frozen.as_deref().unwrap_or(&self.live)
    }

    /// What has the keyboard.
    pub(crate) fn context(&self) -> Context {
        match &self.overlay {
            Some(Overlay::Help { .. }) => Context::Help,
            Some(Overlay::Dialog(_)) => Context::Dialog,
            Some(Overlay::Prompt(_)) => Context::Prompt,
            Some(Overlay::AddProxy) => Context::AddProxy,
            Some(Overlay::Columns { .. }) => Context::Columns,
            None => self.command_context(),
        }
    }

    /// What has the keyboard when the command line has closed.
    pub(crate) fn command_context(&self) -> Context {
        match self.screen {
            _ if self.detail.is_some() => Context::Detail,
            Screen::Streams => Context::Streams,
            Screen::Proxies => Context::Proxies,
            Screen::Sessions => Context::Sessions,
            Screen::Logs => Context::Logs,
        }
    }

    /// Whether the log's targets stand beside it. On less room lines would be cut before they say anything.
    pub(crate) fn shows_log_targets(&self) -> bool {
        self.size.width >= 100 && self.log.only().is_empty()
    }

    /// Where things are on the screen.
    pub(crate) fn layout(&self) -> Layout {
        Layout::of(self.size)
    }

    /// The rows of the table, those that are hidden left out.
    pub(crate) fn rows(&self) -> &[RowId] {
        if !self.filter.is_empty() {
            return &self.matching;
        }
        self.unfiltered()
    }

    /// How many rows of the table are open, and how many have ended.
    pub(crate) fn counts(&self) -> (usize, usize) {
        if !self.filter.is_empty() {
            return (self.matching_open, self.matching.len() - self.matching_open);
        }
        let streams = &self.shown().streams;
        (streams.live(), if self.show_ended { streams.ended() } else { 0 })
    }

    fn unfiltered(&self) -> &[RowId] {
        let streams = &self.shown().streams;
        let order = streams.order();
        if self.show_ended { order } else { &order[..streams.unsettled()] }
    }

    /// The selected stream.
    pub(crate) fn selected(&self) -> Option<(RowId, Row<'_>)> {
        let id = match (&self.detail, self.screen) {
            (Some(detail), _) => detail.row,
            (None, Screen::Sessions) => match self.user_cursor.selected()? {
                UserLine::Stream(_, id) => id,
                UserLine::User(_) => return None,
            },
            (None, _) => self.cursor.selected()?,
        };
        Some((id, self.shown().streams.get(id)?))
    }

    /// Looks closely at a stream.
    pub(crate) fn look_at(&mut self, id: RowId) {
        if self.detail.as_ref().is_some_and(|detail| detail.row == id) {
            return;
        }
        let shown = self.shown();
        let Some(row) = shown.streams.get(id) else { return };
        let detail = Detail::new(id, row, shown.streams.last_second(), shown.now);
        self.still = self.frozen.is_some().then(|| detail.clone());
        self.detail = Some(detail);
    }

    /// The close look that is on the screen.
    pub(crate) fn shown_detail(&self) -> Option<&Detail> {
        let detail = self.detail.as_ref()?;
        Some(self.still.as_ref().filter(|still| still.row == detail.row).unwrap_or(detail))
    }

    /// Stops the display, or lets it go on.
    pub(crate) fn freeze(&mut self) {
        (self.frozen, self.still) = match self.frozen.take() {
            Some(_) => (None, None),
            None => (Some(Box::new(self.live.clone())), self.detail.clone()),
        };
        self.follow();
    }

    /// How many rows of the users are on screen at once.
    pub(crate) fn user_page(&self) -> usize {
        let (_, users) = self.layout().with_links(self.shown().proxies.links().len());
        usize::from(users.height.saturating_sub(2)).max(1)
    }

    /// How many rows of the screen of proxies are on screen at once.
    pub(crate) fn proxy_page(&self) -> usize {
        let shown = self.shown();
        let lines = shown.proxies.lines(&self.unfolded).len();
        let (table, _) = self.layout().with_services(lines, shown.services.all().len());
        // Its title and its head.
        usize::from(table.height.saturating_sub(2)).max(1)
    }

    /// Says something on the notice line.
    pub(crate) fn say(&mut self, tone: Tone, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), tone, until: self.live.now + NOTICE });
    }

    /// Takes the notice away when it has been there long enough.
    pub(crate) fn expire_notice(&mut self) {
        if self.notice.as_ref().is_some_and(|notice| notice.until <= self.live.now) {
            self.notice = None;
        }
    }

    /// Finds the selected rows again after the rows have changed.
    pub(crate) fn follow(&mut self) {
        let mut cursor = self.cursor;
        let selected = cursor.selected().and_then(|id| self.shown().streams.get(id));
        let over = selected.is_some_and(|row| row.has_settled(self.shown().now));
        if over && !cursor.is_chosen() {
            // Nobody chose it, and whoever looked has seen how it ended.
            self.live.streams.unpin();
            cursor.reset();
        }
        self.match_rows();
        cursor.follow(self.rows(), self.layout().page());
        self.put_cursor(cursor);
        let streams = &self.live.streams;
        self.marks.retain(|id| streams.get(*id).is_some_and(Row::is_live));

        let mut cursor = self.proxy_cursor;
        cursor.follow(&self.shown().proxy_lines(&self.unfolded), self.proxy_page());
        self.proxy_cursor = cursor;
        let users = &self.live.users;
        self.unfolded_users.retain(|user| users.get(*user).is_some());
        self.user_lines = self.shown().user_lines(&self.unfolded_users);
        let page = self.user_page();
        self.user_cursor.follow(&self.user_lines, page);
    }

    fn match_rows(&mut self) {
        let mut matching = std::mem::take(&mut self.matching);
        matching.clear();
        let mut open = 0;
        if !self.filter.is_empty() {
            let Data { streams, proxies, now, .. } = self.shown();
            for id in self.unfiltered() {
                if let Some(row) = streams.get(*id)
                    && self.filter.passes(row, proxies, *now)
                {
                    matching.push(*id);
                    open += usize::from(row.is_live());
                }
            }
        }
        (self.matching, self.matching_open) = (matching, open);
    }

    /// Takes a cursor that has moved.
    pub(crate) fn put_cursor(&mut self, cursor: Cursor<RowId>) {
        self.cursor = cursor;
        self.live.streams.pin(cursor.selected());
    }
}
