//! The tasks that keep the channels of one link established, as many as the link should have.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    channel_supervisor::ChannelSupervisor,
    channel_target::{ChannelTarget, KeeperGuard},
};
use crate::{link::Driver, runtime::Tasks, wire::ResetCode};

/// How long after the panic of a channel's task another one is spawned for its channel, on which open streams may wait.
const PAUSE_AFTER_PANIC: Duration = Duration::from_millis(500);

/// Spawns a task for each channel that a link should have, and retires channels that are too many.
pub(super) struct ChannelKeepers {
    /// Keeps one channel established in each of the tasks.
    supervisor: Arc<ChannelSupervisor>,
    /// How many channels the link should have.
    target: Arc<ChannelTarget>,
    /// Spawns the tasks.
    tasks: Tasks,
    /// How many tasks were spawned. The channels of successive tasks belong to different worker threads.
    spawned: usize,
}

impl ChannelKeepers {
    /// Creates the keepers of a link; none is spawned yet.
    pub(super) fn new(supervisor: Arc<ChannelSupervisor>, target: Arc<ChannelTarget>, tasks: Tasks) -> Self {
        Self { supervisor, target, tasks, spawned: 0 }
    }

    /// Spawns the tasks that are missing. `first` is a channel that the first of them starts with. Its socket must
    /// belong to the runtime of the first worker thread, on which the link's first task runs.
    pub(super) fn spawn_missing(&mut self, mut first: Option<Driver>) {
        while self.target.add_keeper(Instant::now()) {
            let guard = self.target.guard_keeper();
            let task = keep_channel(self.supervisor.clone(), self.tasks.clone(), first.take(), guard);
            self.tasks.spawn_on(self.spawned, format!("channel {}", self.spawned + 1), task);
            self.spawned += 1;
        }
    }

    /// Spawns tasks and retires channels whenever the target changes, until the link ends, the server sends GOAWAY or
    /// the proxy stops.
    pub(super) async fn run(mut self) {
        let mut target = self.target.subscribe();
        // Not missed: a change before this call.
        target.mark_changed();
        let (tasks, supervisor) = (self.tasks.clone(), self.supervisor.clone());
        loop {
            let next_opening = self.target.next_opening();
            let due = next_opening.unwrap_or_else(Instant::now).into();
            tokio::select! {
                () = tokio::time::sleep_until(due), if next_opening.is_some() => {}
                () = tasks.stopped() => return,
                () = supervisor.serves_no_more() => return,
                changed = target.changed() => if changed.is_err() { return },
            }
            target.borrow_and_update();
            // What made a channel's task panic may do so again.
            if self.target.take_panic() {
                tokio::select! {
                    () = tasks.stopped() => return,
                    () = tokio::time::sleep(PAUSE_AFTER_PANIC) => {}
                }
            }
            self.spawn_missing(None);
            while supervisor.retire_surplus() {}
        }
    }
}

/// Keeps one channel established until the link ends or does not need it, or the proxy stops; when it stops, sends
/// GOAWAY.
async fn keep_channel(
    supervisor: Arc<ChannelSupervisor>,
    tasks: Tasks,
    first: Option<Driver>,
    _guard: KeeperGuard,
) {
    // Pinned outside of `select!`, so that the channel still exists while the GOAWAY is sent: `select!` drops the
    // futures of the other branches before it runs the handler.
    let mut channel = std::pin::pin!(supervisor.run(first));
    tokio::select! {
        // Polled first: otherwise a lost channel might be established again while the proxy stops.
        biased;
        () = tasks.stopped() => supervisor.link().send_go_away(ResetCode::Shutdown),
        () = &mut channel => {}
    }
}
