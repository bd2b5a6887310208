//! As much of HTTP/1.1 as both ends of the demo need: heads and bodies, all of them bounded.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A head that is longer is refused: curl's are some hundred bytes, browsers' a few thousand.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// A chunk's size line and a trailer line: sixteen digits and room for extensions that nobody sends.
const MAX_LINE: usize = 512;
const MAX_TRAILERS: usize = 32;

/// One read. Larger ones leave the cache before they are compared.
const READ: usize = 64 * 1024;

/// Why a head or a body could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("closed before the end")]
    Short,
    #[error("a head of more than {MAX_HEAD} bytes or {MAX_HEADERS} lines")]
    TooLarge,
    #[error("not HTTP: {0}")]
    Malformed(&'static str),
}

impl From<httparse::Error> for HttpReadError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooLarge,
            _ => Self::Malformed("the head cannot be parsed"),
        }
    }
}

/// Bytes that went over sockets, heads and bodies, as a tunnel between them counts them.
#[derive(Debug, Default)]
pub struct TrafficCounters {
    read: AtomicU64,
    written: AtomicU64,
}

impl TrafficCounters {
    /// Bytes read from the sockets.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    /// Bytes that the sockets took.
    pub fn bytes_written(&self) -> u64 {
        self.written.load(Relaxed)
    }
}

/// A head: its first line, and its header lines.
#[derive(Debug)]
pub(super) struct MessageHead<L> {
    pub(super) line: L,
    headers: Vec<(String, Bytes)>,
}

#[derive(Debug)]
pub(super) struct RequestLine {
    pub(super) method: String,
    pub(super) target: String,
    /// HTTP/1.1, whose connections stay open unless somebody says otherwise.
    pub(super) persistent: bool,
}

#[derive(Debug)]
pub(super) struct StatusLine {
    pub(super) status: u16,
}

/// How a body's end is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyFraming {
    None,
    Length(u64),
    Chunked,
}

impl<L> MessageHead<L> {
    fn new(line: L, headers: &[httparse::Header<'_>]) -> Self {
        let owned = |h: &httparse::Header<'_>| (h.name.to_ascii_lowercase(), Bytes::copy_from_slice(h.value));
        Self { line, headers: headers.iter().map(owned).collect() }
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(n, _)| n == name).map(|(_, value)| &value[..])
    }

