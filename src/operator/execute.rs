//! Performing requests: lists are read from snapshots, changes go to the server's queue of commands or to the process, and
//! each change is audited.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{
    peer::Peer,
    protocol::{ErrorCode, RequestError, RequestResult},
    request::{PsQuery, Request},
    rows::{ChannelRow, ProxyListRow, ProxyNames, ServiceRow, StreamRow, TotalsRow, UserRow, millis},
    shared::{ServerHandle, Shared, Subject},
    stream_sort::StreamSort,
};
use crate::{
    control::{Command, CommandError, StreamFilter},
    ids::clean,
    telemetry::{EventKind, ProxySnapshot, Sampler, Snapshot, StreamSnapshot, Telemetry},
};

/// The shortest time over which rates are measured.
const MIN_RATE_INTERVAL: Duration = Duration::from_millis(50);

/// The longest time over which rates are measured.
const MAX_RATE_INTERVAL: Duration = Duration::from_secs(10);

/// How long reading files again may take.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(20);

/// Performs a request that is no part of the connection itself.
pub(super) async fn perform(shared: &Arc<Shared>, peer: &Peer, request: Request) -> RequestResult {
    match &request {
        Request::State => Ok(state(shared)),
        Request::Reload => reload(shared, peer).await,
        Request::Shutdown { now } => Ok(shut_down(shared, peer, *now)),
        _ => match &shared.subject {
            Subject::Server(server) => perform_on_server(shared, server, peer, request).await,
            Subject::Proxy(proxy) => match request {
                Request::Services => Ok(json!({ "services": proxy.report().services })),
                Request::Channels => Ok(json!({ "links": proxy.report().links })),
                _ => Err(RequestError::new(
                    ErrorCode::Unsupported,
                    "this is a proxy, which does not know that request: ask the server",
                )),
            },
        },
    }
}

/// Performs a request to a tunnel server.
async fn perform_on_server(
    shared: &Arc<Shared>,
    server: &ServerHandle,
    peer: &Peer,
    request: Request,
) -> RequestResult {
    let telemetry = &server.telemetry;
    match request {
        Request::Ps(query) => list_streams(shared, telemetry, query).await,
        Request::Proxies => {
            list(shared, telemetry, "proxies", |snapshot| {
                snapshot.proxies.iter().map(|proxy| ProxyListRow::of(proxy, snapshot)).collect()
            })
            .await
        }
        Request::Channels => {
            list(shared, telemetry, "channels", |snapshot| -> Vec<_> {
                let of_proxy = |proxy: &ProxySnapshot| {
                    proxy.channels.iter().map(|channel| ChannelRow::of(channel, proxy)).collect::<Vec<_>>()
                };
                snapshot.proxies.iter().flat_map(of_proxy).collect()
            })
            .await
        }
        Request::Services => {
            list(shared, telemetry, "services", |snapshot| {
                snapshot.services.iter().map(|service| ServiceRow::of(service, snapshot)).collect()
            })
            .await
        }
        Request::Users => {
            list(shared, telemetry, "users", |snapshot| {
                snapshot.users.iter().map(|user| UserRow::of(user, snapshot)).collect()
            })
            .await
        }
        Request::Totals => to_value(&TotalsRow::of(&telemetry.totals(), telemetry.uptime())),
        Request::Bans => {
            let networks: Vec<_> = telemetry.banned_networks().iter().map(ToString::to_string).collect();
            Ok(json!({ "networks": networks }))
        }
        request => {
            let named = |name: &str| telemetry.proxies_named(name);
            let commands = match request.commands(named) {
                Ok(Some(commands)) => commands,
                Ok(None) => return Err(RequestError::invalid("this request cannot be performed here")),
                Err(error) => {
                    audit(shared, peer, &describe(&request), Err(&error));
                    return Err(error);
                }
            };
            let mut affected_streams = 0;
            for command in commands {
                affected_streams = execute(server, peer, command).await?;
            }
            Ok(json!({ "affected_streams": affected_streams }))
        }
    }
}

/// Lets the server execute a command, which audits it. Returns how many streams it affected.
async fn execute(server: &ServerHandle, peer: &Peer, command: Command) -> Result<usize, RequestError> {
    let subject = command.object();
    let executed = server.commands.send_as(peer.operator(), command).await;
    executed.map(|executed| executed.affected_streams).map_err(|error| match error {
        CommandError::NotFound => {
            RequestError::new(ErrorCode::NotFound, format!("there is no {subject} (any more)"))
        }
        error => error.into(),
    })
}

/// Returns how the process is.
fn state(shared: &Shared) -> Value {
    let mut state = json!({
        "role": shared.role(),
        "underpass": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "name": *shared.name.lock(),
        "uptime_ms": millis(shared.started.elapsed()),
        "draining": shared.process.drain.is_cancelled() || shared.process.abort.is_cancelled(),
    });
    let more = match &shared.subject {
        Subject::Server(server) => {
            let totals = server.telemetry.totals();
            json!({ "streams": totals.streams_open, "users": totals.users_current })
        }
        Subject::Proxy(proxy) => serde_json::to_value(proxy.report()).unwrap_or_default(),
    };
    if let (Value::Object(state), Value::Object(more)) = (&mut state, more) {
        state.extend(more);
    }
    state
}

