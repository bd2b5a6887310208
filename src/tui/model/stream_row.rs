//! One row of the streams table. Its parts are kept in separate lists, because most samples touch only the counters.

use std::{
    net::SocketAddr,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{RateTrend, Steered};
use crate::{
    ids::{ChannelId, Priority, ProxyId, RateLimits, ServiceKey, StreamKey, clean},
    telemetry::{Content, EndReason, Progress, Shortfall, StreamPhase, StreamSnapshot},
};

/// How much a rate has to change before its row is sorted again, relative to the larger of the old and the new rate.
const RANK_STEP: f32 = 0.25;
/// Rates below this many bytes per second count as equal when rows are sorted.
const RANK_FLOOR: f32 = 1024.0;
/// The time for which the cursor stays on a stream that has ended, if the operator has not moved it there.
pub(crate) const LINGER: Duration = Duration::from_secs(3);

/// Identifies one row for as long as the program runs. Unlike a stream key, it is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RowId {
    /// The index of the row in the lists of [`StreamRows`](super::StreamRows). A later row reuses it.
    pub(crate) slot: u32,
    /// The number of the row in the order of opening, from 1; never reused.
    pub(crate) serial: u64,
}

/// When and why a stream ended.
#[derive(Debug, Clone)]
pub(crate) struct StreamEnd {
    /// When the stream ended, as the cockpit noticed it.
    pub(crate) at: Instant,
    /// Why the stream ended; `None` if the event was missed: snapshots do not contain the reason.
    pub(crate) reason: Option<EndReason>,
    /// How far the transfer had come that the stream cut short; `None` if none is known.
    pub(crate) shortfall: Option<Shortfall>,
}

impl StreamEnd {
    /// Returns the state of the ended stream as one lower-case word of at most seven characters.
    pub(crate) fn state_name(&self) -> &'static str {
        match (&self.reason, self.shortfall) {
            (None | Some(EndReason::Finished | EndReason::Shutdown), _) => "ended",
            (Some(EndReason::Killed | EndReason::ProxyKicked), _) => "killed",
            (Some(EndReason::IdleTimeout), _) => "idle",
            (Some(EndReason::UserClosed | EndReason::UserAborted), _) => "aborted",
            (Some(EndReason::UserSocketError), Some(_)) => "aborted",
            (Some(EndReason::UserSocketError), None) => "reset",
            (Some(_), Some(_)) | (Some(EndReason::Short), None) => "short",
            (Some(_), None) => "failed",
        }
    }

    /// Returns why the stream ended, with how far its transfer had come; `None` if the event was missed.
    pub(crate) fn describe(&self) -> Option<String> {
        Some(self.reason.as_ref()?.describe(self.shortfall.as_ref()))
    }

    /// Returns whether the stream is known to have failed.
    pub(crate) fn is_failure(&self) -> bool {
        self.reason.as_ref().is_some_and(EndReason::is_failure)
    }
}

/// A row of the table: one stream, open or ended.
///
/// Its parts are in separate lists. A sample updates 10,000 adjacent [`StreamCounters`] in a fraction of a
/// millisecond; when they were stored with the other attributes, most of that time was spent on cache misses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamRow<'a> {
    /// Byte counters and rates, updated by each sample.
    pub(crate) counters: &'a StreamCounters,
    /// The sort key and the rates by which the row is sorted.
    pub(crate) rank: &'a SortRank,
    /// The attributes, to which the row dereferences.
    stream: &'a StreamAttributes,
}

impl Deref for StreamRow<'_> {
    type Target = StreamAttributes;

    fn deref(&self) -> &StreamAttributes {
        self.stream
    }
}

