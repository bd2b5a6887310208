//! What the peer says.

use std::{collections::VecDeque, time::Instant};

use super::{Mux, MuxEvent};
use crate::{
    mux::{
        Role,
        error::ProtocolError,
        glitch::Worth,
        session::{Session, State},
    },
    wire::{Frame, Open, ResetCode},
};

impl Mux {
    /// A frame came in on `channel`. One of a channel that counts as lost changes nothing: the link may have gone on
    /// without it.
    ///
    /// # Errors
    /// The peer broke the protocol: close the channel. If one stream was to blame, it is reset.
    pub fn handle_frame(&mut self, channel: u16, frame: Frame, now: Instant) -> Result<(), ProtocolError> {
        if !self.channels.contains_key(&channel) {
            return Ok(());
        }
        let worth = self.on_frame(channel, frame, now)?;
        self.channels.get_mut(&channel).map_or(Ok(()), |channel| channel.glitches.weigh(worth, now))
    }

    fn on_frame(&mut self, channel: u16, frame: Frame, now: Instant) -> Result<Worth, ProtocolError> {
        match frame {
            Frame::Open(open) => self.on_open(channel, open),
            Frame::OpenOk { stream, window } => {
                if self.role != Role::Server {
                    return Err(ProtocolError::UnexpectedFrame("OPEN_OK"));
                }
                let worth = self.on_session(stream, "OPEN_OK", |session, events| {
                    let State::Asked(_) = session.state else { return Ok(Worth::Nothing) };
                    session.state = State::Agreed;
                    events.push_back(MuxEvent::Accepted { stream });
                    Ok(Worth::Progress(0))
                })?;
                self.on_credit(stream, "OPEN_OK", 0, window)?;
                Ok(worth)
            }
            Frame::Data { stream, offset, fin, payload } => {
                let bytes = payload.len();
                self.on_session(stream, "DATA", |session, events| {
                    if session.channel.is_some_and(|own| own != channel) {
                        session.tuner.widen();
                    }
                    if !session.recv.insert(offset, payload, fin)? {
                        return Ok(Worth::Nothing);
                    }
                    if !session.told_readable {
                        session.told_readable = true;
                        events.push_back(MuxEvent::Readable { stream });
                    }
                    Ok(Worth::Progress(bytes))
                })
            }
            Frame::Window { stream, consumed, window } => {
                let worth = self.on_credit(stream, "WINDOW", consumed, window)?;
                self.settle(stream);
                self.tell_writable(stream);
                Ok(worth)
            }
            Frame::Reset { stream, code, .. } => {
                if self.streams.contains_key(&stream) {
                    self.remove(stream);
                    self.events.push_back(MuxEvent::Reset { stream, code });
                    Ok(Worth::Progress(0))
                } else if self.role == Role::Proxy {
                    // It may have been reset before its OPEN was sent; the number is used up all the same.
                    Ok(if self.offered.mark(stream)? { Worth::Progress(0) } else { Worth::Nothing })
                } else if !self.was_opened(stream) {
                    Err(ProtocolError::UnknownStream("RESET"))
                } else {
                    Ok(Worth::Nothing)
                }
            }
            Frame::Ping { token } => {
                if let Some(channel) = self.channels.get_mut(&channel) {
                    channel.on_ping(token);
                }
                Ok(Worth::Nothing)
            }
            Frame::Pong { token } => {
                let rtt = self.channels.get_mut(&channel).and_then(|channel| channel.on_pong(token, now));
                self.events.extend(rtt.map(|rtt| MuxEvent::RttSample { channel, rtt }));
                // One that was asked for is no flood.
                Ok(if rtt.is_some() { Worth::Progress(0) } else { Worth::Nothing })
            }
            Frame::GoAway { code } => {
                self.events.push_back(MuxEvent::GoAway { code });
                Ok(Worth::Request)
            }
            Frame::Message(message) => {
                self.events.push_back(MuxEvent::Message { channel, message });
                Ok(Worth::Request)
            }
            Frame::Hello(_) => Err(ProtocolError::UnexpectedFrame("HELLO")),
            Frame::Challenge { .. } => Err(ProtocolError::UnexpectedFrame("CHALLENGE")),
            Frame::Proof { .. } => Err(ProtocolError::UnexpectedFrame("PROOF")),
            Frame::Welcome(_) => Err(ProtocolError::UnexpectedFrame("WELCOME")),
            Frame::Refused { .. } => Err(ProtocolError::UnexpectedFrame("REFUSED")),
            Frame::Priority { stream, priority } => {
                if self.role != Role::Proxy {
                    return Err(ProtocolError::UnexpectedFrame("PRIORITY"));
                }
                self.on_session(stream, "PRIORITY", |session, _| {
                    session.priority = priority;
                    Ok(Worth::Nothing)
                })
            }
        }
    }

