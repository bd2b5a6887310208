//! A link and the handle of an open stream: the mux behind its lock, and what the owner of a link may do.
//!
//! Every change of the link state goes through [`Link::with`], which locks it, applies the change, unlocks it, and
//! then executes what follows from the change.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::Notify};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::{
    channel_io::ChannelIo,
    drain::drain_despite_panic,
    endpoint::{Endpoint, NewStream},
    flat_combining::FlatCombiner,
    lock::LinkStateMutex,
    memory::warn_if_tight,
    scratch::{Scratch, with_scratch},
    state::{AttachmentChange, FollowUp, LinkState},
    text_peer,
};
use crate::{
    ids::StreamKey,
    mux::{ChannelWish, MemoryBudget, Mux, MuxConfig, OpenError, Role, TextAdapter},
    telemetry::DisconnectReason,
    wire::{Open, ResetCode, TunnelAction, TunnelMessage, text::FieldCount},
};

/// The largest capacity, in follow-ups, of a list that is kept for the next batch: every link and every thread keeps
/// one.
const MAX_KEPT_FOLLOW_UPS: usize = 128;

thread_local! {
    /// Reused list of the follow-ups that this thread is executing. It is swapped with the list in the link state, so
    /// that both keep their allocations.
    static FOLLOW_UPS: Scratch<FollowUp, MAX_KEPT_FOLLOW_UPS> = const { Scratch::new() };
}

/// Callbacks by which a link reports events to its owner, the server or the proxy. Called while the link state is not
/// locked; must not block. The calls of [`detached`](Self::detached) and [`resumed`](Self::resumed) do not overlap,
/// and follow the order of what happened.
pub trait LinkEvents: Send + Sync + 'static {
    /// Called when the peer has opened a stream. The owner [relays](Stream::relay) or resets it; dropping it resets
    /// it.
    fn stream_opened(&self, stream: Stream, open: Open);
    /// Called when the peer has sent a message about the link itself (registration, answer, error) on `channel`.
    fn message_received(&self, link: &Arc<Link>, channel: u16, message: TunnelMessage);
    /// Called when the peer has sent GOAWAY: it accepts no new streams.
    fn go_away_received(&self, code: ResetCode);
    /// Called when one side wishes another number of channels for the data that it sends.
    fn channels_wanted(&self, wish: ChannelWish);
    /// Called when data was received on `channel` for a stream that does not exist. Only for text peers.
    fn unknown_stream(&self, channel: u16, key: StreamKey);
    /// Called when the link has lost its last channel. Streams are kept until the time `until` for the peer to resume
    /// the link.
    fn detached(&self, until: Instant);
    /// Called when a channel was added to a link without one, `after` the last one was lost: the streams continue.
    fn resumed(&self, after: Duration);
}

/// A link: the session with one peer process over all its channels. Contains the mux, the channels and the endpoints
/// of the open streams.
pub struct Link {
    /// Whether this process is the server or the proxy of the link.
    role: Role,
    /// The memory budget of the process.
    budget: MemoryBudget,
    /// The mux, the channels and the endpoints of the open streams.
    state: LinkStateMutex<LinkState>,
    /// The owner's callbacks, which are notified of events.
    events: Arc<dyn LinkEvents>,
    /// Cancelled once the link has ended, so that no channel is accepted any more.
    ended: CancellationToken,
    /// Notified when the link has lost its last channel: wakes the task that ends the link at its deadline.
    detach_notify: Notify,
    /// Lets one thread at a time notify the owner of attachment changes (detached, resumed, ended), in their order.
    notifier: FlatCombiner<()>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Link")
            .field("channels", &state.channels.len())
            .field("streams", &state.mux.stream_count())
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Creates a link without channels. `text` is the number of fields in the lines of a text peer, whose link has
    /// one channel only; `None` for a binary peer.
    pub fn new(
        role: Role,
        mut config: MuxConfig,
        text: Option<FieldCount>,
        events: Arc<dyn LinkEvents>,
    ) -> Arc<Self> {
        config.peer_has_flow_control = true;
        if text.is_some() {
            text_peer::adapt_config(&mut config);
        }
        let budget = config.budget.clone();
        let text = text.map(|fields| TextAdapter::new(role, fields, config.initial_window, budget.clone()));
        let state = LinkState::new(Mux::new(role, config), text);
        Arc::new(Self {
            role,
            budget,
            state: LinkStateMutex::new(state),
            events,
            ended: CancellationToken::new(),
            detach_notify: Notify::new(),
            notifier: FlatCombiner::default(),
        })
    }

