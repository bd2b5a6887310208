//! One vectored write for many pieces of a queue. Does not interpret the pieces.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
};

use bytes::{Buf as _, Bytes};

/// The most slices that one vectored write takes. More gains nothing; the kernel allows 1024 (`IOV_MAX`).
pub(crate) const MAX_SLICES: usize = 64;

/// Writes the front of `queue`, at most `max_bytes` bytes, with one call of `write`, which is repeated if a signal
/// interrupts it. Returns the number of bytes written; the queue is unchanged.
pub(crate) fn write_vectored_once(
    queue: &VecDeque<Bytes>,
    mut max_bytes: usize,
    write: impl Fn(&[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let used = queue.len().min(MAX_SLICES);
    for (slice, bytes) in slices.iter_mut().zip(queue) {
        let bytes = &bytes[..bytes.len().min(max_bytes)];
        max_bytes -= bytes.len();
        *slice = IoSlice::new(bytes);
    }
    loop {
        match write(&slices[..used]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Removes the first `n` bytes, which were written, from the front of `queue`.
pub(crate) fn advance(queue: &mut VecDeque<Bytes>, mut n: usize) {
    while let Some(front) = queue.front_mut() {
        if n < front.len() {
            front.advance(n);
            return;
        }
        n -= front.len();
        queue.pop_front();
    }
}
