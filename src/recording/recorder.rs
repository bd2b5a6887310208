//! Records a server: takes its events and its state, and writes them to files of bounded size and age.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::geteuid;
use tokio::sync::broadcast::{self, error::TryRecvError};

use super::{FileHeader, retention, writer::FileWriter};
use crate::{
    feed::{Encoder, Interest, Missed, Pace},
    telemetry::{
        Event, EventKind, LIFECYCLE_TARGET, LogBroadcast, LogRecord, Notable, Sampler, Snapshot, Telemetry,
        epoch_ms,
    },
};

/// The time between two states. Events lie between them, each with its own time.
const STATE_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest length of a segment, in milliseconds. Each begins with a whole state.
const MIN_SEGMENT_MS: u64 = 60_000;
/// The longest one: a seek has to read it from its begin.
const MAX_SEGMENT_MS: u64 = 600_000;
/// A segment ends after [`MIN_SEGMENT_MS`] once it has at least this many times the bytes of its first line: with ten
/// thousand idle streams, whole states would otherwise be most of the recording.
const MIN_BYTES_PER_STATE: u64 = 12;
/// How often what was written is passed to the kernel, in milliseconds: so much is lost if the program crashes.
const FLUSH_MS: u64 = 5_000;
/// The size of a file as a fraction of all: deleting the oldest one frees this much.
const FILES: u64 = 16;
/// How long the recorder waits after an error, such as a full disk, before it tries a new file, in milliseconds. An
/// attempt on a disk that is still full creates no file.
const RETRY_MS: u64 = 10_000;

/// The least free space with which a file is begun and continued: less is a full disk, even where the last block of the
/// file has room.
const MIN_FREE_BYTES: u64 = 64 * 1024;

/// Checks whether the file system of `dir` has space that this user may take.
pub(super) fn check_space(dir: &Path) -> io::Result<()> {
    let space = rustix::fs::statvfs(dir)?;
    // The superuser may take what the file system reserves.
    let blocks = if geteuid().is_root() { space.f_bfree } else { space.f_bavail };
    // Some file systems, of networks and of user space, do not know.
    let is_known = space.f_blocks > 0;
    if is_known && blocks.saturating_mul(space.f_frsize) < MIN_FREE_BYTES {
        return Err(io::Error::from(rustix::io::Errno::NOSPC));
    }
    Ok(())
}

/// Where a recording goes, and how large it may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecorderOptions {
    /// The directory of the files. It is created if it does not exist, readable by its owner only.
    pub dir: PathBuf,
    /// How many bytes all files together may have. The oldest one is deleted before there are more.
    pub max_bytes: u64,
    /// How old a file may become before it is deleted.
    pub max_age: Duration,
}

/// Writes what it is given. It reads no clock: each item comes with its time, in milliseconds since the Unix epoch.
#[derive(Debug)]
pub(super) struct RecordWriter {
    /// Where the files are.
    options: RecorderOptions,
    /// The first line of each file.
    header: FileHeader,
    /// Turns states into lines.
    encoder: Encoder,
    /// The present file; `None` before the first one, and after an error.
    file: Option<FileWriter>,
    /// When the present segment began.
    segment_began: u64,
    /// The uncompressed bytes of the first state of the segment, and of all later lines.
    segment_bytes: (u64, u64),
    /// When the file was last flushed.
    flushed_at: u64,
    /// When a new file may be tried after an error.
    retry_at: u64,
    /// Whether an error was reported that has not been overcome: each attempt that fails after it is the same outage.
    has_failed: bool,
    /// Events that could not be written, and events and log records that came faster than they were taken.
    missed: Missed,
    /// The begin or the end of an outage that is to be reported.
    notice: Option<EventKind>,
}