    /// Whether a comma-separated header has this word in it.
    pub(super) fn says(&self, name: &str, word: &str) -> bool {
        let mut words = self.values(name).flat_map(|value| value.split(|&b| b == b','));
        words.any(|w| w.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Whether the other end wants the connection closed after this message.
    pub(super) fn closes(&self, persistent: bool) -> bool {
        self.says("connection", "close") || (!persistent && !self.says("connection", "keep-alive"))
    }

    /// How this message's body ends. Two answers to that question are none: what one reader takes for the body,
    /// another would take for the next request.
    pub(super) fn framing(&self) -> Result<BodyFraming, HttpReadError> {
        let mut lengths = self.values("content-length");
        let length = lengths.next();
        if lengths.next().is_some() {
            return Err(HttpReadError::Malformed("two lengths"));
        }
        match (self.values("transfer-encoding").next(), length) {
            (Some(_), Some(_)) => Err(HttpReadError::Malformed("a length and an encoding")),
            (Some(encoding), None) if encoding.eq_ignore_ascii_case(b"chunked") => Ok(BodyFraming::Chunked),
            (Some(_), None) => Err(HttpReadError::Malformed("an encoding that is not chunked")),
            (None, Some(length)) => number(length, 10).map(BodyFraming::Length),
            (None, None) => Ok(BodyFraming::None),
        }
    }
}

fn number(digits: &[u8], radix: u32) -> Result<u64, HttpReadError> {
    let text = std::str::from_utf8(digits).ok().filter(|t| !t.starts_with('+'));
    text.and_then(|t| u64::from_str_radix(t, radix).ok()).ok_or(HttpReadError::Malformed("not a length"))
}

/// A connection: a socket, what was read from it too early, and the count of what went over it.
#[derive(Debug)]
pub(super) struct HttpConnection<'a, S> {
    socket: S,
    early: BytesMut,
    traffic: &'a TrafficCounters,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> HttpConnection<'a, S> {
    pub(super) fn new(socket: S, traffic: &'a TrafficCounters) -> Self {
        Self { socket, early: BytesMut::new(), traffic }
    }

    /// Reads more; false at the end.
    async fn fill(&mut self) -> io::Result<bool> {
        self.early.reserve(READ);
        let n = self.socket.read_buf(&mut self.early).await?;
        self.traffic.read.fetch_add(n as u64, Relaxed);
        Ok(n > 0)
    }

    /// The next request, or `None` if the other end has no more.
    pub(super) async fn request(&mut self) -> Result<Option<MessageHead<RequestLine>>, HttpReadError> {
        loop {
            if !self.early.is_empty() {
                let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
                let mut parsed = httparse::Request::new(&mut headers);
                if let httparse::Status::Complete(length) = parsed.parse(self.head_bytes())? {
                    let line = RequestLine {
                        method: parsed.method.unwrap_or_default().to_owned(),
                        target: parsed.path.unwrap_or_default().to_owned(),
                        persistent: parsed.version == Some(1),
                    };
                    let head = MessageHead::new(line, parsed.headers);
                    self.early.advance(length);
                    return Ok(Some(head));
                }
            }
            if !self.more_head().await? {
                return if self.early.is_empty() { Ok(None) } else { Err(HttpReadError::Short) };
            }
        }
    }

    /// The next response.
    pub(super) async fn response(&mut self) -> Result<MessageHead<StatusLine>, HttpReadError> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut parsed = httparse::Response::new(&mut headers);
            if let httparse::Status::Complete(length) = parsed.parse(self.head_bytes())? {
                let line = StatusLine { status: parsed.code.unwrap_or_default() };
                let head = MessageHead::new(line, parsed.headers);
                self.early.advance(length);
                return Ok(head);
            }
            if !self.more_head().await? {
                return Err(HttpReadError::Short);
            }
        }
    }

    /// What may be a head. A read can bring more than that; what lies behind is not looked at.
    fn head_bytes(&self) -> &[u8] {
        &self.early[..self.early.len().min(MAX_HEAD)]
    }

    async fn more_head(&mut self) -> Result<bool, HttpReadError> {
        if self.early.len() >= MAX_HEAD {
            return Err(HttpReadError::TooLarge);
        }
        Ok(self.fill().await?)
    }

    /// At most `limit` bytes of whatever comes next; empty at the end.
    pub(super) async fn take(&mut self, limit: u64) -> io::Result<Bytes> {
        if self.early.is_empty() && limit > 0 {
            self.fill().await?;
        }
        let n = self.early.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(self.early.split_to(n).freeze())
    }

    async fn line(&mut self) -> Result<Bytes, HttpReadError> {
        loop {
            if let Some(end) = self.early.iter().take(MAX_LINE).position(|&b| b == b'\n') {
                let line = self.early.split_to(end + 1).freeze();
                return Ok(line.slice_ref(line[..end].trim_ascii_end()));
            }
            if self.early.len() >= MAX_LINE {
                return Err(HttpReadError::Malformed("a line of a chunked body is too long"));
            }
            if !self.fill().await? {
                return Err(HttpReadError::Short);
            }
        }
    }

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

    pub(super) async fn finish(&mut self) -> io::Result<()> {
        self.socket.shutdown().await
    }
}

/// Reads one body, piece by piece.
#[derive(Debug)]
pub(super) struct BodyReader {
    framing: BodyFraming,
    /// Bytes that follow before the framing has to be read again.
    left: u64,
    done: bool,
    /// Whether the line end behind a chunk is still to be read.
    within: bool,
}

impl BodyReader {
    pub(super) fn new(framing: BodyFraming) -> Self {
        let left = if let BodyFraming::Length(length) = framing { length } else { 0 };
        Self { framing, left, done: false, within: false }
    }

