//! A lexer for as much of Rust as the architecture test needs: words, `::` and punctuation.

use std::collections::BTreeSet;

use Token::{Punctuation, Word};

/// A token of Rust source. Comments, literals, lifetimes and whitespace produce none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// An identifier, a keyword or a number.
    Word(String),
    /// `::`
    PathSeparator,
    Punctuation(char),
}

impl Token {
    /// Returns whether this is the word `word`.
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Word(known) if known == word)
    }
}

/// Splits Rust source into tokens.
pub fn tokens(source: &str) -> Vec<Token> {
    let text: Vec<char> = source.chars().collect();
    let at = |i: usize| text.get(i).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = Vec::new();
    let mut i = 0;
    while i < text.len() {
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < text.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= text.len() {
                        break;
                    }
                }
            }
            '"' => {
                i += 1;
                while i < text.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
            }
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < text.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            '\'' => i += 1,
            ':' if at(i + 1) == ':' => {
                out.push(Token::PathSeparator);
                i += 2;
            }
            c if is_word(c) => {
                let begin = i;
                while is_word(at(i)) {
                    i += 1;
                }
                let word: String = text[begin..i].iter().collect();
                // A raw string ends at a quote followed by as many hashes as it starts with.
                let hashes = (i..).take_while(|&n| at(n) == '#').count();
                if matches!(&word[..], "r" | "br" | "cr") && at(i + hashes) == '"' {
                    i += hashes + 1;
                    while i < text.len() && !(at(i) == '"' && (1..=hashes).all(|n| at(i + n) == '#')) {
                        i += 1;
                    }
                    i += 1 + hashes;
                } else if matches!(&word[..], "b" | "c") && at(i) == '"' {
                    // The prefix of a string literal, which the next iteration skips.
                } else {
                    out.push(Word(word));
                }
            }
            c if c.is_whitespace() => i += 1,
            c => {
                out.push(Punctuation(c));
                i += 1;
            }
        }
    }
    out
}

/// Removes the items under `#[cfg(test)]`. Returns the other tokens, and the names of the removed modules that are
/// declared without a body and therefore have their own files.
pub fn without_tests(tokens: &[Token]) -> (Vec<Token>, BTreeSet<String>) {
    let attribute: Vec<Token> = self::tokens("#[cfg(test)]");
    let (mut kept, mut files) = (Vec::new(), BTreeSet::new());
    let mut i = 0;
    while i < tokens.len() {
        if !tokens[i..].starts_with(&attribute) {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        i += attribute.len();
        let mut depth = 0;
        loop {
            match tokens.get(i) {
                Some(Word(word)) if word == "mod" && tokens.get(i + 2) == Some(&Punctuation(';')) => {
                    if let Some(Word(name)) = tokens.get(i + 1) {
                        files.insert(name.clone());
                    }
                }
                Some(Punctuation('{' | '[' | '(')) => depth += 1,
                Some(Punctuation('}' | ']' | ')')) => depth -= 1,
                None => break,
                _ => {}
            }
            let ends = matches!(tokens.get(i), Some(Punctuation(';')))
                || matches!(tokens.get(i), Some(Punctuation('}')));
            i += 1;
            if ends && depth == 0 {
                break;
            }
        }
    }
    (kept, files)
}
