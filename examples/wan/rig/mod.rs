//! An emulated wide-area path: two network namespaces, each with a TUN device, and a thread for each direction that
//! carries the packets between the devices with a rate, a delay and faults.
//!
//! Both ends are the kernel's own TCP; nothing in the path terminates a connection. The near namespace stands for the
//! public network, the far one for a host behind a home or mobile connection.

pub(crate) mod emulator;
pub(crate) mod namespace;
pub(crate) mod nat;

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use emulator::{Emulator, Shape, Statistics};
use namespace::Namespace;
use nat::Nat;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
};

/// IPv4 address in the near namespace.
pub(crate) const NEAR: &str = "10.77.0.1";
/// IPv4 address in the far namespace that its connections use.
pub(crate) const FAR: &str = "10.77.0.2";
/// Second IPv4 address in the far namespace. Connections use it after [`FAR`] was deleted.
pub(crate) const FAR_SECOND: &str = "10.77.0.3";
/// IPv6 address in the near namespace.
pub(crate) const NEAR_V6: &str = "fd77::1";
/// IPv6 address in the far namespace.
pub(crate) const FAR_V6: &str = "fd77::2";

/// Smallest MTU with which Linux enables IPv6 on a device.
const MIN_MTU_V6: u16 = 1280;

/// Packets that a thread reads before it delivers what has become due meanwhile.
const BATCH: usize = 32;

/// Sleep of a thread after a pass in which it carried packets: what arrives or becomes due meanwhile is carried in one
/// batch. At 300 Mbit/s packets arrive every 40 µs; waking for each, and for each delivery, took most of a core.
const BUSY_SLEEP: Duration = Duration::from_micros(200);

/// Longest sleep, after which a thread looks whether it has to end.
const MAX_SLEEP: Duration = Duration::from_millis(50);

/// Parameters of a rig that do not change while it runs.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// The namespaces are `NAME-near` and `NAME-far`.
    pub(crate) name: String,
    /// MTU of the path.
    pub(crate) mtu: u16,
    /// Default congestion control of both namespaces.
    pub(crate) congestion: Option<String>,
    /// Seed of all random decisions.
    pub(crate) seed: u64,
}

/// A direction of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the far namespace to the near one: downloads through a tunnel whose proxy is in the far namespace.
    ToNear,
    /// From the near namespace to the far one.
    ToFar,
}

/// Why a rig cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The process may not create namespaces or TUN devices, or `ip` is missing.
    #[error("no network namespaces with TUN devices here: {0}")]
    NotPermitted(io::Error),
    /// The kernel refuses a parameter.
    #[error("{0}")]
    Parameter(io::Error),
}

/// A running rig. Dropping it removes devices and namespaces.
#[derive(Debug)]
pub(crate) struct Rig {
    /// The side of server and users.
    pub(crate) near: Namespace,
    /// The side of proxy and target.
    pub(crate) far: Namespace,
    /// State that the threads share with the owner.
    shared: Arc<Shared>,
    /// One thread for each direction.
    threads: Vec<JoinHandle<()>>,
    /// When statistics were last taken.
    statistics_since: Instant,
}

/// What the threads and the owner of a rig share.
#[derive(Debug)]
struct Shared {
    /// Origin of the emulators' time.
    begin: Instant,
    /// Far to near.
    to_near: Mutex<Emulator>,
    /// Near to far.
    to_far: Mutex<Emulator>,
    /// NAT before the far namespace, if there is one.
    nat: Mutex<Option<Nat>>,
    /// Whether the threads have to end.
    is_stopped: AtomicBool,
}

impl Shared {
    /// Locks the emulator of a direction.
    fn emulator(&self, direction: Direction) -> MutexGuard<'_, Emulator> {
        let emulator = match direction {
            Direction::ToNear => &self.to_near,
            Direction::ToFar => &self.to_far,
        };
        emulator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the NAT, if there is one, forwards a packet.
    fn passes_nat(&self, now: Duration, direction: Direction, packet: &[u8]) -> bool {
        let mut nat = self.nat.lock().unwrap_or_else(PoisonError::into_inner);
        nat.as_mut().is_none_or(|nat| nat.passes(now, direction == Direction::ToNear, packet))
    }
}

