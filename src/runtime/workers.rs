use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use tokio::runtime::{Handle, Runtime};
use tokio_util::sync::CancellationToken;

use super::busy_poll;

/// The threads that carry bytes, each with a runtime of its own.
///
/// A connection stays on the thread that it was given to, and a stream takes a channel of its own thread where the
/// link has one: whoever reads a channel then writes to the user without waking anybody. One runtime whose threads
/// steal each other's tasks was measured beside it; it switched threads several times as often for each byte, and
/// carried a quarter less for one download.
#[derive(Debug, Clone)]
pub struct Workers {
    handles: Arc<[Handle]>,
    turn: Arc<AtomicUsize>,
}

impl Workers {
    /// As many as are good: one for two cores.
    ///
    /// With two on a machine of two cores that also ran the other side and the users, what came was handled in half as
    /// large portions: HTTP requests cost a tenth more, the slowest took twice as long, and a ping beside downloads, too.
    /// Nothing was carried faster.
    pub fn default_count() -> usize {
        thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
    }

    /// Only the thread, or the threads, of the runtime that this is called on.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn here() -> Self {
        Self::of(vec![Handle::current()])
    }

    fn of(handles: Vec<Handle>) -> Self {
        Self { handles: handles.into(), turn: Arc::default() }
    }

    /// The number of the worker whose turn it is.
    pub(crate) fn take_turn(&self) -> usize {
        self.turn.fetch_add(1, Relaxed) % self.handles.len()
    }

    /// The worker with this number; numbers go round.
    pub(super) fn handle(&self, number: usize) -> &Handle {
        &self.handles[number % self.handles.len()]
    }
}

/// The owner of the threads. Dropping it ends them, with all tasks that still run there.
#[derive(Debug)]
pub struct WorkerThreads {
    workers: Workers,
    stop: CancellationToken,
    others: Vec<thread::JoinHandle<()>>,
}

impl WorkerThreads {
    /// `count` workers: the first is the runtime that comes back, for this thread to run, and each other has a thread.
    ///
    /// # Errors
    /// No thread, or no runtime for it, can be had.
    pub fn start(count: usize) -> io::Result<(Runtime, Self)> {
        let first = busy_poll::runtime()?;
        let mut handles = vec![first.handle().clone()];
        let mut threads =
            Self { workers: Workers::of(Vec::new()), stop: CancellationToken::new(), others: Vec::new() };
        for number in 1..count {
            let runtime = busy_poll::runtime()?;
            handles.push(runtime.handle().clone());
            let stop = threads.stop.clone();
            let thread = thread::Builder::new().name(format!("worker {number}"));
            threads.others.push(thread.spawn(move || runtime.block_on(stop.cancelled()))?);
        }
        threads.workers = Workers::of(handles);
        Ok((first, threads))
    }

    /// The workers.
    pub fn workers(&self) -> Workers {
        self.workers.clone()
    }
}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.others.drain(..) {
            // Its tasks' panics were caught; one of the runtime itself has been reported by the panic hook.
            _ = thread.join();
        }
    }
}
