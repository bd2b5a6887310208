//! The lengths of tokens, and the prefix of generated ones.

/// What every generated token begins with, so that scanners of secrets find one that was committed or published by
/// mistake.
pub(super) const PREFIX: &str = "underpass_";

/// The number of random digits: 178 bits.
pub(super) const RANDOM_DIGITS: usize = 30;

/// The number of digits that hold the CRC-32C of everything before them.
pub(super) const CHECKSUM_DIGITS: usize = 6;

/// The length of a generated token in bytes: 46.
pub(super) const GENERATED_BYTES: usize = PREFIX.len() + RANDOM_DIGITS + CHECKSUM_DIGITS;

/// The longest token in bytes. Longer ones are probably another file.
pub(super) const MAX_BYTES: usize = 1024;

/// The fewest characters of a token that an operator chooses.
pub(super) const MIN_CHARS: usize = 20;