impl RecordWriter {
    /// Creates the directory and the first file.
    ///
    /// # Errors
    /// They cannot be created.
    pub(super) fn create(options: RecorderOptions, header: FileHeader, at: u64) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&options.dir)?;
        let mut writer = Self {
            options,
            header,
            encoder: Encoder::new(Pace::RECORDING),
            file: None,
            segment_began: at,
            segment_bytes: (0, 0),
            flushed_at: at,
            retry_at: at,
            has_failed: false,
            missed: Missed::default(),
            notice: None,
        };
        writer.open(at)?;
        Ok(writer)
    }

    /// Deletes old files and begins a new one, with a whole state.
    fn open(&mut self, at: u64) -> io::Result<()> {
        let RecorderOptions { dir, max_bytes, max_age } = &self.options;
        retention::prune(dir, max_bytes - max_bytes / FILES, *max_age, at)?;
        check_space(dir)?;
        // A file of the same second exists after a quick restart.
        for attempt in 0.. {
            match FileWriter::create(&retention::path_of(dir, at, attempt), &self.header, at) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => {}
                result => {
                    self.file = Some(result?);
                    break;
                }
            }
        }
        self.begin_segment(at);
        Ok(())
    }

    /// Makes the next state a whole one.
    fn begin_segment(&mut self, at: u64) {
        self.encoder.restart();
        (self.segment_began, self.segment_bytes, self.flushed_at) = (at, (0, 0), at);
    }

    /// Counts events that are missing in the recording.
    pub(super) fn miss_events(&mut self, events: u64) {
        self.missed.events += events;
    }

    /// Counts log records that were dropped before they came here.
    pub(super) fn miss_log(&mut self, records: u64) {
        self.missed.log += records;
    }

    /// Writes an event.
    pub(super) fn event(&mut self, event: Event) {
        let notable = Notable::of(&event.kind);
        let Some(file) = &mut self.file else { return self.miss_events(1) };
        // Before the first state of a file there is nothing that the event could change.
        if self.segment_bytes.0 == 0 {
            return self.miss_events(1);
        }
        file.push(self.encoder.event(event), notable);
    }

    /// Writes a log record, unless it repeats an event: a reader makes it again.
    pub(super) fn log(&mut self, record: LogRecord) {
        let Some(file) = self.file.as_mut().filter(|_| record.target != LIFECYCLE_TARGET) else { return };
        if self.segment_bytes.0 > 0 {
            file.push(self.encoder.log(record), None);
        }
    }

    /// Writes the state of the server at `at`. Begins a new segment or file where it is time for one. Returns the event
    /// with which an outage has begun or ended.
    pub(super) fn state(&mut self, snapshot: &Snapshot, at: u64) -> Option<EventKind> {
        let result = self.try_state(snapshot, at);
        self.written(result, at);
        self.notice.take()
    }

    /// Writes the state. Returns the bytes of the lines after the first state of the segment, which is 0 for that state
    /// itself and without a file.
    fn try_state(&mut self, snapshot: &Snapshot, at: u64) -> io::Result<u64> {
        if self.file.as_ref().is_some_and(|file| file.size() >= self.options.max_bytes / FILES)
            && let Some(full) = self.file.take()
        {
            full.close()?;
            self.retry_at = at;
        }
        if self.file.is_none() {
            if at < self.retry_at && self.retry_at - at <= RETRY_MS {
                return Ok(0);
            }
            self.open(at)?;
            if std::mem::take(&mut self.has_failed) {
                let (dir, missed_events) = (self.options.dir.display().to_string(), self.missed.events);
                self.notice = Some(EventKind::RecordingContinued { dir, missed_events });
            }
        }
        let Some(file) = &mut self.file else { return Ok(0) };
        let (first, later) = self.segment_bytes;
        let is_over =
            |age| age >= MAX_SEGMENT_MS || age >= MIN_SEGMENT_MS && later >= first * MIN_BYTES_PER_STATE;
        // Where the wall clock was set back, a segment begins, because a reader finds them by time.
        if at.checked_sub(self.segment_began).is_none_or(is_over) {
            file.next_segment(at)?;
            self.begin_segment(at);
        }
        let Some(file) = &mut self.file else { return Ok(0) };
        let is_first = self.segment_bytes.0 == 0;
        let mut line = self.encoder.snapshot(snapshot, &Interest::default());
        line.at = Some(at);
        file.push(line, None);
        let bytes = file.write_batch()?;
        if self.missed != Missed::default() {
            let mut line = self.encoder.missed(std::mem::take(&mut self.missed));
            line.at = Some(at);
            file.push(line, None);
        }
        if at.checked_sub(self.flushed_at).is_none_or(|age| age >= FLUSH_MS) {
            self.flushed_at = at;
            file.flush()?;
            // What is flushed is little on an idle server: it may fit into the last block of the file for minutes, and
            // be written to a deleted file for ever.
            file.check_place()?;
            check_space(&self.options.dir)?;
        }
        if is_first {
            self.segment_bytes.0 = bytes;
            return Ok(0);
        }
        Ok(bytes)
    }

    /// Counts what was written; after an error, gives the file up and reports that, once.
    fn written(&mut self, result: io::Result<u64>, at: u64) {
        match result {
            Ok(bytes) => self.segment_bytes.1 += bytes,
            Err(error) => {
                if let Some(file) = self.file.take() {
                    // What fits is readable to its end.
                    _ = file.close();
                }
                self.retry_at = at + RETRY_MS;
                if !std::mem::replace(&mut self.has_failed, true) {
                    let dir = self.options.dir.display().to_string();
                    self.notice = Some(EventKind::RecordingFailed { dir, reason: error.to_string() });
                }
            }
        }
    }

    /// Fails as a write on a full disk does.
    #[cfg(test)]
    pub(super) fn fail_for_test(&mut self, at: u64) {
        self.written(Err(io::ErrorKind::StorageFull.into()), at);
    }

    /// Ends the file.
    pub(super) fn close(mut self) {
        if let Some(file) = self.file.take()
            && let Err(error) = file.close()
        {
            tracing::error!("cannot end the recording in {}: {error}", self.options.dir.display());
        }
    }
}

