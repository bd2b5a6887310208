//! Texts of the operator: configuration files, tokens, certificates and their authorities.

use std::io::{self, Read};

/// Reads the rest of a text from a file, or from stdin.
///
/// # Errors
/// It is longer than `max_bytes`, as a device such as `/dev/zero` is; it is not UTF-8; or it cannot be read.
pub(super) fn read(input: impl Read, max_bytes: usize) -> io::Result<String> {
    let mut bytes = Vec::new();
    input.take(max_bytes as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max_bytes {
        return Err(io::Error::other(format!("it is longer than {max_bytes} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not text in UTF-8"))
}

#[cfg(test)]
mod tests;
