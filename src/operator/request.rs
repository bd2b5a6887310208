//! The requests of the control protocol, and their translation into the server's commands.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use super::{
    peer::Access,
    protocol::{ErrorCode, RequestError},
};
use crate::{
    control::{Command, LimitChange, LimitScope, ProxyRef, Target, parse_rate},
    feed::Interest,
    ids::{
        AddressBlock, Direction, Network, Policy, Priority, ProxyId, Rate, ServiceKey, StreamKey,
        UserChannelId, near_miss_hint,
    },
};

/// A request, without its id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// Who the client is for the server, and what it may do.
    Whoami,
    /// How the process is.
    State,
    /// The open streams.
    Ps(PsQuery),
    /// The connected proxies.
    Proxies(PsQuery),
    /// The channels of all proxies.
    Channels(PsQuery),
    /// The open services.
    Services(PsQuery),
    /// The users.
    Users(PsQuery),
    /// Sums and counts of the whole server.
    Totals,
    /// The networks that are banned.
    Bans,
    /// Follows the lifecycle events from now on, and returns what was refused or failed before.
    Events {
        /// How many lines may be sent before the client grants more; as fast as the client reads if it is missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        credit: Option<u64>,
        /// Whether the answer has the newest refusals and failures before the request.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        recent: bool,
    },
    /// Watches the state: a snapshot, then what has changed, with the events and log records between.
    Watch(WatchQuery),
    /// Says what a watcher shows now. `id` is that of its request.
    Interest(Interest),
    /// Grants a follower more lines. `id` is that of the request that it follows.
    Credit {
        /// How many more.
        add: u64,
    },
    /// Resets one stream.
    Kill {
        /// Its key.
        stream: StreamKey,
    },
    /// Resets all streams of a user.
    KillUser {
        /// Its id.
        user: UserChannelId,
    },
    /// Pauses a stream.
    Pause {
        /// Its key.
        stream: StreamKey,
    },
    /// Resumes a paused stream.
    Resume {
        /// Its key.
        stream: StreamKey,
    },
    /// Sets the priority of a stream.
    Priority {
        /// Its key.
        stream: StreamKey,
        /// The priority.
        priority: Priority,
    },
    /// Sets or removes the rate limits of a stream, user, proxy or service.
    Limit {
        /// The object.
        #[serde(with = "crate::ids::serde_text")]
        target: Target,
        /// The limit of downloads; unchanged if it is missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        down: Option<LimitValue>,
        /// The limit of uploads; unchanged if it is missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        up: Option<LimitValue>,
    },
    /// Drains a proxy: it receives no new streams.
    Drain {
        /// Its id or name.
        #[serde(with = "crate::ids::serde_text")]
        proxy: ProxyRef,
    },
    /// Ends the drain of a proxy.
    Undrain {
        /// Its id or name.
        #[serde(with = "crate::ids::serde_text")]
        proxy: ProxyRef,
    },
    /// Disconnects a proxy and resets its streams.
    Kick {
        /// Its id or name.
        #[serde(with = "crate::ids::serde_text")]
        proxy: ProxyRef,
    },
    /// Sets the load-balancing weight of a proxy.
    Weight {
        /// Its id or name.
        #[serde(with = "crate::ids::serde_text")]
        proxy: ProxyRef,
        /// The weight.
        weight: u32,
    },
    /// Sets the load-balancing policy of a service.
    Policy {
        /// The public port, and the group if it is not the default one.
        service: ServiceKey,
        /// The policy.
        policy: Policy,
    },
    /// Refuses the users of a network from now on, and resets their streams.
    Ban {
        /// The network or address.
        network: Network,
    },
    /// Admits the users of a banned network again.
    Unban {
        /// The network or address, as it was banned.
        network: Network,
    },
    /// Unblocks an address that has sent wrong tokens.
    Unblock {
        /// The address.
        address: AddressBlock,
    },
    /// Reads the files of the operator again.
    Reload,
    /// Drains and ends the process.
    Shutdown {
        /// Whether open streams are reset at once.
        #[serde(default)]
        now: bool,
    },
}

