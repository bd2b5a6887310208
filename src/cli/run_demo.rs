//! `underpass demo`: a server, three proxies, an origin and simulated users in one process.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU64,
    process::ExitCode,
    time::Instant,
};

use anyhow::Context;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    CORRUPT,
    args::DemoArgs,
    certificate::ServerCertificate,
    demo::{DemoLoad, DemoOrigin, DemoOriginOptions, DemoSummary},
    descriptors, host,
    join::{JoinCommand, argument, quote},
    log::{self, LogDestination},
    output,
    signals::{self, Hangup},
    terminal,
};
use crate::{
    config::{ProxyConfig, ServerConfig},
    ids::{Group, ServiceKey},
    proxy::Proxy,
    runtime::Workers,
    server::{Server, ShutdownSignals},
    telemetry::{LogBroadcast, LogRing, Telemetry},
    tls::{ClientTls, ServerTls, ServerVerification},
    tui::{InProcessSource, Labels, Role, Settings},
    wire::handshake::Token,
};

/// Any free port on loopback.
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Rate limit of the origin per connection in bytes per second, at which a download of 20 MB takes five seconds and can
/// be watched.
const CONNECTION_RATE: u64 = 4_000_000;

/// Names of the proxies.
const PROXY_NAMES: [&str; 3] = ["edge-fra", "edge-ams", "lab"];
/// Number of simulated users.
const USERS: u8 = 5;

/// Runs the demo and prints its summary. Fails with the exit code [`CORRUPT`] if a user received wrong bytes.
pub(super) fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let destination = terminal::log_destination(args.screen.no_tui);
    let ring = LogRing::new();
    let (log, _) = log::init(destination, &args.log, &ring, &LogBroadcast::default())?;
    // Each stream takes four: users, server, proxies and origin are one process.
    descriptors::raise();
    let summary = host::run(&args.workers, async |workers| demo(&args, (destination, &ring), workers).await)?;
    // Flushes the log, so that its last lines precede the summary.
    drop(log);
    output::print(&summary);
    Ok(if summary.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(CORRUPT) })
}

/// Runs all parts of the demo until its duration is over, the cockpit or a signal ends it, and stops them in order.
async fn demo(
    args: &DemoArgs,
    (destination, ring): (LogDestination, &LogRing),
    workers: Workers,
) -> anyhow::Result<DemoSummary> {
    let began = Instant::now();
    let settings = match destination {
        LogDestination::Cockpit => args.screen.settings()?,
        LogDestination::Stderr => Settings::default(),
    };
    let (token, certificate) = (Token::random(), ServerCertificate::generate_volatile()?);
    let config = ServerConfig {
        listen: LOOPBACK,
        bind: LOOPBACK.ip(),
        inspect_protocols: !args.screen.no_sniff,
        tls: Some(ServerTls::new(&certificate.identity)?),
        ..ServerConfig::default()
    };
    let telemetry = Telemetry::new();
    let (server, control) = Server::bind(config, token.clone(), telemetry.clone(), workers.clone())?;
    let tunnel = server.addr();
    let shutdown = ShutdownSignals::default();

    // The parts stop in this order: users, proxies and origin, server.
    let (stop_users, stop_rest) = (CancellationToken::new(), CancellationToken::new());
    let (mut tasks, mut serving) = (JoinSet::new(), JoinSet::new());
    let server_shutdown = shutdown.clone();
    serving.spawn(async move { server.run(server_shutdown).await });
    let origin = DemoOriginOptions {
        connection_rate: NonZeroU64::new(CONNECTION_RATE),
        ..DemoOriginOptions::default()
    };
    let origin = DemoOrigin::bind(LOOPBACK, origin).await.context("cannot open the demo's origin")?;
    let target = origin.addr();
    tasks.spawn(origin.run(stop_rest.clone()));
    let pin = vec![certificate.identity.fingerprint()];
    let tls = ClientTls::new(ServerVerification::Fingerprints(pin))?;
    let public = start_proxies(&mut tasks, &workers, (tunnel, target), (&token, tls), &stop_rest).await?;

    tracing::info!("add your own download: curl -o /dev/null {}", url(public));
    let load = DemoLoad::new(public, USERS, rand::random());
    let counters = load.counters();
    let users = tasks.spawn(load.run(stop_users.clone()));

    let duration_elapsed = async {
        match args.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    // The cockpit and signals request the end of the demo here; the server shuts down last.
    let ending = ShutdownSignals::default();
    signals::follow(ending.clone(), ServerConfig::DEFAULT_DRAIN_TIMEOUT, Hangup::End)?;
    let labels = Labels {
        role: Role::Server,
        title: "demo".to_owned(),
        listen: tunnel.to_string(),
        join: Some(JoinCommand::new(tunnel, Some(&certificate)).with(&argument("--token", token.reveal()))),
        secret: Some(quote(token.reveal()).into_owned()),
        curl: Some(format!("curl -o /dev/null {}", url(public))),
        ..Labels::default()
    };
    let source = InProcessSource::new(telemetry.clone(), control, ring.clone());
    let mut cockpit = host::Cockpit::open(destination, Box::new(source), (labels, settings), &ending)?;
    tokio::select! {
        () = duration_elapsed => {}
        () = ending.requested() => {}
        () = cockpit.follow(&ending) => {}
    }
    stop_users.cancel();
    while !users.is_finished() {
        tasks.join_next().await.transpose().context("a task of the demo failed")?;
    }
    stop_rest.cancel();
    tasks.join_all().await;
    shutdown.abort.cancel();
    serving.join_all().await;
    cockpit.close().await;
    Ok(DemoSummary { report: counters.report(), elapsed: began.elapsed() })
}

/// Starts the proxies one after the other. The first one requests any free public port and the others share it. Returns
/// the address of that port.
async fn start_proxies(
    tasks: &mut JoinSet<()>,
    workers: &Workers,
    (tunnel, target): (SocketAddr, SocketAddr),
    (token, tls): (&Token, ClientTls),
    end: &CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let mut service = ServiceKey { port: 0, group: Group::default() };
    for name in PROXY_NAMES {
        let config = ProxyConfig::new(tunnel.to_string(), service.clone(), target.to_string());
        let config = ProxyConfig { name: name.to_owned(), ..config.with_tls(Some(tls.clone())) };
        let proxy = Proxy::new(config, token.clone(), workers.clone());
        let mut serving = proxy.watch_services();
        let end = end.clone();
        tasks.spawn(async move {
            let result = tokio::select! {
                result = proxy.run() => result,
                () = end.cancelled() => {
                    proxy.stop();
                    proxy.run().await
                }
            };
            if let Err(error) = result {
                tracing::error!("{error}");
            }
        });
        let served =
            serving.wait_for(|served| !served.is_empty()).await.context("a proxy of the demo failed")?;
        service.clone_from(&served[0].service);
    }
    Ok(SocketAddr::new(LOOPBACK.ip(), service.port))
}

/// Returns the URL of a download of 20 MB.
fn url(public: SocketAddr) -> String {
    format!("http://{public}/file/20M")
}
