use std::{
    fmt, fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{CockpitFile, PortRange, ProxyConfig, ProxyFormat, REFRESH_RANGE, ServerConfig, TextProxies},
    ids::{Group, MAX_WEIGHT, Policy, ServiceKey},
    mux::MAX_CHUNK_SIZE,
    tui::{RawSettings, Settings},
    wire::handshake::Token,
};

const EXIT_CODES: &str = "Exit status: 0 done, 1 failed, 2 wrong command line, 3 refused by the server, \
    4 the demo found wrong bytes";

/// A self-hosted reverse tunnel with the cockpit built in.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run on the public machine: take proxies in, open public ports for them, watch every stream
    Server(ServerArgs),
    /// Run behind NAT: serve a public port of the server from a target here
    Proxy(ProxyArgs),
    /// See it at work: a server, three proxies, an origin and users in one process
    Demo(DemoArgs),
}

#[derive(Debug, ClapArgs)]
pub(super) struct ServerArgs {
    /// Where proxies connect to
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:7000", value_parser = address)]
    listen: SocketAddr,
    /// The address that public ports are opened on
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0")]
    bind: IpAddr,
    /// The public ports that proxies may ask for
    #[arg(long, value_name = "FIRST-LAST", default_value_t)]
    ports: PortRange,
    #[command(flatten)]
    pub(super) token: TokenArgs,
    /// How streams are given to the proxies of a service
    #[arg(long, value_enum, default_value_t = PolicyArg::RoundRobin)]
    policy: PolicyArg,
    /// Who may register a proxy in the text format, which carries the token in clear
    #[arg(long, value_enum, default_value_t = TextArg::Loopback)]
    text: TextArg,
    /// Let text proxies on this machine register without the token
    #[arg(long)]
    text_without_token: bool,
    /// How long a user waits for a proxy when none is there
    #[arg(long, value_name = "SECS", default_value = "5", value_parser = seconds)]
    wait: Duration,
    /// How long streams wait for a proxy that has lost every channel; 0 ends them at once
    #[arg(long, value_name = "SECS", default_value = "30", value_parser = seconds)]
    grace: Duration,
    /// How long open streams may go on after SIGTERM or Ctrl-C
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = seconds)]
    drain: Duration,
    /// Listen beside another server on the same ports (SO_REUSEPORT): start the new one, end the old one with SIGTERM,
    /// and no user is turned away
    #[arg(long)]
    reuse_port: bool,
    /// Where proxies go when this server ends [default: to the address they have]
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    successor: Option<String>,
    /// The first receive window of each stream, in KiB; it grows where bandwidth and delay ask for it
    #[arg(long, value_name = "KIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    window: u32,
    /// What the windows of all streams together may grow by, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    memory: u32,
    /// How many bytes of a stream go out together before another has its turn, like 8K [default: by how fast each
    /// channel is]
    #[arg(long, value_name = "BYTES", value_parser = chunk)]
    chunk: Option<usize>,
    /// Whether one stream may use several channels of its proxy at once
    #[arg(long, value_enum, default_value_t = Switch::On)]
    stripe: Switch,
    /// How many user connections there may be at once
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_streams: u32,
    #[command(flatten)]
    pub(super) screen: ScreenArgs,
    #[command(flatten)]
    pub(super) workers: WorkerArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ProxyArgs {
    /// The server's tunnel port
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    server: String,
    /// The public port to ask for; 0 for any free one
    #[arg(long, value_name = "PORT")]
    port: u16,
    /// What to connect to for each stream
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    to: String,
    /// The group of proxies that share the public port
    #[arg(long, value_name = "NAME", default_value_t)]
    group: Group,
    /// What the server's screen calls this proxy [default: the name of this machine]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How many connections to keep to the server
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=i64::from(ProxyConfig::MAX_CHANNELS)))]
    channels: u16,
    /// The share of new users to ask for beside other proxies, where the server goes by weight [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_WEIGHT)))]
    weight: Option<u32>,
    /// What to speak; text is for comparison, and sends the token in clear
    #[arg(long, value_enum, default_value_t = FormatArg::Binary)]
    format: FormatArg,
    /// How long open streams may go on after SIGTERM or Ctrl-C
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = seconds)]
    drain: Duration,
    /// How many bytes of a stream go out together before another has its turn, like 8K [default: by how fast each
    /// channel is]
    #[arg(long, value_name = "BYTES", value_parser = chunk)]
    chunk: Option<usize>,
    /// Whether one stream may use several channels of its proxy at once
    #[arg(long, value_enum, default_value_t = Switch::On)]
    stripe: Switch,
    #[command(flatten)]
    pub(super) token: TokenArgs,
    #[command(flatten)]
    pub(super) workers: WorkerArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct DemoArgs {
    /// End after this long; without it the demo goes on until q, Ctrl-C or SIGTERM
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub(super) duration: Option<Duration>,
    #[command(flatten)]
    pub(super) screen: ScreenArgs,
    #[command(flatten)]
    pub(super) workers: WorkerArgs,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ScreenArgs {
    /// Log to stderr instead of opening the cockpit; so it is too where stdout is no terminal
    #[arg(long)]
    pub(super) no_tui: bool,
    /// Do not read what streams carry (HTTP requests, TLS server names, SSH) from their first bytes
    #[arg(long)]
    pub(super) no_sniff: bool,
    /// The colours of the cockpit: dark, light, ansi, safe or none
    #[arg(long, value_name = "NAME", value_parser = theme)]
    theme: Option<String>,
    /// How long the cockpit waits between two samples, at least 0.1
    #[arg(long, value_name = "SECS", value_parser = refresh)]
    refresh: Option<Duration>,
    /// Show everything, but no key that changes anything but the display
    #[arg(long)]
    read_only: bool,
}

impl ScreenArgs {
    /// How the operator wants the cockpit: the settings file, and before it the command line.
    pub(super) fn settings(&self) -> anyhow::Result<Settings> {
        let path = CockpitFile::path(|name| std::env::var_os(name).map(PathBuf::from));
        let file = match path.as_ref().map(fs::read_to_string) {
            None => CockpitFile::default(),
            Some(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => CockpitFile::default(),
            Some(read) => {
                let path = path.as_deref().unwrap_or_else(|| Path::new("")).display().to_string();
                let text = read.with_context(|| format!("cannot read {path}"))?;
                CockpitFile::parse(&text).with_context(|| path.clone())?
            }
        };
        let settings = RawSettings {
            theme: self.theme.clone().or(file.theme),
            bits: file.bits,
            ascii: file.ascii,
            mouse: file.mouse,
            refresh: self.refresh.or(file.refresh).unwrap_or(RawSettings::default().refresh),
            read_only: self.read_only || file.read_only,
            columns: file.columns,
            keys: file.keys.into_iter().collect(),
        };
        Ok(settings.resolve()?)
    }
}

#[derive(Debug, ClapArgs)]
pub(super) struct WorkerArgs {
    /// How many threads carry bytes [default: half as many as this machine has cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) workers: Option<u16>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct LogArgs {
    /// What to log: error, warn, info, debug or trace, also for parts of the program (lifecycle=warn,underpass=debug)
    #[arg(long, value_name = "FILTER", env = "UNDERPASS_LOG", default_value = "info", value_parser = log_filter)]
    pub(super) log: String,
}

#[derive(Debug, ClapArgs)]
pub(super) struct TokenArgs {
    /// The secret that server and proxies share; other users of this machine may see it in the list of processes
    #[arg(long, env = "UNDERPASS_TOKEN", hide_env_values = true, conflicts_with = "token_file", value_parser = secret)]
    token: Option<String>,
    /// A file with the token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PolicyArg {
    /// To each in turn
    RoundRobin,
    /// To each as often as its weight says
    Weighted,
    /// To the one with the fewest streams for its weight
    LeastStreams,
    /// To the one of two that answered faster of late and has less to do
    PeakEwma,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TextArg {
    Off,
    Loopback,
    Any,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    Binary,
    Text,
}

macro_rules! debug_as_value {
    ($($name:ty),*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
            }
        })*
    };
}

