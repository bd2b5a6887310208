//! The commands for a running server or proxy: `ps`, `kill` and the others. They speak to its control socket.

mod events;
mod find;
mod list;
mod open;
mod other_lists;
mod query;
mod table;

use std::{io, path::PathBuf, process::ExitCode, time::Duration};

use serde_json::Value;

use super::{
    args::operate::{OperateCommand, ProxiesArgs, SocketArg, StreamsArgs, limits},
    output,
};
use crate::{
    control::{StreamFilter, Target},
    ids::StreamKey,
    operator::{Client, ClientError, ErrorCode, PsQuery, Request, StreamRow},
};

pub(super) use open::open;

use events::EventsQuery;

/// The exit status if an object of a command does not exist (any more).
const NOT_FOUND: u8 = 5;
/// The exit status if no server or proxy can be reached.
const UNREACHABLE: u8 = 6;
/// The exit status if the arguments make no sense together, as that of clap.
const USAGE: u8 = 2;

/// How long rates are measured for a filter or an order that needs them.
const RATE_INTERVAL_MS: u64 = 500;

/// Why a command fails.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The process cannot be found or reached, or several are.
    #[error("{0}")]
    Unreachable(String),
    /// The arguments make no sense.
    #[error("{0}")]
    Usage(String),
    /// The connection or the request failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What was to be printed could not be written.
    #[error("cannot write to the standard output: {0}")]
    Output(io::Error),
    /// An answer is not what was expected; [`run`] adds the version of the process.
    #[error("an answer that this version does not understand: {0}")]
    Answer(#[from] serde_json::Error),
}

impl Failure {
    /// Returns the exit status.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Unreachable(_) | Self::Client(ClientError::Connect { .. } | ClientError::Closed) => {
                UNREACHABLE
            }
            Self::Client(ClientError::Refused(error)) if error.code == ErrorCode::NotFound => NOT_FOUND,
            Self::Client(error) if error.is_other_version() => super::REFUSED,
            Self::Usage(_) => USAGE,
            _ => super::FAILED,
        }
    }
}

/// Returns an error for words on the command line that make no sense together.
pub(super) fn usage_error(error: &anyhow::Error) -> anyhow::Error {
    Failure::Usage(format!("{error:#}")).into()
}

/// Returns the exit status for an error of a command that needs a running process; `None` for other errors.
pub(super) fn exit_code(error: &anyhow::Error) -> Option<u8> {
    match (error.downcast_ref::<Failure>(), error.downcast_ref::<ClientError>()) {
        (Some(failure), _) => Some(failure.exit_code()),
        (None, Some(ClientError::Connect { .. } | ClientError::Closed)) => Some(UNREACHABLE),
        _ => None,
    }
}

/// Returns the path of the control socket of the process that is meant.
///
/// # Errors
/// There is none or more than one; the message says what to do.
pub(super) fn socket_path(wanted: Option<&SocketArg>) -> anyhow::Result<PathBuf> {
    Ok(find::path(wanted)?)
}

/// Runs a command.
pub(super) fn run(command: &OperateCommand) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let client = find::connect(command.instance().control.as_ref()).await?;
        let version = client.greeting().underpass.clone();
        perform(client, command).await.map_err(|failure| match failure {
            Failure::Answer(error) => ClientError::Answer { version, error: error.to_string() }.into(),
            other => other,
        })
    });
    Ok(match result {
        Ok(code) => ExitCode::from(code),
        // As every program whose reader has read enough: head, less.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure);
            ExitCode::from(failure.exit_code())
        }
    })
}

