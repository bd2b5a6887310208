//! `underpass server`: runs the server, with the cockpit if it has a terminal.

use std::{
    io::{IsTerminal, stderr},
    process::ExitCode,
    sync::Arc,
};

use super::{
    args::{ResolvedOptions, ServerArgs},
    certificate::{CertificateOrigin, ServedCertificate, ServerCertificate},
    descriptors,
    health::Health,
    host,
    join::{JoinCommand, argument, quote},
    log::{self, LogDestination},
    log_format::LogFormat,
    metrics::MetricsEndpoint,
    operate, output,
    reload::{Reloader, UnlimitedToken},
    service_manager::{self, ServiceManager, Watched},
    signals::{self, Hangup},
    state_dir::{KeptIn, directory_advice},
    terminal, token,
    tokens_file::{TokensFile, check_unlimited},
    user_id_key,
};
use tokio::sync::{mpsc, watch};

use crate::{
    config::{ServerConfig, SideUses},
    metrics::ServerMetrics,
    net::Listener,
    operator::{ProcessHandle, Role, ServerHandle, Subject},
    recording::{FileHeader, Recorder, RecorderOptions},
    server::{Credentials, Server, ShutdownSignals},
    telemetry::{LogBroadcast, LogRing, Telemetry},
    tls::ServerTls,
    tui::{InProcessSource, Labels, Settings},
    wire::handshake::Token,
};

/// Runs the server until it has drained or was stopped.
pub(super) fn run(args: ServerArgs, options: ResolvedOptions) -> anyhow::Result<ExitCode> {
    let destination = terminal::log_destination(args.screen.no_tui);
    let ring = LogRing::new();
    let settings = match destination {
        LogDestination::Cockpit => args.screen.settings()?,
        LogDestination::Stderr => Settings::default(),
    };
    let log_records = LogBroadcast::default();
    let (_log, log_filter) = log::init(destination, &args.log, &ring, &log_records)?;
    options.log();
    let is_shown = destination == LogDestination::Cockpit || stderr().is_terminal();
    let (token, kept) = match args.token.token()? {
        // One that may do everything would be a surprise beside those that may not.
        None if args.tokens.is_some() || args.has_entries() => (None, None),
        None => {
            let (token, kept) = token::generate(args.state_dir.as_deref(), is_shown)?;
            (Some(token), Some(kept))
        }
        token => (token, None),
    };
    let open = |path| TokensFile::open(path, token.as_ref());
    let (tokens, entries) = args.tokens.as_deref().map(open).transpose()?.unzip();
    check_unlimited(&args.entries, token.as_ref().map(Token::key).as_ref())?;
    let entries = entries.unwrap_or_else(|| args.entries.clone());
    let credentials = Credentials::new(token.clone(), entries);
    let certificate = args.tls.certificate(args.state_dir.as_ref())?;
    let telemetry = Telemetry::new();
    if args.log.log_format == LogFormat::Json {
        telemetry.log_fields();
    }
    host::run(&args.workers, async |workers| {
        let tls =
            certificate.as_ref().map(|certificate| ServerTls::new(&certificate.identity)).transpose()?;
        let mut config = ServerConfig { tls: tls.clone(), ..args.config() };
        config.user_id_key = user_id_key::load(args.state_dir.as_deref());
        let uses = SideUses {
            has_control: !args.control.is_off(),
            has_metrics: args.metrics.metrics.is_some(),
            has_recording: args.record.options().is_some(),
        };
        descriptors::fit_server(&mut config, workers.count(), uses)?;
        let (drain_timeout, hands_over) = (config.drain_timeout, config.reuse_port);
        let inherited =
            service_manager::inherited_tunnel_port()?.map(Listener::from_inherited).transpose()?;
        let listener = match inherited {
            Some(listener) => listener,
            None => Server::listen(&config)?,
        };
        let (server, control) =
            Server::serving(listener, config, credentials.clone(), telemetry.clone(), workers.clone())?;
        let endpoint = MetricsEndpoint::open(args.metrics.metrics, hands_over)?;
        let join = token.as_ref().map(|token| (JoinCommand::new(server.addr(), certificate.as_ref()), token));
        match (&kept, &join) {
            (Some(kept), Some((join, token))) => log_token(kept, destination, join, token),
            (None, Some((join, _))) => tracing::info!(
                "to add a proxy, copy the token to a file on the other machine and run there:\n  {}",
                join.with("--token-file token")
            ),
            (_, None) => {}
        }
        match &certificate {
            Some(certificate) => certificate.log(),
            None => tracing::warn!("channels are not encrypted (--plain)"),
        }
        let labels = Labels {
            listen: server.addr().to_string(),
            join: join.as_ref().map(|(join, token)| join.with(&argument("--token", token.reveal()))),
            secret: token.as_ref().map(|token| quote(token.reveal()).into_owned()),
            drain: Some(drain_timeout),
            ..Labels::default()
        };
        let shutdown = ShutdownSignals::default();
        let draining = shutdown.clone();
        let health = Health::new(workers, telemetry.clone(), move || match draining.is_requested() {
            true => Err("draining".to_owned()),
            false => Ok(()),
        });
        let metrics = ServerMetrics::new(telemetry.clone());
        let scraped = MetricsEndpoint::serve(endpoint, &shutdown.drain, |listener| {
            metrics.serve(listener, health.clone())
        });
        let (hangup, hangups) = Hangup::of_service();
        let manager = ServiceManager::from_env();
        let watched = Watched {
            health: health.clone(),
            shutdown: &shutdown,
            drain_timeout,
            reload: Some(hangups.clone()),
        };
        // The ports listen already.
        let informed = manager.inform(watched, std::future::ready(()), || status(&telemetry, &shutdown));
        signals::follow(shutdown.clone(), drain_timeout, hangup)?;
        let unlimited =
            token.as_ref().map(|token| UnlimitedToken { key: token.key(), is_generated: kept.is_some() });
        let reloader = Reloader::new(&server, credentials.clone(), unlimited, options, log_filter);
        let reloading = follow_files(certificate, tls, reloader.files(), telemetry.clone());
        let tokens_reload = reloader.files();
        let (reload, requests) = mpsc::channel(1);
        let recorder = args
            .record
            .options()
            .map(|options| record(options, &server, (&telemetry, &log_records)))
            .transpose()?;
        let subject = Subject::Server(ServerHandle {
            telemetry: telemetry.clone(),
            commands: control.clone(),
            log: log_records,
        });
        let process = ProcessHandle {
            drain: shutdown.drain.clone(),
            abort: shutdown.abort.clone(),
            reload: Some(reload),
        };
        let mut socket = operate::open(&args.control, Role::Server, hands_over, subject, process)?;
        let source = InProcessSource::new(telemetry.clone(), control, ring.clone());
        let labels = Labels { attach: socket.attach_command(), ..labels };
        let mut cockpit = host::Cockpit::open(destination, Box::new(source), (labels, settings), &shutdown)?;
        let reload_tokens = async {
            match tokens {
                Some(file) => file.follow(credentials, &telemetry, tokens_reload).await,
                None => std::future::pending().await,
            }
        };
        let report = tokio::select! {
            report = server.run(shutdown.clone()) => report,
            () = cockpit.follow(&shutdown) => unreachable!("never completes"),
            () = reloading => unreachable!("never completes"),
            never = scraped => match never {},
            never = informed => match never {},
            () = reloader.follow(hangups, requests) => unreachable!("never completes"),
            () = reload_tokens => unreachable!("never completes"),
            () = socket.serve() => unreachable!("never completes"),
        };
        manager.stopping().await;
        if let Some(recorder) = recorder {
            // It writes to a disk, which may be slow.
            _ = tokio::task::spawn_blocking(|| recorder.stop()).await;
        }
        tokio::join!(cockpit.close(), socket.close());
        if destination == LogDestination::Cockpit && report.aborted_streams > 0 {
            // The log was shown by the cockpit, which is closed.
            output::complain(format_args!("streams aborted: {}", report.aborted_streams));
        }
        tracing::info!("server ended; streams aborted: {}", report.aborted_streams);
        Ok(ExitCode::SUCCESS)
    })
}

