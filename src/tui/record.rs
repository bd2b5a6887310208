//! The log, a second time, as text that can be looked through. tui-logger shows levels and targets, but of what its
//! formatter leaves out it still counts a line: where that is the newest one, its widget panics in a debug build, and
//! counts wrong in a release build.

use std::{collections::VecDeque, fmt, time::SystemTime};

use parking_lot::Mutex;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};
use tui_logger::TuiTracingSubscriberLayer as Widgets;

/// How many log records the cockpit keeps, and how many it accepts between two samples; the oldest are dropped.
pub(super) const MAX_RECORDS: usize = 5000;

/// What was logged since the cockpit looked last. One for the process, as the subscriber is.
static WAITING: Mutex<VecDeque<LogRecord>> = Mutex::new(VecDeque::new());

/// One line of the log.
#[derive(Debug, Clone)]
pub(crate) struct LogRecord {
    pub(crate) at: SystemTime,
    pub(crate) level: Level,
    pub(crate) target: &'static str,
    pub(crate) text: String,
}

/// Brings what the program logs into the cockpit. It formats whatever it is given, so a filter goes around it.
#[derive(Debug, Clone, Copy)]
pub struct LogLayer;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn on_new_span(&self, attrs: &span::Attributes<'_>, id: &span::Id, ctx: Context<'_, S>) {
        Widgets.on_new_span(attrs, id, ctx);
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let record = LogRecord { at: SystemTime::now(), level, target, text: text.0 };
        push_bounded(&mut WAITING.lock(), record);
        Widgets.on_event(event, ctx);
    }
}

/// Adds one, in the place of the oldest where there are enough.
pub(super) fn push_bounded(records: &mut VecDeque<LogRecord>, record: LogRecord) {
    if records.len() == MAX_RECORDS {
        records.pop_front();
    }
    records.push_back(record);
}

/// What was logged since the last time, the oldest first.
pub(super) fn take() -> VecDeque<LogRecord> {
    std::mem::take(&mut *WAITING.lock())
}

/// The message, then whatever else an event has.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        // Writing to a string does not fail.
        _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}: {value:?}"),
        };
    }
}
