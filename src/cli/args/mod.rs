//! The command line: its arguments, their help texts and defaults, and their resolution into the final configuration.
//!
//! Everything is validated here; the modules below get configurations that need no further checks.

mod host_port;
mod limits;
mod networks;
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

use clap::{
    Args, CommandFactory, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    config::{ChannelCount, PortRange, ProxyConfig, ProxyFormat, ServerConfig, TextProxies},
    ids::{Group, MAX_WEIGHT, Policy, ProxyProtocolVersion, ServiceKey, UserNetworks},
};

use limits::LimitArgs;
use networks::{BalancerArgs, NetworkArgs};
use shared::{CongestionArgs, MemoryArgs};
pub(super) use shared::{LogArgs, ScreenArgs, TokenArgs, WorkerArgs};
use tls::{ProxyTlsArgs, ServerTlsArgs};

use host_port::{bind_address, host_port, listen_address};
use values::{OnOff, channels, chunk, display_name, number, public_port, seconds, window};

/// The meaning of each exit status, shown below the help.
const EXIT_STATUS: &str = "Exit status: 0 success, also after SIGTERM, SIGINT or SIGHUP; 1 failure; 2 invalid command line; \
    3 refused by the server for good (token, certificate, version, port not allowed; a port in use is retried); 4 the demo detected \
    corrupted data. The first signal drains, the second one aborts the open streams; with a third one, or if the process \
    has not ended two seconds after the second one or after the drain timeout (at least 8 s), it dies of that signal (128 plus its \
    number in a shell).";

/// A self-hosted reverse tunnel with the cockpit built in.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXIT_STATUS, disable_help_subcommand = true)]
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
    Server(ServerArgs),
    /// Run behind NAT: serve a public port of the server from a target reachable from here
    #[command(after_help = EXIT_STATUS, allow_negative_numbers = true)]
    Proxy(ProxyArgs),
    /// Print a new random token, or the hash of one for the server's file of --tokens
    #[command(after_help = EXIT_STATUS)]
    Token(NewTokenArgs),
    /// Run a demonstration: a server, three proxies, an origin and users in one process
    #[command(after_help = EXIT_STATUS, allow_negative_numbers = true)]
    Demo(DemoArgs),
}

