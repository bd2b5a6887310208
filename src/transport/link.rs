use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::HashMap;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::{
    Answered, Limits,
    channel::ChannelIo,
    endpoint::Endpoint,
    stream::{Stream, sleep_until},
};
use crate::{
    ids::StreamKey,
    mux::{CHUNK, FromText, Mux, MuxConfig, MuxEvent, OpenError, ProtocolError, Role, TextPeer},
    telemetry::{GoneReason, StreamStats},
    wire::{Frame, OpenFrame, ResetCode, TunnelAction, TunnelMessage, text::Fields},
};

/// How long a peer is waited for whose last channel was reset. Channels are armed, so that the death of either process,
/// however it comes, resets them all; where something between the two did that, the living peer knows at the same moment
/// and is back within this time. An end without a reset and without a goodbye, and silence, are the network's.
const REVIVE: Duration = Duration::from_secs(1);

/// How often a text peer is pinged.
const TEXT_PING: Duration = Duration::from_secs(3);

/// What a link tells its owner. Called with no lock on its state held; must not block. [`waiting`](Self::waiting) and
/// [`resumed`](Self::resumed) are told one after the other, in the order in which they happened.
pub trait LinkEvents: Send + Sync + 'static {
    /// The peer opened a stream: [`carry`](Stream::carry) it or let it go.
    fn opened(&self, stream: Stream, open: OpenFrame);
    /// The peer says something about the link.
    fn message(&self, link: &Arc<Link>, channel: u16, message: TunnelMessage);
    /// The peer takes no new streams.
    fn go_away(&self, code: ResetCode);
    /// Bytes came for a stream that is not there.
    fn no_session(&self, channel: u16, key: StreamKey);
    /// The last channel is lost, and the streams wait for another until then.
    fn waiting(&self, until: Instant);
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
    pub sniff: bool,
    /// How fast it may go.
    pub limits: Limits,
    /// Who wants to know how quickly it is answered.
    pub tell: Arc<dyn Answered>,
}

/// The session with one peer: its mux, its channels, the ends of its streams.
pub struct Link {
    role: Role,
    state: Mutex<State>,
    events: Arc<dyn LinkEvents>,
    closed: CancellationToken,
    /// It waits for a channel since a moment ago, or does no more.
    wait_changed: Notify,
    /// Held by who tells how the link goes on, so that it is told in the order in which it went.
    telling: Mutex<()>,
}

/// How long a link without a channel is waited for.
#[derive(Debug, Clone, Copy)]
struct Wait {
    since: Instant,
    until: Instant,
}

pub(super) struct State {
    pub(super) mux: Mux,
    pub(super) text: Option<TextPeer>,
    pub(super) endpoints: HashMap<u32, Arc<Endpoint>>,
    pub(super) channels: BTreeMap<u16, Arc<ChannelIo>>,
    /// How long streams wait for a channel once the last is lost.
    grace: Duration,
    /// They do.
    wait: Option<Wait>,
    /// There is no channel, and none is waited for.
    over: bool,
    /// Why the channel ended that ended last.
    why: Option<GoneReason>,
    /// The channels there are have been told to end, and no other is taken.
    closing: bool,
    /// What has to happen once the lock is free again.
    next: Vec<Next>,
    /// How the link went on, as far as it was not told.
    untold: VecDeque<Turn>,
}

enum Next {
    Deliver(Arc<Endpoint>),
    Opened(Arc<Endpoint>, OpenFrame),
    Message(u16, TunnelMessage),
    GoAway(ResetCode),
    NoSession(u16, StreamKey),
}

/// How a link goes on. Whoever hears of two in the wrong order takes it for waiting although it has channels.
enum Turn {
    Waiting(Instant),
    Resumed(Duration),
    Over,
}

thread_local! {
    /// The memory of such a list, for the next: one is made for each message that comes.
    static SPARE: Cell<Vec<Next>> = const { Cell::new(Vec::new()) };
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Link")
            .field("channels", &state.channels.len())
            .field("streams", &state.mux.streams())
            .finish_non_exhaustive()
    }
}