    fn on_open(&mut self, channel: u16, open: Open) -> Result<Worth, ProtocolError> {
        if self.role != Role::Proxy {
            return Err(ProtocolError::UnexpectedFrame("OPEN"));
        }
        if self.is_clogged(channel) {
            return Err(ProtocolError::TooManyUnreadReplies);
        }
        let stream = open.stream;
        if !self.offered.mark(stream)? {
            // Said again because its channel died before our answer came through.
            if let Some(session) = self.streams.get_mut(&stream)
                && let State::Agreed = session.state
            {
                session.say.open_ok = true;
                self.enqueue(stream);
            }
            return Ok(Worth::Nothing);
        }
        if self.streams.len() >= self.config.max_streams {
            self.push_frame(
                Some(channel),
                Frame::Reset { stream, code: ResetCode::LimitExceeded, final_size: 0 },
            );
            return Ok(Worth::Progress(0));
        }
        let session = Session::new(State::Offered, &open, channel, &self.config);
        self.insert(stream, session);
        self.events.push_back(MuxEvent::Opened(open));
        Ok(Worth::Progress(0))
    }

    /// Lets `act` handle a frame for an open stream. One for a stream that is over is forgotten: it was under way.
    fn on_session(
        &mut self,
        stream: u32,
        frame: &'static str,
        act: impl FnOnce(&mut Session, &mut VecDeque<MuxEvent>) -> Result<Worth, ProtocolError>,
    ) -> Result<Worth, ProtocolError> {
        let Some(session) = self.streams.get_mut(&stream) else {
            let over = self.was_opened(stream);
            return if over { Ok(Worth::Nothing) } else { Err(ProtocolError::UnknownStream(frame)) };
        };
        act(session, &mut self.events).inspect_err(|_| {
            self.reset(stream, ResetCode::ProtocolViolation);
            self.events.push_back(MuxEvent::Reset { stream, code: ResetCode::ProtocolViolation });
        })
    }

    /// The peer has passed on all below `consumed` and takes `window` more. What we keep for it grows within the
    /// budget only: a peer that took much on many streams and acknowledged nothing would have all our memory.
    fn on_credit(
        &mut self,
        stream: u32,
        frame: &'static str,
        consumed: u64,
        window: u32,
    ) -> Result<Worth, ProtocolError> {
        let send = self.streams.get(&stream).map(|session| &session.send);
        let (before, more) = send.map_or((0, 0), |send| (send.grown(), send.wanted(window)));
        let room = self.config.budget.reserve(more.min(self.config.max_window_growth - self.grown));
        let mut after = before;
        let result = self.on_session(stream, frame, |session, _| {
            let agreed = session.send.agreed();
            let result = session.send.acknowledge(consumed, window, room);
            after = session.send.grown();
            let same = agreed == session.send.agreed();
            result.map(|()| if same { Worth::Nothing } else { Worth::Progress(0) })
        });
        self.note_growth(room, after.cast_signed() - before.cast_signed());
        result
    }
}
