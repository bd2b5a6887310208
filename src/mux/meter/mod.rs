#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::limits::{CHUNK_SIZE, MAX_MARKERS, MIN_CHUNK_SIZE, MuxConfig};

/// A marker is due after this long and so many bytes, where the bound holds nothing back. What is little needs no
/// measuring, and a pong wakes both sides.
const MARK_EVERY: (Duration, u64) = (Duration::from_millis(1), 16 * 1024);

/// And not before this part of a round trip has passed: what is known of a long one need not be known to the millisecond.
const MARKS_A_ROUND: u32 = 64;

/// But what the line carries in this part of such a time is marked at once: as much goes out at once as an answer
/// confirms, and what went out at once is answered at once. Bursts of several milliseconds never ended where there were
/// fewer markers.
const MARKS_A_GAP: f64 = 2.0;

/// And so is this part of the bound where it holds data back.
const MARKS_A_BOUND: u64 = 8;

/// Messages may exceed the bound by this part of it.
const SPARED: u64 = 8;

/// How much of the bound is left at least where too much was on the way, as with cubic (RFC 9438): a round trip that was
/// long for another reason must not cost more.
const SHRINK: f64 = 0.7;

/// How long the shortest round trip is believed in under load. After it the channel is let run almost empty for a
/// moment, to see what a round trip takes without what we have put on the way ourselves (BBR's PROBE_RTT).
const BELIEVED: Duration = Duration::from_secs(10);

/// And how long where data queues although no more is on the way than the least: the line is too slow for that, or the
/// queue is not ours, because the path has changed or others fill it. With less on the way it shows which.
const DOUBTED: Duration = Duration::from_secs(1);

/// How much of what is on the way without any queue is left then.
const ALMOST_EMPTY: f64 = 0.75;

/// And it may queue for this part of the shortest round trip, which varies the more the longer it is.
const FAR: u32 = 16;

/// From this rate on, in bytes a second, what waits on the way waits for a processor more than for the line.
const FAST: f64 = 134e6;

/// There so much may always be outstanding: what takes this long, and at least, and at most so many bytes. On loopback one
/// download gained a seventh by 2 MiB instead of 1; 4 MiB are more than the cache holds.
const FAST_FLOOR: (Duration, u64, u64) = (Duration::from_millis(1), 1 << 20, 2 << 20);

/// With how much on the way a channel begins that has others beside it: 50 ms on one of 10 Mbit/s, and doubled in every
/// second round trip on those that are faster. With the 256 KiB of one that is alone, half a second of a download was
/// over before the fast channel was found.
const CAREFUL: u64 = 64 * 1024;

/// What a segment carries on most paths, in bytes.
const SEGMENT: u64 = 1448;

/// How many chunks take the time that data may queue on a channel.
const CHUNKS_A_QUEUE: u32 = 2;