    /// Opens a stream to the peer, preferably on a channel of this worker. OPEN leaves together with what is read next.
    ///
    /// # Errors
    /// [`OpenError`] says why no stream was opened.
    pub fn open(self: &Arc<Self>, new: NewStream) -> Result<Stream, OpenError> {
        let (now, runtime) = (Instant::now(), Handle::current().id());
        let endpoint = self.with(|state| {
            let LinkState { mux, channels, .. } = state;
            if !channels.is_empty() && channels.values().all(|channel| channel.shared().is_stalled(mux, now))
            {
                return Err(OpenError::Stalled);
            }
            let is_local =
                |id: u16| channels.get(&id).is_some_and(|channel| channel.shared().runtime() == runtime);
            let number = mux.open(new.stats.key, new.port, new.user, is_local)?;
            let endpoint = Arc::new(Endpoint::for_own_stream(number, new, mux.budget()));
            state.endpoints.insert(number, endpoint.clone());
            Ok(endpoint)
        })?;
        self.wake_drivers();
        warn_if_tight(&self.budget);
        Ok(Stream { link: self.clone(), endpoint })
    }

    /// Returns the primary channel of a stream; `None` while the link is detached.
    pub fn primary_channel(&self, stream: &Stream) -> Option<u16> {
        self.state.lock().mux.primary_channel(stream.number())
    }

    /// Returns the number of open streams of the link.
    pub fn stream_count(&self) -> usize {
        self.state.lock().mux.stream_count()
    }

    /// Returns whether so few stream numbers are left that the link should be replaced by another one.
    pub fn has_few_numbers(&self) -> bool {
        self.state.lock().mux.has_few_numbers()
    }

    /// Returns whether this process is the server or the proxy of the link.
    pub(in crate::link) fn role(&self) -> Role {
        self.role
    }

    /// Returns the memory budget of the process.
    pub(in crate::link) fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    /// Returns whether the link has at least one channel now.
    pub fn has_channel(&self) -> bool {
        !self.state.lock().channels.is_empty()
    }

    /// Sends a message about the link itself on `channel`, or on another one if the link has lost it. If too many
    /// messages wait because the peer does not read, the channel is closed instead.
    pub fn send_message(self: &Arc<Self>, channel: u16, message: TunnelMessage) {
        self.with(|state| {
            if let Err(error) = state.mux.send_message(channel, message) {
                state.stop_channel(channel, DisconnectReason::Protocol(error.to_string()));
            }
        });
        self.flush();
    }

    /// Sends a message about the link itself on any channel, preferably one on which the peer answers. It is lost if
    /// the link has no channel, or with the channel.
    pub fn send_on_any_channel(self: &Arc<Self>, message: TunnelMessage) {
        let channel = self.state.lock().mux.any_channel();
        if let Some(channel) = channel {
            self.send_message(channel, message);
        }
    }

    /// Sends GOAWAY: the peer is asked to open no new streams. From now on the link ends as soon as it has no channel;
    /// but not with [`ResetCode::LinkReplaced`], after which the open streams continue as before.
    pub fn send_go_away(self: &Arc<Self>, code: ResetCode) {
        self.send_go_away_with_successor(None, code);
    }

    /// Like [`send_go_away`](Self::send_go_away), and first names the address, `HOST:PORT`, of the server that
    /// replaces this one.
    pub fn send_go_away_with_successor(self: &Arc<Self>, successor: Option<&str>, code: ResetCode) {
        self.with(|state| {
            if code != ResetCode::LinkReplaced {
                state.resume_grace = Duration::ZERO;
            }
            if let Some(successor) = successor {
                // On all channels: the GOAWAY of any of them may arrive first.
                let message = TunnelMessage::control(TunnelAction::Successor, successor.to_owned());
                state.mux.broadcast_message(&message);
            }
            state.mux.send_go_away(code);
        });
        self.flush();
    }

    /// Sets how long streams are kept for the peer to resume the link after its last channel is lost. Zero at first:
    /// a peer that has not completed its registration registers anew. Without effect for a text peer, which cannot
    /// resume.
    pub fn set_resume_grace(&self, grace: Duration) {
        let mut state = self.state.lock();
        if state.text.is_none() {
            state.resume_grace = grace;
        }
    }

    /// Closes all channels and ends the link: every stream ends with an error. Frames that wait are still sent as far
    /// as the sockets take them at once.
    pub fn close(self: &Arc<Self>, reason: &DisconnectReason) {
        self.flush();
        self.with(|state| {
            state.is_closing = true;
            state.resume_grace = Duration::ZERO;
            if state.channels.is_empty() {
                state.last_end_reason = Some(reason.clone());
                state.end();
            }
            let channels: Vec<u16> = state.channels.keys().copied().collect();
            channels.into_iter().for_each(|id| state.stop_channel(id, reason.clone()));
        });
    }