debug_as_value!(PolicyArg, TextArg, FormatArg);

impl ServerArgs {
    pub(super) fn config(&self) -> ServerConfig {
        ServerConfig {
            listen: self.listen,
            bind: self.bind,
            allowed_ports: self.ports,
            text_proxies: match self.text {
                TextArg::Off => TextProxies::Off,
                TextArg::Loopback => TextProxies::Loopback,
                TextArg::Any => TextProxies::Anywhere,
            },
            text_without_token: self.text_without_token,
            default_policy: match self.policy {
                PolicyArg::RoundRobin => Policy::RoundRobin,
                PolicyArg::Weighted => Policy::Weighted,
                PolicyArg::LeastStreams => Policy::LeastStreams,
                PolicyArg::PeakEwma => Policy::PeakEwma,
            },
            proxy_wait_timeout: self.wait,
            grace_period: self.grace,
            drain_timeout: self.drain,
            reuse_port: self.reuse_port,
            successor: self.successor.clone(),
            initial_window: self.window * 1024,
            window_budget: u64::from(self.memory) << 20,
            max_chunk: self.chunk,
            stripe: self.stripe == Switch::On,
            inspect_protocols: !self.screen.no_sniff,
            max_streams: self.max_streams as usize,
            ..ServerConfig::default()
        }
    }
}

impl ProxyArgs {
    pub(super) fn config(&self) -> ProxyConfig {
        let service = ServiceKey { port: self.port, group: self.group.clone() };
        let name = self.name.clone().or_else(machine_name).unwrap_or_default();
        let format = match self.format {
            FormatArg::Binary => ProxyFormat::Binary,
            FormatArg::Text => ProxyFormat::Text,
        };
        let config = ProxyConfig::new(&self.server, service, &self.to);
        ProxyConfig {
            name,
            channels: self.channels,
            weight: self.weight,
            format,
            drain_timeout: self.drain,
            max_chunk: self.chunk,
            stripe: self.stripe == Switch::On,
            ..config
        }
    }
}

