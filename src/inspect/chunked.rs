//! Follows a body in the chunked transfer coding (RFC 9112, section 7.1) without examining the data of its chunks.

/// The longest line between two chunks, or of the trailer section, in bytes.
const MAX_LINE: u16 = 1024;

/// Parser of chunk sizes, chunk extensions and the trailer section.
#[derive(Debug, Default)]
pub(super) struct ChunkedParser {
    /// The position within the current line.
    state: ChunkedState,
    /// How many bytes of the current line were parsed.
    line_len: u16,
}

/// The parser's position between two chunks.
#[derive(Debug, Clone, Copy)]
enum ChunkedState {
    /// In the hexadecimal digits of a chunk size: the value so far, and the number of digits.
    Size(u64, u8),
    /// Behind the digits of this chunk size, in the chunk extensions.
    Extension(u64),
    /// In the trailer section behind the last chunk; `true` if the current line is not empty.
    Trailer(bool),
}

impl Default for ChunkedState {
    fn default() -> Self {
        Self::Size(0, 0)
    }
}

/// What the parser found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ChunkedEvent {
    /// All bytes were parsed; the current line continues.
    Incomplete,
    /// The data of a chunk and its line end follow: skip this many bytes, then continue to parse.
    SkipChunk(u64),
    /// The body is complete.
    End,
    /// The bytes are not the chunked coding.
    Invalid,
}

impl ChunkedParser {
    /// Parses `bytes` up to the first event. Returns the number of bytes parsed, and the event.
    pub(super) fn parse(&mut self, bytes: &[u8]) -> (usize, ChunkedEvent) {
        for (at, byte) in bytes.iter().enumerate() {
            match self.parse_byte(*byte) {
                ChunkedEvent::Incomplete => {}
                event => return (at + 1, event),
            }
        }
        (bytes.len(), ChunkedEvent::Incomplete)
    }

    /// Advances the parser of the chunked coding by one byte.
    fn parse_byte(&mut self, byte: u8) -> ChunkedEvent {
        self.line_len += 1;
        if self.line_len > MAX_LINE {
            return ChunkedEvent::Invalid;
        }
        match (self.state, byte) {
            // Fifteen digits keep the size below 2^60, so that sums of sizes cannot overflow.
            (ChunkedState::Size(size, digits @ ..15), b) if b.is_ascii_hexdigit() => {
                let digit = char::from(b).to_digit(16).unwrap_or_default();
                self.state = ChunkedState::Size(size << 4 | u64::from(digit), digits + 1);
            }
            (ChunkedState::Size(size, 1..) | ChunkedState::Extension(size), b'\n') => {
                self.line_len = 0;
                if size > 0 {
                    self.state = ChunkedState::default();
                    // The chunk's data is followed by CR LF.
                    return ChunkedEvent::SkipChunk(size + 2);
                }
                self.state = ChunkedState::Trailer(false);
            }
            (ChunkedState::Size(size, 1..), b'\r' | b';' | b' ' | b'\t') => {
                self.state = ChunkedState::Extension(size);
            }
            (ChunkedState::Size(..), _) => return ChunkedEvent::Invalid,
            (ChunkedState::Extension(_), _) | (ChunkedState::Trailer(_), b'\r') => {}
            (ChunkedState::Trailer(false), b'\n') => return ChunkedEvent::End,
            (ChunkedState::Trailer(true), b'\n') => {
                self.line_len = 0;
                self.state = ChunkedState::Trailer(false);
            }
            (ChunkedState::Trailer(_), _) => self.state = ChunkedState::Trailer(true),
        }
        ChunkedEvent::Incomplete
    }
}