/// Performs a command. Returns the exit status.
async fn perform(mut client: Client, command: &OperateCommand) -> Result<u8, Failure> {
    let requests: Vec<Request> = match command {
        OperateCommand::Ps { what, list, json, watch, .. } => {
            return list::ps(&mut client, *what, list, *json, *watch).await;
        }
        OperateCommand::Top { list, interval, count, .. } => {
            return list::top(&mut client, list, *interval, *count).await;
        }
        OperateCommand::Events { follow, recent, since, count, text, .. } => {
            let since = since.or(recent.then_some(Duration::MAX));
            // What has happened is all that is asked for, unless something else is said.
            let by_default = if since.is_some() { 0 } else { 1 };
            let count = count.or((!follow).then_some(by_default));
            return events::print(&mut client, EventsQuery { since, count, is_text: *text }).await;
        }
        OperateCommand::Kill { keys, filter: None, .. } => {
            let kill = |key: &Target| match key {
                Target::User(user) => Some(Request::KillUser { user: *user }),
                Target::Stream(stream) => Some(Request::Kill { stream: *stream }),
                Target::Proxy(_) | Target::Service(_) => None,
            };
            keys.iter().filter_map(kill).collect()
        }
        OperateCommand::Kill { filter: Some(filter), .. } => {
            let streams = matching(&mut client, filter).await?;
            streams.into_iter().map(|stream| Request::Kill { stream }).collect()
        }
        OperateCommand::Pause(args) => {
            let streams = streams(&mut client, args).await?;
            streams.into_iter().map(|stream| Request::Pause { stream }).collect()
        }
        OperateCommand::Resume(args) => {
            let streams = streams(&mut client, args).await?;
            streams.into_iter().map(|stream| Request::Resume { stream }).collect()
        }
        OperateCommand::Priority { priority, streams: args } => {
            let streams = streams(&mut client, args).await?;
            streams.into_iter().map(|stream| Request::Priority { stream, priority: *priority }).collect()
        }
        OperateCommand::Limit { target, limits: words, .. } => {
            vec![Request::limit(target.clone(), &limits(words).map_err(Failure::Usage)?)]
        }
        OperateCommand::Drain(ProxiesArgs { proxies, .. }) => {
            proxies.iter().map(|proxy| Request::Drain { proxy: proxy.clone() }).collect()
        }
        OperateCommand::Undrain(ProxiesArgs { proxies, .. }) => {
            proxies.iter().map(|proxy| Request::Undrain { proxy: proxy.clone() }).collect()
        }
        OperateCommand::Kick(ProxiesArgs { proxies, .. }) => {
            proxies.iter().map(|proxy| Request::Kick { proxy: proxy.clone() }).collect()
        }
        OperateCommand::Policy { service, policy, .. } => {
            vec![Request::Policy { service: service.clone(), policy: *policy }]
        }
        OperateCommand::Weight { proxy, weight, .. } => {
            vec![Request::Weight { proxy: proxy.clone(), weight: *weight }]
        }
        OperateCommand::Ban { networks, .. } => {
            networks.iter().map(|network| Request::Ban { network: *network }).collect()
        }
        OperateCommand::Unban { networks, .. } => {
            networks.iter().map(|network| Request::Unban { network: *network }).collect()
        }
        OperateCommand::Unblock { addresses, .. } => {
            addresses.iter().map(|address| Request::Unblock { address: *address }).collect()
        }
        OperateCommand::Reload { .. } => vec![Request::Reload],
        OperateCommand::Shutdown { now, .. } => vec![Request::Shutdown { now: *now }],
    };
    if requests.is_empty() {
        output::complain("no stream passes the filter");
        return Ok(NOT_FOUND);
    }
    let mut exit_code = 0;
    for request in &requests {
        match client.request(request).await {
            Ok(done) => report(request, &done),
            // One object that is gone does not keep the others from what was asked for.
            Err(ClientError::Refused(error)) if requests.len() > 1 => {
                output::complain(&error);
                exit_code = exit_code.max(Failure::Client(error.into()).exit_code());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(exit_code)
}

/// Returns the streams that a command names.
async fn streams(client: &mut Client, args: &StreamsArgs) -> Result<Vec<StreamKey>, Failure> {
    match &args.filter {
        Some(filter) => matching(client, filter).await,
        None => Ok(args.streams.clone()),
    }
}

/// Returns the open streams that pass a filter.
async fn matching(client: &mut Client, filter: &str) -> Result<Vec<StreamKey>, Failure> {
    let query = PsQuery {
        filter: Some(filter.to_owned()),
        over_ms: StreamFilter::parse(filter)
            .is_ok_and(|filter| filter.needs_rates())
            .then_some(RATE_INTERVAL_MS),
        ..PsQuery::default()
    };
    let mut answer = client.request(&Request::Ps(query)).await?;
    let rows: Vec<StreamRow> = serde_json::from_value(answer["streams"].take())?;
    Ok(rows.iter().filter_map(|row| row.key.parse().ok()).collect())
}

/// Prints what a request has changed.
fn report(request: &Request, done: &Value) {
    let streams = done["affected_streams"].as_u64().unwrap_or_default();
    let counted = format!("{streams} stream{}", if streams == 1 { "" } else { "s" });
    let text = match request {
        Request::Kill { stream } => format!("{stream} killed"),
        Request::KillUser { user } => format!("user {user}: {counted} killed"),
        Request::Pause { stream } => format!("{stream} paused"),
        Request::Resume { stream } => format!("{stream} resumed"),
        Request::Priority { stream, priority } => format!("{stream}: priority {priority}"),
        Request::Limit { target, .. } => format!("{target}: limits changed for {counted}"),
        Request::Drain { proxy } => format!("{proxy} drains: {counted} open"),
        Request::Undrain { proxy } => format!("{proxy} receives new streams again"),
        Request::Kick { proxy } => format!("{proxy} kicked: {counted} reset"),
        Request::Weight { proxy, weight } => format!("{proxy}: weight {weight}"),
        Request::Policy { service, policy } => format!("{service}: policy {policy}"),
        Request::Ban { network } => format!("{network} banned until the server ends: {counted} reset"),
        Request::Unban { network } => format!("{network} unbanned"),
        Request::Unblock { address } => format!("{address} unblocked"),
        Request::Reload => done["changes"].as_str().unwrap_or("reloaded").to_owned(),
        Request::Shutdown { now: false } => "draining; open streams have the drain timeout to end".to_owned(),
        Request::Shutdown { now: true } => "ending".to_owned(),
        _ => return,
    };
    output::print(format_args!("{text}\n"));
}
