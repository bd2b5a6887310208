//! Frames in any pieces: the pieces change nothing, no length makes the buffer grow, and what was understood is
//! understood again when we say it.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use underpass::wire::{
    Frame,
    binary::{FrameError, MAX_FRAME, decode, encode, needed},
};

fn read(bytes: &[u8], step: usize) -> Vec<Result<Frame, FrameError>> {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            let room = buffer.capacity();
            let decoded = decode(&mut buffer, MAX_FRAME);
            assert!(buffer.capacity() <= room, "a peer's length grew the buffer");
            match decoded {
                Ok(None) => {
                    assert!(needed(&buffer) > 0 && needed(&buffer) <= MAX_FRAME + 8);
                    break;
                }
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
    let frames = read(bytes, usize::from(*step) + 1);
    assert_eq!(frames, read(bytes, bytes.len().max(1)));
    for frame in frames.into_iter().flatten() {
        let mut again = BytesMut::new();
        encode(&frame, &mut again);
        assert_eq!(decode(&mut again, MAX_FRAME), Ok(Some(frame)));
        assert!(again.is_empty());
    }
});
