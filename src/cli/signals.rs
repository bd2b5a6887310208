//! The signals that ask the process to end, SIGINT, SIGTERM and SIGHUP; and SIGHUP where it asks for something else.
//!
//! SIGHUP has two meanings: the terminal is gone, and, for a service, "read your files again". A server without a
//! controlling terminal cannot lose one, so that only the second meaning is left. With one, the first is more likely,
//! and it would be wrong to continue: a shell that ends sends the signal before the terminal is gone, so that looking
//! for the terminal then would not tell. Under `nohup` SIGHUP stays ignored; changed files are found without it.
//!
//! The signals that end the process are handled by a thread of their own. Whatever blocks a worker thread, the cockpit
//! or the main thread, the second signal ends the process.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::Context;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
    low_level::{emulate_default_handler, pipe, signal_name},
};
use tokio::sync::watch;

use super::{host::RESTORE_TIMEOUT, output};
use crate::{config::ServerConfig, runtime::is_signal_ignored, server::ShutdownSignals, tui};

/// How long the process may take to abort its streams after the second signal, before it ends without. Longer than the
/// clean-up of the server, which tells proxies and users.
const ABORT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the process may take to end after its drain timeout, or the default one if that is longer, before it ends
/// without: where a terminal or a pipe takes no output, or the machine has no time for it. With the default drain
/// timeout and [`RESTORE_TIMEOUT`] this is less than the 10 s after which `docker stop` kills.
const CLEANUP_TIMEOUT: Duration = Duration::from_millis(1700);

/// What SIGHUP means for this process.
#[derive(Debug)]
pub(super) enum Hangup {
    /// The terminal is gone: a drain, as by SIGTERM.
    End,
    /// The files of the operator are to be read again: this changes.
    Reload(watch::Sender<()>),
}

impl Hangup {
    /// Returns what SIGHUP means for a process that has files to read again: [`Reload`](Self::Reload) without a
    /// controlling terminal. Returns what changes then, too.
    pub(super) fn of_service() -> (Self, watch::Receiver<()>) {
        let (sender, receiver) = watch::channel(());
        let has_terminal = File::open("/dev/tty").is_ok();
        (if has_terminal { Self::End } else { Self::Reload(sender) }, receiver)
    }
}

/// Installs handlers for the signals that ask the process to end, from now on until it ends, and turns them into a
/// shutdown: the first one starts a drain, the second one aborts. If the process has not ended [`CLEANUP_TIMEOUT`]
/// after `drain_timeout`, or the default one if that is longer, which began with the first one, or [`ABORT_TIMEOUT`]
/// after the second one, or if there is a third one, it dies of that signal, with the terminal restored.
///
/// A signal that is ignored now stays ignored, as the parent process wanted it: SIGHUP under `nohup`, SIGINT of a
/// background command of a shell without job control.
///
/// # Errors
/// The handlers or their threads cannot be created.
pub(super) fn follow(
    shutdown: ShutdownSignals,
    drain_timeout: Duration,
    hangup: Hangup,
) -> anyhow::Result<()> {
    let failed = "cannot install the handlers of SIGINT, SIGTERM and SIGHUP";
    let ending: &[_] = match hangup {
        Hangup::End => &[SIGINT, SIGTERM, SIGHUP],
        Hangup::Reload(reload) => {
            let signals = ReceivedSignals::listen(&[SIGHUP]).context(failed)?;
            // Signals are not counted: files that are read once have their newest content.
            spawn("reload", move || signals.for_each(|_| _ = reload.send(()))).context(failed)?;
            &[SIGINT, SIGTERM]
        }
    };
    let signals = ReceivedSignals::listen(ending).context(failed)?;
    // The thread is not joined: it has to watch the end of everything else, also of the process itself.
    spawn("signals", move || dispatch(signals, &shutdown, drain_timeout))
        .context("cannot start the thread of the signals")
}

/// The signals that this process has received. Each is counted: two that arrive before the thread runs, which may take
/// a second on a busy machine, are two.
struct ReceivedSignals {
    /// The number of the last signal.
    last: Arc<AtomicUsize>,
    /// One byte for each signal.
    bytes: UnixStream,
}

impl ReceivedSignals {
    /// Installs the handlers of those of `signals` that are not ignored.
    fn listen(signals: &[i32]) -> io::Result<Self> {
        let (bytes, write) = UnixStream::pair()?;
        let last = Arc::<AtomicUsize>::default();
        for &signal in signals.iter().filter(|&&signal| !is_signal_ignored(signal)) {
            // Before the byte, so that it is set when the thread reads that.
            flag::register_usize(signal, last.clone(), signal.unsigned_abs() as usize)?;
            pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Self { last, bytes })
    }
}

impl Iterator for ReceivedSignals {
    type Item = i32;

    /// Waits for the next signal and returns its number.
    fn next(&mut self) -> Option<i32> {
        self.bytes.read_exact(&mut [0]).ok()?;
        i32::try_from(self.last.load(SeqCst)).ok()
    }
}

/// Turns signals into a shutdown, until the process ends.
fn dispatch(signals: ReceivedSignals, shutdown: &ShutdownSignals, drain_timeout: Duration) {
    for (count, signal) in signals.enumerate() {
        match count {
            // The operator has ended the program from the cockpit already, and it has not ended.
            0 if shutdown.abort.is_cancelled() => end_after(ABORT_TIMEOUT, signal),
            0 => {
                shutdown.drain.cancel();
                // Without a thread for it the drain is as well: another signal can follow.
                let drain_timeout = drain_timeout.max(ServerConfig::DEFAULT_DRAIN_TIMEOUT);
                _ = start_timeout(drain_timeout + CLEANUP_TIMEOUT, signal);
            }
            1 => {
                shutdown.abort.cancel();
                end_after(ABORT_TIMEOUT, signal);
            }
            _ => end(signal),
        }
    }
}

/// Ends the process `timeout` from now, if it has not ended by then; at once if no thread can wait for that.
fn end_after(timeout: Duration, signal: i32) {
    if start_timeout(timeout, signal).is_err() {
        end(signal);
    }
}

/// Starts a thread that ends the process `timeout` from now, if it has not ended by then.
fn start_timeout(timeout: Duration, signal: i32) -> io::Result<()> {
    spawn("shutdown timeout", move || {
        thread::sleep(timeout);
        end(signal)
    })
}

/// Restores the terminal and ends the process by the default action of `signal`, so that its parent learns of the
/// signal.
fn end(signal: i32) -> ! {
    let (restored_sender, restored) = mpsc::sync_channel(1);
    // On a thread of its own, because writing to the terminal or to stderr may block.
    let started = spawn("restore terminal", move || {
        tui::restore_terminal();
        output::complain(format_args!("ended by {} at once", signal_name(signal).unwrap_or("a signal")));
        _ = restored_sender.send(());
    });
    if started.is_ok() {
        _ = restored.recv_timeout(RESTORE_TIMEOUT);
    }
    _ = emulate_default_handler(signal);
    std::process::abort()
}

/// Starts a thread that nothing waits for.
fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}