/// Records a server on a thread of its own, because writing to a disk may block. The server never waits for it: where
/// events come faster than they are written, they are dropped, and the recording says how many.
#[derive(Debug)]
pub struct Recorder {
    /// Dropping it stops the thread.
    stop: mpsc::Sender<()>,
    /// The thread.
    thread: JoinHandle<()>,
}

impl Recorder {
    /// Creates the directory and the first file, and starts the thread.
    ///
    /// # Errors
    /// The directory or the file cannot be created, or the thread cannot be started.
    pub fn start(
        options: RecorderOptions,
        header: FileHeader,
        telemetry: Arc<Telemetry>,
        log: &LogBroadcast,
    ) -> io::Result<Self> {
        let mut writer = RecordWriter::create(options, header, epoch_ms())?;
        let (mut events, mut log) = (telemetry.subscribe(), log.subscribe());
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("recorder".to_owned()).spawn(move || {
            let mut sampler = Sampler::default();
            let report = |notice: Option<EventKind>| _ = notice.map(|event| telemetry.emit(event));
            // Events are written only after a state.
            report(writer.state(sampler.sample(&telemetry, &[]), epoch_ms()));
            loop {
                let is_last = stopped.recv_timeout(STATE_INTERVAL) != Err(RecvTimeoutError::Timeout);
                write_items(&mut writer, &mut events, RecordWriter::event, RecordWriter::miss_events);
                write_items(&mut writer, &mut log, RecordWriter::log, RecordWriter::miss_log);
                report(writer.state(sampler.sample(&telemetry, &[]), epoch_ms()));
                if is_last {
                    break;
                }
            }
            writer.close();
        })?;
        Ok(Self { stop, thread })
    }

    /// Writes what has happened since, and ends the file. Blocks while it is written.
    pub fn stop(self) {
        drop(self.stop);
        // A panic was logged by the panic hook, and what was written is there.
        _ = self.thread.join();
    }
}

/// Writes all events, or log records, that wait, and counts those that were dropped with `miss`.
pub(super) fn write_items<T: Clone>(
    writer: &mut RecordWriter,
    items: &mut broadcast::Receiver<T>,
    write: fn(&mut RecordWriter, T),
    miss: fn(&mut RecordWriter, u64),
) {
    loop {
        match items.try_recv() {
            Ok(item) => write(writer, item),
            Err(TryRecvError::Lagged(missed)) => miss(writer, missed),
            Err(TryRecvError::Empty | TryRecvError::Closed) => return,
        }
    }
}
