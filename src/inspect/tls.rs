//! The server's name in a TLS ClientHello.

use std::{borrow::Cow, sync::Arc};

use crate::ids::clean;

/// No host name is longer.
const MAX_NAME: usize = 253;

const HANDSHAKE: u8 = 0x16;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What a ClientHello says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// More of it is needed.
    More,
    /// All there is to know: the server's name, if it is there.
    Name(Option<Arc<str>>),
}

/// There are not as many bytes.
struct Short;

/// Reads the records that a client's first flight consists of, as far as they are there.
pub(super) fn client_hello(records: &[u8]) -> Hello {
    let (handshake, closed) = handshake(records);
    // Type and length of the handshake's message, then the message.
    let [_, high, middle, low, message @ ..] = &handshake[..] else {
        return if closed { Hello::Name(None) } else { Hello::More };
    };
    let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
    let whole = closed || message.len() >= length;
    match server_name(&message[..message.len().min(length)]) {
        Ok(name) => Hello::Name(name),
        // One without extensions ends here; one that contradicts itself does too.
        Err(Short) if whole => Hello::Name(None),
        Err(Short) => Hello::More,
    }
}

/// What the records carry, joined if they are several, and whether that is all: early data, or nonsense, follows.
fn handshake(records: &[u8]) -> (Cow<'_, [u8]>, bool) {
    let mut joined = Cow::Borrowed(&[][..]);
    let mut rest = records;
    while let [kind, _, _, high, low, payload @ ..] = rest {
        let length = usize::from(*high) << 8 | usize::from(*low);
        if *kind != HANDSHAKE || length == 0 {
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

fn server_name(hello: &[u8]) -> Result<Option<Arc<str>>, Short> {
    let mut hello = Fields(hello);
    // Version and random; then the session's id, the cipher suites, the ways of compression.
    hello.take(2 + 32)?;
    hello.counted(1)?;
    hello.counted(2)?;
    hello.counted(1)?;
    let length = hello.number(2)?;
    // Looked at as far as it is there: with a key that withstands quantum computers, the rest may take another packet.
    let (mut extensions, whole) = hello.up_to(length);
    loop {
        if whole && extensions.0.is_empty() {
            return Ok(None);
        }
        let kind = extensions.number(2)?;
        let mut extension = Fields(extensions.counted(2)?);
        if kind != usize::from(SERVER_NAME) {
            continue;
        }
        let mut names = Fields(extension.counted(2)?);
        while !names.0.is_empty() {
            let kind = names.number(1)?;
            let name = names.counted(2)?;
            if kind == usize::from(HOST_NAME) {
                let name = clean(&String::from_utf8_lossy(name), MAX_NAME);
                return Ok(Some(name).filter(|name| !name.is_empty()).map(Arc::from));
            }
        }
        return Ok(None);
    }
}

/// The fields of a message, read one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of so many bytes, the high one first.
    fn number(&mut self, bytes: usize) -> Result<usize, Short> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// A field with its length before it, in so many bytes.
    fn counted(&mut self, bytes: usize) -> Result<&'a [u8], Short> {
        let length = self.number(bytes)?;
        self.take(length)
    }

    /// The next `n` bytes or as many as there are, and whether that is all of them.
    fn up_to(&mut self, n: usize) -> (Self, bool) {
        let whole = self.0.len() >= n;
        (Self(&self.0[..self.0.len().min(n)]), whole)
    }
}
