//! Frames in any pieces: the pieces change nothing, no length makes the buffer grow, and what was understood is
//! understood again when we say it, checked or not.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use underpass::wire::{
    Frame,
    binary::{CHECKSUMS, FrameCodec, FrameDecoder, FrameError, MAX_FRAME},
};

fn read(mut decoder: FrameDecoder, bytes: &[u8], step: usize) -> Vec<Result<Frame, FrameError>> {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            let room = buffer.capacity();
            let decoded = decoder.decode(&mut buffer, MAX_FRAME);
            assert!(buffer.capacity() <= room, "a peer's length grew the buffer");
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
    let frames = read(FrameDecoder::default(), bytes, usize::from(*step) + 1);
    assert_eq!(frames, read(FrameDecoder::default(), bytes, bytes.len().max(1)));
    // Junk hardly ever has the right checksum, so what is checked below is said by us.
    read(FrameDecoder::checked(), bytes, usize::from(*step) + 1);
    for features in [0, CHECKSUMS] {
        let FrameCodec { mut encoder, mut decoder } = FrameCodec::with_features(features);
        let mut again = BytesMut::new();
        frames.iter().flatten().for_each(|frame| encoder.encode(frame, &mut again));
        let mut changed = again.clone();
        for frame in frames.iter().flatten() {
            assert_eq!(decoder.decode(&mut again, MAX_FRAME).as_ref(), Ok(&Some(frame.clone())));
        }
        assert!(again.is_empty());
        if features == CHECKSUMS && !changed.is_empty() {
            let at = usize::from(*step) % changed.len();
            changed[at] ^= 1 << (step % 8);
            let read = read(FrameDecoder::checked(), &changed, changed.len());
            assert_eq!(read.last(), Some(&Err(FrameError::Checksum)));
        }
    }
});
