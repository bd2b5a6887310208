//! Random scripts: whatever happens to the channels, every byte arrives once and in order, or the stream ends with an
//! error at both sides, and nothing is left over. Failing scripts are kept in `proptest-regressions/mux.txt`.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{FileFailurePersistence, TestRunner},
};

use super::sim::{Op, SeenEvents, SimulatedLink};

/// A random step. The weights make streams live long enough to meet failures.
fn op() -> impl Strategy<Value = Op> {
    let side = 0..2usize;
    let stream = 0..8usize;
    let channel = 0..4usize;
    let stream_side = || (side.clone(), stream.clone());
    let frames = || (side.clone(), channel.clone(), 1..8usize);
    prop_oneof![
        4 => Just(Op::Open),
        1 => stream.clone().prop_map(|stream| Op::Accept { stream }),
        16 => (stream_side(), 0..8000usize).prop_map(|((side, stream), len)| Op::Write { side, stream, len }),
        4 => stream_side().prop_map(|(side, stream)| Op::Finish { side, stream }),
        12 => (stream_side(), 0..3000u64).prop_map(|((side, stream), len)| Op::Consume { side, stream, len }),
        2 => stream_side().prop_map(|(side, stream)| Op::Reset { side, stream }),
        2 => stream_side().prop_map(|(side, stream)| Op::ResetAfterData { side, stream }),
        2 => (stream_side(), any::<bool>()).prop_map(|((side, stream), paused)| Op::SetPaused { side, stream, paused }),
        1 => (stream.clone(), 0..5usize).prop_map(|(stream, priority)| Op::SetPriority { stream, priority }),
        16 => frames().prop_map(|(side, channel, frames)| Op::Transmit { side, channel, frames }),
        16 => frames().prop_map(|(side, channel, frames)| Op::Deliver { side, channel, frames }),
        3 => Just(Op::AddChannel),
        1 => Just(Op::Retire),
        1 => Just(Op::Resume),
        3 => (channel.clone(), [0..6usize, 0..6usize]).prop_map(|(channel, delivered)| Op::Break { channel, delivered }),
        4 => (side.clone(), channel.clone()).prop_map(|(side, channel)| Op::DetectLoss { side, channel }),
        2 => (channel.clone(), any::<bool>()).prop_map(|(channel, stalled)| Op::Stall { channel, stalled }),
        4 => (0..4000u64).prop_map(|ms| Op::AdvanceTime { ms }),
        2 => (side.clone(), channel.clone(), any::<bool>(), 0..3u64).prop_map(
            |(side, channel, is_recovering, loss_percent)| Op::ReportTransport { side, channel, is_recovering, loss_percent },
        ),
    ]
}

/// How many scripts a run tries: the environment variable `UNDERPASS_CASES`, or 2000.
fn cases() -> u32 {
    std::env::var("UNDERPASS_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2000)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("proptest-regressions/mux.txt"))),
        ..ProptestConfig::default()
    })]

    /// Latency, channels that break at any frame, also all of them, that overtake each other, that stall, and
    /// duplicate data.
    #[test]
    fn every_byte_arrives_once_or_both_sides_see_an_error(
        ops in prop::collection::vec(op(), 1..250),
        ends in prop::bool::weighted(0.1),
    ) {
        run_script(ops, ends);
    }
}

/// Runs a script, ends the link or lets all streams finish, and checks the outcome.
fn run_script(ops: Vec<Op>, ends: bool) -> SeenEvents {
    let mut link = SimulatedLink::new();
    for op in ops {
        link.run(op);
    }
    if ends {
        link.end();
    } else {
        link.settle();
    }
    link.check();
    link.seen
}

/// Scripts reach the rarer events that they are meant to test.
#[test]
fn scripts_reach_rare_events() {
    let mut runner = TestRunner::deterministic();
    let scripts = prop::collection::vec(op(), 250);
    let mut seen = SeenEvents::default();
    for n in 0..500 {
        let once = run_script(scripts.new_tree(&mut runner).unwrap().current(), n % 10 == 0);
        seen.duplicate_data += once.duplicate_data;
        seen.reordered_opens += once.reordered_opens;
        seen.striped_frames += once.striped_frames;
        seen.failovers += once.failovers;
        seen.moves += once.moves;
        seen.retired += once.retired;
        seen.timeouts += once.timeouts;
        seen.cwnd_limited += once.cwnd_limited;
        seen.resumed += once.resumed;
        seen.links_ended += once.links_ended;
        seen.clean_ends += once.clean_ends;
        seen.resets += once.resets;
        seen.resets_after_data += once.resets_after_data;
    }
    let SeenEvents {
        duplicate_data,
        reordered_opens,
        striped_frames,
        failovers,
        moves,
        retired,
        timeouts,
        cwnd_limited,
        resumed,
        links_ended,
        clean_ends,
        resets,
        resets_after_data,
    } = seen;
    let counts = [
        duplicate_data,
        reordered_opens,
        striped_frames,
        failovers,
        moves,
        retired,
        timeouts,
        cwnd_limited,
        resumed,
        links_ended,
        clean_ends,
        resets,
        resets_after_data,
    ];
    println!("{seen:?}");
    assert!(counts.iter().all(|&count| count >= 20), "{seen:?}");
}
