//! Received frames.

use std::{collections::VecDeque, time::Instant};

use super::{event::MuxEvent, mux::Mux};
use crate::{
    mux::{
        budget::MemoryBudget,
        channel::Channel,
        error::ProtocolError,
        glitches::FrameEffect,
        role::Role,
        stream::{OpenState, ResetAfterData, Stream},
    },
    wire::{Frame, Open, ResetCode},
};

impl Mux {
    /// Handles a frame that was received on `channel`. A frame of a channel that was removed is ignored, because its
    /// streams may have failed over already.
    ///
    /// # Errors
    /// The peer violated the protocol: the owner has to close the channel. If the frame belongs to a stream,
    /// that stream is reset.
    pub fn handle_frame(&mut self, channel: u16, frame: Frame, now: Instant) -> Result<(), ProtocolError> {
        if !self.channels.contains_key(&channel) {
            return Ok(());
        }
        let is_keepalive = matches!(frame, Frame::Ping { .. } | Frame::Pong { .. });
        let effect = self.on_frame(channel, frame, now)?;
        if !is_keepalive {
            self.record_traffic(channel, now);
        }
        self.channels.get_mut(&channel).map_or(Ok(()), |channel| channel.glitches.account(effect, now))
    }

    /// Handles a frame of an established channel. Returns what it changed, for the glitch budget.
    fn on_frame(&mut self, channel: u16, frame: Frame, now: Instant) -> Result<FrameEffect, ProtocolError> {
        match frame {
            Frame::Open(open) => self.on_open(channel, open),
            Frame::OpenOk { stream, window } => {
                if self.role != Role::Server {
                    return Err(ProtocolError::UnexpectedFrame("OPEN_OK"));
                }
                let is_new = self.establish(stream);
                self.on_credit(stream, "OPEN_OK", 0, window)?;
                self.notify_writer(stream);
                Ok(if is_new { FrameEffect::Progress(0) } else { FrameEffect::Glitch })
            }
            Frame::Data { stream, offset, fin, payload } => {
                let (bytes, mut is_out_of_memory) = (payload.len(), false);
                let effect = self.on_stream_frame(stream, "DATA", |state, events, budget| {
                    if let ResetAfterData::BySelf(_) = state.reset {
                        // It was in flight when the local socket failed.
                        return Ok(FrameEffect::Glitch);
                    }
                    if state.channel.is_some_and(|primary| primary != channel) {
                        state.tuner.set_striped();
                    }
                    let is_new = state.recv.insert(offset, payload, fin)?;
                    is_out_of_memory = !state.recv.reserve_received(budget);
                    if !is_new {
                        return Ok(FrameEffect::Glitch);
                    }
                    if !state.is_reader_notified {
                        state.is_reader_notified = true;
                        events.push_back(MuxEvent::Readable { stream });
                    }
                    Ok(FrameEffect::Progress(bytes))
                })?;
                if is_out_of_memory {
                    self.reset_and_report(stream, ResetCode::LimitExceeded);
                }
                Ok(effect)
            }
            Frame::Window { stream, consumed, window } => {
                // For a peer without flow control, this side has made it up.
                let knows_consumption = self.config.peer_has_flow_control;
                if knows_consumption && self.streams.get(&stream).is_some_and(Stream::is_requested) {
                    // It has overtaken its OPEN_OK, which carries the same credit. Until the proxy accepts the stream,
                    // all data is kept for another one, and must not exceed the first window.
                    if consumed == 0 {
                        return Ok(FrameEffect::Glitch);
                    }
                    // The target has taken data, so that it is connected.
                    self.establish(stream);
                }
                let effect = self.on_credit(stream, "WINDOW", consumed, window)?;
                self.close_if_done(stream);
                self.notify_writer(stream);
                Ok(effect)
            }
            Frame::Reset { stream, code, final_size } => self.on_reset(stream, code, final_size),
            Frame::Ping { token } => {
                if let Some(channel) = self.channels.get_mut(&channel) {
                    channel.on_ping(token);
                }
                Ok(FrameEffect::Glitch)
            }
            Frame::Pong { token } => {
                let rtt = self.channels.get_mut(&channel).and_then(|channel| channel.on_pong(token, now));
                if rtt.is_some()
                    && self.channels.get_mut(&channel).is_some_and(|channel| channel.prove_alive(token, now))
                {
                    self.events.push_back(MuxEvent::ResponsivenessChanged { channel, is_responsive: true });
                }
                self.events.extend(rtt.map(|rtt| MuxEvent::RttSample { channel, rtt }));
                // An answer to a ping of this side is no flood.
                Ok(if rtt.is_some() { FrameEffect::Progress(0) } else { FrameEffect::Glitch })
            }
            Frame::GoAway { code } => {
                self.events.push_back(MuxEvent::GoAway { code });
                Ok(FrameEffect::Request)
            }
            Frame::Message(message) => {
                self.events.push_back(MuxEvent::Message { channel, message });
                Ok(FrameEffect::Request)
            }
            Frame::Channels { serial, count } => Ok(self.on_channels(serial, count)),
            Frame::Lost { channel: lost } => Ok(self.on_lost(lost, channel, now)),
            Frame::Retire => self.on_retire(channel),
            Frame::Hello(_) => Err(ProtocolError::UnexpectedFrame("HELLO")),
            Frame::Challenge { .. } => Err(ProtocolError::UnexpectedFrame("CHALLENGE")),
            Frame::Proof { .. } => Err(ProtocolError::UnexpectedFrame("PROOF")),
            Frame::Welcome(_) => Err(ProtocolError::UnexpectedFrame("WELCOME")),
            Frame::Refused { .. } => Err(ProtocolError::UnexpectedFrame("REFUSED")),
            Frame::Priority { stream, priority } => {
                if self.role != Role::Proxy {
                    return Err(ProtocolError::UnexpectedFrame("PRIORITY"));
                }
                self.on_stream_frame(stream, "PRIORITY", |state, _, _| {
                    state.priority = priority;
                    Ok(FrameEffect::Glitch)
                })
            }
        }
    }

