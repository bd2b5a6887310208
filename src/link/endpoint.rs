use std::{
    collections::VecDeque,
    io,
    net::Shutdown,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU32,
            Ordering::{AcqRel, Relaxed, Release},
        },
    },
    time::Instant,
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use socket2::SockRef;
use tokio::{net::TcpStream, sync::Notify};

use super::{
    Link, LinkState, NewStream,
    flow::{ActivityTracker, BottleneckTimer},
    latency::LatencyTimer,
    limit::{Pacer, StreamRateLimits},
};
use crate::{
    ids::Direction,
    inspect::StreamInspector,
    mux,
    net::{MAX_SLICES, advance, try_write, write_vectored_once},
    telemetry::{Bottleneck, StreamPhase, StreamStats},
    wire::ResetCode,
};

/// After this many bytes the mux is told that they are gone, though more wait: credit that goes back early finds the
/// peer's buffers still in its cache, and each time it wakes the peer.
const REPORT_EVERY: u64 = 256 * 1024;

/// Our end of a stream: the socket it is carried to, and what has come for it.
///
/// Whoever reads a channel delivers from here to the socket at once; the stream's own task is woken only for what the
/// socket did not take.
#[derive(Debug)]
pub(super) struct Endpoint {
    number: u32,
    stats: Option<Arc<StreamStats>>,
    inspector: StreamInspector,
    /// Only where somebody wants to know how quickly the stream is answered.
    stopwatch: Option<LatencyTimer>,
    limits: Option<StreamRateLimits>,
    /// Who holds the way from the socket.
    held_up: Mutex<BottleneckTimer>,
    /// Only where somebody looks.
    looks: Mutex<Option<Box<ActivityTracker>>>,
    /// How often another channel took it over.
    migrations: AtomicU32,
    /// The peer took the stream.
    accepted: AtomicBool,
    wake: Notify,
    /// The stream's task was woken for more than its socket, and has not looked since.
    called: AtomicBool,
    delivery: Mutex<Delivery>,
    given: Mutex<ReplayBuffer>,
    ended: OnceLock<Result<(), ResetCode>>,
}

/// What the socket has given so far.
#[derive(Debug)]
enum ReplayBuffer {
    /// All of it, as long as another stream may have to carry it: the peer has not said that it took this one.
    Kept(Vec<Bytes>),
    /// Something.
    Some,
    /// Nothing, and the peer has taken the stream.
    Nothing,
}

#[derive(Debug)]
pub(super) struct Delivery {
    /// None until there is one: what comes before waits in the mux, within its window.
    pub(super) socket: Option<Arc<TcpStream>>,
    pub(super) queue: VecDeque<Bytes>,
    /// How many at its front keep no more than themselves alive, or not much.
    own: usize,
    /// The mux was told that what comes has to be kept, and was not read since.
    put_off: bool,
    /// The peer's last byte is in `queue` or gone already.
    end: bool,
    /// The socket was told that it was the last.
    pub(super) end_told: bool,
    /// The operator holds the stream.
    pub(super) paused: bool,
    /// The socket takes no more for now.
    pub(super) blocked: bool,
    /// A rate limit lets no more pass until then.
    pub(super) waits: Option<Instant>,
    pacer: Pacer,
    /// Who holds the way to the socket.
    pub(super) held: BottleneckTimer,
    /// Something of the answer has gone to the socket.
    answered: bool,
    pub(super) failed: Option<io::Error>,
}

impl Delivery {
    /// How many of the bytes that wait may go now, or when some may.
    fn allowed(&mut self) -> Result<usize, Instant> {
        if self.pacer.is_free() {
            return Ok(usize::MAX);
        }
        // As many as one system call takes are enough to look at.
        let waiting: usize = self.queue.iter().take(MAX_SLICES).map(Bytes::len).sum();
        let allowed = self.pacer.ask(waiting as u64, Instant::now())?;
        Ok(usize::try_from(allowed).unwrap_or(usize::MAX))
    }
}

impl Endpoint {
    /// The end of a stream that the peer opened.
    pub(super) fn theirs(number: u32) -> Self {
        Self::new(number, None, false, None, None)
    }

    /// The end of a stream that we opened.
    pub(super) fn ours(number: u32, new: NewStream) -> Self {
        let NewStream { stats, inspect, limits, latency_observer, .. } = new;
        Self::new(number, Some(stats), inspect, Some(limits), Some(LatencyTimer::start(latency_observer)))
    }

