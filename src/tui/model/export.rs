//! The streams table as CSV or JSON. Text from peers was sanitized when it was received; here it is only quoted.

use std::fmt::Write;

use super::{Model, StreamRow, state_name, stream_row::StreamEnd};

/// The file format of an exported streams table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExportFormat {
    Csv,
    Json,
}

impl ExportFormat {
    /// Returns the extension of the file name, without the dot.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }
}

/// The column names of an exported streams table: CSV headings, and JSON keys.
const COLUMN_NAMES: [&str; 17] = [
    "key",
    "state",
    "service",
    "proxy",
    "channel",
    "user_address",
    "content",
    "priority",
    "up_per_s",
    "down_per_s",
    "up",
    "down",
    "size",
    "age_s",
    "reason",
    "ended_by",
    "marked",
];

/// Returns the listed rows of the streams table in this format, filtered and sorted as on the screen.
pub(crate) fn export(model: &Model, form: ExportFormat) -> String {
    let mut out = String::new();
    let rows = model.rows().iter().filter_map(|id| Some((*id, model.shown().streams.get(*id)?)));
    match form {
        ExportFormat::Csv => {
            out.push_str(&COLUMN_NAMES.join(","));
            out.push_str("\r\n");
            for (id, row) in rows {
                let values = values(model, row, model.streams_screen.marks.contains(&id));
                let cells = values.iter().map(|(value, _)| csv(value));
                out.push_str(&cells.collect::<Vec<_>>().join(","));
                out.push_str("\r\n");
            }
        }
        ExportFormat::Json => {
            out.push_str("[\n");
            for (number, (id, row)) in rows.enumerate() {
                let values = values(model, row, model.streams_screen.marks.contains(&id));
                let members = COLUMN_NAMES.iter().zip(&values).map(|(name, (value, bare))| {
                    match (value.as_str(), bare) {
                        ("", _) => format!("\"{name}\":null"),
                        (value, true) => format!("\"{name}\":{value}"),
                        (value, false) => format!("\"{name}\":{}", json(value)),
                    }
                });
                let comma = if number > 0 { ",\n" } else { "" };
                _ = write!(out, "{comma}{{{}}}", members.collect::<Vec<_>>().join(","));
            }
            out.push_str("\n]\n");
        }
    }
    out
}

/// Returns the values of one exported row in the order of [`COLUMN_NAMES`], each with whether JSON takes it without
/// quotes (numbers and booleans).
fn values(model: &Model, row: StreamRow<'_>, marked: bool) -> [(String, bool); COLUMN_NAMES.len()] {
    let shown = model.shown();
    let text = |text: String| (text, false);
    let bare = |n: String| (n, true);
    let live = row.is_live();
    let reason = row.ended.as_ref().and_then(|ended| ended.reason.as_ref());
    [
        text(row.key.to_string()),
        text(state_name(row).to_owned()),
        text(row.service.to_string()),
        text(row.proxy.map(|id| shown.proxies.name(id)).unwrap_or_default()),
        text(row.channel.map(|id| id.to_string()).unwrap_or_default()),
        text(row.addr.to_string()),
        text(row.content.as_ref().map(ToString::to_string).unwrap_or_default()),
        text(row.priority.to_string()),
        bare(if live { format!("{:.0}", row.counters.up_rate) } else { String::new() }),
        bare(if live { format!("{:.0}", row.counters.down_rate) } else { String::new() }),
        bare(row.counters.up.to_string()),
        bare(row.counters.down.to_string()),
        bare(row.download.map(|body| body.size.to_string()).unwrap_or_default()),
        bare(format!("{:.1}", row.age(shown.now).as_secs_f64())),
        text(row.ended.as_ref().and_then(StreamEnd::describe).unwrap_or_default()),
        text(reason.map(|reason| reason.by().to_string()).unwrap_or_default()),
        bare(marked.to_string()),
    ]
}

/// Quotes a value for CSV, if necessary. A value that begins like a formula gets an apostrophe in front.
fn csv(value: &str) -> String {
    // Spreadsheets execute a cell that begins like a formula, and a proxy chooses its own name.
    let risky = value.starts_with(['=', '+', '-', '@']);
    let value = if risky { format!("'{value}") } else { value.to_owned() };
    if value.contains([',', '"', '\n', '\r']) { format!("\"{}\"", value.replace('"', "\"\"")) } else { value }
}

/// Quotes and escapes a text for JSON.
fn json(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => _ = write!(out, "\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
