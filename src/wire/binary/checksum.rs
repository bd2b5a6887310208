use crc_fast::{CrcAlgorithm, Digest};

use super::HEADER;

/// The CRC-32C of everything that went one way over a channel, so far.
///
/// Each frame's goes on from the one before it, not from nothing: so a frame that was lost, doubled or put elsewhere
/// shows as well as one that was changed, and costs no more.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Checksum(u32);

impl Checksum {
    /// With `bytes` behind what it covers.
    pub(super) fn and(self, bytes: &[u8]) -> Self {
        // The algorithm's inner state is the complement of what it tells.
        let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!self.0));
        digest.update(bytes);
        Self(digest.finalize() as u32)
    }

    /// With the header of the next frame behind what it covers, whatever its check says.
    pub(super) fn and_header(self, mut header: [u8; HEADER]) -> Self {
        header[2..4].fill(0);
        self.and(&header)
    }

    /// What a frame tells of all up to its end.
    pub(super) fn to_wire(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    /// What a header tells of all up to its own end, in the two bytes that it has for it.
    pub(super) fn folded(self) -> [u8; 2] {
        ((self.0 >> 16) as u16 ^ self.0 as u16).to_be_bytes()
    }
}
