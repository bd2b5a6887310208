//! The model: everything that the cockpit knows and shows. Only [`update`](super::update) changes it; views read it.
//! Nothing here reads a clock, a descriptor or a channel.

mod channel_row;
mod columns;
mod cursor;
mod dialog;
mod display;
mod export;
mod line_edit;
mod line_history;
mod link_span;
mod link_timelines;
mod load_balance;
mod log_screen;
mod overlay;
mod pending_commands;
mod prompt;
mod proxy_rows;
mod rate_history;
mod rate_meter;
mod rate_trend;
mod screens;
mod server_state;
mod service_rows;
mod sort;
mod steered;
mod stream_detail;
mod stream_filter;
mod stream_row;
mod stream_rows;
mod user_rows;

use std::time::{Duration, Instant};

use ratatui::layout::Size;

pub(crate) use channel_row::ChannelRow;
pub(crate) use columns::ColumnSelection;
pub(crate) use cursor::{Cursor, CursorStep};
pub(crate) use dialog::{Button, Confirmation, Dialog, KillTarget};
pub(crate) use display::{DisplayOptions, LoadMeasure};
pub(crate) use export::{ExportFormat, export};
pub(crate) use line_edit::{LineEdit, LineEditOp};
pub(crate) use line_history::LineHistory;
pub(crate) use link_span::{LinkCondition, LinkOutcome, LinkSpan};
pub(crate) use link_timelines::LinkTimelines;
pub(crate) use load_balance::LoadBalance;
pub(crate) use log_screen::{LogScreen, MAX_MESSAGE_CHARS, MESSAGE_INDENT, PageSize, message_lines};
pub(crate) use overlay::{Notice, NoticeLevel, Overlay};
pub(crate) use pending_commands::{AnsweredRow, PendingCommands};
pub(crate) use prompt::{LimitTarget, Prompt, PromptKind};
pub(crate) use proxy_rows::{ProxyLine, ProxyRow, ProxyRows};
pub(crate) use rate_history::{CHART_WINDOWS, RateHistory};
pub(crate) use rate_trend::RateTrend;
pub(crate) use screens::{
    DetailScreen, ProxiesScreen, ScreenId, ServerStatus, SessionsScreen, StreamsScreen,
};
pub(crate) use server_state::ServerState;
pub(crate) use service_rows::{ServiceId, ServiceRow, ServiceRows};
pub(crate) use sort::{Sort, SortBy};
pub(crate) use steered::Steered;
pub(crate) use stream_detail::{EventJournal, StreamDetail};
pub(crate) use stream_filter::{FilterRow, state_name};
pub(crate) use stream_row::{RowId, StreamAttributes, StreamRow};
pub(crate) use stream_rows::StreamRows;
pub(crate) use user_rows::{UserLine, UserRow, UserRows};

use super::{
    keymap::{InputContext, Keymap},
    labels::{Labels, Role},
    layout::Layout,
    settings::Settings,
    source::SourceState,
    terminal::Key,
    theme::Theme,
};
use crate::control::Capabilities;

/// The time for which a notice stays on the screen.
const NOTICE_DURATION: Duration = Duration::from_secs(6);

/// How long keys that act without a question are refused after the selection has moved by itself. Nobody who presses
/// such a key meant the row that has just been selected.
const SELECTION_GUARD: Duration = Duration::from_millis(700);

/// What the cursor of a screen selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selection {
    Stream(RowId),
    Proxy(ProxyLine),
    User(UserLine),
}

