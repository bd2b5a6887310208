//! Lists of proxies, channels, services and users: which rows, in which order, and at which rates.
//!
//! The server measures and selects, as it does for streams: a list of ten thousand users of which the client shows ten
//! has ten rows.

use std::{cmp::Reverse, collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::Value;

use super::{
    lists::{ListAnswer, ListBounds, NamedList, rate_interval},
    protocol::RequestError,
    request::PsQuery,
    rows::{ChannelRow, ProxyListRow, ServiceRow, UserRow},
};
use crate::{
    control::{FilteredStream, StreamFilter},
    ids::{ChannelId, ProxyId, ServiceKey},
    telemetry::{Snapshot, Telemetry},
};

/// What users are sorted by; the first one without another wish. The names are those of the cockpit.
pub const USER_SORT_KEYS: [&str; 11] = [
    "age",
    "traffic",
    "bytes",
    "streams",
    "user",
    "address",
    "service",
    "up",
    "down",
    "up-bytes",
    "down-bytes",
];
/// What proxies are sorted by.
pub const PROXY_SORT_KEYS: [&str; 11] =
    ["proxy", "name", "state", "streams", "traffic", "bytes", "up", "down", "up-bytes", "down-bytes", "age"];
/// What services are sorted by.
pub const SERVICE_SORT_KEYS: [&str; 8] =
    ["service", "streams", "traffic", "bytes", "up", "down", "up-bytes", "down-bytes"];
/// What channels are sorted by. Their `up` is what they have received, and their `down` what they have sent, per
/// second.
pub const CHANNEL_SORT_KEYS: [&str; 9] =
    ["channel", "proxy", "state", "streams", "traffic", "bytes", "received", "sent", "age"];

/// The figures by which rows are sorted and filtered.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RowFigures {
    /// Bytes to users, or sent.
    pub(super) down: u64,
    /// Bytes from users, or received.
    pub(super) up: u64,
    /// Bytes to users, or sent, per second.
    pub(super) down_rate: u64,
    /// Bytes from users, or received, per second.
    pub(super) up_rate: u64,
    /// The open streams.
    pub(super) streams: u64,
    /// The time since it connected; none for a service.
    pub(super) age_ms: u64,
}

/// What rows are sorted by. The smallest comes first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SortValue {
    /// A figure of which the largest comes first.
    Figure(Reverse<u64>),
    /// A number of which the smallest comes first.
    Number(u64),
    /// An address.
    Address(Option<IpAddr>),
    /// A service.
    Service(Option<ServiceKey>),
    /// A text, from A.
    Text(String),
}

/// A row that is no stream.
pub(super) trait ListedRow: FilteredStream + Serialize + Send + 'static {
    /// The names of what such rows are sorted by; the first one without another wish.
    const SORT_KEYS: &'static [&'static str];

    /// Returns what tells the row from the others of its list.
    fn id(&self) -> &str;

    /// Returns its figures.
    fn figures(&self) -> RowFigures;

    /// Sets its rates to users, or of what is sent, and from users, or of what is received.
    fn set_rates(&mut self, down: u64, up: u64);

    /// Sets its share of the traffic of all rows in percent.
    fn set_traffic_percent(&mut self, _percent: u64) {}

    /// Returns what it is sorted by under a name that is not one of its figures.
    fn other_sort_value(&self, key: &str) -> SortValue;

    /// Returns what it is sorted by under one of the names.
    fn sort_value(&self, key: &str) -> SortValue {
        let figures = self.figures();
        SortValue::Figure(Reverse(match key {
            "traffic" => figures.down_rate + figures.up_rate,
            "up" | "received" => figures.up_rate,
            "down" | "sent" => figures.down_rate,
            "bytes" => figures.down + figures.up,
            "up-bytes" => figures.up,
            "down-bytes" => figures.down,
            "streams" => figures.streams,
            // The first one first, as on the screen.
            "age" => figures.age_ms,
            other => return self.other_sort_value(other),
        }))
    }
}