/// Measures a channel from its sending end, and says how much may be on the way.
///
/// Now and then a ping follows the data: a *marker*. Its pong says that all before it was received. (WINDOW frames say
/// less: a slow reader withholds them.) From these come the bytes that are outstanding, the rate at which they arrive,
/// and how long they queue: what a round trip takes beyond the shortest.
///
/// What is outstanding nobody can overtake any more. So there is a bound to it, one that keeps the line busy and no
/// more: data beyond it waits in the mux, where the scheduler decides who goes first. Once in a round trip the bound
/// is looked at anew, as by FAST TCP (Wei et al., 2006): where data queued for longer than the target, it becomes what
/// the line carries in the shortest round trip and most of the target. Where it queued for less than half of that
/// although the bound held some back, the bound grows by what there is room for, and by twice as much each time that
/// this leads to no queue (as in Copa, Arun and Balakrishnan, 2018): a fixed share of what is on the way, which BBR
/// asks for, is a long queue where the round trip is long. What counts is half way between the round's shortest queue
/// and its mean. A task that was woken late is no queue, so that the mean alone kept lines idle; and the shortest alone,
/// as in CoDel (RFC 8289), is that of the moment after such a task, so that it let twice the target queue.
#[derive(Debug)]
pub(super) struct Meter {
    /// How long data may queue.
    target: Duration,
    /// What chunks are whatever is measured.
    fixed: Option<usize>,
    /// A peer that knows no credit may not know pings either: nothing is held back for it.
    measures: bool,
    /// Bytes of data that have gone out so far, and of these, what the peer is known to have.
    sent: u64,
    delivered: u64,
    /// How many had gone out at the last marker.
    marked: u64,
    token: u64,
    /// Those that no answer has come to, oldest first.
    markers: VecDeque<Marker>,
    /// The shortest round trip, and when it was last seen.
    shortest: Option<(Duration, Instant)>,
    latest: Option<Duration>,
    /// In bytes a second.
    rate: Option<f64>,
    /// How many bytes may be outstanding.
    bound: u64,
    /// It began with less than usual, and is not known yet to carry more.
    careful: bool,
    /// How often in a row it has grown; `None` as long as it has never been too large, and doubles.
    steps: Option<u32>,
    emptying: Emptying,
    round: Round,
    /// How many times chunks are halved because much is lost.
    losses: u32,
    /// Bytes sent, and segments sent again, when that was looked at last.
    resent: (u64, u64),
}

/// A ping that stands behind data.
#[derive(Debug, Clone, Copy)]
struct Marker {
    token: u64,
    at: Instant,
    /// What had gone out before it.
    sent: u64,
}

/// Whether the channel is being let run almost empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Emptying {
    No,
    /// Until no more than this is outstanding. The second is what the bound is to be again.
    Until(u64, u64),
    /// That is so, and the answer to this or a later marker tells.
    Asked(u64, u64),
}

/// What was seen since the bound was looked at last. In the first round trip the answers tell of what was before; what
/// they tell in the second is looked at.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// The first marker that tells of it.
    token: u64,
    /// The answer to this one or a later one ends it; `None` in the first round trip.
    last: Option<u64>,
    /// When the second round trip began, and what had been delivered by then.
    since: Instant,
    delivered: u64,
    /// The most that was outstanding.
    peak: u64,
    /// The bound held data back.
    held: bool,
    /// There was nothing to send for a while.
    dry: bool,
    /// The shortest round trip, and all together.
    shortest: Duration,
    total: Duration,
    answers: u32,
}

impl Meter {
    pub(super) fn new(config: &MuxConfig, now: Instant) -> Self {
        Self {
            target: config.target_queueing_delay,
            fixed: config.chunk_size,
            sent: 0,
            delivered: 0,
            marked: 0,
            token: 0,
            markers: VecDeque::new(),
            shortest: None,
            latest: None,
            measures: config.peer_has_flow_control,
            rate: None,
            bound: config.initial_cwnd,
            careful: false,
            steps: None,
            emptying: Emptying::No,
            round: Round::new(1, now),
            losses: 0,
            resent: (0, 0),
        }
    }

    // What is known.

    /// The bytes of data that the peer is not known to have received.
    pub(super) fn outstanding(&self) -> u64 {
        self.sent - self.delivered
    }

    /// How long a round trip takes on the empty channel.
    pub(super) fn shortest_round_trip(&self) -> Option<Duration> {
        self.shortest.map(|(shortest, _)| shortest)
    }

    /// The largest payload of a DATA frame: a power of two that takes the channel half the time that data may queue
    /// at the most.
    pub(super) fn chunk(&self) -> usize {
        self.fixed.unwrap_or_else(|| {
            let first = if self.careful { CAREFUL / 4 } else { CHUNK_SIZE as u64 };
            let most =
                self.rate.map_or(first as f64, |rate| rate * (self.target / CHUNKS_A_QUEUE).as_secs_f64());
            let most = (most as usize >> self.losses).clamp(MIN_CHUNK_SIZE, CHUNK_SIZE);
            1 << most.ilog2()
        })
    }

