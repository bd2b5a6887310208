//! `underpass complete`: what runs, for the completion of a command line by a shell. The scripts of `underpass
//! completions` call it with the words so far.
//!
//! It prints nothing on errors: a shell would show them in the middle of the line that the user types.
//! Rejected: the dynamic engine of clap_complete, which is unstable, replaces the scripts as a whole, and breaks in
//! bash at the colon of a stream key.

use std::{collections::HashSet, process::ExitCode, time::Duration};

use clap::{Command, CommandFactory as _};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    args::{
        CliArgs, CompleteArgs,
        operate::{CONTROL_VARIABLE, instance},
    },
    operate, output,
};
use crate::{
    ids::{Policy, Priority, clean, is_plain_name},
    operator::{
        Client, ProxyListRow, PsQuery, Request, ServiceRow, StreamRow, UserRow, environment, instances,
    },
    tui::format::counted,
};

/// The most candidates: more would not fit a screen, and with one more character there are fewer.
const MAX_CANDIDATES: usize = 200;

/// How long a shell waits: longer is felt as a terminal that hangs.
const TIMEOUT: Duration = Duration::from_millis(300);

/// The longest description of a candidate, in characters.
const MAX_DESCRIPTION_CHARS: usize = 60;

/// What may be typed, with what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    /// The word.
    value: String,
    /// What it is, for shells that show it.
    description: String,
}

/// What the word that is being typed names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Streams.
    Streams,
    /// Streams and users.
    StreamsAndUsers,
    /// What has rate limits.
    Targets,
    /// Proxies.
    Proxies,
    /// Services.
    Services,
    /// The addresses of users.
    UserAddresses,
    /// Networks that are banned.
    Bans,
    /// Control sockets.
    Instances,
    /// Priorities.
    Priorities,
    /// Load-balancing policies.
    Policies,
    /// What begins a rate limit.
    LimitWords,
}

/// A command line that is being typed, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
struct Typed {
    /// What the last word names.
    kind: Kind,
    /// The process that the line is about; `None` for the only one.
    control: Option<String>,
    /// What the line names already.
    given: Vec<String>,
    /// The last word as far as it is typed.
    prefix: String,
}

/// Prints candidates for the last word, one a line, each with a tab and what it is. Always succeeds.
pub(super) fn run(args: &CompleteArgs) -> ExitCode {
    let words: Vec<String> = args.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let Some(typed) = Typed::parse(&CliArgs::command(), &words) else { return ExitCode::SUCCESS };
    let found = tokio::runtime::Builder::new_current_thread().enable_all().build().ok().and_then(|runtime| {
        runtime.block_on(async { tokio::time::timeout(TIMEOUT, candidates(&typed)).await.ok().flatten() })
    });
    let lines: String = select(&typed, found.unwrap_or_default())
        .iter()
        .map(|candidate| {
            format!("{}\t{}\n", candidate.value, clean(&candidate.description, MAX_DESCRIPTION_CHARS))
        })
        .collect();
    output::print(lines);
    ExitCode::SUCCESS
}

/// Returns the candidates that continue what is typed and are not named yet, as many as are shown.
fn select(typed: &Typed, found: Vec<Candidate>) -> Vec<Candidate> {
    let continues = |value: &str| {
        // Keys are hexadecimal: in lower case they are meant as well.
        value.get(..typed.prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(&typed.prefix))
    };
    let mut seen = HashSet::new();
    found
        .into_iter()
        .filter(|candidate| continues(&candidate.value) && !typed.given.contains(&candidate.value))
        // A user of two services has one address.
        .filter(|candidate| seen.insert(candidate.value.clone()))
        .take(MAX_CANDIDATES)
        .collect()
}

impl Typed {
    /// Understands the words after the name of the program. Returns `None` where the last one names nothing that runs.
    fn parse(command: &Command, words: &[String]) -> Option<Self> {
        let (prefix, before) = words.split_last()?;
        let (name, rest) = before.split_first()?;
        let command = command.find_subcommand(name)?;
        let (mut given, mut control, mut open_option) = (Vec::new(), None, None);
        for word in rest {
            if let Some(option) = open_option.take() {
                if option == "control" {
                    control = Some(word.clone());
                }
            } else if let Some(long) = word.strip_prefix("--") {
                match long.split_once('=') {
                    Some(("control", value)) => control = Some(value.to_owned()),
                    Some(_) => {}
                    None => {
                        let found = command.get_arguments().find(|arg| arg.get_long() == Some(long));
                        let takes_value = found.is_some_and(|arg| arg.get_action().takes_values());
                        open_option = takes_value.then(|| long.to_owned());
                    }
                }
            } else if let (Some(letters), true) = (word.strip_prefix('-'), word.len() > 1) {
                let last = letters.chars().last();
                let found = command.get_arguments().find(|arg| arg.get_short() == last);
                open_option = found.filter(|arg| arg.get_action().takes_values()).map(|_| letters.to_owned());
            } else {
                given.push(word.clone());
            }
        }
        let kind = match open_option.as_deref() {
            Some("control") => Kind::Instances,
            Some(_) => return None,
            None if prefix.starts_with('-') => return None,
            None => Kind::of(name, given.len())?,
        };
        Some(Self { kind, control, given, prefix: prefix.clone() })
    }
}

impl Kind {
    /// Returns what the positional argument of a subcommand after `position` others names; `None` if nothing that runs.
    fn of(subcommand: &str, position: usize) -> Option<Self> {
        Some(match (subcommand, position) {
            ("kill", _) => Self::StreamsAndUsers,
            ("pause" | "resume", _) => Self::Streams,
            ("priority", 0) => Self::Priorities,
            ("priority", _) => Self::Streams,
            ("limit", 0) => Self::Targets,
            ("limit", _) => Self::LimitWords,
            ("drain" | "undrain" | "kick", _) | ("weight", 0) => Self::Proxies,
            ("policy", 0) => Self::Services,
            ("policy", 1) => Self::Policies,
            ("ban", _) => Self::UserAddresses,
            ("unban", _) => Self::Bans,
            ("attach", 0) => Self::Instances,
            _ => return None,
        })
    }
}

