//! Two muxes wired back to back over a simulated network, in virtual time: no socket, no task, no clock.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod failover;
mod flow_control;
mod head_of_line_blocking;
mod hostile_peers;
mod lossy_path;
mod memory;
mod priorities;
mod resets;
mod scripts;
mod sim;
mod stream_numbers;
mod throughput;

use std::time::Instant;

use underpass::mux::Mux;

/// Delivers all frames that `from` has for channel 1 to `to`.
fn exchange(from: &mut Mux, to: &mut Mux, now: Instant) {
    while let Some(frame) = from.poll_transmit(1, now) {
        to.handle_frame(1, frame, now).unwrap();
    }
}
