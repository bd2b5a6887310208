//! Decides how many channels a link should have for the data that this side sends.
//!
//! A single TCP connection fills most paths. Three things make more of them worth their cost, which is a port mapping
//! in the NAT each and a larger share of a bottleneck that others use, too:
//!
//! - *Loss.* A lost segment delays all data behind it on its channel. With more channels it delays less, and messages
//!   can avoid the channels of bulk data. So a link whose paths lose segments gets [`LOSSY_CHANNELS`].
//! - *Distance.* Where the RTT is long, slow start takes seconds, and each lost segment stops the growth of its channel
//!   for a round trip. Channels that are opened then come too late, so that a link over such a path has
//!   [`DISTANT_CHANNELS`] from the start.
//! - *A kernel that is slower than the path.* After a loss CUBIC takes seconds to reach the rate of the path again: at
//!   1 % loss and an RTT of 40 ms, a connection has 4 to 6 Mbit/s of 100. Then the number is doubled as long as that
//!   raises the rate of the link.
//!
//! A number that brought nothing is taken back, and tried again after a pause that doubles. Channels that were not
//! needed for a while are closed.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// The fewest channels that the planner wants: streams survive the loss of one of two.
const MIN_CHANNELS: u16 = 2;

/// How many channels a link gets whose paths lose segments: two for bulk data and two for both copies of a message.
const LOSSY_CHANNELS: u16 = 4;

/// How many channels a link gets over a path with a long RTT. At 50 Mbit/s, 200 ms and 3 % loss, four downloads that
/// begin with the tunnel had 0.92 of what four connections carry in their first ten seconds with two channels, and 0.98
/// with four.
const DISTANT_CHANNELS: u16 = 4;

/// From this RTT on it is long: about that of a path to another continent. At 20 Mbit/s, 100 ms and 3 % loss, one
/// download had 15.1 Mbit/s with four channels, which all start slowly, and 16.5 with two.
const DISTANT_RTT: Duration = Duration::from_millis(150);

/// Below this RTT it is long no more. Between the two, a link keeps the channels that it has.
const NEAR_RTT: Duration = Duration::from_millis(120);

/// The share of retransmitted segments from which the paths of the link count as lossy.
const MIN_LOSS_RATE: f64 = 0.0005;

/// The fewest retransmissions, in the time over which the loss rate is averaged, that count as loss: one may be by
/// chance, or caused by reordering.
const MIN_LOSSES: f64 = 1.5;

/// What is left of one lost segment after seconds, in the average of the loss rate.
const MIN_RECENT_LOSS: f64 = 0.5;

/// The time constant of the average of the loss rate. At 0.1 %, 20 Mbit/s lose two segments in it.
const LOSS_AVERAGE: Duration = Duration::from_secs(5);

/// The planner decides after this many round trips.
const RTTS_PER_DECISION: u32 = 2;

/// The shortest time between two decisions.
const MIN_DECISION_INTERVAL: Duration = Duration::from_millis(100);

/// In so many intervals in a row the kernel must have held data back before more channels are tried: slow start does so
/// for a few round trips.
const MIN_LIMITED_INTERVALS: u32 = 2;

/// How many decision intervals new channels have to reach their rate before it is measured.
const SETTLING_INTERVALS: u32 = 2;

/// Over how many decision intervals the rate with the new channels is measured at least.
const MIN_MEASURED_INTERVALS: u32 = 5;

/// Over how many decision intervals the rate is measured before an attempt counts as having brought nothing. A loss of
/// a retransmission stops a channel for a fifth of a second: over half a second, one attempt in four seemed to bring
/// nothing although eight channels had four times the rate of two.
const MAX_MEASURED_INTERVALS: u32 = 25;

/// By how much more channels have to raise the delivery rate of the link to be kept. Twice as many channels double it
/// where the kernel is slower than the path; where it is not, chance alone reaches a few percent.
const MIN_GAIN: f64 = 1.1;

