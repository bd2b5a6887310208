//! Encoder and decoder of one channel, configured by the negotiated features.

use super::{
    decode::FrameDecoder,
    encode::FrameEncoder,
    layout::{CHECKSUMS, PUBLIC_ADDRESS},
};

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
        let mut codec = match features & CHECKSUMS {
            0 => Self::default(),
            _ => Self { encoder: FrameEncoder::checked(), decoder: FrameDecoder::checked() },
        };
        codec.encoder.set_public_address(features & PUBLIC_ADDRESS != 0);
        codec
    }
}
