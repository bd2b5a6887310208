//! Which rows are shown: `proxy:edge down>1M !state:wait /10\.0\.0/`.

use std::{fmt, time::Instant};

use regex::{Regex, RegexBuilder};

use super::{ProxyRows, StreamRow};
use crate::{telemetry::StreamPhase, tui::columns::StreamColumn};

/// A compiled expression may take so much; what a person types takes a hundredth of it.
const REGEX_SIZE: usize = 1 << 20;

/// What a row has to be like: all of the terms.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamFilter {
    terms: Vec<Term>,
    text: String,
}

#[derive(Debug, Clone)]
struct Term {
    negated: bool,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    /// In any column.
    Word(String),
    /// In this column.
    In(StreamColumn, String),
    Than(Figure, Sign, f64),
    Matches(Regex),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Figure {
    Down,
    Up,
    Bytes,
    Size,
    Age,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    More,
    Less,
}

/// Why a text is no filter.
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

    /// The names before `<` or `>`.
    pub(crate) const FIGURES: [&str; 5] = ["down", "up", "bytes", "size", "age"];

    /// Reads what was typed.
    ///
    /// # Errors
    /// What cannot be understood, named.
    pub(crate) fn parse(text: &str) -> Result<Self, FilterError> {
        let mut terms = Vec::new();
        for word in words(text) {
            let (negated, word) = match word.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, word),
            };
            if !word.is_empty() {
                terms.push(Term { negated, test: test(word)? });
            }
        }
        Ok(Self { terms, text: text.trim().to_owned() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// As it was typed.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the row is to be shown.
    pub(crate) fn passes(&self, row: StreamRow<'_>, proxies: &ProxyRows, now: Instant) -> bool {
        self.terms.iter().all(|term| term.test.holds(row, proxies, now) != term.negated)
    }
}

/// The words; an expression between slashes is one, blanks and all.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let bare = rest.strip_prefix('!').unwrap_or(rest);
        let slash = bare.strip_prefix('/').and_then(|inner| inner.find('/'));
        let end = match slash {
            Some(close) => rest.len() - bare.len() + close + 2,
            None => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        words.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    words
}

fn test(word: &str) -> Result<Test, FilterError> {
    if let Some(inner) = word.strip_prefix('/') {
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let regex = RegexBuilder::new(inner).case_insensitive(true).size_limit(REGEX_SIZE).build();
        return regex.map(Test::Matches).map_err(|_| FilterError(format!("/{inner}/ is no expression")));
    }
    if let Some(at) = word.find(['<', '>']) {
        let sign = if word[at..].starts_with('<') { Sign::Less } else { Sign::More };
        return figure(&word[..at], sign, word[at + 1..].trim_start_matches('='));
    }
    if let Some((name, value)) = word.split_once(':') {
        let lower = name.to_ascii_lowercase();
        let column = match lower.as_str() {
            "port" => Some(StreamColumn::Service),
            "priority" => Some(StreamColumn::Priority),
            known => StreamColumn::of_filter_name(known),
        };
        // A key or an address has a colon too.
        let is_text = name.is_empty() || name.chars().any(|c| c.is_ascii_digit() || c == '[');
        if column.is_none() && !is_text {
            return Err(FilterError(format!(
                "{name}: is none of {}",
                StreamFilter::fields().collect::<Vec<_>>().join(" ")
            )));
        }
        if let Some(column) = column {
            return Ok(Test::In(column, value.to_ascii_lowercase()));
        }
    }
    Ok(Test::Word(word.to_ascii_lowercase()))
}

fn figure(name: &str, sign: Sign, value: &str) -> Result<Test, FilterError> {
    let figure = match name.to_ascii_lowercase().as_str() {
        "down" => Figure::Down,
        "up" => Figure::Up,
        "bytes" => Figure::Bytes,
        "size" => Figure::Size,
        "age" => Figure::Age,
        _ => return Err(FilterError(format!("{name} is none of {}", StreamFilter::FIGURES.join(" ")))),
    };
    let parsed = if figure == Figure::Age { seconds(value) } else { amount(value) };
    parsed
        .map(|value| Test::Than(figure, sign, value))
        .ok_or_else(|| FilterError(format!("«{value}» is no value: down>1M, age<30s")))
}

/// `1M`, `1.5K`, `200`: K is 1,000, as on the screen.
fn amount(text: &str) -> Option<f64> {
    let text = text.trim_end_matches("/s");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        _ => return None,
    };
    digits.parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| n * factor)
}