/// The state of the whole cockpit: what the screen shows, and what decides the effect of the next key.
#[derive(Debug)]
pub(crate) struct Model {
    /// Texts about this server that do not change while the cockpit runs.
    pub(crate) labels: Labels,
    /// The colours of the cockpit.
    pub(crate) theme: Theme,
    /// The bindings of keys to intents that are in effect.
    pub(crate) keymap: Keymap,
    /// How figures and charts are drawn: units, characters, time span.
    pub(crate) display: DisplayOptions,
    /// The size of the terminal in cells.
    pub(crate) size: Size,
    /// The interval at which snapshots of the server are taken.
    pub(crate) sample_interval: Duration,
    /// The time of the newest message or snapshot, by which notices expire and keys are told from a paste. In a replay
    /// the time of the data, [`ServerState::now`], is another.
    pub(crate) now: Instant,
    /// The newest state of the server.
    pub(crate) live: ServerState,
    /// A copy of `live` from when the operator froze the display; `live` continues to be updated.
    pub(crate) frozen: Option<Box<ServerState>>,
    /// The screen that is shown, possibly under an overlay.
    pub(crate) screen: ScreenId,
    /// The cursor, marks, columns and filter of the streams screen.
    pub(crate) streams_screen: StreamsScreen,
    /// The cursor of the proxies screen, and which proxies are unfolded.
    pub(crate) proxies_screen: ProxiesScreen,
    /// The cursor of the sessions screen, and which users are unfolded.
    pub(crate) sessions_screen: SessionsScreen,
    /// The stream that the detail screen shows, if it is open.
    pub(crate) detail_screen: DetailScreen,
    /// The log records, their filter and how far they are scrolled.
    pub(crate) log_screen: LogScreen,
    /// Recent lifecycle events about streams and their proxies.
    pub(crate) journal: EventJournal,
    /// The dialog, prompt or list that is drawn over the screen and receives the keys; `None` while none is open.
    pub(crate) overlay: Option<Overlay>,
    /// The message in the footer about what just happened; `None` once it has expired.
    pub(crate) notice: Option<Notice>,
    /// The lines that were typed into prompts.
    pub(crate) line_history: LineHistory,
    /// When the selection last changed by itself, because its object had ended.
    pub(crate) selection_moved_at: Option<Instant>,
    /// Until when a key belongs to a burst of keys that has just arrived; `None` before the first burst.
    pub(crate) burst_until: Option<Instant>,
    /// The key that was pressed last outside of a burst, and when; `None` before the first one.
    pub(crate) last_key: Option<(Key, Instant)>,
    /// Commands that are queued for the server, or sent and not yet answered.
    pub(crate) pending_commands: PendingCommands,
    /// Where the data comes from at present.
    pub(crate) source_state: SourceState,
    /// Whether the server drains, and what the cockpit has missed of its events.
    pub(crate) server_status: ServerStatus,
}

impl Model {
    /// Creates a model without data and with default settings, as of `now`.
    pub(crate) fn new(labels: Labels, theme: Theme, size: Size, now: Instant) -> Self {
        let labels_role = labels.role;
        Self {
            labels,
            theme,
            keymap: Keymap::default().for_role(labels_role),
            display: DisplayOptions::default(),
            size,
            sample_interval: Duration::from_millis(100),
            now,
            live: ServerState::new(now),
            frozen: None,
            screen: ScreenId::default(),
            streams_screen: StreamsScreen::default(),
            proxies_screen: ProxiesScreen::default(),
            sessions_screen: SessionsScreen::default(),
            detail_screen: DetailScreen::default(),
            log_screen: LogScreen::new(labels_role != Role::Server),
            source_state: SourceState::default(),
            journal: EventJournal::default(),
            overlay: None,
            notice: None,
            line_history: LineHistory::default(),
            selection_moved_at: None,
            burst_until: None,
            last_key: None,
            pending_commands: PendingCommands::default(),
            server_status: ServerStatus::default(),
        }
    }

    /// Applies the operator's settings. Key bindings that `server` does not support, or that a read-only operator may
    /// not use, are removed.
    pub(crate) fn apply_settings(&mut self, settings: &Settings, server: Capabilities) {
        self.theme = settings.theme.clone();
        self.apply_capabilities(settings, server);
        self.streams_screen.columns = settings.columns.clone();
        self.display = settings.display;
    }

    /// Removes the key bindings that `server` does not support, or that a read-only operator may not use.
    pub(crate) fn apply_capabilities(&mut self, settings: &Settings, server: Capabilities) {
        let keymap = settings.keymap.clone().restricted_to(server).for_role(self.labels.role);
        let keymap = keymap.for_subject(self.labels.subject);
        self.keymap = if settings.read_only { keymap.read_only(self.labels.role) } else { keymap };
    }