impl Rig {
    /// Creates namespaces and devices and starts to carry packets.
    ///
    /// # Errors
    /// See [`StartError`].
    pub(crate) fn start(setup: &Setup, to_near: Shape, to_far: Shape) -> Result<Self, StartError> {
        let create =
            |side| Namespace::create(&format!("{}-{side}", setup.name)).map_err(StartError::NotPermitted);
        let (near, far) = (create("near")?, create("far")?);
        for namespace in [&near, &far] {
            if let Some(congestion) = &setup.congestion {
                namespace.set_congestion_control(congestion).map_err(StartError::Parameter)?;
            }
            // The second address must survive the deletion of the first.
            namespace.set("net/ipv4/conf/all/promote_secondaries", "1").map_err(StartError::NotPermitted)?;
        }
        let has_v6 = setup.mtu >= MIN_MTU_V6;
        let addresses = |v4: &[&str], v6: &str| -> Vec<String> {
            let v4 = v4.iter().map(|address| format!("{address}/24"));
            v4.chain(has_v6.then(|| format!("{v6}/64"))).collect()
        };
        let open = |namespace: &Namespace, addresses: &[String]| {
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            namespace.open_tun(setup.mtu, &addresses).map(Arc::new).map_err(StartError::NotPermitted)
        };
        let near_tun = open(&near, &addresses(&[NEAR], NEAR_V6))?;
        let far_tun = open(&far, &addresses(&[FAR, FAR_SECOND], FAR_V6))?;
        let shared = Arc::new(Shared {
            begin: Instant::now(),
            to_near: Mutex::new(Emulator::new(to_near, setup.seed)),
            to_far: Mutex::new(Emulator::new(to_far, !setup.seed)),
            nat: Mutex::new(None),
            is_stopped: AtomicBool::new(false),
        });
        let start = |direction, from: &Arc<File>, to: &Arc<File>| {
            let (shared, from, to) = (shared.clone(), from.clone(), to.clone());
            thread::spawn(move || carry(&shared, direction, &from, &to))
        };
        let threads =
            vec![start(Direction::ToNear, &far_tun, &near_tun), start(Direction::ToFar, &near_tun, &far_tun)];
        Ok(Self { near, far, shared, threads, statistics_since: Instant::now() })
    }

    /// Changes the parameters of one direction.
    pub(crate) fn change(&self, direction: Direction, change: impl FnOnce(&mut Shape)) {
        change(&mut self.shared.emulator(direction).shape);
    }

    /// Drops all packets of both directions for `time` from now on, and those that are on the link.
    pub(crate) fn black_out(&self, time: Duration) {
        let until = self.shared.begin.elapsed() + time;
        for direction in [Direction::ToNear, Direction::ToFar] {
            self.change(direction, |shape| shape.blackout_until = until);
        }
    }

    /// Puts a NAT before the far namespace that forgets mappings after `idle_timeout`; `None` removes it. Connections
    /// that are open already have no mapping.
    pub(crate) fn set_nat(&self, idle_timeout: Option<Duration>) {
        *self.shared.nat.lock().unwrap_or_else(PoisonError::into_inner) = idle_timeout.map(Nat::new);
    }

    /// Takes the statistics of both directions, far to near first, and the time since they were last taken.
    pub(crate) fn take_statistics(&mut self) -> (Duration, [Statistics; 2]) {
        let elapsed = std::mem::replace(&mut self.statistics_since, Instant::now()).elapsed();
        let take = |direction| self.shared.emulator(direction).take_statistics();
        (elapsed, [take(Direction::ToNear), take(Direction::ToFar)])
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of the thread was printed when it happened.
            _ = thread.join();
        }
    }
}

/// Carries the packets of one direction until the rig is dropped.
fn carry(shared: &Shared, direction: Direction, mut from: &File, mut to: &File) {
    namespace::prioritize_thread();
    let mut packet = vec![0; usize::from(u16::MAX)];
    let mut due = Vec::new();
    while !shared.is_stopped.load(Ordering::Relaxed) {
        let mut arrived = 0;
        let next_due = {
            let mut emulator = shared.emulator(direction);
            // A device that was removed by `ip netns del` fails every read; the thread then sleeps until it is stopped.
            while arrived < BATCH
                && let Ok(length) = from.read(&mut packet)
            {
                let now = shared.begin.elapsed();
                if shared.passes_nat(now, direction, &packet[..length]) {
                    emulator.arrive(now, &packet[..length]);
                }
                arrived += 1;
            }
            let now = shared.begin.elapsed();
            due.extend(std::iter::from_fn(|| emulator.pop_due(now)));
            emulator.next_due()
        };
        let is_idle = arrived == 0 && due.is_empty();
        for packet in due.drain(..) {
            // A device that is down refuses packets; they are lost, as on a link that is down.
            _ = to.write(&packet);
        }
        if is_idle {
            wait(from, next_due.map(|due| due.saturating_sub(shared.begin.elapsed())));
        } else if arrived < BATCH {
            thread::sleep(BUSY_SLEEP);
        }
    }
}

/// Waits for a packet, or for the time until the next one is due.
fn wait(from: &File, next_due: Option<Duration>) {
    let time = next_due.map_or(MAX_SLEEP, |time| time.min(MAX_SLEEP));
    let time = Timespec { tv_sec: 0, tv_nsec: time.as_nanos() as _ };
    let mut ready = [PollFd::from_borrowed_fd(from.as_fd(), PollFlags::IN)];
    match rustix::event::poll(&mut ready, Some(&time)) {
        // Reading fails until the device is up.
        Ok(_) if ready[0].revents().contains(PollFlags::ERR) => thread::sleep(BUSY_SLEEP),
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => unreachable!("poll(2) of one open descriptor: {error}"),
    }
}
