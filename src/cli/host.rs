use std::io::IsTerminal;

use anyhow::Context;
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use super::log::Log;
use crate::server::Shutdown;

/// A runtime with a thread for each core.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

/// Where the log goes, and with it whether there is a cockpit.
pub(super) fn screen(no_tui: bool) -> Log {
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if no_tui || !terminal { Log::Stderr } else { Log::Cockpit }
}

/// The signals that ask a program to end.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Ready at the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// Turns signals into a shutdown: the first asks for a drain, the second for an end. Never ready: it is the server that
/// ends then, and more cannot be asked of it.
pub(super) async fn follow_signals(mut signals: Signals, shutdown: Shutdown) {
    signals.next().await;
    shutdown.drain.cancel();
    signals.next().await;
    shutdown.now.cancel();
    std::future::pending().await
}
