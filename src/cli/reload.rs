//! Reading the configuration file of a running server or proxy again.
//!
//! The whole command line is parsed again with the new file, as at the start, so that a file is accepted now if it
//! would be accepted then. What has changed is taken over where a running server can, and named where only a restart
//! can.

use std::{ffi::OsString, fmt, fs, os::unix::fs::FileTypeExt as _, path::Path};

use tokio::sync::{mpsc, watch};

use super::{
    args::{CliArgs, CliCommand, Invocation, ResolvedOption, ResolvedOptions, ServerArgs, Surroundings},
    log::LogFilter,
    tokens_file::check_unlimited,
};
use crate::{
    operator::ReloadRequest,
    proxy::Proxy,
    server::{Credentials, LiveConfig, Server},
    wire::handshake::TokenKey,
};

#[cfg(test)]
mod tests;

/// The options that a running server takes over: for what is new from then on, such as connections, streams and
/// services.
const LIVE: [&str; 24] = [
    "allow",
    "chunk",
    "congestion",
    "deny",
    "grace",
    "idle-timeout",
    "insecure",
    "log",
    "max-channels-per-address",
    "max-connections-per-second",
    MAX_STREAMS,
    "max-streams-per-address",
    "max-streams-per-proxy",
    "max-streams-per-service",
    "no-sniff",
    "policy",
    "ports",
    "stripe",
    "successor",
    "text",
    "text-without-token",
    "trust-proxy-protocol",
    "wait",
    "window",
];

/// The maximum of streams, which can be lowered, and raised to that of the start: descriptors and memory were divided
/// then.
const MAX_STREAMS: &str = "max-streams";

/// What a reload has changed.
#[derive(Debug, Default)]
struct ReloadReport {
    /// What applies from now on: options as the file has them.
    applied: Vec<String>,
    /// What has changed since the start and applies after a restart.
    needs_restart: Vec<String>,
    /// Whether certificate and tokens are being read again, too.
    reads_files: bool,
}

impl ReloadReport {
    /// Returns the report as one sentence.
    fn full(&self) -> String {
        let files =
            if self.reads_files { "; certificate and tokens are read again, see the log" } else { "" };
        match &self.needs_restart[..] {
            [] => format!("{self}{files}"),
            restart => format!("{self}{files}; a restart is needed for: {}", restart.join(", ")),
        }
    }
}

impl fmt::Display for ReloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.applied[..] {
            [] => f.write_str("nothing to change while it runs"),
            applied => write!(f, "changed: {}", applied.join(", ")),
        }
    }
}

/// Why a configuration was not taken over. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ReloadError(
    /// One line for each mistake, with file, line and key.
    String,
);

/// The token that may do everything.
pub(super) struct UnlimitedToken {
    /// Its key.
    pub(super) key: TokenKey,
    /// Whether the server has generated it, because there was no other one.
    pub(super) is_generated: bool,
}

/// The options of a running process, and where they are read from.
struct Source {
    /// The command line.
    line: Vec<OsString>,
    /// The options at the start.
    started: ResolvedOptions,
    /// The options that were taken over last.
    current: ResolvedOptions,
}

impl Source {
    /// Creates the source of a process that was started with these options.
    fn new(started: ResolvedOptions) -> Self {
        Self { line: std::env::args_os().collect(), current: started.clone(), started }
    }

    /// Reads the options again.
    async fn read(&self) -> Result<Invocation, ReloadError> {
        let (line, path) = (self.line.clone(), self.started.path().map(Path::to_owned));
        // On another thread: a network file system may not answer for a while.
        let read = tokio::task::spawn_blocking(move || {
            path.map_or(Ok(()), |path| check_path(&path))?;
            CliArgs::parse_line(line, Surroundings::PROCESS).map_err(|error| ReloadError(error.to_string()))
        });
        read.await.unwrap_or_else(|error| Err(ReloadError(error.to_string())))
    }

    /// Returns what of other options can be taken over, and what needs a restart. `until_restart` returns what to say
    /// of an option of the latter, behind its value; `None` for one that can be taken over.
    fn compare(
        &self,
        options: &ResolvedOptions,
        until_restart: impl Fn(&str) -> Option<String>,
    ) -> ReloadReport {
        let (changed, since_start) = (options.differences(&self.current), options.differences(&self.started));
        let is_live = |option: &&&ResolvedOption| until_restart(option.key()).is_none();
        let restarting =
            |option: &&ResolvedOption| until_restart(option.key()).map(|note| format!("{option}{note}"));
        ReloadReport {
            applied: changed.iter().filter(is_live).map(ToString::to_string).collect(),
            needs_restart: since_start.iter().filter_map(restarting).collect(),
            reads_files: false,
        }
    }
}