/// Returns what the server does, in a line for the service manager.
fn status(telemetry: &Telemetry, shutdown: &ShutdownSignals) -> String {
    let (totals, proxies) = (telemetry.totals(), telemetry.proxy_count());
    let begin = if shutdown.is_requested() { "draining, " } else { "" };
    format!("{begin}proxies: {proxies}, open streams: {}", totals.streams_open)
}

/// Starts the recorder.
fn record(
    options: RecorderOptions,
    server: &Server,
    (telemetry, log): (&Arc<Telemetry>, &LogBroadcast),
) -> anyhow::Result<Recorder> {
    let header = FileHeader {
        underpass: env!("CARGO_PKG_VERSION").to_owned(),
        recording: FileHeader::VERSION,
        boot: format!("{:016x}", rand::random::<u64>()),
        listen: server.addr().to_string(),
    };
    let path = options.dir.clone();
    let dir = path.display();
    let recorder = Recorder::start(options, header, telemetry.clone(), log).map_err(|error| {
        let advice = directory_advice(&error, &path, "--record");
        anyhow::anyhow!("cannot record in {dir} (--record): {error}{advice}")
    })?;
    tracing::info!("recording in {dir}; `underpass replay {dir}` shows it");
    Ok(recorder)
}

/// Reads the files of the operator again when they change.
async fn follow_files(
    certificate: Option<ServerCertificate>,
    tls: Option<ServerTls>,
    reload: watch::Receiver<()>,
    telemetry: Arc<Telemetry>,
) {
    if let (Some(ServerCertificate { identity, origin }), Some(tls)) = (certificate, tls) {
        let served = ServedCertificate { tls, fingerprint: identity.fingerprint(), telemetry };
        match origin {
            CertificateOrigin::Given(files, watch) => served.follow(files, watch, reload).await,
            CertificateOrigin::Generated(KeptIn::File(path)) => served.follow_kept(path, reload).await,
            CertificateOrigin::Generated(KeptIn::Memory(_)) => {}
        }
    }
    std::future::pending().await
}

/// Logs where the token is that the server has generated. The token itself is logged only to a terminal: a log in a
/// file or in the journal has other readers than the operator.
fn log_token(kept: &KeptIn, destination: LogDestination, join: &JoinCommand, token: &Token) {
    let is_terminal = destination == LogDestination::Stderr && stderr().is_terminal();
    let shown = || join.with(&argument("--token", token.reveal()));
    match kept {
        KeptIn::File(path) if is_terminal => {
            tracing::info!(
                "generated token, kept in {}. On the other machine run:\n  {}",
                path.display(),
                shown()
            );
        }
        KeptIn::File(path) => tracing::info!(
            "generated token, kept in {path}. Copy that file to the other machine and run there:\n  {}",
            join.with("--token-file token"),
            path = path.display()
        ),
        KeptIn::Memory(why) => {
            tracing::warn!(
                "the generated token changes with the next start (set --token-file or --state-dir): {why}"
            );
            if is_terminal {
                tracing::info!("on the other machine run:\n  {}", shown());
            }
        }
    }
}
