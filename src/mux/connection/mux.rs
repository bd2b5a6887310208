//! The state of a link's multiplexer, its getters, and the life of its channels.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use foldhash::HashMap;

use super::event::MuxEvent;
use crate::{
    mux::{
        budget::MemoryBudget,
        channel::Channel,
        channel_numbers::ChannelNumbers,
        channel_planner::ChannelPlanner,
        config::MuxConfig,
        congestion::{PathStats, TransportSample},
        limits::{MAX_SMALL_MESSAGE_LEN, OPEN_REFILL},
        placement::LinkPlacement,
        recv_buffer::RecvFlow,
        role::Role,
        send_flow::SendFlow,
        stream::Stream,
        stream_ids::UsedStreamIds,
    },
    wire::{Frame, ResetCode},
};

/// All streams of one link over all of its channels, without I/O: no clock, no socket, no task.
///
/// - *Getters*: [`writable`](Self::writable), [`has_output`](Self::has_output), [`stream_count`](Self::stream_count).
/// - *Handle*, for events from outside: [`add_channel`](Self::add_channel), [`remove_channel`](Self::remove_channel),
///   [`abort_streams`](Self::abort_streams), [`handle_frame`](Self::handle_frame),
///   [`record_alive`](Self::record_alive), [`handle_timeout`](Self::handle_timeout).
/// - *Commands* of the owner: [`open`](Self::open), [`accept`](Self::accept), [`write`](Self::write),
///   [`finish`](Self::finish), [`reset`](Self::reset), [`reset_after_data`](Self::reset_after_data),
///   [`read`](Self::read), [`consume`](Self::consume), [`consume_end`](Self::consume_end),
///   [`send_message`](Self::send_message).
/// - *Poll*, after any of these until they return `None`: [`poll_event`](Self::poll_event) and, for every channel
///   with [`has_output`](Self::has_output), [`poll_transmit`](Self::poll_transmit).
///
/// The frames of a stream are sent on its primary channel, which is the one with the fewest streams when it opens.
/// When that channel is lost, the stream fails over to another, or waits for one, and all data that the peer has not
/// acknowledged is retransmitted; the receiver knows by the offsets what it has already. A channel whose congestion
/// window is not full sends data of a channel whose window is full, if the peer will have it earlier for that
/// (multipath striping): one stream can use all channels. The owner decides how long streams wait without any
/// channel: none is closed before it [aborts them](Self::abort_streams).
#[derive(Debug)]
pub struct Mux {
    /// Whether this process is the server or the proxy of the link.
    pub(super) role: Role,
    /// The limits and timeouts of the link.
    pub(super) config: MuxConfig,
    /// The established channels, by id.
    pub(super) channels: BTreeMap<u16, Channel>,
    /// The open streams, by id.
    pub(super) streams: HashMap<u32, Stream>,
    /// Control frames that the next channel has to retransmit, because the last channel was lost before the peer had
    /// acknowledged them.
    pub(super) orphaned_control: VecDeque<Frame>,
    /// The id of the last stream that this side opened; 0 before the first.
    pub(super) last_opened: u32,
    /// Whether the proxy was asked to replace the link, because few stream ids are left.
    pub(super) is_replacement_requested: bool,
    /// Whether the proxy has opened another link that replaces this one.
    pub(super) is_replaced: bool,
    /// The ids of the streams that the peer opened.
    pub(super) peer_opened: UsedStreamIds,
    /// Decides how many channels the link should have for the data that this side sends.
    pub(super) planner: ChannelPlanner,
    /// The serial numbers of CHANNELS frames, and what the peer has said in them.
    pub(super) channel_numbers: ChannelNumbers,
    /// How many bytes were written to streams that the peer has not accepted, beyond the minimum of each.
    pub(super) early_bytes: u64,
    /// What decides on which channel a stream sends.
    pub(super) placement: LinkPlacement,
    /// Events for the owner of the link that it has not polled yet.
    pub(super) events: VecDeque<MuxEvent>,
}

