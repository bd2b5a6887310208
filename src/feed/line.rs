//! Lines: one item with its number, as one JSON object.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    changes::{Changes, is_zero},
    newer,
};
use crate::telemetry::{Event, LogRecord, RecentFailures, Snapshot};

/// What one line says.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// The whole state of the server.
    Snapshot(Box<Snapshot>),
    /// What has changed since the state of the last [`Snapshot`](Self::Snapshot) or `Changes`.
    Changes(Box<Changes>),
    /// A lifecycle event.
    Event(Event),
    /// A record of the server's log.
    Log(LogRecord),
    /// Items were dropped before this one.
    Missed(Missed),
}

/// How many items were dropped, because the consumer took them more slowly than they came. The next state contains the
/// effects of missed events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Missed {
    /// The number of lifecycle events.
    #[serde(skip_serializing_if = "is_zero")]
    pub events: u64,
    /// The number of log records.
    #[serde(skip_serializing_if = "is_zero")]
    pub log: u64,
}

/// One line: an item with its number.
///
/// A struct of options and not a tagged enum, which serde would have to buffer before it knows the type: a snapshot of
/// ten thousand streams is two megabytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The id of the request that the line answers; `None` in a recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// When the line was written: wall-clock milliseconds since the Unix epoch. Only in a recording, for states and
    /// missed items: events and log records have a time of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// The number of the item: one more than that of the item before. Only a snapshot may follow a gap.
    pub seq: u64,
    /// [`Item::Snapshot`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snapshot: Option<Box<Snapshot>>,
    /// [`Item::Changes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changes: Option<Box<Changes>>,
    /// [`Item::Event`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<Event>,
    /// [`Item::Log`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<LogRecord>,
    /// [`Item::Missed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    missed: Option<Missed>,
    /// The refusals and failures before the first state, beside that. Not in a recording, which has their events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recent: Option<Box<RecentFailures>>,
    /// How many rows of its state were left out, because a newer version has written them.
    #[serde(skip)]
    pub(super) unknown_rows: u64,
}

/// The frame of a line whose item is not understood.
#[derive(Deserialize)]
struct LineFrame {
    /// [`Line::id`].
    #[serde(default)]
    id: Option<u64>,
    /// [`Line::at`].
    #[serde(default)]
    at: Option<u64>,
    /// [`Line::seq`]: a line without it is none of these.
    seq: u64,
    /// Without these a consumer knows nothing of the state any more: a line that has one must be understood.
    #[serde(default)]
    snapshot: Option<serde::de::IgnoredAny>,
    /// As [`snapshot`](Self::snapshot).
    #[serde(default)]
    changes: Option<serde::de::IgnoredAny>,
}

impl Line {
    /// Returns the line of an item.
    pub fn new(seq: u64, item: Item) -> Self {
        let mut line = Self { seq, ..Self::default() };
        match item {
            Item::Snapshot(snapshot) => line.snapshot = Some(snapshot),
            Item::Changes(changes) => line.changes = Some(changes),
            Item::Event(event) => line.event = Some(event),
            Item::Log(record) => line.log = Some(record),
            Item::Missed(missed) => line.missed = Some(missed),
        }
        line
    }

    /// Returns the line with the refusals and failures before its state.
    pub fn with_recent(self, recent: Option<Box<RecentFailures>>) -> Self {
        Self { recent, ..self }
    }

    /// Returns the item; `None` if it is of a kind that this version does not know.
    pub fn into_item(self) -> Option<Item> {
        let Self { snapshot, changes, event, log, missed, .. } = self;
        snapshot
            .map(Item::Snapshot)
            .or_else(|| changes.map(Item::Changes))
            .or_else(|| event.map(Item::Event))
            .or_else(|| log.map(Item::Log))
            .or_else(|| missed.map(Item::Missed))
    }

    /// Returns the event, if the line is one.
    pub fn event(&self) -> Option<&Event> {
        self.event.as_ref()
    }

    /// Returns the log record, if the line is one.
    pub fn log(&self) -> Option<&LogRecord> {
        self.log.as_ref()
    }

    /// Returns the line as JSON, without a line feed.
    ///
    /// # Errors
    /// None with the types of this crate; a map with keys that are no text would be one.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// Parses a line. An event, or an item, of a kind that this version does not know becomes a line without an item,
    /// and a state is without the rows that have a word which this version does not know.
    ///
    /// # Errors
    /// The line is no JSON object, it has no number, or its state is not understood.
    pub fn parse(json: &[u8]) -> serde_json::Result<Self> {
        let error = match serde_json::from_slice(json) {
            Ok(line) => return Ok(line),
            Err(error) => error,
        };
        match serde_json::from_slice(json) {
            Ok(LineFrame { id, at, seq, snapshot: None, changes: None }) => {
                Ok(Self { id, at, seq, ..Self::default() })
            }
            // Parsed once more, row by row.
            Ok(_) if newer::is_unknown_word(&error) => {
                let mut fields: Map<String, Value> = serde_json::from_slice(json)?;
                let unknown_rows = newer::remove_unknown_rows(&mut fields)?;
                let line: Self = serde_json::from_value(Value::Object(fields))?;
                Ok(Self { unknown_rows, ..line })
            }
            _ => Err(error),
        }
    }
}
