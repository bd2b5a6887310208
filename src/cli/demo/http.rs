//! The part of HTTP/1.1 that the origin and the clients of the demo need: message heads and bodies, all of bounded
//! size.
//!
//! A library such as hyper was considered. It would replace the reader of heads and bodies in this file, but a client
//! of the demo has to see bytes behind the end of a response (hyper drops them), the origin refuses a message with both
//! a length and a transfer encoding (hyper accepts it) and keeps reading after an error response so that no reset
//! overtakes it.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Maximum length in bytes of a message head. Those of curl have a few hundred bytes, those of browsers a few thousand.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Maximum number of header fields of a message.
const MAX_HEADERS: usize = 64;

/// Maximum length in bytes of a chunk-size line (16 digits and extensions, which are rare) and of a trailer line.
const MAX_LINE_BYTES: usize = 512;
/// Maximum number of trailer lines behind a chunked body.
const MAX_TRAILERS: usize = 32;

/// Buffer space in bytes for one read. Larger reads fall out of the CPU cache before they are compared.
const READ_BYTES: usize = 64 * 1024;

/// Why a message head or a body could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpReadError {
    /// The socket failed, for example with a reset.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer closed the connection within a message.
    #[error("connection closed before the end of the HTTP message")]
    Truncated,
    /// The head exceeds [`MAX_HEAD_BYTES`] or [`MAX_HEADERS`].
    #[error("HTTP head of more than {MAX_HEAD_BYTES} bytes or {MAX_HEADERS} header fields")]
    TooLarge,
    /// The bytes are not valid HTTP.
    #[error("invalid HTTP message: {0}")]
    Malformed(&'static str),
}

impl From<httparse::Error> for HttpReadError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooLarge,
            _ => Self::Malformed("the message head is invalid"),
        }
    }
}

/// Counters of the bytes read from and written to sockets, heads and bodies, as a tunnel in between counts them.
#[derive(Debug, Default)]
pub struct TrafficCounters {
    /// Bytes read from the sockets.
    read: AtomicU64,
    /// Bytes that the sockets accepted.
    written: AtomicU64,
}

impl TrafficCounters {
    /// Returns the bytes read from the sockets.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    /// Returns the bytes that the sockets accepted.
    pub fn bytes_written(&self) -> u64 {
        self.written.load(Relaxed)
    }
}

/// Head of a request (`L` is [`RequestLine`]) or of a response (`L` is [`StatusLine`]): its first line and its header
/// fields.
#[derive(Debug)]
pub(super) struct MessageHead<L> {
    /// The first line, parsed.
    pub(super) line: L,
    /// Header fields in their order, the names in lower case.
    headers: Vec<(String, Bytes)>,
}

/// First line of a request.
#[derive(Debug)]
pub(super) struct RequestLine {
    /// The request method, such as `GET`.
    pub(super) method: String,
    /// The request target: path and query.
    pub(super) target: String,
    /// Whether the version is HTTP/1.1, whose connections are kept alive by default.
    pub(super) is_http_1_1: bool,
}

/// First line of a response.
#[derive(Debug)]
pub(super) struct StatusLine {
    /// The status code, such as 200.
    pub(super) status: u16,
}

/// How the length of a message body is determined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyFraming {
    /// There is no body.
    None,
    /// `Content-Length`, in bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

