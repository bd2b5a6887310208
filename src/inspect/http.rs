//! The heads of HTTP/1 messages, and where their bodies end.

use std::{mem::MaybeUninit, sync::Arc};

use super::first::MAX_METHOD;
use crate::ids::clean;

/// A head with more lines is not followed. Apache's limit; browsers send twenty.
const MAX_HEADERS: usize = 100;

/// How much of a target is shown.
const MAX_TARGET: usize = 200;

/// The longest line between the chunks of a body: sixteen digits, or a trailer, with room.
const MAX_LINE: u16 = 1024;

/// Chunks and bodies are shorter than this, 2^60: what says otherwise is nonsense, and sums cannot overflow.
const MAX_BODY: u64 = 1 << 60;

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no word of a body. A request has none then; a response goes on to the end of the connection.
    Unsaid,
    Length(u64),
    Chunked,
    /// Not by us: two answers to the question, or a head that could not be read to its end.
    Unclear,
}

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Arc<str>,
    pub(super) target: Arc<str>,
    pub(super) framing: Framing,
    /// The body waits for a go-ahead.
    pub(super) expects: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) framing: Framing,
}

/// Where the head in `bytes` ends, if its end is there. It is not among the first `known` bytes.
pub(super) fn head_end(bytes: &[u8], known: usize) -> Option<usize> {
    // All but the last byte of the blank line may have been known.
    let from = known.saturating_sub(2);
    memchr::memchr_iter(b'\n', &bytes[from..]).find_map(|line| {
        let end = from + line + 1;
        match &bytes[end..] {
            [b'\n', ..] => Some(end + 1),
            [b'\r', b'\n', ..] => Some(end + 2),
            _ => None,
        }
    })
}

/// Reads the head of a request; also one that is not all there, if its first line is. `None` if it is none.
pub(super) fn request(head: &[u8]) -> Option<Request> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let result = request.parse_with_uninit_headers(head, &mut headers);
    // The line stays what it is if what follows is nonsense.
    let (Some(method), Some(target), Some(_)) = (request.method, request.path, request.version) else {
        return None;
    };
    let whole = matches!(result, Ok(httparse::Status::Complete(_)));
    let path = target.split(['?', '#']).next().unwrap_or_default();
    Some(Request {
        method: clean(method, MAX_METHOD).into(),
        target: clean(path, MAX_TARGET).into(),
        framing: if whole { framing(request.headers) } else { Framing::Unclear },
        expects: whole && request.headers.iter().any(|header| header.name.eq_ignore_ascii_case("expect")),
    })
}

/// Reads the head of a response; also one that is not all there, if its first line is. `None` if it is none.
pub(super) fn response(head: &[u8]) -> Option<Response> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let result = config.parse_response_with_uninit_headers(&mut response, head, &mut headers);
    let whole = matches!(result, Ok(httparse::Status::Complete(_)));
    let framing = if whole { framing(response.headers) } else { Framing::Unclear };
    Some(Response { status: response.code?, framing })
}

fn framing(headers: &[httparse::Header<'_>]) -> Framing {
    let (mut length, mut encoding) = (None, None);
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            match number(header.value) {
                Some(n) if length.is_none_or(|known| known == n) => length = Some(n),
                _ => return Framing::Unclear,
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            let last = header.value.rsplit(|b| *b == b',').next().unwrap_or_default();
            encoding = Some(last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
        }
    }
    match (length, encoding) {
        (None, None) => Framing::Unsaid,
        (Some(length), None) => Framing::Length(length),
        (None, Some(true)) => Framing::Chunked,
        // What one reader takes for the body, another would take for the next message.
        (None, Some(false)) | (Some(_), Some(_)) => Framing::Unclear,
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let digits = digits.trim_ascii();
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits
        .iter()
        .try_fold(0_u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
        .filter(|&n| n < MAX_BODY)
}

/// Follows a body that comes in chunks, without looking into them.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    place: Place,
    /// How much of the line has been seen.
    line: u16,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// Within the digits of a size, of which there were so many.
    Size(u64, u8),
    /// Behind them.
    Extension(u64),
    /// Behind the last chunk, in a line with something in it or not.
    Trailer(bool),
}

impl Default for Place {
    fn default() -> Self {
        Self::Size(0, 0)
    }
}

/// What comes next in a body of chunks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// More of the line between two chunks.
    More,
    /// So many bytes of no interest, then such a line.
    Skip(u64),
    /// Nothing: it is over.
    End,
    /// Nobody knows.
    Lost,
}

impl Chunks {
    /// Reads until there is something to say, and how far.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> (usize, Next) {
        for (at, byte) in bytes.iter().enumerate() {
            match self.step(*byte) {
                Next::More => {}
                next => return (at + 1, next),
            }
        }
        (bytes.len(), Next::More)
    }

    fn step(&mut self, byte: u8) -> Next {
        self.line += 1;
        if self.line > MAX_LINE {
            return Next::Lost;
        }
        match (self.place, byte) {
            // 2^60 has sixteen digits.
            (Place::Size(size, digits @ ..15), b) if b.is_ascii_hexdigit() => {
                let digit = char::from(b).to_digit(16).unwrap_or_default();
                self.place = Place::Size(size << 4 | u64::from(digit), digits + 1);
            }
            (Place::Size(size, 1..) | Place::Extension(size), b'\n') => {
                self.line = 0;
                if size > 0 {
                    self.place = Place::default();
                    // The chunk has a line's end behind it.
                    return Next::Skip(size + 2);
                }
                self.place = Place::Trailer(false);
            }
            (Place::Size(size, 1..), b'\r' | b';' | b' ' | b'\t') => self.place = Place::Extension(size),
            (Place::Size(..), _) => return Next::Lost,
            (Place::Extension(_), _) | (Place::Trailer(_), b'\r') => {}
            (Place::Trailer(false), b'\n') => return Next::End,
            (Place::Trailer(true), b'\n') => {
                self.line = 0;
                self.place = Place::Trailer(false);
            }
            (Place::Trailer(_), _) => self.place = Place::Trailer(true),
        }
        Next::More
    }
}
