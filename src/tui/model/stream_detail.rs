use std::{collections::VecDeque, time::Instant};

use super::{RateHistory, RowId, StreamRow};
use crate::{
    ids::StreamKey,
    telemetry::{Event, EventKind, StreamDetails},
};

/// How many events about streams, and about outages of those that carry them, are remembered.
const JOURNAL: usize = 4000;

/// One stream, looked at closely. What costs too much to know of every stream is known of this one.
#[derive(Debug, Clone)]
pub(crate) struct StreamDetail {
    pub(crate) row: RowId,
    pub(crate) key: StreamKey,
    /// Begins with the seconds that its row remembered.
    pub(crate) history: RateHistory,
    /// How it flows; the last that was known, where it has ended.
    pub(crate) flow: Option<StreamDetails>,
}

impl StreamDetail {
    /// `second` is when rows last noted a second of their past.
    pub(crate) fn new(id: RowId, row: StreamRow<'_>, second: Option<Instant>, now: Instant) -> Self {
        let until = row.ended.as_ref().map(|ended| ended.at).or(second).unwrap_or(now);
        // Since then it went on as fast as it goes now, as far as anybody knows.
        let seconds = now.saturating_duration_since(until).as_secs_f32();
        let then = |bytes: u64, rate: f32| bytes.saturating_sub((rate * seconds) as u64);
        let carried =
            (then(row.figures.down, row.figures.down_rate), then(row.figures.up, row.figures.up_rate));
        let history = RateHistory::begun(&row.trend, until, carried);
        Self { row: id, key: row.key, history, flow: None }
    }

    /// Notes where the stream stands.
    pub(crate) fn note(&mut self, row: StreamRow<'_>, details: Option<&StreamDetails>, now: Instant) {
        if row.is_live() {
            self.history.note(now, row.figures.down, row.figures.up);
        }
        if let Some(details) = details {
            self.flow = Some(details.clone());
        }
    }
}

/// What happened to streams and to those that carry them lately.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventJournal(VecDeque<Event>);

impl EventJournal {
    pub(crate) fn push(&mut self, event: &Event) {
        let others = matches!(
            event.kind,
            EventKind::OperatorActed { .. }
                | EventKind::GracePeriodStarted { .. }
                | EventKind::ProxyResumed { .. }
        );
        if others || event.kind.stream_key().is_some() {
            if self.0.len() == JOURNAL {
                self.0.pop_front();
            }
            self.0.push_back(event.clone());
        }
    }

    /// What happened to, and what the operator did to, the newest stream with this key; and what happened to its proxy
    /// meanwhile.
    pub(crate) fn of(&self, key: StreamKey) -> Vec<&Event> {
        let name = key.to_string();
        let (mut carrier, mut over, mut events) = (None, false, Vec::new());
        for event in &self.0 {
            let about = match &event.kind {
                // What was done to it is told by its name.
                EventKind::OperatorActed { what } => what.split_whitespace().any(|word| word == name),
                EventKind::GracePeriodStarted { proxy, .. } | EventKind::ProxyResumed { proxy, .. } => {
                    carrier == Some(*proxy) && !over
                }
                kind => kind.stream_key() == Some(key),
            };
            if !about {
                continue;
            }
            match event.kind {
                // The key may have belonged to an earlier stream.
                EventKind::StreamOpened { .. } => {
                    events.clear();
                    (carrier, over) = (None, false);
                }
                EventKind::StreamAssigned { proxy, .. } => carrier = Some(proxy),
                EventKind::StreamEnded { .. } => over = true,
                _ => {}
            }
            events.push(event);
        }
        events
    }
}