/// Returns the candidates for a word, also such as do not continue it; `None` where nothing can be asked.
async fn candidates(typed: &Typed) -> Option<Vec<Candidate>> {
    match typed.kind {
        Kind::Priorities => return Some(named(Priority::ALL)),
        Kind::Policies => return Some(named(Policy::ALL)),
        Kind::LimitWords => return Some(named(["down", "up", "off"])),
        Kind::Instances => return Some(running()),
        _ => {}
    }
    let variable = || std::env::var(CONTROL_VARIABLE).ok().filter(|value| !value.is_empty());
    let wanted = typed.control.clone().or_else(variable).map(|name| instance(&name)).transpose().ok()?;
    let mut client = Client::connect(&operate::socket_path(wanted.as_ref()).ok()?).await.ok()?;
    let mut found = Vec::new();
    if matches!(typed.kind, Kind::Streams | Kind::StreamsAndUsers | Kind::Targets) {
        found.extend(streams(&mut client, &typed.prefix).await?);
    }
    if matches!(typed.kind, Kind::StreamsAndUsers | Kind::Targets | Kind::UserAddresses) {
        let query = PsQuery { sort: Some("bytes".to_owned()), ..PsQuery::default() };
        let users: Vec<UserRow> = rows(&mut client, Request::Users(query), "users").await?;
        found.extend(users.iter().map(|user| {
            let described = format!("{}: {}", user.address, streams_on(user.streams, &user.service));
            match typed.kind {
                Kind::UserAddresses => candidate(&user.address, &streams_on(user.streams, &user.service)),
                _ => candidate(&user.user, &described),
            }
        }));
    }
    // A proxy has neither services nor proxies with limits.
    if matches!(typed.kind, Kind::Targets | Kind::Services) {
        let services = Request::Services(PsQuery::default());
        let services: Vec<ServiceRow> = rows(&mut client, services, "services").await.unwrap_or_default();
        found.extend(services.iter().map(|row| {
            let name = row.service.strip_suffix(":default").unwrap_or(&row.service);
            candidate(name, &format!("service: {}, {}", row.policy, counted(row.streams, "stream")))
        }));
    }
    if matches!(typed.kind, Kind::Targets | Kind::Proxies) {
        let proxies = Request::Proxies(PsQuery::default());
        let proxies: Vec<ProxyListRow> = rows(&mut client, proxies, "proxies").await?;
        let is_unique = |name: &str| proxies.iter().filter(|row| row.name == name).count() == 1;
        found.extend(proxies.iter().map(|row| {
            // The command has to mean this one, and a shell must not split it.
            let name = Some(&row.name).filter(|name| is_plain_name(name) && is_unique(name));
            let described = format!(
                "proxy {} {}: {}, {}",
                row.proxy,
                row.address,
                row.state,
                counted(row.streams, "stream")
            );
            candidate(name.unwrap_or(&row.proxy), &described)
        }));
    }
    if typed.kind == Kind::Bans {
        let networks: Vec<String> = rows(&mut client, Request::Bans, "networks").await?;
        found.extend(networks.iter().map(|network| candidate(network, "banned")));
    }
    Some(found)
}

/// Creates a candidate.
fn candidate(value: &str, description: &str) -> Candidate {
    Candidate { value: value.to_owned(), description: description.to_owned() }
}

/// Returns words that do not depend on what runs.
fn named<T: ToString, const N: usize>(words: [T; N]) -> Vec<Candidate> {
    words.map(|word| candidate(&word.to_string(), "")).into()
}

/// Describes the streams of a user.
fn streams_on(streams: u64, service: &str) -> String {
    format!("{} on {}", counted(streams, "stream"), service.strip_suffix(":default").unwrap_or(service))
}

/// Asks for a list; `None` if it is refused.
async fn rows<T: DeserializeOwned>(client: &mut Client, request: Request, name: &str) -> Option<Vec<T>> {
    let mut answer: Value = client.request(&request).await.ok()?;
    serde_json::from_value(answer[name].take()).ok()
}

/// Asks for the open streams whose keys may continue the prefix, those with the most bytes first.
async fn streams(client: &mut Client, prefix: &str) -> Option<Vec<Candidate>> {
    let is_key = !prefix.is_empty() && prefix.chars().all(|c| c.is_ascii_hexdigit() || c == ':');
    let query = PsQuery {
        filter: is_key.then(|| format!("key:{prefix}")),
        sort: Some("bytes".to_owned()),
        // The filter finds a prefix within a key, too.
        max: Some(10 * MAX_CANDIDATES),
        ..PsQuery::default()
    };
    let streams: Vec<StreamRow> = rows(client, Request::Ps(query), "streams").await?;
    let described = streams.iter().map(|row| {
        let content = row.content.as_deref().unwrap_or_default();
        let proxy = row.proxy_name.as_deref().unwrap_or_default();
        candidate(&row.key, format!("{} {} {proxy} {content}", row.state, row.address).trim_end())
    });
    Some(described.collect())
}

/// Returns the processes that can be named.
fn running() -> Vec<Candidate> {
    let found = instances(&environment);
    let permitted = found.iter().filter(|instance| instance.is_permitted);
    permitted.map(|instance| candidate(&instance.name, &instance.path.display().to_string())).collect()
}

#[cfg(test)]
mod tests;
