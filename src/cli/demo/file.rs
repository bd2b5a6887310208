//! Files whose bytes follow from a seed, and their verification.

use std::{fmt, sync::LazyLock};

use sha2::{Digest, Sha256};

use crate::ids::encode_hex;

/// Length in bytes of the contiguous slices of [`NOISE`] that a file is made of.
const SEGMENT_BYTES: usize = 64 * 1024;

/// Number of offsets in [`NOISE`] at which a segment can start. It is small enough for the noise to stay in the CPU
/// cache next to the tunnel under test; with a larger table, memory bandwidth would be measured.
const SEGMENT_STARTS: usize = 256 * 1024;

/// Pseudo-random bytes that the segments of every file are slices of. The origin serves them without a copy and a
/// client compares without generating anything, because neither may be slower than the tunnel between them.
static NOISE: LazyLock<Box<[u8]>> = LazyLock::new(|| {
    (0..(SEGMENT_STARTS + SEGMENT_BYTES) as u64 / 8).flat_map(|word| mix(word).to_le_bytes()).collect()
});

/// Hashes `n` with the finalizer of SplitMix64: neighbouring inputs give unrelated outputs.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

/// A file of the demo. Its bytes follow from its seed and their offset alone, so that both ends can compute them.
///
/// Each segment of 64 KiB starts at its own pseudo-random offset of one table of noise. A changed, lost, duplicated or
/// moved byte, and the bytes of a file with another seed, differ from the expected bytes at or soon after that
/// position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoFile {
    /// Selects the content: two files of one size with different seeds differ.
    pub seed: u64,
    /// Length of the file in bytes.
    pub size: u64,
}

impl DemoFile {
    /// Returns the bytes from `offset` to the end of their segment or of the file; empty at the end of the file.
    pub fn bytes_from(&self, offset: u64) -> &'static [u8] {
        let segment = SEGMENT_BYTES as u64;
        let within = (offset % segment) as usize;
        let left = self.size.saturating_sub(offset).min(segment - within as u64) as usize;
        let start = (mix(mix(self.seed) ^ (offset / segment)) % SEGMENT_STARTS as u64) as usize + within;
        &NOISE[start..start + left]
    }

    /// Computes the SHA-256 of the whole file.
    pub fn sha256(&self) -> Sha256Sum {
        let mut hash = Sha256::new();
        let mut offset = 0;
        while offset < self.size {
            let piece = self.bytes_from(offset);
            hash.update(piece);
            offset += piece.len() as u64;
        }
        Sha256Sum(hash.finalize().into())
    }

    /// Returns the HTTP path and query under which a [`DemoOrigin`](super::DemoOrigin) serves this file.
    pub fn path(&self) -> String {
        format!("/file/{}?seed={}", self.size, self.seed)
    }
}

/// Compares received bytes with the content of a [`DemoFile`], in order and without keeping them.
#[derive(Debug)]
pub struct FileVerifier {
    /// The file whose content is expected.
    file: DemoFile,
    /// Number of bytes that were received and correct, which is the offset of the next one.
    offset: u64,
}

/// A received byte that differs from the file, or that lies behind its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("wrong byte at offset {offset}")]
pub struct WrongByte {
    /// Offset of that byte in the file.
    pub offset: u64,
}

impl FileVerifier {
    /// Creates a verifier that expects `file` from its first byte.
    pub fn new(file: DemoFile) -> Self {
        Self { file, offset: 0 }
    }

    /// Verifies the next received bytes. Bytes behind the end of the file are an error like different bytes.
    pub fn verify(&mut self, mut bytes: &[u8]) -> Result<(), WrongByte> {
        while !bytes.is_empty() {
            let expected = self.file.bytes_from(self.offset);
            let n = expected.len().min(bytes.len());
            if n == 0 || bytes[..n] != expected[..n] {
                let same = expected.iter().zip(bytes).take_while(|(a, b)| a == b).count();
                return Err(WrongByte { offset: self.offset + same as u64 });
            }
            self.offset += n as u64;
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Returns how many bytes were received and correct so far.
    pub fn verified_bytes(&self) -> u64 {
        self.offset
    }

    /// Returns how many bytes of the file have not been received yet.
    pub fn remaining_bytes(&self) -> u64 {
        self.file.size - self.offset
    }
}

/// A SHA-256 digest, displayed in hexadecimal like the output of `sha256sum`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha256Sum(pub [u8; 32]);

impl Sha256Sum {
    /// Computes the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_hex(&self.0))
    }
}

impl fmt::Debug for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
