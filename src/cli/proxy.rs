use std::process::ExitCode;

use anyhow::Context;

use super::{
    REFUSED,
    args::ProxyArgs,
    host,
    log::{self, LogDestination},
};
use crate::{proxy::Proxy, telemetry::LogRing};

pub(super) fn run(args: ProxyArgs) -> anyhow::Result<ExitCode> {
    let _log = log::init(LogDestination::Stderr, &args.log.log, &LogRing::new())?;
    let token = args.token.token()?.context(
        "a token is needed: --token, --token-file or UNDERPASS_TOKEN; the server shows it when it starts",
    )?;
    host::run(args.workers.workers, async |workers| {
        let proxy = Proxy::new(args.config(), token, workers);
        let mut signals = host::Signals::new()?;
        let follow = async {
            signals.next().await;
            proxy.drain();
            signals.next().await;
            proxy.stop();
            std::future::pending().await
        };
        let result = tokio::select! {
            result = proxy.run() => result,
            () = follow => unreachable!("it waits for the proxy"),
        };
        Ok(match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("underpass: {error}");
                ExitCode::from(REFUSED)
            }
        })
    })
}
