//! The text of the help: key bindings, columns, states and figures, filtered by what is searched for. The view draws
//! it; the update uses its length to limit scrolling.

use ratatui::{
    layout::Size,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr;

use super::{
    columns::{ProxyColumn, ServiceColumn, StreamColumn, TableColumn, UserColumn},
    format::{fit, wrap},
    keymap::InputContext,
    model::{Model, Overlay},
};

/// The states of a stream and what they mean.
const STATES: [(&str, &str); 11] = [
    ("WAIT", "the stream waits for a proxy, or its proxy has lost all channels and may resume"),
    ("DIAL", "the proxy connects to the target"),
    ("OPEN", "both directions are open"),
    ("PAUSED", "the operator paused the stream; its connections stay open"),
    ("HALF↓ HALF↑", "half-closed: one direction has ended; the arrow is the direction that is still open"),
    ("ended", "both directions ended and every byte was delivered"),
    ("failed", "the stream ended early; the reason is in PROGRESS and in the log"),
    ("short", "the stream ended before all of a known size had arrived; PROGRESS has both amounts"),
    (
        "reset, aborted",
        "the user reset the connection; or ended it within a transfer, or while it waited for a proxy",
    ),
    ("idle", "no byte in either direction for the idle timeout (--idle-timeout)"),
    ("killed", "the operator killed the stream"),
];

/// What the cockpit calls the parts of a tunnel.
const TERMS: [(&str, &str); 8] = [
    ("tunnel :7000", "tunnel port: where proxies connect to the server; not for users"),
    ("users on :8080", "public port: where users connect; what to test with curl. +2: there are two more"),
    ("proxy", "underpass on a machine behind NAT: connects to the server, and to the target for each stream"),
    ("target", "what a proxy connects to (--to)"),
    ("stream", "one connection of a user. Its key, 3F9A1C:2, is the user's id and a number"),
    ("user", "one client address on one public port. Its id is the same whenever it returns"),
    (
        "channel, link",
        "a connection from a proxy to the server; a proxy has several (ch). Together they are its link",
    ),
    ("service", "a public port and the proxies that serve it: 8080:default is port 8080, group default"),
];

/// Load-balancing policies.
const POLICIES: [(&str, &str); 4] = [
    ("round-robin", "each proxy of a service in turn"),
    ("weighted", "in turn, as often as the weight of each proxy says"),
    ("least-streams", "the proxy with the fewest open streams for its weight"),
    ("peak-ewma", "the proxy with the lowest recent latency, times its open streams"),
];

/// Figures of a channel, below an unfolded proxy.
const CHANNEL_FIGURES: [(&str, &str); 11] = [
    ("up", "it accepts new streams"),
    (
        "stalled",
        "its socket has accepted no data, or its peer answered no ping, for seconds: it gets no new streams",
    ),
    ("closing", "the proxy is about to close it: open streams continue, and none is added"),
    ("RTT", "round-trip time of pings; traffic: its share of the traffic of the proxy"),
    ("bbr, cubic", "congestion control of the connection, in the kernel"),
    ("retransmits", "TCP segments that were sent again: packets were lost"),
    ("queue", "bytes queued in the server; unsent: in the kernel"),
    ("chunk", "largest piece of one stream that is sent at a time"),
    ("delivery rate", "rate that TCP measured lately"),
    ("cwnd", "congestion window: how many bytes TCP lets be in flight"),
    (
        "in flight",
        "bytes that TCP has sent to the other side (↑ the proxy, ↓ the server) and that are not acknowledged yet",
    ),
];

/// Figures and terms on the screens that are not columns, and what they mean.
const FIGURES: [(&str, &str); 17] = [
    (
        "down ↓, up ↑",
        "download is towards the user, upload is from the user; /s is a rate, without it a total",
    ),
    (
        "K, M, G",
        "thousand, million, billion; rates in bytes per second (B/s), or bits per second (bit/s) after u",
    ),
    (
        "in flight",
        "bytes sent towards the target (↑, at the server) or the user (↓, at a proxy), not acknowledged yet",
    ),
    ("imbalance", "the largest load of a proxy divided by the mean: 1 is even"),
    (
        "Proxy load",
        "name, public port, channels (ch), open streams, and share of the streams or of the traffic (b)",
    ),
    (
        "reconnecting",
        "the proxy has lost all channels; its streams continue if it resumes in the time shown (resume 21s)",
    ),
    (
        "failed, refused",
        "streams that ended early, and users that a limit refused, since the start; the log says why",
    ),
    (
        "empty",
        "streams without a byte, such as health checks; in a loop: the target leads back to the public port",
    ),
    ("older dropped", "ended streams beyond the last 1,000 of the last 5 minutes"),
    ("events missed", "the cockpit was too slow for these; rows and figures are right all the same"),
    (
        "bottleneck",
        "what limits a stream now: target, user, rate limit, channel, window, budget (of memory) or operator (paused); \
         none if nothing does. limited by: for how long each did",
    ),
    ("window", "flow-control window of the stream: bytes that may be buffered or in flight"),
    ("window used", "buffered and in-flight bytes in percent of the window"),
    (
        "failovers",
        "how often the stream moved to another channel; resent: bytes retransmitted because of that",
    ),
    ("connect", "time until the target accepts the connection; TTFB: time to the target's first byte"),
    (
        "p50, p99",
        "half of the measurements took at most p50, 99% at most p99. The bars count them from 128 µs to 2 s",
    ),
    ("queue wait", "time that data waits in the send queue of the server"),
];

/// The contexts of key bindings and the titles of their sections, in the order of the help.
const CONTEXTS: [(InputContext, &str); 11] = [
    (InputContext::Streams, "Streams"),
    (InputContext::Detail, "Stream detail"),
    (InputContext::Proxies, "Proxies"),
    (InputContext::Sessions, "Users"),
    (InputContext::Logs, "Logs"),
    (InputContext::List, "In every table"),
    (InputContext::Screens, "On every screen"),
    (InputContext::Anywhere, "Anywhere"),
    (InputContext::Dialog, "In a dialog"),
    (InputContext::Prompt, "In a prompt"),
    (InputContext::Columns, "In the list of columns"),
];

/// One entry of the help.
struct Entry {
    /// The key, column or term that is explained.
    name: String,
    /// The explanation of the key, column or term.
    text: String,
    /// The command name of a key binding, which the search finds too; empty for other entries.
    command: String,
}

impl Entry {
    /// Creates an entry that has no command.
    fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.to_owned(), command: String::new() }
    }

    /// Returns whether the entry contains `search`, which is in lower case.
    fn contains(&self, search: &str) -> bool {
        format!("{} {} {}", self.name, self.text, self.command).to_lowercase().contains(search)
    }
}

