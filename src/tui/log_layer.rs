//! The log of the cockpit's process: one `tracing` layer that feeds both the log ring and tui-logger.
//!
//! tui-logger is used for the log screen's target and level selector (`TuiLoggerTargetWidget`) and for the unfiltered
//! list (`TuiLoggerWidget`), which share its widget state. Searching the text of records, the log lines of one stream
//! and the export read the [`LogRing`]: tui-logger counts a line also for a record that its formatter leaves out, and
//! where that is the newest one, its widget panics in a debug build and miscounts in a release build.

use tracing::{Event, Subscriber, span};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};
use tui_logger::TuiTracingSubscriberLayer;

use crate::telemetry::LogRing;

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

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    /// Passes a new span to tui-logger's layer, which keeps the span's fields for its records.
    fn on_new_span(&self, attrs: &span::Attributes<'_>, id: &span::Id, ctx: Context<'_, S>) {
        TuiTracingSubscriberLayer.on_new_span(attrs, id, ctx);
    }

    /// Appends a log record to the ring and to tui-logger's buffer.
    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        self.0.on_event(event, ctx.clone());
        TuiTracingSubscriberLayer.on_event(event, ctx);
    }
}