/// Lets the process read its files again.
async fn reload(shared: &Shared, peer: &Peer) -> RequestResult {
    let Some(requests) = &shared.process.reload else {
        return Err(RequestError::new(
            ErrorCode::Unsupported,
            "this process reads no files that could have changed: it was started with neither --config nor another file",
        ));
    };
    let (reply, done) = oneshot::channel();
    let failed = || RequestError::new(ErrorCode::Stopping, "the process ends");
    let result = match requests.try_send(reply) {
        Ok(()) => match tokio::time::timeout(RELOAD_TIMEOUT, done).await {
            Ok(Ok(result)) => result.map_err(|why| RequestError::new(ErrorCode::Failed, why)),
            Ok(Err(_)) => Err(failed()),
            Err(_) => Err(RequestError::new(
                ErrorCode::Failed,
                format!(
                    "reading the files has not ended within {} s; the log says more",
                    RELOAD_TIMEOUT.as_secs()
                ),
            )),
        },
        Err(tokio::sync::mpsc::error::TrySendError::Full(_)) => {
            Err(RequestError::new(ErrorCode::Busy, "another reload is under way; try again"))
        }
        Err(tokio::sync::mpsc::error::TrySendError::Closed(_)) => Err(failed()),
    };
    audit(shared, peer, "reload", result.as_ref().map(drop));
    result.map(|changes| json!({ "changes": changes }))
}

/// Ends the process: after a drain, or at once.
fn shut_down(shared: &Shared, peer: &Peer, now: bool) -> Value {
    audit(shared, peer, if now { "shut down at once" } else { "shut down" }, Ok(()));
    shared.process.drain.cancel();
    if now {
        shared.process.abort.cancel();
    }
    json!({})
}

/// Reports what an operator did, or tried to do, that no command of the server stands for.
pub(super) fn audit(shared: &Shared, peer: &Peer, what: &str, outcome: Result<(), &RequestError>) {
    let outcome = outcome.map(|()| 0).into();
    let event = EventKind::OperatorActed { what: what.to_owned(), by: peer.operator(), outcome };
    match &shared.subject {
        Subject::Server(server) => _ = server.telemetry.emit(event),
        Subject::Proxy(_) => tracing::info!(target: "lifecycle", "{event}"),
    }
}

/// Returns a request as `drain proxy=edge-1`, for the audit of one that was refused.
pub(super) fn describe(request: &Request) -> String {
    let Ok(Value::Object(fields)) = serde_json::to_value(request) else { return String::new() };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut words = vec![fields.get("do").map(text).unwrap_or_default()];
    let others = fields.iter().filter(|(name, _)| *name != "do");
    words.extend(others.map(|(name, value)| format!("{name}={}", text(value))));
    clean(&words.join(" "), 200)
}

/// Answers with a list that is made from a snapshot.
async fn list<T: Serialize + Send + 'static>(
    shared: &Arc<Shared>,
    telemetry: &Arc<Telemetry>,
    name: &'static str,
    rows: impl FnOnce(&Snapshot) -> Vec<T> + Send + 'static,
) -> RequestResult {
    let telemetry = telemetry.clone();
    on_thread(shared, move || {
        let snapshot = telemetry.snapshot();
        let rows = to_value(&rows(&snapshot))?;
        Ok(json!({ "uptime_ms": millis(snapshot.uptime), name: rows }))
    })
    .await
}

/// Answers with the open streams.
async fn list_streams(shared: &Arc<Shared>, telemetry: &Arc<Telemetry>, query: PsQuery) -> RequestResult {
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
            let first = on_thread(shared, move || Ok(Counters::of(&telemetry.snapshot()))).await?;
            let interval = Duration::from_millis(millis).clamp(MIN_RATE_INTERVAL, MAX_RATE_INTERVAL);
            tokio::time::sleep(interval).await;
            Some(first)
        }
    };
    let telemetry = telemetry.clone();
    on_thread(shared, move || {
        let mut sampler = Sampler::default();
        let snapshot = sampler.sample(&telemetry, &[]);
        let names = ProxyNames::of(snapshot);
        let rows = snapshot.streams.iter().map(|stream| {
            let mut row = StreamRow::of(stream, snapshot, &names);
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
        Ok(json!({
            "uptime_ms": millis(snapshot.uptime), "open": all, "matching": matching, "streams": to_value(&rows)?,
        }))
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

    /// Sets the rates of a row, which was read at `now`. A stream that is newer than the counters has been open for less time.
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

/// Runs `make` on a thread for blocking tasks, a few at a time.
async fn on_thread<T: Send + 'static>(
    shared: &Shared,
    make: impl FnOnce() -> Result<T, RequestError> + Send + 'static,
) -> Result<T, RequestError> {
    let _permit = shared.listings.acquire().await;
    let made = tokio::task::spawn_blocking(make).await;
    made.unwrap_or_else(|_| {
        Err(RequestError::new(ErrorCode::Failed, "the list could not be made; the log says why"))
    })
}

/// Returns a value as JSON.
fn to_value(value: &impl Serialize) -> RequestResult {
    serde_json::to_value(value).map_err(|error| RequestError::new(ErrorCode::Failed, error.to_string()))
}
