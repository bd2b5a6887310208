//! A link at work: channel drivers, the pump between a stream and a socket, and the mux behind its lock.
//!
//! One [`Link`] holds the mux of one proxy behind a lock that is never held over a system call. Whoever has changed
//! something in it carries the consequences itself: the reader of a channel writes to the users' sockets, the reader of
//! a user's socket writes to the channel where it has read much. Little things wait until every task that is ready has
//! run, and go out together. A task is woken only for what did not fit.

mod control;
mod driver;
mod endpoint;
mod flat_combining;
mod flow;
mod latency;
mod limit;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod write_queue;

use std::{
    cell::Cell,
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::{
    ids::StreamKey,
    mux::{CHUNK_SIZE, Mux, MuxConfig, OpenError, Role, TextAdapter},
    telemetry::{DisconnectReason, StreamStats},
    wire::{Open, ResetCode, TunnelAction, TunnelMessage, text::FieldCount},
};

use driver::ChannelIo;
use endpoint::Endpoint;
use flat_combining::FlatCombiner;
use state::{FollowUp, LinkState, LinkTransition, Transmit};
use stream::sleep_until;

pub use control::StreamControl;
pub use driver::{Driver, NewChannel};
pub use latency::LatencyObserver;
pub use limit::{RateLimit, RateLimitCount, StreamRateLimits};
pub use stream::{RetryableConnection, Stream, StreamOutcome};

/// What `solo` is made of; its test puts others in their place.
mod sync {
    pub(super) use parking_lot::Mutex;
    pub(super) use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
}

/// How often a text peer is pinged.
const TEXT_PING: Duration = Duration::from_secs(3);

/// What a link tells its owner. Called with no lock on its state held; must not block. [`detached`](Self::detached) and
/// [`resumed`](Self::resumed) are told one after the other, in the order in which they happened.
pub trait LinkEvents: Send + Sync + 'static {
    /// The peer opened a stream: [`relay`](Stream::relay) it or let it go.
    fn stream_opened(&self, stream: Stream, open: Open);
    /// The peer says something about the link.
    fn message_received(&self, link: &Arc<Link>, channel: u16, message: TunnelMessage);
    /// The peer takes no new streams.
    fn go_away_received(&self, code: ResetCode);
    /// Bytes came for a stream that is not there.
    fn unknown_stream(&self, channel: u16, key: StreamKey);
    /// The last channel is lost, and the streams wait for another until then.
    fn detached(&self, until: Instant);
    /// A channel has come, so long after the last one was lost: the streams go on.
    fn resumed(&self, after: Duration);
}

/// A stream to be opened.
#[derive(Debug)]
pub struct NewStream {
    /// Where its bytes are counted.
    pub stats: Arc<StreamStats>,
    /// The public port that the user came to.
    pub port: u16,
    /// The user's address, where the peer is to know it.
    pub user: Option<SocketAddr>,
    /// Whether the counters are also to say what it carries.
    pub inspect: bool,
    /// How fast it may go.
    pub limits: StreamRateLimits,
    /// Who wants to know how quickly it is answered.
    pub latency_observer: Arc<dyn LatencyObserver>,
}

/// The session with one peer: its mux, its channels, the ends of its streams.
pub struct Link {
    role: Role,
    state: Mutex<LinkState>,
    events: Arc<dyn LinkEvents>,
    closed: CancellationToken,
    /// It waits for a channel since a moment ago, or does no more.
    wait_changed: Notify,
    /// BottleneckTimer by who tells how the link goes on, so that it is told in the order in which it went.
    telling: FlatCombiner<()>,
}

