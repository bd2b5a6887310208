//! Whether this process works and serves: what `/healthz`, `/readyz` and the watchdog of the service manager ask.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use crate::{metrics::Probes, runtime::Workers, telemetry::Telemetry};

/// How long a worker thread may take to run a task. It is blocked then, or the machine has had no time for it at all.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// For how long accept(2) may fail on a port: while the process has no descriptor left it fails for a moment, and a
/// restart would end all streams.
const ACCEPT_GRACE: Duration = Duration::from_secs(10);

/// Checks this process.
#[derive(Clone)]
pub(super) struct Health {
    /// The worker threads, each of which has to answer.
    workers: Workers,
    /// Knows on which ports accept(2) fails.
    telemetry: Arc<Telemetry>,
    /// Returns why the process does not serve.
    ready: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl Health {
    /// Creates the checks of a process. `ready` returns why it does not serve, if it does not.
    pub(super) fn new(
        workers: Workers,
        telemetry: Arc<Telemetry>,
        ready: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { workers, telemetry, ready: Arc::new(ready) }
    }

    /// Checks that every worker thread runs tasks. Nothing else is worth a restart, which ends all streams.
    ///
    /// # Errors
    /// That one does not.
    pub(super) async fn check_workers(&self) -> Result<(), String> {
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, self.workers.answer()).await;
        answered.map_err(|_| format!("a worker thread has run no task for {ANSWER_TIMEOUT:?}"))
    }

    /// Checks that connections are accepted on every port.
    fn check_ports(&self) -> Result<(), String> {
        match self.telemetry.failing_listener(ACCEPT_GRACE) {
            Some((addr, reason)) => Err(format!("cannot accept connections on {addr}: {reason}")),
            None => Ok(()),
        }
    }
}

impl Probes for Health {
    fn check_alive(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { self.check_workers().await.and_then(|()| self.check_ports()) })
    }

    fn check_ready(&self) -> Result<(), String> {
        (self.ready)().and_then(|()| self.check_ports())
    }
}
