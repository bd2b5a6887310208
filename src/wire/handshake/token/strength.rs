//! Whether a token that an operator chose can be guessed.
//!
//! Who records a handshake, or poses as the server once, tests 10⁹ tokens a second against its proof, without the
//! server noticing. The estimate below is for attackers who try words, patterns and short texts first. It cannot see
//! that a random looking text was published; only a generated token is known to be secret.

use super::{error::TokenError, lengths::MIN_CHARS};

/// The fewest bits of an estimate: 10⁹ guesses a second need 150,000 years for 2⁷².
const MIN_BITS: f64 = 72.0;

/// The fewest different characters. A random token of 20 hexadecimal digits has eleven or twelve.
const MIN_DISTINCT_CHARS: usize = 8;

/// The fewest characters beside well-known words.
const MIN_CHARS_BESIDE_WORDS: usize = 16;

/// Words of which lists of passwords and examples in manuals consist, longest first where one contains another.
const WELL_KNOWN: [&str; 34] = [
    "passphrase",
    "underpass",
    "password",
    "changeme",
    "trustno1",
    "sunshine",
    "tunnel",
    "secret",
    "qwertz",
    "qwerty",
    "azerty",
    "dragon",
    "letmein",
    "welcome",
    "monkey",
    "master",
    "access",
    "hunter",
    "default",
    "example",
    "server",
    "client",
    "please",
    "private",
    "public",
    "token",
    "admin",
    "login",
    "proxy",
    "super",
    "hello",
    "test",
    "root",
    "pass",
];

/// The most frequent pairs of letters of English: 45 % of all pairs in its texts, 6 % in random letters.
const FREQUENT_PAIRS: &str = "th he in er an re nd on en at ou ed ha to or it is hi es ng st ar te se le al ve ne ea ro co ce \
    ta ra ri ic om de me el ti";

/// The share of frequent pairs from which letters are taken for words.
const WORDS_SHARE: f64 = 1.0 / 3.0;

/// The bits of each letter in a text of words: a word has 5.5 letters, and is one of the 7,776 that diceware has.
const BITS_PER_LETTER_OF_WORDS: f64 = 2.35;

/// Checks that a token can probably not be guessed.
///
/// # Errors
/// The first reason why it can.
pub(super) fn check(text: &str) -> Result<(), TokenError> {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() < MIN_CHARS {
        return Err(TokenError::Short { chars: chars.len() });
    }
    if is_pattern(&chars) {
        return Err(TokenError::Pattern);
    }
    let beside = without_well_known(text);
    let is_well_known = beside.len() < text.len();
    if is_well_known && beside.chars().filter(|c| c.is_alphanumeric()).count() < MIN_CHARS_BESIDE_WORDS {
        return Err(TokenError::WellKnown);
    }
    if is_wordy(&chars) {
        let letters = chars.iter().filter(|c| c.is_alphabetic()).count();
        return if letters as f64 * BITS_PER_LETTER_OF_WORDS < MIN_BITS {
            Err(TokenError::Words)
        } else {
            Ok(())
        };
    }
    if chars.len() as f64 * alphabet_size(&chars).log2() < MIN_BITS {
        return Err(TokenError::LittleVariety);
    }
    Ok(())
}

/// Returns whether a text has few different characters, repeats a part of itself, or follows the order of the alphabet
/// or of the digits.
fn is_pattern(chars: &[char]) -> bool {
    let mut distinct = chars.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let has_period = |period: usize| chars.iter().zip(&chars[period..]).all(|(a, b)| a == b);
    let steps = chars.windows(2).filter(|pair| u32::from(pair[0]).abs_diff(u32::from(pair[1])) <= 1).count();
    distinct.len() < MIN_DISTINCT_CHARS || (1..=chars.len() / 2).any(has_period) || 2 * steps > chars.len()
}

/// Returns the text in small letters without the well-known words, also in the spelling `p4$$w0rd`.
fn without_well_known(text: &str) -> String {
    let plain = text.chars().map(|c| match c.to_ascii_lowercase() {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        c => c,
    });
    let plain: String = plain.collect();
    WELL_KNOWN.iter().fold(plain, |text, word| text.replace(word, ""))
}

/// Returns whether a text consists of the words of a language, with few digits at their ends.
fn is_wordy(chars: &[char]) -> bool {
    let pairs =
        |matches: fn(char, char) -> bool| chars.windows(2).filter(|pair| matches(pair[0], pair[1])).count();
    let letters = pairs(|a, b| a.is_alphabetic() && b.is_alphabetic());
    let into_digits =
        pairs(|a, b| a.is_alphabetic() && b.is_numeric() || a.is_numeric() && b.is_alphabetic());
    let capitals = pairs(|a, b| a.is_uppercase() && b.is_uppercase());
    let frequent = pairs(|a, b| {
        let pair = [a, b].map(|c| c.to_ascii_lowercase());
        FREQUENT_PAIRS.split(' ').any(|known| known.chars().eq(pair))
    });
    into_digits <= 3
        && (capitals == 0 || capitals == letters)
        && frequent as f64 > letters as f64 * WORDS_SHARE
}

/// Returns the number of characters in the alphabet that a text seems to be written in.
fn alphabet_size(chars: &[char]) -> f64 {
    if chars.iter().all(char::is_ascii_hexdigit) && chars.iter().any(char::is_ascii_digit) {
        return if chars.iter().all(char::is_ascii_digit) { 10.0 } else { 16.0 };
    }
    let has = |is: fn(&char) -> bool, size: f64| if chars.iter().any(is) { size } else { 0.0 };
    has(|c| c.is_lowercase(), 26.0)
        + has(|c| c.is_uppercase(), 26.0)
        + has(|c| c.is_numeric(), 10.0)
        + has(|c| !c.is_alphanumeric(), 32.0)
}