/// How long the peer has to open the channels that were asked for. Connecting takes three round trips; on a path that
/// loses the first packets, TCP repeats them for seconds.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);

/// The pause after the first attempt that brought nothing, which doubles with each one after it.
const MIN_PAUSE: Duration = Duration::from_secs(30);

/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(15 * 60);

/// How long the kernel must not have held data back before channels beyond [`LOSSY_CHANNELS`] are closed. Longer than
/// the pauses between the transfers of someone who browses.
const SURPLUS_AFTER: Duration = Duration::from_secs(30);

/// How long no loss was seen before a link has the fewest channels again.
const LOSSLESS_AFTER: Duration = Duration::from_secs(60);

/// A change of the number of channels that a link should have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChannelPlan {
    /// The number before.
    pub from: u16,
    /// The number from now on.
    pub to: u16,
    /// Why it changes.
    pub reason: PlanReason,
}

/// Why the number of channels of a link changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PlanReason {
    /// The RTT of the paths is long: this is it.
    Distance(Duration),
    /// The paths lose segments: the share of segments that were retransmitted, from 0 to 1.
    Loss(f64),
    /// The kernel's congestion control is slower than the path: the share of segments that were retransmitted.
    TransportLimited(f64),
    /// More channels did not raise the rate: the rate with them relative to the one before.
    NoGain(f64),
    /// The peer did not open the channels in time.
    NotOpened,
    /// Fewer channels have been enough for a while.
    NotNeeded,
}

impl fmt::Display for ChannelPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {} channels: {}", self.from, self.to, self.reason)
    }
}

impl fmt::Display for PlanReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Distance(rtt) => write!(f, "an RTT of {} ms", rtt.as_millis()),
            Self::Loss(rate) => write!(f, "loss {}", percent(*rate)),
            Self::TransportLimited(rate) => {
                write!(f, "TCP is slower than the path at {} loss", percent(*rate))
            }
            Self::NoGain(gain) => write!(f, "no gain from more, {:.2} of the rate", gain),
            Self::NotOpened => f.write_str("no more were opened"),
            Self::NotNeeded => f.write_str("no more are needed"),
        }
    }
}

/// Formats a share as a percentage with two significant digits, such as `1.0 %` or `0.12 %`.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 1.0 { format!("{percent:.1} %") } else { format!("{percent:.2} %") }
}

/// What happened on one channel between two reports of its kernel.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ChannelReport {
    /// Bytes that the peer's kernel has received.
    pub(super) delivered: u64,
    /// Data segments that were sent, retransmissions included.
    pub(super) sent_segments: u64,
    /// Segments that were retransmitted. Not counted while the queue of the bottleneck is long: then others, or this
    /// channel, have overflown it, and more channels would do so, too.
    pub(super) lost_segments: u64,
    /// Whether data is queued.
    pub(super) is_backlogged: bool,
    /// Whether data is queued that only the kernel's congestion window holds back.
    pub(super) is_transport_limited: bool,
}

/// What the planner needs to know of a link.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlannedLink {
    /// How many channels it has, without those that are being closed.
    pub(super) channels: u16,
    /// The most channels that it may have.
    pub(super) max_channels: u16,
    /// The minimum RTT of its channels.
    pub(super) min_rtt: Duration,
}

