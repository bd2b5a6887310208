//! The arguments that several subcommands share: token, cockpit, memory, congestion control, metrics, worker threads
//! and log.

use std::{fs::File, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;

use super::{
    super::memory::default_budget,
    host_port::listen_address,
    values::{congestion, log_filter, memory, number, refresh, theme},
};
use crate::{
    cli::{log_format::LogFormat, text_file, token},
    config::{CockpitFile, CongestionControl},
    operator::environment,
    tui::{RawSettings, Settings},
    wire::handshake::{Token, TokenError},
};

/// The longest settings file in bytes.
const MAX_SETTINGS_BYTES: usize = 64 * 1024;

/// The arguments of the cockpit.
#[derive(Debug, Args)]
pub(in crate::cli) struct ScreenArgs {
    /// Log to stderr instead of opening the cockpit; the default if stdin or stdout is not a terminal
    #[arg(long)]
    pub(in crate::cli) no_tui: bool,
    /// Disable protocol detection, which inspects the first bytes of each stream (HTTP requests, TLS server names, SSH)
    #[arg(long)]
    pub(in crate::cli) no_sniff: bool,
    /// How the cockpit looks
    #[command(flatten)]
    look: LookArgs,
    /// Disable all commands of the cockpit that change anything but the display
    #[arg(long)]
    read_only: bool,
}

impl ScreenArgs {
    /// Resolves the cockpit's settings: the command line takes precedence over the settings file.
    pub(in crate::cli) fn settings(&self) -> anyhow::Result<Settings> {
        self.look.settings(self.read_only)
    }
}

/// How a cockpit looks.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct LookArgs {
    /// Colour theme of the cockpit: dark, light, ansi, safe or none
    #[arg(long, value_name = "NAME", value_parser = theme)]
    theme: Option<String>,
    /// Interval between two samples of the cockpit, in seconds, 0.1 to 10 [default: 0.1]
    #[arg(long, value_name = "SECS", value_parser = refresh)]
    refresh: Option<Duration>,
}

impl LookArgs {
    /// Resolves the cockpit's settings: the command line takes precedence over the settings file. `read_only` disables
    /// all commands that change anything but the display.
    pub(in crate::cli) fn settings(&self, read_only: bool) -> anyhow::Result<Settings> {
        let path = CockpitFile::path(environment);
        let path = path.unwrap_or_default();
        let file = match File::open(&path).and_then(|file| text_file::read(file, MAX_SETTINGS_BYTES)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => CockpitFile::default(),
            read => {
                let text =
                    read.with_context(|| format!("cannot read the settings from {}", path.display()))?;
                CockpitFile::parse(&text).with_context(|| path.display().to_string())?
            }
        };
        let settings = RawSettings {
            theme: self.theme.clone().or(file.theme),
            bits: file.bits,
            ascii: file.ascii,
            mouse: file.mouse,
            refresh: self.refresh.or(file.refresh).unwrap_or(RawSettings::default().refresh),
            read_only: read_only || file.read_only,
            columns: file.columns,
            keys: file.keys.into_iter().collect(),
        };
        // The command line was checked when it was parsed.
        settings.resolve().with_context(|| path.display().to_string())
    }
}

/// The congestion control of channels.
#[derive(Debug, Args)]
pub(in crate::cli) struct CongestionArgs {
    /// Congestion control of the channels: one that the kernel offers, or that of the system [default: bbr where it is
    /// offered and the other side is not on this machine, else system]
    #[arg(long, value_name = "NAME|system", value_parser = congestion)]
    congestion: Option<CongestionControl>,
}

impl CongestionArgs {
    /// Returns the requested congestion control.
    pub(in crate::cli) fn congestion(&self) -> CongestionControl {
        self.congestion.clone().unwrap_or_default()
    }
}

/// The memory budget.
#[derive(Debug, Args)]
pub(in crate::cli) struct MemoryArgs {
    /// Memory budget of all streams together, such as 256M or 1GiB: their buffers and 8 KiB of bookkeeping each. Half
    /// of it is reserved for a minimum of each stream, so that it also limits their number (24 KiB each) [default: a
    /// quarter of the memory of the system or of the control group, between 64MiB and 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<u64>,
}

impl MemoryArgs {
    /// Returns the memory budget in bytes.
    pub(in crate::cli) fn budget(&self) -> u64 {
        self.memory.unwrap_or_else(default_budget)
    }
}

/// The worker threads.
#[derive(Debug, Args)]
pub(in crate::cli) struct WorkerArgs {
    /// Number of worker threads that carry data [default: half the number of CPU cores]
    #[arg(long, value_name = "N", value_parser = number(1..=1024))]
    pub(in crate::cli) workers: Option<u32>,
    /// Let worker threads sleep as soon as they have no work. Otherwise a busy one polls its sockets for up to 100 µs
    /// first, which costs CPU time that others may need, and gains throughput and latency on a fast network
    #[arg(long)]
    pub(in crate::cli) no_busy_poll: bool,
}

/// The log: its filter and its format.
#[derive(Debug, Args)]
pub(in crate::cli) struct LogArgs {
    /// Log filter: error, warn, info, debug or trace, also for single targets (lifecycle=warn,underpass=debug)
    #[arg(long, value_name = "FILTER", env = "UNDERPASS_LOG", default_value = "info", value_parser = log_filter)]
    pub(in crate::cli) log: String,
    /// Format of the log on stderr
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(in crate::cli) log_format: LogFormat,
}

/// The metrics.
#[derive(Debug, Args)]
pub(in crate::cli) struct MetricsArgs {
    /// Serve metrics for Prometheus at http://ADDR:PORT/metrics, and health checks at /healthz (the process works) and
    /// /readyz (it serves). There is no password: on another address than loopback, each client that can connect to it
    /// reads the names of services and proxies, and how much they carry [default: none]
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address)]
    pub(in crate::cli) metrics: Option<SocketAddr>,
}

/// The token, given directly or in a file.
#[derive(Debug, Args)]
pub(in crate::cli) struct TokenArgs {
    /// Secret that authenticates proxies and server to each other; `underpass token` prints a new one, and one that can
    /// be guessed is refused. Local users can read it in the process list (ps), unless it is in the environment
    /// variable or in a file
    #[arg(long, env = "UNDERPASS_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// File that contains the token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl TokenArgs {
    /// Returns the token, reading the file if one is named; `None` if neither argument is given.
    pub(in crate::cli) fn token(&self) -> anyhow::Result<Option<Token>> {
        match (&self.token, &self.token_file) {
            (Some(text), _) => Ok(Some(Token::parse(text)?)),
            (None, Some(file)) => token::read_file(file).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Checks the token that was given directly.
    ///
    /// # Errors
    /// What is wrong with it, without the token itself.
    pub(super) fn check(&self) -> Result<(), TokenError> {
        self.token.as_deref().map_or(Ok(()), |text| Token::parse(text).map(drop))
    }
}
