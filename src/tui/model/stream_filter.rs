//! Which rows are shown: `proxy:edge user=3F9A1C down>1M !state:wait /10\.0\.0/`.

use std::{fmt, time::Instant};

use regex::{Regex, RegexBuilder};

use super::{ProxyRows, StreamRow};
use crate::{ids::parse_bytes, telemetry::StreamPhase, tui::columns::StreamColumn};

/// The largest size of a compiled regex in a filter, in bytes; typical ones need a hundredth of it.
const REGEX_SIZE: usize = 1 << 20;

/// A filter of the streams table. It lists a row if the row passes every term.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamFilter {
    /// The terms of the filter; a row has to pass all of them.
    terms: Vec<FilterTerm>,
    /// The text that the operator typed, without blanks around it.
    text: String,
}

/// One term of a stream filter: a condition, possibly negated by `!`.
#[derive(Debug, Clone)]
struct FilterTerm {
    /// Whether the term began with `!`: rows pass that do not meet the condition.
    negated: bool,
    /// The condition that a row has to meet; with `!`, that it must not meet.
    condition: FilterCondition,
}

/// The condition of a filter term.
#[derive(Debug, Clone)]
enum FilterCondition {
    /// One of the texts of the row contains this word, given in lower case.
    AnyColumnContains(String),
    /// The text of this column contains this word, given in lower case.
    ColumnContains(StreamColumn, String),
    /// This column is this name, upper and lower case alike: `edge-1` is not `edge-10`.
    ColumnIs(StreamColumn, String),
    /// A figure of the row is larger or smaller than this value, in bytes, bytes per second or seconds.
    Compare(FilterFigure, Comparison, f64),
    /// A text of the row matches this regex, upper and lower case alike.
    MatchesRegex(Regex),
}

/// A figure of a stream that a filter term compares with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FilterFigure {
    /// Bytes per second to the user.
    Down,
    /// Bytes per second to the target.
    Up,
    /// Bytes to the user since the stream opened.
    DownBytes,
    /// Bytes to the target since the stream opened.
    UpBytes,
    /// Bytes in both directions together since the stream opened.
    Bytes,
    /// The size of the download in bytes; 0 where it is unknown.
    Size,
    /// Seconds since the stream opened.
    Age,
}

/// How a filter term compares a figure with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// `>`; `>=` means the same.
    More,
    /// `<`; `<=` means the same.
    Less,
}

/// Why a text that the operator typed is not a valid filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilterError(String);

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Filters are equal if the same text was typed.
impl PartialEq for StreamFilter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl StreamFilter {
    /// Returns the column names that a term may begin with, each with its colon.
    pub(crate) fn fields() -> impl Iterator<Item = &'static str> {
        StreamColumn::filter_prefixes()
    }

    /// The figures that a filter term can compare with a value: their names before `<` or `>`.
    pub(crate) const FIGURES: [&str; 7] = ["down", "up", "down-bytes", "up-bytes", "bytes", "size", "age"];

    /// Parses the text that the operator typed.
    ///
    /// # Errors
    /// The first invalid term, and what is expected.
    pub(crate) fn parse(text: &str) -> Result<Self, FilterError> {
        let mut terms = Vec::new();
        for word in split_terms(text) {
            let (negated, word) = match word.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, word),
            };
            if !word.is_empty() {
                terms.push(FilterTerm { negated, condition: parse_condition(word)? });
            }
        }
        Ok(Self { terms, text: text.trim().to_owned() })
    }

    /// Returns whether the filter has no terms, so that every row passes.
    pub(crate) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Returns the filter as the operator typed it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether the row passes the filter: it meets every term, or, of negated terms, does not meet them.
    pub(crate) fn passes(&self, row: StreamRow<'_>, proxies: &ProxyRows, now: Instant) -> bool {
        self.terms.iter().all(|term| term.condition.is_met_by(row, proxies, now) != term.negated)
    }
}

/// Splits the text of a filter into terms at blanks; a regex between slashes is one term, blanks included, as is a
/// value in quotes.
fn split_terms(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let bare = rest.strip_prefix('!').unwrap_or(rest);
        let slash = bare.strip_prefix('/').and_then(|inner| inner.find('/'));
        let end = match slash {
            Some(close) => rest.len() - bare.len() + close + 2,
            None => end_of_word(rest),
        };
        words.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    words
}

