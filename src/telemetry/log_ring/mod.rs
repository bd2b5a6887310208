//! The log ring: the newest log records of the process, for a reader that shows them later.
//!
//! A [`LogRing`] is a `tracing` layer and the buffer behind it. It is an ordinary object and no global: the program
//! that installs the layer passes a clone to the reader. A full ring discards its oldest record, so logging never waits
//! for the reader.

use std::{borrow::Cow, collections::VecDeque, fmt, sync::Arc};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use super::clock;

#[cfg(test)]
mod tests;

/// The log target of lifecycle events.
pub const LIFECYCLE_TARGET: &str = "lifecycle";

/// The severity of a log record, the most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// An operation failed and an operator should act.
    Error,
    /// Something failed that the program recovers from.
    Warn,
    /// Normal operation: lifecycle events and commands.
    Info,
    /// Detail for debugging.
    Debug,
    /// The finest detail.
    Trace,
}

impl LogLevel {
    /// Returns the level in capitals, as log lines show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
            Self::Trace => "TRACE",
        }
    }
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warn,
            Level::INFO => Self::Info,
            Level::DEBUG => Self::Debug,
            Level::TRACE => Self::Trace,
        }
    }
}

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// When the record was logged: wall-clock milliseconds since the Unix epoch.
    pub epoch_ms: u64,
    /// The severity of the record.
    pub level: LogLevel,
    /// The part of the program that logged it, such as `lifecycle` or `underpass::proxy`.
    pub target: Cow<'static, str>,
    /// The message, followed by the other fields as ` name=value`, as in the log on stderr. It may quote a peer: a
    /// screen must strip control characters.
    pub text: String,
}

impl LogRecord {
    /// Returns a record of a `tracing` event that is logged now.
    pub fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        // The message of a lifecycle event says what its fields say again for machines.
        let mut text =
            FieldText { text: String::new(), is_message_only: metadata.target() == LIFECYCLE_TARGET };
        event.record(&mut text);
        Self {
            epoch_ms: clock::epoch_ms(),
            level: (*metadata.level()).into(),
            target: Cow::Borrowed(metadata.target()),
            text: text.text,
        }
    }
}

/// A bounded buffer of log records; clones share it. As a `tracing` layer it appends each event it is given. It does
/// not filter by itself: install it behind a filter.
#[derive(Debug, Clone, Default)]
pub struct LogRing(Arc<Mutex<VecDeque<LogRecord>>>);

impl LogRing {
    /// The maximum number of records in the ring: so many may be logged between two reads without a loss. The cockpit
    /// reads ten times a second, except while its display is frozen.
    pub const CAPACITY: usize = 5000;

    /// Returns an empty ring.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a record; discards the oldest one if the ring is full.
    pub fn push(&self, record: LogRecord) {
        let mut records = self.0.lock();
        if records.len() == Self::CAPACITY {
            records.pop_front();
        }
        records.push_back(record);
    }

    /// Removes and returns all records, the oldest first.
    pub fn drain(&self) -> VecDeque<LogRecord> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl<S: Subscriber> Layer<S> for LogRing {
    /// Appends the event as a record to the ring.
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.push(LogRecord::of(event));
    }
}

/// Sends log records to any number of readers, each of which may be slow: one that lags loses the oldest. As a
/// `tracing` layer it formats an event only while there is a reader. It does not filter by itself: install it behind a
/// filter.
#[derive(Debug, Clone)]
pub struct LogBroadcast(broadcast::Sender<LogRecord>);

impl Default for LogBroadcast {
    fn default() -> Self {
        Self(broadcast::Sender::new(Self::CAPACITY))
    }
}

impl LogBroadcast {
    /// How many records a reader may lag behind before it loses some.
    pub const CAPACITY: usize = 1024;

    /// Returns a reader of the records from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<LogRecord> {
        self.0.subscribe()
    }
}

impl<S: Subscriber> Layer<S> for LogBroadcast {
    /// Sends the event as a record to the readers, if there are any.
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if self.0.receiver_count() > 0 {
            // An error only means that the last one has gone.
            _ = self.0.send(LogRecord::of(event));
        }
    }
}

/// Formats the fields of an event: the message first, then ` name=value` for each other field, as the
/// log on stderr has them: one search finds a record in both.
struct FieldText {
    /// The text so far.
    text: String,
    /// Whether all fields but the message are left out.
    is_message_only: bool,
}

impl Visit for FieldText {
    /// Appends one field of the event to the text.
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        // Writing to a string does not fail.
        _ = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            _ if self.is_message_only => Ok(()),
            name => write!(self.text, " {name}={value:?}"),
        };
    }
}
