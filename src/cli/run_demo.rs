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
    demo::{DemoLoad, DemoOrigin, DemoOriginOptions, DemoSummary},
    host,
    log::{self, LogDestination},
    server,
};
use crate::{
    config::{ProxyConfig, ServerConfig},
    ids::{Group, ServiceKey},
    proxy::Proxy,
    runtime::Workers,
    server::{Server, ShutdownSignals},
    telemetry::{LogRing, Telemetry},
    tui::{InProcessSource, Labels},
    wire::handshake::Token,
};

/// Any free port of this machine.
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What the origin gives each connection, in bytes a second: a download of 20 MB can be watched for five seconds.
const RATE: u64 = 4_000_000;

const PROXIES: [&str; 3] = ["edge-fra", "edge-ams", "lab"];
const USERS: u8 = 5;

pub(super) fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let destination = host::log_destination(args.screen.no_tui);
    let ring = LogRing::new();
    let log = log::init(destination, &args.log.log, &ring)?;
    let summary =
        host::run(args.workers.workers, async |workers| demo(&args, (destination, &ring), workers).await)?;
    // What is still to be logged comes before it.
    drop(log);
    print!("{summary}");
    Ok(if summary.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(CORRUPT) })
}

async fn demo(
    args: &DemoArgs,
    (destination, ring): (LogDestination, &LogRing),
    workers: Workers,
) -> anyhow::Result<DemoSummary> {
    let began = Instant::now();
    let settings = args.screen.settings()?;
    let token = Token::random();
    let config = ServerConfig {
        listen: LOOPBACK,
        bind: LOOPBACK.ip(),
        inspect_protocols: !args.screen.no_sniff,
        ..ServerConfig::default()
    };
    let telemetry = Telemetry::new();
    let (server, control) = Server::bind(config, token.clone(), telemetry.clone(), workers.clone())?;
    let tunnel = server.addr();
    let shutdown = ShutdownSignals::default();
    let signals = host::Signals::new()?;

    // What ends with the demo, in the order in which it ends: users, proxies, origin, server.
    let (users_end, rest_end) = (CancellationToken::new(), CancellationToken::new());
    let (mut tasks, mut serving) = (JoinSet::new(), JoinSet::new());
    let ends = shutdown.clone();
    serving.spawn(async move { server.run(ends).await });
    let origin = DemoOriginOptions { connection_rate: NonZeroU64::new(RATE), ..DemoOriginOptions::default() };
    let origin = DemoOrigin::bind(LOOPBACK, origin).await.context("cannot open the demo's origin")?;
    let target = origin.addr();
    tasks.spawn(origin.run(rest_end.clone()));
    let public = start_proxies(&mut tasks, &workers, (tunnel, target), &token, &rest_end).await?;

    tracing::info!("add a download of your own: curl -o /dev/null {}", url(public));
    let load = DemoLoad::new(public, USERS, rand::random());
    let tally = load.tally();
    let users = tasks.spawn(load.run(users_end.clone()));

    let over = async {
        match args.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    // The cockpit's wishes and the signals end the users first; the server's own end comes last.
    let ending = ShutdownSignals::default();
    let labels = Labels {
        title: "demo".to_owned(),
        listen: tunnel.to_string(),
        join: Some(server::join_command(tunnel, &token)),
        curl: Some(format!("curl -o /dev/null {}", url(public))),
        drain: None,
    };
    let source = InProcessSource::new(telemetry.clone(), control, ring.clone());
    let mut cockpit = host::Cockpit::open(destination, Box::new(source), (labels, settings), &ending)?;
    tokio::select! {
        () = over => {}
        () = ending.drain.cancelled() => {}
        () = ending.abort.cancelled() => {}
        () = host::follow_signals(signals, ending.clone()) => {}
        () = cockpit.follow(&ending) => {}
    }
    users_end.cancel();
    while !users.is_finished() {
        tasks.join_next().await.transpose().context("a part of the demo failed")?;
    }
    rest_end.cancel();
    tasks.join_all().await;
    shutdown.abort.cancel();
    serving.join_all().await;
    cockpit.close().await;
    Ok(DemoSummary { report: tally.report(), elapsed: began.elapsed() })
}

/// Starts the proxies, one after the other: the first gets any free port, the others share it.
async fn start_proxies(
    tasks: &mut JoinSet<()>,
    workers: &Workers,
    (tunnel, target): (SocketAddr, SocketAddr),
    token: &Token,
    end: &CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let mut service = ServiceKey { port: 0, group: Group::default() };
    for name in PROXIES {
        let config = ProxyConfig::new(tunnel.to_string(), service.clone(), target.to_string());
        let proxy =
            Proxy::new(ProxyConfig { name: name.to_owned(), ..config }, token.clone(), workers.clone());
        let mut serving = proxy.serving();
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
        let given = serving.wait_for(Option::is_some).await.context("a proxy of the demo failed")?;
        service.clone_from(given.as_ref().context("a proxy of the demo serves nothing")?);
    }
    Ok(SocketAddr::new(LOOPBACK.ip(), service.port))
}

fn url(public: SocketAddr) -> String {
    format!("http://{public}/file/20M")
}