    /// Handles OPEN: inserts the stream for the owner to accept, answers a retransmitted OPEN again, or resets the
    /// stream if too many are open.
    fn on_open(&mut self, channel: u16, open: Open) -> Result<FrameEffect, ProtocolError> {
        if self.role != Role::Proxy {
            return Err(ProtocolError::UnexpectedFrame("OPEN"));
        }
        if self.has_control_backlog(channel) {
            return Err(ProtocolError::TooManyUnreadReplies);
        }
        let stream = open.stream;
        if !self.peer_opened.mark_used(stream)? {
            // The OPEN was retransmitted, because its channel died before our answer arrived.
            if let Some(state) = self.streams.get_mut(&stream)
                && let OpenState::Established = state.state
            {
                state.pending.open_ok = true;
                self.enqueue(stream);
            }
            return Ok(FrameEffect::Glitch);
        }
        if self.streams.len() >= self.config.max_streams || !self.config.budget.open_stream() {
            let reset = Frame::Reset { stream, code: ResetCode::LimitExceeded, final_size: 0 };
            self.push_control(Some(channel), reset);
            return Ok(FrameEffect::Progress(0));
        }
        // A channel that is being closed takes no stream: the OPEN was sent before the server knew.
        let is_retiring = self.channels.get(&channel).is_some_and(Channel::is_retiring);
        let primary = if is_retiring { self.least_loaded_channel(|_| false) } else { None };
        let mut state = Stream::new(&open, open.window, primary.unwrap_or(channel), &self.config);
        state.recv.allow_early(self.config.initial_window);
        self.insert(stream, state);
        self.events.push_back(MuxEvent::Opened(open));
        Ok(FrameEffect::Progress(0))
    }

    /// Handles a frame for an open stream with `handle`, and resets the stream if that fails. A frame for a closed
    /// stream is ignored: it was in flight when the stream closed.
    fn on_stream_frame(
        &mut self,
        stream: u32,
        frame: &'static str,
        handle: impl FnOnce(
            &mut Stream,
            &mut VecDeque<MuxEvent>,
            &MemoryBudget,
        ) -> Result<FrameEffect, ProtocolError>,
    ) -> Result<FrameEffect, ProtocolError> {
        let Some(state) = self.streams.get_mut(&stream) else {
            let was_opened = self.was_opened(stream);
            return if was_opened {
                Ok(FrameEffect::Glitch)
            } else {
                Err(ProtocolError::UnknownStream(frame))
            };
        };
        handle(state, &mut self.events, &self.config.budget).inspect_err(|_| {
            self.reset_and_report(stream, ResetCode::ProtocolViolation);
        })
    }

    /// Records that the peer has accepted a stream that this side opened. Returns whether that is new.
    fn establish(&mut self, stream: u32) -> bool {
        let Some(state) = self.streams.get_mut(&stream).filter(|state| state.is_requested()) else {
            return false;
        };
        if self.config.peer_has_flow_control {
            self.early_bytes -= state.early_bytes(&self.config);
            state.send.end_early_credit();
        }
        state.state = OpenState::Established;
        self.events.push_back(MuxEvent::Accepted { stream });
        true
    }

    /// Handles an acknowledgement: the peer has consumed `consumed` bytes of a stream and accepts `window` more.
    fn on_credit(
        &mut self,
        stream: u32,
        frame: &'static str,
        consumed: u64,
        window: u32,
    ) -> Result<FrameEffect, ProtocolError> {
        self.on_stream_frame(stream, frame, |state, _, budget| {
            let ack_state = state.send.ack_state();
            state.send.acknowledge(consumed, window, budget)?;
            let is_same = ack_state == state.send.ack_state();
            Ok(if is_same { FrameEffect::Glitch } else { FrameEffect::Progress(0) })
        })
    }
}
