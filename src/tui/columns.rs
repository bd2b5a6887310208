//! The columns of all tables. One entry defines a column: its heading, width, alignment, how long it stays on a narrow
//! terminal, its explanation in the help, and the names by which settings and sorting refer to it. What a cell
//! says about a row is the only thing that is defined elsewhere, in a `match` of the view over the same enum.
//!
//! This module depends on nothing else of the cockpit: layout, model and view use it.

/// The width in cells of a column of rate limits: `↓10.0M ↑500K`.
const LIMIT_WIDTH: usize = 13;

/// The side of its column at which the text of a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Figures.
    Right,
}

/// The definition of one column of a table. Widths are in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ColumnSpec {
    /// The heading above the column.
    pub(crate) heading: &'static str,
    /// The width below which the column is left out.
    pub(crate) min_width: usize,
    /// The column gets spare cells up to this width before any other column gets one.
    pub(crate) preferred_width: usize,
    /// The width beyond which the column does not grow.
    pub(crate) max_width: usize,
    /// Whether cells are aligned to the left (text) or to the right (figures).
    pub(crate) align: Align,
    /// The order in which columns are dropped on a narrow terminal: the highest rank first.
    pub(crate) drop_rank: u8,
    /// The explanation of the column in the help.
    pub(crate) help: &'static str,
    /// The name of the column in the setting `columns`; empty for a column that cannot be chosen.
    pub(crate) setting: &'static str,
    /// The name of the column in the command `sort`; `None` if the table cannot be sorted by it.
    pub(crate) sort_name: Option<&'static str>,
    /// What a cockpit of a proxy makes of the column.
    on_proxy: OnProxy,
}

/// What a cockpit of a proxy makes of a column. Where a server has proxies, a proxy has the servers of its links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnProxy {
    /// It shows the column as a cockpit of a server does.
    Same,
    /// It shows the column with another heading and explanation.
    Heading(&'static str, &'static str),
    /// It leaves the column out: a proxy does not know what it says, and a usual value there would be a guess.
    Unknown,
}

impl ColumnSpec {
    /// Creates a column with these widths in cells. It is dropped last, has no help text, and cannot be chosen
    /// or sorted by until the methods below say so.
    const fn new(heading: &'static str, min_width: usize, max_width: usize, align: Align) -> Self {
        Self {
            heading,
            min_width,
            preferred_width: min_width,
            max_width,
            align,
            drop_rank: 0,
            help: "",
            setting: "",
            sort_name: None,
            on_proxy: OnProxy::Same,
        }
    }

    /// Leaves the column out of a cockpit of a proxy, which does not know what it says.
    const fn server_only(mut self) -> Self {
        self.on_proxy = OnProxy::Unknown;
        self
    }

    /// Sets the heading and the explanation in a cockpit of a proxy.
    const fn on_proxy(mut self, heading: &'static str, help: &'static str) -> Self {
        self.on_proxy = OnProxy::Heading(heading, help);
        self
    }

    /// Returns whether a cockpit of a server, or of a proxy, shows the column.
    pub(crate) fn exists(&self, is_of_proxy: bool) -> bool {
        !is_of_proxy || self.on_proxy != OnProxy::Unknown
    }

    /// Returns the heading and the explanation in a cockpit of a server, or of a proxy.
    pub(crate) fn texts(&self, is_of_proxy: bool) -> (&'static str, &'static str) {
        match self.on_proxy {
            OnProxy::Heading(heading, help) if is_of_proxy => (heading, help),
            _ => (self.heading, self.help),
        }
    }

    /// Sets the width in cells up to which the column gets spare cells before any other column.
    const fn preferred_width(mut self, width: usize) -> Self {
        self.preferred_width = width;
        self
    }

    /// Sets the order in which the column is dropped on a narrow terminal: the highest rank first.
    const fn drop_rank(mut self, rank: u8) -> Self {
        self.drop_rank = rank;
        self
    }

    /// Sets the explanation of the column in the help.
    const fn help(mut self, text: &'static str) -> Self {
        self.help = text;
        self
    }

    /// Sets the name of the column in the setting `columns`, by which the operator chooses it.
    const fn setting(mut self, name: &'static str) -> Self {
        self.setting = name;
        self
    }

    /// Makes the table sortable by the column, under this name in the command `sort`.
    const fn sort_name(mut self, name: &'static str) -> Self {
        self.sort_name = Some(name);
        self
    }
}

/// Creates a left-aligned column for text, at least `min_width` and at most `max_width` cells wide.
const fn text(heading: &'static str, min_width: usize, max_width: usize) -> ColumnSpec {
    ColumnSpec::new(heading, min_width, max_width, Align::Left)
}

/// Creates a right-aligned column for figures, at least `min_width` and at most `max_width` cells wide.
const fn figure(heading: &'static str, min_width: usize, max_width: usize) -> ColumnSpec {
    ColumnSpec::new(heading, min_width, max_width, Align::Right)
}