/// Returns the size of the help window without its frame.
pub(crate) fn inner_size(terminal: Size) -> Size {
    Size::new(
        terminal.width.min(100).saturating_sub(2),
        terminal.height.saturating_sub(if terminal.height > 20 { 6 } else { 2 }),
    )
}

/// Returns the number of lines on a page of the help, and the largest scroll position.
pub(crate) fn extent(model: &Model) -> (usize, usize) {
    let page = usize::from(inner_size(model.size).height);
    let search = match &model.overlay {
        Some(Overlay::Help { search, .. }) => search.as_str(),
        _ => "",
    };
    let lines = lines(model, search, inner_size(model.size).width.into()).len();
    (page.max(1), lines.saturating_sub(page))
}

/// Returns the lines of all entries that contain `search`, wrapped to `width` cells. The key bindings of the current
/// screen come first, then the columns of its tables.
pub(crate) fn lines(model: &Model, search: &str, width: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    // On a narrow terminal a longer name has a line of its own.
    let name_width = if width < 60 { 9 } else { 16 };
    let text_width = width.saturating_sub(name_width + 4).max(1);
    let mut lines = Vec::new();
    let search_lower = search.to_lowercase();
    for (title, entries) in sections(model) {
        let found: Vec<_> = entries.into_iter().filter(|entry| entry.contains(&search_lower)).collect();
        if found.is_empty() {
            continue;
        }
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.push(Line::styled(title, theme.strong));
        for entry in found {
            let mut name = format!("  {}", entry.name);
            if name.width() > name_width + 1 {
                lines.push(Line::styled(std::mem::take(&mut name), theme.accent));
            }
            for part in wrap(&entry.text, text_width) {
                let name = fit(&std::mem::take(&mut name), name_width + 2);
                lines
                    .push(Line::from(vec![Span::styled(name, theme.accent), Span::styled(part, theme.text)]));
            }
        }
    }
    if lines.is_empty() {
        lines.push(Line::styled(format!("No entry contains «{search}»."), theme.dim));
    }
    lines
}

/// Returns all sections in the order of the help, each with its title.
fn sections(model: &Model) -> Vec<(&'static str, Vec<Entry>)> {
    let here = model.command_context();
    let mut contexts = CONTEXTS;
    contexts.sort_by_key(|(context, _)| *context != here);
    let mut sections: Vec<(&'static str, Vec<Entry>)> = Vec::new();
    for (context, title) in contexts {
        sections.push((title, bindings(model, context)));
        if context == here {
            sections.extend(tables(here, model.labels.is_of_proxy()));
        }
    }
    let entries = |list: &[(&str, &str)]| list.iter().map(|(name, text)| Entry::new(name, text)).collect();
    sections.push(("Terms", entries(&TERMS)));
    sections.push(("States", entries(&STATES)));
    sections.push(("Figures", entries(&FIGURES)));
    sections.push(("Figures of a channel", entries(&CHANNEL_FIGURES)));
    sections.push(("Policies", entries(&POLICIES)));
    sections
}

/// Returns the key bindings of a context; a command without a key is listed with its name.
fn bindings(model: &Model, context: InputContext) -> Vec<Entry> {
    let entry = model.keymap.of(context).map(|entry| {
        let binding = entry.binding;
        let command = binding.name;
        let name = match entry.shown.as_ref() {
            "" => format!(":{command}"),
            keys => keys.to_owned(),
        };
        Entry { name, text: binding.help.to_owned(), command: command.to_owned() }
    });
    entry.collect()
}

/// Returns the columns of the tables on the screen of a context, a section for each table.
fn tables(context: InputContext, is_of_proxy: bool) -> Vec<(&'static str, Vec<Entry>)> {
    /// Returns an entry for each column of a table: its heading and its explanation.
    fn columns<C: TableColumn>(is_of_proxy: bool) -> Vec<Entry> {
        let shown = C::ALL.iter().map(|column| column.spec()).filter(|spec| spec.exists(is_of_proxy));
        let texts = shown.map(|spec| spec.texts(is_of_proxy));
        texts.map(|(heading, help)| Entry::new(heading, help)).collect()
    }
    match context {
        InputContext::Streams => {
            vec![("Columns of the streams table", columns::<StreamColumn>(is_of_proxy))]
        }
        InputContext::Proxies => vec![
            (
                if is_of_proxy { "Columns of the server table" } else { "Columns of the proxy table" },
                columns::<ProxyColumn>(is_of_proxy),
            ),
            ("Columns of the service table", columns::<ServiceColumn>(is_of_proxy)),
        ],
        InputContext::Sessions => {
            vec![("Columns of the users table", columns::<UserColumn>(is_of_proxy))]
        }
        _ => Vec::new(),
    }
}
