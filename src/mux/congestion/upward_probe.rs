//! Finds out by trying whether a path whose delay is not quite the minimum could deliver more.

use std::time::Duration;

use super::other_flows::OtherFlows;

/// How many times the step is doubled at most.
const MAX_DOUBLINGS: u32 = 3;

/// The delay that the first step of a probe causes on a full path: less cannot be told from chance, and every message
/// that passes waits for more. Each success doubles the next step.
const FIRST_STEP: Duration = Duration::from_millis(4);

/// How many rounds are waited after the first failed probe; twice as many after each further one.
const MIN_PAUSE: u32 = 4;

/// The longest pause between two probes, in rounds.
const MAX_PAUSE: u32 = 64;

/// Enlarges the congestion window on trial while the delay is between half of the target and the target.
///
/// There, a busy host or a radio link delays acknowledgements by as much as a short queue would. On a full path, each
/// byte beyond what it holds queues: a larger window causes a delay that can be computed. If that does not appear, the
/// path was not full, and the window stays.
#[derive(Debug, Default)]
pub(super) struct UpwardProbe {
    /// The probe whose effect the next round shows; `None` if there is none.
    running: Option<GrowthTrial>,
    /// How many rounds are left before the next probe.
    pause: u32,
    /// The length of the pause after the next failed probe, in rounds; zero stands for [`MIN_PAUSE`].
    next_pause: u32,
    /// How many probes in a row have succeeded.
    successes: u32,
}

/// A window that was enlarged on trial.
#[derive(Debug, Clone, Copy)]
struct GrowthTrial {
    /// The congestion window before, in bytes.
    cwnd: u64,
    /// The delay above the minimum RTT before.
    delay: Duration,
    /// By how much the delay rises if the path is full.
    expected: Duration,
}

impl UpwardProbe {
    /// Records a round with this congestion window and this `delay` above the minimum RTT. `is_candidate` tells whether
    /// the window held data back while the delay was short, but not short enough to simply let it grow. Returns the
    /// window of the next round if a probe begins or has failed.
    ///
    /// The delay is caused at a bottleneck that `others` use, too: the step is as large for a small share of it as for
    /// all of it, so that shares become equal, and the channels of a link together try as often as one.
    pub(super) fn on_round(
        &mut self,
        cwnd: u64,
        others: OtherFlows,
        delay: Duration,
        min_rtt: Duration,
        is_candidate: bool,
    ) -> Option<u64> {
        if let Some(trial) = self.running.take() {
            // The queue grows in the course of the round, whose mean is about half of it.
            if delay >= trial.delay + trial.expected / 3 {
                self.pause = self.next_pause.max(MIN_PAUSE) * (others.count as u32 + 1);
                self.next_pause = (self.next_pause.max(MIN_PAUSE) * 2).min(MAX_PAUSE);
                self.successes = 0;
                return Some(trial.cwnd.min(cwnd));
            }
            self.next_pause = 0;
            self.successes += 1;
        }
        if !is_candidate {
            return None;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        self.pause = others.count as u32 * MIN_PAUSE;
        let doublings = self.successes.min(MAX_DOUBLINGS);
        let expected = FIRST_STEP * (1 << doublings);
        self.running = Some(GrowthTrial { cwnd, delay, expected });
        let share = expected.as_secs_f64() / min_rtt.as_secs_f64().max(0.001);
        Some(cwnd + ((cwnd + others.in_flight) as f64 * share.min(1.0)) as u64)
    }
}