/// Which rows are listed, and how.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PsQuery {
    /// Only those that pass this filter, in the language of the cockpit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// What they are sorted by, with the names of the cockpit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<String>,
    /// Whether the order is reversed.
    #[serde(default)]
    pub reverse: bool,
    /// The most rows that are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<usize>,
    /// The time over which rates are measured, in milliseconds. Without it there are none, and the answer is immediate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_ms: Option<u64>,
}

/// How the state is watched.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WatchQuery {
    /// How many lines may be sent before the client grants more.
    #[serde(default)]
    pub credit: u64,
    /// The time between two snapshots in milliseconds, 100 to 60,000.
    #[serde(default)]
    pub interval_ms: u64,
    /// Whether log records are sent.
    #[serde(default)]
    pub log: bool,
    /// What the client shows.
    #[serde(flatten)]
    pub interest: Interest,
}

/// A rate limit in a request: a rate, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitValue(pub Option<Rate>);

impl Serialize for LimitValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(rate) => serializer.serialize_u64(rate.bytes_per_second()),
            None => serializer.serialize_str("off"),
        }
    }
}

impl<'de> Deserialize<'de> for LimitValue {
    /// Accepts bytes per second as a number, and what the cockpit accepts as text: `"1M"`, `"500K/s"`, `"off"`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match Value::deserialize(deserializer)? {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            _ => return Err(de::Error::custom("expected a rate such as \"1M\" or 1000000, or \"off\"")),
        };
        parse_rate(&text).map(Self).map_err(de::Error::custom)
    }
}

/// What is known of a request by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestInfo {
    /// The value of `do`.
    pub name: &'static str,
    /// A complete request.
    pub example: &'static str,
    /// What a client must be permitted to send it.
    pub access: Access,
}

/// Describes a request.
const fn info(name: &'static str, access: Access, example: &'static str) -> RequestInfo {
    RequestInfo { name, example, access }
}