/// The columns of one table.
pub(crate) trait TableColumn: Copy + Eq + 'static {
    /// All columns, in the order of the screen.
    const ALL: &'static [Self];

    /// Returns the definition of this column.
    fn spec(self) -> &'static ColumnSpec;
}

/// Declares a table: an enum with a variant for each column, and each variant's [`ColumnSpec`].
macro_rules! table_columns {
    ($(#[$doc:meta])* $table:ident { $($column:ident = $spec:expr;)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $table {
            $($column),+
        }

        impl TableColumn for $table {
            const ALL: &'static [Self] = &[$(Self::$column),+];

            /// Returns the definition that the declaration of the table gives this column.
            fn spec(self) -> &'static ColumnSpec {
                match self {
                    $(Self::$column => const { &$spec }),+
                }
            }
        }
    };
}

table_columns! {
    /// A column of the streams table.
    StreamColumn {
        Stream = text("STREAM", 10, 10).drop_rank(0).setting("stream").sort_name("key")
            .help("stream key: user id and the number of the stream of this user");
        State = text("STATE", 7, 7).drop_rank(2).setting("state").sort_name("state").help("see States below");
        Service = text("SERVICE", 8, 14).drop_rank(13).setting("service").sort_name("service")
            .help("public port, and the group of proxies behind it if that is not the default group");
        Proxy = text("PROXY", 10, 20).drop_rank(5).setting("proxy").sort_name("proxy")
            .help("proxy that connected to the target")
            .on_proxy("SERVER", "server that opened the stream");
        Channel = text("CHANNEL", 7, 7).drop_rank(11).setting("channel").sort_name("channel")
            .help("primary channel of the stream: proxy and number of the connection");
        Address = text("USER ADDRESS", 21, 47).drop_rank(9).setting("address").sort_name("user")
            .help("IP address and port of the user's connection");
        Content = text("CONTENT", 16, 60).preferred_width(26).drop_rank(4).setting("content").sort_name("content")
            .help("protocol and name detected in the first bytes; nothing is altered").server_only();
        Priority = text("PRIO", 6, 6).drop_rank(8).setting("priority").sort_name("priority")
            .help("priority: urgent, high, normal, low or background (backg…); each step up doubles the share of a congested channel")
            .server_only();
        Limit = text("LIMIT", LIMIT_WIDTH, LIMIT_WIDTH).drop_rank(15).setting("limit")
            .help("rate limits of the stream in bytes per second").server_only();
        UpRate = figure("UP/s", 6, 7).drop_rank(7).setting("up").sort_name("up")
            .help("upload, from the user, over the last second; in the warning colour if it is limited");
        DownRate = figure("DOWN/s", 7, 8).drop_rank(1).setting("down").sort_name("down")
            .help("download, to the user, over the last second; in the warning colour if it is limited");
        Up = figure("UP", 6, 7).drop_rank(14).setting("up-bytes").sort_name("up-bytes")
            .help("bytes uploaded since the stream opened");
        Down = figure("DOWN", 6, 7).drop_rank(10).setting("down-bytes").sort_name("down-bytes")
            .help("bytes downloaded since the stream opened");
        Progress = text("PROGRESS", 14, 36).drop_rank(6).setting("progress").sort_name("progress")
            .help("share of the download where its size is known, else bytes so far; why an ended stream ended, and at how much");
        Age = figure("AGE", 6, 7).drop_rank(3).setting("age").sort_name("age")
            .help("time since the stream opened");
        Trend = text("TREND", 8, 8).drop_rank(12).setting("trend")
            .help("rate in each of the last 8 seconds, both directions together");
    }
}

impl StreamColumn {
    /// Returns the name of the column in the setting `columns`.
    pub(crate) fn name(self) -> &'static str {
        self.spec().setting
    }

    /// Returns the column of this name in the setting `columns`. As everywhere, `up` and `down` are rates; `up-rate`
    /// and
    /// `down-rate` are accepted too.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let name = name.strip_suffix("-rate").unwrap_or(name);
        Self::ALL.iter().copied().find(|column| column.name() == name)
    }
}

