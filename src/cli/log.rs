//! The log of the program: into the cockpit, or to stderr without ever blocking the tunnel.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use signal_hook::consts::SIGTTOU;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, reload, util::SubscriberInitExt};

use super::args::LogArgs;
use crate::{
    runtime::ignore_signal,
    telemetry::{LogBroadcast, LogRing},
    tui,
};

/// Where log records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogDestination {
    /// Into the log ring and tui-logger, which the cockpit's log screen shows.
    Cockpit,
    /// To stderr, one line for each record.
    Stderr,
}

/// The maximum number of log lines queued for stderr. A reader of stderr that stalls must not stall the tunnel: further
/// lines are dropped.
const MAX_QUEUED_LINES: usize = 8192;

/// How long the writer thread sleeps after each write, so that the next one takes many lines. While each user
/// connection logged two lines, of which one is left, waking the writer and writing for each took a third of the CPU
/// that a short connection costs the server.
const WRITE_INTERVAL: Duration = Duration::from_millis(20);

/// How many bytes of log lines are written at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long the writer may still take for what it is writing when the program ends.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Stderr behind a buffer of 64 KiB, which the log's writer thread writes with one system call when its queue is
/// empty or the buffer is full. A stderr that is not read blocks that thread; log lines beyond [`MAX_QUEUED_LINES`]
/// are then dropped. Lines that cannot be written, because stderr is a closed pipe or a full device, are dropped too:
/// the thread would keep an error to itself, and with it the request to end, for which the program would wait in vain.
struct BatchedStderr {
    /// Lines that are not written yet.
    buffer: Vec<u8>,
    /// Whether the writer thread is in write(2), shared with the [`LogGuard`].
    is_writing: Arc<AtomicBool>,
}

impl BatchedStderr {
    /// Writes the buffer to stderr and empties it.
    fn write_buffer(&mut self) {
        self.is_writing.store(true, Relaxed);
        _ = io::stderr().write_all(&self.buffer);
        self.is_writing.store(false, Relaxed);
        self.buffer.clear();
    }
}

impl Write for BatchedStderr {
    /// Appends bytes to the buffer; before, writes the buffer to stderr if it is full. May block the writer thread,
    /// never the tunnel.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.write_buffer();
        }
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Writes the buffer out and sleeps. The writer thread calls this when its queue is empty.
    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.write_buffer();
            thread::sleep(WRITE_INTERVAL);
        }
        Ok(())
    }
}

/// Replaces the filter of the log.
pub(super) struct LogFilter(Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl LogFilter {
    /// Replaces the filter by the one with this text, for all records from now on. One that is none, which the command
    /// line has refused before, is logged.
    pub(super) fn replace(&self, text: &str) {
        let replaced = parse_filter(text).and_then(|filter| Ok((self.0)(filter)?));
        if let Err(error) = replaced {
            tracing::error!("the filter of the log stays as it is: {error:#}");
        }
    }
}

/// Parses a filter, and adds what no filter of the operator has to say.
fn parse_filter(text: &str) -> anyhow::Result<EnvFilter> {
    let filter: EnvFilter = text.parse().map_err(|_| anyhow::anyhow!("«{text}» is no log filter"))?;
    // It logs each certificate that does not verify as an error, which the caller reports with what to do, if it is
    // one.
    Ok(filter.add_directive("rustls_platform_verifier=off".parse().context("invalid log filter")?))
}

/// Keeps the log writer alive. Dropping it writes the queued lines, for at most two seconds.
#[derive(Debug, Default)]
pub(super) struct LogGuard {
    /// Ends the writer thread when it is dropped; `None` if the log goes to the cockpit.
    worker: Option<WorkerGuard>,
    /// Whether the writer thread is in write(2).
    is_writing: Arc<AtomicBool>,
}

impl Drop for LogGuard {
    /// Waits until the queued lines are written, unless stderr takes none.
    fn drop(&mut self) {
        let deadline = Instant::now() + LAST_WRITE_TIMEOUT;
        while self.is_writing.load(Relaxed) {
            if Instant::now() >= deadline {
                // Dropping the guard would wait for another second, and where the queue is full print to stdout, which
                // panics if stdout is a closed pipe.
                return std::mem::forget(self.worker.take());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Installs the global `tracing` subscriber. May be called once in a process. `ring` receives the records only if they
/// go to the cockpit; those who watch through the control socket read `broadcast`. Returns the means to replace the
/// filter, too.
pub(super) fn init(
    destination: LogDestination,
    args: &LogArgs,
    ring: &LogRing,
    broadcast: &LogBroadcast,
) -> anyhow::Result<(LogGuard, LogFilter)> {
    let (filter, handle) = reload::Layer::new(parse_filter(&args.log)?);
    let replace = LogFilter(Box::new(move |filter| handle.reload(filter)));
    // The layers format every record they are given, so the filter encloses them.
    let registry = tracing_subscriber::registry().with(filter).with(broadcast.clone());
    match destination {
        LogDestination::Cockpit => {
            registry.with(tui::LogLayer::new(ring.clone())).init();
            Ok((LogGuard::default(), replace))
        }
        LogDestination::Stderr => {
            // A process in the background of a terminal with `stty tostop` would be stopped by its first line.
            ignore_signal(SIGTTOU);
            let is_writing = Arc::<AtomicBool>::default();
            let (writer, worker) = NonBlockingBuilder::default()
                .buffered_lines_limit(MAX_QUEUED_LINES)
                .lossy(true)
                .finish(BatchedStderr { buffer: Vec::new(), is_writing: is_writing.clone() });
            let has_colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            registry.with(args.log_format.layer(writer, has_colours)).init();
            Ok((LogGuard { worker: Some(worker), is_writing }, replace))
        }
    }
}