/// Decides how many channels a link should have for the data that this side sends, from the reports of the kernel about
/// its channels. Without reports, on loopback and on other systems than Linux, it wants the fewest.
#[derive(Debug)]
pub(super) struct ChannelPlanner {
    /// How many channels the link should have.
    wanted: u16,
    /// Whether the RTT of the paths is long.
    is_distant: bool,
    /// The segments sent and lost lately.
    loss: LossAverage,
    /// The reports since the last decision.
    interval: ReportInterval,
    /// In how many intervals in a row the kernel has held data back.
    limited_intervals: u32,
    /// The delivery rate of the link in bytes per second, averaged over some intervals in which data was sent; `None`
    /// before the first.
    rate: Option<f64>,
    /// The attempt with more channels that is not decided yet.
    attempt: Option<GrowthAttempt>,
    /// When losses were last seen; `None` before the first.
    lossy_at: Option<Instant>,
    /// When the kernel last held data back on a lossy path; `None` before the first time.
    limited_at: Option<Instant>,
    /// How long the next pause after an attempt that brings nothing is.
    next_pause: Duration,
    /// When the next attempt to raise the rate may be made; `None` for at any time.
    paused_until: Option<Instant>,
    /// Until when no channels are asked for, because the peer has not opened those of the last attempt.
    unopened_until: Option<Instant>,
}

/// The reports between two decisions.
#[derive(Debug)]
struct ReportInterval {
    /// When it began; `None` before the first decision.
    since: Option<Instant>,
    /// Bytes that the peer's kernel has received on all channels.
    delivered: u64,
    /// How many reports were made.
    reports: u32,
    /// In how many of these the kernel held data back.
    limited_reports: u32,
    /// In how many of these data was queued.
    backlogged_reports: u32,
}

impl ReportInterval {
    /// Creates an interval without reports.
    fn new(since: Option<Instant>) -> Self {
        Self { since, delivered: 0, reports: 0, limited_reports: 0, backlogged_reports: 0 }
    }

    /// Returns whether this number of reports is at least half of all.
    fn is_majority(&self, reports: u32) -> bool {
        self.reports > 0 && 2 * reports >= self.reports
    }
}

/// An attempt to raise the rate of the link with more channels.
#[derive(Debug)]
struct GrowthAttempt {
    /// The number of channels before.
    from: u16,
    /// The delivery rate before, in bytes per second; `None` if nothing was sent.
    rate_before: Option<f64>,
    /// When the channels were asked for.
    started_at: Instant,
    /// For how many intervals the link has had the channels.
    intervals: u32,
    /// In how many of the measured intervals data was queued.
    backlogged_intervals: u32,
    /// The bytes delivered in the measured intervals, and the time that they took in seconds.
    measured: (u64, f64),
}

/// The segments that were sent and lost lately, as an average that forgets exponentially.
#[derive(Debug, Default)]
struct LossAverage {
    /// Segments sent.
    sent: f64,
    /// Segments lost.
    lost: f64,
}

impl LossAverage {
    /// Lets the segments of the past count less, for the time that has passed.
    fn decay(&mut self, elapsed: Duration) {
        let left = (-elapsed.as_secs_f64() / LOSS_AVERAGE.as_secs_f64()).exp();
        self.sent *= left;
        self.lost *= left;
    }

    /// Returns the share of segments that were lost lately; 0 if they were too few to tell.
    fn rate(&self) -> f64 {
        if self.lost < MIN_LOSSES { 0.0 } else { self.lost / self.sent }
    }
}

/// Returns how many channels a link should have in any case over a path with this RTT.
pub fn min_channels(rtt: Duration) -> u16 {
    if rtt >= DISTANT_RTT { DISTANT_CHANNELS } else { MIN_CHANNELS }
}

impl ChannelPlanner {
    /// Creates the planner of a link that starts with the fewest channels.
    pub(super) fn new() -> Self {
        Self {
            wanted: MIN_CHANNELS,
            is_distant: false,
            loss: LossAverage::default(),
            interval: ReportInterval::new(None),
            limited_intervals: 0,
            rate: None,
            attempt: None,
            lossy_at: None,
            limited_at: None,
            next_pause: MIN_PAUSE,
            paused_until: None,
            unopened_until: None,
        }
    }

    /// Returns how many channels the link should have for the data that this side sends.
    pub(super) fn wanted(&self) -> u16 {
        self.wanted
    }

    /// Returns the share of segments that were lost in the last seconds, from 0 to 1; 0 if they were too few to tell.
    pub(super) fn loss_rate(&self) -> f64 {
        self.loss.rate()
    }

