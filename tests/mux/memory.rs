//! Round trips that a download needs while streams that make no progress fill the memory budgets of both sides.

use std::{collections::VecDeque, time::Instant};

use underpass::{
    ids::{StreamKey, UserChannelId},
    mux::{MemoryBudget, Mux, MuxConfig, MuxEvent, OpenError, PROVEN_READ_BYTES, Role},
};

use super::exchange;

/// The size of the download in bytes.
const FILE: usize = 1_000_000;

/// What lies between what a user has read and what is known of it: the acknowledgement of the last write.
const ACK_LAG: u64 = 8 * 1024;

/// What the kernels between the receiver and a reader that reads nothing take: where the memory of the receiver is
/// filling (`UNPROVEN_UNSENT_BYTES`), and before that.
const TAKEN_WHILE_FILLING: usize = 110_000;
const TAKEN: usize = 350_000;

/// One side of a link with its memory budget.
struct Side {
    mux: Mux,
    budget: MemoryBudget,
}

impl Side {
    fn new(role: Role, streams: usize, now: Instant) -> Self {
        let budget = MemoryBudget::new(64 << 20, streams);
        let mut mux = Mux::new(role, MuxConfig { budget: budget.clone(), ..MuxConfig::default() });
        mux.add_channel(1, now);
        Self { mux, budget }
    }

    /// Writes up to `max` bytes of a stream, as many as are writable, and returns how many.
    fn write(&mut self, stream: u32, max: usize) -> usize {
        let mut written = 0;
        loop {
            let len = self.mux.writable(stream).min(max - written);
            if len == 0 {
                return written;
            }
            self.mux.write(stream, vec![7; len].into());
            written += len;
        }
    }

    /// Returns how many bytes of a stream were received and not read before.
    fn read(&mut self, stream: u32) -> usize {
        let mut received = VecDeque::new();
        self.mux.read(stream, &mut received);
        received.iter().map(|chunk| chunk.len()).sum()
    }
}

/// A server and a proxy, connected by one channel.
struct Pair {
    sides: [Side; 2],
    now: Instant,
    opened: u32,
}

const SERVER: usize = 0;
const PROXY: usize = 1;

impl Pair {
    fn new(streams: usize) -> Self {
        let now = Instant::now();
        let sides = [Role::Server, Role::Proxy].map(|role| Side::new(role, streams, now));
        Self { sides, now, opened: 0 }
    }

    /// Opens a stream that the proxy accepts.
    fn open(&mut self) -> u32 {
        self.opened += 1;
        let key = StreamKey::new(UserChannelId::new(self.opened), 1);
        let stream = self.sides[SERVER].mux.open(key, 80, None, |_| false).unwrap();
        self.exchange();
        self.sides[PROXY].mux.accept(stream);
        self.exchange();
        stream
    }

    /// Delivers all frames of both sides.
    fn exchange(&mut self) {
        let [server, proxy] = &mut self.sides;
        exchange(&mut server.mux, &mut proxy.mux, self.now);
        exchange(&mut proxy.mux, &mut server.mux, self.now);
        for side in [server, proxy] {
            while let Some(event) = side.mux.poll_event() {
                assert!(!matches!(event, MuxEvent::Reset { .. }), "{event:?}");
            }
            assert!(side.budget.used() <= side.budget.total());
        }
    }

    /// Sends all that is possible on a new stream to a reader that reads nothing. The receive window of its kernel
    /// opens by
    /// `opened` bytes meanwhile.
    fn stall(&mut self, from: usize, to: usize, opened: u64) {
        let stream = self.open();
        let max = if self.sides[to].budget.is_filling() { TAKEN_WHILE_FILLING } else { TAKEN };
        let mut taken = 0;
        while self.sides[from].write(stream, usize::MAX) > 0 {
            self.exchange();
            let received = self.sides[to].read(stream).min(max - taken);
            taken += received;
            let reader = &mut self.sides[to].mux;
            reader.on_reader_progress(stream, opened.min(taken as u64));
            reader.consume(stream, received as u64, self.now);
            self.exchange();
        }
    }

    /// Downloads a file for a user that reads all. Returns the number of round trips.
    fn download(&mut self) -> u32 {
        let (from, to) = (PROXY, SERVER);
        let stream = self.open();
        let (mut written, mut consumed, mut rounds) = (0, 0, 0);
        while consumed < FILE {
            rounds += 1;
            assert!(rounds < 1000, "{consumed} of {FILE} bytes");
            written += self.sides[from].write(stream, FILE - written);
            self.exchange();
            let received = self.sides[to].read(stream);
            let reader = &mut self.sides[to].mux;
            match (consumed as u64).saturating_sub(ACK_LAG) {
                PROVEN_READ_BYTES.. => reader.on_reader_proven(stream),
                read => reader.on_reader_progress(stream, read),
            }
            consumed += received;
            reader.consume(stream, received as u64, self.now);
            self.exchange();
        }
        rounds
    }
}

/// Regression test: what kernels had acknowledged of targets that read nothing counted as progress of their readers.
/// Senders to them took what was kept for streams that make progress, and a download beside them had 8 KiB per round
/// trip to its end.
#[test]
fn a_download_beside_streams_that_stall_needs_few_more_round_trips() {
    const STREAMS: usize = 1300;
    for (from, to, opened, at_most) in [
        (SERVER, PROXY, 0, 6),
        (SERVER, PROXY, 60_000, 6),
        (PROXY, SERVER, 0, 6),
        (PROXY, SERVER, 60_000, 16),
    ] {
        let mut pair = Pair::new(STREAMS);
        let alone = pair.download();
        for _ in 0..STREAMS - 3 {
            pair.stall(from, to, opened);
        }
        let beside = pair.download();
        assert!(
            beside <= alone + at_most,
            "{beside} round trips, {alone} alone, where kernels open their windows by {opened} bytes"
        );
    }
}

/// Each stream has its minimum, so that no more streams can be open than there are minima.
#[test]
fn a_stream_for_which_there_is_no_minimum_is_refused() {
    let now = Instant::now();
    let budget = MemoryBudget::new(1 << 20, 1000);
    let mut server = Mux::new(Role::Server, MuxConfig { budget, ..MuxConfig::default() });
    server.add_channel(1, now);
    let mut open = |number| server.open(StreamKey::new(UserChannelId::new(1), number), 80, None, |_| false);
    // Half of the budget is kept for minima: 8 KiB in each direction, and as much for bookkeeping.
    assert!((1..=21).all(|number| open(number).is_ok()));
    assert_eq!(open(22), Err(OpenError::OutOfMemory));
}
