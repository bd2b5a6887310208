//! What `underpass ps` lists besides streams.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Failure,
    table::{self, Column, MAX_CELL_CHARS, bytes, figure, limits, or_dash, text, without_default_group},
};
use crate::{
    cli::args::operate::ListKind,
    ids::{clean, format_bytes},
    operator::{ChannelRow, Client, ProxyListRow, Request, Role, ServiceRow, UserRow},
    tui::format,
};

/// The columns of proxies.
const PROXIES: &[Column<ProxyListRow>] = &[
    (text("PROXY"), |row| row.proxy.clone()),
    (text("NAME"), |row| or_dash(Some(&row.name))),
    (text("STATE"), |row| row.state.clone()),
    (text("SERVICES"), |row| services(&row.services)),
    (text("ADDRESS"), |row| row.address.clone()),
    (figure("CHANNELS"), |row| row.channels.to_string()),
    (figure("WEIGHT"), |row| row.weight.map_or_else(|| "-".to_owned(), |weight| weight.to_string())),
    (figure("STREAMS"), |row| row.streams.to_string()),
    (figure("TOTAL"), |row| row.streams_total.to_string()),
    (figure("UP"), |row| format_bytes(row.up)),
    (figure("DOWN"), |row| format_bytes(row.down)),
    (text("LIMIT"), |row| limits(row.limit_down, row.limit_up)),
    (figure("CONNECT p50/p99"), connect_latency),
    (figure("AGE"), |row| age(row.age_ms)),
];

/// The columns of the servers of a proxy.
const SERVERS: &[Column<ProxyListRow>] = &[
    (text("LINK"), |row| row.proxy.clone()),
    (text("SERVER"), |row| or_dash(Some(&row.name))),
    (text("STATE"), |row| row.state.clone()),
    (text("SERVICES"), |row| services(&row.services)),
    (text("ADDRESS"), |row| row.address.clone()),
    (figure("CHANNELS"), |row| row.channels.to_string()),
    (figure("STREAMS"), |row| row.streams.to_string()),
    (figure("TOTAL"), |row| row.streams_total.to_string()),
    (figure("UP"), |row| format_bytes(row.up)),
    (figure("DOWN"), |row| format_bytes(row.down)),
    (figure("CONNECT p50/p99"), connect_latency),
    (figure("AGE"), |row| age(row.age_ms)),
];

/// The columns of channels.
const CHANNELS: &[Column<ChannelRow>] = &[
    (text("CHANNEL"), |row| row.channel.clone()),
    (text("PROXY"), |row| or_dash(Some(&row.proxy_name))),
    (text("STATE"), |row| row.state.clone()),
    (text("ADDRESS"), |row| row.address.clone()),
    (text("FORMAT"), |row| row.format.clone()),
    (figure("STREAMS"), |row| row.streams.to_string()),
    (figure("RECEIVED"), |row| format_bytes(row.received)),
    (figure("SENT"), |row| format_bytes(row.sent)),
    (figure("QUEUED"), |row| format_bytes(row.queued)),
    (figure("RTT"), |row| row.rtt_us.map_or_else(|| "-".to_owned(), micros)),
    (text("CONGESTION"), |row| or_dash(row.congestion_control.as_deref())),
    (figure("AGE"), |row| age(row.age_ms)),
];

/// The columns of services.
const SERVICES: &[Column<ServiceRow>] = &[
    (text("SERVICE"), |row| without_default_group(&row.service)),
    (text("POLICY"), |row| row.policy.clone()),
    (figure("PROXIES"), |row| row.proxies.to_string()),
    (figure("STREAMS"), |row| row.streams.to_string()),
    (figure("TOTAL"), |row| row.streams_total.to_string()),
    (figure("UP"), |row| format_bytes(row.up)),
    (figure("DOWN"), |row| format_bytes(row.down)),
    (text("LIMIT"), |row| limits(row.limit_down, row.limit_up)),
];

