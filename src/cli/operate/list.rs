//! `underpass ps` and `underpass top`.

use std::{
    io::{IsTerminal as _, stdout},
    time::Duration,
};

use rustix::termios::{Winsize, tcgetwinsize};
use serde_json::Value;

use super::{
    Failure, RATE_INTERVAL_MS, other_lists,
    table::{Column, bytes, figure, limits, or_dash, table, text, without_default_group},
};
use crate::{
    cli::{
        args::operate::{ListKind, StreamListArgs},
        output,
    },
    ids::format_bytes,
    operator::{Client, PsQuery, Request, Role, StreamRow, TotalsRow},
    tui::format,
};

/// The columns of streams that are shown unless others are chosen.
const DEFAULT_COLUMNS: &str =
    "stream,state,service,proxy,address,content,priority,limit,up,down,up-bytes,down-bytes,progress,age";

/// The columns of streams of a proxy: without what only the server knows.
const DEFAULT_COLUMNS_OF_PROXY: &str =
    "stream,state,service,proxy,channel,address,up,down,up-bytes,down-bytes,age";

/// A column of streams, and its name among the cockpit's settings.
type StreamColumn = (&'static str, Column<StreamRow>);

/// All columns of streams.
const COLUMNS: [StreamColumn; 15] = [
    ("stream", (text("STREAM"), |row| row.key.clone())),
    ("state", (text("STATE"), |row| row.state.clone())),
    ("service", (text("SERVICE"), |row| without_default_group(&row.service))),
    ("proxy", (text("PROXY"), proxy)),
    ("channel", (text("CHANNEL"), |row| or_dash(row.channel.as_deref()))),
    ("address", (text("USER ADDRESS"), |row| or_dash(Some(&row.address)))),
    ("content", (text("CONTENT"), |row| or_dash(row.content.as_deref()))),
    ("priority", (text("PRIO"), |row| or_dash(row.priority.as_deref()))),
    ("limit", (text("LIMIT"), |row| limits(row.limit_down, row.limit_up))),
    ("up", (figure("UP/s"), |row| bytes(row.up_rate))),
    ("down", (figure("DOWN/s"), |row| bytes(row.down_rate))),
    ("up-bytes", (figure("UP"), |row| format_bytes(row.up))),
    ("down-bytes", (figure("DOWN"), |row| format_bytes(row.down))),
    ("progress", (figure("PROGRESS"), progress)),
    ("age", (figure("AGE"), |row| format::age(Duration::from_millis(row.age_ms)))),
];

/// Lists once, or again and again. Returns the exit status.
pub(super) async fn ps(
    client: &mut Client,
    what: ListKind,
    list: &StreamListArgs,
    is_json: bool,
    watch: Option<Duration>,
) -> Result<u8, Failure> {
    let columns = columns(list, client.greeting().role)?;
    // Rates are measured for as long as the list would be shown; a list that is printed once does not make people wait.
    let over = watch.unwrap_or(Duration::from_millis(RATE_INTERVAL_MS));
    loop {
        let lines = match what {
            ListKind::Streams => streams(client, list, &columns, over, is_json, width()).await?.0,
            other => other_lists::lines(client, other, is_json, width()).await?,
        };
        print(&lines, watch.is_some() && !is_json, None)?;
        match watch {
            None => return Ok(0),
            // Measuring the rates of streams has taken the time already.
            Some(_) if what == ListKind::Streams => {}
            Some(interval) => tokio::time::sleep(interval).await,
        }
    }
}

/// Shows a table of streams that is refreshed. Returns the exit status.
pub(super) async fn top(
    client: &mut Client,
    list: &StreamListArgs,
    interval: Duration,
    count: Option<u64>,
) -> Result<u8, Failure> {
    let columns = columns(list, client.greeting().role)?;
    let mut left = count;
    while left != Some(0) {
        let (mut lines, summary) = streams(client, list, &columns, interval, false, width()).await?;
        let mut totals = client.request(&Request::Totals).await?;
        let totals: TotalsRow = serde_json::from_value(totals.take())?;
        let greeting = client.greeting();
        let heading = format!(
            "underpass {} {}  up {}  streams {} open, {} in all, {} failed  users {}  down {}  up {}  {summary}",
            greeting.underpass,
            greeting.name,
            format::age(Duration::from_millis(totals.uptime_ms)),
            totals.streams,
            totals.streams_total,
            totals.streams_failed,
            totals.users,
            format_bytes(totals.down),
            format_bytes(totals.up),
        );
        let heading = heading.trim_end();
        lines.insert(0, width().map_or(heading.to_owned(), |width| format::truncate(heading, width)));
        print(&lines, true, height())?;
        left = left.map(|left| left - 1);
    }
    Ok(0)
}

/// Returns the lines of the list of streams, and a summary of what it lacks.
async fn streams(
    client: &mut Client,
    list: &StreamListArgs,
    columns: &[StreamColumn],
    over: Duration,
    is_json: bool,
    width: Option<usize>,
) -> Result<(Vec<String>, String), Failure> {
    let query = PsQuery {
        filter: list.filter.clone(),
        sort: Some(list.sort.clone()),
        reverse: list.reverse,
        max: list.max,
        over_ms: Some(u64::try_from(over.as_millis()).unwrap_or(u64::MAX)),
    };
    let mut answer = client.request(&Request::Ps(query)).await?;
    let (open, matching) = (answer["open"].as_u64(), answer["matching"].as_u64());
    let summary = match (open, matching) {
        (Some(open), Some(matching)) if matching < open => format!("{matching} of {open} pass the filter"),
        _ => String::new(),
    };
    if is_json {
        let rows: Vec<Value> = serde_json::from_value(answer["streams"].take())?;
        return Ok((rows.iter().map(Value::to_string).collect(), summary));
    }
    let rows: Vec<StreamRow> = serde_json::from_value(answer["streams"].take())?;
    let columns: Vec<Column<StreamRow>> = columns.iter().map(|(_, column)| *column).collect();
    Ok((table(&columns, &rows, width), summary))
}

/// Returns the columns that were chosen, or those that a process of this role fills.
fn columns(list: &StreamListArgs, role: Role) -> Result<Vec<StreamColumn>, Failure> {
    let (default, proxy_heading) = match role {
        Role::Server => (DEFAULT_COLUMNS, "PROXY"),
        Role::Proxy => (DEFAULT_COLUMNS_OF_PROXY, "SERVER"),
    };
    let names = list.columns.as_deref().unwrap_or(default);
    names
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let found = COLUMNS.iter().find(|(known, ..)| *known == name).copied();
            let found = found.map(|(name, column)| match name {
                "proxy" => (name, (text(proxy_heading), column.1)),
                _ => (name, column),
            });
            found.ok_or_else(|| {
                let known: Vec<_> = COLUMNS.iter().map(|(known, ..)| *known).collect();
                Failure::Usage(format!("--columns: unknown column «{name}»; expected: {}", known.join(",")))
            })
        })
        .collect()
}

