//! What the cockpit knows. It changes only in [`update`](super::update); views read it.

mod cursor;
mod dialog;
mod history;
mod meter;
mod order;
mod orders;
mod proxies;
mod row;
mod streams;

use std::time::{Duration, Instant};

use ratatui::layout::Size;

pub(crate) use cursor::{Cursor, Step};
pub(crate) use dialog::{Button, Dialog, Question, Target};
pub(crate) use history::History;
use meter::{Meter, SampleClock};
pub(crate) use order::{Sort, SortBy};
pub(crate) use orders::Orders;
pub(crate) use proxies::{Proxies, Proxy};
pub(crate) use row::{Row, RowId};
pub(crate) use streams::Streams;

use super::{Labels, keymap::Context, layout::Layout, theme::Theme};
use crate::{ids::UserChannelId, telemetry::Totals};

/// How long a notice stays.
const NOTICE: Duration = Duration::from_secs(6);

/// Everything that is on the screen, and what is needed to answer the next key.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) labels: Labels,
    pub(crate) theme: Theme,
    pub(crate) size: Size,
    /// The time of the last message.
    pub(crate) now: Instant,
    /// How often samples are taken at present.
    pub(crate) interval: Duration,
    pub(crate) uptime: Duration,
    pub(crate) totals: Totals,
    pub(crate) throughput: Throughput,
    pub(crate) streams: Streams,
    pub(crate) proxies: Proxies,
    pub(crate) cursor: Cursor<RowId>,
    /// Rows that are acted on together.
    pub(crate) marks: Vec<RowId>,
    pub(crate) show_ended: bool,
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

/// What lies over the screen and has the keyboard.
#[derive(Debug, Clone)]
pub(crate) enum Overlay {
    Help {
        /// The first line on screen.
        scroll: usize,
    },
    Dialog(Dialog),
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

/// The rates of everything together, now and over the window of the chart.
#[derive(Debug, Clone, Default)]
pub(crate) struct Throughput {
    pub(crate) down: f64,
    pub(crate) up: f64,
    pub(crate) history: History,
    clock: SampleClock,
    meters: (Meter, Meter),
}

impl Throughput {
    /// Notes where the totals stand.
    pub(crate) fn note(&mut self, now: Instant, totals: &Totals) {
        self.clock.tick(now);
        self.meters.0.note(&self.clock, totals.down);
        self.meters.1.note(&self.clock, totals.up);
        self.down = self.meters.0.per_second(&self.clock);
        self.up = self.meters.1.per_second(&self.clock);
        self.history.note(now, totals.down, totals.up);
    }
}

impl Model {
    pub(crate) fn new(labels: Labels, theme: Theme, size: Size, now: Instant) -> Self {
        Self {
            labels,
            theme,
            size,
            now,
            interval: Duration::from_millis(100),
            uptime: Duration::ZERO,
            totals: Totals::default(),
            throughput: Throughput::default(),
            streams: Streams::default(),
            proxies: Proxies::default(),
            cursor: Cursor::default(),
            marks: Vec::new(),
            show_ended: true,
            overlay: None,
            notice: None,
            orders: Orders::default(),
            draining: false,
            asked_to_drain: false,
            missed: 0,
            sampled: false,
        }
    }

    /// What has the keyboard.
    pub(crate) fn context(&self) -> Context {
        match &self.overlay {
            None => Context::Streams,
            Some(Overlay::Help { .. }) => Context::Help,
            Some(Overlay::Dialog(_)) => Context::Dialog,
        }
    }

    /// Where things are on the screen.
    pub(crate) fn layout(&self) -> Layout {
        Layout::of(self.size)
    }

    /// The rows of the table, those that are hidden left out.
    pub(crate) fn rows(&self) -> &[RowId] {
        let order = self.streams.order();
        if self.show_ended { order } else { &order[..self.streams.unsettled()] }
    }

    /// The selected stream.
    pub(crate) fn selected(&self) -> Option<(RowId, &Row)> {
        let id = self.cursor.selected()?;
        Some((id, self.streams.get(id)?))
    }

    /// Says something on the notice line.
    pub(crate) fn say(&mut self, tone: Tone, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), tone, until: self.now + NOTICE });
    }

    /// Takes the notice away when it has been there long enough.
    pub(crate) fn expire_notice(&mut self) {
        if self.notice.as_ref().is_some_and(|notice| notice.until <= self.now) {
            self.notice = None;
        }
    }

    /// Finds the selected row again after the rows have changed.
    pub(crate) fn follow(&mut self) {
        let page = self.layout().page();
        let mut cursor = self.cursor;
        let over = self.selected().is_some_and(|(_, row)| row.has_settled(self.now));
        if over && !cursor.is_chosen() {
            // Nobody chose it, and whoever looked has seen how it ended.
            self.streams.unpin();
            cursor.reset();
        }
        cursor.follow(self.rows(), page);
        self.put_cursor(cursor);
        let streams = &self.streams;
        self.marks.retain(|id| streams.get(*id).is_some_and(Row::is_live));
    }

    /// Takes a cursor that has moved.
    pub(crate) fn put_cursor(&mut self, cursor: Cursor<RowId>) {
        self.cursor = cursor;
        self.streams.pin(cursor.selected());
    }

    /// How many streams of a user are open.
    pub(crate) fn streams_of(&self, user: UserChannelId) -> u64 {
        let rows = self.streams.order().iter().filter_map(|id| self.streams.get(*id));
        rows.filter(|row| row.is_live() && row.key.user == user).count() as u64
    }
}
