//! Tests of several channels of a link that share the bottleneck of a simulated path.

use std::time::Duration;

use super::{
    MS,
    transport_based::{Kernel, PATHS, SimulatedTcp},
};
use crate::mux::congestion::OtherFlows;

/// The interval at which the channels are told of each other.
const REPORT_INTERVAL: u32 = 100;

/// Channels of one link over one path.
struct SimulatedLink {
    channels: Vec<SimulatedTcp>,
    steps: u32,
}

impl SimulatedLink {
    fn new(channels: usize, mbit: f64, rtt: Duration, loss: f64) -> Self {
        let mut link = Self { channels: vec![SimulatedTcp::new(Kernel::Bbr, mbit, rtt, loss)], steps: 0 };
        link.add_channels(channels - 1);
        link
    }

    /// Opens more channels now.
    fn add_channels(&mut self, count: usize) {
        let SimulatedTcp { rate, base_rtt, loss, now, .. } = self.channels[0];
        for seed in 0..count as u64 {
            let new = SimulatedTcp::new(Kernel::Bbr, rate * 8e-6, base_rtt, loss);
            self.channels.push(new.with_seed(seed + 100).starting_at(now));
        }
    }

    /// Runs for this time. Returns the fraction of the bottleneck's rate that was used, and the median and the 99th
    /// percentile of the queueing delay.
    fn run(&mut self, time: Duration) -> (f64, Duration, Duration) {
        let mut delays = Vec::new();
        let delivered = |link: &Self| link.channels.iter().map(|c| c.sample().delivered).sum::<u64>();
        let before = delivered(self);
        let milliseconds = time.as_millis() as usize;
        for _ in 0..milliseconds {
            let mut idle_at = self.channels.iter().map(|channel| channel.idle_at).max();
            for channel in &mut self.channels {
                channel.idle_at = idle_at.unwrap_or(channel.idle_at);
                channel.step();
                idle_at = Some(channel.idle_at);
            }
            self.steps += 1;
            if self.steps.is_multiple_of(REPORT_INTERVAL) {
                let mut all = OtherFlows::default();
                self.channels.iter().for_each(|channel| all += channel.path.flow());
                for channel in &mut self.channels {
                    let own = channel.path.flow();
                    channel.path.set_other_flows(all - own);
                }
            }
            let queue = |channel: &SimulatedTcp| channel.idle_at.saturating_duration_since(channel.now);
            delays.extend(self.channels.iter().map(queue).max());
        }
        delays.sort();
        let used = (delivered(self) - before) as f64 / (self.channels[0].rate * time.as_secs_f64());
        (used, delays[milliseconds / 2], delays[milliseconds * 99 / 100])
    }

    /// Returns the smallest share of a channel in the windows of all.
    fn least_share(&self) -> f64 {
        let windows: Vec<f64> = self.channels.iter().map(|c| c.path.stats().cwnd as f64).collect();
        windows.iter().copied().fold(f64::MAX, f64::min) / windows.iter().sum::<f64>()
    }
}

/// Regression test: each channel took the queue and the lost share of the others for those of another connection, and
/// all together kept the queue full.
#[test]
fn several_channels_keep_the_queue_as_short_as_one() {
    for (mbit, rtt) in PATHS {
        for loss in [0.0, 0.01, 0.03] {
            let mut link = SimulatedLink::new(4, mbit, rtt * MS, loss);
            link.run(8_000 * MS);
            let (used, p50, p99) = link.run(20_000 * MS);
            let least = link.least_share();
            println!("{mbit} Mbit/s {rtt} ms loss {loss}: {used:.3} {p50:?} {p99:?} {least:.3}");
            assert!(used >= 0.97 * (1.0 - loss), "{mbit} Mbit/s, {rtt} ms, loss {loss}: {used} used");
            assert!(
                p50 <= 10 * MS && p99 <= 20 * MS + rtt * MS / 16,
                "{mbit} Mbit/s, {rtt} ms, loss {loss}: queueing delay p50 {p50:?}, p99 {p99:?}"
            );
            assert!(
                least >= 0.01,
                "{mbit} Mbit/s, {rtt} ms, loss {loss}: a channel has {least} of the window"
            );
        }
    }
}

/// Regression test: the slow start of a channel on a path that others fill kept the queue full for seconds.
#[test]
fn channels_that_are_opened_later_keep_the_queue_short() {
    for (mbit, rtt) in PATHS {
        for loss in [0.0, 0.01] {
            let mut link = SimulatedLink::new(1, mbit, rtt * MS, loss);
            link.run(8_000 * MS);
            link.add_channels(3);
            let (used, p50, p99) = link.run(10_000 * MS);
            println!(
                "{mbit} Mbit/s {rtt} ms loss {loss}: {used:.3} {p50:?} {p99:?} {:.3}",
                link.least_share()
            );
            assert!(used >= 0.97 * (1.0 - loss), "{mbit} Mbit/s, {rtt} ms, loss {loss}: {used} used");
            // The queue of the simulated path holds 50 ms.
            assert!(p50 <= 15 * MS, "{mbit} Mbit/s, {rtt} ms, loss {loss}: queueing delay p50 {p50:?}");
        }
    }
}