/// The columns of users.
const USERS: &[Column<UserRow>] = &[
    (text("USER"), |row| row.user.clone()),
    (text("ADDRESS"), |row| row.address.clone()),
    (text("SERVICE"), |row| without_default_group(&row.service)),
    (figure("STREAMS"), |row| row.streams.to_string()),
    (figure("TOTAL"), |row| row.streams_total.to_string()),
    (figure("UP"), |row| format_bytes(row.up)),
    (figure("DOWN"), |row| format_bytes(row.down)),
    (text("LIMIT"), |row| limits(row.limit_down, row.limit_up)),
    (figure("AGE"), |row| age(row.age_ms)),
];

/// Asks for a list and returns its lines: a table, or a JSON object for each row.
pub(super) async fn lines(
    client: &mut Client,
    what: ListKind,
    is_json: bool,
    width: Option<usize>,
) -> Result<Vec<String>, Failure> {
    let (request, name) = match what {
        ListKind::Proxies => (Request::Proxies, "proxies"),
        ListKind::Services => (Request::Services, "services"),
        ListKind::Users => (Request::Users, "users"),
        ListKind::Bans => (Request::Bans, "networks"),
        ListKind::Channels => (Request::Channels, "channels"),
        ListKind::Totals => (Request::Totals, ""),
        ListKind::State | ListKind::Streams => (Request::State, ""),
    };
    let mut answer = client.request(&request).await?;
    let is_of_proxy = client.greeting().role == Role::Proxy;
    let rows = if name.is_empty() {
        vec![answer]
    } else {
        serde_json::from_value::<Vec<Value>>(answer[name].take())?
    };
    if is_json {
        return Ok(rows.iter().map(Value::to_string).collect());
    }
    match what {
        ListKind::Proxies if is_of_proxy => table(SERVERS, rows, width),
        ListKind::Proxies => table(PROXIES, rows, width),
        ListKind::Channels => table(CHANNELS, rows, width),
        ListKind::Services if !is_of_proxy => table(SERVICES, rows, width),
        ListKind::Users => table(USERS, rows, width),
        _ => Ok(rows.iter().flat_map(facts).collect()),
    }
}

/// Lays out a table of rows.
fn table<T: DeserializeOwned>(
    columns: &[Column<T>],
    rows: Vec<Value>,
    width: Option<usize>,
) -> Result<Vec<String>, Failure> {
    let rows: Vec<T> = serde_json::from_value(Value::Array(rows))?;
    Ok(table::table(columns, &rows, width))
}

/// Returns a row without a table: a line for each of its fields.
fn facts(row: &Value) -> Vec<String> {
    match row.as_object() {
        Some(fields) => {
            fields.iter().map(|(name, value)| format!("{}: {}", label(name), plain(name, value))).collect()
        }
        None => vec![plain("", row)],
    }
}

/// Returns the name of a field as people read it: its value has the unit.
fn label(name: &str) -> String {
    name.trim_end_matches("_ms").replace('_', " ")
}

/// Returns a value as text for people. The name of its field says what it is.
fn plain(name: &str, value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(|value| plain(name, value)).collect::<Vec<_>>().join(", "),
        Value::Object(_) => facts(value).join(" "),
        Value::Number(number) => match (number.as_u64(), name) {
            (Some(ms), _) if name.ends_with("_ms") => age(ms),
            (Some(count), "down" | "up") => bytes(Some(count)),
            _ => number.to_string(),
        },
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
    };
    clean(&text, MAX_CELL_CHARS)
}

/// Returns the services of a proxy.
fn services(services: &[String]) -> String {
    let services: Vec<_> = services.iter().map(|service| without_default_group(service)).collect();
    or_dash(Some(&services.join(" ")))
}

/// Returns the p50 and the p99 of the connect latency.
fn connect_latency(row: &ProxyListRow) -> String {
    format!("{}/{}", micros(row.connect_p50_us), micros(row.connect_p99_us))
}

/// Returns an age as the cockpit shows it.
fn age(millis: u64) -> String {
    format::age(Duration::from_millis(millis))
}

/// Returns a latency as the cockpit shows it.
fn micros(micros: u64) -> String {
    format::latency(Duration::from_micros(micros))
}
