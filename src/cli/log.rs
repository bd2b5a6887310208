use std::{
    io::{self, BufWriter, IsTerminal, Stderr, Write},
    thread,
    time::Duration,
};

use anyhow::Context;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::tui;

/// Where the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    /// Into the cockpit.
    Cockpit,
    /// To stderr, a line each.
    Stderr,
}

/// How many lines may wait for whoever reads stderr. One who does not must not stop the tunnel: what is beyond is
/// dropped.
const BACKLOG: usize = 8192;

/// How long lines gather before they are written. Each connection has two, and to wake their writer and write for each
/// took a third of what a short connection costs the server.
const GATHER: Duration = Duration::from_millis(20);

/// Writes many lines at once.
struct Lines(BufWriter<Stderr>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    /// Called once no more lines wait.
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()?;
        thread::sleep(GATHER);
        Ok(())
    }
}

/// What keeps the log going; dropped, it writes what still waits, within a second.
#[derive(Debug)]
pub(super) struct Keep(#[expect(dead_code, reason = "held for its drop")] Option<WorkerGuard>);

/// Opens the log. Once in a process.
pub(super) fn init(log: Log, filter: &str) -> anyhow::Result<Keep> {
    let filter: EnvFilter = filter.parse().with_context(|| format!("«{filter}» is no filter for the log"))?;
    let registry = tracing_subscriber::registry();
    match log {
        // The layer formats before it filters, so the filter goes around it.
        Log::Cockpit => {
            registry.with(tui::LogLayer.with_filter(filter)).init();
            Ok(Keep(None))
        }
        Log::Stderr => {
            let (writer, guard) = NonBlockingBuilder::default()
                .buffered_lines_limit(BACKLOG)
                .lossy(true)
                .finish(Lines(BufWriter::with_capacity(64 * 1024, io::stderr())));
            let lines = tracing_subscriber::fmt::layer()
                .with_writer(writer)
                .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
            registry.with(filter).with(lines).init();
            Ok(Keep(Some(guard)))
        }
    }
}
