use std::{
    cell::Cell,
    collections::VecDeque,
    fmt, io,
    mem::MaybeUninit,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes};
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};
use tokio_util::sync::CancellationToken;

use super::{Link, StreamControl, endpoint::Endpoint, flow::SendBottleneckDetector, limit::Pacer};
use crate::{
    mux::{CHUNK_SIZE, COPY_THRESHOLD},
    net::{BufferPool, disable_reset_on_close, try_read},
    runtime,
    telemetry::{Bottleneck, StreamPhase},
    wire::ResetCode,
};

/// After this many bytes a stream's task lets others run. tokio counts operations, and 128 of them are 8 MiB here.
const TURN: usize = 256 * 1024;

/// The same while somebody on this thread sends little things, which wait for every turn before theirs: the slowest of a
/// hundred pings beside four downloads took 3.6 ms instead of 5.5, and the downloads carried a tenth less.
const SHORT_TURN: usize = 128 * 1024;

/// What is as short as this is a keystroke, a ping, a request.
const MESSAGE: usize = 2 * 1024;

/// How many turns are short after one that brought a message.
const GENTLE: u32 = 64;

thread_local! {
    /// How many turns are still to be short.
    static SHORT_TURNS: Cell<u32> = const { Cell::new(0) };
}

/// How much the next turn may bring.
fn next_turn() -> usize {
    match SHORT_TURNS.get() {
        0 => TURN,
        left => {
            SHORT_TURNS.set(left - 1);
            SHORT_TURN
        }
    }
}

/// How often a stream's bytes are watched on their way to the channel's writer, at most.
const MARK_EVERY: Duration = Duration::from_millis(100);

/// How a stream ended.
#[derive(Debug)]
pub enum StreamOutcome {
    /// Both directions are done, and each side has every byte of the other.
    Finished,
    /// The socket on this side failed; the peer was told.
    SocketFailed(io::Error),
    /// The peer reset it; the socket was reset too.
    Reset(ResetCode),
    /// It was cancelled here; both sides were told.
    Cancelled,
}

/// A user's connection and what it has sent, none of which any target has seen: a stream can still carry it that was
/// opened in place of another.
#[derive(Debug)]
pub struct RetryableConnection {
    socket: TcpStream,
    sent: VecDeque<Bytes>,
}

impl From<TcpStream> for RetryableConnection {
    fn from(socket: TcpStream) -> Self {
        Self { socket, sent: VecDeque::new() }
    }
}

impl RetryableConnection {
    /// The connection.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

/// An open stream. Dropping it resets it, so that none is ever forgotten.
pub struct Stream {
    link: Arc<Link>,
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
    pub(super) fn new(link: Arc<Link>, endpoint: Arc<Endpoint>) -> Self {
        Self { link, endpoint }
    }

    pub(super) fn number(&self) -> u32 {
        self.endpoint.number()
    }

    /// Tells the peer that the stream it opened is taken.
    pub fn accept(&self) {
        self.link.with(|state| state.mux.accept(self.number()));
        self.link.flush();
    }

    /// What an operator needs to act on it while it is carried.
    pub fn control(&self) -> StreamControl {
        StreamControl::new(self.link.clone(), self.endpoint.clone())
    }

    /// Waits until the peer resets the stream. Only for a stream that is not carried yet.
    pub async fn wait_for_reset(&self) -> ResetCode {
        loop {
            match self.endpoint.how_ended() {
                Some(Err(code)) => return code,
                // Nobody has finished a stream that is not carried yet.
                Some(Ok(())) => return ResetCode::Internal,
                None => self.endpoint.woken().await,
            }
        }
    }

    /// Ends the stream with an error at the other side. Without effect if it has ended.
    pub fn reset(&self, code: ResetCode) {
        if self.endpoint.how_ended().is_none() {
            self.link.with(|state| {
                state.reset(self.number(), code);
                state.endpoints.remove(&self.number());
            });
            self.endpoint.ended(Err(code));
            self.link.flush();
        }
    }

    /// Carries bytes both ways between the stream and `socket` until both directions are done, or one side fails, or
    /// `cancel` says so. `failed` is what the peer is told if it is the socket that fails, `why` if it was cancelled.
    ///
    /// The socket has to be armed: it ends the way the stream did, with an orderly close, or with a reset. Unless no target has seen
    /// anything of it, and the stream was ended by the peer or cancelled: then it comes back.
    pub async fn relay(
        self,
        user: impl Into<RetryableConnection>,
        failed: ResetCode,
        cancel: &CancellationToken,
        why: impl FnOnce() -> ResetCode,
    ) -> (StreamOutcome, Option<RetryableConnection>) {
        let RetryableConnection { socket, mut sent } = user.into();
        let socket = Arc::new(socket);
        self.endpoint.delivery().socket = Some(socket.clone());
        let mut finished = false;
        let ended = self.pump(&socket, &mut sent, &mut finished, cancel).await;
        match &ended {
            StreamOutcome::Finished => disable_reset_on_close(&socket),
            StreamOutcome::Reset(_) => {}
            StreamOutcome::SocketFailed(_) => self.reset(failed),
            StreamOutcome::Cancelled => self.reset(why()),
        }
        // The endpoint may outlive us in a reader's hands; the socket must not.
        self.endpoint.delivery().socket = None;
        let refused = match &ended {
            StreamOutcome::Reset(code) => code.is_connect_failure() && !self.is_text(),
            StreamOutcome::Cancelled => false,
            StreamOutcome::Finished | StreamOutcome::SocketFailed(_) => return (ended, None),
        };
        // Whoever delivered held the lock on the delivery, so nobody else has the socket any more.
        let untouched = self.endpoint.untouched(refused, finished).zip(Arc::into_inner(socket));
        let untouched = untouched.map(|(mut kept, socket)| {
            kept.extend(sent);
            RetryableConnection { socket, sent: kept.into() }
        });
        (ended, untouched)
    }

