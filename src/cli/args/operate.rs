//! The arguments of the commands for a running server or proxy, and of the control socket through which they reach it.

use std::{fmt, path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueHint};

use super::values::{refresh, time_before};
use crate::{
    control::{LimitChange, ProxyRef, StreamFilter, Target, parse_limits, parse_policy, parse_weight},
    ids::{AddressBlock, Network, Policy, Priority, ServiceKey, StreamKey, UserChannelId, is_plain_name},
    operator::{CHANNEL_SORT_KEYS, PROXY_SORT_KEYS, SERVICE_SORT_KEYS, StreamSort, USER_SORT_KEYS},
};

/// The control socket of a server or a proxy.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ControlSocketArgs {
    /// Control socket for `underpass ps` and the other commands: a name among the processes of this user, a path, or
    /// off. A name is that of a file in $RUNTIME_DIRECTORY, for root in /run/underpass, else in
    /// $XDG_RUNTIME_DIR/underpass [default: server or proxy, with a number if that is taken]
    #[arg(long, value_name = "NAME|PATH|off", env = CONTROL_VARIABLE, value_parser = socket_choice, value_hint = ValueHint::FilePath)]
    pub(in crate::cli) control: Option<SocketArg>,
    /// Group whose members may use the control socket for everything [default: only this user and root]
    #[arg(long, value_name = "GROUP")]
    pub(in crate::cli) control_group: Option<String>,
    /// Group whose members may use the control socket, but change nothing
    #[arg(long, value_name = "GROUP")]
    pub(in crate::cli) control_readers: Option<String>,
}

impl ControlSocketArgs {
    /// Returns whether there is to be no control socket.
    pub(in crate::cli) fn is_off(&self) -> bool {
        matches!(self.control, Some(SocketArg::Off))
    }
}

/// The environment variable of `--control`, for a process with a control socket and for the commands that use it.
pub(in crate::cli) const CONTROL_VARIABLE: &str = "UNDERPASS_CONTROL";

/// Where a control socket is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum SocketArg {
    /// Nowhere.
    Off,
    /// In the usual directory, with this name.
    Name(String),
    /// At this path.
    Path(PathBuf),
}

impl fmt::Display for SocketArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Name(name) => f.write_str(name),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// Which process a command is for.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct InstanceArgs {
    /// The server or proxy: its name, or the path of its control socket [default: the only one that runs]
    #[arg(long, value_name = "NAME|PATH", env = CONTROL_VARIABLE, value_parser = instance)]
    pub(in crate::cli) control: Option<SocketArg>,
}

/// Parses where a control socket is to be: what contains a slash is a path.
fn socket_choice(text: &str) -> Result<SocketArg, String> {
    if text.contains('/') {
        return Ok(SocketArg::Path(PathBuf::from(text)));
    }
    let is_name = is_plain_name(text) && !text.starts_with('.');
    match text {
        "off" => Ok(SocketArg::Off),
        name if is_name => Ok(SocketArg::Name(name.to_owned())),
        _ => {
            Err("expected a name (1 to 64 letters, digits, '.', '_' or '-'), a path (./NAME), or off"
                .to_owned())
        }
    }
}

/// Parses which process a command is for.
pub(in crate::cli) fn instance(text: &str) -> Result<SocketArg, String> {
    match socket_choice(text)? {
        SocketArg::Off => {
            Err("off is for server and proxy: give the name or the path of a control socket".to_owned())
        }
        choice => Ok(choice),
    }
}

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum ListKind {
    /// The open streams
    Streams,
    /// The connected proxies
    Proxies,
    /// The channels of the proxies, or of a proxy
    Channels,
    /// The public ports; of a proxy, its services
    Services,
    /// The users: client addresses on services
    Users,
    /// Sums and counts
    Totals,
    /// The banned networks
    Bans,
    /// How the process is
    State,
}

/// Which rows are listed, and how.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct RowListArgs {
    /// List only rows that pass this filter, in the language of the cockpit: words, proxy:edge, user=10.0.0.7, down>1M,
    /// age<30s, !state:wait, /regex/
    #[arg(long, short, value_name = "FILTER", value_parser = filter)]
    pub(in crate::cli) filter: Option<String>,
    /// Sort by up, down, up-bytes, down-bytes, bytes or age; streams also by key, state, service, proxy, channel, user,
    /// content, priority or progress; users, proxies and services by traffic and streams, and by their names (user,
    /// address, service, proxy, name, state) [default: down for streams, age for users, the name for others]
    #[arg(long, short, value_name = "KEY", value_parser = sort)]
    pub(in crate::cli) sort: Option<String>,
    /// Reverse the order
    #[arg(long, short)]
    pub(in crate::cli) reverse: bool,
    /// Columns to show, separated by commas; those of streams are stream, state, service, proxy, channel, address,
    /// content, priority, limit, up, down, up-bytes, down-bytes, progress, age; a wrong name lists those of another
    /// table
    #[arg(long, short, value_name = "NAMES")]
    pub(in crate::cli) columns: Option<String>,
    /// List at most N rows
    #[arg(long, short = 'n', value_name = "N")]
    pub(in crate::cli) max: Option<usize>,
}

