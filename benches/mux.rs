//! Time and allocations for one chunk, without system calls: `cargo bench --bench mux`.
//!
//! Allocations are counted for one iteration, which is a frame in `codec` and three chunks in `carry_chunks`; the
//! mean counts. `tests/allocations.rs` counts them for each step.

// A benchmark whose setup fails has to panic.
#![allow(clippy::unwrap_used)]

#[path = "../tests/support/carry.rs"]
#[allow(unreachable_pub, dead_code, missing_docs, missing_debug_implementations)]
mod carry;

#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

mod codec {
    use bytes::{Bytes, BytesMut};
    use divan::{Bencher, black_box, counter::BytesCount};
    use underpass::wire::{
        Frame,
        binary::{CHECKSUMS, FrameCodec, MAX_FRAME},
    };

    fn data(len: usize) -> Frame {
        Frame::Data { stream: 1, offset: 1 << 40, fin: false, payload: vec![7; len].into() }
    }

    /// The negotiated features: without checksums, and with them.
    const FEATURES: [u32; 2] = [0, CHECKSUMS];
    const LENGTHS: [usize; 3] = [64, 1 << 10, 64 << 10];

    #[divan::bench(args = LENGTHS, consts = FEATURES)]
    fn data_header<const FEATURES: u32>(bencher: Bencher, len: usize) {
        let mut encoder = FrameCodec::with_features(FEATURES).encoder;
        let mut out = BytesMut::with_capacity(1 << 10);
        let payload = vec![7; len];
        bencher.counter(BytesCount::new(len)).bench_local(|| {
            out.clear();
            encoder.data_header(black_box(1), black_box(1 << 40), false, black_box(&payload), &mut out);
        });
    }

    #[divan::bench(consts = FEATURES)]
    fn encode_window<const FEATURES: u32>(bencher: Bencher) {
        let mut encoder = FrameCodec::with_features(FEATURES).encoder;
        let mut out = BytesMut::with_capacity(1 << 10);
        let frame = Frame::Window { stream: 1, consumed: 1 << 40, window: 1 << 18 };
        bencher.bench_local(|| {
            out.clear();
            encoder.encode(black_box(&frame), &mut out);
        });
    }

    #[divan::bench(args = LENGTHS, consts = FEATURES)]
    fn decode_data<const FEATURES: u32>(bencher: Bencher, len: usize) {
        let FrameCodec { mut encoder, decoder } = FrameCodec::with_features(FEATURES);
        let mut encoded = BytesMut::new();
        encoder.encode(&data(len), &mut encoded);
        let encoded: Bytes = encoded.freeze();
        bencher
            .counter(BytesCount::new(len))
            .with_inputs(|| (decoder.clone(), BytesMut::from(&encoded[..])))
            .bench_local_values(|(mut decoder, mut buffer)| decoder.decode(&mut buffer, MAX_FRAME).unwrap());
    }
}

mod carry_chunks {
    use divan::{Bencher, counter::BytesCount};

    use super::carry::{BATCH, Carrier};

    /// The number of streams, each of another user, and the length of their chunks in bytes.
    const LOADS: [(u32, usize); 5] = [(1, 64 << 10), (8, 64 << 10), (1, 8 << 10), (1000, 1 << 10), (1, 64)];

    #[divan::bench(args = LOADS)]
    fn both_ends(bencher: Bencher, (streams, len): (u32, usize)) {
        let mut carrier = Carrier::new(streams, len);
        (0..streams.max(1000)).for_each(|_| carrier.batch(|_| ()));
        bencher.counter(BytesCount::new(BATCH as usize * len)).bench_local(|| carrier.batch(|_| ()));
    }

    /// The scheduler selects one of so many streams, which all have data to send.
    #[divan::bench(args = [1, 100, 10_000])]
    fn one_of_many(bencher: Bencher, streams: u32) {
        let mut carrier = Carrier::new(streams, 1);
        carrier.fill();
        bencher.bench_local(|| carrier.pick());
    }
}
