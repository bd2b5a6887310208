//! Shutdown of a server, in steps: stop admitting proxies and send GOAWAY, close the public ports, let open streams
//! finish, abort the rest.
//!
//! With `SO_REUSEPORT` a second server listens on the same ports while this one drains (zero-downtime restart). Then
//! the public ports stay open until every proxy has registered with the successor, so that users reach one of the two
//! at any time.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{core::Core, proxy::RemoteProxy, public_port::HALF_OPEN_TIMEOUT};
use crate::{telemetry::EventKind, wire::ResetCode};

/// How long aborted streams may take to clean up before the server closes its links. Together with
/// [`LINK_CLEANUP_TIMEOUT`], the default drain timeout and what the program does after it, it is less than the 10 s
/// after which `docker stop` kills.
const STREAM_CLEANUP_TIMEOUT: Duration = Duration::from_millis(900);

/// How long closed links and all other tasks may take to end before the server returns without them.
const LINK_CLEANUP_TIMEOUT: Duration = Duration::from_millis(300);

/// How long proxies may take to register with the successor on the shared ports before this server closes its public
/// ports regardless. Less where the drain timeout is. A thousand services take twelve RTTs: of 207 requests on a path
/// of 300 ms 11 were refused where it was 5 s.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(10);

/// The signals that end a server.
#[derive(Debug, Clone, Default)]
pub struct ShutdownSignals {
    /// Cancelled to drain: the server accepts nothing new, and open streams may finish within the drain timeout.
    pub drain: CancellationToken,
    /// Cancelled to end at once: open streams are aborted too.
    pub abort: CancellationToken,
}

impl ShutdownSignals {
    /// Waits until the server is asked to end, in one way or the other.
    pub async fn requested(&self) {
        tokio::select! {
            () = self.drain.cancelled() => {}
            () = self.abort.cancelled() => {}
        }
    }

    /// Returns whether the server was asked to end, in one way or the other.
    pub fn is_requested(&self) -> bool {
        self.drain.is_cancelled() || self.abort.is_cancelled()
    }
}

/// What was left when the server ended. All counts are zero unless streams were aborted or something leaked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShutdownReport {
    /// Tasks that did not end within the clean-up timeout.
    pub running_tasks: usize,
    /// Streams that were aborted because they had not finished by the end of the drain.
    pub aborted_streams: u64,
    /// Permits for user connections that were not returned.
    pub missing_permits: usize,
    /// Users that are still in the table of users.
    pub remaining_users: usize,
}

impl Core {
    /// Waits for `shutdown`, then drains until every stream has ended, the drain timeout expires or the abort is
    /// signalled. Returns the number of streams that are still open.
    pub(super) async fn drain(&self, shutdown: &ShutdownSignals) -> u64 {
        shutdown.requested().await;
        // Includes the handover: a service manager kills the process after a time that begins now.
        let drain_timeout = self.config().drain_timeout;
        let deadline = Instant::now() + drain_timeout;
        self.draining.cancel();
        if !self.config().reuse_port {
            self.close_ports.cancel();
        }
        self.telemetry.emit(EventKind::DrainStarted { open_streams: self.open_streams() });
        let ports_closed = async {
            if self.config().reuse_port {
                // A proxy that has not moved by then is not expected to.
                let within = HANDOVER_TIMEOUT.min(drain_timeout.saturating_sub(HALF_OPEN_TIMEOUT));
                _ = timeout(within, self.all_proxies_moved()).await;
            }
            self.close_ports.cancel();
            self.open_ports.close();
            // Before `wait_all_ended` asks for the permits: the semaphore is fair, so that the request for all of
            // them would take every returned permit from the last users, who are being accepted now.
            self.open_ports.wait().await;
        };
        tokio::select! {
            () = ports_closed => {}
            () = sleep_until(deadline) => {}
            () = shutdown.abort.cancelled() => {}
        }
        // The handover may have been cut short, before the ports were closed.
        self.close_ports.cancel();
        let (open_streams, within) =
            (self.open_streams(), deadline.saturating_duration_since(Instant::now()));
        if open_streams > 0 && !shutdown.abort.is_cancelled() {
            self.telemetry.emit(EventKind::DrainDeadlineSet { open_streams, within });
        }
        tokio::select! {
            () = self.user_admission.wait_all_ended() => 0,
            () = sleep_until(deadline) => self.open_streams(),
            () = shutdown.abort.cancelled() => self.open_streams(),
        }
    }

    /// Aborts all user connections, closes all links and waits for the tasks to end, for at most
    /// [`STREAM_CLEANUP_TIMEOUT`] and [`LINK_CLEANUP_TIMEOUT`]. Returns the counts of tasks, permits and users that are
    /// left.
    pub(super) async fn terminate(&self, aborted_streams: u64) -> ShutdownReport {
        self.abort.cancel();
        let deadline = Instant::now() + STREAM_CLEANUP_TIMEOUT + LINK_CLEANUP_TIMEOUT;
        _ = timeout(STREAM_CLEANUP_TIMEOUT, self.user_admission.wait_all_ended()).await;
        let proxies: Vec<_> = self.proxies.iter().map(|proxy| proxy.clone()).collect();
        for proxy in proxies {
            proxy.close_for_shutdown();
        }
        _ = timeout_at(deadline, self.tasks.join()).await;
        self.users.remove_idle(Instant::now().into_std(), Duration::ZERO);
        ShutdownReport {
            running_tasks: self.tasks.len(),
            aborted_streams,
            missing_permits: self.user_admission.admitted(),
            remaining_users: self.users.len(),
        }
    }

    /// Sends GOAWAY to a proxy, with the address of the successor if one is configured.
    pub(super) fn send_go_away(&self, proxy: &RemoteProxy) {
        proxy.link.send_go_away_with_successor(self.config().successor.as_deref(), ResetCode::Shutdown);
    }

    /// Waits until every proxy has moved to the successor or has disconnected.
    async fn all_proxies_moved(&self) {
        while !self.proxies.iter().all(|proxy| proxy.has_moved()) {
            self.proxy_moved.notified().await;
        }
    }
}
