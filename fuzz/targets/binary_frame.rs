//! Fuzzes the frame decoder of the binary format, with and without checksums: splitting the input into pieces changes
//! nothing, no length field makes the buffer grow, a decoded frame that is encoded again decodes to the same frame, and
//! a corrupted bit is detected by the checksum.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use underpass::wire::{
    Frame,
    binary::{CHECKSUMS, FrameCodec, FrameDecoder, FrameError, MAX_FRAME, PUBLIC_ADDRESS},
};

/// Decodes `bytes`, which arrive in pieces of `step` bytes, until the end or the first error.
fn decode_in_pieces(
    mut decoder: FrameDecoder,
    bytes: &[u8],
    step: usize,
) -> Vec<Result<Frame, FrameError>> {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            let capacity = buffer.capacity();
            let decoded = decoder.decode(&mut buffer, MAX_FRAME);
            assert!(buffer.capacity() <= capacity, "a peer's length grew the buffer");
            match decoded {
                Ok(None) => break,
                Ok(Some(frame)) => frames.push(Ok(frame)),
                Err(error) => {
                    frames.push(Err(error));
                    return frames;
                }
            }
        }
    }
    frames
}

fuzz_target!(|data: &[u8]| {
    let Some((step, bytes)) = data.split_first() else { return };
    let frames = decode_in_pieces(FrameDecoder::default(), bytes, usize::from(*step) + 1);
    assert_eq!(frames, decode_in_pieces(FrameDecoder::default(), bytes, bytes.len().max(1)));
    // Fuzzed bytes hardly ever have a correct checksum, so the checked frames below come from our own encoder.
    decode_in_pieces(FrameDecoder::checked(), bytes, usize::from(*step) + 1);
    // Without the public address, a frame that has one would not be the same.
    for features in [PUBLIC_ADDRESS, PUBLIC_ADDRESS | CHECKSUMS] {
        let FrameCodec { mut encoder, mut decoder } = FrameCodec::with_features(features);
        let mut encoded = BytesMut::new();
        frames.iter().flatten().for_each(|frame| encoder.encode(frame, &mut encoded));
        let mut corrupted = encoded.clone();
        for frame in frames.iter().flatten() {
            assert_eq!(decoder.decode(&mut encoded, MAX_FRAME).as_ref(), Ok(&Some(frame.clone())));
        }
        assert!(encoded.is_empty());
        if features & CHECKSUMS != 0 && !corrupted.is_empty() {
            let at = usize::from(*step) % corrupted.len();
            corrupted[at] ^= 1 << (step % 8);
            let decoded = decode_in_pieces(FrameDecoder::checked(), &corrupted, corrupted.len());
            assert_eq!(decoded.last(), Some(&Err(FrameError::Checksum)));
        }
    }
});