impl<L> MessageHead<L> {
    fn new(line: L, headers: &[httparse::Header<'_>]) -> Self {
        let owned = |h: &httparse::Header<'_>| (h.name.to_ascii_lowercase(), Bytes::copy_from_slice(h.value));
        Self { line, headers: headers.iter().map(owned).collect() }
    }

    /// Returns the values of all header fields with this name, which is in lower case.
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(n, _)| n == name).map(|(_, value)| &value[..])
    }

    /// Returns whether a comma-separated header field contains the token `word`.
    pub(super) fn has_token(&self, name: &str, word: &str) -> bool {
        let mut words = self.values(name).flat_map(|value| value.split(|&b| b == b','));
        words.any(|w| w.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Returns whether the peer closes the connection after this message.
    pub(super) fn closes_connection(&self, is_http_1_1: bool) -> bool {
        self.has_token("connection", "close") || (!is_http_1_1 && !self.has_token("connection", "keep-alive"))
    }

    /// Determines how the body of this message is delimited. A message with two contradictory indications is malformed,
    /// because another reader could take a part of the body for the next request (request smuggling).
    pub(super) fn framing(&self) -> Result<BodyFraming, HttpReadError> {
        let mut lengths = self.values("content-length");
        let length = lengths.next();
        if lengths.next().is_some() {
            return Err(HttpReadError::Malformed("two Content-Length fields"));
        }
        match (self.values("transfer-encoding").next(), length) {
            (Some(_), Some(_)) => Err(HttpReadError::Malformed("both Content-Length and Transfer-Encoding")),
            (Some(encoding), None) if encoding.eq_ignore_ascii_case(b"chunked") => Ok(BodyFraming::Chunked),
            (Some(_), None) => Err(HttpReadError::Malformed("a Transfer-Encoding other than chunked")),
            (None, Some(length)) => parse_length(length, 10).map(BodyFraming::Length),
            (None, None) => Ok(BodyFraming::None),
        }
    }
}

/// Parses a length without a sign, which [`u64::from_str_radix`] would accept.
fn parse_length(digits: &[u8], radix: u32) -> Result<u64, HttpReadError> {
    let text = std::str::from_utf8(digits).ok().filter(|t| !t.starts_with('+'));
    text.and_then(|t| u64::from_str_radix(t, radix).ok())
        .ok_or(HttpReadError::Malformed("an invalid body or chunk length"))
}

/// One end of an HTTP/1.1 connection. It counts the bytes of its socket.
#[derive(Debug)]
pub(super) struct HttpConnection<'a, S> {
    /// The TCP connection.
    socket: S,
    /// Bytes that were read from the socket and not parsed yet.
    unparsed: BytesMut,
    /// Counts the bytes of the socket.
    traffic: &'a TrafficCounters,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> HttpConnection<'a, S> {
    pub(super) fn new(socket: S, traffic: &'a TrafficCounters) -> Self {
        Self { socket, unparsed: BytesMut::new(), traffic }
    }

    /// Reads from the socket once. Returns whether it read anything; `false` means that the peer closed its direction.
    async fn fill(&mut self) -> io::Result<bool> {
        self.unparsed.reserve(READ_BYTES);
        let n = self.socket.read_buf(&mut self.unparsed).await?;
        self.traffic.read.fetch_add(n as u64, Relaxed);
        Ok(n > 0)
    }

    /// Reads the head of the next request, or `None` if the peer closed the connection before its first byte.
    pub(super) async fn read_request(&mut self) -> Result<Option<MessageHead<RequestLine>>, HttpReadError> {
        loop {
            if !self.unparsed.is_empty() {
                let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
                let mut parsed = httparse::Request::new(&mut headers);
                if let httparse::Status::Complete(length) = parsed.parse(self.head_bytes())? {
                    let line = RequestLine {
                        method: parsed.method.unwrap_or_default().to_owned(),
                        target: parsed.path.unwrap_or_default().to_owned(),
                        is_http_1_1: parsed.version == Some(1),
                    };
                    let head = MessageHead::new(line, parsed.headers);
                    self.unparsed.advance(length);
                    return Ok(Some(head));
                }
            }
            if !self.fill_head().await? {
                return if self.unparsed.is_empty() { Ok(None) } else { Err(HttpReadError::Truncated) };
            }
        }
    }

    /// Reads the head of the next response.
    pub(super) async fn read_response(&mut self) -> Result<MessageHead<StatusLine>, HttpReadError> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut parsed = httparse::Response::new(&mut headers);
            if let httparse::Status::Complete(length) = parsed.parse(self.head_bytes())? {
                let line = StatusLine { status: parsed.code.unwrap_or_default() };
                let head = MessageHead::new(line, parsed.headers);
                self.unparsed.advance(length);
                return Ok(head);
            }
            if !self.fill_head().await? {
                return Err(HttpReadError::Truncated);
            }
        }
    }

    /// Returns the unparsed bytes that a head may consist of, at most [`MAX_HEAD_BYTES`]; one read can return more.
    fn head_bytes(&self) -> &[u8] {
        &self.unparsed[..self.unparsed.len().min(MAX_HEAD_BYTES)]
    }

    /// Reads more bytes of an incomplete head. Returns `false` at the end of the connection.
    async fn fill_head(&mut self) -> Result<bool, HttpReadError> {
        if self.unparsed.len() >= MAX_HEAD_BYTES {
            return Err(HttpReadError::TooLarge);
        }
        Ok(self.fill().await?)
    }

    /// Returns the next bytes, at most `limit`; empty at the end of the connection.
    pub(super) async fn read_up_to(&mut self, limit: u64) -> io::Result<Bytes> {
        if self.unparsed.is_empty() && limit > 0 {
            self.fill().await?;
        }
        let n = self.unparsed.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(self.unparsed.split_to(n).freeze())
    }

    /// Reads one line of a chunked body, without its line end.
    async fn read_line(&mut self) -> Result<Bytes, HttpReadError> {
        loop {
            if let Some(end) = self.unparsed.iter().take(MAX_LINE_BYTES).position(|&b| b == b'\n') {
                let line = self.unparsed.split_to(end + 1).freeze();
                return Ok(line.slice_ref(line[..end].trim_ascii_end()));
            }
            if self.unparsed.len() >= MAX_LINE_BYTES {
                return Err(HttpReadError::Malformed("a line of a chunked body exceeds 512 bytes"));
            }
            if !self.fill().await? {
                return Err(HttpReadError::Truncated);
            }
        }
    }

    /// Writes and counts all `bytes`.
    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = self.socket.write(bytes).await?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.traffic.written.fetch_add(n as u64, Relaxed);
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Closes the write direction of the connection.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.socket.shutdown().await
    }
}

