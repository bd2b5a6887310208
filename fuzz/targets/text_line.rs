//! Lines in any pieces: the pieces change nothing, and what was understood is understood again when we say it.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use underpass::wire::{
    TunnelMessage,
    text::{FieldCount, LineDecoder, LineError, decode_line, encode_line},
};

type Line = Result<(TunnelMessage, FieldCount), LineError>;

fn read(bytes: &[u8], step: usize, limit: usize) -> Vec<Line> {
    let (mut decoder, mut buffer, mut lines) = (LineDecoder::new(limit), BytesMut::new(), Vec::new());
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
        assert!(buffer.len() < limit, "more than a line is kept");
    }
    lines
}

fuzz_target!(|data: &[u8]| {
    let [step, limit, bytes @ ..] = data else { return };
    let limit = usize::from(*limit) * 8 + 8;
    let lines = read(bytes, usize::from(*step) + 1, limit);
    assert_eq!(lines, read(bytes, bytes.len().max(1), limit));
    for (message, fields) in lines.into_iter().flatten() {
        let mut again = BytesMut::new();
        encode_line(&message, fields, &mut again);
        assert_eq!(again.split_off(again.len() - 1), "\n");
        assert_eq!(decode_line(&again), Ok((message, fields)));
    }
});