    /// Forgets all that is known of the server: what follows is about another one, or about another time. How the
    /// operator looks at it stays.
    pub(crate) fn reset(&mut self) {
        let (now, sort, users) = (self.live.now, self.live.streams.sort(), self.live.users.sort());
        self.live = ServerState::new(now);
        self.live.streams.set_sort(sort, now);
        self.live.users.set_sort(users, now);
        self.frozen = None;
        self.detail_screen = DetailScreen::default();
        self.journal = EventJournal::default();
        self.server_status = ServerStatus::default();
        self.log_screen.clear();
        if matches!(self.overlay, Some(Overlay::Dialog(_))) {
            // What it asks about is gone.
            self.overlay = None;
        }
        self.refresh_rows();
    }

    /// Returns the numbers by which snapshots identify the streams on the screen.
    pub(crate) fn visible_streams(&self) -> Vec<u64> {
        let (rows, screen) = (self.rows(), &self.streams_screen);
        let from = screen.cursor.offset().min(rows.len());
        let shown = rows[from..].iter().take(self.layout().table_rows());
        shown.filter_map(|id| self.live.streams.snapshot_number(*id)).collect()
    }

    /// Returns the server state that the screen shows: the frozen copy while the display is frozen, else the newest
    /// one.
    pub(crate) fn shown(&self) -> &ServerState {
        self.frozen.as_deref().unwrap_or(&self.live)
    }

    /// Returns the set of key bindings in which the next key is looked up: that of the open overlay, else that of the
    /// screen.
    pub(crate) fn context(&self) -> InputContext {
        match &self.overlay {
            Some(Overlay::Help { .. }) => InputContext::Help,
            Some(Overlay::Dialog(_)) => InputContext::Dialog,
            Some(Overlay::Prompt(_)) => InputContext::Prompt,
            Some(Overlay::AddProxy { .. }) => InputContext::AddProxy,
            Some(Overlay::Columns { .. }) => InputContext::Columns,
            None => self.command_context(),
        }
    }

    /// Returns the set of key bindings of the current screen, whatever overlay is open: the command line runs
    /// commands in it.
    pub(crate) fn command_context(&self) -> InputContext {
        match self.screen {
            _ if self.detail_screen.open.is_some() => InputContext::Detail,
            ScreenId::Streams => InputContext::Streams,
            ScreenId::Proxies => InputContext::Proxies,
            ScreenId::Sessions => InputContext::Sessions,
            ScreenId::Logs => InputContext::Logs,
        }
    }

    /// Returns whether the log screen lists the log targets beside the records: on at least 100 columns, without a
    /// filter, and for the log of this process. On fewer columns they would cut the records too short.
    pub(crate) fn shows_log_targets(&self) -> bool {
        self.size.width >= 100 && !self.log_screen.lists_own_records()
    }

    /// Returns the command that joins another machine as a proxy, with a name that no proxy has: two proxies of one
    /// name, which is by default that of the host, are hard to tell apart.
    pub(crate) fn join_command(&self) -> Option<String> {
        let number = self.live.proxies.last_number() + 1;
        Some(format!("{} --name proxy-{number}", self.labels.join.as_ref()?))
    }

    /// Returns the areas into which a terminal of the present size is divided.
    pub(crate) fn layout(&self) -> Layout {
        Layout::of(self.size)
    }

    /// Returns the listed rows of the streams table, in table order: those that pass the filter, without ended
    /// streams where these are hidden.
    pub(crate) fn rows(&self) -> &[RowId] {
        if !self.streams_screen.filter.is_empty() {
            return &self.streams_screen.filtered_rows;
        }
        self.unfiltered_rows()
    }

    /// Returns how many of the listed streams are open, and how many have ended.
    pub(crate) fn open_and_ended_counts(&self) -> (usize, usize) {
        let screen = &self.streams_screen;
        if !screen.filter.is_empty() {
            return (screen.filtered_open, screen.filtered_rows.len() - screen.filtered_open);
        }
        let streams = &self.shown().streams;
        (streams.open_count(), if screen.show_ended { streams.ended_count() } else { 0 })
    }

    /// Returns the rows of the streams table before the filter, in table order: without ended streams where these are
    /// hidden.
    fn unfiltered_rows(&self) -> &[RowId] {
        let streams = &self.shown().streams;
        let order = streams.order();
        if self.streams_screen.show_ended { order } else { &order[..streams.rows_before_ended()] }
    }

