use std::{
    net::SocketAddr,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use super::RateTrend;
use crate::{
    ids::{ChannelId, Priority, ProxyId, RateLimits, ServiceKey, StreamKey, clean},
    telemetry::{Content, EndReason, Progress, StreamPhase, StreamSnapshot},
};

/// How far a rate has to move before its row may change places, as a share of the larger one.
const RANK_STEP: f32 = 0.25;
/// Below this many bytes a second, rates are the same to an operator.
const RANK_FLOOR: f32 = 1024.0;
/// How long the selection stays on a stream that ended, where the operator has not chosen it.
pub(crate) const LINGER: Duration = Duration::from_secs(3);

/// Names one row for as long as the program runs. A key may come back with another stream; this never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RowId {
    pub(crate) slot: u32,
    pub(crate) serial: u64,
}

/// How a stream ended.
#[derive(Debug, Clone)]
pub(crate) struct StreamEnd {
    pub(crate) at: Instant,
    /// Nothing where the event was missed and the counters did not tell either.
    pub(crate) reason: Option<EndReason>,
}

/// One stream, alive or ended: a row of the table.
///
/// Its parts lie in lists of their own. A sample goes through ten thousand [`StreamCounters`] in a fraction of a millisecond
/// where they lie side by side; among everything else that is known of a stream most of it was waiting for memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamRow<'a> {
    pub(crate) figures: &'a StreamCounters,
    pub(crate) rank: &'a SortRank,
    stream: &'a StreamAttributes,
}

impl Deref for StreamRow<'_> {
    type Target = StreamAttributes;

    fn deref(&self) -> &StreamAttributes {
        self.stream
    }
}

/// What each sample touches: one cache line.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct StreamCounters {
    /// Of the row that has this place; 0 where none does.
    pub(crate) serial: u64,
    /// What tells this stream from another one with the same key, once a snapshot told it; 0 before and once it ended.
    number: u64,
    /// The snapshot it was last in, or during which it was told of.
    noted: u64,
    pub(crate) down: u64,
    pub(crate) up: u64,
    pub(crate) down_rate: f32,
    pub(crate) up_rate: f32,
    /// The highest rates so far.
    pub(crate) down_peak: f32,
    pub(crate) up_peak: f32,
    /// Of the stream's [`StreamSnapshot::changes`] those that the row has taken.
    changes: u32,
    /// The operator may have changed on screen what the server did not, or refused to.
    stale: bool,
    live: bool,
}

/// What is needed once a second, and to sort.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SortRank {
    /// Of the row that stands among the open ones; 0 where none does.
    pub(crate) serial: u64,
    /// Where it belongs in the table.
    pub(crate) place: u64,
    /// The rates by which it is sorted: they move in steps and once a second, so that rows do not dance.
    pub(crate) down: f32,
    pub(crate) up: f32,
}

/// What is known of a stream besides.
#[derive(Debug, Clone)]
pub(crate) struct StreamAttributes {
    pub(crate) limits: RateLimits,
    pub(crate) phase: StreamPhase,
    /// The operator holds it.
    pub(crate) paused: bool,
    /// Its proxy has lost every channel, and may come back.
    pub(crate) waits: bool,
    pub(crate) priority: Priority,
    /// An order to kill it is on its way.
    pub(crate) killing: bool,
    pub(crate) key: StreamKey,
    /// It ended and went below the open ones.
    pub(crate) sunk: bool,
    pub(crate) addr: SocketAddr,
    pub(crate) service: ServiceKey,
    pub(crate) proxy: Option<ProxyId>,
    pub(crate) channel: Option<ChannelId>,
    /// What it carries, as far as that is known.
    pub(crate) content: Option<Arc<Content>>,
    pub(crate) download: Option<Progress>,
    pub(crate) since: Instant,
    pub(crate) ended: Option<StreamEnd>,
    pub(crate) trend: RateTrend,
}

/// No stream: the numbers of those that come begin at 1 here.
const NO_NUMBER: u64 = 0;

impl StreamCounters {
    /// Those of a row that begins, during this snapshot.
    pub(super) fn begun(serial: u64, sample: u64) -> Self {
        Self { serial, noted: sample, stale: true, live: true, ..Self::default() }
    }

    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    /// Whether these are the figures of this stream for sure, and it is open.
    pub(super) fn is_now(&self, snapshot: &StreamSnapshot) -> bool {
        self.number == snapshot.number + 1
    }

    /// The serial number that snapshots give the stream, while it is open and known.
    pub(super) fn snapshot_number(&self) -> Option<u64> {
        self.number.checked_sub(1)
    }

    /// Whether `snapshot` may speak of this stream, and not of a later one with the same key.
    pub(super) fn may_be(&self, snapshot: &StreamSnapshot) -> bool {
        self.number == NO_NUMBER || self.is_now(snapshot)
    }