/// `30s`, `5m`, `2h`, `1d`, `30`.
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

impl Test {
    fn holds(&self, row: StreamRow<'_>, proxies: &ProxyRows, now: Instant) -> bool {
        // Not the priority: nearly every row has the same.
        const ALL: [StreamColumn; 6] = [
            StreamColumn::Stream,
            StreamColumn::State,
            StreamColumn::Proxy,
            StreamColumn::Address,
            StreamColumn::Service,
            StreamColumn::Content,
        ];
        match self {
            Self::Word(word) => ALL.iter().any(|column| has(row, *column, proxies, word)),
            Self::In(column, value) => has(row, *column, proxies, value),
            Self::Matches(regex) => ALL.iter().any(|column| regex.is_match(&text(row, *column, proxies))),
            Self::Than(figure, sign, value) => {
                let figure = match figure {
                    Figure::Down => f64::from(row.figures.down_rate),
                    Figure::Up => f64::from(row.figures.up_rate),
                    Figure::Bytes => row.bytes() as f64,
                    Figure::Size => row.download.map_or(0, |body| body.size) as f64,
                    Figure::Age => row.age(now).as_secs_f64(),
                };
                if *sign == Sign::More { figure > *value } else { figure < *value }
            }
        }
    }
}

fn has(row: StreamRow<'_>, column: StreamColumn, proxies: &ProxyRows, wanted: &str) -> bool {
    text(row, column, proxies).to_ascii_lowercase().contains(wanted)
}

fn text(row: StreamRow<'_>, column: StreamColumn, proxies: &ProxyRows) -> String {
    match column {
        StreamColumn::Stream => row.key.to_string(),
        StreamColumn::Proxy => row.proxy.map(|id| proxies.name(id)).unwrap_or_default(),
        // The id too: it is what other screens call the user.
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

/// The state as a word, also in exports.
pub(crate) fn state_name(row: StreamRow<'_>) -> &'static str {
    use crate::telemetry::EndReason;
    match (&row.ended, row.phase) {
        (Some(ended), _) => match &ended.reason {
            Some(EndReason::Finished) | None => "ended",
            Some(EndReason::Killed) => "killed",
            Some(EndReason::UserSocketError) => "reset",
            Some(EndReason::UserAborted) => "aborted",
            Some(_) => "failed",
        },
        (None, _) if row.paused => "paused",
        (None, _) if row.waits => "wait",
        (None, StreamPhase::Waiting) => "wait",
        (None, StreamPhase::Opening) => "dial",
        (None, StreamPhase::Open) => "open",
        (None, StreamPhase::UserDone | StreamPhase::TargetDone) => "half",
        (None, StreamPhase::Ended) => "ended",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_filter_says_what_is_wrong() {
        for (text, why) in [
            ("host:a", "host: is none of key: state: service: proxy: user: content: pri:"),
            ("speed>1", "speed is none of down up bytes size age"),
            ("down>fast", "«fast» is no value: down>1M, age<30s"),
            ("/(/", "/(/ is no expression"),
        ] {
            assert_eq!(StreamFilter::parse(text).unwrap_err().to_string(), why);
        }
        for text in
            ["", "  ", "!", "edge", "3F9A1C:2", "[::1]:80", "10.0.0.1:443", "a /b c/ d", "down>=1.5M", "/"]
        {
            StreamFilter::parse(text).unwrap();
        }
    }

    #[test]
    fn words_keep_expressions_together() {
        assert_eq!(words("a !/b c/ d>1"), ["a", "!/b c/", "d>1"]);
        assert_eq!(words("/open x"), ["/open", "x"]);
        assert_eq!((amount("1.5k"), seconds("2m"), amount("x")), (Some(1500.0), Some(120.0), None));
    }
}
