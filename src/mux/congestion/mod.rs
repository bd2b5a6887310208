//! Congestion control for one channel: how many bytes of data may be in flight, and how large its DATA frames are.
//!
//! [`Path`] counts the bytes in flight, sends probes (pings behind data) and measures the RTT with them. It asks a
//! `CongestionController` how large the congestion window is. Today there is one controller, the delay-based
//! `DelayBased`. The controller is a type parameter, so that a call to it costs no dynamic dispatch.
//!
//! Nothing here does I/O or reads a clock: the time is an argument, and the mux sends the probes.

mod controller;
mod delay_based;
mod path;
mod probes;
mod round;
mod rtt;
#[cfg(test)]
mod tests;

pub(super) use path::Path;
pub use path::PathStats;
