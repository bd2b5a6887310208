//! The log of the cockpit's process: one `tracing` layer that feeds both the log ring and tui-logger.
//!
//! tui-logger is used for the log screen's target and level selector (`TuiLoggerTargetWidget`) and for the unfiltered
//! list (`TuiLoggerWidget`), which share its widget state. Searching the text of records, the log lines of one stream
//! and the export read the [`LogRing`]: tui-logger counts a line also for a record that its formatter leaves out, and
//! where that is the newest one, its widget panics in a debug build and miscounts in a release build.

use tracing::{Event, Subscriber};
use tracing_subscriber::{Layer, layer::Context};
use tui_logger::Drain;

use crate::telemetry::{LogLevel, LogRecord, LogRing};

/// The `tracing` layer that brings the process's log into the cockpit. It formats each record it is given before it
/// filters, so install it behind a filter.
#[derive(Debug, Clone)]
pub struct LogLayer(LogRing);

impl LogLayer {
    /// Returns a layer that appends to `ring`. The cockpit's [`Source`](super::Source) reads the same ring.
    pub fn new(ring: LogRing) -> Self {
        Self(ring)
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    /// Appends a log record to the ring and to tui-logger's buffer, with the same text. tui-logger's own layer would
    /// write the fields as `name: value`, in the order of their names, and so some before the message.
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let record = LogRecord::of(event);
        let level = match record.level {
            LogLevel::Error => log::Level::Error,
            LogLevel::Warn => log::Level::Warn,
            LogLevel::Info => log::Level::Info,
            LogLevel::Debug => log::Level::Debug,
            LogLevel::Trace => log::Level::Trace,
        };
        Drain::new().log(
            &log::Record::builder()
                .args(format_args!("{}", record.text))
                .level(level)
                .target(&record.target)
                .build(),
        );
        self.0.push(record);
    }
}
