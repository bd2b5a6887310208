//! The stream ids that the peer has used.

use std::collections::BTreeSet;

use super::{error::ProtocolError, limits::MAX_SKIPPED_IDS};

/// The set of stream ids on which the peer has opened streams. No id is used twice in a link.
///
/// Channels overtake each other, so that the OPEN of stream 5 may arrive before that of stream 4. Only the skipped
/// ids are stored.
#[derive(Debug, Default)]
pub(super) struct UsedStreamIds {
    /// The highest id that was used; 0 before the first.
    highest: u32,
    /// Ids below `highest` that were not used yet.
    skipped: BTreeSet<u32>,
}

impl UsedStreamIds {
    /// Marks a stream id as used. Returns whether it was unused before.
    ///
    /// # Errors
    /// [`ProtocolError::StreamIdGap`] if too many ids would be skipped.
    pub(super) fn mark_used(&mut self, stream: u32) -> Result<bool, ProtocolError> {
        if stream <= self.highest {
            return Ok(self.skipped.remove(&stream));
        }
        let gap = (stream - self.highest - 1) as usize;
        if gap + self.skipped.len() > MAX_SKIPPED_IDS {
            return Err(ProtocolError::StreamIdGap);
        }
        self.skipped.extend(self.highest + 1..stream);
        self.highest = stream;
        Ok(true)
    }

    /// Returns whether the peer has used this stream id.
    pub(super) fn contains(&self, stream: u32) -> bool {
        stream <= self.highest && !self.skipped.contains(&stream)
    }
}

#[cfg(test)]
mod tests;