    /// How long it would take until the peer has `bytes` more that went out now: behind all that is outstanding, and half
    /// a round trip before the answer.
    pub(super) fn delivery(&self, bytes: u64) -> Option<Duration> {
        let (shortest, rate) = (self.shortest_round_trip()?, self.rate?);
        let answered = Duration::from_secs_f64((self.outstanding() + bytes) as f64 / rate).max(shortest);
        Some(answered - shortest / 2)
    }

    /// For how long the oldest ping without an answer has been out.
    pub(super) fn unanswered_for(&self, now: Instant) -> Option<Duration> {
        let oldest = self.markers.front().filter(|_| self.measures)?;
        Some(now.saturating_duration_since(oldest.at))
    }

    /// All that screens show.
    pub(super) fn reading(&self) -> PathStats {
        let queue = self.latest.zip(self.shortest_round_trip());
        PathStats {
            in_flight: self.outstanding(),
            cwnd: self.bound,
            delivery_rate: self.rate,
            min_rtt: self.shortest_round_trip(),
            latest_rtt: self.latest,
            queueing_delay: queue.map(|(latest, shortest)| latest.saturating_sub(shortest)),
            chunk_size: self.chunk(),
        }
    }

    // Sending.

    /// Whether data has to wait.
    pub(super) fn holds(&mut self) -> bool {
        let holds = self.is_full();
        self.round.held |= holds;
        holds
    }

    /// Whether as much is outstanding as helps.
    pub(super) fn is_full(&self) -> bool {
        self.measures && self.outstanding() >= self.bound
    }

    /// Whether a little more than that may be.
    pub(super) fn spares(&self) -> bool {
        // Not more until it is almost empty, or it never would be.
        let bound = if let Emptying::Asked(_, again) = self.emptying { again } else { self.bound };
        self.outstanding() < bound + bound / SPARED
    }

    /// Whether data that waits lets anything go out: itself, or the marker whose answer sets it free.
    pub(super) fn has_output(&self) -> bool {
        !self.is_full() || self.markers.is_empty()
    }

    /// Whether no answer that is under way lets anything go on.
    pub(super) fn owes_marker(&self) -> bool {
        self.is_full() && self.markers.is_empty() && self.sent > self.marked
    }

    /// Whether it carries more than lines do, so that it is the machine that limits it; `None` as long as nobody knows.
    pub(super) fn is_fast(&self) -> Option<bool> {
        self.rate.map(|rate| rate >= FAST)
    }

    /// How long what goes out on the empty channel takes to arrive.
    pub(super) fn one_way(&self) -> Option<Duration> {
        self.shortest_round_trip().map(|round_trip| round_trip / 2)
    }

    /// There are other channels, and this one may be the slowest of them: as long as nothing has gone out, less is enough to
    /// begin with. All that comes behind in a stream would wait for what is on the way here.
    pub(super) fn begin_carefully(&mut self) {
        if self.sent == 0 {
            self.bound = self.bound.min(CAREFUL);
            self.careful = true;
        }
    }

    /// Data has gone out.
    pub(super) fn sent(&mut self, bytes: usize, now: Instant) {
        if self.outstanding() == 0 && self.round.dry {
            // What was seen before the pause says nothing of what comes.
            self.round = Round::new(self.token + 1, now);
        }
        if let Emptying::Until(little, again) = self.emptying
            && self.outstanding() <= little
        {
            self.emptying = Emptying::Asked(self.token + 1, again);
        }
        self.sent += bytes as u64;
        self.round.peak = self.round.peak.max(self.outstanding());
    }

    /// There is no more to send.
    pub(super) fn ran_dry(&mut self) {
        self.round.dry = true;
    }

