//! `underpass server`: runs the server, with the cockpit if it has a terminal.

use std::{
    net::{SocketAddr, UdpSocket},
    process::ExitCode,
};

use super::{
    args::ServerArgs,
    host,
    log::{self, LogDestination},
    output, signals, terminal,
};
use crate::{
    server::{Server, ShutdownSignals},
    telemetry::{LogRing, Telemetry},
    tui::{InProcessSource, Labels},
    wire::handshake::Token,
};

/// Runs the server until it has drained or was stopped.
pub(super) fn run(args: ServerArgs) -> anyhow::Result<ExitCode> {
    let destination = terminal::log_destination(args.screen.no_tui);
    let ring = LogRing::new();
    let settings = args.screen.settings()?;
    let _log = log::init(destination, &args.log.log, &ring)?;
    let given_token = args.token.token()?;
    let is_generated = given_token.is_none();
    let token = given_token.unwrap_or_else(Token::random);
    let telemetry = Telemetry::new();
    host::run(&args.workers, async |workers| {
        let config = args.config();
        let drain = Some(config.drain_timeout);
        let (server, control) = Server::bind(config, token.clone(), telemetry.clone(), workers)?;
        let join = join_command(server.addr(), &token);
        if is_generated {
            tracing::info!("no token was given; generated one. On the other machine run:\n  {join}");
        }
        let listen = server.addr().to_string();
        let labels = Labels { listen, join: Some(join), drain, ..Labels::default() };
        let shutdown = ShutdownSignals::default();
        signals::follow(shutdown.clone())?;
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

/// Returns the command line that makes another machine a proxy of this server, with the token.
pub(super) fn join_command(listen: SocketAddr, token: &Token) -> String {
    let server = match listen.ip() {
        ip if ip.is_unspecified() => outgoing_addr().map_or(listen, |ip| SocketAddr::new(ip, listen.port())),
        _ => listen,
    };
    format!("underpass proxy --server {server} --token {} --port 8080 --to 127.0.0.1:80", token.reveal())
}

/// Returns the source address that the kernel would choose for a packet to the internet. Nothing is sent.
fn outgoing_addr() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // An address reserved for documentation (RFC 5737): any address outside of this machine would do.
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|addr| addr.ip())
}