    /// The next bytes, `None` after the last one. A connection that ends before is [`HttpReadError::Short`].
    pub(super) async fn next<S>(
        &mut self,
        wire: &mut HttpConnection<'_, S>,
    ) -> Result<Option<Bytes>, HttpReadError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.left == 0 && self.framing == BodyFraming::Chunked && !self.done {
            self.left = self.chunk(wire).await?;
            self.done = self.left == 0;
        }
        if self.left == 0 {
            return Ok(None);
        }
        let bytes = wire.take(self.left).await?;
        if bytes.is_empty() {
            return Err(HttpReadError::Short);
        }
        self.left -= bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// The size of the next chunk; after the last one, everything up to the end of the trailers is read.
    async fn chunk<S>(&mut self, wire: &mut HttpConnection<'_, S>) -> Result<u64, HttpReadError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.within && !wire.line().await?.is_empty() {
            return Err(HttpReadError::Malformed("a chunk is longer than it said"));
        }
        self.within = true;
        let line = wire.line().await?;
        let digits = line.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
        let size = number(digits, 16)?;
        if size == 0 {
            for _ in 0..MAX_TRAILERS {
                if wire.line().await?.is_empty() {
                    return Ok(0);
                }
            }
            return Err(HttpReadError::Malformed("too many trailers"));
        }
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_body(head: &str, body: &str) -> Result<String, HttpReadError> {
        let traffic = TrafficCounters::default();
        let (mut far, near) = tokio::io::duplex(1 << 16);
        far.write_all(format!("PUT / HTTP/1.1\r\n{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
        drop(far);
        let mut wire = HttpConnection::new(near, &traffic);
        let head = wire.request().await?.unwrap();
        let mut body = BodyReader::new(head.framing()?);
        let mut all = Vec::new();
        while let Some(bytes) = body.next(&mut wire).await? {
            all.extend_from_slice(&bytes);
        }
        Ok(String::from_utf8(all).unwrap())
    }

    #[tokio::test]
    async fn bodies_end_where_they_say() {
        assert_eq!(read_body("Content-Length: 5", "helloGET").await.unwrap(), "hello");
        assert_eq!(read_body("A: b", "hello").await.unwrap(), "");
        let chunked = "TransferGuard-Encoding: chunked";
        assert_eq!(
            read_body(chunked, "5;x=y\r\nhello\r\nA\r\n, 10 bytes\r\n0\r\nT: 1\r\n\r\n").await.unwrap(),
            { "hello, 10 bytes" }
        );
        assert_eq!(read_body(chunked, "0\r\n\r\n").await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_body_cut_short_is_an_error() {
        let chunked = "TransferGuard-Encoding: chunked";
        for (head, body) in [
            ("Content-Length: 6", "hello"),
            (chunked, "5\r\nhel"),
            (chunked, "5\r\nhello\r\n"),
            (chunked, "5\r\nhello\r\n0\r\n"),
        ] {
            assert!(matches!(read_body(head, body).await, Err(HttpReadError::Short)), "{head} {body}");
        }
    }

    #[tokio::test]
    async fn doubtful_lengths_are_refused() {
        for (head, body) in [
            ("Content-Length: 5\r\nContent-Length: 6", ""),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked", ""),
            ("Content-Length: +5", ""),
            ("Content-Length: 99999999999999999999", ""),
            ("TransferGuard-Encoding: gzip, chunked", ""),
            ("TransferGuard-Encoding: chunked", "-1\r\n"),
            ("TransferGuard-Encoding: chunked", "5\r\nhello!\r\n0\r\n\r\n"),
        ] {
            assert!(matches!(read_body(head, body).await, Err(HttpReadError::Malformed(_))), "{head}");
        }
        let endless = "f".repeat(MAX_LINE + 1);
        let error = read_body("TransferGuard-Encoding: chunked", &endless).await;
        assert!(matches!(error, Err(HttpReadError::Malformed(_))));
    }

    #[tokio::test]
    async fn a_head_is_bounded() {
        let long = format!("A: {}", "x".repeat(MAX_HEAD));
        assert!(matches!(read_body(&long, "").await, Err(HttpReadError::TooLarge)));
        let many = vec!["A: b"; MAX_HEADERS + 1].join("\r\n");
        assert!(matches!(read_body(&many, "").await, Err(HttpReadError::TooLarge)));
    }
}