    /// Returns whether the RTT of the paths is long, and at least one segment was lost in the last seconds.
    pub(super) fn is_distant_and_lossy(&self) -> bool {
        self.is_distant && self.loss.lost >= MIN_RECENT_LOSS
    }

    /// Records what happened on a channel since its last report.
    pub(super) fn record(&mut self, report: ChannelReport) {
        self.interval.delivered += report.delivered;
        self.interval.reports += 1;
        self.interval.limited_reports += u32::from(report.is_transport_limited);
        self.interval.backlogged_reports += u32::from(report.is_backlogged);
        self.loss.sent += report.sent_segments as f64;
        self.loss.lost += report.lost_segments as f64;
    }

    /// Returns whether enough time may have passed since the last decision for another one.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let since = self.interval.since;
        since.is_none_or(|since| now.saturating_duration_since(since) >= MIN_DECISION_INTERVAL)
    }

    /// Returns whether [`decide`](Self::decide) has evaluated the reports at `now`, and a new interval of them has
    /// begun.
    pub(super) fn has_begun_interval(&self, now: Instant) -> bool {
        self.interval.since == Some(now)
    }

    /// Decides whether the link should have another number of channels, if enough time has passed since the last
    /// decision. Returns the change, if there is one.
    pub(super) fn decide(&mut self, link: PlannedLink, now: Instant) -> Option<ChannelPlan> {
        let elapsed = now.saturating_duration_since(*self.interval.since.get_or_insert(now));
        self.is_distant = link.min_rtt >= if self.is_distant { NEAR_RTT } else { DISTANT_RTT };
        if self.is_distant && self.wanted < DISTANT_CHANNELS.min(link.max_channels) && self.attempt.is_none()
        {
            // At once: the next transfer may be the first one.
            let to = DISTANT_CHANNELS.min(link.max_channels);
            return self.change(to, PlanReason::Distance(link.min_rtt));
        }
        if elapsed < MIN_DECISION_INTERVAL.max(link.min_rtt * RTTS_PER_DECISION) {
            return None;
        }
        let interval = std::mem::replace(&mut self.interval, ReportInterval::new(Some(now)));
        self.loss.decay(elapsed);
        let loss_rate = self.loss.rate();
        let is_limited = interval.is_majority(interval.limited_reports);
        self.limited_intervals = if is_limited { self.limited_intervals + 1 } else { 0 };
        if interval.delivered > 0 {
            if loss_rate >= MIN_LOSS_RATE {
                self.lossy_at = Some(now);
            }
            if is_limited && loss_rate > 0.0 {
                self.limited_at = Some(now);
            }
            let rate = interval.delivered as f64 / elapsed.as_secs_f64();
            if self.attempt.is_none() {
                self.rate = Some(self.rate.map_or(rate, |known| (7.0 * known + rate) / 8.0));
            }
        }
        let floor = self.floor(now).min(link.max_channels);
        if let Some(attempt) = self.attempt.take() {
            return self.judge(attempt, &interval, elapsed, floor, link, now);
        }
        let is_past = |until: Option<Instant>| until.is_none_or(|until| now >= until);
        if self.wanted < floor && is_past(self.unopened_until) {
            return self.begin_attempt(floor, PlanReason::Loss(loss_rate), now);
        }
        let may_attempt = is_past(self.paused_until)
            && is_past(self.unopened_until)
            && self.wanted < link.max_channels
            && self.limited_intervals >= MIN_LIMITED_INTERVALS
            && loss_rate > 0.0;
        if may_attempt {
            let to = (2 * self.wanted).min(link.max_channels);
            return self.begin_attempt(to, PlanReason::TransportLimited(loss_rate), now);
        }
        let is_surplus = self.limited_at.is_none_or(|at| now.saturating_duration_since(at) >= SURPLUS_AFTER);
        if self.wanted > floor && is_surplus {
            return self.change(floor, PlanReason::NotNeeded);
        }
        None
    }

    /// Returns the number of channels that the link should have in any case.
    fn floor(&self, now: Instant) -> u16 {
        let is_lossy = self.lossy_at.is_some_and(|at| now.saturating_duration_since(at) < LOSSLESS_AFTER);
        match (is_lossy, self.is_distant) {
            (true, _) => LOSSY_CHANNELS,
            (false, true) => DISTANT_CHANNELS,
            (false, false) => MIN_CHANNELS,
        }
    }

    /// Asks for more channels, whose effect will be measured.
    fn begin_attempt(&mut self, to: u16, reason: PlanReason, now: Instant) -> Option<ChannelPlan> {
        self.attempt = Some(GrowthAttempt {
            from: self.wanted,
            rate_before: self.rate,
            started_at: now,
            intervals: 0,
            backlogged_intervals: 0,
            measured: (0, 0.0),
        });
        self.change(to, reason)
    }

    /// Continues an attempt with the interval that ends, which took `elapsed`. Takes it back if the channels were not
    /// opened, or did not raise the rate although data was waiting; at least `floor` channels are kept.
    fn judge(
        &mut self,
        mut attempt: GrowthAttempt,
        interval: &ReportInterval,
        elapsed: Duration,
        floor: u16,
        link: PlannedLink,
        now: Instant,
    ) -> Option<ChannelPlan> {
        if attempt.intervals == 0 && link.channels < self.wanted {
            if now.saturating_duration_since(attempt.started_at) < OPEN_TIMEOUT {
                self.attempt = Some(attempt);
                return None;
            }
            self.unopened_until = Some(now + self.take_pause());
            return self.change(attempt.from, PlanReason::NotOpened);
        }
        attempt.intervals += 1;
        if attempt.intervals > SETTLING_INTERVALS {
            attempt.measured.0 += interval.delivered;
            attempt.measured.1 += elapsed.as_secs_f64();
            attempt.backlogged_intervals += u32::from(interval.is_majority(interval.backlogged_reports));
        }
        let measured_intervals = attempt.intervals.saturating_sub(SETTLING_INTERVALS);
        if measured_intervals < MIN_MEASURED_INTERVALS {
            self.attempt = Some(attempt);
            return None;
        }
        let (delivered, seconds) = attempt.measured;
        let rate = delivered as f64 / seconds;
        let rate_before = attempt.rate_before.unwrap_or(0.0);
        let to = attempt.from.max(floor);
        let has_gain = rate >= rate_before * MIN_GAIN;
        // If the sender ran out of data, the attempt has shown nothing, and the number is not needed for long.
        let had_data = 2 * attempt.backlogged_intervals >= measured_intervals;
        let may_be_taken_back = to < self.wanted && had_data && !has_gain;
        if may_be_taken_back && measured_intervals < MAX_MEASURED_INTERVALS {
            self.attempt = Some(attempt);
            return None;
        }
        self.rate = Some(rate);
        self.limited_intervals = 0;
        if has_gain {
            self.next_pause = MIN_PAUSE;
        }
        if !may_be_taken_back {
            return None;
        }
        self.paused_until = Some(now + self.take_pause());
        self.change(to, PlanReason::NoGain(rate / rate_before))
    }

    /// Returns the length of the next pause, and doubles that of the one after it.
    fn take_pause(&mut self) -> Duration {
        let longer = (self.next_pause * 2).min(MAX_PAUSE);
        std::mem::replace(&mut self.next_pause, longer)
    }

    /// Changes the number of channels. Returns the change, or `None` if it is the same.
    fn change(&mut self, to: u16, reason: PlanReason) -> Option<ChannelPlan> {
        let from = std::mem::replace(&mut self.wanted, to);
        (from != to).then_some(ChannelPlan { from, to, reason })
    }
}

#[cfg(test)]
mod tests;
