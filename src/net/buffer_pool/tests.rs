//! Unit tests of buffer reuse and of the pool's bounds.

use super::*;

/// Fills a buffer, splits its content off and releases it, as a reader does.
fn read_full_buffer(pool: &mut BufferPool, byte: u8) -> bytes::Bytes {
    let mut buffer = pool.take(BufferPool::BUFFER_SIZE);
    buffer.resize(BufferPool::BUFFER_SIZE, byte);
    let received = buffer.split().freeze();
    pool.release(buffer);
    received
}

#[test]
fn a_buffer_is_reused_once_its_data_is_dropped() {
    let mut pool = BufferPool::default();
    let first = read_full_buffer(&mut pool, 1);
    let second = read_full_buffer(&mut pool, 2);
    assert_eq!((first[0], second[0]), (1, 2), "referenced data is not overwritten");
    let address = first.as_ptr();
    drop(first);
    assert_eq!(read_full_buffer(&mut pool, 3).as_ptr(), address);
    assert_eq!(second[0], 2);
}

#[test]
fn unused_buffers_are_freed() {
    let mut pool = BufferPool::default();
    // As for one download: the last five reads are in flight.
    let mut in_flight: std::collections::VecDeque<_> =
        (0..5).map(|_| read_full_buffer(&mut pool, 1)).collect();
    for _ in 0..2 * BufferPool::RELEASES_PER_TRIM {
        in_flight.pop_front();
        in_flight.push_back(read_full_buffer(&mut pool, 1));
    }
    assert!((5..7).contains(&pool.buffers.len()), "{} are reused", pool.buffers.len());
    in_flight.clear();
    (0..2 * BufferPool::RELEASES_PER_TRIM).for_each(|_| drop(read_full_buffer(&mut pool, 1)));
    assert!(pool.buffers.len() <= 2, "{}", pool.buffers.len());
}

#[test]
fn the_pool_keeps_at_most_its_maximum() {
    let mut pool = BufferPool::default();
    let held: Vec<_> = (0..100).map(|byte| read_full_buffer(&mut pool, byte)).collect();
    assert_eq!(pool.buffers.len(), BufferPool::MAX_BUFFERS);
    drop(held);
    assert_eq!(pool.buffers.len(), BufferPool::MAX_BUFFERS);
}

#[test]
fn reserve_moves_an_incomplete_frame_to_the_next_buffer() {
    let mut pool = BufferPool::default();
    let mut buffer = BytesMut::from(&b"half"[..]);
    pool.reserve(&mut buffer, 100);
    assert_eq!(&buffer[..], b"half");
    assert!(buffer.capacity() >= 104);
    buffer.resize(BufferPool::BUFFER_SIZE, 0);
    pool.reserve(&mut buffer, 1000);
    assert!(buffer.capacity() >= BufferPool::BUFFER_SIZE + 1000, "more than one buffer holds");
    let kept = pool.buffers.len();
    pool.release(buffer);
    assert_eq!(pool.buffers.len(), kept, "an oversized buffer is freed");
}
