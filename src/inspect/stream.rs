//! Connects a [`ProtocolInspector`] to the two directions of a stream.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::inspector::ProtocolInspector;
use crate::{
    ids::Direction,
    telemetry::{Shortfall, StreamStats, TransferEnd},
};

/// Passes a stream's bytes to a [`ProtocolInspector`] and publishes what it detects in the stream's counters.
///
/// Bytes that the inspector need not examine (the inside of a body, and everything after detection has ended) are
/// skipped without taking the lock.
///
/// Each skip counter is changed only by the task that moves bytes in its direction. The one exception is the end of
/// detection, which sets both; if a concurrent update overwrites that, the next call finds the inspector finished and
/// sets it again.
#[derive(Debug)]
pub(crate) struct StreamInspector<M: DetectionMemory = ()> {
    /// Where the bytes are counted that the parser buffers.
    memory: M,
    /// How many of the next upload bytes need not be examined.
    upload_skip: AtomicU64,
    /// How many of the next download bytes need not be examined.
    download_skip: AtomicU64,
    /// The parser while bytes are examined, or that detection has not started or has ended.
    state: Mutex<InspectionState>,
}

/// The memory that detection on all streams together may use.
pub(crate) trait DetectionMemory {
    /// Records that the parser of a stream buffers `after` bytes instead of `before`. Returns false, and records
    /// nothing, if there is no memory for so many more: detection ends then.
    fn resize(&self, before: u64, after: u64) -> bool;
}

/// Memory without a limit.
impl DetectionMemory for () {
    fn resize(&self, _: u64, _: u64) -> bool {
        true
    }
}

/// Buffered bytes are counted in multiples of this, rounded down: most streams buffer less, and one of HTTP requests
/// changes it with each of them. What is not counted belongs to what every stream takes.
const COUNTED_MULTIPLE: u64 = 2048;

/// The life of an inspection.
#[derive(Debug)]
enum InspectionState {
    /// No byte has passed; nothing is allocated.
    NotStarted,
    /// Bytes are examined. The number of buffered bytes was [recorded](DetectionMemory::resize).
    Active(Box<ProtocolInspector>, u64),
    /// Nothing more is examined; the parser's memory is freed.
    Finished,
}

#[cfg(test)]
impl StreamInspector {
    /// Creates an inspector whose memory is not limited.
    pub(super) fn new(enabled: bool) -> Self {
        Self::with_memory(enabled, ())
    }
}

impl<M: DetectionMemory> StreamInspector<M> {
    /// Creates an inspector that examines the stream if `enabled`, and skips all bytes otherwise.
    pub(crate) fn with_memory(enabled: bool, memory: M) -> Self {
        let (skip, state) = if enabled {
            (0, InspectionState::NotStarted)
        } else {
            (ProtocolInspector::SKIP_ALL, InspectionState::Finished)
        };
        Self { memory, upload_skip: skip.into(), download_skip: skip.into(), state: Mutex::new(state) }
    }

    /// Examines `bytes` that the user sent. Must be called before they are forwarded, so that the target's response
    /// cannot be examined first.
    pub(crate) fn inspect_upload(&self, bytes: &[u8], stats: &StreamStats) {
        if !try_skip(&self.upload_skip, bytes.len()) {
            self.inspect(&self.upload_skip, [bytes], stats, ProtocolInspector::from_user);
        }
    }

    /// Detects protocol and content in the first `n` bytes of `queue`, which were written to the user's socket, and
    /// stores what it finds in `stats`.
    pub(crate) fn inspect_download(&self, queue: &VecDeque<Bytes>, n: usize, stats: &StreamStats) {
        if !try_skip(&self.download_skip, n) {
            let written = queue.iter().scan(n, |left, piece| {
                let written = piece.len().min(*left);
                *left -= written;
                (written > 0).then(|| &piece[..written])
            });
            self.inspect(&self.download_skip, written, stats, ProtocolInspector::from_target);
        }
    }

