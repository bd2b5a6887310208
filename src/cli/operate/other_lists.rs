//! What `underpass ps` lists besides streams.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Failure,
    query::{query, usage_of_sort},
    table::{
        self, Column, MAX_CELL_CHARS, NamedColumn, bytes, choose, figure, limits, or_dash, text,
        without_default_group,
    },
};
use crate::{
    cli::args::operate::{ListKind, RowListArgs},
    ids::{clean, format_bytes},
    operator::{
        CHANNEL_SORT_KEYS, ChannelRow, Client, PROXY_SORT_KEYS, ProxyListRow, PsQuery, Request, Role,
        SERVICE_SORT_KEYS, ServiceRow, USER_SORT_KEYS, UserRow,
    },
    tui::format,
};

/// The columns of proxies.
const PROXIES: &[NamedColumn<ProxyListRow>] = &[
    ("proxy", (text("PROXY"), |row| row.proxy.clone())),
    ("name", (text("NAME"), |row| or_dash(Some(&row.name)))),
    ("state", (text("STATE"), |row| row.state.clone())),
    ("services", (text("SERVICES"), |row| services(&row.services))),
    ("address", (text("ADDRESS"), |row| row.address.clone())),
    ("channels", (figure("CHANNELS"), |row| row.channels.to_string())),
    ("weight", (figure("WEIGHT"), |row| or_dash(row.weight.map(|weight| weight.to_string()).as_deref()))),
    ("streams", (figure("STREAMS"), |row| row.streams.to_string())),
    ("total", (figure("TOTAL"), |row| row.streams_total.to_string())),
    ("up", (figure("UP/s"), |row| bytes(row.up_rate))),
    ("down", (figure("DOWN/s"), |row| bytes(row.down_rate))),
    ("traffic", (figure("TRAFFIC %"), |row| percent(row.traffic_percent))),
    ("limit", (text("LIMIT"), |row| limits(row.limit_down, row.limit_up))),
    ("up-bytes", (figure("UP"), |row| format_bytes(row.up))),
    ("down-bytes", (figure("DOWN"), |row| format_bytes(row.down))),
    ("connect", (figure("CONNECT p50/p99"), |row| p50_p99(row.connect_p50_us, row.connect_p99_us))),
    ("age", (figure("AGE"), |row| age(row.age_ms))),
];

/// The columns of proxies that a proxy does not have of its servers.
const NOT_OF_SERVERS: [&str; 2] = ["weight", "limit"];

/// The columns of channels.
const CHANNELS: &[NamedColumn<ChannelRow>] = &[
    ("channel", (text("CHANNEL"), |row| row.channel.clone())),
    ("proxy", (text("PROXY"), |row| or_dash(Some(&row.proxy_name)))),
    ("state", (text("STATE"), |row| row.state.clone())),
    ("address", (text("ADDRESS"), |row| row.address.clone())),
    ("format", (text("FORMAT"), |row| row.format.clone())),
    ("streams", (figure("STREAMS"), |row| row.streams.to_string())),
    ("received", (figure("RECEIVED/s"), |row| bytes(row.received_rate))),
    ("sent", (figure("SENT/s"), |row| bytes(row.sent_rate))),
    ("received-bytes", (figure("RECEIVED"), |row| format_bytes(row.received))),
    ("sent-bytes", (figure("SENT"), |row| format_bytes(row.sent))),
    ("queued", (figure("QUEUED"), |row| format_bytes(row.queued))),
    ("rtt", (figure("RTT"), |row| row.rtt_us.map_or_else(|| "-".to_owned(), micros))),
    ("congestion", (text("CONGESTION"), |row| or_dash(row.congestion_control.as_deref()))),
    ("age", (figure("AGE"), |row| age(row.age_ms))),
];

/// The columns of services.
const SERVICES: &[NamedColumn<ServiceRow>] = &[
    ("service", (text("SERVICE"), |row| without_default_group(&row.service))),
    ("policy", (text("POLICY"), |row| row.policy.clone())),
    ("proxies", (figure("PROXIES"), |row| row.proxies.to_string())),
    ("streams", (figure("STREAMS"), |row| row.streams.to_string())),
    ("total", (figure("TOTAL"), |row| row.streams_total.to_string())),
    ("up", (figure("UP/s"), |row| bytes(row.up_rate))),
    ("down", (figure("DOWN/s"), |row| bytes(row.down_rate))),
    ("limit", (text("LIMIT"), |row| limits(row.limit_down, row.limit_up))),
    ("connect", (figure("CONNECT p50/p99"), |row| p50_p99(row.connect_p50_us, row.connect_p99_us))),
    ("ttfb", (figure("TTFB p50/p99"), |row| p50_p99(row.ttfb_p50_us, row.ttfb_p99_us))),
    ("up-bytes", (figure("UP"), |row| format_bytes(row.up))),
    ("down-bytes", (figure("DOWN"), |row| format_bytes(row.down))),
];

/// The columns of users.
const USERS: &[NamedColumn<UserRow>] = &[
    ("user", (text("USER"), |row| row.user.clone())),
    ("address", (text("ADDRESS"), |row| row.address.clone())),
    ("service", (text("SERVICE"), |row| without_default_group(&row.service))),
    ("streams", (figure("STREAMS"), |row| row.streams.to_string())),
    ("up", (figure("UP/s"), |row| bytes(row.up_rate))),
    ("down", (figure("DOWN/s"), |row| bytes(row.down_rate))),
    ("limit", (text("LIMIT"), |row| limits(row.limit_down, row.limit_up))),
    ("traffic", (figure("TRAFFIC %"), |row| percent(row.traffic_percent))),
    ("up-bytes", (figure("UP"), |row| format_bytes(row.up))),
    ("down-bytes", (figure("DOWN"), |row| format_bytes(row.down))),
    ("total", (figure("TOTAL STREAMS"), |row| row.streams_total.to_string())),
    ("age", (figure("AGE"), |row| age(row.age_ms))),
];

