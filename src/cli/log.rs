//! The log of the program: into the cockpit, or to stderr without ever blocking the tunnel.

use std::{
    io::{self, BufWriter, IsTerminal, Stderr, Write},
    thread,
    time::Duration,
};

use anyhow::Context;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{telemetry::LogRing, tui};

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

/// How long the writer thread sleeps after each write, so that the next one takes many lines. Each user connection logs
/// two lines; waking the writer and writing for each one took a third of the CPU that a short connection costs the
/// server.
const WRITE_INTERVAL: Duration = Duration::from_millis(20);

/// Stderr behind a buffer of 64 KiB, which the log's writer thread writes with one system call when its queue is
/// empty or the buffer is full. A stderr that is not read blocks that thread; log lines beyond [`MAX_QUEUED_LINES`]
/// are then dropped.
struct BatchedStderr(BufWriter<Stderr>);

impl Write for BatchedStderr {
    /// Appends bytes to the buffer; writes the buffer to stderr if it is full. May block the writer thread, never the
    /// tunnel.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    /// Writes the buffer out and sleeps. The writer thread calls this when its queue is empty.
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()?;
        thread::sleep(WRITE_INTERVAL);
        Ok(())
    }
}

/// Keeps the log writer alive. Dropping it writes the queued lines, for at most a second.
#[derive(Debug)]
pub(super) struct LogGuard(#[expect(dead_code, reason = "held for its drop")] Option<WorkerGuard>);

/// Installs the global `tracing` subscriber. May be called once in a process. `ring` receives the records only if they go
/// to the cockpit.
pub(super) fn init(destination: LogDestination, filter: &str, ring: &LogRing) -> anyhow::Result<LogGuard> {
    let filter: EnvFilter = filter.parse().with_context(|| format!("invalid log filter \"{filter}\""))?;
    let registry = tracing_subscriber::registry();
    match destination {
        // The layer formats every record it is given, so the filter encloses it.
        LogDestination::Cockpit => {
            registry.with(tui::LogLayer::new(ring.clone()).with_filter(filter)).init();
            Ok(LogGuard(None))
        }
        LogDestination::Stderr => {
            let (writer, guard) = NonBlockingBuilder::default()
                .buffered_lines_limit(MAX_QUEUED_LINES)
                .lossy(true)
                .finish(BatchedStderr(BufWriter::with_capacity(64 * 1024, io::stderr())));
            let lines = tracing_subscriber::fmt::layer()
                .with_writer(writer)
                .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
            registry.with(filter).with(lines).init();
            Ok(LogGuard(Some(guard)))
        }
    }
}