    /// The next marker, if one is due.
    pub(super) fn poll_marker(&mut self, now: Instant) -> Option<u64> {
        let unmarked = self.sent - self.marked;
        if !self.measures || unmarked == 0 {
            return None;
        }
        let gap = self.latest.map_or(MARK_EVERY.0, |latest| MARK_EVERY.0.max(latest / MARKS_A_ROUND));
        let rested = self.markers.back().is_none_or(|last| now.saturating_duration_since(last.at) >= gap);
        let carried = self.rate.map_or(f64::MAX, |rate| rate * gap.as_secs_f64() / MARKS_A_GAP);
        let (part, many) = (self.bound / MARKS_A_BOUND, (carried as u64).max(self.chunk() as u64));
        let (least, many) = if self.is_full() { (1, many.min(part)) } else { (MARK_EVERY.1.min(part), many) };
        let due = unmarked >= many || (unmarked >= least && rested);
        let due = due && self.markers.len() < MAX_MARKERS;
        due.then(|| self.mark(now))
    }

    /// A ping goes out.
    pub(super) fn mark(&mut self, now: Instant) -> u64 {
        if self.markers.len() >= MAX_MARKERS {
            self.markers.pop_front();
        }
        self.token += 1;
        self.marked = self.sent;
        self.markers.push_back(Marker { token: self.token, at: now, sent: self.sent });
        self.token
    }

    /// The last ping that went out.
    pub(super) fn token(&self) -> u64 {
        self.token
    }

    /// The round trip, if this answers a ping.
    pub(super) fn answered(&mut self, token: u64, now: Instant) -> Option<Duration> {
        let answered = self.markers.iter().position(|marker| marker.token == token)?;
        // The peer answers only the last of those it finds together.
        let marker = self.markers.drain(..=answered).next_back()?;
        let round_trip = now.saturating_duration_since(marker.at);
        self.delivered = marker.sent;
        self.latest = Some(round_trip);
        let asked = matches!(self.emptying, Emptying::Asked(asked, _) if token >= asked);
        if asked || self.shortest.is_none_or(|(shortest, _)| round_trip <= shortest) {
            self.shortest = Some((round_trip, now));
            if let Emptying::Until(_, again) | Emptying::Asked(_, again) =
                std::mem::replace(&mut self.emptying, Emptying::No)
            {
                self.bound = again;
            }
        }
        if self.measures && token >= self.round.token {
            let round = &mut self.round;
            match round.last {
                None => {
                    (round.last, round.since, round.delivered) = (Some(self.token + 1), now, self.delivered)
                }
                Some(last) => {
                    round.shortest = round.shortest.min(round_trip);
                    round.total += round_trip;
                    round.answers += 1;
                    // After the last of what there was, a pause would count as the line's time.
                    if token >= last || (round.dry && self.markers.is_empty()) {
                        self.end_round(now);
                        self.round = Round::new(self.token + 1, now);
                    }
                }
            }
        }
        Some(round_trip)
    }

    fn end_round(&mut self, now: Instant) {
        let round = self.round;
        let Some((shortest, seen)) = self.shortest else { return };
        let round_trip = (round.shortest + round.total / round.answers.max(1)) / 2;
        let elapsed = now.saturating_duration_since(round.since).as_secs_f64();
        let bytes = self.delivered - round.delivered;
        if bytes == 0 || elapsed == 0.0 {
            return;
        }
        let rate = bytes as f64 / elapsed;
        let (queue, target) = (round_trip.saturating_sub(shortest), self.target.max(shortest / FAR));
        self.learn_rate(rate, queue > target);
        if self.emptying != Emptying::No {
            return;
        }
        // On a slow line the smallest chunks take longer than the target.
        let chunks = f64::from(CHUNKS_A_QUEUE) * self.chunk() as f64 / self.rate.unwrap_or(rate);
        let target = target.max(Duration::from_secs_f64(chunks));
        self.adjust_bound(rate, shortest, queue, target);
        let floor = self.floor();
        let believed = if self.bound <= floor && queue > target { DOUBTED } else { BELIEVED };
        self.bound = self.bound.max(floor);
        if round.held && now.saturating_duration_since(seen) >= believed {
            let little = ((rate * shortest.as_secs_f64() * ALMOST_EMPTY) as u64).max(self.chunk() as u64);
            self.emptying = Emptying::Until(little, self.bound);
            self.bound = little.min(self.bound);
        }
    }

