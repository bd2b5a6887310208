use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::Trend;
use crate::{
    ids::{ChannelId, Priority, ProxyId, RateLimits, ServiceKey, StreamKey, clean},
    telemetry::{Carries, EndReason, Progress, StreamPhase, StreamSnapshot},
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
pub(crate) struct Ended {
    pub(crate) at: Instant,
    /// Nothing where the event was missed and the counters did not tell either.
    pub(crate) reason: Option<EndReason>,
}

/// One stream, alive or ended, as plain numbers. What each sample touches stands first, side by side.
#[derive(Debug, Clone)]
#[repr(C)]
pub(crate) struct Row {
    pub(crate) serial: u64,
    /// The snapshot it was last in, or during which it was told of.
    pub(crate) seen: u64,
    /// The snapshot whose figures it noted last.
    pub(crate) noted: u64,
    /// What tells this stream from another one with the same key, once a snapshot told it.
    number: Option<u64>,
    pub(crate) down: u64,
    pub(crate) up: u64,
    pub(crate) down_rate: f32,
    pub(crate) up_rate: f32,
    /// The highest rates so far.
    pub(crate) down_peak: f32,
    pub(crate) up_peak: f32,
    pub(crate) limits: RateLimits,
    changes: Option<u32>,
    pub(crate) phase: StreamPhase,
    /// The operator holds it.
    pub(crate) paused: bool,
    /// Its proxy has lost every channel, and may come back.
    pub(crate) waits: bool,
    pub(crate) priority: Priority,
    /// An order to kill it is on its way.
    pub(crate) killing: bool,
    pub(crate) key: StreamKey,
    /// Where it belongs in the table.
    pub(crate) place: u64,
    /// It ended and went below the open ones.
    pub(crate) sunk: bool,
    pub(crate) addr: SocketAddr,
    pub(crate) service: ServiceKey,
    pub(crate) proxy: Option<ProxyId>,
    pub(crate) channel: Option<ChannelId>,
    /// What it carries, as far as that is known.
    pub(crate) carries: Option<Arc<Carries>>,
    pub(crate) download: Option<Progress>,
    pub(crate) since: Instant,
    pub(crate) ended: Option<Ended>,
    /// The rates by which it is sorted: they move in steps and once a second, so that rows do not dance.
    pub(crate) down_rank: f32,
    pub(crate) up_rank: f32,
    pub(crate) trend: Trend,
}

impl Row {
    pub(crate) fn new(
        key: StreamKey,
        serial: u64,
        addr: SocketAddr,
        service: ServiceKey,
        since: Instant,
    ) -> Self {
        Self {
            key,
            serial,
            addr,
            service,
            proxy: None,
            channel: None,
            phase: StreamPhase::Waiting,
            paused: false,
            waits: false,
            priority: Priority::default(),
            limits: RateLimits::default(),
            carries: None,
            down: 0,
            up: 0,
            download: None,
            since,
            ended: None,
            killing: false,
            down_rate: 0.0,
            up_rate: 0.0,
            down_peak: 0.0,
            up_peak: 0.0,
            down_rank: 0.0,
            up_rank: 0.0,
            trend: Trend::default(),
            place: 0,
            sunk: false,
            seen: 0,
            noted: 0,
            number: None,
            changes: None,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.ended.is_none()
    }

    /// Whether `snapshot` speaks of this stream, and not of a later one with the same key.
    pub(crate) fn is_of(&self, snapshot: &StreamSnapshot) -> bool {
        self.number.is_none_or(|number| number == snapshot.number)
    }

    /// The same for sure, and it is open.
    pub(crate) fn is_now(&self, snapshot: &StreamSnapshot) -> bool {
        self.number == Some(snapshot.number) && self.phase != StreamPhase::Ended
    }

    /// Takes what a snapshot says, and the rates that follow from it.
    pub(crate) fn sample(&mut self, snapshot: &StreamSnapshot, (down, up): (f32, f32)) {
        if self.number.is_none() {
            self.number = Some(snapshot.number);
            self.since = snapshot.info.since;
        }
        if self.changes != Some(snapshot.changes) {
            self.changes = Some(snapshot.changes);
            self.proxy = snapshot.proxy.as_ref().map(|proxy| proxy.id).or(self.proxy);
            self.channel = snapshot.channel.or(self.channel);
            self.waits = snapshot.proxy.is_some() && snapshot.channel.is_none();
            self.carries.clone_from(&snapshot.carries);
            self.download = snapshot.progress;
        }
        // These the operator may have changed on screen before the server did, or refused to.
        (self.phase, self.paused, self.priority) = (snapshot.phase, snapshot.paused, snapshot.priority);
        self.limits = snapshot.limits;
        (self.down, self.up) = (snapshot.down, snapshot.up);
        (self.down_rate, self.up_rate) = (down, up);
        self.down_peak = self.down_peak.max(down);
        self.up_peak = self.up_peak.max(up);
    }

    /// It is over.
    pub(crate) fn end(&mut self, at: Instant, reason: Option<EndReason>) {
        self.phase = StreamPhase::Ended;
        self.waits = false;
        self.killing = false;
        (self.down_rate, self.up_rate) = (0.0, 0.0);
        // Reasons may quote a peer; and a history of a thousand rows must not keep a thousand essays.
        let reason = reason.map(|reason| match reason {
            EndReason::TargetRefused(why) => EndReason::TargetRefused(clean(&why, 80)),
            EndReason::Protocol(why) => EndReason::Protocol(clean(&why, 80)),
            other => other,
        });
        self.ended = Some(Ended { at, reason });
    }

    /// A second has passed: the trend moves on, and so do the ranks if the rates moved enough.
    pub(crate) fn second(&mut self) {
        if self.is_live() {
            self.trend.push(self.down_rate, self.up_rate);
            step(&mut self.down_rank, self.down_rate);
            step(&mut self.up_rank, self.up_rate);
        }
    }

    /// Bytes both ways.
    pub(crate) fn bytes(&self) -> u64 {
        self.down.saturating_add(self.up)
    }

    /// How long it has lived, or did.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.ended.as_ref().map_or(now, |ended| ended.at).saturating_duration_since(self.since)
    }

    /// How much of the download has arrived, where its size is known.
    pub(crate) fn progress(&self) -> Option<f64> {
        self.download.map(|download| download.share(self.down))
    }

    /// Whether it ended long enough ago to have been seen.
    pub(crate) fn has_settled(&self, now: Instant) -> bool {
        self.ended.as_ref().is_some_and(|ended| now.saturating_duration_since(ended.at) >= LINGER)
    }
}

fn step(rank: &mut f32, rate: f32) {
    if (*rank - rate).abs() > RANK_STEP * rank.max(rate).max(RANK_FLOOR) {
        *rank = rate;
    }
}