    /// A text peer's word that the target is not there is a guess of ours.
    fn is_text(&self) -> bool {
        self.link.with(|state| state.text.is_some())
    }

    async fn pump(
        &self,
        socket: &TcpStream,
        sent: &mut VecDeque<Bytes>,
        finished: &mut bool,
        cancel: &CancellationToken,
    ) -> StreamOutcome {
        let cancelled = cancel.cancelled();
        let mut cancelled = std::pin::pin!(cancelled);
        let mut up = SocketReader::new(self.endpoint.pacer_up());
        loop {
            let (blocked, waits_down) = {
                let mut delivery = self.endpoint.delivery();
                // Whoever reads the channel delivers what comes, and calls for what is left over.
                if self.endpoint.was_called() || delivery.blocked || delivery.waits.is_some() {
                    self.endpoint.deliver_locked(&self.link, &mut delivery);
                }
                if let Some(error) = delivery.failed.take() {
                    return StreamOutcome::SocketFailed(error);
                }
                (delivery.blocked, delivery.waits)
            };
            let filled = if *finished { ReadOutcome::NoRoom } else { self.fill(socket, sent, &mut up) };
            match filled {
                ReadOutcome::Failed(error) => return StreamOutcome::SocketFailed(error),
                ReadOutcome::End => {
                    *finished = true;
                    self.endpoint.note_end();
                    self.endpoint.set_phase(StreamPhase::UserDone);
                    self.link.with(|state| state.mux.finish(self.number()));
                }
                ReadOutcome::Empty | ReadOutcome::NoRoom | ReadOutcome::Turn | ReadOutcome::Waits(_) => {}
            }
            if self.endpoint.is_watched() {
                self.note_held(&filled, *finished, &mut up);
            }
            self.link.flush_soon();
            match self.endpoint.how_ended() {
                Some(Ok(())) => return StreamOutcome::Finished,
                Some(Err(code)) => return StreamOutcome::Reset(code),
                None => {}
            }
            if let ReadOutcome::Turn = filled {
                tokio::task::yield_now().await;
                continue;
            }
            // An error is always of interest: the other side may be gone for good while nothing can be read or
            // written for want of credit.
            let mut interest = Interest::ERROR;
            if let ReadOutcome::Empty = filled {
                interest |= Interest::READABLE;
            }
            if blocked {
                interest |= Interest::WRITABLE;
            }
            let waits_up = if let ReadOutcome::Waits(at) = filled { Some(at) } else { None };
            let turn = waits_up.into_iter().chain(waits_down).min();
            tokio::select! {
                () = self.endpoint.woken() => {}
                () = sleep_until(turn), if turn.is_some() => {}
                ready = socket.ready(interest) => match ready {
                    Err(error) => return StreamOutcome::SocketFailed(error),
                    Ok(ready) if ready.is_error() => {
                        if let Ok(Some(error)) | Err(error) = socket.take_error() {
                            return StreamOutcome::SocketFailed(error);
                        }
                        // What is readable or writable comes to the same error by itself.
                        if !ready.is_readable() && !ready.is_writable() {
                            return StreamOutcome::SocketFailed(io::ErrorKind::ConnectionReset.into());
                        }
                    }
                    Ok(_) => {}
                },
                () = &mut cancelled => return StreamOutcome::Cancelled,
            }
        }
    }

    /// Notes who keeps the socket from being read, where somebody does. Most of the time nobody does, and then neither
    /// a clock nor a lock is asked.
    fn note_held(&self, filled: &ReadOutcome, finished: bool, up: &mut SocketReader) {
        let held = match filled {
            ReadOutcome::Waits(_) => Some((Bottleneck::Limit, Instant::now())),
            ReadOutcome::NoRoom if !finished => {
                let now = Instant::now();
                let flow = self.link.with(|state| {
                    // Nothing more will be read before some of this has gone: how long that takes counts.
                    state.mux.measure_queue_wait(self.number(), now);
                    state.mux.send_flow(self.number())
                });
                flow.map(|flow| (up.obstacle.whose(&flow, now), now))
            }
            _ => None,
        };
        if std::mem::replace(&mut up.held, held.is_some()) || held.is_some() {
            let now = held.map_or_else(Instant::now, |(_, now)| now);
            self.endpoint.held_up().by(held.map(|(by, _)| by), now);
        }
    }

