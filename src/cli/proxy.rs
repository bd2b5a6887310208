//! `underpass proxy`: runs one proxy until it is drained, stopped, or refused by the server.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;
use tokio::sync::{mpsc, watch};

use super::{
    REFUSED,
    args::{ProxyArgs, ResolvedOptions},
    descriptors,
    health::Health,
    host,
    log::{self, LogDestination},
    metrics::MetricsEndpoint,
    operate, output,
    reload::ProxyReloader,
    service_manager::{ServiceManager, Watched},
    signals::{self, Hangup},
};
use crate::{
    config::{ProxyConfig, SideUses},
    control::{Command, CommandError, CommandReply, Executed},
    metrics::ProxyMetrics,
    operator::{LinkReport, ProcessHandle, ProxyHandle, ProxyReport, ProxyServiceReport, Role, Subject},
    proxy::{Proxy, ServedService},
    server::ShutdownSignals,
    telemetry::{LogBroadcast, LogRing, ServedStats},
};

/// Runs the proxy. The first signal drains it, the second one stops it.
pub(super) fn run(args: ProxyArgs, options: ResolvedOptions) -> anyhow::Result<ExitCode> {
    let log_records = LogBroadcast::default();
    let (_log, log_filter) = log::init(LogDestination::Stderr, &args.log, &LogRing::new(), &log_records)?;
    options.log();
    let token = args.token.token()?.context(
        "missing token: give --token-file FILE, --token TOKEN or UNDERPASS_TOKEN; a server that generated its token says at its \
         start where it is",
    )?;
    host::run(&args.workers, async |workers| {
        let mut config = ProxyConfig { servers: args.tls.resolve(&args.server)?, ..args.config() };
        let uses = SideUses {
            has_control: !args.control.is_off(),
            has_metrics: args.metrics.metrics.is_some(),
            has_recording: false,
        };
        descriptors::fit_proxy(&mut config, workers.count(), uses)?;
        let drain_timeout = config.drain_timeout;
        let endpoint = MetricsEndpoint::open(args.metrics.metrics, false)?;
        let (proxy, stats) = (Proxy::new(config, token, workers.clone()), Arc::<ServedStats>::default());
        // Counting costs a proxy without metrics, or without a control socket, nothing.
        let proxy = if endpoint.is_some() { proxy.with_stats(stats.clone()) } else { proxy };
        let proxy = Arc::new(if args.control.is_off() { proxy } else { proxy.observed() });
        let shutdown = ShutdownSignals::default();
        let (draining, served, probed) = (shutdown.clone(), proxy.watch_services(), proxy.clone());
        let health = Health::new(workers, proxy.telemetry().clone(), move || {
            match obstacle(&draining, &probed, &served.borrow()) {
                Some(why) => Err(why.to_owned()),
                None => Ok(()),
            }
        });
        let metrics = ProxyMetrics::new(proxy.telemetry().clone(), stats);
        let scraped = MetricsEndpoint::serve(endpoint, &shutdown.drain, |listener| {
            metrics.serve(listener, health.clone())
        });
        let manager = ServiceManager::from_env();
        let (mut serving, status) = (proxy.watch_services(), proxy.watch_services());
        let registered = async {
            // The sender lives as long as the proxy.
            _ = serving.wait_for(|served| !served.is_empty()).await;
        };
        // A proxy without a file has nothing to read again: SIGHUP drains it.
        let has_file = options.path().is_some();
        let (hangup, hangups) = match has_file {
            true => Hangup::of_service(),
            false => (Hangup::End, watch::channel(()).1),
        };
        signals::follow(shutdown.clone(), drain_timeout, hangup)?;
        let reloader = ProxyReloader::new(&proxy, options, log_filter);
        let (reload, requests) = mpsc::channel(1);
        let watched = Watched {
            health: health.clone(),
            shutdown: &shutdown,
            drain_timeout,
            reload: has_file.then(|| hangups.clone()),
        };
        let informed = manager.inform(watched, registered, || {
            let served = status.borrow();
            match (obstacle(&shutdown, &proxy, &served), &served[..]) {
                (Some(why), _) => why.to_owned(),
                (None, [one]) => format!("serving {} of {}", one.service, one.server),
                (None, all) => format!("serving {} services", all.len()),
            }
        });
        let subject = Subject::Proxy(ProxyHandle {
            telemetry: proxy.telemetry().clone(),
            log: log_records,
            report: Arc::new(report(&proxy)),
            execute: Arc::new(execute(proxy.clone())),
        });
        let process = ProcessHandle {
            drain: shutdown.drain.clone(),
            abort: shutdown.abort.clone(),
            reload: has_file.then_some(reload),
        };
        let mut socket = operate::open(&args.control, Role::Proxy, false, subject, process)?;
        let follow = async {
            shutdown.drain.cancelled().await;
            proxy.drain();
            shutdown.abort.cancelled().await;
            proxy.stop();
            std::future::pending().await
        };
        let result = tokio::select! {
            result = proxy.run() => result,
            () = follow => unreachable!("never completes"),
            () = reloader.follow(hangups, requests) => unreachable!("never completes"),
            never = scraped => match never {},
            never = informed => match never {},
            () = socket.serve() => unreachable!("never completes"),
        };
        socket.close().await;
        manager.stopping().await;
        Ok(match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                output::complain(error);
                ExitCode::from(REFUSED)
            }
        })
    })
}

/// Returns why the proxy serves nothing; `None` if it serves.
fn obstacle(shutdown: &ShutdownSignals, proxy: &Proxy, served: &[ServedService]) -> Option<&'static str> {
    if shutdown.is_requested() {
        Some("draining")
    } else if served.is_empty() {
        Some("no link to a server")
    } else if !proxy.has_channel() {
        Some("no channel to a server")
    } else {
        None
    }
}

/// Returns what executes the commands of operators.
fn execute(proxy: Arc<Proxy>) -> impl Fn(&Command) -> CommandReply + Send + Sync {
    move |command| {
        let affected_streams = match command {
            Command::KillStream(key) => proxy.kill_stream(*key),
            // Streams that come later are not concerned, as on the server.
            Command::KillUser(user) => proxy.kill_user(*user),
            Command::PauseStream(key) => proxy.set_paused(*key, true),
            Command::ResumeStream(key) => proxy.set_paused(*key, false),
            _ => return Err(CommandError::ServerOnly),
        };
        match affected_streams {
            0 => Err(CommandError::NotFound),
            affected_streams => Ok(Executed { affected_streams }),
        }
    }
}

/// Returns what tells the state of a proxy.
fn report(proxy: &Proxy) -> impl Fn() -> ProxyReport + Send + Sync + use<> {
    let (served, open_streams) = (proxy.watch_services(), proxy.stream_counter());
    let servers = proxy.server_addresses();
    move || {
        let served = served.borrow();
        let service = |served: &ServedService| ProxyServiceReport {
            service: served.service.to_string(),
            target: served.target.clone(),
            server: served.server.to_string(),
        };
        let link = |server: &String| LinkReport {
            server: server.clone(),
            services: served.iter().filter(|served| *served.server == **server).count(),
        };
        ProxyReport {
            streams: open_streams(),
            services: served.iter().map(service).collect(),
            links: servers().iter().map(link).collect(),
        }
    }
}
