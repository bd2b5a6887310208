//! One vectored write for many pieces of a queue. Knows nothing of what the pieces are.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
};

use bytes::{Buf as _, Bytes};

/// How many slices one system call takes. More gains nothing, and the kernel allows 1024.
pub(crate) const MAX_SLICES: usize = 64;

/// One vectored write of the front of `queue`, of `most` bytes at the most.
pub(crate) fn write_once(
    queue: &VecDeque<Bytes>,
    mut most: usize,
    write: impl Fn(&[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let used = queue.len().min(MAX_SLICES);
    for (slice, bytes) in slices.iter_mut().zip(queue) {
        let bytes = &bytes[..bytes.len().min(most)];
        most -= bytes.len();
        *slice = IoSlice::new(bytes);
    }
    loop {
        match write(&slices[..used]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Drops the first `n` bytes of `queue`.
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