impl Link {
    /// A link without channels. `text` says that the peer speaks text, and how; such a link has one channel.
    pub fn new(
        role: Role,
        mut config: MuxConfig,
        text: Option<Fields>,
        events: Arc<dyn LinkEvents>,
    ) -> Arc<Self> {
        config.peer_has_credit = text.is_none();
        if text.is_some() {
            // A line of more could be too long for who wrote the peer.
            config.chunk = config.chunk.map(|chunk| chunk.min(CHUNK));
            // A simple proxy does one thing at a time, and may be held up by one slow target for a while.
            (config.ping_every, config.dead_after) = (TEXT_PING, config.idle_dead_after);
        }
        let state = State {
            text: text.map(|fields| TextPeer::new(role, fields, config.window)),
            mux: Mux::new(role, config),
            endpoints: HashMap::default(),
            channels: BTreeMap::new(),
            grace: Duration::ZERO,
            wait: None,
            over: false,
            why: None,
            closing: false,
            next: Vec::new(),
            untold: VecDeque::new(),
        };
        Arc::new(Self {
            role,
            state: Mutex::new(state),
            events,
            closed: CancellationToken::new(),
            wait_changed: Notify::new(),
            telling: Mutex::new(()),
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
                return Err(OpenError::Stuck);
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
        self.state.lock().mux.channel_of(stream.number())
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.state.lock().mux.streams()
    }

    /// Says something about the link itself. A peer that does not read what it is told loses the channel.
    pub fn send_message(self: &Arc<Self>, channel: u16, message: TunnelMessage) {
        self.with(|state| {
            if let Err(error) = state.mux.send_message(channel, message) {
                state.stop_channel(channel, GoneReason::Protocol(error.to_string()));
            }
        });
        self.flush();
    }

    pub(super) fn role(&self) -> Role {
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
                state.mux.send_everywhere(&message);
            }
            state.mux.go_away(code);
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
    pub fn close(self: &Arc<Self>, reason: &GoneReason) {
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
                state.stop_channel(id, GoneReason::Replaced);
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
    pub fn why_closed(&self) -> GoneReason {
        self.state.lock().why.clone().unwrap_or(GoneReason::Closed)
    }

    /// Whether the link is over.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Changes the state under the lock, then does what follows from it without.
    pub(super) fn with<R>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> R) -> R {
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
                Next::Deliver(endpoint) => endpoint.deliver(self),
                Next::Opened(endpoint, open) => {
                    self.events.opened(Stream::new(self.clone(), endpoint), open);
                }
                Next::Message(channel, message) => self.events.message(self, channel, message),
                Next::GoAway(code) => self.events.go_away(code),
                Next::NoSession(channel, key) => self.events.no_session(channel, key),
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
        loop {
            // Whoever holds it looks again after.
            let Some(telling) = self.telling.try_lock() else { return };
            loop {
                let turn = self.state.lock().untold.pop_front();
                match turn {
                    None => break,
                    Some(Turn::Waiting(until)) => {
                        self.wait_changed.notify_one();
                        self.events.waiting(until);
                    }
                    Some(Turn::Resumed(after)) => self.events.resumed(after),
                    Some(Turn::Over) => self.closed.cancel(),
                }
            }
            drop(telling);
            if self.state.lock().untold.is_empty() {
                return;
            }
        }
    }

    /// Writes out whatever waits, on every channel.
    pub(super) fn flush(self: &Arc<Self>) {
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
    pub(super) fn flush_soon(&self) {
        let state = self.state.lock();
        for (id, channel) in &state.channels {
            if state.mux.has_output(*id) {
                channel.kick();
            }
        }
    }

    /// False if the link is over or about to be: nobody would look after the channel.
    pub(super) fn add_channel(self: &Arc<Self>, channel: &Arc<ChannelIo>) -> bool {
        let taken = self.with(|state| {
            let taken = !state.over && !state.closing;
            if taken {
                state.untold.extend(state.wait.take().map(|wait| Turn::Resumed(wait.since.elapsed())));
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
    pub(super) fn remove_channel(self: &Arc<Self>, id: u16) {
        self.with(|state| state.remove_channel(id));
        self.flush();
    }

    /// Gives the next frames for a channel, or lines for a text peer, to `take` until it says that it is enough.
    pub(super) fn poll_transmit(self: &Arc<Self>, id: u16, take: impl FnMut(Transmit) -> bool) {
        self.with(|state| state.poll_transmit(id, take));
    }
}

/// What goes out on a channel.
pub(super) enum Transmit {
    Frame(Frame),
    Line(TunnelMessage),
}

impl State {
    fn poll_transmit(&mut self, id: u16, mut take: impl FnMut(Transmit) -> bool) {
        let mut messages = Vec::new();
        let now = Instant::now();
        while let Some(frame) = self.mux.poll_transmit(id, now) {
            let more = match &mut self.text {
                None => take(Transmit::Frame(frame)),
                Some(peer) => {
                    if let Some(acknowledgement) = peer.outbound(frame, &mut messages)
                        && let Err(error) = self.mux.handle_frame(id, acknowledgement, now)
                    {
                        // Made up by us, so it cannot be wrong unless we are.
                        tracing::error!("a text peer's acknowledgement was refused: {error}");
                    }
                    messages.drain(..).fold(true, |_, message| take(Transmit::Line(message)))
                }
            };
            if !more {
                return;
            }
        }
    }

    /// Bytes of a stream were taken by its socket.
    pub(super) fn consume(&mut self, stream: u32, bytes: u64, now: Instant) {
        self.mux.consume(stream, bytes, now);
        if let Some(peer) = &mut self.text {
            peer.passed_on(stream, bytes);
        }
    }

    /// Ends a stream with an error at the other side.
    pub(super) fn reset(&mut self, stream: u32, code: ResetCode) {
        self.mux.reset(stream, code);
        if let Some(peer) = &mut self.text {
            peer.given_up(stream);
        }
    }

    /// A line of a text peer came in.
    pub(super) fn handle_line(
        &mut self,
        id: u16,
        line: TunnelMessage,
        now: Instant,
    ) -> Result<(), ProtocolError> {
        let Some(peer) = &mut self.text else { return Ok(()) };
        let mut meanings = Vec::new();
        peer.inbound(line, &mut meanings);
        for meaning in meanings {
            match meaning {
                FromText::Frame(frame) => self.mux.handle_frame(id, frame, now)?,
                FromText::Reply(message) => self.mux.send_message(id, message)?,
                FromText::Size { stream, size } => {
                    if let Some(stats) = self.endpoints.get(&stream).and_then(|endpoint| endpoint.stats()) {
                        stats.set_total_size(size);
                    }
                }
                FromText::NoSession(key) => self.next.push(Next::NoSession(id, key)),
            }
        }
        Ok(())
    }

    /// A text peer's channel is not read while one of its streams has too much waiting.
    pub(super) fn must_stop_reading(&self) -> bool {
        self.text.as_ref().is_some_and(TextPeer::must_stop_reading)
    }

    fn remove_channel(&mut self, id: u16) {
        let Some(lost) = self.channels.remove(&id) else { return };
        self.why = lost.reason().cloned();
        self.mux.channel_lost(id);
        if !self.channels.is_empty() {
            return;
        }
        let grace = match &self.why {
            Some(GoneReason::Reset) => self.grace.min(REVIVE),
            // It would do it again.
            Some(GoneReason::Protocol(_)) => Duration::ZERO,
            _ => self.grace,
        };
        if grace.is_zero() {
            return self.end();
        }
        let since = Instant::now();
        let until = since + grace;
        self.wait = Some(Wait { since, until });
        self.untold.push_back(Turn::Waiting(until));
        self.endpoints
            .values()
            .filter_map(|endpoint| endpoint.stats())
            .for_each(|stats| stats.set_channel(None));
    }

    /// There is no channel, and there will be none.
    fn end(&mut self) {
        self.over = true;
        self.wait = None;
        self.mux.give_up();
        self.untold.push_back(Turn::Over);
    }

    pub(super) fn stop_channel(&mut self, id: u16, reason: GoneReason) {
        if let Some(channel) = self.channels.get(&id) {
            channel.stop(reason);
        }
    }

    fn dispatch(&mut self) {
        let next = &mut self.next;
        while let Some(event) = self.mux.poll_event() {
            match event {
                MuxEvent::Opened(open) => {
                    // Here and not later: what follows its OPEN may be its RESET.
                    let endpoint = Arc::new(Endpoint::theirs(open.stream));
                    self.endpoints.insert(open.stream, endpoint.clone());
                    next.push(Next::Opened(endpoint, open));
                }
                MuxEvent::Message { channel, message } => {
                    if message.action == TunnelAction::Exit {
                        self.grace = Duration::ZERO;
                    }
                    next.push(Next::Message(channel, message));
                }
                MuxEvent::GoAway { code } => {
                    // Who has said goodbye does not come back.
                    self.grace = Duration::ZERO;
                    next.push(Next::GoAway(code));
                }
                MuxEvent::Readable { stream } => {
                    next.extend(self.endpoints.get(&stream).cloned().map(Next::Deliver));
                }
                MuxEvent::Writable { stream } => {
                    self.endpoints.get(&stream).inspect(|endpoint| endpoint.wake());
                }
                MuxEvent::Accepted { stream } => {
                    self.endpoints.get(&stream).inspect(|endpoint| endpoint.accepted());
                }
                MuxEvent::Reset { stream, code } => {
                    self.endpoints.remove(&stream).inspect(|endpoint| endpoint.ended(Err(code)));
                }
                MuxEvent::Moved { stream, channel } => {
                    let endpoint = self.endpoints.get(&stream).inspect(|endpoint| endpoint.moved());
                    let stats = endpoint.and_then(|endpoint| endpoint.stats());
                    let channel = self.channels.get(&channel).and_then(|channel| channel.stats());
                    if let (Some(stats), Some(channel)) = (stats, channel) {
                        stats.set_channel(Some(channel.clone()));
                    }
                }
                MuxEvent::Closed { stream } => {
                    self.endpoints.remove(&stream).inspect(|endpoint| endpoint.ended(Ok(())));
                }
                MuxEvent::Sent { stream, since } => {
                    self.endpoints.get(&stream).inspect(|endpoint| endpoint.sent(since));
                }
                MuxEvent::RoundTrip { channel, rtt } => {
                    self.channels.get(&channel).inspect(|channel| channel.set_rtt(rtt));
                }
                MuxEvent::ChannelDead { channel } => {
                    self.channels.get(&channel).inspect(|channel| channel.stop(GoneReason::Silent));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use tokio::{
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::*;
    use crate::transport::{Attached, ChannelSocket, Drive};

    #[derive(Default)]
    struct Listener {
        /// What comes back the moment in which the link is told to wait.
        back: Mutex<Option<(Arc<Link>, Drive)>>,
        attached: Mutex<Option<Attached>>,
        told: Mutex<Vec<&'static str>>,
    }

    impl LinkEvents for Listener {
        fn opened(&self, _stream: Stream, _open: OpenFrame) {}
        fn message(&self, _link: &Arc<Link>, _channel: u16, _message: TunnelMessage) {}
        fn go_away(&self, _code: ResetCode) {}
        fn no_session(&self, _channel: u16, _key: StreamKey) {}

        fn waiting(&self, _until: Instant) {
            if let Some((link, drive)) = self.back.lock().take() {
                *self.attached.lock() = link.attach(drive);
            }
            self.told.lock().push("waits");
        }

        fn resumed(&self, _after: Duration) {
            self.told.lock().push("is back");
        }
    }

    /// One end of a channel, and the other.
    async fn channel(id: u16) -> (Drive, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(addr), listener.accept());
        let socket = ChannelSocket::plain(near.unwrap());
        let (read_ahead, codec) = Default::default();
        (Drive { id, socket, read_ahead, codec, text: None, stats: None }, far.unwrap().0)
    }

    /// A proxy that came back at once could be told of before its loss, and was shown as waiting from then on.
    #[tokio::test]
    async fn a_return_is_told_after_the_loss_however_soon_it_comes() {
        let listener = Arc::<Listener>::default();
        let link = Link::new(Role::Opener, MuxConfig::default(), None, listener.clone());
        link.set_grace(Duration::from_secs(30));
        let ((first, _far), (second, _other)) = (channel(1).await, channel(2).await);
        *listener.back.lock() = Some((link.clone(), second));
        drop(link.attach(first));
        assert_eq!(*listener.told.lock(), ["waits", "is back"]);
        assert!(link.has_channel());
        // Which it would keep alive.
        listener.attached.lock().take();
        assert_eq!(*listener.told.lock(), ["waits", "is back", "waits"]);
    }

    /// A kicked proxy lived on, and was given no more users, if one of its channels joined again in that moment.
    #[tokio::test]
    async fn a_link_that_is_being_closed_takes_no_channel() {
        let (first, _far) = channel(1).await;
        let (second, _other) = channel(2).await;
        let link = Link::new(Role::Opener, MuxConfig::default(), None, Arc::<Listener>::default());
        let joins = async {
            // The first is driven by now, and is not polled again before the second comes.
            link.close(&GoneReason::Kicked);
            link.drive(second).await
        };
        let ends = async { tokio::join!(link.drive(first), joins) };
        let (first, second) = timeout(Duration::from_secs(5), ends).await.expect("the link lives on");
        assert_eq!((first, second), (GoneReason::Kicked, GoneReason::Closed));
        assert!(link.is_closed());
    }
}