/// The part of a row that each sample updates: one cache line.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct StreamCounters {
    /// The serial number of the row in this slot; 0 where the slot is free.
    pub(crate) serial: u64,
    /// The number of the stream in snapshots plus one, which distinguishes it from another stream with the same key;
    /// 0 before the first snapshot and after the end.
    number: u64,
    /// The number of the last sample that contained the stream, or during which its event arrived.
    last_sample: u64,
    /// Bytes forwarded to the user since the stream opened.
    pub(crate) down: u64,
    /// Bytes forwarded to the target since the stream opened.
    pub(crate) up: u64,
    /// Bytes per second forwarded to the user, over the last second.
    pub(crate) down_rate: f32,
    /// Bytes per second forwarded to the target, over the last second.
    pub(crate) up_rate: f32,
    /// The highest `down_rate` so far, in bytes per second.
    pub(crate) down_peak: f32,
    /// The highest `up_rate` so far, in bytes per second.
    pub(crate) up_peak: f32,
    /// The value of [`StreamSnapshot::changes`] as of which the attributes of the row were copied.
    changes: u32,
    /// Whether attributes of the row were changed ahead of the server: the next sample overwrites them.
    stale: bool,
    /// Whether the stream is open.
    live: bool,
}

/// The part of a row that is updated once per second and by which rows are sorted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SortRank {
    /// The serial number of the row while it is sorted among the open ones; 0 once it is below them.
    pub(crate) serial: u64,
    /// The number by which the row is sorted, the smallest first.
    pub(crate) sort_value: u64,
    /// The bytes per second to the user by which the row is sorted. Updated once per second and only by large
    /// changes, so that rows keep their places.
    pub(crate) down: f32,
    /// The bytes per second to the target by which the row is sorted; updated like `down`.
    pub(crate) up: f32,
}

/// The attributes of a stream, which change rarely.
#[derive(Debug, Clone)]
pub(crate) struct StreamAttributes {
    /// The rate limits that the operator set for this stream alone.
    pub(crate) limits: RateLimits,
    /// How far the stream has come: waiting for a proxy, connecting to the target, open, half-closed or ended.
    pub(crate) phase: StreamPhase,
    /// Whether the operator has paused the stream.
    pub(crate) paused: bool,
    /// Whether the stream's proxy has lost all channels and may reconnect within the grace period.
    pub(crate) is_in_grace_period: bool,
    /// The stream's share of a congested channel relative to other streams.
    pub(crate) priority: Priority,
    /// Whether a command to kill the stream is queued or awaits its reply.
    pub(crate) kill_pending: bool,
    /// What keeps pause, priority and limits as the operator has set them, although a snapshot says otherwise.
    pub(crate) steered: Option<Steered>,
    /// The stream key.
    pub(crate) key: StreamKey,
    /// Whether the stream has ended and its row has been moved below the open streams.
    pub(crate) is_below_open: bool,
    /// The IP address and port of the user's connection.
    pub(crate) addr: SocketAddr,
    /// The public port that the user connected to, and its group.
    pub(crate) service: ServiceKey,
    /// The proxy that the stream is, or was last, assigned to; `None` before the first assignment.
    pub(crate) proxy: Option<ProxyId>,
    /// The primary channel of the stream, or its last one; `None` before the first.
    pub(crate) channel: Option<ChannelId>,
    /// The protocol that was detected in the stream's first bytes; `None` before detection has finished.
    pub(crate) content: Option<Arc<Content>>,
    /// The size of the download, where the response of the target declares it; else `None`.
    pub(crate) download: Option<Progress>,
    /// When the stream opened.
    pub(crate) since: Instant,
    /// When and why the stream ended; `None` while it is open.
    pub(crate) ended: Option<StreamEnd>,
    /// The stream's rates in each of the last seconds, for the sparkline.
    pub(crate) trend: RateTrend,
}

/// The value of [`StreamCounters::number`] of a stream that no snapshot has contained, or that has ended.
const NO_NUMBER: u64 = 0;

impl StreamCounters {
    /// Creates the counters of a row whose stream has just opened, during the sample with this number.
    pub(super) fn new(serial: u64, sample: u64) -> Self {
        Self { serial, last_sample: sample, stale: true, live: true, ..Self::default() }
    }