/// How a list is to be printed.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListOptions<'a> {
    /// Which rows, in which order, and which columns.
    pub(super) list: &'a RowListArgs,
    /// The time over which rates are measured.
    pub(super) over: Duration,
    /// Whether each row is a JSON object.
    pub(super) is_json: bool,
    /// The width of the terminal; `None` if the output is none.
    pub(super) width: Option<usize>,
}

/// Asks for a list and returns its lines: a table, or a JSON object for each row.
pub(super) async fn lines(
    client: &mut Client,
    what: ListKind,
    options: ListOptions<'_>,
) -> Result<Vec<String>, Failure> {
    let is_of_proxy = client.greeting().role == Role::Proxy;
    let (request, name) = match what {
        ListKind::Proxies => {
            let columns = proxies(is_of_proxy);
            let list = List { name: "proxies", sort_keys: &PROXY_SORT_KEYS, columns: &columns };
            return list.lines(client, Request::Proxies, options).await;
        }
        ListKind::Channels => {
            let list = List { name: "channels", sort_keys: &CHANNEL_SORT_KEYS, columns: CHANNELS };
            return list.lines(client, Request::Channels, options).await;
        }
        ListKind::Services if !is_of_proxy => {
            let list = List { name: "services", sort_keys: &SERVICE_SORT_KEYS, columns: SERVICES };
            return list.lines(client, Request::Services, options).await;
        }
        ListKind::Users => {
            let list = List { name: "users", sort_keys: &USER_SORT_KEYS, columns: USERS };
            return list.lines(client, Request::Users, options).await;
        }
        ListKind::Services => (Request::Services(PsQuery::default()), "services"),
        ListKind::Bans => (Request::Bans, "networks"),
        ListKind::Totals => (Request::Totals, ""),
        ListKind::State | ListKind::Streams => (Request::State, ""),
    };
    if options.list.is_any_given() {
        let why = "this list has no columns: leave --filter, --sort, --reverse, --columns and --max out";
        return Err(Failure::Usage(why.to_owned()));
    }
    let mut answer = client.request(&request).await?;
    let rows = match name {
        "" => vec![answer],
        name => serde_json::from_value::<Vec<Value>>(answer[name].take())?,
    };
    if options.is_json {
        return Ok(rows.iter().map(Value::to_string).collect());
    }
    Ok(rows.iter().flat_map(facts).collect())
}

/// A list with columns.
struct List<'a, T> {
    /// The field of the answer that has the rows.
    name: &'static str,
    /// What it is sorted by.
    sort_keys: &'static [&'static str],
    /// The columns that it has.
    columns: &'a [NamedColumn<T>],
}

impl<T: DeserializeOwned> List<'_, T> {
    /// Asks for the rows and returns their lines. What is wrong with the options is said before rates are measured.
    async fn lines(
        &self,
        client: &mut Client,
        request: fn(PsQuery) -> Request,
        options: ListOptions<'_>,
    ) -> Result<Vec<String>, Failure> {
        let ListOptions { list, over, is_json, width } = options;
        let columns = choose(self.columns, list.columns.as_deref())?;
        if let Some(sort) = &list.sort
            && !self.sort_keys.contains(&sort.as_str())
        {
            let known = self.sort_keys.join("|");
            return Err(usage_of_sort(format!("unknown sort key «{sort}»; expected: {known}")));
        }
        let mut answer = client.request(&request(query(list, over))).await?;
        let rows = answer[self.name].take();
        if is_json {
            let rows: Vec<Value> = serde_json::from_value(rows)?;
            return Ok(rows.iter().map(Value::to_string).collect());
        }
        let rows: Vec<T> = serde_json::from_value(rows)?;
        let columns: Vec<Column<T>> = columns.into_iter().map(|(_, column)| column).collect();
        Ok(table::table(&columns, &rows, width))
    }
}

/// Returns the columns of proxies; on a proxy, those of its servers.
fn proxies(is_of_proxy: bool) -> Vec<NamedColumn<ProxyListRow>> {
    if !is_of_proxy {
        return PROXIES.to_vec();
    }
    let known = PROXIES.iter().filter(|(name, _)| !NOT_OF_SERVERS.contains(name));
    let of_server = known.map(|(name, (heading, cell))| match *name {
        "proxy" => (*name, (text("LINK"), *cell)),
        "name" => (*name, (text("SERVER"), *cell)),
        _ => (*name, (*heading, *cell)),
    });
    of_server.collect()
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

/// Returns the p50 and the p99 of a latency in microseconds.
fn p50_p99(p50: u64, p99: u64) -> String {
    format!("{}/{}", micros(p50), micros(p99))
}

/// Returns a share of the traffic.
fn percent(share: Option<u64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{share}%"))
}

/// Returns an age as the cockpit shows it.
fn age(millis: u64) -> String {
    format::age(Duration::from_millis(millis))
}

/// Returns a latency as the cockpit shows it.
fn micros(micros: u64) -> String {
    format::latency(Duration::from_micros(micros))
}
