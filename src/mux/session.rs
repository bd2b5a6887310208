use super::{Role, limits::MuxConfig, recv::RecvBuffer, send::SendBuffer, tune::Tuner};
use crate::{
    ids::{Priority, UserChannelId},
    wire::{Frame, Open},
};

/// One open stream.
///
/// ```text
///  opener    Asked ──────OPEN_OK──────► Agreed
///  acceptor  Offered ────accept()─────► Agreed        both halves done ──► gone
///            any state ──RESET, reset()───────────────────────────────────► gone
/// ```
#[derive(Debug)]
pub(super) struct Session {
    pub(super) state: State,
    /// Whose it is: users share alike.
    pub(super) user: UserChannelId,
    pub(super) priority: Priority,
    /// The channel that its frames go out on; none while the link has none.
    pub(super) channel: Option<u16>,
    pub(super) send: SendBuffer,
    pub(super) recv: RecvBuffer,
    pub(super) tuner: Tuner,
    /// What waits to be said, beside data.
    pub(super) say: Say,
    /// Whether it stands in its channel's control queue, and in the data queue.
    pub(super) in_control: bool,
    pub(super) in_data: bool,
    /// Whether the reader was told that there is something, and has not looked yet.
    pub(super) told_readable: bool,
    /// Whether the writer found no room, and wants to be told.
    pub(super) wants_room: bool,
}

#[derive(Debug)]
pub(super) enum State {
    /// We opened it; the frame is kept because it is said again if its channel dies before it is confirmed.
    Asked(Open),
    /// The peer opened it and waits for our word.
    Offered,
    /// Both sides know it.
    Agreed,
}

/// What a session has to say, as flags: saying it twice is saying it once.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Say {
    pub(super) open: bool,
    pub(super) open_ok: bool,
    pub(super) window: bool,
    pub(super) priority: bool,
}

impl Say {
    pub(super) fn anything(self) -> bool {
        self.open || self.open_ok || self.window || self.priority
    }
}

impl Session {
    pub(super) fn new(state: State, open: &Open, channel: u16, config: &MuxConfig) -> Self {
        Self {
            state,
            user: open.key.user,
            priority: open.priority,
            channel: Some(channel),
            send: SendBuffer::new(open.window, config.max_window),
            recv: RecvBuffer::new(config.initial_window, config.peer_has_flow_control),
            tuner: Tuner::default(),
            say: Say::default(),
            in_control: false,
            in_data: false,
            told_readable: false,
            wants_room: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.send.is_done() && self.recv.is_done()
    }

    /// The next thing to say. Opening goes first: nothing of a stream may overtake its OPEN.
    pub(super) fn poll_say(&mut self, stream: u32) -> Option<Frame> {
        if std::mem::take(&mut self.say.open)
            && let State::Asked(open) = &self.state
        {
            return Some(Frame::Open(open.clone()));
        }
        if std::mem::take(&mut self.say.open_ok) {
            let (_, window) = self.recv.advertise();
            return Some(Frame::OpenOk { stream, window });
        }
        if std::mem::take(&mut self.say.window) {
            let (consumed, window) = self.recv.advertise();
            return Some(Frame::Window { stream, consumed, window });
        }
        if std::mem::take(&mut self.say.priority) {
            return Some(Frame::Priority { stream, priority: self.priority });
        }
        None
    }

    /// Its channel is lost: what is not known to have arrived has to go out again, on another.
    pub(super) fn rewind(&mut self, role: Role) {
        self.channel = None;
        self.send.lose_own();
        match (role, &self.state) {
            (Role::Server, State::Asked(_)) => self.say.open = true,
            (Role::Proxy, State::Agreed) => self.say.open_ok = true,
            _ => {}
        }
        self.say.window = true;
        self.say.priority = role == Role::Server;
        self.in_control = false;
        self.in_data = false;
    }
}
