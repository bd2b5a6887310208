//! Lists that are made from a snapshot: the largest answers.
//!
//! Neither sampling nor serialising ten thousand rows may take the time of a worker, which carries streams: with 3,000
//! streams, one client that listed in a loop raised the p99 of an echo from 8 to 339 ms in a debug build, while the
//! answer was built as a tree of values and serialised by the connection. The complete line is made on a thread for
//! blocking tasks, and counts against a budget until the client has taken it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    protocol::{self, ErrorCode, RequestError},
    request::PsQuery,
    rows::{ProxyNames, StreamRow, millis},
    stream_sort::StreamSort,
};
use crate::{
    control::StreamFilter,
    telemetry::{Sampler, Snapshot, StreamSnapshot, Telemetry},
};

/// The shortest time over which rates are measured.
const MIN_RATE_INTERVAL: Duration = Duration::from_millis(50);

/// The longest time over which rates are measured.
const MAX_RATE_INTERVAL: Duration = Duration::from_secs(10);

/// How many KiB the answers that clients have not taken yet may have together. The list of 100,000 streams has 35 MiB.
const MAX_ANSWERS_KIB: u32 = 48 * 1024;

/// Bounds the lists of some clients: the owner has bounds of its own, so that members of a group cannot use them up.
#[derive(Debug)]
pub(super) struct ListBounds {
    /// One permit for each list that may be made at the same time.
    making: Semaphore,
    /// One permit for each KiB of the answers that are being written.
    answers_kib: Arc<Semaphore>,
    /// One permit for each client that may watch.
    pub(super) watchers: Arc<Semaphore>,
}

/// The line of a list, which counts against the budget until it is dropped.
#[derive(Debug)]
pub(super) struct ListAnswer {
    /// The line.
    pub(super) line: Vec<u8>,
    /// Its KiB.
    _kib: Option<OwnedSemaphorePermit>,
}

impl ListBounds {
    /// Creates bounds for so many lists that are made, and clients that watch, at the same time.
    pub(super) fn new(max_making: usize, max_watchers: usize) -> Self {
        Self {
            making: Semaphore::new(max_making),
            answers_kib: Arc::new(Semaphore::new(MAX_ANSWERS_KIB as usize)),
            watchers: Arc::new(Semaphore::new(max_watchers)),
        }
    }

    /// Runs `make` on a thread for blocking tasks, as one of the lists that may be made.
    pub(super) async fn make<T: Send + 'static>(
        &self,
        make: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RequestError> {
        let _making = self.making.acquire().await;
        blocking(make).await
    }

    /// Makes the answer to the request `id`.
    pub(super) async fn answer<T: Serialize>(
        &self,
        id: Value,
        make: impl FnOnce() -> T + Send + 'static,
    ) -> Result<ListAnswer, RequestError> {
        /// An answer with its id.
        #[derive(Serialize)]
        struct Answer<T> {
            /// The id.
            id: Value,
            /// The list.
            ok: T,
        }
        // Held until the answer has its share of the budget, so that no more lines wait for it than lists are made.
        let _making = self.making.acquire().await;
        let line = blocking(move || protocol::line(&Answer { id, ok: make() })).await?;
        let kib = u32::try_from(line.len() / 1024 + 1).unwrap_or(u32::MAX).min(MAX_ANSWERS_KIB);
        Ok(ListAnswer { line, _kib: self.answers_kib.clone().acquire_many_owned(kib).await.ok() })
    }
}

/// Runs `make` on a thread for blocking tasks.
async fn blocking<T: Send + 'static>(make: impl FnOnce() -> T + Send + 'static) -> Result<T, RequestError> {
    let failed = |_| RequestError::new(ErrorCode::Failed, "the list could not be made; the log says why");
    tokio::task::spawn_blocking(make).await.map_err(failed)
}

/// A list with the name of its rows.
pub(super) struct NamedList<T> {
    /// The time since the server started.
    pub(super) uptime: Duration,
    /// The name of the field that has the rows.
    pub(super) name: &'static str,
    /// The rows.
    pub(super) rows: Vec<T>,
}

impl<T: Serialize> Serialize for NamedList<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("uptime_ms", &millis(self.uptime))?;
        map.serialize_entry(self.name, &self.rows)?;
        map.end()
    }
}

