//! What the first bytes of a direction look like.

use std::sync::Arc;

use crate::ids::clean;

/// Longer words are no method of anybody's.
pub(super) const MAX_METHOD: usize = 24;

/// RFC 4253 allows no longer banner.
const MAX_BANNER: usize = 255;

/// How much of a banner is worth showing.
const SHOWN_BANNER: usize = 80;

/// What the first bytes may be the beginning of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guess {
    /// Too few to tell.
    More,
    Http,
    Tls,
    Ssh,
    Other,
}

/// What a client seems to speak.
pub(super) fn guess(bytes: &[u8]) -> Guess {
    match bytes {
        [] => Guess::More,
        // A record with a handshake in it, of any version so far, and in that a ClientHello.
        [0x16, rest @ ..] => match rest {
            [] | [3] | [3, 0..=4] | [3, 0..=4, _] | [3, 0..=4, _, _] => Guess::More,
            [3, 0..=4, _, _, 1, ..] => Guess::Tls,
            _ => Guess::Other,
        },
        _ => match ssh(bytes) {
            Guess::Other => method(bytes),
            sure => sure,
        },
    }
}

/// Whether it is the beginning of an SSH banner, which both sides send.
pub(super) fn ssh(bytes: &[u8]) -> Guess {
    match bytes {
        [b'S', b'S', b'H', b'-', ..] => Guess::Ssh,
        _ if b"SSH-".starts_with(bytes) => Guess::More,
        _ => Guess::Other,
    }
}

/// Whether it begins as a request does: a word and a space. The rest of the line is for the parser to judge.
fn method(bytes: &[u8]) -> Guess {
    let shown = &bytes[..bytes.len().min(MAX_METHOD + 1)];
    match shown.iter().position(|b| !is_token(*b)) {
        None if shown.len() > MAX_METHOD => Guess::Other,
        None => Guess::More,
        Some(end) if end > 0 && shown[end] == b' ' => Guess::Http,
        Some(_) => Guess::Other,
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The line that an SSH connection begins with; `None` while it is incomplete.
pub(super) fn banner(bytes: &[u8]) -> Option<Arc<str>> {
    let shown = &bytes[..bytes.len().min(MAX_BANNER)];
    let end = memchr::memchr(b'\n', shown).or((shown.len() == MAX_BANNER).then_some(MAX_BANNER))?;
    Some(clean(&String::from_utf8_lossy(&shown[..end]), SHOWN_BANNER).into())
}