/// Returns where the first term of `text` ends: at the first blank that is not inside a value in quotes.
fn end_of_word(text: &str) -> usize {
    let is_value = |at: usize| text[..at].ends_with(['=', ':']);
    match text.find([' ', '\t', '"']) {
        Some(at) if text[at..].starts_with('"') && is_value(at) => {
            text[at + 1..].find('"').map_or(text.len(), |close| at + close + 2)
        }
        _ => text.find(char::is_whitespace).unwrap_or(text.len()),
    }
}

/// Returns the column that a filter term names before `:` or `=`, in any case.
fn column_named(name: &str) -> Option<StreamColumn> {
    match name.to_ascii_lowercase().as_str() {
        "port" => Some(StreamColumn::Service),
        "priority" => Some(StreamColumn::Priority),
        known => StreamColumn::of_filter_name(known),
    }
}

/// Returns the message for a regex that does not compile: its cause alone, without the excerpt that the error shows
/// above it.
fn invalid_regex(error: &regex::Error) -> String {
    let text = error.to_string();
    let cause = text.lines().last().unwrap_or_default();
    format!("invalid regex: {}", cause.trim_start_matches("error: "))
}

/// Parses one term of a filter without its `!`: a regex, the comparison of a figure, a column with text, or a word.
fn parse_condition(word: &str) -> Result<FilterCondition, FilterError> {
    if let Some(inner) = word.strip_prefix('/') {
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let regex = RegexBuilder::new(inner).case_insensitive(true).size_limit(REGEX_SIZE).build();
        return regex.map(FilterCondition::MatchesRegex).map_err(|error| FilterError(invalid_regex(&error)));
    }
    let unquoted = |value: &str| value.trim_matches('"').to_ascii_lowercase();
    if let Some(at) = word.find([':', '=', '<', '>'])
        && word[at..].starts_with('=')
        && let Some(column) = column_named(&word[..at])
    {
        return Ok(FilterCondition::ColumnIs(column, unquoted(&word[at + 1..])));
    }
    if let Some(at) = word.find(['<', '>']) {
        let sign = if word[at..].starts_with('<') { Comparison::Less } else { Comparison::More };
        return parse_figure(&word[..at], sign, word[at + 1..].trim_start_matches('='));
    }
    if let Some((name, value)) = word.split_once(':') {
        let column = column_named(name);
        // A key or an address has a colon too.
        let is_text = name.is_empty() || name.chars().any(|c| c.is_ascii_digit() || c == '[');
        if column.is_none() && !is_text {
            return Err(FilterError(format!(
                "unknown field {name}:; expected: {}",
                StreamFilter::fields().collect::<Vec<_>>().join(" ")
            )));
        }
        if let Some(column) = column {
            return Ok(FilterCondition::ColumnContains(column, unquoted(value)));
        }
    }
    Ok(FilterCondition::AnyColumnContains(word.to_ascii_lowercase()))
}

/// Parses the comparison of a figure of the stream with a value, such as `down>1M` or `age<30s`.
fn parse_figure(name: &str, sign: Comparison, value: &str) -> Result<FilterCondition, FilterError> {
    let figure = match name.to_ascii_lowercase().as_str() {
        "down" => FilterFigure::Down,
        "up" => FilterFigure::Up,
        "down-bytes" => FilterFigure::DownBytes,
        "up-bytes" => FilterFigure::UpBytes,
        "bytes" => FilterFigure::Bytes,
        "size" => FilterFigure::Size,
        "age" => FilterFigure::Age,
        _ => {
            return Err(FilterError(format!(
                "unknown figure {name}; expected: {}",
                StreamFilter::FIGURES.join(" ")
            )));
        }
    };
    let parsed = if figure == FilterFigure::Age { seconds(value) } else { amount(value) };
    parsed
        .map(|value| FilterCondition::Compare(figure, sign, value))
        .ok_or_else(|| FilterError(format!("invalid value «{value}»; expected: down>1M, age<30s")))
}

/// Parses an amount of bytes, or of bytes per second: `1M`, `1.5K`, `8KiB`, `200`, with or without `/s`.
fn amount(text: &str) -> Option<f64> {
    parse_bytes(text.strip_suffix("/s").unwrap_or(text))
}

/// Parses a duration in seconds: `30s`, `5m`, `2h`, `1d`, `30`.
fn seconds(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    digits.parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| n * factor)
}