    /// Records that the user closed its connection (FIN), and whether it did so within a request. Called once in the
    /// life of a stream, before its phase shows the end.
    pub(crate) fn upload_ended(&self, stats: &StreamStats) {
        let is_user_closed = stats.record_user_end();
        match self.transfer_end() {
            Some(TransferEnd::Short(shortfall)) if shortfall.direction == Direction::Up => {
                stats.record_transfer_end(TransferEnd::Short(Shortfall { is_user_closed, ..shortfall }));
            }
            _ => {}
        }
    }

    /// Records whether the message is complete within which the stream ends. Called once, after its last byte.
    pub(crate) fn stream_ended(&self, stats: &StreamStats) {
        if let Some(end) = self.transfer_end() {
            stats.record_transfer_end(end);
        }
    }

    /// Returns whether the message is complete within which the stream ends now, as far as that is known.
    fn transfer_end(&self) -> Option<TransferEnd> {
        let InspectionState::Active(inspector, _) = &*self.state.lock() else { return None };
        inspector.transfer_end(self.upload_skip.load(Relaxed), self.download_skip.load(Relaxed))
    }

    /// Returns whether detection has ended.
    #[cfg(test)]
    pub(super) fn is_finished(&self) -> bool {
        matches!(*self.state.lock(), InspectionState::Finished)
    }

    /// Passes `pieces` of one direction, less the bytes to skip, to the inspector, and publishes what it detects.
    #[cold]
    fn inspect<'a>(
        &self,
        skip_counter: &AtomicU64,
        pieces: impl IntoIterator<Item = &'a [u8]>,
        stats: &StreamStats,
        feed: impl Fn(&mut ProtocolInspector, &[u8]) -> u64,
    ) {
        let mut state = self.state.lock();
        if let InspectionState::NotStarted = *state {
            *state = InspectionState::Active(Box::default(), 0);
        }
        let InspectionState::Active(inspector, recorded) = &mut *state else {
            skip_counter.store(ProtocolInspector::SKIP_ALL, Relaxed);
            return;
        };
        let mut skip = skip_counter.load(Relaxed);
        for piece in pieces {
            // If a body ends with the piece, the inspector gets an empty slice at once: the next request may come
            // before the next bytes of this direction.
            match usize::try_from(skip).ok().and_then(|skip| piece.get(skip..)) {
                Some(examined) => skip = feed(inspector, examined),
                None if skip == ProtocolInspector::SKIP_ALL => break,
                None => skip -= piece.len() as u64,
            }
        }
        skip_counter.store(skip, Relaxed);
        if let Some(content) = inspector.take_update() {
            stats.set_content(content);
        }
        let buffered = inspector.buffered_bytes() as u64 / COUNTED_MULTIPLE * COUNTED_MULTIPLE;
        let has_memory = buffered == *recorded || self.memory.resize(*recorded, buffered);
        if has_memory {
            *recorded = buffered;
        }
        if inspector.is_finished() || !has_memory {
            self.memory.resize(*recorded, 0);
            *state = InspectionState::Finished;
            self.upload_skip.store(ProtocolInspector::SKIP_ALL, Relaxed);
            self.download_skip.store(ProtocolInspector::SKIP_ALL, Relaxed);
        }
    }
}

impl<M: DetectionMemory> Drop for StreamInspector<M> {
    /// Records that nothing is buffered any more.
    fn drop(&mut self) {
        if let InspectionState::Active(_, recorded) = self.state.get_mut() {
            self.memory.resize(*recorded, 0);
        }
    }
}

/// Subtracts `n` bytes from the skip counter. Returns `false`, and changes nothing, if the inspector has to be called:
/// one of the bytes, or the position directly behind them, is to be examined.
fn try_skip(skip_counter: &AtomicU64, n: usize) -> bool {
    let (skip, n) = (skip_counter.load(Relaxed), n as u64);
    if skip != ProtocolInspector::SKIP_ALL && skip > n {
        skip_counter.store(skip - n, Relaxed);
    }
    skip > n
}
