//! `underpass proxy`: runs one proxy until it is drained, stopped, or refused by the server.

use std::process::ExitCode;

use anyhow::Context;

use super::{
    REFUSED,
    args::{ProxyArgs, ResolvedOptions},
    descriptors, host,
    log::{self, LogDestination},
    output,
    signals::{self, Hangup},
};
use crate::{config::ProxyConfig, proxy::Proxy, server::ShutdownSignals, telemetry::LogRing};

/// Runs the proxy. The first signal drains it, the second one stops it.
pub(super) fn run(args: ProxyArgs, options: &ResolvedOptions) -> anyhow::Result<ExitCode> {
    let _log = log::init(LogDestination::Stderr, &args.log.log, &LogRing::new())?;
    options.log();
    let token = args.token.token()?.context(
        "missing token: give --token-file FILE, --token TOKEN or UNDERPASS_TOKEN; a server that generated its token says at its \
         start where it is",
    )?;
    host::run(&args.workers, async |workers| {
        let mut config = ProxyConfig { tls: args.tls.resolve()?, ..args.config() };
        descriptors::fit_proxy(&mut config, workers.count())?;
        let drain_timeout = config.drain_timeout;
        let proxy = Proxy::new(config, token, workers);
        let shutdown = ShutdownSignals::default();
        signals::follow(shutdown.clone(), drain_timeout, Hangup::End)?;
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
        };
        Ok(match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                output::complain(error);
                ExitCode::from(REFUSED)
            }
        })
    })
}