    /// Ends a link that has never had a channel, so that its owner does not wait for one. Changes nothing on a link
    /// that has a channel or is detached.
    pub fn end_if_never_attached(self: &Arc<Self>) {
        self.with(|state| {
            if state.channels.is_empty() && state.detached.is_none() {
                state.end();
            }
        });
    }

    /// Removes all channels at once: the peer resumes the link without them. Frames that they still receive change
    /// nothing.
    pub fn remove_all_channels(self: &Arc<Self>) {
        self.with(|state| {
            let channels: Vec<u16> = state.channels.keys().copied().collect();
            for id in channels {
                state.stop_channel(id, DisconnectReason::Replaced);
                state.remove_channel(id);
            }
        });
    }

    /// Waits until the link has ended, and ends it when it stays detached for longer than its grace. The owner must
    /// await this: nothing else keeps the deadline.
    pub async fn run_until_ended(self: &Arc<Self>) {
        loop {
            let deadline = self.state.lock().detached.map(|detached| detached.until);
            let expired = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.ended.cancelled() => return,
                () = self.detach_notify.notified() => {}
                () = expired => self.with(|state| {
                    if state.detached.is_some_and(|detached| detached.until <= Instant::now()) {
                        state.end();
                    }
                }),
            }
        }
    }

    /// Waits until the link has ended. Unlike [`run_until_ended`](Self::run_until_ended) it does not keep the
    /// deadline of a detached link: for tasks other than its owner's.
    pub fn wait_ended(&self) -> WaitForCancellationFuture<'_> {
        self.ended.cancelled()
    }

    /// Returns whether the link has ended: it has no channel and accepts none.
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Returns why the channel of this link that ended last has ended; [`DisconnectReason::Closed`] if none has.
    pub fn last_end_reason(&self) -> DisconnectReason {
        self.state.lock().last_end_reason.clone().unwrap_or(DisconnectReason::Closed)
    }

    /// Locks the link state, applies `change` and unlocks it; then executes the consequences (deliveries, wakes,
    /// calls of the owner) and returns the result of `change`. `change` must not make a system call, wake a task,
    /// encode or decode.
    pub(in crate::link) fn with<R>(self: &Arc<Self>, change: impl FnOnce(&mut LinkState) -> R) -> R {
        let mut state = self.state.lock();
        let result = change(&mut state);
        state.collect_follow_ups();
        let must_notify = state.has_pending_notifications();
        if state.follow_ups.is_empty() {
            drop(state);
        } else {
            with_scratch(&FOLLOW_UPS, |follow_ups| {
                std::mem::swap(follow_ups, &mut state.follow_ups);
                drop(state);
                drain_despite_panic(
                    follow_ups,
                    |follow_up| self.execute(follow_up),
                    |follow_up| self.execute_without_owner(follow_up),
                );
            });
        }
        if must_notify {
            self.notify_owner();
        }
        result
    }

    /// Locks the link state and returns what `read` does with it.
    pub(in crate::link) fn read<R>(&self, read: impl FnOnce(&LinkState) -> R) -> R {
        read(&self.state.lock())
    }

    /// Executes one consequence of a change of the link state, which must be unlocked.
    fn execute(self: &Arc<Self>, follow_up: FollowUp) {
        match follow_up {
            FollowUp::Deliver(endpoint) => endpoint.deliver(self),
            FollowUp::WakeRelay(endpoint) => endpoint.wake(),
            FollowUp::CancelDriver(channel) => channel.cancel_driver(),
            FollowUp::WakeDriver(channel) => channel.wake_driver(),
            FollowUp::SetResponsive(channel, is_responsive) => channel.set_responsive(is_responsive),
            FollowUp::StreamOpened(endpoint, open) => {
                warn_if_tight(&self.budget);
                self.events.stream_opened(Stream { link: self.clone(), endpoint }, open);
            }
            FollowUp::MessageReceived(channel, message) => {
                self.events.message_received(self, channel, message);
            }
            FollowUp::GoAwayReceived(code) => self.events.go_away_received(code),
            FollowUp::ChannelsWanted(wish) => self.events.channels_wanted(wish),
            FollowUp::CloseUsedUp => {
                // The GOAWAY keeps the proxy from connecting again.
                self.send_go_away(ResetCode::Shutdown);
                self.close(&DisconnectReason::GoAway);
            }
            FollowUp::UnknownStream(channel, key) => self.events.unknown_stream(channel, key),
            FollowUp::LogRefusedAcknowledgement(error) => {
                tracing::error!(
                    "internal error: the mux refused an acknowledgement that this process generated for a text-format peer: {error}"
                );
            }
        }
    }

    /// Executes a follow-up that was not reached because the owner panicked in an earlier one of the same batch. The
    /// process goes on after such a panic, and a relay task or driver that is not woken would wait forever. Does not
    /// call the owner, whose second panic would abort the process; the follow-ups that only call it are dropped.
    fn execute_without_owner(self: &Arc<Self>, follow_up: FollowUp) {
        match follow_up {
            // The relay task delivers the data when it is woken.
            FollowUp::Deliver(endpoint) | FollowUp::WakeRelay(endpoint) => endpoint.wake(),
            FollowUp::CancelDriver(channel) => channel.cancel_driver(),
            FollowUp::WakeDriver(channel) => channel.wake_driver(),
            FollowUp::SetResponsive(channel, is_responsive) => channel.set_responsive(is_responsive),
            FollowUp::CloseUsedUp => self.close(&DisconnectReason::GoAway),
            // Nothing would ever relay the stream. The RESET leaves with the next flush.
            FollowUp::StreamOpened(endpoint, _) => {
                let mut state = self.state.lock();
                state.reset(endpoint.shared().number(), ResetCode::Internal);
                state.endpoints.remove(&endpoint.shared().number());
            }
            FollowUp::MessageReceived(..)
            | FollowUp::GoAwayReceived(_)
            | FollowUp::ChannelsWanted(_)
            | FollowUp::UnknownStream(..)
            | FollowUp::LogRefusedAcknowledgement(_) => {}
        }
    }

    /// Notifies the owner of attachment changes in their order. One thread at a time does, also for changes that
    /// others, or the notifications themselves, cause meanwhile: a proxy may have resumed the link before its owner
    /// was notified of the loss.
    fn notify_owner(self: &Arc<Self>) {
        self.notifier.run(|()| {
            loop {
                let change = self.state.lock().pop_notification();
                match change {
                    None => return true,
                    Some(AttachmentChange::Detached(until)) => {
                        self.detach_notify.notify_one();
                        self.events.detached(until);
                    }
                    Some(AttachmentChange::Resumed(after)) => self.events.resumed(after),
                    Some(AttachmentChange::Ended) => self.ended.cancel(),
                }
            }
        });
    }

    /// Adds a channel to the link, resumes the link if it was detached, and flushes. `rtt` is the RTT that the
    /// handshake measured, where it is known. Returns false, and adds nothing, if the link has ended or is
    /// closing.
    pub(in crate::link) fn add_channel(
        self: &Arc<Self>,
        channel: &Arc<ChannelIo>,
        rtt: Option<Duration>,
    ) -> bool {
        let is_added = self.with(|state| state.add_channel(channel, rtt));
        self.flush();
        is_added
    }

    /// Removes a channel that has ended, if the link still has it, and flushes the others, to which its streams fail
    /// over.
    pub(in crate::link) fn remove_channel(self: &Arc<Self>, id: u16) {
        self.with(|state| state.remove_channel(id));
        self.flush();
    }
}

