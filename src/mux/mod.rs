//! The sans-IO multiplexer: many streams over the channels of one link.
//!
//! Nothing in this module uses a socket, a task or a clock. Bytes, frames and the time are arguments; frames and
//! [events](MuxEvent) are polled. Two muxes wired together in a test run a whole conversation, with any fault, in
//! virtual time.

mod budget;
mod channel;
mod channel_numbers;
mod channel_planner;
mod config;
mod congestion;
mod connection;
mod error;
mod glitches;
mod keepalive;
mod limits;
mod placement;
mod ranges;
mod recv_buffer;
mod role;
mod scheduler;
mod send_buffer;
mod stream;
mod stream_ids;
mod text;
mod window_tuning;

pub use budget::WindowBudget;
pub use channel_planner::{ChannelPlan, PlanReason};
pub use config::MuxConfig;
pub use congestion::{PathStats, TransportSample};
pub use connection::{ChannelWish, Mux, MuxEvent, OpenError};
pub use error::ProtocolError;
pub use limits::{CHUNK_SIZE, COPY_THRESHOLD, MAX_CHUNK_SIZE};
pub use recv_buffer::{DataEnd, RecvFlow, copy_if_small};
pub use role::Role;
pub use send_buffer::SendFlow;
pub use text::{TextAdapter, TextInput};