thread_local! {
    /// The memory of such a list, for the next: one is made for each message that comes.
    static SPARE: Cell<Vec<FollowUp>> = const { Cell::new(Vec::new()) };
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
    /// A link without channels. `text` says that the peer speaks text, and how; such a link has one channel.
    pub fn new(
        role: Role,
        mut config: MuxConfig,
        text: Option<FieldCount>,
        events: Arc<dyn LinkEvents>,
    ) -> Arc<Self> {
        config.peer_has_flow_control = text.is_none();
        if text.is_some() {
            // A line of more could be too long for who wrote the peer.
            config.chunk_size = config.chunk_size.map(|chunk| chunk.min(CHUNK_SIZE));
            // A simple proxy does one thing at a time, and may be held up by one slow target for a while.
            (config.ping_interval, config.keepalive_timeout) = (TEXT_PING, config.idle_timeout);
        }
        let text = text.map(|fields| TextAdapter::new(role, fields, config.initial_window));
        let state = LinkState::new(Mux::new(role, config), text);
        Arc::new(Self {
            role,
            state: Mutex::new(state),
            events,
            closed: CancellationToken::new(),
            wait_changed: Notify::new(),
            telling: FlatCombiner::default(),
        })
    }

    /// Opens a stream to the peer.
    ///
    /// # Errors
    /// [`OpenError`], and nothing was opened.
    pub fn open(self: &Arc<Self>, new: NewStream) -> Result<Stream, OpenError> {
        let endpoint = self.with(|state| {
            let now = Instant::now();
            if !state.channels.is_empty()
                && state.channels.values().all(|channel| channel.is_stuck(&state.mux, now))
            {
                return Err(OpenError::Stalled);
            }
            let here = Handle::current().id();
            let near = |id: u16| state.channels.get(&id).is_some_and(|channel| channel.home() == here);
            let number = state.mux.open(new.stats.key, new.port, new.user, near)?;
            let endpoint = Arc::new(Endpoint::ours(number, new));
            state.endpoints.insert(number, endpoint.clone());
            Ok(endpoint)
        })?;
        self.flush();
        Ok(Stream::new(self.clone(), endpoint))
    }

    /// The channel that a stream goes out on.
    pub fn channel_of(&self, stream: &Stream) -> Option<u16> {
        self.state.lock().mux.primary_channel(stream.number())
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.state.lock().mux.stream_count()
    }

    /// Says something about the link itself. A peer that does not read what it is told loses the channel.
    pub fn send_message(self: &Arc<Self>, channel: u16, message: TunnelMessage) {
        self.with(|state| {
            if let Err(error) = state.mux.send_message(channel, message) {
                state.stop_channel(channel, DisconnectReason::Protocol(error.to_string()));
            }
        });
        self.flush();
    }

    pub(in crate::link) fn role(&self) -> Role {
        self.role
    }

    /// Tells the peer that there will be nothing new. No lost channel is waited for any more: whoever leaves takes none.
    pub fn go_away(self: &Arc<Self>, code: ResetCode) {
        self.go_away_to(None, code);
    }

    /// [`go_away`](Self::go_away), naming first, as `HOST:PORT`, who is there instead.
    pub fn go_away_to(self: &Arc<Self>, successor: Option<&str>, code: ResetCode) {
        self.with(|state| {
            state.grace = Duration::ZERO;
            if let Some(successor) = successor {
                // On all channels: the goodbye may come on any of them first.
                let message = TunnelMessage::control(TunnelAction::Successor, successor.to_owned());
                state.mux.broadcast_message(&message);
            }
            state.mux.send_go_away(code);
        });
        self.flush();
    }

    /// From now on streams wait for so long when the last channel is lost. At first they do not: what has not come as
    /// far as to serve begins anew instead. Those of a text peer never do, for it cannot come back to them.
    pub fn set_grace(&self, grace: Duration) {
        let mut state = self.state.lock();
        if state.text.is_none() {
            state.grace = grace;
        }
    }

    /// Closes all channels; every stream ends with an error. What was said last still goes out, if it fits.
    pub fn close(self: &Arc<Self>, reason: &DisconnectReason) {
        self.flush();
        self.with(|state| {
            state.closing = true;
            state.grace = Duration::ZERO;
            if state.channels.is_empty() {
                state.why = Some(reason.clone());
                state.end();
            }
            let channels: Vec<u16> = state.channels.keys().copied().collect();
            channels.into_iter().for_each(|id| state.stop_channel(id, reason.clone()));
        });
    }

    /// Ends a link that never had a channel, so that none is waited for. Any other is left alone.
    pub fn abandon(self: &Arc<Self>) {
        self.with(|state| {
            if state.channels.is_empty() && state.wait.is_none() {
                state.end();
            }
        });
    }

    /// Takes all channels off at once: the peer has come back without them. What they still bring changes nothing.
    pub fn fence(self: &Arc<Self>) {
        self.with(|state| {
            let channels: Vec<u16> = state.channels.keys().copied().collect();
            for id in channels {
                state.stop_channel(id, DisconnectReason::Replaced);
                state.remove_channel(id);
            }
        });
    }

    /// Ready once the link is over: closed, or without a channel for longer than is waited. Its owner waits here, for
    /// nobody else keeps the time.
    pub async fn ended(self: &Arc<Self>) {
        loop {
            let until = self.state.lock().wait.map(|wait| wait.until);
            tokio::select! {
                () = self.closed.cancelled() => return,
                () = self.wait_changed.notified() => {}
                () = sleep_until(until) => self.with(|state| {
                    if state.wait.is_some_and(|wait| wait.until <= Instant::now()) {
                        state.end();
                    }
                }),
            }
        }
    }

    /// Ready once the link is over, for others than its owner.
    pub fn closed(&self) -> WaitForCancellationFuture<'_> {
        self.closed.cancelled()
    }

    /// Whether there is a channel.
    pub fn has_channel(&self) -> bool {
        !self.state.lock().channels.is_empty()
    }

    /// Why the channel ended that ended last.
    pub fn why_closed(&self) -> DisconnectReason {
        self.state.lock().why.clone().unwrap_or(DisconnectReason::Closed)
    }

    /// Whether the link is over.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Changes the state under the lock, then does what follows from it without.
    pub(in crate::link) fn with<R>(self: &Arc<Self>, change: impl FnOnce(&mut LinkState) -> R) -> R {
        let (result, mut next, untold) = {
            let mut state = self.state.lock();
            let result = change(&mut state);
            state.dispatch();
            let untold = !state.untold.is_empty();
            if state.next.is_empty() && !untold {
                return result;
            }
            (result, std::mem::replace(&mut state.next, SPARE.take()), untold)
        };
        for next in next.drain(..) {
            match next {
                FollowUp::Deliver(endpoint) => endpoint.deliver(self),
                FollowUp::Opened(endpoint, open) => {
                    self.events.stream_opened(Stream::new(self.clone(), endpoint), open);
                }
                FollowUp::Message(channel, message) => self.events.message_received(self, channel, message),
                FollowUp::GoAway(code) => self.events.go_away_received(code),
                FollowUp::NoSession(channel, key) => self.events.unknown_stream(channel, key),
            }
        }
        // The one that a crowd has made long is not kept.
        if next.capacity() <= 128 {
            SPARE.set(next);
        }
        if untold {
            self.tell();
        }
        result
    }

    /// Tells how the link goes on, in order. Only one at a time does, also for what others bring meanwhile, and what
    /// hearing of it leads to: a proxy may be back before it was told that it is gone.
    fn tell(self: &Arc<Self>) {
        self.telling.run(|()| {
            loop {
                let turn = self.state.lock().untold.pop_front();
                match turn {
                    None => return true,
                    Some(LinkTransition::Waiting(until)) => {
                        self.wait_changed.notify_one();
                        self.events.detached(until);
                    }
                    Some(LinkTransition::Resumed(after)) => self.events.resumed(after),
                    Some(LinkTransition::Over) => self.closed.cancel(),
                }
            }
        });
    }

    /// Writes out whatever waits, on every channel.
    pub(in crate::link) fn flush(self: &Arc<Self>) {
        let mut next = 0;
        loop {
            let due = {
                let state = self.state.lock();
                let found = state.channels.range(next..).find(|(id, _)| state.mux.has_output(**id));
                found.map(|(id, channel)| (*id, channel.clone()))
            };
            let Some((id, channel)) = due else { return };
            channel.flush(self);
            let Some(following) = id.checked_add(1) else { return };
            next = following;
        }
    }

    /// Has whatever waits written out once the tasks that are ready now have run: what they have to say goes with it.
    pub(in crate::link) fn flush_soon(&self) {
        let state = self.state.lock();
        for (id, channel) in &state.channels {
            if state.mux.has_output(*id) {
                channel.kick();
            }
        }
    }

    /// False if the link is over or about to be: nobody would look after the channel.
    pub(in crate::link) fn add_channel(self: &Arc<Self>, channel: &Arc<ChannelIo>) -> bool {
        let taken = self.with(|state| {
            let taken = !state.over && !state.closing;
            if taken {
                state.resume();
                state.channels.insert(channel.id(), channel.clone());
                state.mux.add_channel(channel.id(), Instant::now());
                state.mux.handle_timeout(Instant::now());
            }
            taken
        });
        self.flush();
        taken
    }

    /// The channel is lost, if it was not before.
    pub(in crate::link) fn remove_channel(self: &Arc<Self>, id: u16) {
        self.with(|state| state.remove_channel(id));
        self.flush();
    }

    /// Gives the next frames for a channel, or lines for a text peer, to `take` until it says that it is enough.
    pub(in crate::link) fn poll_transmit(self: &Arc<Self>, id: u16, take: impl FnMut(Transmit) -> bool) {
        self.with(|state| state.poll_transmit(id, take));
    }
}