impl Mux {
    /// Creates the multiplexer of a link without channels.
    pub fn new(role: Role, mut config: MuxConfig) -> Self {
        config.max_window = config.max_window.max(config.initial_window);
        Self {
            role,
            config,
            channels: BTreeMap::new(),
            streams: HashMap::default(),
            orphaned_control: VecDeque::new(),
            last_opened: 0,
            is_replacement_requested: false,
            is_replaced: false,
            peer_opened: UsedStreamIds::default(),
            planner: ChannelPlanner::new(),
            channel_numbers: ChannelNumbers::default(),
            early_bytes: 0,
            placement: LinkPlacement::default(),
            events: VecDeque::new(),
        }
    }

    // Getters.

    /// Returns how many bytes of a stream [`write`](Self::write) accepts now. After 0, a [`MuxEvent::Writable`]
    /// follows.
    pub fn writable(&mut self, stream: u32) -> usize {
        let Some(stream) = self.streams.get_mut(&stream) else { return 0 };
        let writable = stream.writable(&self.config, self.early_bytes);
        stream.is_writer_waiting = writable == 0;
        writable
    }

    /// Returns whether [`poll_transmit`](Self::poll_transmit) would return a frame for `channel`.
    pub fn has_output(&self, channel: u16) -> bool {
        self.channels.get(&channel).is_some_and(|known| {
            known.has_output() || (known.path.has_output() && self.striping_source(channel).is_some())
        })
    }

    /// Returns the channel on which the frames of a stream are sent; `None` while the link has no channel, or if
    /// there is no such stream.
    pub fn primary_channel(&self, stream: u32) -> Option<u16> {
        self.streams.get(&stream)?.channel
    }

    /// Returns how many bytes of data are queued for a channel. It visits every queued stream: too slow to be called
    /// for each chunk.
    pub fn queued_bytes(&self, channel: u16) -> u64 {
        let queued = self.channels.get(&channel).into_iter().flat_map(|channel| channel.scheduler.streams());
        queued.filter_map(|stream| self.streams.get(&stream)).map(|stream| stream.send.unsent()).sum()
    }

    /// Returns the flow-control state of a stream's sending half.
    pub fn send_flow(&self, stream: u32) -> Option<SendFlow> {
        let stream = self.streams.get(&stream)?;
        let min_rtt = stream.channel.and_then(|id| self.channels.get(&id)?.path.min_rtt());
        Some(stream.send.flow(min_rtt))
    }

    /// Returns the flow-control state of a stream's receiving half.
    pub fn recv_flow(&self, stream: u32) -> Option<RecvFlow> {
        self.streams.get(&stream).map(|stream| stream.recv.flow())
    }

    /// Returns how many bytes of a stream were written, acknowledged by the peer, and consumed here, in sum: a number
    /// that grows with every progress of the stream in either direction. `None` if the stream is not open.
    pub fn relayed_bytes(&self, stream: u32) -> Option<u64> {
        let stream = self.streams.get(&stream)?;
        Some(stream.send.progress() + stream.recv.consumed())
    }

    /// Returns the memory budget of the process.
    pub fn budget(&self) -> &MemoryBudget {
        &self.config.budget
    }

    /// Returns how many streams of the link are open.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Returns the measurements of a channel's path: RTT, delivery rate, congestion window.
    pub fn path_stats(&self, channel: u16) -> Option<PathStats> {
        self.channels.get(&channel).map(|channel| channel.path.stats())
    }

    /// Returns whether this process is the server or the proxy of the link.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns how many channels the link has.
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    // Handle.

    /// Adds an established channel, whose id must not be in use. Streams without a channel continue on it.
    pub fn add_channel(&mut self, id: u16, now: Instant) {
        let mut channel = Channel::new(&self.config, now);
        // The request of the server, and the answer of the proxy: the channel that carried it may have been lost
        // together with it, or there was none.
        if self.is_replaced == (self.role == Role::Proxy)
            && (self.is_replacement_requested || self.is_replaced)
        {
            channel.control_frames.push_back(Frame::GoAway { code: ResetCode::LinkReplaced });
        }
        self.channels.insert(id, channel);
        self.announce_max_channels();
        self.update_spare_channels();
        self.update_placement(now);
        self.assign_orphans(id);
    }

