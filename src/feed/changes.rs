//! What has changed between two snapshots.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ids::{ChannelId, ProxyId, ServiceKey},
    telemetry::{
        ChannelSnapshot, ProxySnapshot, SelectedStream, ServiceSnapshot, StreamSnapshot, UserSnapshot, micros,
    },
};

/// What has changed since the state that the consumer has. Fields that are absent have not changed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Changes {
    /// [`Snapshot::uptime`](crate::telemetry::Snapshot::uptime). The ages of channels advance by as much as this.
    #[serde(rename = "uptime_us", with = "micros")]
    pub uptime: Duration,
    /// The new values of those totals that have changed.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub totals: Value,
    /// Changes of the services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<KeyedChanges<ServiceKey, ServiceSnapshot>>,
    /// Changes of the proxies, whose `channels` are empty here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxies: Option<KeyedChanges<ProxyId, ProxySnapshot>>,
    /// Changes of the channels of all proxies, also of those that went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<KeyedChanges<ChannelId, ChannelSnapshot>>,
    /// Changes of the users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<CountedChanges<UserSnapshot>>,
    /// Changes of the streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<CountedChanges<StreamSnapshot>>,
    /// All details of selected streams, if any of them has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<Vec<SelectedStream>>,
}

/// Changes of a table with few rows, sorted by key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyedChanges<K, R> {
    /// The keys of the rows that went.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<K>,
    /// New rows.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub new: Vec<R>,
    /// For rows that have changed, the key and the new values of the fields that have: a merge patch (RFC 7396).
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(K, Value)>,
}

impl<K, R> Default for KeyedChanges<K, R> {
    fn default() -> Self {
        Self { gone: Vec::new(), new: Vec::new(), set: Vec::new() }
    }
}

impl<K, R> KeyedChanges<K, R> {
    /// Returns the changes, or `None` if there are none.
    pub(super) fn some(self) -> Option<Self> {
        let is_empty = self.gone.is_empty() && self.new.is_empty() && self.set.is_empty();
        (!is_empty).then_some(self)
    }
}

/// Changes of a table with many rows, which have serial numbers and mostly change in their counters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CountedChanges<R> {
    /// The numbers of the rows that went.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<u64>,
    /// New rows, and rows of which anything but counters has changed.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<R>,
    /// The counters of other rows, which show what they are now.
    #[serde(default, skip_serializing_if = "Counters::is_empty")]
    pub counters: Counters,
    /// The counters of rows that are sent in turn, because there are too many for each change.
    #[serde(default, skip_serializing_if = "Counters::is_empty")]
    pub in_turn: Counters,
    /// How many changes it takes until each of them has had its turn; 0 if there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rounds: u32,
}

impl<R> Default for CountedChanges<R> {
    fn default() -> Self {
        Self {
            gone: Vec::new(),
            rows: Vec::new(),
            counters: Counters::default(),
            in_turn: Counters::default(),
            rounds: 0,
        }
    }
}

impl<R> CountedChanges<R> {
    /// Returns the changes, or `None` if there are none.
    pub fn some(self) -> Option<Self> {
        let is_empty = self.gone.is_empty()
            && self.rows.is_empty()
            && self.counters.is_empty()
            && self.in_turn.is_empty();
        (!is_empty).then_some(self)
    }
}

/// Increases of counters, in columns: with a field name for each figure, ten thousand streams would not fit the budget
/// of a screen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// The numbers of the rows in ascending order, each as the difference to the one before; the first one from 0.
    pub steps: Vec<u64>,
    /// By how much `down` has grown, for each of these rows. A column in which all are 0 is absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub down: Vec<i64>,
    /// By how much `up` has grown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub up: Vec<i64>,
    /// By how much `streams_open` has grown, or, if negative, become less; of users only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub streams_open: Vec<i64>,
    /// By how much `streams_total` has grown; of users only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub streams_total: Vec<i64>,
}

/// Returns whether a count is left out of a line.
pub(super) fn is_zero<T: Default + PartialEq>(count: &T) -> bool {
    *count == T::default()
}

impl Counters {
    /// The number of columns.
    pub const COLUMNS: usize = 4;

    /// Returns whether no row is contained.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns the columns.
    pub(super) fn columns(&self) -> [&[i64]; Self::COLUMNS] {
        [&self.down, &self.up, &self.streams_open, &self.streams_total]
    }

    /// Returns the rows: the number of each, and its counters in the order of the columns. What a column lacks is 0.
    pub fn rows(&self) -> impl Iterator<Item = (u64, [i64; Self::COLUMNS])> {
        let (columns, mut number) = (self.columns(), 0u64);
        self.steps.iter().enumerate().map(move |(index, step)| {
            number = number.wrapping_add(*step);
            (number, columns.map(|column| column.get(index).copied().unwrap_or_default()))
        })
    }

    /// Returns the columns of `rows`, which are sorted by number, without those in which all are 0.
    pub fn of(rows: &[(u64, [i64; Self::COLUMNS])]) -> Self {
        let mut last = 0;
        let steps = rows
            .iter()
            .map(|(number, _)| number.wrapping_sub(std::mem::replace(&mut last, *number)))
            .collect();
        let column = |at: usize| -> Vec<i64> {
            let values = rows.iter().map(|(_, values)| values[at]);
            if values.clone().all(|value| value == 0) { Vec::new() } else { values.collect() }
        };
        Self { steps, down: column(0), up: column(1), streams_open: column(2), streams_total: column(3) }
    }
}

/// The counters of a row: `down`, `up`, `streams_open`, `streams_total`.
pub(super) type RowCounters = [u64; Counters::COLUMNS];
