use std::{collections::VecDeque, time::Instant};

use super::{History, Row, RowId};
use crate::{
    ids::StreamKey,
    telemetry::{Event, EventKind},
};

/// How many events about streams are remembered.
const JOURNAL: usize = 4000;

/// One stream, looked at closely. Its curve begins when it is opened: nobody looks at ten thousand curves.
#[derive(Debug, Clone)]
pub(crate) struct Detail {
    pub(crate) row: RowId,
    pub(crate) key: StreamKey,
    pub(crate) history: History,
}

impl Detail {
    pub(crate) fn new(row: RowId, key: StreamKey) -> Self {
        Self { row, key, history: History::default() }
    }

    /// Notes where the stream stands.
    pub(crate) fn note(&mut self, row: &Row, now: Instant) {
        if row.is_live() {
            self.history.note(now, row.down, row.up);
        }
    }
}

/// What happened to streams lately.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal(VecDeque<Event>);

impl Journal {
    pub(crate) fn note(&mut self, event: &Event) {
        if event.kind.stream_key().is_some() {
            if self.0.len() == JOURNAL {
                self.0.pop_front();
            }
            self.0.push_back(event.clone());
        }
    }

    /// What happened to the newest stream with this key.
    pub(crate) fn of(&self, key: StreamKey) -> Vec<&Event> {
        let mut events: Vec<&Event> =
            self.0.iter().filter(|event| event.kind.stream_key() == Some(key)).collect();
        // The key may have belonged to an earlier stream.
        let begins = |event: &&Event| matches!(event.kind, EventKind::StreamOpened { .. });
        if let Some(at) = events.iter().rposition(begins) {
            events.drain(..at);
        }
        events
    }
}
