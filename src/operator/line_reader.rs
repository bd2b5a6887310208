//! Reading lines of bounded length, so that a peer decides neither how much memory a line takes nor whether a half-read
//! one is lost when the reader turns to something else meanwhile.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How many bytes are read at once.
const READ_BYTES: usize = 8 * 1024;

/// Why no line was read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The line is longer than the reader takes.
    #[error("a line of more than {0} bytes")]
    TooLong(usize),
}

/// Reads lines that end with LF, or with CRLF.
#[derive(Debug)]
pub(super) struct LineReader<R> {
    /// Where bytes come from.
    source: R,
    /// What was read and belongs to no line that was returned.
    buffer: BytesMut,
    /// How many bytes of `buffer` are known to contain no LF.
    searched: usize,
    /// The longest line in bytes, without its end.
    max_line_bytes: usize,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// Creates a reader of lines of at most `max_line_bytes`.
    pub(super) fn new(source: R, max_line_bytes: usize) -> Self {
        Self { source, buffer: BytesMut::new(), searched: 0, max_line_bytes }
    }

    /// Reads up to the end of the next line. Returns the line without its end, and `None` at the end of the connection.
    /// A last line without an end counts as a line.
    ///
    /// Cancel-safe: what was read stays in the buffer.
    ///
    /// # Errors
    /// [`LineError`]; after `TooLong` the rest of the line is unread, so that the connection is of no further use.
    pub(super) async fn next_line(&mut self) -> Result<Option<Bytes>, LineError> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
                let end = self.searched + at;
                if end > self.max_line_bytes {
                    return Err(LineError::TooLong(self.max_line_bytes));
                }
                self.searched = 0;
                let mut line = self.buffer.split_to(end + 1).freeze();
                line.truncate(end);
                if line.ends_with(b"\r") {
                    line.truncate(end - 1);
                }
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.searched > self.max_line_bytes {
                return Err(LineError::TooLong(self.max_line_bytes));
            }
            self.buffer.reserve(READ_BYTES);
            if self.source.read_buf(&mut self.buffer).await? == 0 {
                self.searched = 0;
                return Ok((!self.buffer.is_empty()).then(|| self.buffer.split().freeze()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