impl RowListArgs {
    /// Returns whether any of them is given.
    pub(in crate::cli) fn is_any_given(&self) -> bool {
        let Self { filter, sort, reverse, columns, max } = self;
        filter.is_some() || sort.is_some() || *reverse || columns.is_some() || max.is_some()
    }
}

/// The commands for a running server or proxy.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum OperateCommand {
    /// List the streams of the running server, or what else it has
    Ps {
        /// What to list
        #[arg(value_enum, default_value_t = ListKind::Streams)]
        what: ListKind,
        /// Which rows
        #[command(flatten)]
        list: RowListArgs,
        /// Print one JSON object for each row, with all of its values
        #[arg(long)]
        json: bool,
        /// Print again every so many seconds
        #[arg(long, short, value_name = "SECS", num_args = 0..=1, default_missing_value = "1", value_parser = refresh)]
        watch: Option<Duration>,
        /// Which server
        #[command(flatten)]
        instance: InstanceArgs,
    },
    /// Show the busiest streams in a table that is refreshed, also in a terminal that cannot show the cockpit
    Top {
        /// Which streams
        #[command(flatten)]
        list: RowListArgs,
        /// Time between two refreshes, over which rates are measured
        #[arg(long, short, value_name = "SECS", default_value = "1", value_parser = refresh)]
        interval: Duration,
        /// End after so many refreshes
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// Which server
        #[command(flatten)]
        instance: InstanceArgs,
    },
    /// Reset streams, or all streams of users: both ends see an error
    Kill {
        /// Keys of streams (3F9A1C:1) and ids of users (3F9A1C)
        #[arg(value_name = "KEY", required_unless_present = "filter", value_parser = stream_or_user)]
        keys: Vec<Target>,
        /// Kill the streams that pass this filter, in the language of the cockpit; `underpass ps --filter` lists them
        #[arg(long, short, value_name = "FILTER", value_parser = filter, conflicts_with = "keys")]
        filter: Option<String>,
        /// Which server
        #[command(flatten)]
        instance: InstanceArgs,
    },
    /// Pause streams without closing anything
    Pause(StreamsArgs),
    /// Resume paused streams where they stopped
    Resume(StreamsArgs),
    /// Set the priority of streams: each step up doubles the share of a congested channel
    Priority {
        /// background, low, normal, high or urgent
        #[arg(value_name = "PRIORITY")]
        priority: Priority,
        /// The streams
        #[command(flatten)]
        streams: StreamsArgs,
    },
    /// Limit the rate of a stream, user, proxy or service
    #[command(
        after_help = "Examples: underpass limit 3F9A1C:1 down 1M · underpass limit edge-1 10M · underpass limit 8080 up off"
    )]
    Limit {
        /// Stream (3F9A1C:1), user (3F9A1C), service (8080) or proxy (P3 or its name)
        #[arg(value_name = "TARGET")]
        target: Target,
        /// down RATE, up RATE, RATE for both, or off in place of a rate; a rate is in bytes per second, such as 1M or
        /// 500K
        #[arg(value_name = "LIMIT", required = true, num_args = 1..)]
        limits: Vec<String>,
        /// Which server
        #[command(flatten)]
        instance: InstanceArgs,
    },
    /// Drain proxies: they receive no new streams, and their open streams continue
    Drain(ProxiesArgs),
    /// End the drain of proxies
    Undrain(ProxiesArgs),
    /// Disconnect proxies and reset their streams; they may connect again
    Kick(ProxiesArgs),
    /// Set the load-balancing policy of a service
    Policy {
        /// Public port, and group if it is not the default one: 8080, 8080:GROUP
        #[arg(value_name = "SERVICE")]
        service: ServiceKey,
        /// round-robin, weighted, least-streams or peak-ewma, or the beginning of one
        #[arg(value_name = "POLICY", value_parser = parse_policy)]
        policy: Policy,
        /// Which server
        #[command(flatten)]
        instance: InstanceArgs,
    },
    /// Set the share of new streams that a proxy gets beside the others of its services
    Weight {
        /// Id (P3) or name of the proxy
        #[arg(value_name = "PROXY")]
        proxy: ProxyRef,
        /// The weight, 1 to 1000
        #[arg(value_name = "WEIGHT", value_parser = parse_weight)]
        weight: u32,
        /// Which server
        #[command(flatten)]
        instance: InstanceArgs,
    },
    /// Refuse the users of a network until the server ends, and reset their streams
    Ban {
        /// Networks (192.0.2.0/24, 2001:db8::/48) and addresses
        #[arg(value_name = "CIDR", required = true)]
        networks: Vec<Network>,
        /// Which server
        #[command(flatten)]
        instance: InstanceArgs,
    },
    /// Admit the users of a banned network again
    Unban {
        /// The networks, as they were banned
        #[arg(value_name = "CIDR", required = true)]
        networks: Vec<Network>,
        /// Which server
        #[command(flatten)]
        instance: InstanceArgs,
    },
    /// Let proxies connect again from an address that was blocked because of wrong tokens
    Unblock {
        /// The addresses
        #[arg(value_name = "ADDRESS", required = true)]
        addresses: Vec<AddressBlock>,
        /// Which server
        #[command(flatten)]
        instance: InstanceArgs,
    },
    /// Print what happens from now on: streams, users, proxies, commands of operators; or what was refused or failed
    /// before
    #[command(
        after_help = "Examples: underpass events --recent --text · underpass events --since 10m --follow"
    )]
    Events {
        /// Go on until Ctrl-C; without it, end after --count events, or one, or those of --recent
        #[arg(long, short)]
        follow: bool,
        /// Print the newest refusals and failures first: users, proxies and handshakes that were refused, streams that
        /// failed; 128 of each are kept
        #[arg(long)]
        recent: bool,
        /// Print those of the last TIME first, such as 90s, 10m, 2h or 1d
        #[arg(long, value_name = "TIME", value_parser = time_before)]
        since: Option<Duration>,
        /// End after so many events from now on
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// Print JSON lines, as without --text
        #[arg(long, conflicts_with = "text")]
        json: bool,
        /// Print sentences instead of JSON lines
        #[arg(long)]
        text: bool,
        /// Which server
        #[command(flatten)]
        instance: InstanceArgs,
    },
    /// Let the server or proxy read its files again; open streams stay
    Reload {
        /// Which server or proxy
        #[command(flatten)]
        instance: InstanceArgs,
    },
    /// End the server or proxy: it accepts nothing new, and open streams have its drain timeout to end
    Shutdown {
        /// Reset the open streams at once
        #[arg(long)]
        now: bool,
        /// Which server or proxy
        #[command(flatten)]
        instance: InstanceArgs,
    },
}

