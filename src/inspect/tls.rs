//! Extracts the server name (SNI, RFC 6066) from a TLS ClientHello.

use std::{borrow::Cow, sync::Arc};

use crate::ids::clean;

/// The longest DNS host name, in characters.
const MAX_NAME: usize = 253;

/// The content type of TLS handshake records.
const CONTENT_TYPE_HANDSHAKE: u8 = 0x16;

/// The type of the server_name extension.
const EXTENSION_SERVER_NAME: u16 = 0;

/// The name type of DNS host names in the server_name extension.
const NAME_TYPE_HOST_NAME: u8 = 0;

/// The result of parsing a ClientHello.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ClientHelloResult {
    /// More bytes are needed.
    Incomplete,
    /// Parsing is complete: the server name, if the client sent one.
    ServerName(Option<Arc<str>>),
}

/// The message ends before the field does.
struct EndOfData;

/// Parses the ClientHello in the TLS records with which a client begins, as far as they were received.
pub(super) fn parse_client_hello(records: &[u8]) -> ClientHelloResult {
    let (handshake, is_complete) = handshake_payload(records);
    // The handshake message's type and 24-bit length, then the message.
    let [_, high, middle, low, message @ ..] = &handshake[..] else {
        return if is_complete { ClientHelloResult::ServerName(None) } else { ClientHelloResult::Incomplete };
    };
    let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
    let is_complete = is_complete || message.len() >= length;
    match server_name(&message[..message.len().min(length)]) {
        Ok(name) => ClientHelloResult::ServerName(name),
        // A ClientHello without extensions ends here, and so does one whose lengths contradict each other.
        Err(EndOfData) if is_complete => ClientHelloResult::ServerName(None),
        Err(EndOfData) => ClientHelloResult::Incomplete,
    }
}

/// Returns the payload of the handshake records at the beginning of `records`, concatenated if there are several, and
/// whether it is complete, because a record of another type or of length zero follows.
fn handshake_payload(records: &[u8]) -> (Cow<'_, [u8]>, bool) {
    let mut joined = Cow::Borrowed(&[][..]);
    let mut rest = records;
    while let [content_type, _, _, high, low, payload @ ..] = rest {
        let length = usize::from(*high) << 8 | usize::from(*low);
        if *content_type != CONTENT_TYPE_HANDSHAKE || length == 0 {
            return (joined, true);
        }
        let (part, behind) = payload.split_at(payload.len().min(length));
        if joined.is_empty() {
            joined = Cow::Borrowed(part);
        } else {
            joined.to_mut().extend_from_slice(part);
        }
        rest = behind;
    }
    (joined, false)
}

/// Returns the host name of the server_name extension in a ClientHello message, sanitized, or `None` if there is none.
fn server_name(hello: &[u8]) -> Result<Option<Arc<str>>, EndOfData> {
    let mut hello = ByteReader(hello);
    // legacy_version and random; then legacy_session_id, cipher_suites and legacy_compression_methods.
    hello.take(2 + 32)?;
    hello.take_length_prefixed(1)?;
    hello.take_length_prefixed(2)?;
    hello.take_length_prefixed(1)?;
    let length = hello.take_number(2)?;
    // The extensions are parsed as far as they were received: with a post-quantum key share the rest may be in another
    // packet.
    let (mut extensions, is_complete) = hello.take_available(length);
    loop {
        if is_complete && extensions.0.is_empty() {
            return Ok(None);
        }
        let extension_type = extensions.take_number(2)?;
        let mut extension = ByteReader(extensions.take_length_prefixed(2)?);
        if extension_type != usize::from(EXTENSION_SERVER_NAME) {
            continue;
        }
        let mut names = ByteReader(extension.take_length_prefixed(2)?);
        while !names.0.is_empty() {
            let name_type = names.take_number(1)?;
            let name = names.take_length_prefixed(2)?;
            if name_type == usize::from(NAME_TYPE_HOST_NAME) {
                let name = clean(&String::from_utf8_lossy(name), MAX_NAME);
                return Ok(Some(name).filter(|name| !name.is_empty()).map(Arc::from));
            }
        }
        return Ok(None);
    }
}

/// Reads the fields of a TLS message from front to back.
struct ByteReader<'a>(&'a [u8]);

impl<'a> ByteReader<'a> {
    /// Reads the next `n` bytes of the message; fails if there are fewer.
    fn take(&mut self, n: usize) -> Result<&'a [u8], EndOfData> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(EndOfData)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Reads a big-endian number of `bytes` bytes.
    fn take_number(&mut self, bytes: usize) -> Result<usize, EndOfData> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Reads a field whose length is in the `length_bytes` bytes before it.
    fn take_length_prefixed(&mut self, length_bytes: usize) -> Result<&'a [u8], EndOfData> {
        let length = self.take_number(length_bytes)?;
        self.take(length)
    }

    /// Returns a reader of the next `n` bytes, or of as many as there are, and whether these are all `n`.
    fn take_available(&mut self, n: usize) -> (Self, bool) {
        let is_complete = self.0.len() >= n;
        (Self(&self.0[..self.0.len().min(n)]), is_complete)
    }
}