/// The open streams.
#[derive(Serialize)]
struct StreamList {
    /// The time since the server started.
    uptime_ms: u64,
    /// How many are open.
    open: usize,
    /// How many of these pass the filter.
    matching: usize,
    /// Those, as many as were asked for.
    streams: Vec<StreamRow>,
}

/// Returns the time over which rates are measured, of which the client has given milliseconds.
pub(super) fn rate_interval(millis: u64) -> Duration {
    Duration::from_millis(millis).clamp(MIN_RATE_INTERVAL, MAX_RATE_INTERVAL)
}

/// Answers with the open streams.
pub(super) async fn list_streams(
    bounds: &ListBounds,
    telemetry: &Arc<Telemetry>,
    id: Value,
    query: PsQuery,
) -> Result<ListAnswer, RequestError> {
    let invalid = |error: String| RequestError::invalid(format!("ps: {error}"));
    let filter = query.filter.as_deref().map(StreamFilter::parse).transpose();
    let filter = filter.map_err(|error| invalid(error.to_string()))?;
    let sort = query.sort.as_deref().map(StreamSort::named).transpose().map_err(invalid)?;
    let needs_rates =
        filter.as_ref().is_some_and(StreamFilter::needs_rates) || sort.is_some_and(StreamSort::needs_rates);
    if needs_rates && query.over_ms.is_none() {
        return Err(invalid(
            "«over_ms» is missing: rates are measured over a time, for example \"over_ms\":500".to_owned(),
        ));
    }
    let before = match query.over_ms {
        None => None,
        Some(millis) => {
            let telemetry = telemetry.clone();
            let first = bounds.make(move || Counters::of(&telemetry.snapshot())).await?;
            tokio::time::sleep(rate_interval(millis)).await;
            Some(first)
        }
    };
    let telemetry = telemetry.clone();
    bounds
        .answer(id, move || {
            let mut sampler = Sampler::default();
            let snapshot = sampler.sample(&telemetry, &[]);
            let names = ProxyNames::of(snapshot);
            let rows = snapshot.streams.iter().map(|stream| {
                let mut row = StreamRow::of(stream, snapshot, &names);
                if telemetry.is_of_proxy() {
                    row.priority = None;
                }
                if let Some(before) = &before {
                    before.set_rates(&mut row, snapshot.uptime);
                }
                row
            });
            let mut rows: Vec<StreamRow> =
                rows.filter(|row| filter.as_ref().is_none_or(|filter| filter.passes(row))).collect();
            let order = sort.unwrap_or_default();
            rows.sort_by(|a, b| order.compare(a, b));
            if query.reverse {
                rows.reverse();
            }
            let matching = rows.len();
            rows.truncate(query.max.unwrap_or(usize::MAX));
            let all = snapshot.streams.len();
            StreamList { uptime_ms: millis(snapshot.uptime), open: all, matching, streams: rows }
        })
        .await
}

/// The byte counters of all streams at one time.
struct Counters {
    /// The time, since the server started.
    at: Duration,
    /// The bytes down and up, by the number of the stream.
    bytes: HashMap<u64, (u64, u64)>,
}

impl Counters {
    /// Reads the counters of a snapshot.
    fn of(snapshot: &Snapshot) -> Self {
        let of = |stream: &StreamSnapshot| (stream.number, (stream.down, stream.up));
        Self { at: snapshot.uptime, bytes: snapshot.streams.iter().map(of).collect() }
    }

    /// Sets the rates of a row, which was read at `now`. A stream that is newer than the counters has been open for
    /// less time.
    fn set_rates(&self, row: &mut StreamRow, now: Duration) {
        let (before, since) = match self.bytes.get(&row.number) {
            Some(before) => (*before, now.saturating_sub(self.at)),
            None => ((0, 0), Duration::from_millis(row.age_ms.max(1))),
        };
        let rate = |bytes: u64, before: u64| {
            (bytes.saturating_sub(before) as f64 / since.as_secs_f64().max(0.001)) as u64
        };
        row.down_rate = Some(rate(row.down, before.0));
        row.up_rate = Some(rate(row.up, before.1));
    }
}

#[cfg(test)]
mod tests;
