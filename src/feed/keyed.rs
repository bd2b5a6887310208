//! Tables with few rows, sorted by key: services, proxies and channels. A changed row is sent as a merge patch.

use serde::{Serialize, de::DeserializeOwned};

use super::{changes::KeyedChanges, decode_error::DecodeError, newer, patch};
use crate::{
    ids::{ChannelId, ProxyId, ServiceKey},
    telemetry::{ChannelSnapshot, ProxySnapshot, ServiceSnapshot},
};

/// A row with a key.
pub(super) trait KeyedRow: Clone + PartialEq + Serialize + DeserializeOwned {
    /// The key, by which the table is sorted.
    type Key: Clone + Ord;

    /// Returns the key of the row.
    fn key(&self) -> Self::Key;
    /// Takes over the percentiles that were sent.
    fn keep_percentiles(&mut self, sent: &Self);
}

impl KeyedRow for ServiceSnapshot {
    type Key = ServiceKey;

    fn key(&self) -> ServiceKey {
        self.key.clone()
    }

    fn keep_percentiles(&mut self, sent: &Self) {
        self.latency.clone_from(&sent.latency);
    }
}

impl KeyedRow for ProxySnapshot {
    type Key = ProxyId;

    fn key(&self) -> ProxyId {
        self.id
    }

    fn keep_percentiles(&mut self, sent: &Self) {
        self.latency.clone_from(&sent.latency);
    }
}

impl KeyedRow for ChannelSnapshot {
    type Key = ChannelId;

    fn key(&self) -> ChannelId {
        self.id
    }

    fn keep_percentiles(&mut self, sent: &Self) {
        self.rtt_summary.clone_from(&sent.rtt_summary);
    }
}

/// The sending half of a table: the rows that the consumer has.
#[derive(Debug)]
pub(super) struct KeyedSender<R> {
    /// The rows as they were sent, sorted by key.
    sent: Vec<R>,
    /// The place after that of the last row that had its turn.
    cursor: usize,
}

impl<R> Default for KeyedSender<R> {
    fn default() -> Self {
        Self { sent: Vec::new(), cursor: 0 }
    }
}

impl<R: KeyedRow> KeyedSender<R> {
    /// Records that the consumer gets all rows.
    pub(super) fn reset(&mut self, rows: Vec<R>) {
        self.sent = rows;
    }

    /// Returns what the consumer lacks, with up to `budget` of the changed rows, and records it as sent. `rows` are
    /// sorted by key. The percentiles of known rows are only sent where `has_percentiles`.
    pub(super) fn encode(
        &mut self,
        rows: Vec<R>,
        budget: usize,
        has_percentiles: bool,
    ) -> Option<KeyedChanges<R::Key, R>> {
        let mut changes = KeyedChanges::default();
        let mut before = std::mem::take(&mut self.sent).into_iter().peekable();
        // The places of changed rows, which still hold what was sent, and their new values.
        let mut changed = Vec::new();
        for mut row in rows {
            while let Some(gone) = before.next_if(|sent| sent.key() < row.key()) {
                changes.gone.push(gone.key());
            }
            match before.next_if(|sent| sent.key() == row.key()) {
                None => {
                    changes.new.push(row.clone());
                    self.sent.push(row);
                }
                Some(sent) => {
                    if !has_percentiles {
                        row.keep_percentiles(&sent);
                    }
                    if sent != row {
                        changed.push((self.sent.len(), row));
                    }
                    self.sent.push(sent);
                }
            }
        }
        changes.gone.extend(before.map(|gone| gone.key()));
        if changed.len() > budget {
            let first = changed.partition_point(|(at, _)| *at < self.cursor);
            changed.rotate_left(first);
            changed.truncate(budget);
            self.cursor = changed.last().map_or(0, |(at, _)| at + 1);
        }
        for (at, row) in changed {
            let patch = patch::between(&self.sent[at], &row);
            // Null where they differ by less than a microsecond.
            if !patch.is_null() {
                changes.set.push((row.key(), patch));
            }
            self.sent[at] = row;
        }
        changes.some()
    }
}

/// Applies changes to a list of rows, which stays sorted by key. `unknown_rows` counts those that are left out because
/// a newer version has written them; while there are any, changes may name rows that are not in the list.
///
/// # Errors
/// The changes name a row that is not in the list, or a patch does not fit its row.
pub(super) fn apply<R: KeyedRow>(
    rows: &mut Vec<R>,
    changes: KeyedChanges<R::Key, R>,
    unknown_rows: &mut u64,
) -> Result<(), DecodeError> {
    let place =
        |rows: &[R], key: &R::Key, unknown_rows: u64| match rows.binary_search_by(|row| row.key().cmp(key)) {
            Ok(at) => Ok(Some(at)),
            Err(_) if unknown_rows > 0 => Ok(None),
            Err(_) => Err(DecodeError::UnknownRow),
        };
    for key in changes.gone {
        if let Some(at) = place(rows, &key, *unknown_rows)? {
            rows.remove(at);
        }
    }
    for row in changes.new {
        match rows.binary_search_by(|known| known.key().cmp(&row.key())) {
            Ok(at) => rows[at] = row,
            Err(at) => rows.insert(at, row),
        }
    }
    for (key, patch) in changes.set {
        let Some(at) = place(rows, &key, *unknown_rows)? else { continue };
        match patch::apply(&mut rows[at], patch) {
            Ok(()) => {}
            Err(error) if newer::is_unknown_word(&error) => {
                rows.remove(at);
                *unknown_rows += 1;
            }
            Err(error) => return Err(DecodeError::Patch(error)),
        }
    }
    Ok(())
}
