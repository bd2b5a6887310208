//! What the cockpit knows. It changes only in [`update`](super::update); views read it.

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
mod proxies;
mod row;
mod streams;
mod users;

use std::time::{Duration, Instant};

use ratatui::layout::Size;

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
pub(crate) use proxies::{Channel, Proxies, Proxy, ProxyLine, Span};
pub(crate) use row::{Row, RowId};
pub(crate) use streams::Streams;
pub(crate) use users::{User, Users};

use super::{
    Labels,
    keymap::{Context, Keymap},
    layout::Layout,
    theme::Theme,
};
use crate::ids::UserChannelId;

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
    pub(crate) user_cursor: Cursor<UserChannelId>,
    /// Proxies whose channels are shown.
    pub(crate) unfolded: Vec<crate::ids::ProxyId>,
    /// Rows that are acted on together.
    pub(crate) marks: Vec<RowId>,
    pub(crate) show_ended: bool,
    /// Which columns the operator wants.
    pub(crate) columns: Choice,
    pub(crate) filter: Filter,
    /// The rows that pass the filter, where there is one.
    matching: Vec<RowId>,
    /// The stream that is looked at closely.
    pub(crate) detail: Option<Detail>,
    pub(crate) journal: Journal,
    pub(crate) log: LogView,
    pub(crate) overlay: Option<Overlay>,
    pub(crate) notice: Option<Notice>,
    pub(crate) orders: Orders,
    /// Whether the server lets streams finish and takes nothing new.
    pub(crate) draining: bool,
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
}

impl Default for Look {
    fn default() -> Self {
        Self { bits: false, ascii: false, mouse: false, window: 1 }
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
    pub(crate) only: String,
    /// Which targets and levels are shown, and how far it is scrolled: tui-logger's own.
    pub(crate) state: LogState,
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

/// What is being typed, and what for.
#[derive(Debug, Clone)]
pub(crate) struct Prompt {
    pub(crate) what: Asked,
    pub(crate) line: LineEdit,
    /// What is wrong with it, so far.
    pub(crate) wrong: Option<String>,
}

/// What a [`Prompt`] is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The filter, with the one that Esc brings back.
    Filter {
        before: String,
    },
    /// What the log has to contain, likewise.
    LogFilter {
        before: String,
    },
    /// What entries of the help have to contain.
    Help,
    Command,
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
            marks: Vec::new(),
            show_ended: true,
            columns: Choice::default(),
            filter: Filter::default(),
            matching: Vec::new(),
            detail: None,
            journal: Journal::default(),
            log: LogView::default(),
            overlay: None,
            notice: None,
            orders: Orders::default(),
            draining: false,
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

    fn unfiltered(&self) -> &[RowId] {
        let streams = &self.shown().streams;
        let order = streams.order();
        if self.show_ended { order } else { &order[..streams.unsettled()] }
    }

    /// The selected stream.
    pub(crate) fn selected(&self) -> Option<(RowId, &Row)> {
        let id = self.cursor.selected()?;
        Some((id, self.shown().streams.get(id)?))
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
        let over = self.selected().is_some_and(|(_, row)| row.has_settled(self.shown().now));
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

        let page = self.layout().body_page();
        let mut cursor = self.proxy_cursor;
        cursor.follow(&self.shown().proxies.lines(&self.unfolded), page);
        self.proxy_cursor = cursor;
        let mut cursor = self.user_cursor;
        cursor.follow(self.shown().users.order(), page);
        self.user_cursor = cursor;
    }

    fn match_rows(&mut self) {
        let mut matching = std::mem::take(&mut self.matching);
        matching.clear();
        if !self.filter.is_empty() {
            let Data { streams, proxies, now, .. } = self.shown();
            let rows = self.unfiltered().iter();
            matching.extend(
                rows.filter(|id| streams.get(**id).is_some_and(|row| self.filter.passes(row, proxies, *now)))
                    .copied(),
            );
        }
        self.matching = matching;
    }

    /// Takes a cursor that has moved.
    pub(crate) fn put_cursor(&mut self, cursor: Cursor<RowId>) {
        self.cursor = cursor;
        self.live.streams.pin(cursor.selected());
    }
}
