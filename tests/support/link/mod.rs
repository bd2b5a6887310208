//! A bottleneck between two programs: so many bits a second and so much delay each way, and it can be stalled or cut.
//!
//! All connections through a link share one queue and one rate in each direction, as they share the line of a house.
//! Nothing is dropped: whoever finds the queue full waits, and so does its sender, because the link's own socket
//! buffers are small. Connections wait in turn for room, and each takes a quarter of a millisecond's bytes at a time.
//! Connecting is answered by the link itself and not delayed; everything after it is, ends and resets included.

pub mod line;

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use parking_lot::{Condvar, Mutex, MutexGuard};
use socket2::SockRef;
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
};

use line::Line;

/// The smallest buffer of a socket of the link. The kernel doubles what it is asked for to account for its own
/// bookkeeping.
const SOCKET_BUFFER: usize = 16 * 1024;

/// The longest segment, as on an Ethernet.
const SEGMENT: u32 = 1448;

/// The shortest queue.
const QUEUE: usize = 64 * 1024;

/// The most that is read at once.
const MOST: usize = 64 * 1024;

/// How much of one connection may wait for a reader that is slower than the line.
const SLACK: usize = 256 * 1024;

/// What a window is on a line with delay and no rate, where no product tells it.
const WINDOW: usize = 16 << 20;

/// How fast and how long a link is, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// In bytes a second; as fast as the machine is without.
    pub rate: Option<NonZeroU64>,
    /// One way.
    pub delay: Duration,
    /// How many bytes wait at the bottleneck in each direction. What waits there delays everybody by
    /// `buffer / rate`.
    pub buffer: usize,
}

impl Shape {
    /// With the shortest queue that keeps the line busy where threads are woken late: two milliseconds' worth, and at
    /// least 64 KiB, which are 2.6 ms of 200 Mbit/s.
    pub fn new(rate: Option<NonZeroU64>, delay: Duration) -> Self {
        Self { rate, delay, buffer: rate.map_or(QUEUE, |rate| two_ms(rate).max(QUEUE)) }
    }

    /// `mbit` Mbit/s, and `delay` each way.
    pub fn mbit(mbit: u64, delay: Duration) -> Self {
        Self::new(NonZeroU64::new(mbit * 1_000_000 / 8), delay)
    }

    fn socket_buffer(self) -> u32 {
        let wanted = self.rate.map_or(4 * MOST, |rate| two_ms(rate) / 2).clamp(SOCKET_BUFFER, 16 * MOST);
        u32::try_from(wanted).unwrap_or(u32::MAX)
    }

    /// How much is put on the line at a time: a quarter of a millisecond's worth, so that nobody waits long for his
    /// turn, and at least a packet.
    fn piece(self) -> usize {
        self.rate.map_or(MOST, |rate| (rate.get() / 4000).clamp(1500, MOST as u64) as usize)
    }

    /// How much of one connection the link holds in each direction, if nobody reads it at the far end.
    fn window(self) -> usize {
        let flight = match self.rate {
            Some(rate) => (rate.get() as f64 * self.delay.as_secs_f64()) as usize,
            None if self.delay.is_zero() => 0,
            None => WINDOW,
        };
        flight + self.buffer + SLACK
    }
}

fn two_ms(rate: NonZeroU64) -> usize {
    usize::try_from(rate.get() / 500).unwrap_or(usize::MAX)
}

/// What a link does with one of its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Carries.
    Up,
    /// Takes nothing and gives nothing, and stays open: a firewall that forgot the connection.
    Dead,
    /// Is reset at both ends.
    Cut,
}

/// A running link. Dropping it cuts all its connections.
pub struct Link {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    clocks: Vec<JoinHandle<()>>,
    tasks: JoinSet<()>,
}

struct Shared {
    /// The lines: each from who connects to who is connected to, and back.
    lines: Vec<[Direction; 2]>,
    connections: watch::Sender<Vec<Arc<Connection>>>,
    /// What new connections begin as.
    begin: Mutex<Wire>,
    refuses: AtomicBool,
}

/// One connection through a link.
pub struct Connection {
    wire: watch::Sender<Wire>,
    ways: [Arc<Way>; 2],
}

/// One direction of one connection.
struct Way {
    arrived: Mutex<VecDeque<What>>,
    wake: Notify,
    window: Semaphore,
    carried: AtomicU64,
}

enum What {
    Bytes(Bytes),
    End,
    Reset,
}

/// One direction of the link, and its clock: a thread, because a runtime's timers know whole milliseconds only.
struct Direction {
    line: Mutex<Line<(Arc<Way>, What)>>,
    changed: Condvar,
    room: Semaphore,
    piece: usize,
    stopped: AtomicBool,
}

impl Link {
    /// A link from a free port of this machine to `to`.
    pub async fn to(to: SocketAddr, shape: Shape) -> io::Result<Self> {
        Self::between(SocketAddr::from(([127, 0, 0, 1], 0)), to, shape).await
    }

