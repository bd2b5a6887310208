//! Congestion control for one channel: how many bytes of data may be in flight, and how large its DATA frames are.
//!
//! [`Path`] counts the bytes sent, sends probes (pings behind data) and measures the RTT with them. It asks a
//! `CongestionController` how large the congestion window is. There are two: `TransportBased` for channels whose kernel
//! reports its view of the connection (`TCP_INFO`), and `DelayBased`, which has only the answers to probes.
//!
//! Nothing here does I/O or reads a clock: the time is an argument, and the mux sends the probes.

mod controller;
mod delay_based;
mod delay_window;
mod foreign_delay;
mod kernel_drain;
mod other_flows;
mod pacer;
mod path;
mod probes;
mod round;
mod rtt;
mod slow_start;
#[cfg(test)]
mod tests;
mod transport_based;
mod transport_sample;
mod upward_probe;

pub(super) use other_flows::OtherFlows;
pub(super) use path::Path;
pub use path::PathStats;
pub(super) use transport_sample::SEGMENT_LEN;
pub use transport_sample::TransportSample;
