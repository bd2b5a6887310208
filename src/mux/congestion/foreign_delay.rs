//! Tells the delay that a channel causes by its own data from the delay that it cannot avoid.

use std::time::{Duration, Instant};

/// How far the congestion window must have shrunk, as a share, before its effect is judged after [`MIN_ROUNDS`].
const JUDGED_CWND: f64 = 0.85;

/// How many rounds the window shrinks before its effect is judged. Another connection that has just started takes its
/// share of the rate in fewer.
const MIN_ROUNDS: u32 = 6;

/// A window that has shrunk to this share is judged at once.
const JUDGED_AT_ONCE_CWND: f64 = 0.5;

/// The share of the earlier window that is restored: what the other connections left may be less than before.
const RESTORED_CWND: f64 = 0.75;

/// If the delivery rate has fallen to this share or less meanwhile, the window was not too large.
const FOREIGN_RATE: f64 = 0.9;

/// How long the first foreign delay is valid. Afterwards the channel tries again to get rid of it.
const FIRST_LIFETIME: Duration = Duration::from_secs(5);

/// The longest time between two such attempts.
const MAX_LIFETIME: Duration = Duration::from_secs(60);

/// The part of the delay on a channel's path that a smaller congestion window of this channel does not remove: the
/// queue of other connections that keep it full, radio links and busy hosts that answer late, a longer route.
///
/// A window that is too large fills the queue, so that with a smaller one the path delivers as much with less delay. If
/// it delivers less and the delay remains, the queue is not that of this channel, and a window that keeps shrinking
/// would get nearly nothing (Copa has a competitive mode for that).
#[derive(Debug, Default)]
pub(super) struct ForeignDelay {
    /// The foreign delay, and until when it is valid; `None` if none is known.
    known: Option<(Duration, Instant)>,
    /// For how long the next foreign delay is valid; zero stands for [`FIRST_LIFETIME`].
    lifetime: Duration,
    /// The rounds in which data queued for longer than the target; `None` after a round without a queue.
    trial: Option<ShrinkTrial>,
}

/// Rounds with a queueing delay above the target, in which the window shrinks.
#[derive(Debug, Clone, Copy)]
struct ShrinkTrial {
    /// The delivery rate, in bytes per second, at the beginning. That of the first round is in part from before the
    /// queue, so it is that of the second round; `None` before.
    rate: Option<f64>,
    /// The congestion window at the beginning, in bytes.
    cwnd: u64,
    /// How many rounds it has lasted.
    rounds: u32,
}

impl ForeignDelay {
    /// Returns the part of the delay that the channel does not cause.
    pub(super) fn delay(&self, now: Instant) -> Duration {
        self.known.filter(|&(_, until)| now < until).map_or(Duration::ZERO, |(delay, _)| delay)
    }

    /// Records a round with this `delay` above the minimum RTT, this delivery rate in bytes per second and this
    /// congestion window. Returns the window to restore if the channel has just turned out not to be the cause of the
    /// delay.
    pub(super) fn detect(
        &mut self,
        delay: Duration,
        target: Duration,
        rate: f64,
        cwnd: u64,
        now: Instant,
    ) -> Option<u64> {
        let own = delay.saturating_sub(self.delay(now));
        if own <= target {
            if own <= target / 2 {
                self.trial = None;
            }
            if delay <= target {
                self.lifetime = FIRST_LIFETIME;
            }
            return None;
        }
        let trial = match &mut self.trial {
            None => {
                self.trial = Some(ShrinkTrial { rate: None, cwnd, rounds: 1 });
                return None;
            }
            Some(trial @ ShrinkTrial { rate: None, .. }) => {
                *trial = ShrinkTrial { rate: Some(rate), cwnd, rounds: 2 };
                return None;
            }
            Some(trial) => {
                trial.rounds += 1;
                *trial
            }
        };
        let judged = if trial.rounds < MIN_ROUNDS { JUDGED_AT_ONCE_CWND } else { JUDGED_CWND };
        let has_shrunk = cwnd as f64 <= trial.cwnd as f64 * judged;
        let has_slowed = trial.rate.is_some_and(|before| rate <= before * FOREIGN_RATE);
        if !(has_shrunk && has_slowed) {
            return None;
        }
        self.trial = None;
        let lifetime = self.lifetime.max(FIRST_LIFETIME);
        self.known = Some((delay, now + lifetime));
        self.lifetime = (lifetime * 2).min(MAX_LIFETIME);
        Some(cwnd.max((trial.cwnd as f64 * RESTORED_CWND) as u64))
    }
}
