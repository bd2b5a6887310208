use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// Where the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    /// Into the cockpit.
    Cockpit,
    /// To stderr, a line each.
    Stderr,
}

/// Opens the log. Once in a process.
pub(super) fn init(log: Log, filter: &str) -> anyhow::Result<()> {
    let filter: EnvFilter = filter.parse().with_context(|| format!("«{filter}» is no filter for the log"))?;
    let registry = tracing_subscriber::registry();
    match log {
        // The layer formats before it filters, so the filter goes around it.
        Log::Cockpit => registry.with(tui_logger::TuiTracingSubscriberLayer.with_filter(filter)).init(),
        Log::Stderr => {
            let lines = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
            registry.with(filter).with(lines).init();
        }
    }
    Ok(())
}
