//! Two honest muxes over channels that break, stall and deliver late: the simulation of `tests/mux`, with scripts of
//! the fuzzer.
#![no_main]

#[allow(dead_code, reason = "the tests in tests/mux use more of it")]
#[path = "../../tests/mux/sim/mod.rs"]
mod sim;

use libfuzzer_sys::fuzz_target;
use sim::{Op, SimulatedLink};

/// Decodes one step of a script.
fn op(bytes: [u8; 4]) -> Op {
    let [kind, target, a, b] = bytes;
    let (side, stream, channel) = (usize::from(target & 1), usize::from(target >> 1), usize::from(target >> 1));
    let len = usize::from(u16::from_be_bytes([a, b])) % 5000;
    match kind % 16 {
        0 => Op::Open,
        1 => Op::Accept { stream },
        2 | 3 => Op::Write { side, stream, len },
        4 => Op::Finish { side, stream },
        5 | 6 => Op::Consume { side, stream, len: len as u64 },
        7 => Op::Reset { side, stream },
        8 if a & 2 == 2 => Op::ResetAfterData { side, stream },
        8 => Op::SetPaused { side, stream, paused: a & 1 == 1 },
        9 => Op::SetPriority { stream, priority: a.into() },
        10 => Op::Transmit { side, channel, frames: usize::from(a % 16) },
        11 => Op::Deliver { side, channel, frames: usize::from(a % 16) },
        12 if a % 4 == 0 => Op::AddChannel,
        12 if a % 8 == 1 => Op::Retire,
        12 if a % 4 == 2 => Op::Resume,
        12 => Op::Break { channel, delivered: [usize::from(a >> 4), usize::from(b >> 4)] },
        13 => Op::DetectLoss { side, channel },
        14 => Op::Stall { channel, stalled: a & 1 == 1 },
        _ => Op::AdvanceTime { ms: len as u64 },
    }
}

fuzz_target!(|data: &[u8]| {
    let mut link = SimulatedLink::new();
    let (ops, rest) = data.as_chunks();
    ops.iter().take(1000).for_each(|bytes| link.run(op(*bytes)));
    if rest.is_empty() {
        link.settle();
    } else {
        link.end();
    }
    link.check();
});
