//! `underpass ps` and `underpass top`.

use std::{
    io::{IsTerminal as _, stdout},
    time::{Duration, Instant},
};

use rustix::termios::{Winsize, tcgetwinsize};
use serde_json::Value;

use super::{
    Failure, RATE_INTERVAL_MS,
    other_lists::{self, ListOptions},
    query::{query, usage_of_sort},
    table::{
        Column, NamedColumn, bytes, choose, figure, limits, or_dash, table, text, without_default_group,
    },
};
use crate::{
    cli::{
        args::operate::{ListKind, RowListArgs},
        output,
    },
    ids::format_bytes,
    operator::{Client, Request, Role, StreamRow, StreamSort, TotalsRow},
    tui::format,
};

/// The columns of streams that are shown unless others are chosen.
const DEFAULT_COLUMNS: &str =
    "stream,state,service,proxy,address,content,priority,limit,up,down,up-bytes,down-bytes,progress,age";

/// The columns of streams of a proxy: without what only the server knows.
const DEFAULT_COLUMNS_OF_PROXY: &str =
    "stream,state,service,proxy,channel,address,up,down,up-bytes,down-bytes,age";

/// All columns of streams.
const COLUMNS: [NamedColumn<StreamRow>; 15] = [
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
    list: &RowListArgs,
    is_json: bool,
    watch: Option<Duration>,
) -> Result<u8, Failure> {
    // Rates are measured for as long as the list would be shown; a list that is printed once does not make people wait.
    let over = watch.unwrap_or(Duration::from_millis(RATE_INTERVAL_MS));
    let columns = match what {
        ListKind::Streams => columns(list, client.greeting().role)?,
        _ => Vec::new(),
    };
    loop {
        let asked = Instant::now();
        let lines = match what {
            ListKind::Streams => streams(client, list, &columns, over, is_json, width()).await?.0,
            other => {
                let options = ListOptions { list, over, is_json, width: width() };
                other_lists::lines(client, other, options).await?
            }
        };
        print(&lines, watch.is_some() && !is_json, None)?;
        match watch {
            None => return Ok(0),
            // Measuring rates has taken the time already.
            Some(interval) => tokio::time::sleep(interval.saturating_sub(asked.elapsed())).await,
        }
    }
}

/// Shows a table of streams that is refreshed. Returns the exit status.
pub(super) async fn top(
    client: &mut Client,
    list: &RowListArgs,
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
    list: &RowListArgs,
    columns: &[NamedColumn<StreamRow>],
    over: Duration,
    is_json: bool,
    width: Option<usize>,
) -> Result<(Vec<String>, String), Failure> {
    let mut query = query(list, over);
    // The arguments accept what any list is sorted by.
    list.sort.as_deref().map(StreamSort::named).transpose().map_err(usage_of_sort)?;
    query.sort.get_or_insert_with(|| "down".to_owned());
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
fn columns(list: &RowListArgs, role: Role) -> Result<Vec<NamedColumn<StreamRow>>, Failure> {
    let (default, proxy_heading) = match role {
        Role::Server => (DEFAULT_COLUMNS, "PROXY"),
        Role::Proxy => (DEFAULT_COLUMNS_OF_PROXY, "SERVER"),
    };
    let chosen = choose(&COLUMNS, Some(list.columns.as_deref().unwrap_or(default)))?;
    let with_heading = chosen.into_iter().map(|(name, column)| match name {
        "proxy" => (name, (text(proxy_heading), column.1)),
        _ => (name, column),
    });
    Ok(with_heading.collect())
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