/// The arguments of `underpass server`.
#[derive(Debug, Args)]
pub(super) struct ServerArgs {
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
    /// Directory of what outlasts a restart: the key from which user ids are derived, and the token and the TLS certificate
    /// that the server generates if none are given [default: $STATE_DIRECTORY, for root /var/lib/underpass, else
    /// ~/.local/state/underpass]
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
    /// Grace period: time streams are kept for a proxy that has lost all its channels, in seconds; 0 resets them at once
    #[arg(long, value_name = "SECS", default_value = "30", value_parser = seconds)]
    grace: Duration,
    /// Drain timeout: time open streams may continue after SIGTERM or Ctrl-C, in seconds; a second signal ends them
    #[arg(long, value_name = "SECS", default_value = "8", value_parser = seconds)]
    drain: Duration,
    /// Share the ports with another server (SO_REUSEPORT), for a zero-downtime restart: start the new server, then end
    /// the old one with SIGTERM
    #[arg(long)]
    reuse_port: bool,
    /// Address that proxies reconnect to when this server ends, and whose certificate they verify as they verified this one's
    /// [default: the address they are connected to]
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    successor: Option<String>,
    /// First flow-control window of each stream, such as 512K or 256KiB; it grows to the bandwidth-delay product of the path,
    /// and is smaller while memory is tight
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = window)]
    window: u32,
    /// The memory budget
    #[command(flatten)]
    memory: MemoryArgs,
    /// Maximum size of one chunk of a stream, such as 8192, 8K (8,000) or 8KiB (8,192) [default: adapts to the rate of each
    /// channel]
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
    /// Arguments of the cockpit
    #[command(flatten)]
    pub(super) screen: ScreenArgs,
    /// The number of worker threads
    #[command(flatten)]
    pub(super) workers: WorkerArgs,
    /// The filter of the log
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// The arguments of `underpass proxy`.
#[derive(Debug, Args)]
pub(super) struct ProxyArgs {
    /// Address of the server's tunnel port
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    server: String,
    /// Public port to request; 0 for any free one
    #[arg(long, value_name = "PORT", value_parser = public_port)]
    port: u16,
    /// Target to connect to for each stream
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    to: String,
    /// The users that are admitted
    #[command(flatten)]
    networks: NetworkArgs,
    /// Send the target a header of the PROXY protocol with the user's address and the public address, before the user's
    /// first byte; the target has to expect it (nginx: listen … proxy_protocol, HAProxy: accept-proxy) [default: none]
    #[arg(long, value_enum, value_name = "VERSION")]
    proxy_protocol: Option<ProxyProtocolVersion>,
    /// Group of proxies that share the public port
    #[arg(long, value_name = "NAME", default_value_t)]
    group: Group,
    /// Name of this proxy on the server's screen [default: the host name of this machine]
    #[arg(long, value_name = "NAME", value_parser = display_name)]
    name: Option<String>,
    /// Channels (TCP connections) to keep to the server: a number, or `auto` for 2 and up to 8 where packet loss slows a
    /// single connection down; behind a carrier-grade NAT, where each is a port mapping, set 1 or 2
    #[arg(long, value_name = "auto|N", default_value = "auto", value_parser = channels)]
    channels: ChannelCount,
    /// Load-balancing weight of this proxy, for policies that use weights [default: 1]
    #[arg(long, value_name = "N", value_parser = number(1..=MAX_WEIGHT))]
    weight: Option<u32>,
    /// Frame format on the channels; text is for comparison, and sends the token in clear text
    #[arg(long, value_enum, default_value_t = ProxyFormat::Binary)]
    format: ProxyFormat,
    /// Maximum number of open streams; further ones are offered to other proxies of the service. Lower where the limit of
    /// file descriptors requires it
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = number(1..=1_000_000))]
    max_streams: u32,
    /// Drain timeout: time open streams may continue after SIGTERM or Ctrl-C, in seconds; a second signal ends them
    #[arg(long, value_name = "SECS", default_value = "8", value_parser = seconds)]
    drain: Duration,
    /// Maximum size of one chunk of a stream, such as 8192, 8K (8,000) or 8KiB (8,192) [default: adapts to the rate of each
    /// channel]
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
    /// The number of worker threads
    #[command(flatten)]
    pub(super) workers: WorkerArgs,
    /// The filter of the log
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// The arguments of `underpass token`.
#[derive(Debug, Args)]
pub(super) struct NewTokenArgs {
    /// Print the hash of the token that --token-file, --token or UNDERPASS_TOKEN gives, else of the one on standard input
    #[arg(long)]
    pub(super) hash: bool,
    /// The token to hash
    #[command(flatten)]
    pub(super) token: TokenArgs,
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
    /// The filter of the log
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// The arguments that an environment variable can give.
const ENVIRONMENT: [(&str, &str); 2] = [("--token", "UNDERPASS_TOKEN"), ("--log", "UNDERPASS_LOG")];

impl CliArgs {
    /// Parses a command line and checks what no single argument shows.
    ///
    /// # Errors
    /// The error names the argument, or the environment variable that its value is from, and what to write instead. Help
    /// and version are errors too, for clap.
    pub(super) fn parse_line(line: Vec<OsString>) -> Result<Self, clap::Error> {
        let is_given = |name: &str| {
            line.iter().filter_map(|word| word.to_str()).any(|word| word.split('=').next() == Some(name))
        };
        let variable_of = |name: &str| {
            let variable = ENVIRONMENT.iter().find(|(known, _)| *known == name)?.1;
            (!is_given(name) && std::env::var_os(variable).is_some()).then_some(variable)
        };
        let args = Self::try_parse_from(&line).map_err(|mut error| {
            let argument = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
            let variable = match error.kind() {
                // Names no argument.
                ErrorKind::InvalidUtf8 => ENVIRONMENT.iter().find_map(|(name, variable)| {
                    let is_text = std::env::var_os(variable).is_none_or(|value| value.to_str().is_some());
                    if is_text { None } else { variable_of(name) }
                }),
                _ => variable_of(argument.split(' ').next().unwrap_or_default()),
            };
            if let Some(variable) = variable {
                let tip = format!("the value is that of the environment variable {variable}");
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
            }
            error
        })?;
        let Some((kind, message)) = args.conflict() else { return Ok(args) };
        let name = match &args.command {
            CliCommand::Server(_) => "server",
            CliCommand::Proxy(_) => "proxy",
            CliCommand::Token(_) => "token",
            CliCommand::Demo(_) => "demo",
        };
        let message = match (kind, variable_of("--token")) {
            (ErrorKind::ValueValidation, Some(variable)) => format!("{variable}: {message}"),
            (ErrorKind::ValueValidation, None) => format!("--token: {message}"),
            _ => message,
        };
        let mut command = Self::command();
        // For the names in the usage line.
        command.build();
        let command = command.find_subcommand_mut(name).map(|command| command.error(kind, &message));
        Err(command.unwrap_or_else(|| Self::command().error(kind, &message)))
    }

