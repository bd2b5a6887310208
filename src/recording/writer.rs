//! Writes one file.

use std::{
    fmt,
    fs::{self, File, Metadata},
    io,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use zstd::{stream::write::Encoder as Compressor, zstd_safe::CParameter};

use super::{batch::BatchLine, frames::Mark, header::FileHeader, pack::Packer, reader::time_of};
use crate::{feed::Line, telemetry::Notable};

/// The compression level. Of a server with 100 streams a second, measured with a line for each event, level 9 leaves a
/// third less than level 3 and takes 0.3 % of a core; higher levels take several times as long for a few percent.
const LEVEL: i32 = 9;

/// The shortest repetition that the compressor looks for. In columns of numbers shorter ones are chance: with 5, that
/// of the level, a recording is 2 % larger.
const MIN_MATCH: u32 = 6;

/// A file that is being written.
pub(super) struct FileWriter {
    /// Where it is.
    path: PathBuf,
    /// Which file that is.
    identity: Identity,
    /// The segment that is being written. `None` only while a segment ends.
    segment: Option<Compressor<'static, CountingFile>>,
    /// Packs the lines of the segment.
    packer: Packer,
    /// The lines since the last batch.
    waiting: Vec<Line>,
    /// The time of the last line.
    last: u64,
    /// Notable events in the segment, by [`Notable`].
    notable: [u64; Notable::ALL.len()],
}

/// What makes a file the same: its device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

impl Identity {
    /// Returns the identity of the file with this metadata.
    fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// A file, and how much was written to it.
#[derive(Debug)]
struct CountingFile {
    /// The file.
    file: File,
    /// The bytes written so far.
    written: u64,
}

impl io::Write for CountingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Returns the compressor of a segment that begins at `at`, behind its mark.
fn begin(mut file: CountingFile, at: u64) -> io::Result<Compressor<'static, CountingFile>> {
    Mark { begins: Some(at), ..Mark::default() }.write(&mut file)?;
    let mut compressor = Compressor::new(file, LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.set_parameter(CParameter::MinMatch(MIN_MATCH))?;
    Ok(compressor)
}

impl fmt::Debug for FileWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileWriter").field("last", &self.last).finish_non_exhaustive()
    }
}

impl FileWriter {
    /// Creates a file that does not exist yet, readable by its owner only: it names users and what they request. Begins
    /// its first segment.
    pub(super) fn create(path: &Path, header: &FileHeader, at: u64) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        // On a full disk the next attempts would leave an empty file each.
        Self::begin(file, path, header, at).inspect_err(|_| _ = fs::remove_file(path))
    }

    /// Writes the header to a new file.
    fn begin(file: File, path: &Path, header: &FileHeader, at: u64) -> io::Result<Self> {
        let identity = Identity::of(&file.metadata()?);
        let mut compressor = begin(CountingFile { file, written: 0 }, at)?;
        serde_json::to_writer(&mut compressor, header)?;
        compressor.write_all(b"\n")?;
        // In a block of its own, so that damage behind it leaves the file a recording.
        compressor.flush()?;
        Ok(Self {
            path: path.to_owned(),
            identity,
            segment: Some(compressor),
            packer: Packer::default(),
            waiting: Vec::new(),
            last: at,
            notable: [0; _],
        })
    }

    /// Ends the segment and begins the next one, whose first line has to be a whole snapshot.
    pub(super) fn next_segment(&mut self, at: u64) -> io::Result<()> {
        let file = self.end()?;
        self.segment = Some(begin(file, at)?);
        Ok(())
    }

    /// Takes a line for the next batch. `notable` is the kind of its event, if it is one.
    pub(super) fn push(&mut self, line: Line, notable: Option<Notable>) {
        self.last = time_of(&line).unwrap_or(self.last);
        if let Some(notable) = notable {
            self.notable[notable as usize] += 1;
        }
        self.waiting.push(line);
    }

    /// Writes what waits as a batch. Returns its length, uncompressed.
    pub(super) fn write_batch(&mut self) -> io::Result<u64> {
        if self.waiting.is_empty() {
            return Ok(0);
        }
        let (lines, batch) = self.packer.pack(std::mem::take(&mut self.waiting));
        let mut json = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut json, &line)?;
            json.push(b'\n');
        }
        serde_json::to_writer(&mut json, &BatchLine { batch })?;
        json.push(b'\n');
        self.segment()?.write_all(&json)?;
        Ok(json.len() as u64)
    }

    /// Passes what was written so far to the kernel, so that a crash of the program loses nothing of it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.segment()?.flush()
    }

    /// Checks whether the file is still where it was created: what is written to a deleted one is lost.
    pub(super) fn check_place(&self) -> io::Result<()> {
        match fs::metadata(&self.path) {
            Ok(metadata) if Identity::of(&metadata) == self.identity => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                let path = self.path.display();
                Err(io::Error::new(io::ErrorKind::NotFound, format!("{path} was deleted or replaced")))
            }
        }
    }

    /// Returns the size of the file; what the compressor still holds is not in it.
    pub(super) fn size(&self) -> u64 {
        self.segment.as_ref().map_or(0, |segment| segment.get_ref().written)
    }

    /// Ends the last segment.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.end()?.flush()
    }

    /// Ends the segment, and writes the mark behind it.
    fn end(&mut self) -> io::Result<CountingFile> {
        self.write_batch()?;
        self.packer = Packer::default();
        let segment = self.segment.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut file = segment.finish()?;
        let notable = std::mem::replace(&mut self.notable, [0; _]).to_vec();
        Mark { ends: Some(self.last), notable, ..Mark::default() }.write(&mut file)?;
        Ok(file)
    }

    /// Returns the segment; an error after a failed change of segments.
    fn segment(&mut self) -> io::Result<&mut Compressor<'static, CountingFile>> {
        self.segment.as_mut().ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}
