use std::collections::BTreeSet;

use super::{error::ProtocolError, limits::MAX_SKIPPED};

/// Which stream numbers the peer has used. Channels overtake each other, so that number 5 may come before number 4.
#[derive(Debug, Default)]
pub(super) struct UsedNumbers {
    highest: u32,
    skipped: BTreeSet<u32>,
}

impl UsedNumbers {
    /// Marks `stream` as used. True if it was not used before.
    pub(super) fn mark(&mut self, stream: u32) -> Result<bool, ProtocolError> {
        if stream <= self.highest {
            return Ok(self.skipped.remove(&stream));
        }
        let gap = (stream - self.highest - 1) as usize;
        if gap + self.skipped.len() > MAX_SKIPPED {
            return Err(ProtocolError::StreamIdGap);
        }
        self.skipped.extend(self.highest + 1..stream);
        self.highest = stream;
        Ok(true)
    }

    pub(super) fn contains(&self, stream: u32) -> bool {
        stream <= self.highest && !self.skipped.contains(&stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_new_once_in_any_order() {
        let mut used = UsedNumbers::default();
        assert_eq!([3, 1, 3, 2, 1, 4].map(|n| used.mark(n).unwrap()), [true, true, false, true, false, true]);
        assert!(used.contains(2) && !used.contains(5));
        assert_eq!(used.mark(u32::MAX), Err(ProtocolError::StreamIdGap));
    }
}
