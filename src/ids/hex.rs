//! Hexadecimal text of 32 bytes: keys and hashes.

use std::fmt::Write as _;

/// Returns 64 digits in lower case.
pub(crate) fn encode_hex(bytes: &[u8; 32]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// Parses 64 digits of either case; `None` for any other text.
pub(crate) fn decode_hex(text: &str) -> Option<[u8; 32]> {
    let (digits, mut bytes) = (text.as_bytes(), [0; 32]);
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}