    /// Removes a lost channel. Its streams fail over to another, or wait for the next one if there is none.
    pub fn remove_channel(&mut self, id: u16) {
        let Some(lost) = self.channels.remove(&id) else { return };
        self.orphaned_control.extend(lost.into_unacknowledged());
        self.update_spare_channels();
        self.retransmit_striped(id);
        for (&stream_id, stream) in &mut self.streams {
            stream.open_copied_on.take_if(|copied_on| *copied_on == id);
            if stream.channel == Some(id) {
                stream.lose_primary(self.role);
            } else if stream.has_moved {
                stream.repeat_control(self.role);
                if let Some(channel) = stream.channel.and_then(|primary| self.channels.get_mut(&primary)) {
                    enqueue_on(channel, stream, stream_id);
                }
            }
        }
        if let Some(now) = self.placement.now {
            self.update_placement(now);
        }
        if let Some(successor) = self.least_loaded_channel(|_| false) {
            self.assign_orphans(successor);
        }
    }

    /// Sets whether the socket of `channel` accepts no more data for now. If so, other channels may send the data
    /// that is queued for it.
    pub fn set_write_blocked(&mut self, channel: u16, is_blocked: bool) {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.is_write_blocked = is_blocked;
        }
    }

    /// Reports how many TCP segments the kernel has retransmitted on `channel` since it was established.
    pub fn report_retransmissions(&mut self, channel: u16, total_segments: u64) {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.path.on_retransmissions(total_segments);
        }
    }

    /// Reports what the kernel knows about the connection of `channel`. From the first report on, the channel's
    /// congestion window follows these reports, which the owner has to make before it polls the channel for data.
    pub fn report_transport(&mut self, channel: u16, sample: TransportSample, now: Instant) {
        let Some(known) = self.channels.get_mut(&channel) else { return };
        let network = |known: &Channel| (known.path.is_network(), known.path.loss_rate());
        let (before, network_before) = (known.path.transport_sample(), network(known));
        known.path.on_transport_sample(sample, now);
        known.placement.record_recovery(known.path.is_recovering(), sample.rtt, now);
        let has_changed = network(known) != network_before;
        let has_loss =
            before.is_some_and(|before| sample.retransmitted_segments > before.retransmitted_segments);
        self.plan_after_report(channel, before, now);
        if has_changed || has_loss {
            self.update_placement(now);
        }
    }

    /// Records that `channel` crosses a network and that the kernel reports nothing about its connection.
    pub fn set_unobserved(&mut self, channel: u16) {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.path.set_unobserved();
        }
    }

    /// Returns whether data waits for another [report](Self::report_transport) about `channel`, which the owner should
    /// make soon.
    pub fn is_awaiting_sample(&self, channel: u16) -> bool {
        self.channels.get(&channel).is_some_and(|channel| channel.path.is_awaiting_sample())
    }

    // Shared by commands and handlers.

    /// Returns whether a stream with this id was ever opened.
    pub(super) fn was_opened(&self, stream: u32) -> bool {
        match self.role {
            Role::Server => (1..=self.last_opened).contains(&stream),
            Role::Proxy => self.peer_opened.contains(stream),
        }
    }

    /// Returns the channel with the fewest streams, where the streams of a channel that `is_local` count half.
    /// Retiring and suspect channels, those with a control backlog, and those with more obstacles on a network path
    /// come last.
    pub(super) fn least_loaded_channel(&self, is_local: impl Fn(u16) -> bool) -> Option<u16> {
        // Among channels without streams the local one goes first, too.
        let streams = |id, channel: &Channel| {
            if is_local(id) { channel.primary_streams } else { 2 * channel.primary_streams + 1 }
        };
        // A suspect channel may be dead: nothing would leave it for seconds, and it has fewer streams because of
        // that.
        // A retiring channel is used only if the others are lost before it is closed.
        // On a network path, the OPEN and what follows should not wait for lost segments of bulk data.
        let placed_at = self.placement.now.filter(|_| self.placement.is_active);
        let load = |id, channel: &Channel| {
            let is_avoided = (channel.is_retiring(), channel.is_suspect(), channel.has_control_backlog());
            (is_avoided, placed_at.map(|now| channel.obstacles(now)), streams(id, channel))
        };
        self.channels.iter().min_by_key(|&(&id, channel)| load(id, channel)).map(|(&id, _)| id)
    }

    /// Makes `id` the primary channel of every stream that has none, and has it retransmit the control frames of lost
    /// channels.
    fn assign_orphans(&mut self, id: u16) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        self.orphaned_control.drain(..).for_each(|frame| channel.take_over(frame));
        for (&stream_id, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.channel.is_none()) {
            stream.channel = Some(id);
            stream.send.set_primary(id);
            channel.primary_streams += 1;
            enqueue_on(channel, stream, stream_id);
            self.events.push_back(MuxEvent::FailedOver { stream: stream_id, channel: id });
        }
    }

    /// Returns whether so many control frames are queued on `channel` that it should get no new stream.
    pub(super) fn has_control_backlog(&self, channel: u16) -> bool {
        self.channels.get(&channel).is_some_and(Channel::has_control_backlog)
    }

    /// Adds an open stream, counts it on its primary channel and queues its first frames.
    pub(super) fn insert(&mut self, id: u32, stream: Stream) {
        if let Some(channel) = stream.channel.and_then(|channel| self.channels.get_mut(&channel)) {
            channel.primary_streams += 1;
            channel.glitches.refill(OPEN_REFILL);
        }
        self.streams.insert(id, stream);
        self.enqueue(id);
    }

    /// Removes a stream and returns it, and returns what it had reserved to the memory budget. `None` if there is no
    /// such stream.
    pub(super) fn remove(&mut self, id: u32) -> Option<Stream> {
        let mut stream = self.streams.remove(&id)?;
        self.early_bytes -= stream.early_bytes(&self.config);
        stream.release(&self.config.budget);
        if let Some(channel) = stream.channel.and_then(|channel| self.channels.get_mut(&channel)) {
            channel.primary_streams -= 1;
        }
        Some(stream)
    }

    /// Queues a control frame of a closed stream on its channel, or on the next one that is added.
    pub(super) fn push_control(&mut self, channel: Option<u16>, frame: Frame) {
        match channel.and_then(|id| self.channels.get_mut(&id)) {
            Some(channel) => channel.control_frames.push_back(frame),
            None => self.orphaned_control.push_back(frame),
        }
    }

    /// Queues a stream on its primary channel for the control frames and data that it has to send.
    pub(super) fn enqueue(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && let Some(channel) = stream.channel.and_then(|channel| self.channels.get_mut(&channel))
        {
            enqueue_on(channel, stream, id);
        }
    }

    /// Emits [`MuxEvent::Writable`] if the writer of a stream waits for it and the stream is writable.
    pub(super) fn notify_writer(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.is_writer_waiting
            && stream.writable(&self.config, self.early_bytes) > 0
        {
            stream.is_writer_waiting = false;
            self.events.push_back(MuxEvent::Writable { stream: id });
        }
    }

    /// Closes a stream if both directions are finished and acknowledged.
    pub(super) fn close_if_done(&mut self, id: u32) {
        if !self.streams.get(&id).is_some_and(Stream::is_done) {
            return;
        }
        if let Some(mut stream) = self.remove(id) {
            let is_window_sent = !stream.pending.window;
            while let Some(frame) = stream.poll_control(id) {
                self.push_control(stream.channel, frame);
            }
            // The last acknowledgement was sent and may still be lost with its channel. Without the stream, only a
            // copy can be retransmitted.
            if is_window_sent {
                let (consumed, window) = stream.recv.advertise();
                let last = Frame::Window { stream: id, consumed, window };
                match stream.channel.and_then(|channel| self.channels.get_mut(&channel)) {
                    Some(channel) => channel.track_unacknowledged(last),
                    None => self.orphaned_control.push_back(last),
                }
            }
            self.events.push_back(MuxEvent::Closed { stream: id });
        }
    }
}

impl Drop for Mux {
    /// Returns what open streams have reserved to the memory budget.
    fn drop(&mut self) {
        self.streams.values_mut().for_each(|stream| stream.release(&self.config.budget));
    }
}

/// Queues a stream on its primary channel, in the control queue and in the scheduler, once each.
pub(super) fn enqueue_on(channel: &mut Channel, stream: &mut Stream, id: u32) {
    if stream.has_control() && !stream.is_in_control_queue {
        stream.is_in_control_queue = true;
        channel.control_queue.push_back(id);
    }
    if stream.send.has_output() && !stream.is_in_scheduler {
        stream.is_in_scheduler = true;
        channel.may_have_small_message |= stream.send.unsent() <= MAX_SMALL_MESSAGE_LEN as u64;
        channel.scheduler.enqueue(id, stream.priority, stream.user);
    }
}
