//! The command line: its arguments, their help texts and defaults, and their resolution into the final configuration.
//!
//! Everything is validated here; the modules below get configurations that need no further checks.

pub(super) mod attach;
mod config_file;
mod host_port;
mod layers;
mod limits;
mod networks;
pub(super) mod operate;
mod parse;
mod recording;
mod resolved;
mod services;
mod shared;
mod tls;
mod values;

#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    config::{
        ChannelCount, PortRange, ProxyConfig, ProxyEntries, ProxyFormat, ServerConfig, ServerEndpoint,
        ServiceConfig, TextProxies,
    },
    ids::{Group, MAX_WEIGHT, Policy, ServiceKey},
    operator::Role,
};

use super::version;
use attach::{AttachArgs, RelayArgs};
use config_file::ConfigFileArgs;
pub(super) use config_file::Surroundings;
use limits::LimitArgs;
use networks::{BalancerArgs, NetworkArgs};
use operate::{ControlSocketArgs, OperateCommand};
pub(super) use parse::Invocation;
use recording::RecordArgs;
pub(super) use recording::ReplayArgs;
pub(super) use resolved::{ResolvedOption, ResolvedOptions};
pub(super) use services::ServerArg;
use services::{ServiceArgs, server};
use shared::{CongestionArgs, MemoryArgs};
pub(super) use shared::{LogArgs, MetricsArgs, ScreenArgs, TokenArgs, WorkerArgs};
use tls::{ProxyTlsArgs, ServerTlsArgs};

use host_port::{bind_address, host_port, listen_address};
use values::{OnOff, channels, chunk, display_name, number, seconds, window};

/// The meaning of each exit status, shown below the help.
const EXIT_STATUS: &str = "Exit status: 0 success, also after SIGTERM, SIGINT or SIGHUP; 1 failure; 2 invalid command line or \
    configuration file; 3 refused by the server for good (token, certificate, version, port not allowed; a port in use is retried); 4 the demo detected \
    corrupted data; 5 a command names a stream, user, proxy or service that does not exist (any more); 6 no server or proxy can be \
    reached. The first signal drains, the second one aborts the open streams; with a third one, or if the process \
    has not ended two seconds after the second one or after the drain timeout (at least 8 s), it dies of that signal (128 plus its \
    number in a shell).";

/// A self-hosted reverse tunnel with the cockpit built in.
#[derive(Debug, Parser)]
#[command(version, long_version = version::long(), about, after_help = EXIT_STATUS, disable_help_subcommand = true)]
pub(super) struct CliArgs {
    /// The subcommand with its arguments
    #[command(subcommand)]
    pub(super) command: CliCommand,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(super) enum CliCommand {
    /// Run on the public machine: accept proxies, open public ports for them, and show every stream
    #[command(after_help = EXIT_STATUS, allow_negative_numbers = true)]
    Server(Box<ServerArgs>),
    /// Run behind NAT: serve a public port of the server from a target reachable from here
    #[command(after_help = EXIT_STATUS, allow_negative_numbers = true)]
    Proxy(Box<ProxyArgs>),
    /// Print a new random token, or the hash of one for the server's file of --tokens
    #[command(after_help = EXIT_STATUS)]
    Token(NewTokenArgs),
    /// Check configuration files, or show the options that result from file, environment and command line
    Config(ConfigArgs),
    /// Print the completion script of a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(CompletionsArgs),
    /// Print what a shell may complete the last word with, one candidate a line
    #[command(hide = true)]
    Complete(CompleteArgs),
    /// Write the man pages into a directory
    #[command(hide = true)]
    Man(ManArgs),
    /// Run a demonstration: a server, three proxies, an origin and users in one process
    #[command(after_help = EXIT_STATUS, allow_negative_numbers = true)]
    Demo(DemoArgs),
    /// The commands for a running server or proxy.
    #[command(flatten)]
    Operate(OperateCommand),
    /// Show the cockpit of a running server; `q` detaches, and the server continues
    #[command(after_help = EXIT_STATUS)]
    Attach(AttachArgs),
    /// Carry the control protocol over the standard streams, for `underpass attach ssh HOST`
    #[command(hide = true)]
    ControlRelay(RelayArgs),
    /// Continue a stopped process group in the background, for `:detach` in the cockpit
    #[command(hide = true)]
    ContinueJob(ContinueJobArgs),
    /// Show a recording of a server (--record) in the cockpit
    #[command(after_help = EXIT_STATUS)]
    Replay(ReplayArgs),
}

/// Where the scripts belong, shown below the help.
const COMPLETIONS_HELP: &str = "For example: underpass completions bash > ~/.local/share/bash-completion/completions/underpass; \
    or for zsh, in a directory of $fpath: underpass completions zsh > _underpass. In bash, zsh and fish the scripts ask the running server \
    for keys and names.";

/// The arguments of `underpass completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(super) shell: Shell,
}