impl TokenArgs {
    /// The token, if one was given.
    pub(super) fn token(&self) -> anyhow::Result<Option<Token>> {
        let text = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(file)) => fs::read_to_string(file)
                .with_context(|| format!("cannot read the token from {}", file.display()))?,
            (None, None) => return Ok(None),
        };
        let text = text.trim();
        anyhow::ensure!(!text.is_empty(), "the token is empty");
        Ok(Some(Token::new(text)))
    }
}

fn machine_name() -> Option<String> {
    let name =
        fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok())?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an address and a port are wanted, like 0.0.0.0:7000 or [::]:7000".to_owned())
}

fn theme(text: &str) -> Result<String, String> {
    let settings = RawSettings { theme: Some(text.to_owned()), ..RawSettings::default() };
    settings.resolve().map(|_| text.to_owned()).map_err(|wrong| wrong.to_string())
}

fn log_filter(text: &str) -> Result<String, String> {
    text.parse::<EnvFilter>().map(|_| text.to_owned()).map_err(|wrong| wrong.to_string())
}

fn secret(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// A day is more than anybody waits, and far from where adding to a clock overflows.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 =
        text.parse().map_err(|_| "a number of seconds is wanted, like 10 or 0.5".to_owned())?;
    if !(0.0..=86_400.0).contains(&seconds) {
        return Err("between 0 and 86400 seconds are possible".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// More than 256 KiB are never read at once, and where a chunk is smaller than 1 KiB its header counts.
fn chunk(text: &str) -> Result<usize, String> {
    let (number, unit) = match text.strip_suffix(['K', 'k']) {
        Some(number) => (number, 1024),
        None => (text, 1),
    };
    let bytes = number.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    bytes
        .filter(|bytes| (1024..=MAX_CHUNK_SIZE).contains(bytes))
        .ok_or_else(|| "between 1K and 256K are possible, like 8K or 8192".to_owned())
}

/// Faster is not seen, slower is no live view.
fn refresh(text: &str) -> Result<Duration, String> {
    seconds(text)
        .ok()
        .filter(|time| REFRESH_RANGE.contains(&time.as_secs_f64()))
        .ok_or_else(|| "the refresh time is between 0.1 and 10 seconds".to_owned())
}

fn host_port(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse().is_ok_and(|port: u16| port > 0) => {
            Ok(text.to_owned())
        }
        _ => Err("HOST:PORT is wanted, like example.org:7000 or 127.0.0.1:80".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_defaults_of_the_command_line_are_those_of_the_library() {
        let Command::Server(server) = Args::parse_from(["underpass", "server"]).command else { panic!() };
        assert_eq!(format!("{:?}", server.config()), format!("{:?}", ServerConfig::default()));
        let line = ["underpass", "proxy", "--server", "h:1", "--port", "8080", "--to", "t:2", "--name", ""];
        let Command::Proxy(proxy) = Args::parse_from(line).command else { panic!() };
        let expected = ProxyConfig::new("h:1", "8080".parse().unwrap(), "t:2");
        assert_eq!(format!("{:?}", proxy.config()), format!("{expected:?}"));
    }

    #[test]
    fn chunks_have_units() {
        for (text, bytes) in [("8K", 8192), ("256k", 262_144), ("1024", 1024)] {
            let Command::Server(server) = Args::parse_from(["underpass", "server", "--chunk", text]).command
            else {
                panic!()
            };
            assert_eq!(server.config().max_chunk, Some(bytes));
        }
    }

    #[test]
    fn policies_have_the_same_names_everywhere() {
        for policy in Policy::ALL {
            let line = ["underpass", "server", "--policy", &policy.to_string()];
            let Command::Server(server) = Args::parse_from(line).command else { panic!() };
            assert_eq!(server.config().default_policy, policy);
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_hint() {
        for line in [
            "server --wait -1",
            "server --wait 1e30",
            "server --wait nan",
            "server --refresh 0.01",
            "server --ports 9-8",
            "server --policy fair",
            "proxy --server h --port 1 --to t:2",
            "proxy --server h:1 --port 65536 --to t:2",
            "proxy --server h:1 --port 1 --to t:2 --channels 0",
            "proxy --server h:1 --port 1 --to t:2 --group a/b",
            "proxy --server h:1 --port 1 --to t:2 --weight 0",
            "proxy --server h:1 --port 1 --to t:2 --weight 1001",
            "server --token a --token-file b",
            "server --successor here",
            "server --chunk 8M",
            "server --listen localhost:7000",
            "server --listen 7000",
            "server --theme pink",
            "server --log bogus=foo",
            "server --token ",
            "server --chunk 257K",
            "proxy --server h:1 --port 1 --to t:2 --chunk 1000",
        ] {
            let words = ["underpass"].into_iter().chain(line.split(' '));
            assert!(Args::try_parse_from(words).is_err(), "{line}");
        }
    }
}
