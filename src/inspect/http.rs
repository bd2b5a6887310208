//! Parses the heads of HTTP/1 messages, and determines how their bodies are framed.

use std::{mem::MaybeUninit, sync::Arc};

use super::detect::MAX_METHOD;
use crate::ids::clean;

/// The most header fields of a head that is parsed: Apache's limit; browsers send twenty.
const MAX_HEADERS: usize = 100;

/// The longest part of a request target that is shown, in characters.
const MAX_TARGET: usize = 200;

/// Exclusive upper bound of a body length, in bytes: 2^60. A larger Content-Length is treated as invalid, and sums of
/// lengths cannot overflow.
const MAX_BODY: u64 = 1 << 60;

/// How the end of a message's body is determined (RFC 9112, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HttpFraming {
    /// The head has no framing field. A request then has no body; a response's body ends with the connection.
    None,
    /// Content-Length, in bytes.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
    /// It cannot be determined: contradictory fields, or a head that could not be parsed completely.
    Unknown,
}

/// The head of a request.
#[derive(Debug, Clone)]
pub(super) struct RequestHead {
    /// The request method, such as `GET`.
    pub(super) method: Arc<str>,
    /// The request target without its query and fragment, sanitized.
    pub(super) target: Arc<str>,
    /// How the end of the request's body is determined.
    pub(super) framing: HttpFraming,
    /// The request has an Expect field: the client may wait for "100 Continue" before it sends the body.
    pub(super) expects_continue: bool,
}

/// The head of a response.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResponseHead {
    /// The status code, such as 200.
    pub(super) status: u16,
    /// How the end of the response's body is determined.
    pub(super) framing: HttpFraming,
}

/// Returns the offset behind the blank line that ends the head in `bytes`, or `None` if it is not there yet. The first
/// `examined` bytes were searched before and do not contain the whole blank line.
pub(super) fn head_end(bytes: &[u8], examined: usize) -> Option<usize> {
    // All but the last byte of the blank line may have been examined.
    let from = examined.saturating_sub(2);
    memchr::memchr_iter(b'\n', &bytes[from..]).find_map(|line| {
        let end = from + line + 1;
        match &bytes[end..] {
            [b'\n', ..] => Some(end + 1),
            [b'\r', b'\n', ..] => Some(end + 2),
            _ => None,
        }
    })
}

/// Parses the head of a request. An incomplete head is parsed as far as its request line; `None` if there is no valid
/// request line.
pub(super) fn parse_request(head: &[u8]) -> Option<RequestHead> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let result = request.parse_with_uninit_headers(head, &mut headers);
    // The request line stays valid if the header fields behind it are not.
    let (Some(method), Some(target), Some(_)) = (request.method, request.path, request.version) else {
        return None;
    };
    let is_complete = matches!(result, Ok(httparse::Status::Complete(_)));
    let path = target.split(['?', '#']).next().unwrap_or_default();
    Some(RequestHead {
        method: clean(method, MAX_METHOD).into(),
        target: clean(path, MAX_TARGET).into(),
        framing: if is_complete { body_framing(request.headers) } else { HttpFraming::Unknown },
        expects_continue: is_complete
            && request.headers.iter().any(|header| header.name.eq_ignore_ascii_case("expect")),
    })
}

/// Parses the head of a response. An incomplete head is parsed as far as its status line; `None` if there is no valid
/// status line.
pub(super) fn parse_response(head: &[u8]) -> Option<ResponseHead> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let result = config.parse_response_with_uninit_headers(&mut response, head, &mut headers);
    let is_complete = matches!(result, Ok(httparse::Status::Complete(_)));
    let framing = if is_complete { body_framing(response.headers) } else { HttpFraming::Unknown };
    Some(ResponseHead { status: response.code?, framing })
}

/// Determines the framing of the body by Content-Length and Transfer-Encoding.
fn body_framing(headers: &[httparse::Header<'_>]) -> HttpFraming {
    let (mut length, mut is_chunked) = (None, None);
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            match parse_length(header.value) {
                Some(n) if length.is_none_or(|known| known == n) => length = Some(n),
                _ => return HttpFraming::Unknown,
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            let last = header.value.rsplit(|b| *b == b',').next().unwrap_or_default();
            is_chunked = Some(last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
        }
    }
    match (length, is_chunked) {
        (None, None) => HttpFraming::None,
        (Some(length), None) => HttpFraming::Length(length),
        (None, Some(true)) => HttpFraming::Chunked,
        // With both fields, two implementations could disagree on where the next message begins (request smuggling).
        (None, Some(false)) | (Some(_), Some(_)) => HttpFraming::Unknown,
    }
}

/// Parses the value of Content-Length; `None` if it is no decimal number below [`MAX_BODY`].
fn parse_length(digits: &[u8]) -> Option<u64> {
    let digits = digits.trim_ascii();
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits
        .iter()
        .try_fold(0_u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
        .filter(|&n| n < MAX_BODY)
}
