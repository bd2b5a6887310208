//! A client that watches the server: a snapshot, then what has changed, as many lines as it has granted.
//!
//! Without credit nothing is sampled and nothing is made; events and log records wait in their bounded channels, which
//! count what they drop. So a client that falls behind costs nothing, learns how much it has missed, and gets the final
//! values with the next line.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{
        OwnedSemaphorePermit,
        broadcast::{self, error::TryRecvError},
    },
    time::{Interval, MissedTickBehavior},
};

use crate::{
    feed::{Encoder, Interest, Line, Missed, Pace},
    telemetry::{Event, LogRecord, RecentFailures, Sampler, Telemetry},
};

/// The shortest interval between two snapshots: that of the cockpit.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// The longest interval between two snapshots.
const MAX_INTERVAL: Duration = Duration::from_secs(60);

/// A client that watches the server.
#[derive(Debug)]
pub(super) struct Watcher {
    /// The id of the request, which each line repeats.
    pub(super) id: u64,
    /// How many lines may still be sent.
    pub(super) credit: u64,
    /// When the next snapshot is due.
    ticks: Interval,
    /// What makes the lines; on a thread for blocking tasks while it does.
    source: Option<Box<WatchSource>>,
    /// What the client shows.
    interest: Interest,
    /// Counts the watcher among those that there may be.
    _permit: OwnedSemaphorePermit,
}

/// What makes the lines of a watcher.
#[derive(Debug)]
struct WatchSource {
    /// The id of the request.
    id: u64,
    /// The server.
    telemetry: Arc<Telemetry>,
    /// Takes the snapshots.
    sampler: Sampler,
    /// Turns them into lines.
    encoder: Encoder,
    /// The events since the request.
    events: broadcast::Receiver<Event>,
    /// The log records since the request; `None` if the client wants none.
    log: Option<broadcast::Receiver<LogRecord>>,
    /// The refusals and failures before the request, for the first line; `None` after it.
    recent: Option<Box<RecentFailures>>,
    /// What was dropped and is not reported yet.
    missed: Missed,
    /// Whether the last line was a state.
    was_state: bool,
}

impl Watcher {
    /// Creates a watcher. Its first line is the whole state.
    pub(super) fn new(
        id: u64,
        credit: u64,
        interval: Duration,
        interest: Interest,
        telemetry: Arc<Telemetry>,
        log: Option<broadcast::Receiver<LogRecord>>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let mut ticks = tokio::time::interval(interval.clamp(MIN_INTERVAL, MAX_INTERVAL));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let source = WatchSource {
            id,
            // Before the first snapshot: what begins between the two is in both.
            events: telemetry.subscribe(),
            recent: Some(Box::new(telemetry.recent_failures())),
            telemetry,
            sampler: Sampler::default(),
            encoder: Encoder::new(Pace::SCREEN),
            log,
            missed: Missed::default(),
            was_state: false,
        };
        Self {
            id,
            credit,
            ticks,
            source: Some(Box::new(source)),
            interest: interest.bounded(),
            _permit: permit,
        }
    }

    /// Replaces what the client shows.
    pub(super) fn set_interest(&mut self, interest: Interest) {
        self.interest = interest.bounded();
    }

    /// Waits until lines are due; forever without credit. Cancel-safe.
    pub(super) async fn due(&mut self) {
        if self.credit == 0 {
            std::future::pending().await
        }
        self.ticks.tick().await;
    }

    /// Returns the lines that are due, as many as the client has granted: first the whole state with the refusals and
    /// failures before it, later the events and log records since the last call, then the state; `None` after a panic.
    /// Not cancel-safe.
    pub(super) async fn lines(&mut self) -> Option<Vec<u8>> {
        let mut source = self.source.take()?;
        let (credit, interest) = (self.credit, self.interest.clone());
        // Sampling and encoding ten thousand streams takes milliseconds, and the first snapshot tens.
        let made = tokio::task::spawn_blocking(move || {
            let lines = source.lines(credit, &interest);
            (source, lines)
        });
        let (source, (lines, count)) = made.await.ok()?;
        self.source = Some(source);
        self.credit -= count;
        Some(lines)
    }
}

impl WatchSource {
    /// Makes at most `credit` lines, which is at least one. Returns them and their number.
    fn lines(&mut self, credit: u64, interest: &Interest) -> (Vec<u8>, u64) {
        let (mut lines, mut count) = (Vec::new(), 0);
        // What happened before comes before what happens.
        if let Some(recent) = self.recent.take() {
            self.append_state(&mut lines, interest, Some(recent));
            return (lines, 1);
        }
        // One is kept for the state, which makes good for all that was missed.
        while count + 1 < credit {
            let line = match self.next_item() {
                Some(line) => line,
                None => break,
            };
            append(&mut lines, self.id, line);
            count += 1;
        }
        // A client that grants one line at a time gets state and events in turn.
        if credit == 1
            && std::mem::take(&mut self.was_state)
            && let Some(line) = self.next_item()
        {
            append(&mut lines, self.id, line);
            return (lines, 1);
        }
        self.append_state(&mut lines, interest, None);
        (lines, count + 1)
    }

    /// Appends the line of the state, with the refusals and failures before it.
    fn append_state(
        &mut self,
        lines: &mut Vec<u8>,
        interest: &Interest,
        recent: Option<Box<RecentFailures>>,
    ) {
        self.was_state = true;
        let snapshot = self.sampler.sample(&self.telemetry, &interest.selected);
        append(lines, self.id, self.encoder.snapshot(snapshot, interest).with_recent(recent));
    }

    /// Returns the line of the next event or log record, or of how many were dropped; `None` if there is none now.
    fn next_item(&mut self) -> Option<Line> {
        match self.events.try_recv() {
            Ok(event) => return Some(self.encoder.event(event)),
            Err(TryRecvError::Lagged(events)) => self.missed.events += events,
            Err(TryRecvError::Empty | TryRecvError::Closed) => {}
        }
        match self.log.as_mut().map(broadcast::Receiver::try_recv) {
            Some(Ok(record)) => return Some(self.encoder.log(record)),
            Some(Err(TryRecvError::Lagged(records))) => self.missed.log += records,
            Some(Err(TryRecvError::Empty | TryRecvError::Closed)) | None => {}
        }
        let missed = std::mem::take(&mut self.missed);
        (missed != Missed::default()).then(|| self.encoder.missed(missed))
    }
}

/// Appends a line.
fn append(lines: &mut Vec<u8>, id: u64, mut line: Line) {
    line.id = Some(id);
    // Fails only for maps whose keys are no text, which no line has.
    lines.extend(line.to_json().unwrap_or_default());
    lines.push(b'\n');
}