    /// Returns the selected stream: that of the detail screen if it is open, else that of the cursor; `None` if no
    /// stream is selected.
    pub(crate) fn selected(&self) -> Option<(RowId, StreamRow<'_>)> {
        let id = match (&self.detail_screen.open, self.screen) {
            (Some(detail), _) => detail.row,
            (None, ScreenId::Sessions) => match self.sessions_screen.cursor.selected()? {
                UserLine::Stream(_, id) => id,
                UserLine::User(_) => return None,
            },
            (None, _) => self.streams_screen.cursor.selected()?,
        };
        Some((id, self.shown().streams.get(id)?))
    }

    /// Returns the number by which snapshots identify the stream on the detail screen; the next snapshot has to
    /// contain its details. `None` while the detail screen is closed, and once the stream has ended.
    pub(crate) fn selected_stream_number(&self) -> Option<u64> {
        self.live.streams.snapshot_number(self.detail_screen.open.as_ref()?.row)
    }

    /// Opens the detail screen for a stream. Does nothing where it is open for that stream already.
    pub(crate) fn open_detail(&mut self, id: RowId) {
        if self.detail_screen.open.as_ref().is_some_and(|detail| detail.row == id) {
            return;
        }
        let shown = self.shown();
        let Some(row) = shown.streams.get(id) else { return };
        let detail = StreamDetail::new(id, row, shown.streams.trends_updated_at(), shown.now);
        self.detail_screen.frozen = self.frozen.is_some().then(|| detail.clone());
        self.detail_screen.open = Some(detail);
    }

    /// Returns the stream detail that the screen shows: the frozen copy while the display is frozen; `None` while the
    /// detail screen is closed.
    pub(crate) fn shown_detail(&self) -> Option<&StreamDetail> {
        let detail = self.detail_screen.open.as_ref()?;
        let frozen = self.detail_screen.frozen.as_ref().filter(|frozen| frozen.row == detail.row);
        Some(frozen.unwrap_or(detail))
    }

    /// Freezes the display, or unfreezes it. The live state is updated either way.
    pub(crate) fn toggle_freeze(&mut self) {
        (self.frozen, self.detail_screen.frozen) = match self.frozen.take() {
            Some(_) => (None, None),
            None => (Some(Box::new(self.live.clone())), self.detail_screen.open.clone()),
        };
        self.refresh_rows();
    }

    /// Returns the number of rows of the users table that fit on the screen, at least 1.
    pub(crate) fn user_page(&self) -> usize {
        let (_, users) = self.layout().split_sessions(self.shown().proxies.links().all().len());
        usize::from(users.height.saturating_sub(2)).max(1)
    }

    /// Returns the number of rows of the proxy table that fit on the screen, at least 1.
    pub(crate) fn proxy_page(&self) -> usize {
        let shown = self.shown();
        let lines = shown.proxies.lines(&self.proxies_screen.unfolded).len();
        let (table, _) = self.layout().split_proxies(lines, shown.services.all().len());
        // Without its title and its column headings.
        usize::from(table.height.saturating_sub(2)).max(1)
    }

    /// Shows a notice in the footer for [`NOTICE_DURATION`], in place of the one before.
    pub(crate) fn notify(&mut self, level: NoticeLevel, text: impl Into<String>) {
        self.notice = Some(Notice {
            text: text.into(),
            level,
            is_about_overlay: self.overlay.is_some(),
            expires_at: self.now + NOTICE_DURATION,
        });
    }

    /// Removes the notice if it has been shown for [`NOTICE_DURATION`].
    pub(crate) fn expire_notice(&mut self) {
        if self.notice.as_ref().is_some_and(|notice| notice.expires_at <= self.now) {
            self.notice = None;
        }
    }

