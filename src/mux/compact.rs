//! Copying of short slices out of the pooled buffers that they would keep alive.

use bytes::Bytes;

use super::limits::COPY_THRESHOLD;

/// Copies a slice that is shorter than [`COPY_THRESHOLD`], so that it no longer keeps a pooled buffer alive.
pub(super) fn copy_if_small(slice: &mut Bytes) {
    copy_if_shorter(slice, COPY_THRESHOLD);
}

/// Copies a slice that is shorter than `max_len` bytes, so that it no longer keeps a pooled buffer alive.
pub fn copy_if_shorter(slice: &mut Bytes, max_len: usize) {
    if slice.len() < max_len {
        *slice = Bytes::copy_from_slice(slice);
    }
}
