//! Which streams are listed: `proxy:edge user=3F9A1C down>1M !state:wait /10\.0\.0/`. The cockpit, the command line of
//! the program and the control socket share this language.

use std::fmt;

use regex::{Regex, RegexBuilder};

use crate::ids::parse_bytes;

/// The largest size of a compiled regex in a filter, in bytes; typical ones need a hundredth of it.
const REGEX_SIZE: usize = 1 << 20;

/// A text of a stream that a filter term can search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterField {
    /// The stream key.
    Stream,
    /// The state, as one lower-case word.
    State,
    /// The service.
    Service,
    /// The proxy.
    Proxy,
    /// The user's address and id.
    Address,
    /// The detected protocol and request.
    Content,
    /// The priority.
    Priority,
}

impl FilterField {
    /// All fields.
    const ALL: [Self; 7] =
        [Self::Stream, Self::State, Self::Service, Self::Proxy, Self::Address, Self::Content, Self::Priority];

    /// Those that a term without a field searches: not the priority, which is the same for nearly every stream.
    const SEARCHED: [Self; 6] =
        [Self::Stream, Self::State, Self::Proxy, Self::Address, Self::Service, Self::Content];

    /// Returns what a filter term about the field begins with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Stream => "key:",
            Self::State => "state:",
            Self::Service => "service:",
            Self::Proxy => "proxy:",
            Self::Address => "user:",
            Self::Content => "content:",
            Self::Priority => "pri:",
        }
    }

    /// Returns the field that a term names before `:` or `=`, in any case.
    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "port" => Some(Self::Service),
            "priority" => Some(Self::Priority),
            known => Self::ALL.into_iter().find(|field| field.prefix().strip_suffix(':') == Some(known)),
        }
    }
}

/// A stream that a filter can judge.
pub trait FilteredStream {
    /// Returns the text by which filters search the stream in this field.
    fn searchable_text(&self, field: FilterField) -> String;

    /// Returns every text that names the stream in this field, for terms with `=`: of a user its address with and
    /// without port and its id, of a proxy its name and its id, of a service its key and its port.
    fn exact_texts(&self, field: FilterField) -> Vec<String>;

    /// Returns a figure, in bytes, bytes per second or seconds.
    fn figure(&self, figure: FilterFigure) -> f64;
}

/// A filter of streams. It lists a stream if that passes every term.
#[derive(Debug, Clone, Default)]
pub struct StreamFilter {
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
    AnyFieldContains(String),
    /// The text of this column contains this word, given in lower case.
    FieldContains(FilterField, String),
    /// This column is this name, upper and lower case alike: `edge-1` is not `edge-10`.
    FieldIs(FilterField, String),
    /// A figure of the row is larger or smaller than this value, in bytes, bytes per second or seconds.
    Compare(FilterFigure, Comparison, f64),
    /// A text of the row matches this regex, upper and lower case alike.
    MatchesRegex(Regex),
}

/// A figure of a stream that a filter term compares with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterFigure {
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
pub struct FilterError(String);

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
    /// Returns the fields that a term may begin with, each with its colon.
    pub fn fields() -> impl Iterator<Item = &'static str> {
        FilterField::ALL.into_iter().map(FilterField::prefix)
    }

    /// The figures that a filter term can compare with a value: their names before `<` or `>`.
    pub const FIGURES: [&str; 7] = ["down", "up", "down-bytes", "up-bytes", "bytes", "size", "age"];

    /// Parses the text that the operator typed.
    ///
    /// # Errors
    /// The first invalid term, and what is expected.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
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
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Returns the filter as the operator typed it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether the row passes the filter: it meets every term, or, of negated terms, does not meet them.
    pub fn passes(&self, stream: &impl FilteredStream) -> bool {
        self.terms.iter().all(|term| term.condition.is_met_by(stream) != term.negated)
    }

    /// Returns whether a term compares a rate, which takes two samples to know.
    pub fn needs_rates(&self) -> bool {
        let is_rate = |figure| matches!(figure, FilterFigure::Down | FilterFigure::Up);
        self.terms
            .iter()
            .any(|term| matches!(term.condition, FilterCondition::Compare(figure, ..) if is_rate(figure)))
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
        && let Some(field) = FilterField::named(&word[..at])
    {
        return Ok(FilterCondition::FieldIs(field, unquoted(&word[at + 1..])));
    }
    if let Some(at) = word.find(['<', '>']) {
        let sign = if word[at..].starts_with('<') { Comparison::Less } else { Comparison::More };
        return parse_figure(&word[..at], sign, word[at + 1..].trim_start_matches('='));
    }
    if let Some((name, value)) = word.split_once(':') {
        let field = FilterField::named(name);
        // A key or an address has a colon too.
        let is_text = name.is_empty() || name.chars().any(|c| c.is_ascii_digit() || c == '[');
        if field.is_none() && !is_text {
            return Err(FilterError(format!(
                "unknown field {name}:; expected: {}",
                StreamFilter::fields().collect::<Vec<_>>().join(" ")
            )));
        }
        if let Some(field) = field {
            return Ok(FilterCondition::FieldContains(field, unquoted(value)));
        }
    }
    Ok(FilterCondition::AnyFieldContains(word.to_ascii_lowercase()))
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
    /// Returns whether the stream meets this condition, before any negation.
    fn is_met_by(&self, stream: &impl FilteredStream) -> bool {
        let contains = |field, word: &str| stream.searchable_text(field).to_ascii_lowercase().contains(word);
        match self {
            Self::AnyFieldContains(word) => FilterField::SEARCHED.iter().any(|field| contains(*field, word)),
            Self::FieldContains(field, word) => contains(*field, word),
            Self::FieldIs(field, name) => {
                stream.exact_texts(*field).iter().any(|text| text.eq_ignore_ascii_case(name))
            }
            Self::MatchesRegex(regex) => {
                FilterField::SEARCHED.iter().any(|field| regex.is_match(&stream.searchable_text(*field)))
            }
            Self::Compare(figure, sign, value) => {
                let figure = stream.figure(*figure);
                if *sign == Comparison::More { figure > *value } else { figure < *value }
            }
        }
    }
}

#[cfg(test)]
mod tests;