table_columns! {
    /// A column of the proxy table. Channels are shown below their proxy as lines of their own.
    ProxyColumn {
        Name = text("PROXY", 12, 26).drop_rank(0).help("name that the proxy gave itself")
            .on_proxy("SERVER", "configured address of the server");
        State = text("STATE", 7, 7).drop_rank(3).help("up, or drain: it gets no new streams")
            .on_proxy("STATE", "up, or drain: the server opens no new streams");
        Ports = text("PORTS", 6, 14).drop_rank(7).help("public ports that the proxy serves, or their number")
            .on_proxy("PORTS", "public ports that the server serves through this proxy, or their number");
        Address = text("ADDRESS", 21, 23).drop_rank(16).help("address from which the proxy connected")
            .on_proxy("ADDRESS", "address to which the first channel is connected");
        Channels = figure("CHANNELS", 8, 8).drop_rank(8).help("connections between the proxy and the server");
        Weight = figure("WEIGHT", 6, 6).drop_rank(10)
            .help("share of new streams beside the other proxies of a service").server_only();
        Streams = figure("STREAMS", 7, 7).drop_rank(1).help("open streams");
        StreamShare = text("STREAMS %", 13, 24).drop_rank(5)
            .help("share of all open streams; the mark is where the policy would put it")
            .on_proxy("STREAMS %", "share of all open streams");
        UpRate = figure("UP/s", 6, 6).drop_rank(9).help("upload over the last second");
        DownRate = figure("DOWN/s", 7, 7).drop_rank(2).help("download over the last second");
        TrafficShare = text("TRAFFIC %", 13, 24).drop_rank(11)
            .help("share of the traffic of all proxies, both directions together")
            .on_proxy("TRAFFIC %", "share of the traffic with all servers, both directions together");
        Limit = text("LIMIT", LIMIT_WIDTH, LIMIT_WIDTH).drop_rank(6).help("rate limits of the proxy").server_only();
        Connect = figure("CONNECT p50/p99", 15, 15).drop_rank(13)
            .help("time until the target accepts: half of the connects took at most p50, 99% at most p99");
        Trend = text("TREND", 8, 24).drop_rank(12).help("rate in each of the last seconds");
        Bytes = figure("BYTES", 7, 7).drop_rank(15).help("bytes since the proxy connected, both directions")
            .on_proxy("BYTES", "bytes since the link was established, both directions");
        Age = figure("AGE", 6, 6).drop_rank(14).help("time since the proxy connected").on_proxy("AGE", "time since the link was established");
    }
}

table_columns! {
    /// A column of the service table. Its first heading doubles as the title of the table.
    ServiceColumn {
        Name = text("Services", 14, 26).drop_rank(0)
            .help("public port, and group if it is not the default one");
        Policy = text("POLICY", 13, 13).drop_rank(1).help("how new streams are distributed over the proxies").server_only();
        Proxies = figure("PROXIES", 7, 7).drop_rank(4).help("connected proxies that serve it")
            .on_proxy("SERVERS", "connected servers that serve it through this proxy");
        Streams = figure("STREAMS", 7, 7).drop_rank(3).help("open streams");
        UpRate = figure("UP/s", 6, 6).drop_rank(6).help("upload over the last second");
        DownRate = figure("DOWN/s", 7, 7).drop_rank(2).help("download over the last second");
        Limit = text("LIMIT", LIMIT_WIDTH, LIMIT_WIDTH).drop_rank(5).help("rate limits of the service").server_only();
        Connect = figure("CONNECT p50/p99", 15, 15).drop_rank(7)
            .help("time until the target accepts: half of the connects took at most p50, 99% at most p99");
        FirstByte = figure("TTFB p50/p99", 12, 12).drop_rank(8)
            .help("time to first byte: from the user's first byte to the target's").server_only();
        Bytes = figure("BYTES", 7, 7).drop_rank(9).help("bytes since the port opened, both directions")
            .on_proxy("BYTES", "bytes since the service is served, both directions");
    }
}

table_columns! {
    /// A column of the users table. An unfolded user's streams are rows of the same columns.
    UserColumn {
        Name = text("USER", 10, 10).drop_rank(0)
            .help("user id: one client address on one service, which has the same id whenever it returns");
        Address = text("ADDRESS", 15, 39).drop_rank(5)
            .help("IP address of the user; the content of a stream")
            .on_proxy("ADDRESS", "IP address of the user");
        Service = text("SERVICE", 8, 14).drop_rank(6)
            .help("service that the user uses; the proxy of a stream")
            .on_proxy("SERVICE", "service that the user uses; the server of a stream");
        Streams = figure("STREAMS", 7, 7).drop_rank(1).help("open streams; the state of a stream");
        UpRate = figure("UP/s", 6, 6).drop_rank(3).help("upload over the last second");
        DownRate = figure("DOWN/s", 7, 7).drop_rank(2).help("download over the last second");
        Limit = text("LIMIT", LIMIT_WIDTH, LIMIT_WIDTH).drop_rank(4)
            .help("rate limits of the user or the stream").server_only();
        TrafficShare = text("TRAFFIC %", 13, 20).drop_rank(10)
            .help("share of all traffic, both directions together");
        Up = figure("UP", 6, 6).drop_rank(9)
            .help("bytes uploaded since the user connected; it has left 5 s after its last stream");
        Down = figure("DOWN", 6, 6).drop_rank(8).help("bytes downloaded since the user connected");
        TotalStreams = figure("TOTAL STREAMS", 13, 13).drop_rank(11).help("streams since the user connected");
        Age = figure("AGE", 6, 6).drop_rank(7).help("time since the user connected");
    }
}

#[cfg(test)]
mod tests;
