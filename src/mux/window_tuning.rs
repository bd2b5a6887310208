//! Auto-tuning of a stream's receive window, as `tcp_moderate_rcvbuf` does for a TCP receiver.

use std::time::{Duration, Instant};

/// The minimum time over which a rate is measured: below it, the rate is noise.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// The factor by which a doubled window must raise the rate to be kept.
const MIN_GAIN: f64 = 1.25;

/// How many bandwidth-delay products the window of a striped stream holds: one is in flight, one waits in the
/// reassembly buffer for data of a slower channel, and as much again lets other channels deliver more. Twice that,
/// because a lost segment of any channel delays what all deliver: with four, channels in slow start waited for credit.
const STRIPED_BDPS: f64 = 8.0;

/// The minimum RTT from which the network takes most of it, and not the wake-up of tasks: then the bandwidth-delay
/// product is known, and the window is computed from it. With trials, which must raise the rate by a quarter, one
/// stream got four fifths of 100 Mbit/s over 40 ms.
const LONG_RTT: Duration = Duration::from_millis(5);

/// The factor by which the window grows where the RTT is long and half of it has arrived within one RTT. With losses,
/// what has arrived waits for some RTTs until it can be consumed, so that a window which doubled took seconds to grow.
const EARLY_GROWTH: u32 = 4;

/// How many bandwidth-delay products the window holds where the RTT is long: one is in flight, one or two wait in the
/// reassembly of TCP while lost segments are retransmitted, and one lets the rate rise. With two, as at TCP receivers
/// that do not count what waits there, a path with losses was never filled.
const LONG_RTT_BDPS: f64 = 4.0;

/// If more than this fraction of the window waits for the reader, the reader is what the peer waits for.
const MAX_UNREAD_FRACTION: u64 = 4;

/// How long the window is kept after a trial of a larger one has failed for the first time. It doubles with each
/// failure.
const INITIAL_BACKOFF: Duration = Duration::from_secs(1);

/// The longest time for which the window is kept after failed trials.
const MAX_BACKOFF: Duration = Duration::from_secs(16);

/// Up to this size, in bytes, a window is doubled without a trial if the reader is [fast](FAST_READER).
const MAX_UNTRIED_WINDOW: u32 = 2 << 20;

/// A reader is fast if it takes a whole window in less than this time: then it waits for the next acknowledgement
/// with every window.
const FAST_READER: Duration = Duration::from_millis(2);

/// How far a stream has been received.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReceivedFlow {
    /// The offset up to which all data has arrived.
    pub(super) received: u64,
    /// How many bytes of it the reader has not consumed.
    pub(super) unread: u64,
    /// The offset up to which the peer may send.
    pub(super) limit: u64,
    /// The receive window in bytes.
    pub(super) window: u32,
}

/// Finds the receive window of one stream. While the RTT is short, it doubles the window on trial, and keeps the
/// larger one only if the reader gets data faster.
///
/// Twice the bandwidth-delay product was tried there first. A short RTT is mostly the time that tasks take to be
/// woken, so that the window grew without need, and the data in flight no longer fitted the cache. Only bytes that
/// have left this process count: the window of a slow reader never grows.
#[derive(Debug, Default)]
pub(super) struct WindowTuner {
    /// When the current measurement began; `None` before the first byte.
    measured_since: Option<Instant>,
    /// Bytes that the reader has consumed since the current measurement began.
    consumed: u64,
    /// The offset up to which data had been received when the current measurement began.
    received_before: u64,
    /// The running trial of a doubled window; `None` if there is none.
    trial: Option<Trial>,
    /// How long the window is kept after the last trial failed; zero after a success.
    backoff: Duration,
    /// No trial of a larger window begins before this time.
    backoff_until: Option<Instant>,
    /// Whether data of the stream has arrived on several channels.
    is_striped: bool,
    /// The credit that the peer has known for a round trip; used where the RTT is long.
    known_credit: KnownCredit,
}

/// What the larger window of a trial is compared with.
#[derive(Debug)]
struct Trial {
    /// The rate, in bytes per second, before the window was doubled.
    rate_before: f64,
    /// The window, in bytes, before it was doubled.
    window_before: u32,
}

impl WindowTuner {
    /// Records that data arrived on a channel other than the stream's primary one. A larger window may then raise the
    /// rate only after a while, when the congestion windows of the other channels have grown: no trial is long
    /// enough.
    pub(super) fn set_striped(&mut self) {
        self.is_striped = true;
    }