    /// Reads from the socket into the stream, as far as there is credit.
    fn fill(&self, socket: &TcpStream, sent: &mut VecDeque<Bytes>, up: &mut SocketReader) -> ReadOutcome {
        let SocketReader { pacer, marked, .. } = up;
        let (mut turn, most) = (0, next_turn());
        let mut writable = self.link.with(|state| state.mux.writable(self.number()));
        while turn < most {
            let room = writable;
            if room == 0 {
                return ReadOutcome::NoRoom;
            }
            // What another stream was to carry has been paid for there.
            if let Some(mut bytes) = sent.pop_front() {
                if bytes.len() > room {
                    sent.push_front(bytes.split_off(room));
                }
                turn += bytes.len();
                self.endpoint.note_up(&bytes, true);
                writable = self.write(bytes, None);
                continue;
            }
            let mut room = room.min(most);
            if !pacer.is_free() {
                // Who stood in the queue with nothing to read would hold up the others.
                match is_at_end(socket) {
                    // An end waits for nobody.
                    Ok(true) => {}
                    Ok(false) => match pacer.ask(room as u64, Instant::now()) {
                        Ok(allowed) => room = room.min(usize::try_from(allowed).unwrap_or(room)),
                        Err(at) => return ReadOutcome::Waits(at),
                    },
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return ReadOutcome::Empty,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return ReadOutcome::Failed(error),
                }
            }
            let read = read(socket, room);
            pacer.passed(read.as_ref().map_or(0, |read| read.bytes.len()) as u64);
            let Read { bytes, is_all } = match read {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return ReadOutcome::Empty,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return ReadOutcome::Failed(error),
            };
            if bytes.is_empty() {
                return ReadOutcome::End;
            }
            let mark = (turn == 0 && self.endpoint.is_watched()).then(Instant::now);
            let mark = mark.filter(|now| marked.is_none_or(|before| *now >= before + MARK_EVERY));
            *marked = mark.or(*marked);
            runtime::record_activity();
            turn += bytes.len();
            self.endpoint.note_up(&bytes, false);
            if bytes.len() <= MESSAGE {
                SHORT_TURNS.set(GENTLE);
            }
            let large = bytes.len() >= COPY_THRESHOLD;
            writable = self.write(bytes, mark);
            // Much goes out while it is in the cache; little goes out with what other streams have to say.
            if large {
                self.link.flush();
            }
            if is_all {
                return ReadOutcome::Empty;
            }
            if large {
                writable = self.link.with(|state| state.mux.writable(self.number()));
            }
        }
        ReadOutcome::Turn
    }

    /// Gives the mux some, and is told how much more it takes.
    fn write(&self, bytes: Bytes, mark: Option<Instant>) -> usize {
        self.link.with(|state| {
            state.mux.write(self.number(), bytes);
            mark.inspect(|now| state.mux.measure_queue_wait(self.number(), *now));
            state.mux.writable(self.number())
        })
    }
}

/// What a stream's task remembers of the way from its socket.
#[derive(Debug)]
struct SocketReader {
    pacer: Pacer,
    /// When it was last noted when a piece came.
    marked: Option<Instant>,
    obstacle: SendBottleneckDetector,
    /// Somebody holds it, as far as was noted.
    held: bool,
}

impl SocketReader {
    fn new(pacer: Pacer) -> Self {
        Self { pacer, marked: None, obstacle: SendBottleneckDetector::default(), held: false }
    }
}

enum ReadOutcome {
    /// The socket has nothing more for now.
    Empty,
    /// The stream takes nothing more for now.
    NoRoom,
    /// A rate limit lets nothing more pass until then.
    Waits(Instant),
    /// There may be more, but others should run.
    Turn,
    /// The socket has sent its last byte.
    End,
    Failed(io::Error),
}

/// Whether the other side has sent its last byte and all are read; `WouldBlock` if it may send more.
fn is_at_end(socket: &TcpStream) -> io::Result<bool> {
    let peek = || SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]);
    socket.try_io(Interest::READABLE, peek).map(|n| n == 0)
}

/// Ready then, or never.
pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// What a socket gave.
struct Read {
    bytes: Bytes,
    /// It has no more for now.
    is_all: bool,
}

fn read(socket: &TcpStream, room: usize) -> io::Result<Read> {
    BufferPool::with_thread_local(|pool| {
        let mut buffer = pool.take(CHUNK_SIZE);
        let room = room.min(buffer.capacity()).min(BufferPool::READ_SIZE);
        // Credit is not to be overdrawn.
        let read = try_read(socket, &mut (&mut buffer).limit(room)).map(|n| {
            let bytes = if n < COPY_THRESHOLD {
                Bytes::copy_from_slice(&buffer[..n])
            } else {
                buffer.split_to(n).freeze()
            };
            Read { bytes, is_all: 0 < n && n < room }
        });
        pool.release(buffer);
        read
    })
}
