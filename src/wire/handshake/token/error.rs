//! What is wrong with the text of a token.

use super::lengths::{GENERATED_BYTES, MAX_BYTES, MIN_CHARS, PREFIX};

/// What is wrong with the text of a token. The message says what to do, and never contains the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Empty, or white space alone.
    #[error("the token is blank: write one (`underpass token` makes it), or leave the token out")]
    Blank,
    /// A line break inside, or another control character.
    #[error("the token contains line breaks or other control characters: it is one line of text")]
    ControlCharacters,
    /// More than 1,024 bytes.
    #[error("the token is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// The hash of a token, as a server may keep it.
    #[error(
        "this is a hash: that of a token is for the file of --tokens, and that of a certificate for --fingerprint; give the token itself"
    )]
    IsHash,
    /// A generated token whose end is missing.
    #[error(
        "the token is incomplete: it has {bytes} of {GENERATED_BYTES} characters; copy it again, from «{PREFIX}» to the end"
    )]
    Truncated {
        /// The length of the text.
        bytes: usize,
    },
    /// The digits of a generated token without all of its prefix.
    #[error("the token is incomplete: copy all of it, from «{PREFIX}» on")]
    PrefixMissing,
    /// A generated token with other text before or after it.
    #[error(
        "there is more than the token: it has {GENERATED_BYTES} characters, from «{PREFIX}» on; copy these alone"
    )]
    MoreThanToken,
    /// A generated token with other characters than it was made with.
    #[error("the token was changed after it was made: its checksum does not match; copy it again")]
    WrongChecksum,
    /// Fewer characters than a token that cannot be guessed has.
    #[error("the token is too short, with {chars} character{} it can be guessed: {}", if *.chars == 1 { "" } else { "s" }, instead())]
    Short {
        /// The number of its characters.
        chars: usize,
    },
    /// The same characters again and again, or the alphabet.
    #[error("the token repeats a pattern, which can be guessed: {}", instead())]
    Pattern,
    /// Little beside a word that attackers try first.
    #[error("the token is a well-known word with little beside it, which can be guessed: {}", instead())]
    WellKnown,
    /// Few words of a language.
    #[error("the token consists of words, and has too few of them: at least six, or {}", instead())]
    Words,
    /// Characters of a small alphabet, such as digits, and not enough of them.
    #[error("the token has too little variety, such as digits alone: {}", instead())]
    LittleVariety,
}

/// Returns what to do about a token that can be guessed.
fn instead() -> String {
    format!("let `underpass token` make one, or write at least {MIN_CHARS} random letters and digits")
}
