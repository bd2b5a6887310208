use std::cell::RefCell;

use bytes::BytesMut;

use crate::mux::CHUNK_SIZE;

thread_local! {
    /// Those of this thread: a stream or a channel that is idle holds none.
    static HERE: RefCell<BufferPool> = RefCell::default();
}

/// Memory that is read into. What is read is split off without copying, and a buffer is used again once nothing that
/// was split off it is in use any more.
///
/// Asked for and given back each time, it came from the system and went back to it page by page, and what page faults
/// took made large reads slower than small ones.
#[derive(Debug, Default)]
pub struct BufferPool {
    /// Those used last first: few are then used again and again, and stay in the cache.
    kept: Vec<BytesMut>,
    /// How far down one had to look of late.
    deepest: usize,
    /// How many have been given back since those were let go that nobody had looked at.
    turns: u32,
}

impl BufferPool {
    /// What one read brings at the most: a few whole chunks. A system call that brings as much as this costs hardly more
    /// than one that brings a quarter, and has the kernel acknowledge once instead of four times.
    pub const READ_SIZE: usize = 4 * CHUNK_SIZE;

    /// How large each is: with room for the headers of as many frames, and a little more. Without that the last frame of
    /// every read wanted a few bytes, and moved to the next buffer: a quarter of all that came was copied once more.
    pub const BUFFER_SIZE: usize = Self::READ_SIZE + 4 * 1024;

    /// How many are kept. More than this are in use only where readers are slow, and then there is no haste.
    const KEPT: usize = 16;

    /// After so many turns those are let go that nobody has looked at since. Without that a thread kept for ever what it
    /// had needed in its worst moment, and a process grew for ten minutes before it stayed as it was.
    const TURNS: u32 = 1024;

    /// An empty buffer with room for at least `least` bytes, which must not be more than [`SIZE`](Self::BUFFER_SIZE).
    pub fn take(&mut self, least: usize) -> BytesMut {
        let fits = |slab: &mut BytesMut| slab.capacity() >= least || slab.try_reclaim(Self::BUFFER_SIZE);
        let found = self.kept.iter_mut().position(fits);
        self.deepest = self.deepest.max(found.unwrap_or(self.kept.len()));
        match found {
            Some(at) => self.kept.remove(at),
            None => BytesMut::with_capacity(Self::BUFFER_SIZE),
        }
    }

    /// Takes a buffer back that [`take`](Self::take) gave. What is in it is forgotten; what was split off stays.
    pub fn release(&mut self, mut slab: BytesMut) {
        self.turns += 1;
        if self.turns == Self::TURNS {
            self.kept.truncate(self.deepest + 1);
            (self.deepest, self.turns) = (0, 0);
        }
        slab.clear();
        // One that grew for a long line of text is not kept.
        if slab.try_reclaim(Self::BUFFER_SIZE + 1) {
            return;
        }
        // Small messages are copied out, or gone on: the next ones come to where these were, which is in the cache.
        _ = slab.try_reclaim(Self::BUFFER_SIZE);
        self.kept.truncate(Self::KEPT - 1);
        self.kept.insert(0, slab);
    }

    /// Sees to it that `buffer` has room for `room` more bytes, if need be by moving what is in it to another.
    pub fn reserve(&mut self, buffer: &mut BytesMut, room: usize) {
        let needed = buffer.len() + room;
        if needed > Self::BUFFER_SIZE {
            return buffer.reserve(room);
        }
        if buffer.capacity() < needed && !buffer.try_reclaim(room) {
            let mut next = self.take(needed);
            next.extend_from_slice(buffer);
            let left = std::mem::replace(buffer, next);
            // An empty one has been given back, or never was any.
            if !left.is_empty() {
                self.release(left);
            }
        }
    }

    /// Works with the buffers of this thread. They must not be asked for in `work` again.
    pub(crate) fn with_thread_local<R>(work: impl FnOnce(&mut Self) -> R) -> R {
        HERE.with_borrow_mut(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills a buffer and hands it out, as a reader does.
    fn fill(slabs: &mut BufferPool, byte: u8) -> bytes::Bytes {
        let mut slab = slabs.take(BufferPool::BUFFER_SIZE);
        slab.resize(BufferPool::BUFFER_SIZE, byte);
        let read = slab.split().freeze();
        slabs.release(slab);
        read
    }

    #[test]
    fn memory_is_used_again_once_nobody_holds_it() {
        let mut slabs = BufferPool::default();
        let first = fill(&mut slabs, 1);
        let second = fill(&mut slabs, 2);
        assert_eq!((first[0], second[0]), (1, 2), "what is held is not written over");
        let place = first.as_ptr();
        drop(first);
        assert_eq!(fill(&mut slabs, 3).as_ptr(), place);
        assert_eq!(second[0], 2);
    }

    #[test]
    fn what_nobody_needs_any_more_is_let_go() {
        let mut slabs = BufferPool::default();
        // As for one download: the last few are on their way.
        let mut under_way: std::collections::VecDeque<_> = (0..5).map(|_| fill(&mut slabs, 1)).collect();
        for _ in 0..2 * BufferPool::TURNS {
            under_way.pop_front();
            under_way.push_back(fill(&mut slabs, 1));
        }
        assert!((5..7).contains(&slabs.kept.len()), "{} are used again", slabs.kept.len());
        under_way.clear();
        (0..2 * BufferPool::TURNS).for_each(|_| drop(fill(&mut slabs, 1)));
        assert!(slabs.kept.len() <= 2, "{}", slabs.kept.len());
    }

    #[test]
    fn no_more_is_kept_than_is_good_for() {
        let mut slabs = BufferPool::default();
        let held: Vec<_> = (0..100).map(|byte| fill(&mut slabs, byte)).collect();
        assert_eq!(slabs.kept.len(), BufferPool::KEPT);
        drop(held);
        assert_eq!(slabs.kept.len(), BufferPool::KEPT);
    }

    #[test]
    fn half_a_frame_moves_on() {
        let mut slabs = BufferPool::default();
        let mut buffer = BytesMut::from(&b"half"[..]);
        slabs.reserve(&mut buffer, 100);
        assert_eq!(&buffer[..], b"half");
        assert!(buffer.capacity() >= 104);
        buffer.resize(BufferPool::BUFFER_SIZE, 0);
        slabs.reserve(&mut buffer, 1000);
        assert!(buffer.capacity() >= BufferPool::BUFFER_SIZE + 1000, "more than one buffer holds");
        let kept = slabs.kept.len();
        slabs.release(buffer);
        assert_eq!(slabs.kept.len(), kept, "not kept");
    }
}