/// Reads one message body, one part at a time.
#[derive(Debug)]
pub(super) struct BodyReader {
    /// How the length of the body is determined.
    framing: BodyFraming,
    /// Bytes that are left of the body, or of the current chunk.
    remaining: u64,
    /// Whether the last chunk and the trailers were read.
    is_complete: bool,
    /// Whether a chunk came before, whose line end precedes the next chunk-size line.
    has_chunk: bool,
}

impl BodyReader {
    /// Creates a reader of a body with this framing.
    pub(super) fn new(framing: BodyFraming) -> Self {
        let remaining = if let BodyFraming::Length(length) = framing { length } else { 0 };
        Self { framing, remaining, is_complete: false, has_chunk: false }
    }

    /// Reads the next part of the body; `None` after the last one. If the connection ends before, it fails with
    /// [`HttpReadError::Truncated`].
    pub(super) async fn next<S>(
        &mut self,
        connection: &mut HttpConnection<'_, S>,
    ) -> Result<Option<Bytes>, HttpReadError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.remaining == 0 && self.framing == BodyFraming::Chunked && !self.is_complete {
            self.remaining = self.next_chunk_size(connection).await?;
            self.is_complete = self.remaining == 0;
        }
        if self.remaining == 0 {
            return Ok(None);
        }
        let bytes = connection.read_up_to(self.remaining).await?;
        if bytes.is_empty() {
            return Err(HttpReadError::Truncated);
        }
        self.remaining -= bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// Reads the size of the next chunk. A size of 0 marks the last chunk, behind which this also reads the trailers.
    async fn next_chunk_size<S>(
        &mut self,
        connection: &mut HttpConnection<'_, S>,
    ) -> Result<u64, HttpReadError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.has_chunk && !connection.read_line().await?.is_empty() {
            return Err(HttpReadError::Malformed("no line end after a chunk"));
        }
        self.has_chunk = true;
        let line = connection.read_line().await?;
        let digits = line.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
        let size = parse_length(digits, 16)?;
        if size == 0 {
            for _ in 0..MAX_TRAILERS {
                if connection.read_line().await?.is_empty() {
                    return Ok(0);
                }
            }
            return Err(HttpReadError::Malformed("more than 32 trailers"));
        }
        Ok(size)
    }
}

#[cfg(test)]
mod tests;