    /// `sniff` says whether to look at what passes; only an end with counters can.
    fn new(
        number: u32,
        stats: Option<Arc<StreamStats>>,
        sniff: bool,
        limits: Option<StreamRateLimits>,
        stopwatch: Option<LatencyTimer>,
    ) -> Self {
        let delivery = Delivery {
            socket: None,
            queue: VecDeque::new(),
            own: 0,
            put_off: false,
            end: false,
            end_told: false,
            paused: false,
            blocked: false,
            waits: None,
            pacer: Pacer::new(limits.clone(), Direction::Down),
            held: BottleneckTimer::default(),
            answered: false,
            failed: None,
        };
        // A stream of the peer's is its own to try elsewhere.
        let keeps = stats.is_some();
        Self {
            number,
            stats,
            inspector: StreamInspector::new(sniff),
            stopwatch,
            limits,
            held_up: Mutex::default(),
            looks: Mutex::default(),
            migrations: AtomicU32::new(0),
            accepted: AtomicBool::new(false),
            wake: Notify::new(),
            called: AtomicBool::new(true),
            delivery: Mutex::new(delivery),
            given: Mutex::new(if keeps { ReplayBuffer::Kept(Vec::new()) } else { ReplayBuffer::Nothing }),
            ended: OnceLock::new(),
        }
    }

    /// What bounds the bytes that the socket gives.
    pub(super) fn pacer_up(&self) -> Pacer {
        Pacer::new(self.limits.clone(), Direction::Up)
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn stats(&self) -> Option<&Arc<StreamStats>> {
        self.stats.as_ref()
    }

    /// Notes what the socket gave, before anybody else sees it. `again` if it was counted for another stream.
    pub(super) fn note_up(&self, bytes: &Bytes, again: bool) {
        match &mut *self.given.lock() {
            ReplayBuffer::Kept(kept) => kept.push(bytes.clone()),
            given => *given = ReplayBuffer::Some,
        }
        if let Some(stats) = &self.stats {
            if !again {
                stats.add_up(bytes.len() as u64);
            }
            self.inspector.inspect_upload(bytes, stats);
        }
        if let Some(stopwatch) = &self.stopwatch {
            stopwatch.asked();
        }
    }

    /// A piece that was marked goes out.
    pub(super) fn sent(&self, since: Instant) {
        if let (Some(stopwatch), Some(stats)) = (&self.stopwatch, &self.stats) {
            stopwatch.sent(stats, since);
        }
        // Where there is still no room, it is no longer the channel's fault, and nothing else might say so.
        if self.held_up.lock().is_by(Bottleneck::Channel) {
            self.wake();
        }
    }

    /// Whether anybody may want to know how it flows.
    pub(super) fn is_watched(&self) -> bool {
        self.stats.is_some()
    }

    pub(super) fn held_up(&self) -> MutexGuard<'_, BottleneckTimer> {
        self.held_up.lock()
    }

