//! Protocol detection by the first bytes of a direction.

use std::sync::Arc;

use crate::ids::clean;

/// The longest HTTP method that is accepted, in bytes. No registered method is longer.
pub(super) const MAX_METHOD: usize = 24;

/// The longest SSH identification string that RFC 4253 allows, in bytes.
const MAX_BANNER: usize = 255;

/// The longest part of an SSH identification string that is shown, in characters.
const MAX_SHOWN_BANNER: usize = 80;

/// The protocol that a direction begins with, as far as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DetectedProtocol {
    /// Too few bytes to tell.
    Incomplete,
    /// HTTP/1: a request method and a space.
    Http,
    /// TLS: a handshake record with a ClientHello.
    Tls,
    /// SSH: an identification string.
    Ssh,
    /// None of the known protocols.
    Other,
}

/// Detects the protocol of a client by the first bytes that it sends.
pub(super) fn detect_client(bytes: &[u8]) -> DetectedProtocol {
    match bytes {
        [] => DetectedProtocol::Incomplete,
        // A TLS handshake record of any version up to 1.3, which contains a ClientHello.
        [0x16, rest @ ..] => match rest {
            [] | [3] | [3, 0..=4] | [3, 0..=4, _] | [3, 0..=4, _, _] => DetectedProtocol::Incomplete,
            [3, 0..=4, _, _, 1, ..] => DetectedProtocol::Tls,
            _ => DetectedProtocol::Other,
        },
        _ => match detect_ssh(bytes) {
            DetectedProtocol::Other => detect_http_method(bytes),
            detected => detected,
        },
    }
}

/// Returns whether `bytes` begin an SSH identification string, which both client and server send.
pub(super) fn detect_ssh(bytes: &[u8]) -> DetectedProtocol {
    match bytes {
        [b'S', b'S', b'H', b'-', ..] => DetectedProtocol::Ssh,
        _ if b"SSH-".starts_with(bytes) => DetectedProtocol::Incomplete,
        _ => DetectedProtocol::Other,
    }
}

/// Returns whether `bytes` begin like an HTTP request: a token and a space. The rest of the request line is left to
/// the parser.
fn detect_http_method(bytes: &[u8]) -> DetectedProtocol {
    let examined = &bytes[..bytes.len().min(MAX_METHOD + 1)];
    match examined.iter().position(|b| !is_token(*b)) {
        None if examined.len() > MAX_METHOD => DetectedProtocol::Other,
        None => DetectedProtocol::Incomplete,
        Some(end) if end > 0 && examined[end] == b' ' => DetectedProtocol::Http,
        Some(_) => DetectedProtocol::Other,
    }
}

/// Returns whether `byte` may occur in a token of RFC 9110.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns the SSH identification string at the beginning of `bytes`, sanitized; `None` while its line is incomplete.
pub(super) fn ssh_banner(bytes: &[u8]) -> Option<Arc<str>> {
    let examined = &bytes[..bytes.len().min(MAX_BANNER)];
    let end = memchr::memchr(b'\n', examined).or((examined.len() == MAX_BANNER).then_some(MAX_BANNER))?;
    Some(clean(&String::from_utf8_lossy(&examined[..end]), MAX_SHOWN_BANNER).into())
}
