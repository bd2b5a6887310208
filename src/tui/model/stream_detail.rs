//! The detail of one stream, and the journal of recent lifecycle events.

use std::{collections::VecDeque, time::Instant};

use super::{ChannelRow, RateHistory, RowId, StreamRow};
use crate::{
    ids::StreamKey,
    telemetry::{Event, EventKind, StreamDetails},
};

/// The number of events that the journal keeps: events of streams, and of outages of their proxies.
const MAX_JOURNAL_EVENTS: usize = 4000;

/// The stream that the detail screen shows, with what would cost too much to keep for every stream.
#[derive(Debug, Clone)]
pub(crate) struct StreamDetail {
    /// The row of the stream in the streams table.
    pub(crate) row: RowId,
    /// The key of the stream.
    pub(crate) key: StreamKey,
    /// The rates of the stream over time; begins with the seconds that its row had kept.
    pub(crate) history: RateHistory,
    /// Flow control, retransmission and latency figures as last sampled; `None` before the first sample.
    pub(crate) flow: Option<StreamDetails>,
    /// The primary channel as it was when the stream was last seen open: the figures of an ended stream do not change.
    /// `None` where the stream had ended before, and while it has no channel.
    pub(crate) channel: Option<ChannelRow>,
}

impl StreamDetail {
    /// Creates the detail of a row. `second` is when rows last recorded a second of their rates.
    pub(crate) fn new(id: RowId, row: StreamRow<'_>, second: Option<Instant>, now: Instant) -> Self {
        let until = row.ended.as_ref().map(|ended| ended.at).or(second).unwrap_or(now);
        // The bytes at that time are not known; assume that the rate has been the same since.
        let seconds = now.saturating_duration_since(until).as_secs_f32();
        let then = |bytes: u64, rate: f32| bytes.saturating_sub((rate * seconds) as u64);
        let carried =
            (then(row.counters.down, row.counters.down_rate), then(row.counters.up, row.counters.up_rate));
        let history = RateHistory::from_trend(&row.trend, until, carried);
        Self { row: id, key: row.key, history, flow: None, channel: None }
    }

    /// Records a sample: the byte counters and the channel of the row, and the flow-control figures if the snapshot
    /// contains them.
    pub(crate) fn record(
        &mut self,
        row: StreamRow<'_>,
        channel: Option<&ChannelRow>,
        details: Option<&StreamDetails>,
        now: Instant,
    ) {
        if row.is_live() {
            self.channel = channel.cloned();
            self.history.record(now, row.counters.down, row.counters.up);
        }
        if let Some(details) = details {
            self.flow = Some(details.clone());
        }
    }
}

/// Recent lifecycle events about streams and about outages of their proxies, the oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventJournal(VecDeque<Event>);

impl EventJournal {
    /// Appends an event, if it is about a stream, an action of the operator, or an outage of a proxy.
    pub(crate) fn push(&mut self, event: &Event) {
        let others = matches!(
            event.kind,
            EventKind::OperatorActed { .. }
                | EventKind::GracePeriodStarted { .. }
                | EventKind::ProxyResumed { .. }
        );
        if others || event.kind.stream_key().is_some() {
            if self.0.len() == MAX_JOURNAL_EVENTS {
                self.0.pop_front();
            }
            self.0.push_back(event.clone());
        }
    }

    /// Returns the events of the newest stream with this key: its own, actions of the operator that name it, and
    /// outages of its proxy while it was open.
    pub(crate) fn of(&self, key: StreamKey) -> Vec<&Event> {
        let name = key.to_string();
        let (mut carrier, mut over, mut events) = (None, false, Vec::new());
        for event in &self.0 {
            let about = match &event.kind {
                // The text of an action names the stream.
                EventKind::OperatorActed { what, .. } => what.split_whitespace().any(|word| word == name),
                EventKind::GracePeriodStarted { proxy, .. } | EventKind::ProxyResumed { proxy, .. } => {
                    carrier == Some(*proxy) && !over
                }
                kind => kind.stream_key() == Some(key),
            };
            if !about {
                continue;
            }
            match event.kind {
                // Earlier events with this key are about an earlier stream.
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

#[cfg(test)]
mod tests;
