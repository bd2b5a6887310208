//! Lines to snapshots.

use super::{Changes, Item, Line, Missed, counted::CountedReceiver, decode_error::DecodeError, keyed, patch};
use crate::telemetry::{ChannelSnapshot, Event, LogRecord, ProxySnapshot, Snapshot};

/// What a line brought.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// A new state, which [`Decoder::snapshot`] returns.
    Snapshot,
    /// An event.
    Event(Event),
    /// A log record.
    Log(LogRecord),
    /// Items were dropped.
    Missed(Missed),
    /// An item of a kind that this version does not know.
    Unknown,
}

/// Rebuilds the snapshots from the lines of an [`Encoder`](super::Encoder).
///
/// The streams of a snapshot are in the order in which they were, except that one may take the place of one that went.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The number of the last line; `None` before the first snapshot, and after an error.
    last_number: Option<u64>,
    /// How many rows were left out since the last snapshot, because a newer version has written them.
    unknown_rows: u64,
    /// The present state.
    snapshot: Snapshot,
    /// Where the users are in the list of the snapshot.
    users: CountedReceiver,
    /// Where the streams are in the list of the snapshot.
    streams: CountedReceiver,
}

impl Decoder {
    /// Returns the state after the last line that brought one; an empty one before.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Returns how many rows were left out since the last whole snapshot, because a newer version has written them.
    pub fn unknown_rows(&self) -> u64 {
        self.unknown_rows
    }

    /// Returns the state if there is one: not before the first snapshot, nor after an error.
    pub fn known_snapshot(&self) -> Option<&Snapshot> {
        self.last_number.map(|_| &self.snapshot)
    }

    /// Applies a line.
    ///
    /// # Errors
    /// The line does not continue what came before. The state is undefined until the next snapshot, and changes before
    /// that fail.
    pub fn apply(&mut self, line: Line) -> Result<Decoded, DecodeError> {
        let (got, unknown_rows) = (line.seq, line.unknown_rows);
        let item = line.into_item();
        if let (Some(last), false) = (self.last_number, matches!(item, Some(Item::Snapshot(_))))
            && got != last.wrapping_add(1)
        {
            self.last_number = None;
            return Err(DecodeError::Gap { expected: last.wrapping_add(1), got });
        }
        let is_synchronized = self.last_number.is_some();
        if is_synchronized {
            self.last_number = Some(got);
        }
        match item {
            Some(Item::Snapshot(snapshot)) => {
                self.users.reset(&snapshot.users);
                self.streams.reset(&snapshot.streams);
                self.snapshot = *snapshot;
                self.unknown_rows = unknown_rows;
                self.last_number = Some(got);
                Ok(Decoded::Snapshot)
            }
            Some(Item::Changes(changes)) => {
                if !is_synchronized {
                    return Err(DecodeError::NoSnapshot);
                }
                self.unknown_rows += unknown_rows;
                let applied = self.apply_changes(*changes);
                if applied.is_err() {
                    self.last_number = None;
                }
                applied.map(|()| Decoded::Snapshot)
            }
            Some(Item::Event(event)) => Ok(Decoded::Event(event)),
            Some(Item::Log(record)) => Ok(Decoded::Log(record)),
            Some(Item::Missed(missed)) => Ok(Decoded::Missed(missed)),
            None => Ok(Decoded::Unknown),
        }
    }

    /// Applies changes to all tables.
    fn apply_changes(&mut self, changes: Changes) -> Result<(), DecodeError> {
        let (state, unknown) = (&mut self.snapshot, &mut self.unknown_rows);
        let passed = changes.uptime.saturating_sub(state.uptime);
        state.uptime = changes.uptime;
        patch::apply(&mut state.totals, changes.totals).map_err(DecodeError::Patch)?;
        if let Some(services) = changes.services {
            keyed::apply(&mut state.services, services, unknown)?;
        }
        // The channels are a table of their own, as they are sent.
        let mut channels: Vec<ChannelSnapshot> =
            state.proxies.iter_mut().flat_map(|proxy| std::mem::take(&mut proxy.channels)).collect();
        channels.iter_mut().for_each(|channel| channel.age = channel.age.saturating_add(passed));
        if let Some(proxies) = changes.proxies {
            keyed::apply(&mut state.proxies, proxies, unknown)?;
        }
        if let Some(changes) = changes.channels {
            keyed::apply(&mut channels, changes, unknown)?;
        }
        assign_channels(&mut state.proxies, channels);
        let is_partial = *unknown > 0;
        self.users.apply(&mut state.users, changes.users.unwrap_or_default(), is_partial)?;
        self.users.sort(&mut state.users);
        self.streams.apply(&mut state.streams, changes.streams.unwrap_or_default(), is_partial)?;
        if let Some(selected) = changes.selected {
            state.selected = selected;
        }
        Ok(())
    }
}

/// Puts channels, sorted by id, back to their proxies, sorted by id.
fn assign_channels(proxies: &mut [ProxySnapshot], channels: Vec<ChannelSnapshot>) {
    for channel in channels {
        if let Ok(at) = proxies.binary_search_by_key(&channel.id.proxy, |proxy| proxy.id) {
            proxies[at].channels.push(channel);
        }
    }
}