/// All requests.
pub const REQUESTS: [RequestInfo; 29] = [
    info("whoami", Access::Read, r#"{"id":1,"do":"whoami"}"#),
    info("state", Access::Read, r#"{"id":1,"do":"state"}"#),
    info("ps", Access::Read, r#"{"id":1,"do":"ps","filter":"proxy:edge down>1M","over_ms":500}"#),
    info("proxies", Access::Read, r#"{"id":1,"do":"proxies"}"#),
    info("channels", Access::Read, r#"{"id":1,"do":"channels"}"#),
    info("services", Access::Read, r#"{"id":1,"do":"services"}"#),
    info("users", Access::Read, r#"{"id":1,"do":"users","filter":"down>1M","over_ms":500}"#),
    info("totals", Access::Read, r#"{"id":1,"do":"totals"}"#),
    info("bans", Access::Read, r#"{"id":1,"do":"bans"}"#),
    info("events", Access::Read, r#"{"id":2,"do":"events","credit":100}"#),
    info("watch", Access::Read, r#"{"id":2,"do":"watch","credit":10,"interval_ms":1000}"#),
    info("interest", Access::Read, r#"{"id":2,"do":"interest","streams":[1,2],"users":[],"selected":[]}"#),
    info("credit", Access::Read, r#"{"id":2,"do":"credit","add":100}"#),
    info("kill", Access::Operate, r#"{"id":1,"do":"kill","stream":"3F9A1C:1"}"#),
    info("kill-user", Access::Operate, r#"{"id":1,"do":"kill-user","user":"3F9A1C"}"#),
    info("pause", Access::Operate, r#"{"id":1,"do":"pause","stream":"3F9A1C:1"}"#),
    info("resume", Access::Operate, r#"{"id":1,"do":"resume","stream":"3F9A1C:1"}"#),
    info("priority", Access::Operate, r#"{"id":1,"do":"priority","stream":"3F9A1C:1","priority":"high"}"#),
    info("limit", Access::Operate, r#"{"id":1,"do":"limit","target":"3F9A1C:1","down":"1M","up":"off"}"#),
    info("drain", Access::Operate, r#"{"id":1,"do":"drain","proxy":"P1"}"#),
    info("undrain", Access::Operate, r#"{"id":1,"do":"undrain","proxy":"P1"}"#),
    info("kick", Access::Operate, r#"{"id":1,"do":"kick","proxy":"P1"}"#),
    info("weight", Access::Operate, r#"{"id":1,"do":"weight","proxy":"P1","weight":3}"#),
    info("policy", Access::Operate, r#"{"id":1,"do":"policy","service":"8080","policy":"least-streams"}"#),
    info("ban", Access::Operate, r#"{"id":1,"do":"ban","network":"192.0.2.0/24"}"#),
    info("unban", Access::Operate, r#"{"id":1,"do":"unban","network":"192.0.2.0/24"}"#),
    info("unblock", Access::Operate, r#"{"id":1,"do":"unblock","address":"192.0.2.1"}"#),
    info("reload", Access::Operate, r#"{"id":1,"do":"reload"}"#),
    info("shutdown", Access::Operate, r#"{"id":1,"do":"shutdown"}"#),
];

/// A line that is a request, or almost.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ReceivedRequest {
    /// The id that the answer repeats; `null` if the request has none.
    pub(super) id: Value,
    /// What it asks for, or why that cannot be told.
    pub(super) request: Result<(Request, &'static RequestInfo), RequestError>,
}

/// Parses a line.
pub(super) fn parse(line: &[u8]) -> ReceivedRequest {
    let why = match serde_json::from_slice::<Value>(line) {
        Ok(Value::Object(fields)) => {
            let id = fields.get("id").cloned().unwrap_or(Value::Null);
            return ReceivedRequest { request: parse_fields(fields), id };
        }
        Ok(_) => format!("a request is a JSON object, such as {}", REQUESTS[2].example),
        Err(error) => format!("no JSON: {error}; a request is a line such as {}", REQUESTS[2].example),
    };
    ReceivedRequest { id: Value::Null, request: Err(RequestError::new(ErrorCode::InvalidJson, why)) }
}

/// Parses the fields of a request.
fn parse_fields(
    fields: serde_json::Map<String, Value>,
) -> Result<(Request, &'static RequestInfo), RequestError> {
    let Some(Value::String(name)) = fields.get("do") else {
        return Err(RequestError::invalid(format!(
            "the field «do» with the name of the request is missing; for example: {}",
            REQUESTS[2].example
        )));
    };
    let Some(info) = REQUESTS.iter().find(|info| info.name == name) else {
        let hint = near_miss_hint(name, REQUESTS.iter().map(|info| info.name));
        let known: Vec<_> = REQUESTS.iter().map(|info| info.name).collect();
        // A client chose the name; it is not repeated in full.
        let name: String = name.chars().take(40).collect();
        return Err(RequestError::new(
            ErrorCode::UnknownRequest,
            format!("unknown request «{name}»{hint}; known: {}", known.join(", ")),
        ));
    };
    let request = serde_json::from_value(Value::Object(fields)).map_err(|error| {
        RequestError::invalid(format!("{}: {error}; for example: {}", info.name, info.example))
    })?;
    Ok((request, info))
}

impl Request {
    /// Returns the commands that the request stands for; `None` if it is for another part of the process. `find`
    /// returns the proxies with a name.
    ///
    /// # Errors
    /// A proxy is named that does not exist, or whose name several have; or a limit without a rate.
    pub(super) fn commands(
        &self,
        find: impl Fn(&str) -> Vec<ProxyId>,
    ) -> Result<Option<Vec<Command>>, RequestError> {
        let proxy = |proxy: &ProxyRef| resolve(proxy, &find);
        Ok(Some(vec![match self {
            Self::Kill { stream } => Command::KillStream(*stream),
            Self::KillUser { user } => Command::KillUser(*user),
            Self::Pause { stream } => Command::PauseStream(*stream),
            Self::Resume { stream } => Command::ResumeStream(*stream),
            Self::Priority { stream, priority } => Command::SetPriority(*stream, *priority),
            Self::Drain { proxy: of } => Command::DrainProxy(proxy(of)?),
            Self::Undrain { proxy: of } => Command::UndrainProxy(proxy(of)?),
            Self::Kick { proxy: of } => Command::KickProxy(proxy(of)?),
            Self::Weight { proxy: of, weight } => Command::SetWeight(proxy(of)?, *weight),
            Self::Policy { service, policy } => Command::SetPolicy(service.clone(), *policy),
            Self::Ban { network } => Command::Ban(*network),
            Self::Unban { network } => Command::Unban(*network),
            Self::Unblock { address } => Command::Unblock(*address),
            Self::Limit { target, down, up } => {
                let scope = match target {
                    Target::Stream(key) => LimitScope::Stream(*key),
                    Target::User(user) => LimitScope::User(*user),
                    Target::Service(service) => LimitScope::Service(service.clone()),
                    Target::Proxy(of) => LimitScope::Proxy(proxy(of)?),
                };
                let limits = [(Direction::Down, down), (Direction::Up, up)];
                let commands: Vec<_> = limits
                    .into_iter()
                    .filter_map(|(direction, limit)| {
                        Some(Command::SetLimit(scope.clone(), direction, (*limit)?.0))
                    })
                    .collect();
                if commands.is_empty() {
                    return Err(RequestError::invalid("limit: «down», «up» or both have to be given"));
                }
                return Ok(Some(commands));
            }
            _ => return Ok(None),
        }]))
    }

    /// Creates the request that limits `target`.
    pub fn limit(target: Target, changes: &[LimitChange]) -> Self {
        let of = |direction| {
            changes.iter().find(|change| change.direction == direction).map(|change| LimitValue(change.rate))
        };
        Self::Limit { target, down: of(Direction::Down), up: of(Direction::Up) }
    }
}

impl From<&Command> for Request {
    /// Creates the request for which a server executes this command.
    fn from(command: &Command) -> Self {
        let by_id = |id: &ProxyId| ProxyRef::Id(*id);
        match command {
            Command::KillStream(stream) => Self::Kill { stream: *stream },
            Command::KillUser(user) => Self::KillUser { user: *user },
            Command::PauseStream(stream) => Self::Pause { stream: *stream },
            Command::ResumeStream(stream) => Self::Resume { stream: *stream },
            Command::SetPriority(stream, priority) => Self::Priority { stream: *stream, priority: *priority },
            Command::KickProxy(proxy) => Self::Kick { proxy: by_id(proxy) },
            Command::DrainProxy(proxy) => Self::Drain { proxy: by_id(proxy) },
            Command::UndrainProxy(proxy) => Self::Undrain { proxy: by_id(proxy) },
            Command::SetWeight(proxy, weight) => Self::Weight { proxy: by_id(proxy), weight: *weight },
            Command::SetPolicy(service, policy) => Self::Policy { service: service.clone(), policy: *policy },
            Command::Ban(network) => Self::Ban { network: *network },
            Command::Unban(network) => Self::Unban { network: *network },
            Command::Unblock(address) => Self::Unblock { address: *address },
            Command::SetLimit(scope, direction, rate) => {
                let target = match scope {
                    LimitScope::Stream(key) => Target::Stream(*key),
                    LimitScope::User(user) => Target::User(*user),
                    LimitScope::Proxy(proxy) => Target::Proxy(by_id(proxy)),
                    LimitScope::Service(service) => Target::Service(service.clone()),
                };
                Self::limit(target, &[LimitChange { direction: *direction, rate: *rate }])
            }
        }
    }
}

/// Returns the proxy that a client names.
fn resolve(proxy: &ProxyRef, find: impl Fn(&str) -> Vec<ProxyId>) -> Result<ProxyId, RequestError> {
    let name = match proxy {
        ProxyRef::Id(id) => return Ok(*id),
        ProxyRef::Name(name) => name,
    };
    match find(name)[..] {
        [] => Err(RequestError::new(
            ErrorCode::NotFound,
            format!("no proxy «{name}» is connected; `underpass ps proxies` lists those that are"),
        )),
        [only] => Ok(only),
        ref several => {
            let ids: Vec<_> = several.iter().map(ToString::to_string).collect();
            let why = format!("several proxies are called «{name}»: name one by its id: {}", ids.join(", "));
            Err(RequestError::new(ErrorCode::Ambiguous, why))
        }
    }
}

#[cfg(test)]
mod tests;
