//! What every subcommand needs of the process: worker threads, signals, and the cockpit on its own thread.

use std::{
    io::IsTerminal,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::Context;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use super::{args::WorkerArgs, log::LogDestination};
use crate::{
    runtime::{WorkerThreads, Workers},
    server::ShutdownSignals,
    tui::{self, Exit, Labels, Settings, Source},
};

/// How long to wait for the cockpit to restore the terminal. While output is stopped (`^S`), it cannot.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts the worker threads and runs `main` on the first one, which is this thread. Without a number, the number follows
/// from the number of CPU cores.
pub(super) fn run<T>(
    args: &WorkerArgs,
    main: impl AsyncFnOnce(Workers) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let count = args.workers.map_or_else(Workers::default_count, usize::from);
    let (runtime, threads) =
        WorkerThreads::start(count, !args.no_busy_poll).context("cannot start the worker threads")?;
    runtime.block_on(main(threads.workers()))
}

/// Returns where the log goes, which also decides whether the cockpit is opened: it needs stdin and stdout to be a
/// terminal.
pub(super) fn log_destination(no_tui: bool) -> LogDestination {
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if no_tui || !terminal { LogDestination::Stderr } else { LogDestination::Cockpit }
}

/// Listeners for the signals that ask the process to end: SIGINT, SIGTERM and SIGHUP.
#[derive(Debug)]
pub(super) struct TerminationSignals {
    /// SIGINT, which Ctrl-C sends.
    interrupt: Signal,
    /// SIGTERM, which asks the process to end.
    terminate: Signal,
    /// SIGHUP, which the terminal sends when it closes.
    hang_up: Signal,
}

impl TerminationSignals {
    /// Installs the handlers: from now on none of these signals ends the process by itself.
    pub(super) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot install the handlers of termination signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next of these signals.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// Turns signals into a shutdown: the first one starts a drain, the second one ends the server at once. Never completes,
/// because the caller waits for the end of the server.
pub(super) async fn follow_signals(mut signals: TerminationSignals, shutdown: ShutdownSignals) {
    signals.next().await;
    shutdown.drain.cancel();
    signals.next().await;
    shutdown.abort.cancel();
    std::future::pending().await
}

/// Panics once if the environment variable `UNDERPASS_PANIC` says so, for the tests of the cockpit: on the cockpit's thread,
/// or on another one. Returns whether it made another thread panic. Release builds do not contain this.
#[cfg(debug_assertions)]
fn panic_on_demand() -> bool {
    static ONCE: AtomicBool = AtomicBool::new(false);
    match std::env::var("UNDERPASS_PANIC").as_deref() {
        Ok(_) if ONCE.swap(true, Relaxed) => false,
        Ok("cockpit") => panic!("asked for"),
        Ok("task") => thread::spawn(|| panic!("asked for")).join().is_err(),
        _ => false,
    }
}

/// The cockpit on its own thread, or nothing if the log goes to stderr.
#[derive(Debug)]
pub(super) struct Cockpit {
    /// Set to make the cockpit restore the terminal and end.
    stop: Arc<AtomicBool>,
    /// Receives how the cockpit ended; `None` where it was not started, or its end was received already.
    ended: Option<oneshot::Receiver<Result<Exit, tui::Error>>>,
}

impl Cockpit {
    /// Starts the cockpit if it is the destination of the log. A drain that the operator requests there is requested from
    /// `shutdown`.
    pub(super) fn open(
        destination: LogDestination,
        source: Box<dyn Source>,
        (labels, settings): (Labels, Settings),
        shutdown: &ShutdownSignals,
    ) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        if destination == LogDestination::Stderr {
            return Ok(Self { stop, ended: None });
        }
        let drain = shutdown.drain.clone();
        let options = tui::Options {
            source,
            labels,
            settings,
            stop: stop.clone(),
            on_drain: Some(Box::new(move || {
                #[cfg(debug_assertions)]
                if panic_on_demand() {
                    return;
                }
                drain.cancel();
            })),
        };
        let (sender, ended) = oneshot::channel();
        thread::Builder::new()
            .name("cockpit".to_owned())
            // Sending fails if the program has ended already.
            .spawn(move || _ = sender.send(tui::run(options)))
            .context("cannot start the cockpit")?;
        Ok(Self { stop, ended: Some(ended) })
    }

    /// Turns the end of the cockpit into a shutdown. Never completes, because the caller waits for the end of the server.
    ///
    /// If the cockpit fails, the server continues without it.
    pub(super) async fn follow(&mut self, shutdown: &ShutdownSignals) {
        if let Some(ended) = &mut self.ended {
            let exit = ended.await;
            self.ended = None;
            match exit {
                Ok(Ok(Exit::Quit | Exit::Now)) => shutdown.abort.cancel(),
                Ok(Ok(Exit::Drain | Exit::Stopped | Exit::TerminalGone)) => shutdown.drain.cancel(),
                Ok(Err(error)) => eprintln!("underpass: {error}; the server continues without the cockpit"),
                // The thread ended without a result: it panicked outside of the cockpit's own panic handler.
                Err(_) => {
                    eprintln!("underpass: the cockpit thread panicked; the server continues without it")
                }
            }
        }
        std::future::pending().await
    }

    /// Stops the cockpit and waits until it has restored the terminal, for at most a second.
    pub(super) async fn close(self) {
        self.stop.store(true, Relaxed);
        if let Some(ended) = self.ended {
            _ = tokio::time::timeout(CLOSE_TIMEOUT, ended).await;
        }
    }
}
