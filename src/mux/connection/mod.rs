//! The multiplexer of one link, [`Mux`]: its state, its commands, its handling of frames, and its choice of frames to
//! send.
//!
//! `Mux` is to a link what `quinn_proto::Connection` is to a QUIC connection.

mod commands;
mod event;
mod incoming;
mod mux;
mod outgoing;
mod placing;
mod planning;
mod reset;
mod retirement;
mod timers;

pub use event::{ChannelWish, MuxEvent, OpenError};
pub use mux::Mux;
