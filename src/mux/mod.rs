//! The sans-IO multiplexer: many streams over the channels of one link.
//!
//! Nothing in this module uses a socket, a task or a clock. Bytes, frames and the time are arguments; frames and
//! [events](MuxEvent) are polled. Two muxes wired together in a test run a whole conversation, with any fault, in
//! virtual time.

mod budget;
mod channel;
mod channel_numbers;
mod channel_planner;
mod compact;
mod config;
mod congestion;
mod connection;
mod error;
mod glitches;
mod keepalive;
mod limits;
mod peer_reader;
mod placement;
mod ranges;
mod recv_buffer;
mod role;
mod scheduler;
mod send_buffer;
mod send_flow;
mod stream;
mod stream_ids;
mod text;
mod window_tuning;

pub use budget::{BudgetLimits, MemoryBudget, PROVEN_READ_BYTES};
pub use channel_planner::{ChannelPlan, PlanReason, min_channels};
pub use compact::copy_if_shorter;
pub use config::MuxConfig;
pub use congestion::{PathStats, TransportSample};
pub use connection::{ChannelWish, Mux, MuxEvent, OpenError};
pub use error::ProtocolError;
pub use limits::{CHUNK_SIZE, COPY_THRESHOLD, MAX_CHUNK_SIZE, MAX_COMPACTED_LEN};
pub use recv_buffer::{DataEnd, RecvFlow};
pub use role::Role;
pub use send_flow::SendFlow;
pub use text::{TextAdapter, TextInput};
