//! Performing requests: lists are read from snapshots, changes go to the server's queue of commands or to the process,
//! and each change is audited.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{
    lists::{ListAnswer, list_streams},
    peer::Peer,
    protocol::{ErrorCode, RequestError, RequestResult},
    request::Request,
    row_list::list_rows,
    rows::{ChannelRow, ProxyListRow, ServiceRow, TotalsRow, UserRow, millis},
    shared::{ProxyHandle, ServerHandle, Shared, Subject},
};
use crate::{
    control::{Command, CommandError, CommandReply},
    ids::clean,
    telemetry::{EventKind, ProxySnapshot, Snapshot},
};

/// What a performed request is answered with.
pub(super) enum Answered {
    /// The content of `ok`.
    Value(Value),
    /// The whole line.
    List(ListAnswer),
}

/// How long reading files again may take.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(20);

/// Performs a request that is no part of the connection itself.
pub(super) async fn perform(
    shared: &Arc<Shared>,
    peer: &Peer,
    id: &Value,
    request: Request,
) -> Result<Answered, RequestError> {
    match &request {
        Request::State => Ok(Answered::Value(state(shared))),
        Request::Reload => reload(shared, peer).await.map(Answered::Value),
        Request::Shutdown { now } => Ok(Answered::Value(shut_down(shared, peer, *now))),
        _ => list_or_change(shared, peer, id.clone(), request).await,
    }
}

/// Performs a request for a list, or for a change of the server or proxy.
async fn list_or_change(
    shared: &Arc<Shared>,
    peer: &Peer,
    id: Value,
    request: Request,
) -> Result<Answered, RequestError> {
    let (telemetry, bounds) = (shared.telemetry(), shared.bounds(peer));
    let is_of_proxy = telemetry.is_of_proxy();
    if let Subject::Proxy(proxy) = &shared.subject {
        // With the targets, which the counters do not have, and the servers to which there is no link.
        match request {
            Request::Services(query) => {
                if query.filter.is_some() || query.sort.is_some() {
                    let why = "a proxy lists its services with their targets, and neither filters nor sorts them: the server has \
                               the figures";
                    return Err(RequestError::new(ErrorCode::Unsupported, why));
                }
                return Ok(Answered::Value(json!({ "services": (proxy.report)().services })));
            }
            Request::Bans => {
                let why = "a proxy bans no one: ask the server";
                return Err(RequestError::new(ErrorCode::Unsupported, why));
            }
            _ => {}
        }
    }
    match request {
        Request::Ps(query) => list_streams(bounds, telemetry, id, query).await.map(Answered::List),
        // Those of a proxy are the servers of its links.
        Request::Proxies(query) => list_rows(bounds, telemetry, id, "proxies", &query, move |snapshot| {
            let rows = snapshot.proxies.iter().map(|proxy| {
                let mut row = ProxyListRow::of(proxy, snapshot);
                if is_of_proxy {
                    row.weight = None;
                }
                row
            });
            rows.collect()
        })
        .await
        .map(Answered::List),
        Request::Channels(query) => {
            let of_proxy = |proxy: &ProxySnapshot| {
                proxy.channels.iter().map(|channel| ChannelRow::of(channel, proxy)).collect::<Vec<_>>()
            };
            let rows = move |snapshot: &Snapshot| snapshot.proxies.iter().flat_map(of_proxy).collect();
            list_rows(bounds, telemetry, id, "channels", &query, rows).await.map(Answered::List)
        }
        Request::Services(query) => {
            let rows = |snapshot: &Snapshot| {
                snapshot.services.iter().map(|service| ServiceRow::of(service, snapshot)).collect()
            };
            list_rows(bounds, telemetry, id, "services", &query, rows).await.map(Answered::List)
        }
        Request::Users(query) => {
            let rows =
                |snapshot: &Snapshot| snapshot.users.iter().map(|user| UserRow::of(user, snapshot)).collect();
            list_rows(bounds, telemetry, id, "users", &query, rows).await.map(Answered::List)
        }
        Request::Totals => {
            to_value(&TotalsRow::of(&telemetry.totals(), telemetry.uptime())).map(Answered::Value)
        }
        Request::Bans => {
            let networks: Vec<_> = telemetry.banned_networks().iter().map(ToString::to_string).collect();
            Ok(Answered::Value(json!({ "networks": networks })))
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
                affected_streams = match &shared.subject {
                    Subject::Server(server) => execute(server, peer, command).await?,
                    Subject::Proxy(proxy) => execute_on_proxy(shared, proxy, peer, &command)?,
                };
            }
            Ok(Answered::Value(json!({ "affected_streams": affected_streams })))
        }
    }
}

/// Lets the server execute a command, which audits it. Returns how many streams it affected.
async fn execute(server: &ServerHandle, peer: &Peer, command: Command) -> Result<usize, RequestError> {
    let object = command.object();
    affected_streams(server.commands.send_as(peer.operator(), command).await, &object)
}

/// Executes a command on a proxy, and audits it. Returns how many streams it affected.
fn execute_on_proxy(
    shared: &Shared,
    proxy: &ProxyHandle,
    peer: &Peer,
    command: &Command,
) -> Result<usize, RequestError> {
    let reply = match command.is_for_proxy() {
        true => (proxy.execute)(command),
        false => Err(CommandError::ServerOnly),
    };
    let done = affected_streams(reply, &command.object());
    let (what, by, outcome) = (command.to_string(), peer.operator(), done.as_ref().copied().into());
    shared.telemetry().emit(EventKind::OperatorActed { what, by, outcome });
    done
}

/// Returns how many streams a command about `object` affected.
fn affected_streams(reply: CommandReply, object: &str) -> Result<usize, RequestError> {
    reply.map(|executed| executed.affected_streams).map_err(|error| match error {
        CommandError::NotFound => {
            RequestError::new(ErrorCode::NotFound, format!("there is no {object} (any more)"))
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
        Subject::Proxy(proxy) => serde_json::to_value((proxy.report)()).unwrap_or_default(),
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
            "there is nothing that this process could read again: it was started without a configuration file",
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
    let what = what.to_owned();
    shared.telemetry().emit(EventKind::OperatorActed { what, by: peer.operator(), outcome });
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

/// Returns a value as JSON.
fn to_value(value: &impl Serialize) -> RequestResult {
    serde_json::to_value(value).map_err(|error| RequestError::new(ErrorCode::Failed, error.to_string()))
}