    /// Returns what is wrong with the arguments together, or with the token.
    fn conflict(&self) -> Option<(ErrorKind, String)> {
        let networks = match &self.command {
            CliCommand::Server(args) => args.networks.networks(),
            CliCommand::Proxy(args) => args.networks.networks(),
            CliCommand::Demo(_) | CliCommand::Token(_) => Ok(UserNetworks::default()),
        };
        if let Err(error) = networks {
            return Some((ErrorKind::TooManyValues, format!("--allow and --deny: {error}")));
        }
        let conflict = |text: &str| Some((ErrorKind::ArgumentConflict, text.to_owned()));
        let token = match &self.command {
            CliCommand::Server(args) => args.token.check(),
            CliCommand::Proxy(args) => args.token.check(),
            CliCommand::Token(args) => args.token.check(),
            CliCommand::Demo(_) => Ok(()),
        };
        if let Err(error) = token {
            return Some((ErrorKind::ValueValidation, error.to_string()));
        }
        match &self.command {
            CliCommand::Proxy(ProxyArgs {
                format: ProxyFormat::Text,
                channels: ChannelCount::Fixed(2..),
                ..
            }) => conflict("--format text has one channel: leave --channels out, or use --format binary"),
            CliCommand::Proxy(ProxyArgs { format: ProxyFormat::Text, proxy_protocol: Some(_), .. }) => {
                conflict(
                    "--format text does not carry the user's address, which --proxy-protocol sends to the target: use --format \
                 binary",
                )
            }
            CliCommand::Server(ServerArgs { text: TextProxies::Off, text_without_token: true, .. }) => {
                conflict(
                    "--text off refuses the proxies that --text-without-token lets in: leave one of them out",
                )
            }
            CliCommand::Server(args) => {
                args.tls.conflict(args.listen, args.text).and_then(|text| conflict(&text))
            }
            CliCommand::Proxy(args) => {
                args.tls.conflict(&args.server, args.format).and_then(|text| conflict(&text))
            }
            CliCommand::Demo(_) | CliCommand::Token(_) => None,
        }
    }
}

impl ServerArgs {
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
    /// Resolves the arguments into the proxy's configuration; reads the host name if no name is given.
    pub(super) fn config(&self) -> ProxyConfig {
        let service = ServiceKey { port: self.port, group: self.group.clone() };
        ProxyConfig {
            name: self.name.clone().or_else(host_name).unwrap_or_default(),
            channels: self.channels,
            // The command line was checked when it was parsed.
            user_networks: self.networks.networks().unwrap_or_default(),
            proxy_protocol: self.proxy_protocol,
            weight: self.weight,
            format: self.format,
            max_streams: self.max_streams as usize,
            drain_timeout: self.drain,
            memory_budget: self.memory.budget(),
            max_chunk: self.chunk,
            stripe: self.stripe.is_on(),
            congestion: self.congestion.congestion(),
            ..ProxyConfig::new(&self.server, service, &self.to)
        }
    }
}

/// Returns the host name of this machine, from `/proc` or the environment variable `HOSTNAME`.
fn host_name() -> Option<String> {
    let name =
        fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok())?;
    display_name(name.trim()).ok().filter(|name| !name.is_empty())
}