/// The arguments of `underpass complete`.
#[derive(Debug, Args)]
pub(super) struct CompleteArgs {
    /// The words after the name of the program up to the cursor; the last one is what is being typed
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) words: Vec<OsString>,
}

/// The arguments of `underpass continue-job`.
#[derive(Debug, Args)]
pub(super) struct ContinueJobArgs {
    /// The number of the process group
    pub(super) group: i32,
}

/// The arguments of `underpass man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The directory, which is created if it does not exist
    pub(super) dir: PathBuf,
}

/// The arguments of `underpass server`.
#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    /// The configuration file
    #[command(flatten)]
    file: ConfigFileArgs,
    /// The entries of named proxies in the configuration file
    #[arg(skip)]
    pub(super) entries: ProxyEntries,
    /// Tunnel port: the address and port to listen on for proxies
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:7000", value_parser = listen_address)]
    listen: SocketAddr,
    /// Address to open public ports on
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0", value_parser = bind_address)]
    bind: IpAddr,
    /// Range of public ports that proxies may request
    #[arg(long, value_name = "FIRST-LAST", default_value_t)]
    ports: PortRange,
    /// The token, and where it is read from
    #[command(flatten)]
    pub(super) token: TokenArgs,
    /// File of named proxies, each with its token, ports, limits and expiry (TOML, mode 0600); it is read again when it
    /// changes. Without --token, no other proxy may connect
    #[arg(long, value_name = "FILE")]
    pub(super) tokens: Option<PathBuf>,
    /// Certificate and key of the server
    #[command(flatten)]
    pub(super) tls: ServerTlsArgs,
    /// Directory of what outlasts a restart: the key from which user ids are derived, and the token and the TLS
    /// certificate that the server generates if none are given [default: $STATE_DIRECTORY, for root /var/lib/underpass,
    /// else ~/.local/state/underpass]
    #[arg(long, value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
    /// Load-balancing policy: how new streams are assigned to the proxies of a service
    #[arg(long, value_enum, default_value_t = Policy::default())]
    policy: Policy,
    /// From where proxies may register in the text format, which sends the token in clear text
    #[arg(long, value_enum, default_value_t = TextProxies::Loopback)]
    text: TextProxies,
    /// Let text-format proxies on this machine register without the token
    #[arg(long)]
    text_without_token: bool,
    /// Time a user connection waits for a proxy while none is available, in seconds
    #[arg(long, value_name = "SECS", default_value = "5", value_parser = seconds)]
    wait: Duration,
    /// Grace period: time streams are kept for a proxy that has lost all its channels, in seconds; 0 resets them at
    /// once
    #[arg(long, value_name = "SECS", default_value = "30", value_parser = seconds)]
    grace: Duration,
    /// Drain timeout: time open streams may continue after SIGTERM or Ctrl-C, in seconds; a second signal ends them
    #[arg(long, value_name = "SECS", default_value = "8", value_parser = seconds)]
    drain: Duration,
    /// Share the ports with another server (SO_REUSEPORT), for a zero-downtime restart: start the new server, then end
    /// the old one with SIGTERM
    #[arg(long)]
    reuse_port: bool,
    /// Address that proxies reconnect to when this server ends, and whose certificate they verify as they verified this
    /// one's [default: the address they are connected to]
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    successor: Option<String>,
    /// First flow-control window of each stream, such as 512K or 256KiB; it grows to the bandwidth-delay product of the
    /// path, and is smaller while memory is tight
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = window)]
    window: u32,
    /// The memory budget
    #[command(flatten)]
    memory: MemoryArgs,
    /// Maximum size of one chunk of a stream, such as 8192, 8K (8,000) or 8KiB (8,192) [default: adapts to the rate of
    /// each channel]
    #[arg(long, value_name = "SIZE", value_parser = chunk)]
    chunk: Option<usize>,
    /// Multipath striping: whether one stream may use several channels of its proxy at once
    #[arg(long, value_enum, default_value_t = OnOff::On)]
    stripe: OnOff,
    /// The congestion control of channels
    #[command(flatten)]
    congestion: CongestionArgs,
    /// The users that are admitted
    #[command(flatten)]
    networks: NetworkArgs,
    /// The load balancers in front of the server
    #[command(flatten)]
    balancers: BalancerArgs,
    /// The limits of user connections
    #[command(flatten)]
    limits: LimitArgs,
    /// The recording
    #[command(flatten)]
    pub(super) record: RecordArgs,
    /// Arguments of the cockpit
    #[command(flatten)]
    pub(super) screen: ScreenArgs,
    /// The control socket
    #[command(flatten)]
    pub(super) control: ControlSocketArgs,
    /// The metrics
    #[command(flatten)]
    pub(super) metrics: MetricsArgs,
    /// The number of worker threads
    #[command(flatten)]
    pub(super) workers: WorkerArgs,
    /// The log
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// The arguments of `underpass proxy`.
#[derive(Debug, Args)]
pub(super) struct ProxyArgs {
    /// The configuration file
    #[command(flatten)]
    file: ConfigFileArgs,
    /// Address of the server's tunnel port. Repeat it to serve the users of several servers, each with its own links.
    /// With `#` and a fingerprint, as in example.org:7000#sha256:…, connections to any other key are refused (several
    /// are separated by commas)
    #[arg(long, value_name = "HOST:PORT[#FINGERPRINT]", value_parser = server, required = true)]
    pub(super) server: Vec<ServerArg>,
    /// The services
    #[command(flatten)]
    services: ServiceArgs,
    /// Name of this proxy on the servers' screens [default: the host name of this machine]
    #[arg(long, value_name = "NAME", value_parser = display_name)]
    name: Option<String>,
    /// Channels (TCP connections) to keep to the server: a number, or `auto` for 2, 4 where the RTT is 150 ms or more,
    /// and up to 8 where packet loss slows a single connection down; behind a carrier-grade NAT, where each is a port
    /// mapping, set 1 or 2
    #[arg(long, value_name = "auto|N", default_value = "auto", value_parser = channels)]
    channels: ChannelCount,
    /// Load-balancing weight of this proxy, for policies that use weights [default: 1]
    #[arg(long, value_name = "N", value_parser = number(1..=MAX_WEIGHT))]
    weight: Option<u32>,
    /// Frame format on the channels; text is for comparison, and sends the token in clear text
    #[arg(long, value_enum, default_value_t = ProxyFormat::Binary)]
    format: ProxyFormat,
    /// Maximum number of open streams; further ones are offered to other proxies of the service. Of several servers,
    /// each has an equal part of half of them for its users in any case. Lower where the limit of file descriptors
    /// requires it
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = number(1..=1_000_000))]
    max_streams: u32,
    /// Drain timeout: time open streams may continue after SIGTERM or Ctrl-C, in seconds; a second signal ends them
    #[arg(long, value_name = "SECS", default_value = "8", value_parser = seconds)]
    drain: Duration,
    /// Maximum size of one chunk of a stream, such as 8192, 8K (8,000) or 8KiB (8,192) [default: adapts to the rate of
    /// each channel]
    #[arg(long, value_name = "SIZE", value_parser = chunk)]
    chunk: Option<usize>,
    /// Multipath striping: whether one stream may use several channels at once
    #[arg(long, value_enum, default_value_t = OnOff::On)]
    stripe: OnOff,
    /// The congestion control of channels
    #[command(flatten)]
    congestion: CongestionArgs,
    /// The memory budget
    #[command(flatten)]
    memory: MemoryArgs,
    /// The token, and where it is read from
    #[command(flatten)]
    pub(super) token: TokenArgs,
    /// How the server is verified
    #[command(flatten)]
    pub(super) tls: ProxyTlsArgs,
    /// The metrics
    #[command(flatten)]
    pub(super) metrics: MetricsArgs,
    /// The control socket
    #[command(flatten)]
    pub(super) control: ControlSocketArgs,
    /// The number of worker threads
    #[command(flatten)]
    pub(super) workers: WorkerArgs,
    /// The log
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// The arguments of `underpass token`.
#[derive(Debug, Args)]
pub(super) struct NewTokenArgs {
    /// Print the hash of the token that --token-file, --token or UNDERPASS_TOKEN gives, else of the one on standard
    /// input
    #[arg(long)]
    pub(super) hash: bool,
    /// The token to hash
    #[command(flatten)]
    pub(super) token: TokenArgs,
}

