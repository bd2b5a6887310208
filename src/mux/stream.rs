//! One open stream of a link.

use super::{
    budget::{EARLY_BYTES, MemoryBudget},
    config::MuxConfig,
    placement::SendActivity,
    recv_buffer::RecvBuffer,
    role::Role,
    send_buffer::SendBuffer,
    window_tuning::WindowTuner,
};
use crate::{
    ids::{Priority, UserChannelId},
    wire::{Frame, Open, ResetCode},
};

/// One open stream. The seed document calls it a session.
///
/// ```text
///  server  Requested ──────OPEN_OK──────► Established
///  proxy   Offered ────────accept()─────► Established     both halves done ──► closed
///          any state ──────RESET, reset()────────────────────────────────────► closed
///          any state ──────reset_after_data(): DATA, RESET ───────confirmed──► closed
///          any state ──────RESET that follows data ──read──reset()───────────► closed
/// ```
#[derive(Debug)]
pub(super) struct Stream {
    /// How far the opening of the stream has come.
    pub(super) state: OpenState,
    /// The user that the stream belongs to. Users share a channel equally.
    pub(super) user: UserChannelId,
    /// The priority class in which the stream's data is scheduled.
    pub(super) priority: Priority,
    /// The primary channel; `None` while the link has no channel.
    pub(super) channel: Option<u16>,
    /// The sending half: data to the peer, its retransmission and the peer's credit.
    pub(super) send: SendBuffer,
    /// The receiving half: data from the peer, its reassembly and the credit for the peer.
    pub(super) recv: RecvBuffer,
    /// Auto-tuning of the receive window.
    pub(super) tuner: WindowTuner,
    /// How much the stream has sent recently: whether it is bulk.
    pub(super) activity: SendActivity,
    /// How much the stream has acknowledged recently: whether its acknowledgements are bulk.
    pub(super) acknowledging: SendActivity,
    /// Whether the stream has moved from one primary channel to another, which was not lost. Its control frames may
    /// be in flight on several channels.
    pub(super) has_moved: bool,
    /// The channel on which a copy of the OPEN was sent; `None` if none was, or if that channel is lost.
    pub(super) open_copied_on: Option<u16>,
    /// The control frames of the stream that have to be sent.
    pub(super) pending: PendingControl,
    /// Whether the stream is being reset after its data, and by which side.
    pub(super) reset: ResetAfterData,
    /// Whether the stream is in the control queue of its primary channel.
    pub(super) is_in_control_queue: bool,
    /// Whether the stream is queued in the scheduler of its primary channel.
    pub(super) is_in_scheduler: bool,
    /// Whether the owner was notified of received data that it has not read yet.
    pub(super) is_reader_notified: bool,
    /// Whether the writer, the relay task, could not write and waits for
    /// [`MuxEvent::Writable`](super::MuxEvent::Writable).
    pub(super) is_writer_waiting: bool,
}

/// How far the opening of a stream has come.
#[derive(Debug)]
pub(super) enum OpenState {
    /// This side opened it and waits for OPEN_OK. The OPEN frame is kept: it is retransmitted if its channel dies.
    Requested(Open),
    /// The peer opened it and waits for OPEN_OK.
    Offered,
    /// The proxy has accepted it: the target is connected.
    Established,
}

/// Whether a stream is being reset once its data was delivered. It stays open until then, so that its data and the
/// RESET are retransmitted if a channel is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResetAfterData {
    /// It is not.
    No,
    /// This side sends RESET with this code after all data, and waits for the peer to confirm it.
    BySelf(ResetCode),
    /// The peer has sent RESET: this side delivers the data that precedes it, and then confirms it.
    ByPeer,
}

/// The control frames that a stream has to send, as flags: a frame that is requested twice is sent once.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct PendingControl {
    /// Whether OPEN has to be sent, with which the server opens the stream.
    pub(super) open: bool,
    /// Whether OPEN_OK has to be sent, with which the proxy accepts the stream.
    pub(super) open_ok: bool,
    /// Whether WINDOW has to be sent, which acknowledges consumed data and grants credit.
    pub(super) window: bool,
    /// Whether PRIORITY has to be sent, with which the server sets the stream's priority at the proxy.
    pub(super) priority: bool,
    /// Whether RESET has to be sent, after all data.
    pub(super) reset: bool,
}

impl Stream {
    /// Creates a stream with empty buffers whose primary channel is `channel`. `send_window` is the credit that
    /// the peer has granted.
    pub(super) fn new(open: &Open, send_window: u32, channel: u16, config: &MuxConfig) -> Self {
        let first_window =
            if config.peer_has_flow_control { config.early_window() } else { config.initial_window };
        Self {
            state: OpenState::Offered,
            user: open.key.user,
            priority: open.priority,
            channel: Some(channel),
            send: SendBuffer::new(send_window, config),
            recv: RecvBuffer::new(first_window, config.initial_window, config.peer_has_flow_control),
            tuner: WindowTuner::default(),
            activity: SendActivity::default(),
            acknowledging: SendActivity::default(),
            has_moved: false,
            open_copied_on: None,
            pending: PendingControl::default(),
            reset: ResetAfterData::No,
            is_in_control_queue: false,
            is_in_scheduler: false,
            is_reader_notified: false,
            is_writer_waiting: false,
        }
    }