/// Implements the id, the figures and the rates of a row whose fields have these names; a service has no age.
macro_rules! row_fields {
    (@age) => { 0 };
    (@age $age_ms:expr) => { $age_ms };
    ($id:ident, $down:ident, $up:ident, $down_rate:ident, $up_rate:ident $(, $age_ms:ident)?) => {
        fn id(&self) -> &str {
            &self.$id
        }

        fn figures(&self) -> RowFigures {
            RowFigures {
                down: self.$down,
                up: self.$up,
                down_rate: self.$down_rate.unwrap_or_default(),
                up_rate: self.$up_rate.unwrap_or_default(),
                streams: self.streams,
                age_ms: row_fields!(@age $(self.$age_ms)?),
            }
        }

        fn set_rates(&mut self, down: u64, up: u64) {
            (self.$down_rate, self.$up_rate) = (Some(down), Some(up));
        }
    };
}

impl ListedRow for UserRow {
    const SORT_KEYS: &'static [&'static str] = &USER_SORT_KEYS;

    row_fields!(user, down, up, down_rate, up_rate, age_ms);

    fn set_traffic_percent(&mut self, percent: u64) {
        self.traffic_percent = Some(percent);
    }

    fn other_sort_value(&self, key: &str) -> SortValue {
        match key {
            "address" => SortValue::Address(self.address.parse().ok()),
            "service" => SortValue::Service(self.service.parse().ok()),
            _ => SortValue::Text(self.user.clone()),
        }
    }
}

impl ListedRow for ProxyListRow {
    const SORT_KEYS: &'static [&'static str] = &PROXY_SORT_KEYS;

    row_fields!(proxy, down, up, down_rate, up_rate, age_ms);

    fn set_traffic_percent(&mut self, percent: u64) {
        self.traffic_percent = Some(percent);
    }

    fn other_sort_value(&self, key: &str) -> SortValue {
        match key {
            "name" => SortValue::Text(self.name.to_lowercase()),
            "state" => SortValue::Text(self.state.clone()),
            _ => SortValue::Number(self.proxy.parse().map_or(u64::MAX, |ProxyId(id)| id.into())),
        }
    }
}

impl ListedRow for ServiceRow {
    const SORT_KEYS: &'static [&'static str] = &SERVICE_SORT_KEYS;

    row_fields!(service, down, up, down_rate, up_rate);

    fn other_sort_value(&self, _key: &str) -> SortValue {
        SortValue::Service(self.service.parse().ok())
    }
}

impl ListedRow for ChannelRow {
    const SORT_KEYS: &'static [&'static str] = &CHANNEL_SORT_KEYS;

    row_fields!(channel, sent, received, sent_rate, received_rate, age_ms);

    fn other_sort_value(&self, key: &str) -> SortValue {
        match key {
            "proxy" => SortValue::Text(self.proxy_name.to_lowercase()),
            "state" => SortValue::Text(self.state.clone()),
            _ => SortValue::Number(
                self.channel
                    .parse()
                    .map_or(u64::MAX, |id: ChannelId| u64::from(id.proxy.0) << 16 | u64::from(id.index)),
            ),
        }
    }
}

/// What a list is to have.
struct RowSelection {
    /// Only rows that pass this filter.
    filter: Option<StreamFilter>,
    /// What they are sorted by.
    sort: &'static str,
    /// Whether the order is reversed.
    reverse: bool,
    /// The most rows.
    max: Option<usize>,
}

