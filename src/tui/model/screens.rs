//! The state of each screen: its cursor, what is unfolded, and what is filtered. The rows themselves are in
//! [`ServerState`](super::ServerState).

use std::time::Instant;

use super::{
    columns::ColumnSelection, cursor::Cursor, proxy_rows::ProxyLine, stream_detail::StreamDetail,
    stream_row::RowId, user_rows::UserLine,
};
use crate::{
    control::StreamFilter,
    ids::{ProxyId, UserChannelId},
};

/// Identifies one of the four screens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ScreenId {
    #[default]
    Streams,
    Proxies,
    Sessions,
    Logs,
}

impl ScreenId {
    /// All screens, in the order of their tabs.
    pub(crate) const ALL: [Self; 4] = [Self::Streams, Self::Proxies, Self::Sessions, Self::Logs];

    /// Returns the title on the tab of the screen. A proxy has links to servers.
    pub(crate) fn name(self, is_of_proxy: bool) -> &'static str {
        match self {
            Self::Proxies if is_of_proxy => "Servers",
            Self::Streams => "Streams",
            Self::Proxies => "Proxies",
            Self::Sessions => "Users",
            Self::Logs => "Logs",
        }
    }

    /// Returns the name of the screen in at most four letters, for the tabs of a narrow terminal.
    pub(crate) fn short_name(self, is_of_proxy: bool) -> &'static str {
        match self {
            Self::Proxies if is_of_proxy => "Serv",
            Self::Streams => "Strm",
            Self::Proxies => "Prox",
            Self::Sessions => "User",
            Self::Logs => "Logs",
        }
    }

    /// Returns the position of the screen among the tabs, counted from 0.
    pub(crate) fn index(self) -> usize {
        Self::ALL.iter().position(|screen| *screen == self).unwrap_or(0)
    }
}

/// The state of the screen with the streams table.
#[derive(Debug)]
pub(crate) struct StreamsScreen {
    /// The selected row of the streams table, and how far it is scrolled.
    pub(crate) cursor: Cursor<RowId>,
    /// The ended row on which the operator put the cursor: the cursor stays there. It leaves other rows when they end.
    pub(crate) chosen_ended_row: Option<RowId>,
    /// Rows that the operator marked: commands act on all of them together.
    pub(crate) marks: Vec<RowId>,
    /// Whether streams that have ended are listed.
    pub(crate) show_ended: bool,
    /// Which columns the operator asked for or hid.
    pub(crate) columns: ColumnSelection,
    /// Rows that do not pass this filter are not listed.
    pub(crate) filter: StreamFilter,
    /// The rows that pass the filter, in table order; empty while the filter is empty.
    pub(super) filtered_rows: Vec<RowId>,
    /// How many of `filtered_rows` are open streams.
    pub(super) filtered_open: usize,
}

impl Default for StreamsScreen {
    fn default() -> Self {
        Self {
            cursor: Cursor::default(),
            chosen_ended_row: None,
            marks: Vec::new(),
            show_ended: true,
            columns: ColumnSelection::default(),
            filter: StreamFilter::default(),
            filtered_rows: Vec::new(),
            filtered_open: 0,
        }
    }
}

/// The state of the screen with proxies, their channels, and the services.
#[derive(Debug, Default)]
pub(crate) struct ProxiesScreen {
    /// The selected proxy, channel or service, and how far the list is scrolled.
    pub(crate) cursor: Cursor<ProxyLine>,
    /// Proxies whose channels are listed below them.
    pub(crate) unfolded: Vec<ProxyId>,
}

/// The state of the screen with the timelines of links and the users table.
#[derive(Debug, Default)]
pub(crate) struct SessionsScreen {
    /// The selected user or stream, and how far the list is scrolled.
    pub(crate) cursor: Cursor<UserLine>,
    /// Users whose streams are listed below them.
    pub(crate) unfolded: Vec<UserChannelId>,
    /// The rows of the users table: users, and the streams of unfolded users.
    pub(crate) lines: Vec<UserLine>,
}

/// The state of the screen with all details of one stream.
#[derive(Debug, Default)]
pub(crate) struct DetailScreen {
    /// The stream that is shown; `None` while the screen is closed.
    pub(crate) open: Option<StreamDetail>,
    /// A copy of `open` from when the display was frozen; `None` while the display is not frozen.
    pub(super) frozen: Option<StreamDetail>,
}

/// The condition of the server, and how complete the cockpit's knowledge of it is.
#[derive(Debug, Default)]
pub(crate) struct ServerStatus {
    /// Whether the server is draining: it refuses new streams and lets open ones finish.
    pub(crate) is_draining: bool,
    /// When a draining server ends the streams that are still open; `None` if it has announced no time.
    pub(crate) drain_deadline: Option<Instant>,
    /// Whether the operator started the drain from this cockpit.
    pub(crate) drain_requested: bool,
    /// Whether a SIGINT or SIGTERM has arrived: the next one ends the program at once.
    pub(crate) was_interrupted: bool,
    /// The number of lifecycle events that were dropped since the cockpit started, because they came faster than it
    /// took them.
    pub(crate) missed_events: u64,
    /// The address of the last user that was refused, and the limit that refused it; `None` before the first.
    pub(crate) last_refused_user: Option<String>,
    /// The address of the last connection whose handshake failed, and why; `None` before the first.
    pub(crate) last_failed_handshake: Option<String>,
    /// Whether the first snapshot of the server has arrived.
    pub(crate) has_sample: bool,
}
