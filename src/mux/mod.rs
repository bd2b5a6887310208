//! The multiplexer without IO: many streams over the channels of one link.
//!
//! Nothing in this room knows of a socket, a task or a clock: bytes, frames and the time come in by argument, frames
//! and [events](MuxEvent) go out by polling. Two of them wired together in a test run a whole conversation, with any
//! fault, in no time at all.

mod channel;
mod error;
mod glitch;
mod limits;
mod link;
mod meter;
mod numbers;
mod places;
mod recv;
mod scheduler;
mod send;
mod session;
mod strays;
mod text;
mod tune;

pub use error::ProtocolError;
pub use limits::{CHUNK_SIZE, COPY_THRESHOLD, MAX_CHUNK_SIZE, MuxConfig, WindowBudget};
pub use link::{Mux, MuxEvent, OpenError};
pub use meter::PathStats;
pub use recv::{RecvFlow, copy_if_small};
pub use send::SendFlow;
pub use text::{TextAdapter, TextInput};

/// Which side of a link this is. Only the server opens streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The server.
    Server,
    /// The proxy.
    Proxy,
}
