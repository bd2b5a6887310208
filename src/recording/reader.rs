//! Reads files: their segments, and the lines of one.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read as _, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::{
    EXTENSION,
    batch::BatchLine,
    frames::{Frame, frames},
    header::FileHeader,
    unpack::Unpacker,
};
use crate::{feed::Line, telemetry::Notable};

/// The longest line that is read: a snapshot of 300,000 streams. It bounds the memory that a damaged file can take.
const MAX_LINE_BYTES: u64 = 64 << 20;
/// The largest window of a frame that is read, as a power of two; the recorder's level has one of 4 MiB.
const MAX_WINDOW_LOG: u32 = 25;
/// How many compressed bytes zstd is given at once. Of those that contain damage it returns nothing, also not what
/// precedes it: with its own 128 KiB, a small file with one damaged byte was no recording at all.
const INPUT_BYTES: usize = 512;
/// How many lines before a batch are read: more than the server's queues of events and log records hold.
const MAX_WAITING: usize = 1 << 17;
/// The latest time that a recording can have: the end of the year 9999, in milliseconds since the Unix epoch. Damaged
/// data can have any, and clocks cannot express all of them.
const MAX_TIME_MS: u64 = 253_402_300_799_999;

/// How the line of a batch begins.
const BATCH: &[u8] = br#"{"batch":"#;

/// Why recordings cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or directory cannot be read.
    #[error("cannot read {}: {error}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The I/O error.
        error: io::Error,
    },
    /// A directory has no recording in it.
    #[error("no recording in {} (files named *.{EXTENSION})", .0.display())]
    Empty(PathBuf),
    /// A file does not begin like a recording.
    #[error("{} is not a recording", .0.display())]
    NoRecording(PathBuf),
    /// A file was written by a later version.
    #[error("{} has version {version} of the format, and this program reads up to {}: use underpass {underpass}", .path.display(), FileHeader::VERSION)]
    LaterVersion {
        /// The file.
        path: PathBuf,
        /// The version of its format.
        version: u32,
        /// The version of the program that wrote it.
        underpass: String,
    },
}

/// A file of a recording.
#[derive(Debug)]
struct RecordedFile {
    /// Where the file is.
    path: PathBuf,
    /// Its first line.
    header: FileHeader,
}

/// A part of a recording that can be read on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// The index of the file.
    file: usize,
    /// Where the segment begins in the file.
    offset: u64,
    /// When it begins, in milliseconds since the Unix epoch.
    pub(super) begins: u64,
    /// The time of its last line.
    pub(super) ends: u64,
    /// How many notable events it contains, by [`Notable`]; `None` where its end is missing.
    pub(super) notable: Option<Vec<u64>>,
}

/// One or more files, in the order of time.
#[derive(Debug)]
pub struct Recording {
    /// The files.
    files: Vec<RecordedFile>,
    /// The segments of all files, in the order of time.
    pub(super) segments: Vec<Segment>,
    /// How many files end in the middle of a segment.
    cut_files: usize,
}

impl Recording {
    /// Opens files, and all recordings in directories.
    ///
    /// # Errors
    /// A path cannot be read, is no recording or has none in it, or a file is of a later version.
    pub fn open(paths: &[PathBuf]) -> Result<Self, OpenError> {
        let mut recording = Self { files: Vec::new(), segments: Vec::new(), cut_files: 0 };
        for path in paths {
            let failed = |error| OpenError::Io { path: path.clone(), error };
            if path.is_dir() {
                let files = files_in(path).map_err(failed)?;
                if files.is_empty() {
                    return Err(OpenError::Empty(path.clone()));
                }
                files.into_iter().try_for_each(|file| recording.add(file))?;
            } else {
                recording.add(path.clone())?;
            }
        }
        recording.segments.sort_by_key(|segment| segment.begins);
        if let (true, Some(first)) = (recording.segments.is_empty(), paths.first()) {
            return Err(OpenError::Empty(first.clone()));
        }
        Ok(recording)
    }

    /// Adds a file.
    fn add(&mut self, path: PathBuf) -> Result<(), OpenError> {
        let failed = |error| OpenError::Io { path: path.clone(), error };
        let file = File::open(&path).map_err(failed)?;
        let frames = frames(&file).map_err(failed)?;
        let index = self.files.len();
        let mut found: Vec<Segment> = Vec::new();
        let (mut begins, mut is_cut) = (0, false);
        for frame in frames {
            match frame {
                Frame::Mark(mark) => {
                    begins = mark.begins.unwrap_or(begins).min(MAX_TIME_MS);
                    if let (Some(ends), Some(segment)) = (mark.ends, found.last_mut()) {
                        (segment.ends, segment.notable) = (ends.min(MAX_TIME_MS), Some(mark.notable));
                    }
                }
                Frame::Lines { offset, is_whole } => {
                    is_cut |= !is_whole;
                    found.push(Segment { file: index, offset, begins, ends: begins, notable: None });
                }
            }
        }
        let Some(first) = found.first() else { return Err(OpenError::NoRecording(path)) };
        let mut lines = SegmentReader::open(&file, first.offset, 0).map_err(failed)?;
        let header = lines.header().ok_or_else(|| OpenError::NoRecording(path.clone()))?;
        if header.recording > FileHeader::VERSION {
            let (version, underpass) = (header.recording, header.underpass);
            return Err(OpenError::LaterVersion { path, version, underpass });
        }
        // The end of a segment without a mark is the time of its last line. One without a line has just begun.
        for segment in found.iter_mut().filter(|segment| segment.notable.is_none()) {
            let lines = SegmentReader::open(&file, segment.offset, header.recording).map_err(failed)?;
            segment.ends = lines.filter_map(|line| time_of(&line)).fold(0, u64::max).min(MAX_TIME_MS);
        }
        found.retain(|segment| segment.ends > 0);
        self.cut_files += usize::from(is_cut);
        self.segments.extend(found);
        self.files.push(RecordedFile { path, header });
        Ok(())
    }