    pub(super) fn looks(&self) -> MutexGuard<'_, Option<Box<ActivityTracker>>> {
        self.looks.lock()
    }

    /// Another channel carries it now.
    pub(super) fn moved(&self) {
        self.migrations.fetch_add(1, Relaxed);
    }

    pub(super) fn migrations(&self) -> u32 {
        self.migrations.load(Relaxed)
    }

    /// Notes that the socket gave its end, which a target may take for a request of no bytes.
    pub(super) fn note_end(&self) {
        let given = &mut *self.given.lock();
        if let ReplayBuffer::Nothing = given {
            *given = ReplayBuffer::Some;
        }
    }

    /// What another stream has to carry in place of this one, which is over; `None` if a target may have seen some of
    /// it, or the user may have been given something. `refused` says that the peer never reached the target; without
    /// that word, what it was sent may have come there, and a request is never made twice.
    pub(super) fn untouched(&self, refused: bool, ended: bool) -> Option<Vec<Bytes>> {
        let delivery = self.delivery();
        if delivery.answered || delivery.end_told {
            return None;
        }
        match std::mem::replace(&mut *self.given.lock(), ReplayBuffer::Some) {
            ReplayBuffer::Kept(kept) if refused || (kept.is_empty() && !ended) => Some(kept),
            ReplayBuffer::Nothing if !refused => Some(Vec::new()),
            _ => None,
        }
    }

    pub(super) fn wake(&self) {
        self.called.store(true, Release);
        self.wake.notify_one();
    }

    /// Whether it was [woken](Self::wake) since this was last asked.
    pub(super) fn was_called(&self) -> bool {
        self.called.load(Relaxed) && self.called.swap(false, AcqRel)
    }

    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(super) fn is_accepted(&self) -> bool {
        self.accepted.load(Relaxed)
    }

    pub(super) fn accepted(&self) {
        self.accepted.store(true, Relaxed);
        {
            let given = &mut *self.given.lock();
            if let ReplayBuffer::Kept(kept) = given {
                *given = if kept.is_empty() { ReplayBuffer::Nothing } else { ReplayBuffer::Some };
            }
        }
        if let (Some(stopwatch), Some(stats)) = (&self.stopwatch, &self.stats) {
            stopwatch.opened(stats);
        }
        self.set_phase(StreamPhase::Open);
    }

    pub(super) fn set_phase(&self, phase: StreamPhase) {
        if let Some(stats) = &self.stats {
            stats.set_phase(phase);
        }
    }

    pub(super) fn ended(&self, how: Result<(), ResetCode>) {
        // The first end stays.
        _ = self.ended.set(how);
        self.wake();
    }

    /// How the stream ended, once it has.
    pub(super) fn how_ended(&self) -> Option<Result<(), ResetCode>> {
        self.ended.get().copied()
    }

    pub(super) fn delivery(&self) -> MutexGuard<'_, Delivery> {
        self.delivery.lock()
    }

    /// Delivers as much as the socket takes, on behalf of a channel's reader.
    pub(super) fn deliver(&self, link: &Arc<Link>) {
        match self.delivery.try_lock() {
            // The stream's task is at it just now, and may have looked already.
            None => self.wake(),
            // The stream's task waits for the socket or for its turn already, and delivers then.
            Some(delivery) if delivery.blocked || delivery.waits.is_some() => {}
            Some(mut delivery) => {
                self.deliver_locked(link, &mut delivery);
                if delivery.blocked || delivery.waits.is_some() || delivery.failed.is_some() {
                    self.wake();
                }
            }
        }
    }

    /// Delivers as much as the socket takes, and keeps what is left.
    pub(super) fn deliver_locked(&self, link: &Arc<Link>, delivery: &mut Delivery) {
        if !self.pass_on(link, delivery) {
            self.put_off(link, delivery);
        }
    }

    /// What has come for the stream waits, and what comes until it is passed on: it must not keep the buffers alive that it
    /// comes in.
    fn put_off(&self, link: &Arc<Link>, delivery: &mut Delivery) {
        let own = std::mem::replace(&mut delivery.own, delivery.queue.len());
        delivery.queue.range_mut(own..).for_each(mux::copy_if_small);
        // It may be the rest of what was large.
        if let Some(front) = delivery.queue.front_mut() {
            mux::copy_if_small(front);
        }
        if !std::mem::replace(&mut delivery.put_off, true) {
            link.with(|state| state.mux.on_reader_blocked(self.number));
        }
    }

    /// Delivers as much as the socket takes. Whether that was all.
    fn pass_on(&self, link: &Arc<Link>, delivery: &mut Delivery) -> bool {
        let Some(socket) = delivery.socket.clone() else { return false };
        if delivery.failed.is_some() {
            return false;
        }
        delivery.blocked = false;
        delivery.waits = None;
        if delivery.paused {
            delivery.held.by(Some(Bottleneck::Operator), Instant::now());
            return false;
        }
        let mut gone = 0;
        loop {
            if delivery.queue.is_empty() || gone >= REPORT_EVERY {
                link.with(|state| {
                    self.consume(state, std::mem::take(&mut gone));
                    delivery.end |= state.mux.read(self.number, &mut delivery.queue);
                });
                if std::mem::take(&mut delivery.put_off) {
                    delivery.own = delivery.queue.len();
                }
                if delivery.queue.is_empty() {
                    break;
                }
            }
            let most = match delivery.allowed() {
                Ok(most) => most,
                Err(at) => {
                    delivery.waits = Some(at);
                    delivery.held.by(Some(Bottleneck::Limit), Instant::now());
                    link.with(|state| self.consume(state, gone));
                    return false;
                }
            };
            let written = write_vectored_once(&delivery.queue, most, |slices| try_write(&socket, slices));
            delivery.pacer.passed(*written.as_ref().unwrap_or(&0) as u64);
            match written {
                Ok(n) => {
                    if let Some(stats) = &self.stats {
                        if !std::mem::replace(&mut delivery.answered, true)
                            && let Some(stopwatch) = &self.stopwatch
                        {
                            stopwatch.answered(stats);
                        }
                        stats.add_down(n as u64);
                        self.inspector.inspect_download(&delivery.queue, n, stats);
                    }
                    let before = delivery.queue.len();
                    advance(&mut delivery.queue, n);
                    delivery.own = delivery.own.saturating_sub(before - delivery.queue.len());
                    gone += n as u64;
                }
                Err(error) => {
                    if error.kind() == io::ErrorKind::WouldBlock {
                        delivery.blocked = true;
                        delivery.held.by(Some(Bottleneck::User), Instant::now());
                    } else {
                        delivery.failed = Some(error);
                    }
                    link.with(|state| self.consume(state, gone));
                    return false;
                }
            }
        }
        if !delivery.held.is_free() {
            delivery.held.by(None, Instant::now());
        }
        if delivery.end && !delivery.end_told {
            delivery.end_told = true;
            if let Err(error) = SockRef::from(&*socket).shutdown(Shutdown::Write) {
                delivery.failed = Some(error);
                return true;
            }
            self.set_phase(StreamPhase::TargetDone);
            link.with(|state| state.mux.consume_end(self.number));
        }
        true
    }

    /// The socket has taken so many bytes more.
    fn consume(&self, state: &mut LinkState, bytes: u64) {
        if bytes > 0 {
            state.consume(self.number, bytes, Instant::now());
        }
    }
}
