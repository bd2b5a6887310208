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

use super::log::LogDestination;
use crate::{
    runtime::{WorkerThreads, Workers},
    server::ShutdownSignals,
    tui::{self, Exit, Labels, Settings, Source},
};

/// How long the cockpit may take to give the terminal back. Where the terminal is held (`^S`) it cannot.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs `main` with so many workers, or a good number of them; the first is this thread.
pub(super) fn run<T>(
    workers: Option<u16>,
    main: impl AsyncFnOnce(Workers) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let count = workers.map_or_else(Workers::default_count, usize::from);
    let (runtime, threads) = WorkerThreads::start(count).context("cannot start the worker threads")?;
    runtime.block_on(main(threads.workers()))
}

/// Where the log goes, and with it whether there is a cockpit.
pub(super) fn log_destination(no_tui: bool) -> LogDestination {
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if no_tui || !terminal { LogDestination::Stderr } else { LogDestination::Cockpit }
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
pub(super) async fn follow_signals(mut signals: Signals, shutdown: ShutdownSignals) {
    signals.next().await;
    shutdown.drain.cancel();
    signals.next().await;
    shutdown.abort.cancel();
    std::future::pending().await
}

/// Panics where the tests of the cockpit ask for it: in its own thread, or in one beside it. Builds for release know
/// nothing of this.
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

/// The cockpit on its own thread, or none.
#[derive(Debug)]
pub(super) struct Cockpit {
    stop: Arc<AtomicBool>,
    ended: Option<oneshot::Receiver<Result<Exit, tui::Error>>>,
}

impl Cockpit {
    /// Opens it where the log goes into it. What the operator asks for there becomes a `shutdown`.
    pub(super) fn open(
        destination: LogDestination,
        source: Box<dyn Source>,
        look: (Labels, Settings),
        shutdown: &ShutdownSignals,
    ) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        if destination == LogDestination::Stderr {
            return Ok(Self { stop, ended: None });
        }
        let drain = shutdown.drain.clone();
        let options = tui::Options {
            source,
            labels: look.0,
            settings: look.1,
            stop: stop.clone(),
            on_drain: Some(Box::new(move || {
                #[cfg(debug_assertions)]
                if panic_on_demand() {
                    return;
                }
                drain.cancel();
            })),
        };
        let (tell, ended) = oneshot::channel();
        thread::Builder::new()
            .name("cockpit".to_owned())
            // Nobody waits any more if the program is over already.
            .spawn(move || _ = tell.send(tui::run(options)))
            .context("cannot start the cockpit")?;
        Ok(Self { stop, ended: Some(ended) })
    }

    /// Turns the cockpit's end into a shutdown. Never ready: the server's end is what is waited for.
    pub(super) async fn follow(&mut self, shutdown: &ShutdownSignals) {
        if let Some(ended) = &mut self.ended {
            let how = ended.await;
            self.ended = None;
            match how {
                Ok(Ok(Exit::Quit | Exit::Now)) => shutdown.abort.cancel(),
                Ok(Ok(Exit::Drain | Exit::Stopped | Exit::TerminalGone)) => shutdown.drain.cancel(),
                Ok(Err(error)) => eprintln!("underpass: {error}; it goes on without the cockpit"),
                // Its thread is gone without a word; the server need not go too.
                Err(_) => eprintln!("underpass: the cockpit is gone; it goes on without"),
            }
        }
        std::future::pending().await
    }

    /// Gives the terminal back.
    pub(super) async fn close(self) {
        self.stop.store(true, Relaxed);
        if let Some(ended) = self.ended {
            _ = tokio::time::timeout(PATIENCE, ended).await;
        }
    }
}