    /// Returns when the recording begins and ends, in milliseconds since the Unix epoch.
    pub fn range(&self) -> (u64, u64) {
        let begins = self.segments.first().map_or(0, |segment| segment.begins);
        (begins, self.segments.iter().map(|segment| segment.ends).fold(begins, u64::max))
    }

    /// Returns how many files end in the middle of a segment: the program that wrote them has crashed or still writes,
    /// or the disk was full.
    pub fn cut_files(&self) -> usize {
        self.cut_files
    }

    /// Returns the header of the file that contains a segment.
    pub(super) fn header(&self, segment: usize) -> Option<&FileHeader> {
        Some(&self.files[self.segments.get(segment)?.file].header)
    }

    /// Returns the lines of a segment.
    pub(super) fn lines(&self, segment: usize) -> io::Result<SegmentReader> {
        let segment = self.segments.get(segment).ok_or(io::ErrorKind::NotFound)?;
        let RecordedFile { path, header } = &self.files[segment.file];
        SegmentReader::open(&File::open(path)?, segment.offset, header.recording)
    }

    /// Returns the index of the segment that contains `time`: the last one that begins until then, else the first.
    pub(super) fn segment_at(&self, time: u64) -> usize {
        self.segments.partition_point(|segment| segment.begins <= time).saturating_sub(1)
    }

    /// Returns the time of the first event of one of these kinds after `time`; `None` if there is none.
    pub fn next_notable(&self, kinds: &[Notable], time: u64) -> Option<u64> {
        let may_contain = |segment: &Segment| {
            let counts = segment.notable.as_ref();
            let has = |kind: &Notable| {
                counts.is_none_or(|counts| counts.get(*kind as usize).is_none_or(|count| *count > 0))
            };
            segment.ends > time && kinds.iter().any(has)
        };
        let segments =
            (self.segment_at(time)..self.segments.len()).filter(|at| may_contain(&self.segments[*at]));
        for segment in segments {
            // A file that has been deleted meanwhile is passed over.
            let Ok(mut lines) = self.lines(segment) else { continue };
            let found = lines.find_map(|line| {
                let at = time_of(&line)?;
                let event = line.event()?;
                let is_wanted = Notable::of(&event.kind).is_some_and(|kind| kinds.contains(&kind));
                (is_wanted && at > time).then_some(at)
            });
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

/// Returns the recordings in a directory, sorted by name.
pub(super) fn files_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in dir.read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Returns when a line was written: its own time, or that of its event or log record.
pub(super) fn time_of(line: &Line) -> Option<u64> {
    line.at.or(line.event().map(|event| event.epoch_ms)).or(line.log().map(|record| record.epoch_ms))
}

/// The lines of one segment, up to where the file is cut short or damaged.
pub(super) struct SegmentReader {
    /// The decompressed bytes.
    text: BufReader<zstd::stream::read::Decoder<'static, BufReader<File>>>,
    /// The line that is being read.
    buffer: Vec<u8>,
    /// Unpacks batches.
    unpacker: Unpacker,
    /// Lines that belong to the next batch.
    waiting: Vec<Line>,
    /// Whether the segment consists of batches; otherwise it is of version 1 and has only lines.
    has_batches: bool,
}

impl fmt::Debug for SegmentReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SegmentReader")
    }
}

impl SegmentReader {
    /// Returns the lines of the segment that begins at `offset`.
    fn open(file: &File, offset: u64, version: u32) -> io::Result<Self> {
        let mut file = file.try_clone()?;
        file.seek(SeekFrom::Start(offset))?;
        let input = BufReader::with_capacity(INPUT_BYTES, file);
        let mut decompressor = zstd::stream::read::Decoder::with_buffer(input)?.single_frame();
        decompressor.window_log_max(MAX_WINDOW_LOG)?;
        let text = BufReader::with_capacity(128 * 1024, decompressor);
        Ok(Self {
            text,
            buffer: Vec::new(),
            unpacker: Unpacker::new(version),
            waiting: Vec::new(),
            has_batches: version > 1,
        })
    }

    /// Reads the next line of text; `None` at the end, and where the rest is missing or damaged.
    fn next_text(&mut self) -> Option<&[u8]> {
        self.buffer.clear();
        let mut limited = (&mut self.text).take(MAX_LINE_BYTES);
        limited.read_until(b'\n', &mut self.buffer).ok()?;
        self.buffer.strip_suffix(b"\n")
    }

    /// Reads the first line of a file; `None` if it is no header.
    fn header(&mut self) -> Option<FileHeader> {
        serde_json::from_slice(self.next_text()?).ok()
    }
}

impl Iterator for SegmentReader {
    type Item = Line;

    /// Returns the next line. Skips the header of the file.
    fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(line) = self.unpacker.next_line().ok()? {
                return Some(line);
            }
            let text = self.next_text()?;
            if text.starts_with(BATCH) {
                let BatchLine { batch } = serde_json::from_slice(text).ok()?;
                self.unpacker.begin(std::mem::take(&mut self.waiting), batch);
                continue;
            }
            let line = Line::parse(text);
            let is_header = line.is_err() && serde_json::from_slice::<FileHeader>(text).is_ok();
            match line {
                Ok(line) if !self.has_batches => return Some(line),
                Ok(line) if self.waiting.len() < MAX_WAITING => self.waiting.push(line),
                Err(_) if is_header => {}
                _ => return None,
            }
        }
    }
}
