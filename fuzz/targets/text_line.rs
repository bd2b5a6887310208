//! Fuzzes the line decoder of the text format: splitting the input into pieces changes nothing, the buffer stays within
//! the line limit, and a decoded message that is encoded again decodes to the same message.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use underpass::wire::{
    TunnelMessage,
    text::{FieldCount, LineDecoder, LineError, decode_line, encode_line},
};

/// The result of decoding one line.
type Line = Result<(TunnelMessage, FieldCount), LineError>;

/// Decodes `bytes`, which arrive in pieces of `step` bytes, until the end or an overlong line.
fn decode_in_pieces(bytes: &[u8], step: usize, max_line: usize) -> Vec<Line> {
    let (mut decoder, mut buffer, mut lines) = (LineDecoder::new(max_line), BytesMut::new(), Vec::new());
    for piece in bytes.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(None) => break,
                Ok(Some(line)) => lines.push(Ok(line)),
                Err(LineError::TooLong) => {
                    lines.push(Err(LineError::TooLong));
                    return lines;
                }
                Err(error) => lines.push(Err(error)),
            }
        }
        assert!(buffer.len() < max_line, "the decoder buffers more than a line");
    }
    lines
}

fuzz_target!(|data: &[u8]| {
    let [step, max_line, bytes @ ..] = data else { return };
    let max_line = usize::from(*max_line) * 8 + 8;
    let lines = decode_in_pieces(bytes, usize::from(*step) + 1, max_line);
    assert_eq!(lines, decode_in_pieces(bytes, bytes.len().max(1), max_line));
    for (message, fields) in lines.into_iter().flatten() {
        let mut encoded = BytesMut::new();
        encode_line(&message, fields, &mut encoded);
        assert_eq!(encoded.split_off(encoded.len() - 1), "\n");
        assert_eq!(decode_line(&encoded), Ok((message, fields)));
    }
});
