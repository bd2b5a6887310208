//! Resets: streams that end at once, and streams that end once the data before the reset was delivered.
//!
//! The kernel delivers what it has received before it reports the RST of a connection, so that a user reads the error
//! page of a server that did not read the whole request. A stream whose local socket was reset keeps to that: this side
//! sends all data that the socket had received, and then RESET; the peer delivers the data, and then resets its own
//! local socket. Until the peer confirms that with a RESET of the same code, the stream stays in both muxes, and what a
//! lost channel had in flight is retransmitted.

use super::{event::MuxEvent, mux::Mux};
use crate::{
    mux::{
        error::ProtocolError,
        glitches::FrameEffect,
        role::Role,
        stream::{ResetAfterData, Stream},
    },
    wire::{Frame, ResetCode},
};

impl Mux {
    /// Closes a stream in both directions, with an error at the peer. Both sides discard the data that was not
    /// delivered. No event follows. Also confirms a reset of the peer whose data was delivered.
    pub fn reset(&mut self, stream: u32, code: ResetCode) {
        let Some(state) = self.remove(stream) else { return };
        self.push_control(state.channel, Frame::Reset { stream, code, final_size: 0 });
    }

    /// Closes a stream in both directions, with an error at the peer, after all data that was written to it: the local
    /// socket has failed. Received data is discarded. [`MuxEvent::Reset`] follows once the peer has delivered the data.
    /// Does nothing if there is no such stream.
    pub fn reset_after_data(&mut self, stream: u32, code: ResetCode) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        match state.reset {
            ResetAfterData::BySelf(_) => {}
            ResetAfterData::No if !state.send.is_acknowledged() => {
                state.reset = ResetAfterData::BySelf(code);
                state.pending.reset = true;
                state.recv.discard();
                self.enqueue(stream);
            }
            ResetAfterData::No | ResetAfterData::ByPeer => {
                self.reset_and_report(stream, code);
            }
        }
    }

    /// Resets a stream, and tells the owner.
    pub(super) fn reset_and_report(&mut self, stream: u32, code: ResetCode) {
        self.reset(stream, code);
        self.events.push_back(MuxEvent::Reset { stream, code });
    }

    /// Closes a stream that this side has reset after its data, whose RESET was sent to a peer that cannot confirm it.
    /// Changes nothing on another stream.
    pub fn confirm_reset(&mut self, stream: u32) {
        if let Some(state) = self.streams.get(&stream)
            && let ResetAfterData::BySelf(code) = state.reset
        {
            self.remove(stream);
            self.events.push_back(MuxEvent::Reset { stream, code });
        }
    }

    /// Closes all streams with [`ResetCode::ChannelLost`]: the link will have no channel any more. Streams with data
    /// that their readers have not consumed stay until the owner has read it and resets them.
    pub fn abort_streams(&mut self) {
        self.orphaned_control.clear();
        let code = ResetCode::ChannelLost;
        let streams: Vec<u32> = self.streams.keys().copied().collect();
        for stream in streams {
            let Some(state) = self.streams.get_mut(&stream) else { continue };
            if state.recv.is_consumed() || matches!(state.reset, ResetAfterData::BySelf(_)) {
                self.remove(stream);
                self.events.push_back(MuxEvent::Reset { stream, code });
                continue;
            }
            state.recv.reset_at_gap();
            self.deliver_before_reset(stream, code);
        }
    }

    /// Handles RESET: closes the stream if it is open, or has the owner deliver the data first that it names. A RESET
    /// for a closed stream changes nothing.
    pub(super) fn on_reset(
        &mut self,
        stream: u32,
        code: ResetCode,
        final_size: u64,
    ) -> Result<FrameEffect, ProtocolError> {
        let Some(state) = self.streams.get_mut(&stream) else {
            return self.on_reset_of_closed_stream(stream);
        };
        match state.reset {
            // The confirmation of this side's reset, or a reset that discards the data.
            _ if final_size == 0 => {
                let unaccepted = self.remove(stream).filter(Stream::is_requested);
                self.events.push_back(match unaccepted {
                    Some(state) => MuxEvent::Unaccepted { stream, code, data: state.send.into_data() },
                    None => MuxEvent::Reset { stream, code },
                });
            }
            ResetAfterData::BySelf(_) => {
                // The local sockets of both sides have failed: each side confirms the other's reset.
                self.reset_and_report(stream, code);
            }
            // It was retransmitted, because its channel died before the confirmation arrived.
            ResetAfterData::ByPeer => return Ok(FrameEffect::Glitch),
            ResetAfterData::No => {
                if let Err(error) = state.recv.reset_after(final_size) {
                    self.reset_and_report(stream, ResetCode::ProtocolViolation);
                    return Err(error);
                }
                if state.recv.is_consumed_to_reset() {
                    self.reset_and_report(stream, code);
                } else {
                    self.deliver_before_reset(stream, code);
                }
            }
        }
        Ok(FrameEffect::Progress(0))
    }

    /// Handles a RESET for a stream that is not open. Nothing has to be done for it, but on the proxy its id counts as
    /// used: the server may have reset the stream before its OPEN was sent.
    fn on_reset_of_closed_stream(&mut self, stream: u32) -> Result<FrameEffect, ProtocolError> {
        if self.role == Role::Proxy {
            let is_new = self.peer_opened.mark_used(stream)?;
            Ok(if is_new { FrameEffect::Progress(0) } else { FrameEffect::Glitch })
        } else if !self.was_opened(stream) {
            Err(ProtocolError::UnknownStream("RESET"))
        } else {
            Ok(FrameEffect::Glitch)
        }
    }

    /// Keeps a stream open until its owner has delivered the received data and resets it. What this side has to send
    /// is discarded, because nothing at the peer takes it.
    fn deliver_before_reset(&mut self, stream: u32, code: ResetCode) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.reset = ResetAfterData::ByPeer;
        state.send.abandon();
        state.send.release(&self.config.budget);
        self.events.push_back(MuxEvent::ResetAfterData { stream, code });
    }
}
