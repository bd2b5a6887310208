//! The running CRC-32C over the frames of one direction of a channel.

use crc_fast::{CrcAlgorithm, Digest};

use super::layout::HEADER;

/// The running CRC-32C of all bytes of one direction of a channel up to some point.
///
/// The CRC of a frame continues that of the preceding frame instead of starting from zero. A lost, duplicated or
/// reordered frame is therefore detected like a corrupted one, at no extra cost.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RunningCrc(u32);

impl RunningCrc {
    /// Returns the running CRC continued over `bytes`.
    pub(super) fn update(self, bytes: &[u8]) -> Self {
        // The internal state of the algorithm is the complement of the CRC.
        let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!self.0));
        digest.update(bytes);
        Self(digest.finalize() as u32)
    }

    /// Returns the CRC continued over the header of the next frame, with zeros in place of the header's check field.
    pub(super) fn update_header(self, mut header: [u8; HEADER]) -> Self {
        header[2..4].fill(0);
        self.update(&header)
    }

    /// Returns the checksum field of a frame: the CRC up to the end of the frame, big-endian.
    pub(super) fn to_wire(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    /// Returns the check field of a header: the CRC up to the end of the header, folded to 16 bits.
    pub(super) fn folded(self) -> [u8; 2] {
        ((self.0 >> 16) as u16 ^ self.0 as u16).to_be_bytes()
    }
}