    /// This is the stream they are about.
    pub(super) fn be(&mut self, snapshot: &StreamSnapshot, age: Duration) {
        (self.number, self.noted) = (snapshot.number + 1, 0);
        // What it has carried so far is in no rate; but no mean is above the peak, and that does not fall.
        let seconds = age.as_secs_f32().max(0.1);
        self.down_peak = self.down_peak.max(snapshot.down as f32 / seconds);
        self.up_peak = self.up_peak.max(snapshot.up as f32 / seconds);
    }

    /// A snapshot names it; says whether the one before did not.
    pub(super) fn is_named(&mut self, sample: u64) -> bool {
        let anew = self.noted + 1 != sample;
        self.noted = sample;
        anew
    }

    /// Whether neither this snapshot nor the one before named it.
    pub(super) fn is_missing(&self, sample: u64) -> bool {
        self.live && self.noted + 1 < sample
    }

    /// Takes what a snapshot says, and the rates that follow from it; says whether there is more to take.
    pub(super) fn sample(&mut self, snapshot: &StreamSnapshot, (down, up): (f32, f32)) -> bool {
        (self.down, self.up) = (snapshot.down, snapshot.up);
        (self.down_rate, self.up_rate) = (down, up);
        self.down_peak = self.down_peak.max(down);
        self.up_peak = self.up_peak.max(up);
        let more = self.stale || self.changes != snapshot.changes;
        (self.changes, self.stale) = (snapshot.changes, false);
        more
    }

    /// The row was changed without the server.
    pub(super) fn distrust(&mut self) {
        self.stale = true;
    }

    /// The stream is over.
    pub(super) fn end(&mut self) {
        (self.live, self.number) = (false, NO_NUMBER);
        (self.down_rate, self.up_rate) = (0.0, 0.0);
    }
}

impl SortRank {
    /// A second has passed: it moves if the rates moved enough.
    pub(super) fn second(&mut self, figures: &StreamCounters) {
        step(&mut self.down, figures.down_rate);
        step(&mut self.up, figures.up_rate);
    }
}

impl StreamAttributes {
    pub(super) fn new(key: StreamKey, addr: SocketAddr, service: ServiceKey, since: Instant) -> Self {
        Self {
            key,
            addr,
            service,
            proxy: None,
            channel: None,
            phase: StreamPhase::Waiting,
            paused: false,
            waits: false,
            priority: Priority::default(),
            limits: RateLimits::default(),
            content: None,
            download: None,
            since,
            ended: None,
            killing: false,
            trend: RateTrend::default(),
            sunk: false,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.ended.is_none()
    }

    /// Takes what a snapshot says besides figures.
    pub(super) fn take(&mut self, snapshot: &StreamSnapshot) {
        self.proxy = snapshot.proxy.or(self.proxy);
        self.channel = snapshot.channel.or(self.channel);
        self.waits = snapshot.proxy.is_some() && snapshot.channel.is_none();
        self.content.clone_from(&snapshot.content);
        self.download = snapshot.progress;
        (self.phase, self.paused, self.priority) = (snapshot.phase, snapshot.paused, snapshot.priority);
        self.limits = snapshot.limits;
    }

    /// It is over.
    pub(super) fn end(&mut self, at: Instant, reason: Option<EndReason>) {
        self.phase = StreamPhase::Ended;
        self.waits = false;
        self.killing = false;
        // Reasons may quote a peer; and a history of a thousand rows must not keep a thousand essays.
        let reason = reason.map(|reason| match reason {
            EndReason::TargetConnectFailed(why) => EndReason::TargetConnectFailed(clean(&why, 80)),
            EndReason::Protocol(why) => EndReason::Protocol(clean(&why, 80)),
            other => other,
        });
        self.ended = Some(StreamEnd { at, reason });
    }

    /// How long it has lived, or did.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.ended.as_ref().map_or(now, |ended| ended.at).saturating_duration_since(self.since)
    }

    /// Whether it ended long enough ago to have been seen.
    pub(crate) fn has_settled(&self, now: Instant) -> bool {
        self.ended.as_ref().is_some_and(|ended| now.saturating_duration_since(ended.at) >= LINGER)
    }
}

impl<'a> StreamRow<'a> {
    pub(super) fn new(figures: &'a StreamCounters, rank: &'a SortRank, stream: &'a StreamAttributes) -> Self {
        Self { figures, rank, stream }
    }

    pub(crate) fn is_live(self) -> bool {
        self.stream.is_live()
    }

    /// Bytes both ways.
    pub(crate) fn bytes(self) -> u64 {
        self.figures.down.saturating_add(self.figures.up)
    }

    /// How much of the download has arrived, where its size is known.
    pub(crate) fn progress(self) -> Option<f64> {
        self.download.map(|download| download.share(self.figures.down))
    }
}

fn step(rank: &mut f32, rate: f32) {
    if (*rank - rate).abs() > RANK_STEP * rank.max(rate).max(RANK_FLOOR) {
        *rank = rate;
    }
}