    /// Returns how many bytes were written beyond the minimum although the peer has not accepted the stream, and cannot
    /// refuse them; 0 for a peer without flow control.
    pub(super) fn early_bytes(&self, config: &MuxConfig) -> u64 {
        if self.is_requested() && config.peer_has_flow_control {
            self.send.written().saturating_sub(config.early_window().into())
        } else {
            0
        }
    }

    /// Returns how many bytes may be written now. `early_bytes` is the sum of [those](Self::early_bytes) of all
    /// streams.
    pub(super) fn writable(&mut self, config: &MuxConfig, early_bytes: u64) -> usize {
        let writable = self.send.writable(&config.budget);
        if writable == 0 || !self.is_requested() || !config.peer_has_flow_control {
            return writable;
        }
        let minimum = u64::from(config.early_window()).saturating_sub(self.send.written());
        let early = minimum + EARLY_BYTES.saturating_sub(early_bytes);
        writable.min(usize::try_from(early).unwrap_or(usize::MAX))
    }

    /// Returns what the stream has reserved to the memory budget, because it has ended.
    pub(super) fn release(&mut self, budget: &MemoryBudget) {
        self.send.release(budget);
        self.recv.release(budget);
        budget.close_stream();
    }

    /// Returns whether the peer has acknowledged all sent data and the END, and this side has consumed all received
    /// data and the END, so that the stream can be removed.
    pub(super) fn is_done(&self) -> bool {
        self.send.is_done() && self.recv.is_done()
    }

    /// Returns whether this side has opened the stream, and the peer has not accepted it.
    pub(super) fn is_requested(&self) -> bool {
        matches!(self.state, OpenState::Requested(_))
    }

    /// Returns whether a control frame of the stream can be sent now. The RESET waits until all data was sent.
    pub(super) fn has_control(&self) -> bool {
        let PendingControl { open, open_ok, window, priority, reset } = self.pending;
        open || open_ok || window || priority || (reset && !self.send.has_output())
    }

    /// Returns the next control frame of the stream that can be sent now, and marks it as sent; `None` if there is
    /// none. OPEN goes first: no frame of a stream may overtake it. RESET goes last.
    pub(super) fn poll_control(&mut self, stream: u32) -> Option<Frame> {
        if std::mem::take(&mut self.pending.open)
            && let OpenState::Requested(open) = &self.state
        {
            return Some(Frame::Open(open.clone()));
        }
        if std::mem::take(&mut self.pending.open_ok) {
            let (_, window) = self.recv.advertise();
            return Some(Frame::OpenOk { stream, window });
        }
        if std::mem::take(&mut self.pending.window) {
            let (consumed, window) = self.recv.advertise();
            return Some(Frame::Window { stream, consumed, window });
        }
        if std::mem::take(&mut self.pending.priority) {
            return Some(Frame::Priority { stream, priority: self.priority });
        }
        if let ResetAfterData::BySelf(code) = self.reset
            && self.has_control()
        {
            self.pending.reset = false;
            return Some(Frame::Reset { stream, code, final_size: self.send.final_size() });
        }
        None
    }

    /// Removes the primary channel, which is lost. All data and control frames that the peer may not have received
    /// have to be retransmitted on the next primary channel.
    pub(super) fn lose_primary(&mut self, role: Role) {
        self.channel = None;
        self.send.lose_primary();
        self.repeat_control(role);
        (self.is_in_control_queue, self.is_in_scheduler) = (false, false);
    }

    /// Makes `to` the primary channel instead of `from`, which is being closed. Data in flight on `from` is not
    /// retransmitted unless `from` is lost before. The control frames are: they are small, and frames of the stream on
    /// `to` must not overtake its OPEN. The queues of `from` were emptied.
    pub(super) fn move_primary(&mut self, from: u16, to: u16, role: Role) {
        self.move_to(from, to);
        self.repeat_control(role);
        (self.is_in_control_queue, self.is_in_scheduler) = (false, false);
    }

    /// Makes `to` the primary channel instead of `from`, which is not lost. The peer knows the stream, so that no frame
    /// has to be repeated unless `from` is lost later.
    pub(super) fn move_to(&mut self, from: u16, to: u16) {
        self.channel = Some(to);
        self.send.move_primary(from, to);
        self.has_moved = true;
        // The last acknowledgement is retransmitted only if it was sent on the channel that is lost.
        self.pending.window |= self.recv.is_done();
    }

    /// Marks every control frame that the peer may not have received as pending, because a channel is lost or closed on
    /// which it may have been in flight.
    pub(super) fn repeat_control(&mut self, role: Role) {
        match (role, &self.state) {
            (Role::Server, OpenState::Requested(_)) => self.pending.open = true,
            (Role::Proxy, OpenState::Established) => self.pending.open_ok = true,
            _ => {}
        }
        self.pending.window = true;
        self.pending.priority = role == Role::Server;
        self.pending.reset = matches!(self.reset, ResetAfterData::BySelf(_));
    }
}