/// Handle of an open stream. Dropping it resets the stream, so that none is left open unattended.
pub struct Stream {
    /// The link that carries the stream: the session with one peer over all its channels.
    link: Arc<Link>,
    /// The end of the stream on this side, with its local socket.
    endpoint: Arc<Endpoint>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({})", self.number())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reset(ResetCode::Internal);
    }
}

impl Stream {
    /// Returns the number of the stream in the mux of its link.
    pub(super) fn number(&self) -> u32 {
        self.endpoint.shared().number()
    }

    /// Returns the link that carries the stream (the session with one peer over all its channels).
    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Returns the end of the stream on this side, with its local socket.
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Accepts a stream that the peer opened: the target is connected, and the peer is notified with OPEN_OK.
    pub fn accept(&self) {
        self.link.with(|state| state.mux.accept(self.number()));
        self.link.wake_drivers();
    }

    /// Waits until the peer resets the stream, and returns its code. Only for a stream that is not being relayed.
    pub async fn wait_for_reset(&self) -> ResetCode {
        loop {
            match self.endpoint.shared().end() {
                Some(Err(code)) => return code,
                // A stream that is not relayed does not finish.
                Some(Ok(())) => return ResetCode::Internal,
                None => self.endpoint.woken().await,
            }
        }
    }

    /// Resets the stream: the peer receives RESET with `code`. Without effect if the stream has ended.
    pub fn reset(&self, code: ResetCode) {
        if self.endpoint.shared().end().is_none() {
            self.link.with(|state| {
                state.reset(self.number(), code);
                state.endpoints.remove(&self.number());
            });
            self.endpoint.reset(code);
            self.link.flush();
        }
    }
}
