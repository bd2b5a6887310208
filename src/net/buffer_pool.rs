//! Read buffers that are reused instead of being returned to the allocator.

use std::cell::RefCell;

use bytes::BytesMut;

use crate::mux::CHUNK_SIZE;

thread_local! {
    /// The pool of this thread. Idle streams and channels hold no buffer.
    static THREAD_POOL: RefCell<BufferPool> = RefCell::default();
}

/// A pool of read buffers. What a reader received is split off a buffer without copying; the buffer is reused once
/// nothing that was split off it is referenced any more.
///
/// Buffers that were allocated and freed for every read came from the operating system and went back to it page by
/// page, and the page faults made large reads slower than small ones.
#[derive(Debug, Default)]
pub struct BufferPool {
    /// The buffers that were released, most recently released first, so that few buffers are reused again and again and
    /// stay in the CPU cache.
    buffers: Vec<BytesMut>,
    /// The largest index in `buffers` that [`take`](Self::take) had to examine since the pool was trimmed.
    deepest_examined: usize,
    /// How many buffers were released to the pool since it was trimmed.
    releases_since_trim: u32,
}

impl BufferPool {
    /// The most bytes that one read may bring: four whole chunks. A system call that reads this much costs hardly more
    /// than one that reads a quarter, and the kernel sends one acknowledgement instead of four.
    pub const READ_SIZE: usize = 4 * CHUNK_SIZE;

    /// The capacity of each buffer, in bytes: one read, and the headers of as many frames. Without the additional 4 KiB
    /// the last frame of every read lacked a few bytes and was moved to the next buffer: a quarter of all received data
    /// was copied once more.
    pub const BUFFER_SIZE: usize = Self::READ_SIZE + 4 * 1024;

    /// The most buffers that the pool keeps. More are in use only where readers are slow, and there allocation does not
    /// matter.
    const MAX_BUFFERS: usize = 16;

    /// The pool is trimmed after this many releases: buffers beyond the deepest one examined are freed. Without
    /// trimming a thread kept for ever what it had needed at its peak, and a process grew for ten minutes before its
    /// size was stable.
    const RELEASES_PER_TRIM: u32 = 1024;

    /// Returns an empty buffer with capacity for at least `min_capacity` bytes, which must not exceed
    /// [`BUFFER_SIZE`](Self::BUFFER_SIZE). Allocates one if no pooled buffer is free.
    pub fn take(&mut self, min_capacity: usize) -> BytesMut {
        let fits = |buffer: &mut BytesMut| {
            buffer.capacity() >= min_capacity || buffer.try_reclaim(Self::BUFFER_SIZE)
        };
        let found = self.buffers.iter_mut().position(fits);
        self.deepest_examined = self.deepest_examined.max(found.unwrap_or(self.buffers.len()));
        match found {
            Some(index) => self.buffers.remove(index),
            None => BytesMut::with_capacity(Self::BUFFER_SIZE),
        }
    }

    /// Returns a buffer of [`take`](Self::take) to the pool. Its content is discarded; what was split off it stays
    /// valid.
    pub fn release(&mut self, mut buffer: BytesMut) {
        self.releases_since_trim += 1;
        if self.releases_since_trim == Self::RELEASES_PER_TRIM {
            self.buffers.truncate(self.deepest_examined + 1);
            (self.deepest_examined, self.releases_since_trim) = (0, 0);
        }
        buffer.clear();
        // A buffer that grew for a long line of the text format is freed.
        if buffer.try_reclaim(Self::BUFFER_SIZE + 1) {
            return;
        }
        // Small messages were copied out or are processed already: the next read then writes to the same memory, which
        // is in the CPU cache.
        _ = buffer.try_reclaim(Self::BUFFER_SIZE);
        self.buffers.truncate(Self::MAX_BUFFERS - 1);
        self.buffers.insert(0, buffer);
    }

    /// Ensures that `buffer` has capacity for `additional` more bytes; if necessary, moves its content to another
    /// buffer of the pool.
    pub fn reserve(&mut self, buffer: &mut BytesMut, additional: usize) {
        let needed = buffer.len() + additional;
        if needed > Self::BUFFER_SIZE {
            return buffer.reserve(additional);
        }
        if buffer.capacity() < needed && !buffer.try_reclaim(additional) {
            let mut next = self.take(needed);
            next.extend_from_slice(buffer);
            let previous = std::mem::replace(buffer, next);
            // An empty buffer was released before, or never allocated.
            if !previous.is_empty() {
                self.release(previous);
            }
        }
    }

    /// Runs `work` with the pool of this thread. `work` must not call this function again.
    pub(crate) fn with_thread_local<R>(work: impl FnOnce(&mut Self) -> R) -> R {
        THREAD_POOL.with_borrow_mut(work)
    }
}

#[cfg(test)]
mod tests;
