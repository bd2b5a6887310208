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
        Self { line: Some(line), place: place.into(), why: why.into() }
    }

    /// Creates the mistake of a key `name` that is none of `known`. `place` is where it was found; empty outside of tables.
    pub fn unknown<'a>(
        line: usize,
        place: impl Into<String>,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self::at(line, place, UnknownKey::new(name, known).to_string())
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
