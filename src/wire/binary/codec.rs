//! Encoder and decoder of one channel, configured by the negotiated features.

use super::{decode::FrameDecoder, encode::FrameEncoder, layout::CHECKSUMS};

/// The frame encoder and the frame decoder of one channel.
#[derive(Debug, Default)]
pub struct FrameCodec {
    /// Encodes the frames that this side sends.
    pub encoder: FrameEncoder,
    /// Decodes the frames that this side receives.
    pub decoder: FrameDecoder,
}

impl FrameCodec {
    /// Creates a codec for the frames after a handshake that put `features` in force. The handshake itself uses the
    /// default codec without checksums, because its proofs cover it.
    pub fn with_features(features: u32) -> Self {
        if features & CHECKSUMS == 0 {
            return Self::default();
        }
        Self { encoder: FrameEncoder::checked(), decoder: FrameDecoder::checked() }
    }
}