    /// A link from `listen` to `to`.
    pub async fn between(listen: SocketAddr, to: SocketAddr, shape: Shape) -> io::Result<Self> {
        Self::over_lines(listen, to, &[shape]).await
    }

    /// A link of several lines, which its connections take in turn.
    pub async fn over_lines(listen: SocketAddr, to: SocketAddr, shapes: &[Shape]) -> io::Result<Self> {
        let socket = socket(listen, shapes[0])?;
        socket.set_reuseaddr(true)?;
        socket.bind(listen)?;
        let listener = socket.listen(1024)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            lines: shapes.iter().map(|&shape| [Direction::new(shape), Direction::new(shape)]).collect(),
            connections: watch::Sender::new(Vec::new()),
            begin: Mutex::new(Wire::Up),
            refuses: AtomicBool::new(false),
        });
        let clocks = (0..2 * shapes.len()).map(|index| {
            let shared = shared.clone();
            thread::Builder::new()
                .name(format!("link {index}"))
                .spawn(move || shared.lines[index / 2][index % 2].run())
        });
        let clocks = clocks.collect::<io::Result<_>>()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(shared.clone().accept(listener, to, shapes.to_vec()));
        Ok(Self { addr, shared, clocks, tasks })
    }

    /// Another rate and delay, for what comes from now on. The sizes of queue and windows stay.
    pub fn set_shape(&self, shape: Shape) {
        for direction in self.shared.lines.iter().flatten() {
            direction.line.lock().set_shape(shape);
        }
    }

    /// Does this with all connections that there are. Those to come begin dead if these are, and up otherwise.
    pub fn set_all(&self, wire: Wire) {
        *self.shared.begin.lock() = if wire == Wire::Dead { Wire::Dead } else { Wire::Up };
        self.shared.connections.borrow().iter().for_each(|connection| connection.set(wire));
    }

    /// Lets nobody in until what this returns is dropped.
    pub fn refuse(&self) -> impl Drop + use<> {
        struct Refusal(Arc<Shared>);
        impl Drop for Refusal {
            fn drop(&mut self) {
                self.0.refuses.store(false, SeqCst);
            }
        }
        self.shared.refuses.store(true, SeqCst);
        Refusal(self.shared.clone())
    }

    /// The `index`-th connection, counted from 0 and from the first; waits for it.
    pub async fn connection(&self, index: usize) -> Arc<Connection> {
        let mut connections = self.shared.connections.subscribe();
        // The sender lives in `self`, so that it cannot fail.
        let found = connections.wait_for(|all| all.len() > index).await;
        found.expect("the link lives")[index].clone()
    }

    /// How many connections there have been.
    pub fn len(&self) -> usize {
        self.shared.connections.borrow().len()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks.abort_all();
        for direction in self.shared.lines.iter().flatten() {
            direction.stopped.store(true, SeqCst);
            drop(direction.line.lock());
            direction.changed.notify_all();
        }
        for clock in self.clocks.drain(..) {
            _ = clock.join();
        }
    }
}

impl Shared {
    async fn accept(self: Arc<Self>, listener: TcpListener, to: SocketAddr, shapes: Vec<Shape>) {
        let mut carriers = JoinSet::new();
        let mut turns = (0..shapes.len()).cycle();
        loop {
            let near = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = carriers.join_next() => continue,
            };
            let Ok((near, _)) = near else {
                // No descriptors left, most likely: others may end soon.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            if self.refuses.load(SeqCst) {
                reset(&near);
                continue;
            }
            let line = turns.next().unwrap_or_default();
            let shape = shapes[line];
            let connection = Arc::new(Connection {
                wire: watch::Sender::new(*self.begin.lock()),
                ways: [Way::new(shape), Way::new(shape)],
            });
            self.connections.send_modify(|all| all.push(connection.clone()));
            let shared = self.clone();
            carriers.spawn(async move {
                tokio::select! {
                    () = connection.carry(near, (to, shape), &shared.lines[line]) => {}
                    () = connection.becomes(Wire::Cut) => {}
                }
            });
        }
    }
}