    /// Data arrived at this rate in the round that ends, and queued for `longer` than the target or not.
    fn learn_rate(&mut self, rate: f64, longer: bool) {
        // Who has nothing to send shows no line's rate, only that it is no less; unless it was too much before.
        let dry = self.round.dry && !(self.round.held && longer);
        self.rate = match self.rate {
            Some(known) if dry && rate < known => Some(known),
            None if dry => None,
            Some(known) => Some((known + rate) / 2.0),
            None => Some(rate),
        };
    }

    /// Makes the bound what it should be after a round in which data arrived at this rate and queued for so long.
    fn adjust_bound(&mut self, rate: f64, shortest: Duration, queue: Duration, target: Duration) {
        let (round, half) = (self.round, target / 2);
        // What has never been used was not too much.
        if queue > target && round.peak > self.bound / 4 {
            let most = self.bound.min(round.peak) as f64;
            let carried = rate * (shortest + half + half / 2).as_secs_f64();
            let least = if self.steps.is_none() { 0.0 } else { most * SHRINK };
            self.bound = carried.max(least).min(most) as u64;
            self.steps = Some(0);
        } else if round.held && (queue <= half || self.steps.is_none()) {
            // What a marker waits for the bytes that it marks may be more than half of the target.
            let room = (half + half / 2).saturating_sub(queue);
            let step = self.steps.map_or(self.bound, |steps| {
                let step = rate * room.as_secs_f64() * f64::from(1 << steps.min(20));
                (step as u64).min(self.bound / 4)
            });
            self.bound += step;
            self.steps = self.steps.map(|steps| steps + 1);
        } else if round.held {
            self.steps = self.steps.map(|_| 0);
        }
    }

    /// The least that may be outstanding: with less than a few chunks a line idles, and on one that is faster than those
    /// who use it, less takes more turns of theirs.
    fn floor(&self) -> u64 {
        match self.rate {
            Some(rate) if self.is_fast() == Some(true) => {
                let (time, least, most) = FAST_FLOOR;
                ((rate * time.as_secs_f64()) as u64).clamp(least, most)
            }
            None if self.careful => CAREFUL,
            _ => 4 * self.chunk() as u64,
        }
    }

    /// So many segments were sent again on the channel since it began, as its kernel counts them. Chunks are smaller
    /// where it is more than one in fifty: who waits behind one for what was lost waits for less.
    pub(super) fn resent(&mut self, segments: u64) {
        let (sent, resent) = (self.sent - self.resent.0, segments.saturating_sub(self.resent.1));
        if sent >= CHUNK_SIZE as u64 {
            let much = resent * SEGMENT * 50 > sent;
            self.losses = if much { (self.losses + 1).min(2) } else { self.losses.saturating_sub(1) };
            self.resent = (self.sent, segments);
        }
    }
}

impl Round {
    fn new(token: u64, since: Instant) -> Self {
        let (shortest, total) = (Duration::MAX, Duration::ZERO);
        let (peak, held, dry) = (0, false, false);
        Self { token, last: None, since, delivered: 0, peak, held, dry, shortest, total, answers: 0 }
    }
}

/// What the meter of a channel says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathStats {
    /// The bytes of data that the peer is not known to have received.
    pub in_flight: u64,
    /// How many may be.
    pub cwnd: u64,
    /// The rate at which they arrive, in bytes a second, once there were enough to tell.
    pub delivery_rate: Option<f64>,
    /// How long a round trip takes on the empty channel.
    pub min_rtt: Option<Duration>,
    /// How long the latest took.
    pub latest_rtt: Option<Duration>,
    /// How long data queues on the way.
    pub queueing_delay: Option<Duration>,
    /// The largest payload of a DATA frame, in bytes.
    pub chunk_size: usize,
}