impl FilterCondition {
    /// Returns whether the row meets this condition, before any negation. `proxies` names the row's proxy, `now`
    /// determines its age.
    fn is_met_by(&self, row: StreamRow<'_>, proxies: &ProxyRows, now: Instant) -> bool {
        // Not the priority, which is the same for nearly every row.
        const ALL: [StreamColumn; 6] = [
            StreamColumn::Stream,
            StreamColumn::State,
            StreamColumn::Proxy,
            StreamColumn::Address,
            StreamColumn::Service,
            StreamColumn::Content,
        ];
        match self {
            Self::AnyColumnContains(word) => {
                ALL.iter().any(|column| column_contains(row, *column, proxies, word))
            }
            Self::ColumnContains(column, value) => column_contains(row, *column, proxies, value),
            Self::ColumnIs(column, value) => {
                exact_texts(row, *column, proxies).iter().any(|text| text.eq_ignore_ascii_case(value))
            }
            Self::MatchesRegex(regex) => {
                ALL.iter().any(|column| regex.is_match(&searchable_text(row, *column, proxies)))
            }
            Self::Compare(figure, sign, value) => {
                let figure = match figure {
                    FilterFigure::Down => f64::from(row.counters.down_rate),
                    FilterFigure::Up => f64::from(row.counters.up_rate),
                    FilterFigure::DownBytes => row.counters.down as f64,
                    FilterFigure::UpBytes => row.counters.up as f64,
                    FilterFigure::Bytes => row.bytes() as f64,
                    FilterFigure::Size => row.download.map_or(0, |body| body.size) as f64,
                    FilterFigure::Age => row.age(now).as_secs_f64(),
                };
                if *sign == Comparison::More { figure > *value } else { figure < *value }
            }
        }
    }
}

/// Returns whether the text of this row in this column contains `wanted`, which is in lower case; upper and lower
/// case are alike.
fn column_contains(row: StreamRow<'_>, column: StreamColumn, proxies: &ProxyRows, wanted: &str) -> bool {
    searchable_text(row, column, proxies).to_ascii_lowercase().contains(wanted)
}

/// Returns every text that names this row in this column, for terms with `=`: of a user its address with and without
/// port and its id, of a proxy its name, with and without number, and its id, of a service its key and its port.
fn exact_texts(row: StreamRow<'_>, column: StreamColumn, proxies: &ProxyRows) -> Vec<String> {
    match column {
        StreamColumn::Stream => vec![row.key.to_string(), row.key.user.to_string()],
        StreamColumn::Address => {
            vec![row.addr.to_string(), row.addr.ip().to_string(), row.key.user.to_string()]
        }
        StreamColumn::Service => vec![row.service.to_string(), row.service.port.to_string()],
        StreamColumn::Proxy => {
            let Some(id) = row.proxy else { return Vec::new() };
            let own_name = proxies.get(id).map(|proxy| proxy.name.clone());
            own_name.into_iter().chain([proxies.name(id), id.to_string()]).collect()
        }
        other => vec![searchable_text(row, other, proxies)],
    }
}

/// Returns the text by which filters search this row in this column; empty for columns that filters do not search.
fn searchable_text(row: StreamRow<'_>, column: StreamColumn, proxies: &ProxyRows) -> String {
    match column {
        StreamColumn::Stream => row.key.to_string(),
        StreamColumn::Proxy => row.proxy.map(|id| proxies.name(id)).unwrap_or_default(),
        // With the id, which names the user on other screens.
        StreamColumn::Address => format!("{} {}", row.addr, row.key.user),
        StreamColumn::Service => row.service.to_string(),
        StreamColumn::State => state_name(row).to_owned(),
        StreamColumn::Content => row.content.as_ref().map(ToString::to_string).unwrap_or_default(),
        StreamColumn::Priority => row.priority.to_string(),
        // No filter term names these.
        StreamColumn::Channel
        | StreamColumn::Limit
        | StreamColumn::UpRate
        | StreamColumn::DownRate
        | StreamColumn::Up
        | StreamColumn::Down
        | StreamColumn::Progress
        | StreamColumn::Age
        | StreamColumn::Trend => String::new(),
    }
}

/// Returns the state of a stream as one lower-case word, for filters, the detail screen and exports.
pub(crate) fn state_name(row: StreamRow<'_>) -> &'static str {
    match (&row.ended, row.phase) {
        (Some(ended), _) => ended.state_name(),
        (None, _) if row.paused => "paused",
        (None, _) if row.is_in_grace_period => "wait",
        (None, StreamPhase::Waiting) => "wait",
        (None, StreamPhase::Opening) => "dial",
        (None, StreamPhase::Open) => "open",
        (None, StreamPhase::UserDone | StreamPhase::TargetDone) => "half",
        (None, StreamPhase::Ended) => "ended",
    }
}

#[cfg(test)]
mod tests;
