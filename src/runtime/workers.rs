//! Worker threads, each with a runtime of its own.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use tokio::{
    runtime::{Handle, Runtime},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::busy_poll;

/// Handles of the worker threads that relay bytes, each with a single-threaded runtime.
///
/// A connection stays on the worker that it was assigned to, and a stream prefers a channel of the same worker: the
/// driver that receives its data then writes to the user's socket without waking another thread. One work-stealing
/// runtime was measured as the alternative: it switched threads several times as often per byte, and the throughput
/// of one download was a quarter lower.
#[derive(Debug, Clone)]
pub struct Workers {
    /// The runtime of each worker, by its number.
    handles: Arc<[Handle]>,
    /// Counter of the round robin over the workers.
    next: Arc<AtomicUsize>,
}

impl Workers {
    /// Returns the default number of workers: one for every two cores.
    ///
    /// With two workers on a machine of two cores that also ran the other side and the users, received data was
    /// handled in half as large portions: HTTP requests cost a tenth more, their p99 latency and that of a ping
    /// beside downloads doubled, and throughput was no higher.
    pub fn default_count() -> usize {
        thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
    }

    /// Returns the current runtime as the only worker.
    ///
    /// # Panics
    /// If called outside of a runtime.
    pub fn here() -> Self {
        Self::of(vec![Handle::current()])
    }

    /// Creates the set of workers with these runtimes. There must be at least one before a worker is used.
    fn of(handles: Vec<Handle>) -> Self {
        Self { handles: handles.into(), next: Arc::default() }
    }

    /// Returns the number of workers.
    pub fn count(&self) -> usize {
        self.handles.len()
    }

    /// Waits until every worker has run a task: none is blocked.
    pub async fn answer(&self) {
        let mut tasks = JoinSet::new();
        for handle in self.handles.iter() {
            tasks.spawn_on(async {}, handle);
        }
        tasks.join_all().await;
    }

    /// Returns the number of the next worker, in round robin.
    pub(super) fn next_index(&self) -> usize {
        self.next.fetch_add(1, Relaxed) % self.handles.len()
    }

    /// Returns the runtime of the worker with this number, modulo the number of workers.
    pub(super) fn handle(&self, number: usize) -> &Handle {
        &self.handles[number % self.handles.len()]
    }
}

/// Owner of the worker threads. Dropping it ends the threads, with all tasks that still run on them.
///
/// Blocking threads of the runtimes are not waited for: a name lookup (getaddrinfo(3)) cannot be cancelled, and takes
/// 10 s for each name server that does not answer. They end with the process at the latest.
#[derive(Debug)]
pub struct WorkerThreads {
    /// Handles of all workers, the first included.
    workers: Workers,
    /// Cancelled to end the threads.
    stop: CancellationToken,
    /// The threads of all workers but the first.
    threads: Vec<thread::JoinHandle<()>>,
}

impl WorkerThreads {
    /// Starts `count` workers, which busy-poll before they sleep if `busy_poll` is set. Returns the runtime of the
    /// first, which the calling thread has to run; each of the others runs on a thread of its own.
    ///
    /// # Errors
    /// A thread or its runtime cannot be created.
    pub fn start(count: usize, busy_poll: bool) -> io::Result<(Runtime, Self)> {
        let first = busy_poll::runtime(busy_poll)?;
        let mut handles = vec![first.handle().clone()];
        let mut owner =
            Self { workers: Workers::of(Vec::new()), stop: CancellationToken::new(), threads: Vec::new() };
        for number in 1..count {
            let runtime = busy_poll::runtime(busy_poll)?;
            handles.push(runtime.handle().clone());
            let stop = owner.stop.clone();
            let thread = thread::Builder::new().name(format!("worker {number}"));
            owner.threads.push(thread.spawn(move || {
                runtime.block_on(stop.cancelled());
                runtime.shutdown_background();
            })?);
        }
        owner.workers = Workers::of(handles);
        Ok((first, owner))
    }

    /// Ends all workers, also the `first`, whose runtime [`start`](Self::start) returned: that one last.
    pub fn shut_down(self, first: Runtime) {
        drop(self);
        first.shutdown_background();
    }

    /// Returns the handles of all workers.
    pub fn workers(&self) -> Workers {
        self.workers.clone()
    }
}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            // Panics of tasks were caught; the panic hook has reported one of the runtime itself.
            _ = thread.join();
        }
    }
}
