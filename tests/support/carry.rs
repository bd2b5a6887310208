//! Transfers chunks from one mux to another in memory with the buffer pools of the channel drivers: every step of a
//! chunk through two processes, without the system calls.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use underpass::{
    ids::{StreamId, StreamKey, UserChannelId},
    mux::{CHUNK_SIZE, COPY_THRESHOLD, Mux, MuxConfig, MuxEvent, Role},
    net::BufferPool,
    wire::{
        Frame,
        binary::{CHECKSUMS, FrameCodec, MAX_FRAME},
    },
};

/// Size in bytes of one allocation for frame headers.
const ARENA: usize = 4 * 1024;

/// Number of chunks in flight. The initial window of a stream is four chunks.
pub const BATCH: u32 = 3;

/// Names of the steps of a chunk, in their order.
pub const STEPS: [&str; 7] = ["read", "write", "transmit", "arrive", "receive", "deliver", "credit"];

/// Both ends of a link with one channel.
pub struct Carrier {
    server: Mux,
    proxy: Mux,
    streams: Vec<u32>,
    turn: usize,
    now: Instant,
    /// Read-buffer pools: of the thread that reads users' sockets, and of the one that reads channels.
    pools: [BufferPool; 2],
    /// Bytes of a user, as they are read from its socket.
    source: Vec<u8>,
    slices: VecDeque<Bytes>,
    arena: BytesMut,
    /// Encoded frames in each direction.
    down: FrameCodec,
    up: FrameCodec,
    back: BytesMut,
    incoming: BytesMut,
    delivery: VecDeque<Bytes>,
    delivered: u64,
}

impl Carrier {
    /// Creates `streams` streams of as many users, with reads of `len` bytes in turn.
    pub fn new(streams: u32, len: usize) -> Self {
        Self::with_chunk(streams, len, None)
    }

    /// Like [`new`](Self::new), with a given chunk size, as on a slow channel.
    pub fn with_chunk(streams: u32, len: usize, chunk: Option<usize>) -> Self {
        let now = Instant::now();
        let mut carrier = Self {
            // No time passes here, so that every rate estimate is zero.
            server: Mux::new(
                Role::Server,
                MuxConfig { initial_cwnd: 1 << 40, chunk_size: chunk, ..MuxConfig::default() },
            ),
            proxy: Mux::new(Role::Proxy, MuxConfig::default()),
            streams: Vec::new(),
            turn: 0,
            now,
            pools: Default::default(),
            source: vec![7; len],
            slices: VecDeque::new(),
            arena: BytesMut::new(),
            down: FrameCodec::with_features(CHECKSUMS),
            up: FrameCodec::with_features(CHECKSUMS),
            back: BytesMut::new(),
            incoming: BytesMut::new(),
            delivery: VecDeque::new(),
            delivered: 0,
        };
        carrier.server.add_channel(1, now);
        carrier.proxy.add_channel(1, now);
        for user in 0..streams {
            let key = StreamKey { user: UserChannelId::new(user), stream: StreamId(1) };
            carrier.streams.push(carrier.server.open(key, 80, None, |_| true).unwrap());
        }
        carrier.transmit();
        carrier.arrive();
        carrier.receive();
        for stream in &carrier.streams {
            carrier.proxy.accept(*stream);
        }
        carrier.credit();
        carrier
    }

    /// Transfers [`BATCH`] chunks and calls `done` after each step.
    pub fn batch(&mut self, mut done: impl FnMut(usize)) {
        for _ in 0..BATCH {
            let stream = self.streams[self.turn % self.streams.len()];
            self.turn += 1;
            let bytes = self.read();
            done(0);
            assert!(self.server.writable(stream) >= bytes.len(), "nothing holds a stream up here");
            self.server.write(stream, bytes);
            done(1);
        }
        self.now += Duration::from_micros(50);
        self.transmit();
        done(2);
        self.arrive();
        done(3);
        self.receive();
        done(4);
        self.deliver();
        done(5);
        self.credit();
        done(6);
    }

    /// Writes a chunk to every stream.
    pub fn fill(&mut self) {
        for at in 0..self.streams.len() {
            self.refill(self.streams[at]);
        }
    }

    /// Transmits the next DATA frame and writes to its stream again.
    pub fn pick(&mut self) -> u64 {
        // Probes of the channel may come first.
        while let Some(frame) = self.server.poll_transmit(1, self.now) {
            if let Frame::Data { stream, offset, .. } = frame {
                self.refill(stream);
                return offset;
            }
        }
        panic!("no data")
    }

    fn refill(&mut self, stream: u32) {
        assert!(self.server.writable(stream) > 0, "a window that no acknowledgement comes for is full");
        self.server.write(stream, Bytes::from_static(b"x"));
    }

    /// Returns the number of delivered bytes.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    fn read(&mut self) -> Bytes {
        let [pools, _] = &mut self.pools;
        let mut buffer = pools.take(CHUNK_SIZE);
        buffer.extend_from_slice(&self.source);
        let read = if buffer.len() < COPY_THRESHOLD {
            Bytes::copy_from_slice(&buffer)
        } else {
            buffer.split_to(self.source.len()).freeze()
        };
        pools.release(buffer);
        read
    }

    fn transmit(&mut self) {
        while let Some(frame) = self.server.poll_transmit(1, self.now) {
            match frame {
                Frame::Data { stream, offset, fin, payload } if !payload.is_empty() => {
                    if self.arena.capacity() < 24 {
                        self.arena.reserve(ARENA);
                    }
                    self.down.encoder.data_header(stream, offset, fin, &payload, &mut self.arena);
                    self.slices.push_back(self.arena.split().freeze());
                    self.slices.push_back(payload);
                }
                other => {
                    self.down.encoder.encode(&other, &mut self.arena);
                    self.slices.push_back(self.arena.split().freeze());
                }
            }
        }
    }

    fn arrive(&mut self) {
        for slice in self.slices.drain(..) {
            self.pools[1].reserve(&mut self.incoming, slice.len());
            self.incoming.extend_from_slice(&slice);
        }
    }

    fn receive(&mut self) {
        while let Some(frame) = self.down.decoder.decode(&mut self.incoming, MAX_FRAME).unwrap() {
            self.proxy.handle_frame(1, frame, self.now).unwrap();
        }
        if self.incoming.is_empty() {
            self.pools[1].release(std::mem::take(&mut self.incoming));
        }
    }

    fn deliver(&mut self) {
        while let Some(event) = self.proxy.poll_event() {
            if let MuxEvent::Readable { stream } = event {
                self.proxy.read(stream, &mut self.delivery);
                let bytes = self.delivery.drain(..).map(|slice| slice.len() as u64).sum();
                self.delivered += bytes;
                self.proxy.consume(stream, bytes, self.now);
            }
        }
    }

    fn credit(&mut self) {
        while let Some(frame) = self.proxy.poll_transmit(1, self.now) {
            self.up.encoder.encode(&frame, &mut self.back);
        }
        while let Some(frame) = self.up.decoder.decode(&mut self.back, MAX_FRAME).unwrap() {
            self.server.handle_frame(1, frame, self.now).unwrap();
        }
        while self.server.poll_event().is_some() {}
    }
}