/// Some streams.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct StreamsArgs {
    /// Keys of the streams, such as 3F9A1C:1
    #[arg(value_name = "KEY", required_unless_present = "filter")]
    pub(in crate::cli) streams: Vec<StreamKey>,
    /// The streams that pass this filter, in the language of the cockpit
    #[arg(long, short, value_name = "FILTER", value_parser = filter, conflicts_with = "streams")]
    pub(in crate::cli) filter: Option<String>,
    /// Which server
    #[command(flatten)]
    pub(in crate::cli) instance: InstanceArgs,
}

/// Some proxies.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ProxiesArgs {
    /// Ids (P3) and names of proxies
    #[arg(value_name = "PROXY", required = true)]
    pub(in crate::cli) proxies: Vec<ProxyRef>,
    /// Which server
    #[command(flatten)]
    pub(in crate::cli) instance: InstanceArgs,
}

impl OperateCommand {
    /// Returns which process the command is for.
    pub(in crate::cli) fn instance(&self) -> &InstanceArgs {
        match self {
            Self::Ps { instance, .. }
            | Self::Top { instance, .. }
            | Self::Kill { instance, .. }
            | Self::Limit { instance, .. }
            | Self::Policy { instance, .. }
            | Self::Weight { instance, .. }
            | Self::Ban { instance, .. }
            | Self::Unban { instance, .. }
            | Self::Unblock { instance, .. }
            | Self::Events { instance, .. }
            | Self::Reload { instance }
            | Self::Shutdown { instance, .. } => instance,
            Self::Pause(args) | Self::Resume(args) | Self::Priority { streams: args, .. } => &args.instance,
            Self::Drain(args) | Self::Undrain(args) | Self::Kick(args) => &args.instance,
        }
    }
}

/// Parses what `kill` takes.
fn stream_or_user(text: &str) -> Result<Target, String> {
    let stream = || text.parse::<StreamKey>().map(Target::Stream);
    let user = || text.parse::<UserChannelId>().map(Target::User);
    stream().or_else(|_| user()).map_err(|_| {
        "expected the key of a stream, like 3F9A1C:1, or the id of a user, like 3F9A1C; `underpass ps` lists them".to_owned()
    })
}

/// Checks a filter.
fn filter(text: &str) -> Result<String, String> {
    StreamFilter::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Checks a sort key: it has to be one of some list. Which list it is for is known later.
fn sort(text: &str) -> Result<String, String> {
    let others = [&USER_SORT_KEYS[..], &PROXY_SORT_KEYS, &SERVICE_SORT_KEYS, &CHANNEL_SORT_KEYS].concat();
    if others.contains(&text) {
        Ok(text.to_owned())
    } else {
        StreamSort::named(text).map(|_| text.to_owned())
    }
}

/// Parses rate limits that the shell has split into words.
///
/// # Errors
/// A message for the operator.
pub(in crate::cli) fn limits(words: &[String]) -> Result<Vec<LimitChange>, String> {
    parse_limits(&words.join(" "))
}