/// Checks that the file of the start can be read again.
fn check_path(path: &Path) -> Result<(), ReloadError> {
    let name = path.display();
    match fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_fifo() => Err(ReloadError(format!(
            "{name}: a pipe cannot be read again: restart the process, or name a file"
        ))),
        Ok(_) => Ok(()),
        // The defaults would apply, and the operator has not asked for them.
        Err(error) => Err(ReloadError(format!("{name}: cannot read the configuration: {error}"))),
    }
}

/// Calls `reload` each time that `hangups` changes, and for each request of the control socket. Never completes.
async fn follow(
    mut hangups: watch::Receiver<()>,
    mut requests: mpsc::Receiver<ReloadRequest>,
    mut reload: impl AsyncFnMut() -> Result<ReloadReport, ReloadError>,
) {
    loop {
        let reply = next_request(&mut hangups, &mut requests).await;
        finish(reload().await, reply);
    }
}

/// Waits until SIGHUP or a request of the control socket asks for a reload. Returns where the latter expects the
/// result.
async fn next_request(
    hangups: &mut watch::Receiver<()>,
    requests: &mut mpsc::Receiver<ReloadRequest>,
) -> Option<ReloadRequest> {
    tokio::select! {
        // The sender is dropped where SIGHUP has another meaning.
        Ok(()) = hangups.changed() => None,
        Some(reply) = requests.recv() => Some(reply),
        else => std::future::pending().await,
    }
}

/// Logs what a reload has changed, or why it has changed nothing, and replies to who has asked for it.
fn finish(result: Result<ReloadReport, ReloadError>, reply: Option<ReloadRequest>) {
    match &result {
        Ok(report) => {
            tracing::info!("read the configuration again; {report}");
            if !report.needs_restart.is_empty() {
                tracing::warn!("a restart is needed for: {}", report.needs_restart.join(", "));
            }
        }
        Err(error) => {
            error.0.lines().for_each(|line| tracing::error!("the configuration stays as it is: {line}"));
        }
    }
    if let Some(reply) = reply {
        // Who has asked may have gone.
        _ = reply.send(result.map(|report| report.full()).map_err(|error| error.to_string()));
    }
}

/// Reads the configuration file of a running server again.
pub(super) struct Reloader {
    /// Its options.
    source: Source,
    /// The token that may do everything, if there is one.
    unlimited: Option<UnlimitedToken>,
    /// The server.
    server: LiveConfig,
    /// The tokens of the server.
    credentials: Credentials,
    /// Makes certificate and tokens be read again.
    files: watch::Sender<()>,
    /// The filter of the log.
    log: LogFilter,
}

impl Reloader {
    /// Creates the means to read the configuration of `server` again. `started` are the options that it was started
    /// with.
    pub(super) fn new(
        server: &Server,
        credentials: Credentials,
        unlimited: Option<UnlimitedToken>,
        started: ResolvedOptions,
        log: LogFilter,
    ) -> Self {
        Self {
            source: Source::new(started),
            unlimited,
            server: server.live_config(),
            credentials,
            files: watch::Sender::new(()),
            log,
        }
    }

    /// Returns what changes when certificate and tokens are to be read again.
    pub(super) fn files(&self) -> watch::Receiver<()> {
        self.files.subscribe()
    }

    /// Reads the configuration file again each time that `hangups` changes, and for each request of the control socket.
    /// Never completes.
    pub(super) async fn follow(
        mut self,
        hangups: watch::Receiver<()>,
        requests: mpsc::Receiver<ReloadRequest>,
    ) {
        follow(hangups, requests, async || self.reload().await).await;
    }

    /// Reads the file again and takes it over; certificate and tokens are read again, too.
    async fn reload(&mut self) -> Result<ReloadReport, ReloadError> {
        let Invocation { args, options } = self.source.read().await?;
        let CliCommand::Server(args) = args.command else {
            return Err(ReloadError("the command line is not that of a server".to_owned()));
        };
        self.check_entries(&args, &options)?;
        let report = self.apply(&args, &options);
        self.source.current = options;
        self.files.send_replace(());
        Ok(ReloadReport { reads_files: true, ..report })
    }

