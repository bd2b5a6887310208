//! Shares of a channel by priority.

use underpass::{ids::Priority, mux::MuxConfig};

use super::sim::{Op, SimulatedChannel, SimulatedLink};

/// Two downloads that always have data share a channel by their priorities, also after these have changed.
#[test]
fn priorities_share_a_channel_by_weight() {
    let mut link = SimulatedLink::with(MuxConfig { initial_window: 1 << 20, ..MuxConfig::default() });
    link.mux.iter_mut().for_each(|mux| mux.remove_channel(1));
    link.channels[1] =
        SimulatedChannel { is_broken: true, is_loss_detected: [true; 2], ..SimulatedChannel::default() };
    link.run(Op::Open);
    link.run(Op::Open);
    let mut shares = |priorities: [Priority; 2]| {
        for (stream, priority) in [1, 2].into_iter().zip(priorities) {
            link.mux[0].set_priority(stream, priority);
        }
        let before = [1, 2].map(|stream| link.sides[0].get(&stream).map_or(0, |side| side.consumed));
        for _ in 0..600 {
            for stream in 0..2 {
                link.run(Op::Write { side: 1, stream, len: 1 << 20 });
                link.run(Op::Consume { side: 0, stream, len: 1 << 20 });
            }
            // The channel carries one DATA frame for each round, and credit in the other direction.
            link.run(Op::Transmit { side: 0, channel: 0, frames: 8 });
            link.run(Op::Deliver { side: 1, channel: 0, frames: 8 });
            link.run(Op::Transmit { side: 1, channel: 0, frames: 1 });
            link.run(Op::Deliver { side: 0, channel: 0, frames: 1 });
        }
        let [a, b] = [1, 2].map(|stream| link.sides[0][&stream].consumed - before[stream as usize - 1]);
        a as f64 / b as f64
    };
    for (priorities, wanted) in [
        ([Priority::High, Priority::Low], 4.0),
        ([Priority::Normal, Priority::Normal], 1.0),
        ([Priority::Background, Priority::Urgent], 1.0 / 16.0),
    ] {
        let ratio = shares(priorities);
        assert!((ratio / wanted - 1.0).abs() < 0.1, "{priorities:?} share {ratio:.2}, not {wanted:.2}");
    }
}
