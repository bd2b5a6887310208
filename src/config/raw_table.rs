//! A configuration file as it is written: its keys with their lines, before any value is checked.

use std::fmt;

use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

use super::mistakes::{Mistake, Mistakes};

/// A table of a configuration file, or the file itself: its keys in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawTable {
    /// The line of its header, from 1; that of the file is the first one.
    pub line: usize,
    /// The keys.
    pub keys: Vec<RawKey>,
}

/// A key of a table with its value.
#[derive(Clone, PartialEq, Eq)]
pub struct RawKey {
    /// The name.
    pub name: String,
    /// The line of the name, from 1.
    pub line: usize,
    /// The value, which may be a secret.
    pub value: RawValue,
}

impl fmt::Debug for RawKey {
    /// Prints no value, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawKey({}, line {})", self.name, self.line)
    }
}

/// A value as it is written. Numbers and dates are text, because the parser of an option reads text wherever it is
/// from.
#[derive(Clone, PartialEq, Eq)]
pub enum RawValue {
    /// `true` or `false`.
    Switch(bool),
    /// A text, a number, or a date.
    Text(String),
    /// A list of these.
    List(Vec<String>),
    /// Tables with a header in two pairs of brackets.
    Tables(Vec<RawTable>),
    /// Something that no key can have, by its name.
    Other(&'static str),
}

/// What a table with a header in one pair of brackets is called.
const A_TABLE: &str = "a table";

impl fmt::Debug for RawValue {
    /// Prints no value, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawValue")
    }
}

impl RawTable {
    /// Parses the text of a file.
    ///
    /// # Errors
    /// The text is not TOML. The messages quote no value.
    pub fn parse(text: &str) -> Result<Self, Mistakes> {
        let (table, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            return Ok(Self::new(1, table.get_ref(), &Lines::of(text)));
        }
        let lines = Lines::of(text);
        let mut mistakes: Vec<_> = errors.iter().map(|error| syntax_mistake(text, &lines, error)).collect();
        // What follows in the line, or in a table that is there twice, is a consequence.
        let mut has_double_table = false;
        mistakes.retain(|mistake| {
            let is_consequence = has_double_table && mistake.why.starts_with(TWICE);
            has_double_table |= mistake.place.starts_with('[');
            !is_consequence || mistake.place.starts_with('[')
        });
        mistakes.dedup_by_key(|mistake| mistake.line);
        Err(Mistakes(mistakes))
    }

    /// Takes over a table that was parsed from a text with these lines.
    fn new(line: usize, table: &DeTable<'_>, lines: &Lines) -> Self {
        let key = |(name, value): (&Spanned<_>, &Spanned<_>)| RawKey {
            name: String::from(AsRef::<str>::as_ref(name.get_ref())),
            line: lines.line(name.span().start),
            value: RawValue::new(value.get_ref(), lines),
        };
        let mut keys: Vec<_> = table.iter().map(key).collect();
        keys.sort_by_key(|key| key.line);
        Self { line, keys }
    }

    /// Returns the key with this name.
    pub fn get(&self, name: &str) -> Option<&RawKey> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// The beginning of what is said of a key or a table that is there twice.
const TWICE: &str = "it is there twice";

/// Describes why a text is not TOML. The parser's own text quotes the line, which may be that of a secret; its
/// message, and the name of a key, quote no value.
fn syntax_mistake(text: &str, lines: &Lines, error: &toml::de::Error) -> Mistake {
    let span = error.span().unwrap_or(0..0);
    let line = lines.line(span.start);
    if error.message() != "duplicate key" {
        let why = format!("{}; write KEY = VALUE, one in a line, and texts in quotes", error.message());
        return Mistake::at(line, "", why);
    }
    let written = text.lines().nth(line - 1).unwrap_or_default().trim();
    if let Some(name) = written.strip_prefix('[').and_then(|name| name.split(']').next()) {
        let why = format!("{TWICE}: write each with two pairs of brackets, [[{name}]]");
        return Mistake::at(line, format!("[{name}]"), why);
    }
    let why = format!("{TWICE}: leave one of them out; several values of a key are a list in brackets");
    Mistake::at(line, text.get(span).unwrap_or_default(), why)
}

impl RawValue {
    /// Returns whether it is a table, or several.
    pub fn is_table(&self) -> bool {
        matches!(self, Self::Tables(_) | Self::Other(A_TABLE))
    }

    /// Takes over a value that was parsed from a text with these lines.
    fn new(value: &DeValue<'_>, lines: &Lines) -> Self {
        match value {
            DeValue::Boolean(is_on) => Self::Switch(*is_on),
            DeValue::Array(values) => Self::list(values, lines),
            DeValue::Table(_) => Self::Other(A_TABLE),
            value => scalar(value).map_or(Self::Other("a value that is too large"), Self::Text),
        }
    }

    /// Takes over a list that was parsed from a text with these lines.
    fn list(values: &DeArray<'_>, lines: &Lines) -> Self {
        let table = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
            DeValue::Table(table) => Some(RawTable::new(lines.line(value.span().start), table, lines)),
            _ => None,
        };
        if let Some(values) = values.iter().map(|value| scalar(value.get_ref())).collect() {
            return Self::List(values);
        }
        match values.iter().map(table).collect() {
            Some(tables) => Self::Tables(tables),
            None => Self::Other("a list of lists or of mixed values"),
        }
    }
}

/// Returns the text of a text, number or date; `None` for other values.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Datetime(date) => Some(date.to_string()),
        DeValue::Boolean(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// Where the lines of a text end: the numbers of the lines of thousands of keys are found without reading the text for
/// each.
struct Lines(Vec<usize>);

impl Lines {
    /// Finds the line ends of `text`.
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(offset, _)| offset).collect())
    }

    /// Returns the line of the byte at `offset`, from 1.
    fn line(&self, offset: usize) -> usize {
        1 + self.0.partition_point(|end| *end < offset)
    }
}

#[cfg(test)]
mod tests;