    /// Checks the entries of named proxies.
    fn check_entries(&self, args: &ServerArgs, options: &ResolvedOptions) -> Result<(), ReloadError> {
        let file = options.path().map(|path| path.display().to_string()).unwrap_or_default();
        let unlimited = self.unlimited.as_ref().map(|token| &token.key);
        check_unlimited(&args.entries, unlimited).map_err(|error| ReloadError(format!("{file}: {error}")))?;
        if self.is_entries_source() && !args.has_entries() && self.unlimited.is_none() {
            return Err(ReloadError(format!(
                "{file}: it has no entries [[proxy]] any more, so that no proxy could connect: to revoke all tokens, leave one \
                 entry whose token no proxy has, or restart the server"
            )));
        }
        Ok(())
    }

    /// Returns whether the entries of named proxies are those of the configuration file.
    fn is_entries_source(&self) -> bool {
        self.source.started.find("tokens").is_none_or(|tokens| !tokens.is_set())
    }

    /// Takes over what can be taken over from options that were checked.
    fn apply(&self, args: &ServerArgs, options: &ResolvedOptions) -> ReloadReport {
        let config = args.config();
        let in_force = self.server.replace(&config);
        let mut since_start = options.differences(&self.source.started).into_iter();
        // The maximum of the start may be less than was asked for then, where the descriptors are too few.
        let is_raised = config.max_streams > in_force.max_streams
            && since_start.any(|option| option.key() == MAX_STREAMS);
        let mut report = self.source.compare(options, |key| match key {
            MAX_STREAMS if is_raised => Some(format!(" (until then {})", in_force.max_streams)),
            key => (!LIVE.contains(&key)).then(String::new),
        });
        self.log.replace(&args.log.log);
        if !self.is_entries_source() {
            report.needs_restart.extend(args.has_entries().then(|| "[[proxy]]".to_owned()));
        } else if self.credentials.replace_entries(args.entries.clone()) {
            report.applied.push("[[proxy]]".to_owned());
        }
        if args.has_entries() && self.unlimited.as_ref().is_some_and(|token| token.is_generated) {
            report
                .needs_restart
                .push("the token that the server has generated: it stays valid beside [[proxy]]".to_owned());
        }
        report
    }
}

/// The options that a running proxy takes over: for its next channels, streams and users.
const LIVE_OF_PROXY: [&str; 14] = [
    "allow",
    "ca",
    "deny",
    "fingerprint",
    "group",
    "insecure",
    "log",
    "plain",
    "port",
    "proxy-protocol",
    "server",
    "service",
    "to",
    "verify",
];

/// Reads the configuration file of a running proxy again.
pub(super) struct ProxyReloader<'a> {
    /// Its options.
    source: Source,
    /// The proxy.
    proxy: &'a Proxy,
    /// The filter of the log.
    log: LogFilter,
}

impl<'a> ProxyReloader<'a> {
    /// Creates the means to read the configuration of `proxy` again. `started` are the options that it was started
    /// with.
    pub(super) fn new(proxy: &'a Proxy, started: ResolvedOptions, log: LogFilter) -> Self {
        Self { source: Source::new(started), proxy, log }
    }

    /// Reads the configuration file again each time that `hangups` changes, and for each request of the control socket.
    /// Never completes.
    pub(super) async fn follow(
        mut self,
        hangups: watch::Receiver<()>,
        requests: mpsc::Receiver<ReloadRequest>,
    ) {
        follow(hangups, requests, async || self.reload().await).await;
    }

    /// Reads the file again and takes it over: the servers, the services, and the filter of the log.
    async fn reload(&mut self) -> Result<ReloadReport, ReloadError> {
        let Invocation { args, options } = self.source.read().await?;
        let CliCommand::Proxy(args) = args.command else {
            return Err(ReloadError("the command line is not that of a proxy".to_owned()));
        };
        // Reads the file of --ca.
        let resolved = tokio::task::spawn_blocking(move || (args.tls.resolve(&args.server), args));
        let (servers, args) = resolved.await.map_err(|error| ReloadError(error.to_string()))?;
        let servers = servers.map_err(|error| ReloadError(format!("{error:#}")))?;
        let services = self.proxy.replace_services(args.services());
        services.map_err(|error| ReloadError(error.to_string()))?;
        self.proxy.replace_servers(servers);
        self.log.replace(&args.log.log);
        let report = self.source.compare(&options, |key| (!LIVE_OF_PROXY.contains(&key)).then(String::new));
        self.source.current = options;
        Ok(report)
    }
}
