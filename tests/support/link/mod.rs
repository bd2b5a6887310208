//! An emulated network link between two programs with a rate and a delay in each direction; its connections can be
//! stalled or reset.
//!
//! All connections through a link share one queue and one rate in each direction, as over one access line. Nothing is
//! dropped: a connection that finds the queue full waits, which blocks its sender, because the socket buffers of the
//! link are small. Connections wait for queue space in turn, and each enqueues the bytes of a quarter of a millisecond
//! at a time. The link accepts connections itself and without delay; everything after that is delayed, including FIN
//! and RST.

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

/// Minimum buffer size in bytes of a socket of the link. The kernel doubles the requested size for its bookkeeping.
const SOCKET_BUFFER: usize = 16 * 1024;

/// Maximum segment size in bytes, as on Ethernet.
const SEGMENT: u32 = 1448;

/// Minimum length of the queue in bytes.
const QUEUE: usize = 64 * 1024;

/// Maximum number of bytes of one read.
const MOST: usize = 64 * 1024;

/// Maximum number of bytes of one connection that wait for a reader that is slower than the link.
const SLACK: usize = 256 * 1024;

/// Window in bytes on a link with a delay and without a rate, for which there is no bandwidth-delay product.
const WINDOW: usize = 16 << 20;

/// Rate, delay and queue of a link, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rate in bytes per second; `None` is unlimited.
    pub rate: Option<NonZeroU64>,
    /// One-way delay.
    pub delay: Duration,
    /// Length of the queue in bytes for each direction. A full queue delays every connection by `buffer / rate`.
    pub buffer: usize,
}

impl Shape {
    /// Creates a link with the shortest queue that keeps it utilized although threads wake up late: the bytes of two
    /// milliseconds, and at least 64 KiB, which are 2.6 ms at 200 Mbit/s.
    pub fn new(rate: Option<NonZeroU64>, delay: Duration) -> Self {
        Self { rate, delay, buffer: rate.map_or(QUEUE, |rate| two_ms(rate).max(QUEUE)) }
    }

    /// Creates a link of `mbit` Mbit/s with a one-way delay of `delay`.
    pub fn mbit(mbit: u64, delay: Duration) -> Self {
        Self::new(NonZeroU64::new(mbit * 1_000_000 / 8), delay)
    }

    fn socket_buffer(self) -> u32 {
        let wanted = self.rate.map_or(4 * MOST, |rate| two_ms(rate) / 2).clamp(SOCKET_BUFFER, 16 * MOST);
        u32::try_from(wanted).unwrap_or(u32::MAX)
    }

    /// Returns how many bytes a connection enqueues at a time: those of a quarter of a millisecond, so that no
    /// connection waits long for its turn, and at least one segment.
    fn piece(self) -> usize {
        self.rate.map_or(MOST, |rate| (rate.get() / 4000).clamp(1500, MOST as u64) as usize)
    }

    /// Returns how many bytes of one connection the link holds in each direction if the receiver does not read.
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

/// State of one connection of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Forwards bytes.
    Up,
    /// Stays open and neither reads nor writes, like a connection whose state a firewall has dropped.
    Dead,
    /// Both ends are reset.
    Cut,
}

/// A running link. Dropping it resets all its connections.
pub struct Link {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    clocks: Vec<JoinHandle<()>>,
    tasks: JoinSet<()>,
}

struct Shared {
    /// Queues of the links: for each one from the connecting side to the other, and back.
    lines: Vec<[Direction; 2]>,
    connections: watch::Sender<Vec<Arc<Connection>>>,
    /// Initial state of new connections.
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

/// One direction of the link and the thread that drives it: timers of a runtime have a resolution of a millisecond
/// only.
struct Direction {
    line: Mutex<Line<(Arc<Way>, What)>>,
    changed: Condvar,
    room: Semaphore,
    piece: usize,
    stopped: AtomicBool,
}

impl Link {
    /// Starts a link from a free loopback port to `to`.
    pub async fn to(to: SocketAddr, shape: Shape) -> io::Result<Self> {
        Self::between(SocketAddr::from(([127, 0, 0, 1], 0)), to, shape).await
    }

    /// Starts a link from `listen` to `to`.
    pub async fn between(listen: SocketAddr, to: SocketAddr, shape: Shape) -> io::Result<Self> {
        Self::over_lines(listen, to, &[shape]).await
    }

    /// Starts a link over several paths, to which its connections are assigned in turn.
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

    /// Changes rate and delay for later bytes. The sizes of queue and windows stay.
    pub fn set_shape(&self, shape: Shape) {
        for direction in self.shared.lines.iter().flatten() {
            direction.line.lock().set_shape(shape);
        }
    }

    /// Sets the state of all current connections. Later ones are dead if these are, and up otherwise.
    pub fn set_all(&self, wire: Wire) {
        *self.shared.begin.lock() = if wire == Wire::Dead { Wire::Dead } else { Wire::Up };
        self.shared.connections.borrow().iter().for_each(|connection| connection.set(wire));
    }

    /// Refuses new connections until the returned guard is dropped.
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

    /// Waits for the `index`-th connection, counted from 0 in the order of their arrival.
    pub async fn connection(&self, index: usize) -> Arc<Connection> {
        let mut connections = self.shared.connections.subscribe();
        // Cannot fail, because `self` holds the sender.
        let found = connections.wait_for(|all| all.len() > index).await;
        found.expect("the link lives")[index].clone()
    }

    /// Returns the number of connections so far, including ended ones.
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
                // Most likely the process has no free descriptors, which may change soon.
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

    /// Returns the bytes delivered in both directions so far.
    pub fn carried(&self) -> u64 {
        self.ways.iter().map(|way| way.carried.load(Relaxed)).sum()
    }

    async fn becomes(&self, wanted: Wire) {
        // Cannot fail, because `self` holds the sender.
        _ = self.wire.subscribe().wait_for(|&wire| wire == wanted).await;
    }

    async fn carry(
        &self,
        mut near: TcpStream,
        (to, shape): (SocketAddr, Shape),
        directions: &[Direction; 2],
    ) {
        // Dropping the sockets early resets both ends.
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
                    // The permits are released when the bytes have left the queue and the link.
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

    /// Delivers bytes that have arrived by now, and releases the queue space of those that have left.
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

/// Makes the close of `socket` send an RST.
fn reset(socket: &TcpStream) {
    // Fails if the connection has ended already.
    _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

fn socket(towards: SocketAddr, shape: Shape) -> io::Result<TcpSocket> {
    let socket = if towards.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Set before the connect: the handshake announces window scaling and segment size. Loopback segments are longer
    // than these buffers, and a sender whose window is smaller than a segment waits for its timer.
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
