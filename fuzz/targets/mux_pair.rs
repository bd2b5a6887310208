//! Two honest muxes over cables that die, stall and come late: the world of `tests/mux`, with scripts of the fuzzer's.
#![no_main]

#[allow(dead_code, reason = "the property test does more with it")]
#[path = "../../tests/mux/world.rs"]
mod world;

use libfuzzer_sys::fuzz_target;
use world::{Op, World};

fn op(bytes: [u8; 4]) -> Op {
    let [kind, where_, a, b] = bytes;
    let (side, stream, channel) = (usize::from(where_ & 1), usize::from(where_ >> 1), usize::from(where_ >> 1));
    let len = usize::from(u16::from_be_bytes([a, b])) % 5000;
    match kind % 16 {
        0 => Op::Open,
        1 => Op::Accept { stream },
        2 | 3 => Op::Write { side, stream, len },
        4 => Op::Finish { side, stream },
        5 | 6 => Op::Consume { side, stream, len: len as u64 },
        7 => Op::Reset { side, stream },
        8 => Op::Hold { side, stream, held: a & 1 == 1 },
        9 => Op::Priority { stream, priority: a.into() },
        10 => Op::Transmit { side, channel, frames: usize::from(a % 16) },
        11 => Op::Deliver { side, channel, frames: usize::from(a % 16) },
        12 if a % 4 == 0 => Op::AddChannel,
        12 if a % 4 == 2 => Op::Resume,
        12 => Op::Cut { channel, arrive: [usize::from(a >> 4), usize::from(b >> 4)] },
        13 => Op::Notice { side, channel },
        14 => Op::Stall { channel, stalled: a & 1 == 1 },
        _ => Op::Pass { ms: len as u64 },
    }
}

fuzz_target!(|data: &[u8]| {
    let mut world = World::new();
    let (ops, rest) = data.as_chunks();
    ops.iter().take(1000).for_each(|bytes| world.run(op(*bytes)));
    if rest.is_empty() {
        world.settle();
    } else {
        world.die();
    }
    world.check();
});
