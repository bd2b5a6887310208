//! What is wrong with a file of the operator.

use std::fmt;

use super::near_miss::UnknownKey;

/// One mistake in a file: where it is, what is wrong, and what to write instead. It contains no value of a secret key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1; `None` where it concerns the whole file.
    pub line: Option<usize>,
    /// The key, or the entry and the key in it; empty where it concerns no key.
    pub place: String,
    /// What is wrong, and what to write.
    pub why: String,
    /// The key that does not exist, if that is what is wrong.
    pub unknown_key: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line.map_or(Ok(()), |line| write!(f, "line {line}: "))?;
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.why)
    }
}

impl Mistake {
    /// Creates a mistake that concerns a line.
    pub fn at(line: usize, place: impl Into<String>, why: impl Into<String>) -> Self {
        Self { line: Some(line), ..Self::of_file(place, why) }
    }

    /// Creates a mistake that concerns the whole file.
    pub fn of_file(place: impl Into<String>, why: impl Into<String>) -> Self {
        Self { line: None, place: place.into(), why: why.into(), unknown_key: None }
    }

    /// Creates the mistake of a key `name` that is none of `known`. `place` is where it was found; empty outside of
    /// tables.
    pub fn unknown<'a>(
        line: usize,
        place: impl Into<String>,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let why = UnknownKey::new(name, known).to_string();
        Self { unknown_key: Some(name.to_owned()), ..Self::at(line, place, why) }
    }
}

/// All that was found to be wrong with a file, at least one mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    /// Prints the mistakes in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .enumerate()
            .try_for_each(|(index, mistake)| write!(f, "{}{mistake}", if index == 0 { "" } else { "; " }))
    }
}

impl std::error::Error for Mistakes {}

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Self {
        Self(vec![mistake])
    }
}