impl Connection {
    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }

    /// Bytes both ways that have arrived so far.
    pub fn carried(&self) -> u64 {
        self.ways.iter().map(|way| way.carried.load(Relaxed)).sum()
    }

    async fn becomes(&self, wanted: Wire) {
        // The sender lives in `self`, so that it cannot fail.
        _ = self.wire.subscribe().wait_for(|&wire| wire == wanted).await;
    }

    async fn carry(
        &self,
        mut near: TcpStream,
        (to, shape): (SocketAddr, Shape),
        directions: &[Direction; 2],
    ) {
        // Whatever ends this early ends it as a reset, for both.
        reset(&near);
        self.becomes(Wire::Up).await;
        let Ok(mut far) = connect(to, shape).await else { return };
        reset(&far);
        _ = near.set_nodelay(true);
        let ((near_read, near_write), (far_read, far_write)) = (near.split(), far.split());
        let [up, down] = [0, 1].map(|index| (&self.ways[index], &directions[index]));
        let all = tokio::try_join!(
            self.read(near_read, up),
            self.read(far_read, down),
            self.write(up.0, far_write),
            self.write(down.0, near_write),
        );
        if all.is_ok() {
            for socket in [&near, &far] {
                _ = SockRef::from(socket).set_linger(None);
            }
        }
    }

    async fn read(&self, from: ReadHalf<'_>, (way, direction): (&Arc<Way>, &Direction)) -> io::Result<()> {
        let piece = direction.piece;
        let mut buffer = BytesMut::new();
        let failed = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        loop {
            self.becomes(Wire::Up).await;
            tokio::select! {
                ready = from.readable() => ready?,
                () = self.becomes(Wire::Dead) => continue,
            }
            let mut window = way.window.acquire_many(piece as u32).await.map_err(failed)?;
            let mut room = direction.room.acquire_many(piece as u32).await.map_err(failed)?;
            if *self.wire.borrow() != Wire::Up {
                continue;
            }
            buffer.reserve(piece);
            let mut limited = bytes::BufMut::limit(&mut buffer, piece);
            match from.try_read_buf(&mut limited) {
                Ok(0) => {
                    direction.push(0, (way.clone(), What::End));
                    return Ok(());
                }
                Ok(n) => {
                    // They come back when the bytes have left the queue, and have left the link.
                    for permit in [&mut window, &mut room] {
                        permit.split(n).expect("no more than was asked for").forget();
                    }
                    direction.push(n, (way.clone(), What::Bytes(buffer.split().freeze())));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    direction.push(0, (way.clone(), What::Reset));
                    return Ok(());
                }
            }
        }
    }

    async fn write(&self, way: &Way, mut to: WriteHalf<'_>) -> io::Result<()> {
        loop {
            let next = way.arrived.lock().pop_front();
            let Some(what) = next else {
                way.wake.notified().await;
                continue;
            };
            self.becomes(Wire::Up).await;
            match what {
                What::Bytes(bytes) => {
                    to.write_all(&bytes).await?;
                    way.window.add_permits(bytes.len());
                    way.carried.fetch_add(bytes.len() as u64, Relaxed);
                }
                What::End => return to.shutdown().await,
                What::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
            }
        }
    }
}

impl Way {
    fn new(shape: Shape) -> Arc<Self> {
        Arc::new(Self {
            arrived: Mutex::default(),
            wake: Notify::new(),
            window: Semaphore::new(shape.window().max(shape.piece())),
            carried: AtomicU64::new(0),
        })
    }
}

impl Direction {
    fn new(shape: Shape) -> Self {
        let piece = shape.piece();
        Self {
            line: Mutex::new(Line::new(shape)),
            changed: Condvar::new(),
            room: Semaphore::new(shape.buffer.max(piece)),
            piece,
            stopped: AtomicBool::new(false),
        }
    }

    fn push(&self, bytes: usize, what: (Arc<Way>, What)) {
        let mut line = self.line.lock();
        let next = line.next();
        line.push(Instant::now(), bytes, what);
        self.settle(&mut line);
        if line.next() != next {
            self.changed.notify_one();
        }
    }

    /// Hands on what has arrived by now, and gives room back for what has left.
    fn settle(&self, line: &mut MutexGuard<'_, Line<(Arc<Way>, What)>>) {
        let now = Instant::now();
        self.room.add_permits(line.left(now));
        while let Some((way, what)) = line.arrived(now) {
            way.arrived.lock().push_back(what);
            way.wake.notify_one();
        }
    }

    fn run(&self) {
        let mut line = self.line.lock();
        while !self.stopped.load(SeqCst) {
            self.settle(&mut line);
            match line.next() {
                Some(at) => _ = self.changed.wait_until(&mut line, at),
                None => self.changed.wait(&mut line),
            }
        }
    }
}

/// Makes closing `socket` a reset.
fn reset(socket: &TcpStream) {
    // It fails where the connection is gone already.
    _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

fn socket(towards: SocketAddr, shape: Shape) -> io::Result<TcpSocket> {
    let socket = if towards.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Before it is connected: the handshake tells how far a window can go, and how long segments may be. Loopback's are
    // longer than these buffers, and a sender with less room than for one waits for its timer.
    SockRef::from(&socket).set_tcp_mss(SEGMENT)?;
    socket.set_recv_buffer_size(shape.socket_buffer())?;
    socket.set_send_buffer_size(shape.socket_buffer())?;
    Ok(socket)
}

async fn connect(to: SocketAddr, shape: Shape) -> io::Result<TcpStream> {
    let far = socket(to, shape)?.connect(to).await?;
    far.set_nodelay(true)?;
    Ok(far)
}