/// The arguments of `underpass config`.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// What to do
    #[command(subcommand)]
    pub(super) command: ConfigCommand,
}

/// The subcommands of `underpass config`.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check configuration files and the files that they name. Every mistake is printed with file, line and key; exit
    /// status 2 if there is any
    Check(CheckArgs),
    /// Print all options of `underpass server` or `underpass proxy` with where each value is from: default, line of the
    /// file, environment variable, or command line. Secrets are masked
    Show(ShowArgs),
}

/// The arguments of `underpass config check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Files to check [default: those that server and proxy would use]
    #[arg(value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// They are for a server [default: those without the keys `server`, `service` and `to` are]
    #[arg(long, conflicts_with = "proxy")]
    server: bool,
    /// They are for a proxy [default: those with one of these keys are]
    #[arg(long)]
    proxy: bool,
}

impl CheckArgs {
    /// Returns what the files are for, if that is given.
    pub(super) fn role(&self) -> Option<Role> {
        match (self.server, self.proxy) {
            (true, _) => Some(Role::Server),
            (_, true) => Some(Role::Proxy),
            _ => None,
        }
    }
}

/// The arguments of `underpass config show`.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The subcommand whose options to show
    #[arg(value_enum)]
    pub(super) role: Role,
    /// Its options, as on its command line
    #[arg(value_name = "OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) options: Vec<OsString>,
}