    /// Returns whether the stream of these counters is open.
    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    /// Returns whether these counters belong to the stream of `snapshot`, by its number in snapshots.
    pub(super) fn belongs_to(&self, snapshot: &StreamSnapshot) -> bool {
        self.number == snapshot.number + 1
    }

    /// Returns the number that snapshots give the stream; `None` once it has ended, and before the first snapshot
    /// that contains it.
    pub(super) fn snapshot_number(&self) -> Option<u64> {
        self.number.checked_sub(1)
    }

    /// Returns whether these counters may belong to the stream of `snapshot`: they do, or no snapshot has contained
    /// their stream yet. `false` means that `snapshot` is about a later stream with the same key.
    pub(super) fn may_belong_to(&self, snapshot: &StreamSnapshot) -> bool {
        self.number == NO_NUMBER || self.belongs_to(snapshot)
    }

    /// Records that these counters belong to the stream of `snapshot`, which has been open for `age`, and raises the
    /// peak rates to its mean rates.
    pub(super) fn assign_to(&mut self, snapshot: &StreamSnapshot, age: Duration) {
        (self.number, self.last_sample) = (snapshot.number + 1, 0);
        // Earlier bytes are in no rate, but their mean rate is a lower bound of the peak.
        let seconds = age.as_secs_f32().max(0.1);
        self.down_peak = self.down_peak.max(snapshot.down as f32 / seconds);
        self.up_peak = self.up_peak.max(snapshot.up as f32 / seconds);
    }

    /// Records that this sample contains the stream. Returns whether the previous sample did not.
    pub(super) fn mark_sampled(&mut self, sample: u64) -> bool {
        let is_first = self.last_sample + 1 != sample;
        self.last_sample = sample;
        is_first
    }

    /// Returns whether neither this sample nor the previous one contained the stream, although it counts as open: it
    /// has ended, and its event was lost.
    pub(super) fn is_missing(&self, sample: u64) -> bool {
        self.live && self.last_sample + 1 < sample
    }

    /// Copies byte totals from a snapshot and takes over the rates `(down, up)`. Returns whether the attributes have
    /// to be copied too.
    pub(super) fn sample(&mut self, snapshot: &StreamSnapshot, (down, up): (f32, f32)) -> bool {
        (self.down, self.up) = (snapshot.down, snapshot.up);
        (self.down_rate, self.up_rate) = (down, up);
        self.down_peak = self.down_peak.max(down);
        self.up_peak = self.up_peak.max(up);
        let more = self.stale || self.changes != snapshot.changes;
        (self.changes, self.stale) = (snapshot.changes, false);
        more
    }

    /// Records that attributes of the row were changed ahead of the server, so that the next sample copies them all.
    pub(super) fn mark_stale(&mut self) {
        self.stale = true;
    }

    /// Records the end of the stream: rates become 0, the byte totals stay.
    pub(super) fn end(&mut self) {
        (self.live, self.number) = (false, NO_NUMBER);
        (self.down_rate, self.up_rate) = (0.0, 0.0);
    }
}

impl SortRank {
    /// Copies the rates of the row into the rates by which it is sorted, if they have changed by more than
    /// [`RANK_STEP`]. Called once per second.
    pub(super) fn update(&mut self, counters: &StreamCounters) {
        update_sort_rate(&mut self.down, counters.down_rate);
        update_sort_rate(&mut self.up, counters.up_rate);
    }
}

impl StreamAttributes {
    /// Creates the attributes of a stream that has just opened and waits for a proxy.
    pub(super) fn new(key: StreamKey, addr: SocketAddr, service: ServiceKey, since: Instant) -> Self {
        Self {
            key,
            addr,
            service,
            proxy: None,
            channel: None,
            phase: StreamPhase::Waiting,
            paused: false,
            is_in_grace_period: false,
            priority: Priority::default(),
            limits: RateLimits::default(),
            content: None,
            download: None,
            since,
            ended: None,
            kill_pending: false,
            steered: None,
            trend: RateTrend::default(),
            is_below_open: false,
        }
    }

