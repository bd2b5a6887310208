use std::{fmt, str::FromStr, sync::LazyLock};

use sha2::{Digest, Sha256};

/// Bytes of a file that follow each other in [`NOISE`].
const SEGMENT: usize = 64 * 1024;

/// Places in [`NOISE`] at which a segment may begin. Small enough that the noise stays in the cache beside the tunnel
/// under test: a larger one would measure memory.
const STARTS: usize = 256 * 1024;

/// What every file is cut from. A piece of a file is a slice of it, so that an origin serves without copying and a
/// client compares without generating: neither may be slower than the tunnel between them.
static NOISE: LazyLock<Box<[u8]>> =
    LazyLock::new(|| (0..(STARTS + SEGMENT) as u64 / 8).flat_map(|word| mix(word).to_le_bytes()).collect());

/// The finaliser of SplitMix64: neighbouring inputs give outputs that have nothing in common.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

/// A file of the demo: its bytes follow from its seed and the offset alone, so that both ends know them.
///
/// Each segment begins at its own pseudo-random place of the noise. A byte changed, lost, doubled or moved, and bytes
/// of a file with another seed, differ from what is expected at or soon after that place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoFile {
    /// Tells files of the same size apart.
    pub seed: u64,
    /// Bytes.
    pub size: u64,
}

impl DemoFile {
    /// The bytes from `offset` to the end of their segment or of the file; empty at the end of the file.
    pub fn bytes_from(&self, offset: u64) -> &'static [u8] {
        let segment = SEGMENT as u64;
        let within = (offset % segment) as usize;
        let left = self.size.saturating_sub(offset).min(segment - within as u64) as usize;
        let start = (mix(mix(self.seed) ^ (offset / segment)) % STARTS as u64) as usize + within;
        &NOISE[start..start + left]
    }

    /// The checksum of the whole.
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

    /// What to ask an [`DemoOrigin`](super::DemoOrigin) for, to get this file.
    pub fn path(&self) -> String {
        format!("/file/{}?seed={}", self.size, self.seed)
    }
}

/// Compares what arrives with what a [`DemoFile`] should be.
#[derive(Debug)]
pub struct FileVerifier {
    file: DemoFile,
    offset: u64,
}

/// The first byte that is not what the file has there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("wrong byte at offset {offset}")]
pub struct WrongByte {
    /// Where.
    pub offset: u64,
}

impl FileVerifier {
    /// Expects `file` from its beginning.
    pub fn new(file: DemoFile) -> Self {
        Self { file, offset: 0 }
    }

    /// The next bytes. More than the file has is as wrong as others than it has.
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

    /// How many bytes were right so far.
    pub fn verified_bytes(&self) -> u64 {
        self.offset
    }

    /// How many are still to come.
    pub fn remaining_bytes(&self) -> u64 {
        self.file.size - self.offset
    }
}

/// A SHA-256, shown as `sha256sum` shows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha256Sum(pub [u8; 32]);

impl Sha256Sum {
    /// The checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A number of bytes as a person writes it: `512K`, `20M`, `1G`, `4096`. The letters are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

/// Not a [`ByteSize`], or more than [`ByteSize::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a size is a number with K, M or G behind it or nothing, at most 1024G")]
pub struct ByteSizeError;

impl ByteSize {
    /// More than anyone waits for, and far from where offsets overflow.
    pub const MAX: u64 = 1 << 40;
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "" => 1,
            "K" | "k" => 1 << 10,
            "M" | "m" => 1 << 20,
            "G" | "g" => 1 << 30,
            _ => return Err(ByteSizeError),
        };
        // `u64::from_str` takes a leading '+'.
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ByteSizeError);
        }
        let number: u64 = digits.parse().map_err(|_| ByteSizeError)?;
        number.checked_mul(unit).filter(|&size| size <= Self::MAX).map(Self).ok_or(ByteSizeError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(file: DemoFile) -> Vec<u8> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < file.size {
            bytes.extend_from_slice(file.bytes_from(bytes.len() as u64));
        }
        bytes
    }

    fn verify(file: DemoFile, bytes: &[u8]) -> Result<(), WrongByte> {
        // Odd reads, as sockets give them.
        let mut verifier = FileVerifier::new(file);
        bytes.chunks(7919).try_for_each(|chunk| verifier.verify(chunk))
    }

    #[test]
    fn a_file_is_the_same_from_every_offset() {
        let file = DemoFile { seed: 3, size: 300_001 };
        let bytes = whole(file);
        assert_eq!(bytes.len(), 300_001);
        for offset in [0, 1, 65_535, 65_536, 65_537, 299_999, 300_000] {
            let piece = file.bytes_from(offset);
            assert!(!piece.is_empty());
            assert_eq!(piece, &bytes[offset as usize..offset as usize + piece.len()], "{offset}");
        }
        assert!(file.bytes_from(300_001).is_empty() && file.bytes_from(u64::MAX).is_empty());
        assert_eq!(file.sha256(), Sha256Sum::of(&bytes));
        assert_eq!(verify(file, &bytes), Ok(()));
    }

    #[test]
    fn the_bytes_never_change_between_versions() {
        // Two processes of different builds may stand at the two ends.
        let sum = DemoFile { seed: 1, size: 200_000 }.sha256().to_string();
        assert_eq!(sum, "b9aae3d786c14285fed8b1076740f7cda1483eba10ac9a1bb6a5d05b41c4cdf3");
    }

    #[test]
    fn every_kind_of_damage_is_seen() {
        let file = DemoFile { seed: 9, size: 1 << 20 };
        let good = whole(file);
        let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            verify(file, &bytes)
        };
        assert_eq!(damaged(&|b| b[500_000] ^= 1), Err(WrongByte { offset: 500_000 }));
        let shifted = [
            damaged(&|b| _ = b.remove(100_000)),
            damaged(&|b| b.insert(100_000, b[99_999])),
            damaged(&|b| drop(b.drain(65_536..131_072))),
            damaged(&|b| b.swap(10, 700_000)),
            damaged(&|b| b.copy_within(0..8192, 8192)),
            // Two whole chunks that changed places.
            damaged(&|b| {
                let (a, c) = b.split_at_mut(131_072);
                a[65_536..].swap_with_slice(&mut c[..65_536]);
            }),
            damaged(&|b| b.push(0)),
            verify(DemoFile { seed: 10, ..file }, &good),
        ];
        assert!(shifted.iter().all(Result::is_err), "{shifted:?}");
        assert_eq!(shifted[6], Err(WrongByte { offset: 1 << 20 }));
    }

    #[test]
    fn a_short_body_is_no_wrong_byte() {
        let mut verifier = FileVerifier::new(DemoFile { seed: 0, size: 100 });
        assert_eq!(verifier.verify(&whole(DemoFile { seed: 0, size: 100 })[..40]), Ok(()));
        assert_eq!((verifier.verified_bytes(), verifier.remaining_bytes()), (40, 60));
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, size) in
            [("0", 0), ("4096", 4096), ("512K", 524_288), ("20M", 20_971_520), ("1g", 1 << 30)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(size)), "{text}");
        }
        for bad in ["", "M", "+1", "-1", "1.5M", "1MB", "1T", "1025G", "99999999999999999999", "ß"] {
            assert_eq!(bad.parse::<ByteSize>(), Err(ByteSizeError), "{bad}");
        }
    }
}
