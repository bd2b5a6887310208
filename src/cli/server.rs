//! `underpass server`: runs the server, with the cockpit if it has a terminal.

use std::{
    io::{IsTerminal, stderr},
    net::{SocketAddr, UdpSocket},
    process::ExitCode,
};

use super::{
    args::ServerArgs,
    descriptors, host,
    log::{self, LogDestination},
    output, signals, terminal,
    token::{self, TokenOrigin},
    user_id_key,
};
use crate::{
    server::{Server, ShutdownSignals},
    telemetry::{LogRing, Telemetry},
    tui::{InProcessSource, Labels, Settings},
    wire::handshake::Token,
};

/// Runs the server until it has drained or was stopped.
pub(super) fn run(args: ServerArgs) -> anyhow::Result<ExitCode> {
    let destination = terminal::log_destination(args.screen.no_tui);
    let ring = LogRing::new();
    let settings = match destination {
        LogDestination::Cockpit => args.screen.settings()?,
        LogDestination::Stderr => Settings::default(),
    };
    let _log = log::init(destination, &args.log.log, &ring)?;
    let is_shown = destination == LogDestination::Cockpit || stderr().is_terminal();
    let (token, origin) = match args.token.token()? {
        Some(token) => (token, TokenOrigin::Given),
        None => token::generate(args.state_dir.as_deref(), is_shown)?,
    };
    let telemetry = Telemetry::new();
    host::run(&args.workers, async |workers| {
        let mut config = args.config();
        config.user_id_key = user_id_key::load(args.state_dir.as_deref());
        descriptors::fit_server(&mut config, workers.count())?;
        let drain_timeout = config.drain_timeout;
        let (server, control) = Server::bind(config, token.clone(), telemetry.clone(), workers)?;
        log_token(&origin, destination, server.addr(), &token);
        let labels = Labels {
            listen: server.addr().to_string(),
            join: Some(join_command(server.addr(), &format!("--token {}", token.reveal()))),
            secret: Some(token.reveal().to_owned()),
            drain: Some(drain_timeout),
            ..Labels::default()
        };
        let shutdown = ShutdownSignals::default();
        signals::follow(shutdown.clone(), drain_timeout)?;
        let source = InProcessSource::new(telemetry.clone(), control, ring.clone());
        let mut cockpit = host::Cockpit::open(destination, Box::new(source), (labels, settings), &shutdown)?;
        let report = tokio::select! {
            report = server.run(shutdown.clone()) => report,
            () = cockpit.follow(&shutdown) => unreachable!("never completes"),
        };
        cockpit.close().await;
        if destination == LogDestination::Cockpit && report.aborted_streams > 0 {
            // The log was shown by the cockpit, which is closed.
            output::complain(format_args!("streams aborted: {}", report.aborted_streams));
        }
        tracing::info!("server ended; streams aborted: {}", report.aborted_streams);
        Ok(ExitCode::SUCCESS)
    })
}

/// Logs where the token is that the server has generated. The token itself is logged only to a terminal: a log in a file
/// or in the journal has other readers than the operator.
fn log_token(origin: &TokenOrigin, destination: LogDestination, listen: SocketAddr, token: &Token) {
    let is_terminal = destination == LogDestination::Stderr && stderr().is_terminal();
    let join = || join_command(listen, &format!("--token {}", token.reveal()));
    match origin {
        TokenOrigin::Given => {}
        TokenOrigin::Kept(path) if is_terminal => {
            tracing::info!(
                "generated token, kept in {}. On the other machine run:\n  {}",
                path.display(),
                join()
            );
        }
        TokenOrigin::Kept(path) => tracing::info!(
            "generated token, kept in {path}. Copy that file to the other machine and run there:\n  {}",
            join_command(listen, "--token-file token"),
            path = path.display()
        ),
        TokenOrigin::Volatile(why) => {
            tracing::warn!(
                "the generated token changes with the next start (set --token-file or --state-dir): {why}"
            );
            if is_terminal {
                tracing::info!("on the other machine run:\n  {}", join());
            }
        }
    }
}

/// Returns the command line that makes another machine a proxy of this server, with the argument that gives the token.
pub(super) fn join_command(listen: SocketAddr, token: &str) -> String {
    let server = match listen.ip() {
        ip if ip.is_unspecified() => outgoing_addr().map_or(listen, |ip| SocketAddr::new(ip, listen.port())),
        _ => listen,
    };
    format!("underpass proxy --server {server} {token} --port 8080 --to 127.0.0.1:80")
}

/// Returns the source address that the kernel would choose for a packet to the internet. Nothing is sent.
fn outgoing_addr() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // An address reserved for documentation (RFC 5737): any address outside of this machine would do.
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|addr| addr.ip())
}