/// Prints the lines. In a terminal that can do it, a list that is refreshed replaces the one before.
fn print(lines: &[String], is_refreshed: bool, height: Option<usize>) -> Result<(), Failure> {
    let can_clear = stdout().is_terminal()
        && std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    let shown = &lines[..lines.len().min(height.unwrap_or(usize::MAX))];
    let text = if is_refreshed && can_clear {
        // From the top left corner, each line to its end, then what is left of the screen: clearing it first would
        // flicker.
        let lines: Vec<String> = shown.iter().map(|line| format!("{line}\x1b[K")).collect();
        format!("\x1b[H{}\n\x1b[J", lines.join("\n"))
    } else if is_refreshed {
        format!("{}\n\n", shown.join("\n"))
    } else {
        shown.iter().map(|line| format!("{line}\n")).collect()
    };
    output::try_print(text).map_err(Failure::Output)
}

/// Returns the size of the terminal; `None` if the output is none.
fn terminal_size() -> Option<Winsize> {
    stdout().is_terminal().then(|| tcgetwinsize(stdout()).ok()).flatten()
}

/// Returns the width of the terminal; `None` if the output is none.
fn width() -> Option<usize> {
    let size = terminal_size()?;
    Some(usize::from(size.ws_col)).filter(|width| *width > 0)
}

/// Returns how many lines fit the terminal beside the one where the cursor is; `None` if the output is none.
fn height() -> Option<usize> {
    let size = terminal_size()?;
    Some(usize::from(size.ws_row).saturating_sub(1)).filter(|height| *height > 0)
}

/// Returns the name of the proxy of a stream, or its id.
fn proxy(row: &StreamRow) -> String {
    let name = row.proxy_name.as_deref().filter(|name| !name.is_empty());
    or_dash(name.or(row.proxy.as_deref()))
}

/// Returns the share of the download that has arrived.
fn progress(row: &StreamRow) -> String {
    match row.arrived.zip(row.size) {
        Some((arrived, size)) => format!("{}%", u128::from(arrived) * 100 / u128::from(size.max(1))),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests;