    /// Recomputes the listed rows of all screens after the data, the filter or the size has changed, and moves each
    /// cursor to where its selected row is now.
    pub(crate) fn refresh_rows(&mut self) {
        let selected = self.streams_screen.cursor.selected().and_then(|id| self.shown().streams.get(id));
        let now = self.shown().now;
        // What the operator selected stays for a moment, so that he sees how it ended.
        let lingers = self.streams_screen.cursor.is_chosen() && self.streams_screen.show_ended;
        if selected.is_some_and(|row| !row.is_live() && (!lingers || row.ended_long_ago(now))) {
            self.leave_ended_row();
        }
        let mut cursor = self.streams_screen.cursor;
        self.apply_filter();
        cursor.follow(self.rows(), self.layout().table_rows());
        self.set_stream_cursor(cursor);
        let streams = &self.live.streams;
        self.streams_screen.marks.retain(|id| streams.get(*id).is_some_and(StreamRow::is_live));

        let mut cursor = self.proxies_screen.cursor;
        cursor.follow(&self.shown().proxy_lines(&self.proxies_screen.unfolded), self.proxy_page());
        self.proxies_screen.cursor = cursor;
        let users = &self.live.users;
        self.sessions_screen.unfolded.retain(|user| users.get(*user).is_some());
        self.sessions_screen.lines = self.shown().user_lines(&self.sessions_screen.unfolded);
        let page = self.user_page();
        self.sessions_screen.cursor.follow(&self.sessions_screen.lines, page);
    }

    /// Moves the cursor of the streams table from a row that has ended to the next open one, else to the one before.
    /// Does nothing where the operator put the cursor on a row that had ended already, or looks at its detail. Returns
    /// whether the cursor has moved.
    pub(crate) fn leave_ended_row(&mut self) -> bool {
        let screen = &self.streams_screen;
        let Some(id) = screen.cursor.selected() else { return false };
        let is_live = |id: &RowId| self.shown().streams.get(*id).is_some_and(StreamRow::is_live);
        let is_in_detail = self.detail_screen.open.as_ref().is_some_and(|detail| detail.row == id);
        let stays = (screen.chosen_ended_row == Some(id) && screen.show_ended) || is_in_detail;
        if stays || is_live(&id) {
            return false;
        }
        let rows = self.rows();
        let at = rows.iter().position(|row| *row == id).unwrap_or(screen.cursor.index());
        let (before, after) = rows.split_at(at.min(rows.len()));
        let next = after.iter().find(|id| is_live(id)).or_else(|| before.iter().rfind(|id| is_live(id)));
        let next = next.copied();
        let mut cursor = screen.cursor;
        match next {
            Some(next) if cursor.is_chosen() => cursor.move_to(next),
            _ => cursor.reset(),
        }
        self.live.streams.unpin();
        cursor.follow(self.rows(), self.layout().table_rows());
        self.set_stream_cursor(cursor);
        next.is_some()
    }

    /// Returns what the cursor of the current screen selects.
    pub(crate) fn selection(&self) -> Option<Selection> {
        if let Some(detail) = &self.detail_screen.open {
            return Some(Selection::Stream(detail.row));
        }
        match self.screen {
            ScreenId::Streams => self.streams_screen.cursor.selected().map(Selection::Stream),
            ScreenId::Proxies => self.proxies_screen.cursor.selected().map(Selection::Proxy),
            ScreenId::Sessions => self.sessions_screen.cursor.selected().map(Selection::User),
            ScreenId::Logs => None,
        }
    }

    /// Recomputes which rows of the streams table pass the filter, and how many of them are open.
    fn apply_filter(&mut self) {
        let mut rows = std::mem::take(&mut self.streams_screen.filtered_rows);
        rows.clear();
        let mut open = 0;
        if !self.streams_screen.filter.is_empty() {
            let ServerState { streams, proxies, now, .. } = self.shown();
            for id in self.unfiltered_rows() {
                if let Some(row) = streams.get(*id)
                    && self.streams_screen.filter.passes(&FilterRow { row, proxies, now: *now })
                {
                    rows.push(*id);
                    open += usize::from(row.is_live());
                }
            }
        }
        (self.streams_screen.filtered_rows, self.streams_screen.filtered_open) = (rows, open);
    }

    /// Returns whether the selection has moved by itself so recently that a key cannot be meant for it.
    pub(crate) fn has_selection_just_moved(&self) -> bool {
        let moved = self.selection_moved_at.map(|at| self.now.saturating_duration_since(at));
        moved.is_some_and(|ago| ago < SELECTION_GUARD)
    }

    /// Stores the cursor of the streams table after it has moved, and pins the row that it selects.
    pub(crate) fn set_stream_cursor(&mut self, cursor: Cursor<RowId>) {
        self.streams_screen.cursor = cursor;
        self.live.streams.pin(cursor.selected());
    }
}