/// The arguments of `underpass demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Time after which the demo ends, in seconds [default: runs until q, Ctrl-C or SIGTERM]
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub(super) duration: Option<Duration>,
    /// Arguments of the cockpit
    #[command(flatten)]
    pub(super) screen: ScreenArgs,
    /// The number of worker threads
    #[command(flatten)]
    pub(super) workers: WorkerArgs,
    /// The log
    #[command(flatten)]
    pub(super) log: LogArgs,
}

impl ServerArgs {
    /// Returns whether the configuration file has entries of named proxies.
    pub(super) fn has_entries(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Resolves the arguments into the server's configuration.
    pub(super) fn config(&self) -> ServerConfig {
        let mut config = ServerConfig {
            listen: self.listen,
            bind: self.bind,
            allowed_ports: self.ports,
            text_proxies: self.text,
            insecure: self.tls.insecure,
            text_without_token: self.text_without_token,
            default_policy: self.policy,
            proxy_wait_timeout: self.wait,
            grace_period: self.grace,
            drain_timeout: self.drain,
            reuse_port: self.reuse_port,
            successor: self.successor.clone(),
            initial_window: self.window,
            memory_budget: self.memory.budget(),
            max_chunk: self.chunk,
            stripe: self.stripe.is_on(),
            congestion: self.congestion.congestion(),
            inspect_protocols: !self.screen.no_sniff,
            trusted_balancers: self.balancers.trusted(),
            user_networks: self.networks.networks().unwrap_or_default(),
            ..ServerConfig::default()
        };
        self.limits.apply(&mut config);
        config
    }
}

impl ProxyArgs {
    /// Returns the services. None if they have too many networks, which is refused when the command line is parsed.
    pub(super) fn services(&self) -> Vec<ServiceConfig> {
        self.services.services().unwrap_or_default()
    }

    /// Resolves the arguments into the proxy's configuration, except TLS; reads the host name if no name is given.
    pub(super) fn config(&self) -> ProxyConfig {
        let addresses = self.server.iter().map(|server| ServerEndpoint::new(&server.address));
        ProxyConfig {
            servers: addresses.collect(),
            services: self.services(),
            name: self.name.clone().or_else(host_name).unwrap_or_default(),
            channels: self.channels,
            weight: self.weight,
            format: self.format,
            max_streams: self.max_streams as usize,
            drain_timeout: self.drain,
            memory_budget: self.memory.budget(),
            max_chunk: self.chunk,
            stripe: self.stripe.is_on(),
            congestion: self.congestion.congestion(),
            ..ProxyConfig::new("", ServiceKey { port: 0, group: Group::default() }, "")
        }
    }
}

/// Returns the host name of this machine, from `/proc` or the environment variable `HOSTNAME`.
fn host_name() -> Option<String> {
    let name =
        fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok())?;
    display_name(name.trim()).ok().filter(|name| !name.is_empty())
}