    /// Records that the reader has consumed `bytes` more of a stream that has been received so far. Returns the new
    /// receive window in bytes if it should grow, or shrink again after a failed trial.
    pub(super) fn on_consumed(
        &mut self,
        bytes: u64,
        flow: ReceivedFlow,
        min_rtt: Duration,
        now: Instant,
    ) -> Option<u32> {
        let ReceivedFlow { received, window, .. } = flow;
        let Some(since) = self.measured_since else {
            (self.measured_since, self.received_before) = (Some(now), received);
            return None;
        };
        self.consumed += bytes;
        let elapsed = now.saturating_duration_since(since);
        // Where the RTT is long, the window has to grow faster than TCP's slow start, which doubles in each RTT.
        let is_long = min_rtt >= LONG_RTT;
        let arrived = self.consumed.min(received - self.received_before);
        // Each retransmission adds a round trip in which nothing arrives, so that on a lossy path the rate alone asks
        // for no more than a window that is too small already.
        if is_long && self.known_credit.is_used_up(flow, min_rtt, now) {
            (self.measured_since, self.received_before, self.consumed) = (Some(now), received, 0);
            return Some(window.saturating_mul(2));
        }
        if is_long && elapsed < min_rtt && arrived >= u64::from(window / 2) && elapsed >= MIN_INTERVAL {
            (self.measured_since, self.received_before, self.consumed) = (Some(now), received, 0);
            let enough = arrived as f64 / elapsed.as_secs_f64() * min_rtt.as_secs_f64() * LONG_RTT_BDPS;
            return Some(window.saturating_mul(EARLY_GROWTH).min(enough as u32));
        }
        let interval = if is_long { min_rtt } else { min_rtt * 2 };
        if elapsed < interval.max(MIN_INTERVAL) {
            return None;
        }
        let rate = self.consumed as f64 / elapsed.as_secs_f64();
        // Data that had waited for the reader tells nothing about the path.
        let path_rate = self.consumed.min(received - self.received_before) as f64 / elapsed.as_secs_f64();
        (self.measured_since, self.received_before) = (Some(now), received);
        self.consumed = 0;
        if window < MAX_UNTRIED_WINDOW && rate * FAST_READER.as_secs_f64() > f64::from(window) {
            self.trial = None;
            return Some(window * 2);
        }
        if self.is_striped || min_rtt >= LONG_RTT {
            self.trial = None;
            let bdps = if self.is_striped { STRIPED_BDPS } else { LONG_RTT_BDPS };
            let wanted = (path_rate * min_rtt.as_secs_f64() * bdps) as u32;
            return (wanted > window).then_some(wanted);
        }
        // A window that could not grow, because of its maximum or the budget, was not tried.
        match self.trial.take().filter(|trial| trial.window_before < window) {
            Some(trial) if rate < trial.rate_before * MIN_GAIN => {
                self.backoff = (self.backoff * 2).clamp(INITIAL_BACKOFF, MAX_BACKOFF);
                self.backoff_until = Some(now + self.backoff);
                return Some(trial.window_before);
            }
            Some(_) => self.backoff = Duration::ZERO,
            None if self.backoff_until.is_some_and(|until| now < until) => return None,
            None => {}
        }
        // A reader that takes far less than the window in an RTT does not need a larger one.
        if rate * min_rtt.as_secs_f64() < f64::from(window) / 8.0 {
            return None;
        }
        self.trial = Some(Trial { rate_before: rate, window_before: window });
        Some(window.saturating_mul(2))
    }
}

/// The credit that the peer has known for a round trip.
#[derive(Debug, Default)]
struct KnownCredit {
    /// A flow-control limit that has been in force for a round trip; `None` if none has.
    limit: Option<u64>,
    /// The next limit, and since when it has been in force at least; `None` before the first byte.
    next: Option<(u64, Instant)>,
    /// The receive window, in bytes, with which both were granted.
    window: u32,
}

impl KnownCredit {
    /// Records that the stream has been received so far. Returns whether the peer has used up all credit that it had
    /// known for a round trip, and not because of the reader: it may have waited for more. After that, and after a
    /// change of the window, only what is granted from then on counts.
    fn is_used_up(&mut self, flow: ReceivedFlow, min_rtt: Duration, now: Instant) -> bool {
        let is_reader_slow = flow.unread > u64::from(flow.window) / MAX_UNREAD_FRACTION;
        if is_reader_slow || flow.window != self.window {
            *self = Self { window: flow.window, ..Self::default() };
            return false;
        }
        let (next, since) = *self.next.get_or_insert((flow.limit, now));
        if now.saturating_duration_since(since) >= min_rtt {
            (self.limit, self.next) = (Some(next), Some((flow.limit, now)));
        }
        let is_used_up = self.limit.is_some_and(|limit| flow.received >= limit);
        if is_used_up {
            *self = Self::default();
        }
        is_used_up
    }
}

#[cfg(test)]
mod tests;