impl RowSelection {
    /// Checks a query for the list `name`.
    fn of<R: ListedRow>(name: &str, query: &PsQuery) -> Result<Self, RequestError> {
        let invalid = |error: String| RequestError::invalid(format!("{name}: {error}"));
        let filter = query.filter.as_deref().map(StreamFilter::parse).transpose();
        let filter = filter.map_err(|error| invalid(error.to_string()))?;
        let usual = R::SORT_KEYS[0];
        let wanted = query.sort.as_deref().unwrap_or(usual);
        let Some(sort) = R::SORT_KEYS.iter().copied().find(|known| *known == wanted) else {
            let known = R::SORT_KEYS.join("|");
            return Err(invalid(format!("unknown sort key «{wanted}»; expected: {known}")));
        };
        let needs_rates = matches!(sort, "traffic" | "up" | "down" | "received" | "sent")
            || filter.as_ref().is_some_and(StreamFilter::needs_rates);
        if needs_rates && query.over_ms.is_none() {
            let why = "«over_ms» is missing: rates are measured over a time, for example \"over_ms\":500";
            return Err(invalid(why.to_owned()));
        }
        Ok(Self { filter, sort, reverse: query.reverse, max: query.max })
    }

    /// Selects rows and sorts them.
    fn select<R: ListedRow>(&self, mut rows: Vec<R>) -> Vec<R> {
        rows.retain(|row| self.filter.as_ref().is_none_or(|filter| filter.passes(row)));
        // Those with the same value stay in the order of their ids.
        rows.sort_by_cached_key(|row| row.sort_value(self.sort));
        if self.reverse {
            rows.reverse();
        }
        rows.truncate(self.max.unwrap_or(usize::MAX));
        rows
    }
}

/// Answers with the rows that a query asks for. `make` returns all rows of a snapshot.
pub(super) async fn list_rows<R: ListedRow>(
    bounds: &ListBounds,
    telemetry: &Arc<Telemetry>,
    id: Value,
    name: &'static str,
    query: &PsQuery,
    make: impl Fn(&Snapshot) -> Vec<R> + Clone + Send + 'static,
) -> Result<ListAnswer, RequestError> {
    let selection = RowSelection::of::<R>(name, query)?;
    let before = match query.over_ms {
        None => None,
        Some(millis) => {
            let (telemetry, make) = (telemetry.clone(), make.clone());
            let counters = move || {
                let snapshot = telemetry.snapshot();
                let of = |row: &R| (row.id().to_owned(), (row.figures().down, row.figures().up));
                (snapshot.uptime, make(&snapshot).iter().map(of).collect::<HashMap<_, _>>())
            };
            let first = bounds.make(counters).await?;
            tokio::time::sleep(rate_interval(millis)).await;
            Some(first)
        }
    };
    let telemetry = telemetry.clone();
    let list = move || {
        let snapshot = telemetry.snapshot();
        let mut rows = make(&snapshot);
        if let Some((at, before)) = &before {
            set_rates(&mut rows, before, snapshot.uptime.saturating_sub(*at));
        }
        NamedList { uptime: snapshot.uptime, name, rows: selection.select(rows) }
    };
    bounds.answer(id, list).await
}

/// Sets the rates of rows whose counters were `before`, and their shares of all traffic. A row that is newer has been
/// there for less time.
fn set_rates<R: ListedRow>(rows: &mut [R], before: &HashMap<String, (u64, u64)>, since: Duration) {
    let mut total = 0;
    for row in &mut *rows {
        let figures = row.figures();
        let (old, since) = match before.get(row.id()) {
            Some(old) => (*old, since),
            None if figures.age_ms > 0 => ((0, 0), since.min(Duration::from_millis(figures.age_ms))),
            None => ((0, 0), since),
        };
        let rate =
            |bytes: u64, old: u64| (bytes.saturating_sub(old) as f64 / since.as_secs_f64().max(0.001)) as u64;
        let (down, up) = (rate(figures.down, old.0), rate(figures.up, old.1));
        row.set_rates(down, up);
        total += down + up;
    }
    for row in rows {
        let RowFigures { down_rate, up_rate, .. } = row.figures();
        let percent = u128::from(down_rate + up_rate) * 100 / u128::from(total.max(1));
        row.set_traffic_percent(u64::try_from(percent).unwrap_or(100));
    }
}

#[cfg(test)]
mod tests;
