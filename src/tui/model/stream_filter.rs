//! Which rows are shown: `proxy:edge down>1M !state:wait /10\.0\.0/`.

use std::{fmt, time::Instant};

use regex::{Regex, RegexBuilder};

use super::{ProxyRows, StreamRow};
use crate::telemetry::StreamPhase;

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
    In(Field, String),
    Than(Figure, Sign, f64),
    Matches(Regex),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Proxy,
    User,
    State,
    Key,
    Service,
    Content,
    Priority,
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
    /// The names before a colon.
    pub(crate) const FIELDS: [&str; 7] =
        ["proxy:", "user:", "state:", "key:", "service:", "carries:", "pri:"];
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
        let field = match name.to_ascii_lowercase().as_str() {
            "proxy" => Some(Field::Proxy),
            "user" => Some(Field::User),
            "state" => Some(Field::State),
            "key" => Some(Field::Key),
            "service" | "port" => Some(Field::Service),
            "carries" => Some(Field::Content),
            "pri" | "priority" => Some(Field::Priority),
            // A key or an address has a colon too.
            _ if name.is_empty() || name.chars().any(|c| c.is_ascii_digit() || c == '[') => None,
            _ => return Err(FilterError(format!("{name}: is none of {}", StreamFilter::FIELDS.join(" ")))),
        };
        if let Some(field) = field {
            return Ok(Test::In(field, value.to_ascii_lowercase()));
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
        const ALL: [Field; 6] =
            [Field::Key, Field::State, Field::Proxy, Field::User, Field::Service, Field::Content];
        match self {
            Self::Word(word) => ALL.iter().any(|field| has(row, *field, proxies, word)),
            Self::In(field, value) => has(row, *field, proxies, value),
            Self::Matches(regex) => ALL.iter().any(|field| regex.is_match(&text(row, *field, proxies))),
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

fn has(row: StreamRow<'_>, field: Field, proxies: &ProxyRows, wanted: &str) -> bool {
    text(row, field, proxies).to_ascii_lowercase().contains(wanted)
}

fn text(row: StreamRow<'_>, field: Field, proxies: &ProxyRows) -> String {
    match field {
        Field::Key => row.key.to_string(),
        Field::Proxy => row.proxy.map(|id| proxies.name(id)).unwrap_or_default(),
        // The id too: it is what other screens call the user.
        Field::User => format!("{} {}", row.addr, row.key.user),
        Field::Service => row.service.to_string(),
        Field::State => state_name(row).to_owned(),
        Field::Content => row.content.as_ref().map(ToString::to_string).unwrap_or_default(),
        Field::Priority => row.priority.to_string(),
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
            Some(EndReason::UserAborted) => "left",
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
            ("host:a", "host: is none of proxy: user: state: key: service: carries: pri:"),
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
