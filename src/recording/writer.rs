//! Writes one file.

use std::{fmt, fs::File, io, io::Write as _, path::Path};

use zstd::stream::write::Encoder as Compressor;

use super::{frames::Mark, header::FileHeader, reader::time_of};
use crate::{feed::Line, telemetry::Notable};

/// The compression level. Of a server with 100 streams a second, level 9 leaves a third less than level 3 and takes 0.3 % of
/// a core; higher levels take several times as long for a few percent.
const LEVEL: i32 = 9;

/// A file that is being written.
pub(super) struct FileWriter {
    /// The segment that is being written. `None` only while a segment ends.
    segment: Option<Compressor<'static, CountingFile>>,
    /// The time of the last line.
    last: u64,
    /// Notable events in the segment, by [`Notable`].
    notable: [u64; Notable::ALL.len()],
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
    Ok(compressor)
}

impl fmt::Debug for FileWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileWriter").field("last", &self.last).finish_non_exhaustive()
    }
}

impl FileWriter {
    /// Creates a file that does not exist yet, readable by its owner only: it names users and what they request. Begins its
    /// first segment.
    pub(super) fn create(path: &Path, header: &FileHeader, at: u64) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        let mut compressor = begin(CountingFile { file, written: 0 }, at)?;
        serde_json::to_writer(&mut compressor, header)?;
        compressor.write_all(b"\n")?;
        Ok(Self { segment: Some(compressor), last: at, notable: [0; _] })
    }

    /// Ends the segment and begins the next one, whose first line has to be a whole snapshot.
    pub(super) fn next_segment(&mut self, at: u64) -> io::Result<()> {
        let file = self.end()?;
        self.segment = Some(begin(file, at)?);
        Ok(())
    }

    /// Writes a line. `notable` is the kind of its event, if it is one. Returns its length, uncompressed.
    pub(super) fn write(&mut self, line: &Line, notable: Option<Notable>) -> io::Result<u64> {
        let mut json = line.to_json()?;
        json.push(b'\n');
        self.segment()?.write_all(&json)?;
        self.last = time_of(line).unwrap_or(self.last);
        if let Some(notable) = notable {
            self.notable[notable as usize] += 1;
        }
        Ok(json.len() as u64)
    }

    /// Passes what was written so far to the kernel, so that a crash of the program loses nothing of it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.segment()?.flush()
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