    /// Returns whether the stream is open: no end of it has been recorded.
    pub(crate) fn is_live(&self) -> bool {
        self.ended.is_none()
    }

    /// Copies the attributes of the stream from a snapshot. Returns whether some were kept instead, so that the next
    /// snapshot has to be copied as well.
    pub(super) fn apply(&mut self, snapshot: &StreamSnapshot, now: Instant) -> bool {
        self.proxy = snapshot.proxy.or(self.proxy);
        self.channel = snapshot.channel.or(self.channel);
        self.is_in_grace_period = snapshot.proxy.is_some() && snapshot.channel.is_none();
        self.content.clone_from(&snapshot.content);
        self.download = snapshot.progress;
        self.phase = snapshot.phase;
        let steerable = (snapshot.paused, snapshot.priority, snapshot.limits);
        let is_equal = steerable == (self.paused, self.priority, self.limits);
        self.steered = self.steered.filter(|steered| steered.outlasts_snapshot(is_equal, now));
        if self.steered.is_none() {
            (self.paused, self.priority, self.limits) = steerable;
        }
        self.steered.is_some()
    }

    /// Records when and why the stream ended, and how far the transfer had come that it cut short.
    pub(super) fn end(&mut self, at: Instant, reason: Option<(EndReason, Option<Shortfall>)>) {
        self.phase = StreamPhase::Ended;
        self.is_in_grace_period = false;
        self.kill_pending = false;
        // Reasons may quote a peer: they are sanitized, and bounded, because 1,000 ended rows are kept.
        let (reason, shortfall) = reason.unzip();
        let reason = reason.map(|reason| match reason {
            EndReason::TargetConnectFailed(why) => EndReason::TargetConnectFailed(clean(&why, 80)),
            EndReason::Protocol(why) => EndReason::Protocol(clean(&why, 80)),
            EndReason::ProxyReset(why) => EndReason::ProxyReset(clean(&why, 80)),
            other => other,
        });
        self.ended = Some(StreamEnd { at, reason, shortfall: shortfall.flatten() });
    }

    /// Returns how long the stream has been open; of an ended stream, how long it was.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.ended.as_ref().map_or(now, |ended| ended.at).saturating_duration_since(self.since)
    }

    /// Returns whether the stream ended at least [`LINGER`] ago.
    pub(crate) fn ended_long_ago(&self, now: Instant) -> bool {
        self.ended.as_ref().is_some_and(|ended| now.saturating_duration_since(ended.at) >= LINGER)
    }
}

impl<'a> StreamRow<'a> {
    /// Combines the three parts of one row.
    pub(super) fn new(
        counters: &'a StreamCounters,
        rank: &'a SortRank,
        stream: &'a StreamAttributes,
    ) -> Self {
        Self { counters, rank, stream }
    }

    /// Returns whether the stream is open: no end of it has been recorded.
    pub(crate) fn is_live(self) -> bool {
        self.stream.is_live()
    }

    /// Returns the bytes of the stream in both directions together.
    pub(crate) fn bytes(self) -> u64 {
        self.counters.down.saturating_add(self.counters.up)
    }

    /// Returns the part of the download that has been forwarded, 0 to 1; `None` if its size is unknown.
    pub(crate) fn progress(self) -> Option<f64> {
        self.download.map(|download| download.share(self.counters.down))
    }
}

/// Sets `rank`, the rate by which a row is sorted, to the row's present `rate` in bytes per second, if the two differ
/// by more than [`RANK_STEP`].
fn update_sort_rate(rank: &mut f32, rate: f32) {
    if (*rank - rate).abs() > RANK_STEP * rank.max(rate).max(RANK_FLOOR) {
        *rank = rate;
    }
}
