//! The frames of a file, found without decompressing them (RFC 8878, section 3.1).

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
};

use serde::{Deserialize, Serialize};

/// The magic number of a zstd frame.
const ZSTD_MAGIC: u32 = 0xFD2F_B528;
/// The magic number of the skippable frames that this module writes, of the sixteen that are possible.
const SKIPPABLE_MAGIC: u32 = 0x184D_2A57;
/// The longest content of a skippable frame that is read: ours have less than a kilobyte.
const MAX_MARK: u32 = 64 * 1024;

/// How many frames of a file are read. A segment has three and takes a minute or more: these are 200 days.
const MAX_FRAMES: usize = 1_000_000;

/// The content of a skippable frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Mark {
    /// Before a segment: when it begins, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) begins: Option<u64>,
    /// Behind a segment: the time of its last line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ends: Option<u64>,
    /// Behind a segment: how many notable events it contains, by [`Notable`](crate::telemetry::Notable) in the order of
    /// declaration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notable: Vec<u64>,
}

impl Mark {
    /// Writes the mark as a skippable frame.
    pub(super) fn write(&self, file: &mut impl Write) -> io::Result<()> {
        let content = serde_json::to_vec(self)?;
        let mut frame = SKIPPABLE_MAGIC.to_le_bytes().to_vec();
        frame.extend_from_slice(&(content.len() as u32).to_le_bytes());
        frame.extend_from_slice(&content);
        file.write_all(&frame)
    }
}

/// A frame of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A skippable frame of ours. One of others is an empty mark.
    Mark(Mark),
    /// Compressed lines, which begin at this offset. `is_whole` tells whether the file contains all of it.
    Lines {
        /// Where the frame begins.
        offset: u64,
        /// Whether the file contains all of it.
        is_whole: bool,
    },
}

/// Returns the frames of a file, up to the first that is cut short or is not a frame, and no more than [`MAX_FRAMES`].
pub(super) fn frames(file: &File) -> io::Result<Vec<Frame>> {
    let length = file.metadata()?.len();
    let (mut frames, mut offset) = (Vec::new(), 0);
    while frames.len() < MAX_FRAMES
        && let Some(magic) = read_u32(file, offset)?
    {
        if magic & 0xFFFF_FFF0 == SKIPPABLE_MAGIC & 0xFFFF_FFF0 {
            let Some(size) = read_u32(file, offset + 4)? else { break };
            let end = offset + 8 + u64::from(size);
            if end > length {
                break;
            }
            let mut content = vec![0; size.min(MAX_MARK) as usize];
            file.read_exact_at(&mut content, offset + 8)?;
            frames.push(Frame::Mark(serde_json::from_slice(&content).unwrap_or_default()));
            offset = end;
        } else if magic == ZSTD_MAGIC {
            let end = frame_end(file, offset)?.filter(|end| *end <= length);
            frames.push(Frame::Lines { offset, is_whole: end.is_some() });
            let Some(end) = end else { break };
            offset = end;
        } else {
            break;
        }
    }
    Ok(frames)
}

/// Returns where the zstd frame at `offset` ends; `None` if the file ends before.
fn frame_end(file: &File, offset: u64) -> io::Result<Option<u64>> {
    let Some(descriptor) = read(file, offset + 4)?.map(|[byte]: [u8; 1]| byte) else { return Ok(None) };
    let is_single_segment = descriptor & 0x20 != 0;
    let window = u64::from(!is_single_segment);
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content_size = match descriptor >> 6 {
        0 => u64::from(is_single_segment),
        exponent => 1 << exponent,
    };
    let checksum = if descriptor & 4 != 0 { 4 } else { 0 };
    let mut at = offset + 5 + window + dictionary + content_size;
    loop {
        let Some([low, middle, high]) = read(file, at)? else { return Ok(None) };
        let header = u32::from_le_bytes([low, middle, high, 0]);
        // A block of one repeated byte contains that byte alone.
        let is_repeated = header >> 1 & 3 == 1;
        at += 3 + if is_repeated { 1 } else { u64::from(header >> 3) };
        if header & 1 != 0 {
            return Ok(Some(at + checksum));
        }
    }
}

/// Returns the bytes at `offset`; `None` if the file ends before.
fn read<const N: usize>(file: &File, offset: u64) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    match file.read_exact_at(&mut bytes, offset) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the number at `offset`; `None` if the file ends before.
fn read_u32(file: &File, offset: u64) -> io::Result<Option<u32>> {
    Ok(read(file, offset)?.map(u32::from_le_bytes))
}
