//! What every subcommand needs of the process: worker threads, and the cockpit on its own thread.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::Context;
use signal_hook::consts::SIGHUP;
use tokio::sync::oneshot;

use super::{args::WorkerArgs, detach, log::LogDestination, output, terminal};
#[cfg(debug_assertions)]
use crate::{
    control::{Capabilities, Command, CommandError},
    tui::{CommandId, PollRequest, SourceUpdate},
};
use crate::{
    runtime::{WorkerThreads, Workers, is_signal_ignored},
    server::ShutdownSignals,
    tui::{self, Exit, Labels, Settings, Source},
};

/// How long to wait for the cockpit to restore the terminal. While output is stopped (`^S`), it cannot.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long restoring the terminal may take if the cockpit did not do it itself.
pub(super) const RESTORE_TIMEOUT: Duration = Duration::from_millis(200);

/// Starts the worker threads, runs `main` on the first one, which is this thread, and ends them. Without a number, the
/// number follows from the number of CPU cores.
pub(super) fn run<T>(
    args: &WorkerArgs,
    main: impl AsyncFnOnce(Workers) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let count = args.workers.map_or_else(Workers::default_count, |count| count as usize);
    let (runtime, threads) =
        WorkerThreads::start(count, !args.no_busy_poll).context("cannot start the worker threads")?;
    let result = runtime.block_on(main(threads.workers()));
    threads.shut_down(runtime);
    result
}

/// A source that panics at the first command if the environment variable `UNDERPASS_PANIC` says so, for the tests of
/// the cockpit: on the cockpit's thread, or on another one. Release builds do not contain this.
#[cfg(debug_assertions)]
#[derive(Debug)]
struct PanickingSource {
    /// The source that executes the commands.
    source: Box<dyn Source>,
    /// Whether the panic has happened.
    has_panicked: bool,
}

#[cfg(debug_assertions)]
impl Source for PanickingSource {
    fn capabilities(&self) -> Capabilities {
        self.source.capabilities()
    }

    fn try_send(&mut self, id: CommandId, command: Command) -> Result<(), CommandError> {
        match std::env::var("UNDERPASS_PANIC").as_deref() {
            Ok(_) if std::mem::replace(&mut self.has_panicked, true) => {}
            Ok("cockpit") => panic!("asked for"),
            Ok("task") => drop(thread::spawn(|| panic!("asked for")).join()),
            _ => {}
        }
        self.source.try_send(id, command)
    }

    fn poll(&mut self, request: PollRequest<'_>, deliver: &mut dyn FnMut(SourceUpdate<'_>)) {
        self.source.poll(request, deliver);
    }
}

/// The cockpit on its own thread, or nothing if the log goes to stderr.
#[derive(Debug)]
pub(super) struct Cockpit {
    /// Set to make the cockpit restore the terminal and end.
    stop: Arc<AtomicBool>,
    /// The command that shows the server again after `:detach`.
    attach: String,
    /// Receives how the cockpit ended; `None` where it was not started, or its end was received already.
    ended: Option<oneshot::Receiver<Result<Exit, tui::Error>>>,
}

impl Cockpit {
    /// Starts the cockpit if it is the destination of the log. A drain that the operator requests there is requested
    /// from
    /// `shutdown`.
    pub(super) fn open(
        destination: LogDestination,
        source: Box<dyn Source>,
        (labels, settings): (Labels, Settings),
        shutdown: &ShutdownSignals,
    ) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        if destination == LogDestination::Stderr {
            return Ok(Self { stop, attach: String::new(), ended: None });
        }
        #[cfg(debug_assertions)]
        let source = Box::new(PanickingSource { source, has_panicked: false });
        let drain = shutdown.drain.clone();
        let attach = labels.attach.clone().unwrap_or_default();
        let options = tui::Options {
            source,
            labels,
            settings,
            ignored_signals: terminal::ignored_signals(),
            stop: stop.clone(),
            on_drain: Some(Box::new(move || drain.cancel())),
        };
        let (sender, ended) = oneshot::channel();
        thread::Builder::new()
            .name("cockpit".to_owned())
            // Sending fails if the program has ended already.
            .spawn(move || _ = sender.send(tui::run(options)))
            .context("cannot start the cockpit")?;
        Ok(Self { stop, attach, ended: Some(ended) })
    }

    /// Turns the end of the cockpit into a shutdown. Never completes, because the caller waits for the end of the
    /// server.
    ///
    /// If the cockpit fails, the server continues without it.
    pub(super) async fn follow(&mut self, shutdown: &ShutdownSignals) {
        if let Some(ended) = &mut self.ended {
            let exit = ended.await;
            self.ended = None;
            match exit {
                Ok(Ok(Exit::Quit | Exit::Now)) => shutdown.abort.cancel(),
                Ok(Ok(Exit::Detached)) => detach::leave_terminal(&self.attach).await,
                // As under `nohup`: the operator wants the program to outlive its terminal.
                Ok(Ok(Exit::TerminalGone)) if is_signal_ignored(SIGHUP) => {
                    tracing::warn!("the terminal is gone; the server continues without the cockpit");
                }
                Ok(Ok(Exit::Drain | Exit::Stopped | Exit::TerminalGone)) => shutdown.drain.cancel(),
                Ok(Err(error)) => {
                    output::complain(format_args!("{error}; the server continues without the cockpit"));
                }
                // The thread ended without a result: it panicked outside of the cockpit's own panic handler.
                Err(_) => {
                    output::complain("the cockpit thread panicked; the server continues without it");
                }
            }
        }
        std::future::pending().await
    }

    /// Stops the cockpit and waits until it has restored the terminal, for at most a second.
    pub(super) async fn close(self) {
        self.stop.store(true, Relaxed);
        if let Some(ended) = self.ended
            && tokio::time::timeout(CLOSE_TIMEOUT, ended).await.is_err()
        {
            // The cockpit is blocked, probably because the terminal takes no output; then this blocks too.
            let restored = tokio::task::spawn_blocking(tui::restore_terminal);
            _ = tokio::time::timeout(RESTORE_TIMEOUT, restored).await;
        }
    }
}
