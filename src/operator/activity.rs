//! What a connection to the control socket is doing, as far as another one may take its place.
//!
//! A client that was stopped, or a script that never closes what it opens, would otherwise keep its places for ever,
//! and with all of them `underpass ps` from the operator. One that follows events or watches the state is never idle.

use std::time::Instant;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// What a connection is doing, shared by its task and the server, which may choose it to give way.
#[derive(Debug)]
pub(super) struct Activity {
    /// What it is doing.
    phase: Mutex<Phase>,
    /// Cancelled when the connection has to give way.
    displaced: CancellationToken,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// It waits for a request. `has_asked`: not for the first one.
    Idle { has_asked: bool, since: Instant },
    /// It performs a request, or its client follows events or watches the state.
    Busy,
    /// It gives way to another one.
    Displaced,
}

impl Activity {
    /// Returns the activity of a connection that was just accepted.
    pub(super) fn new() -> Self {
        let phase = Phase::Idle { has_asked: false, since: Instant::now() };
        Self { phase: Mutex::new(phase), displaced: CancellationToken::new() }
    }

    /// Begins a request. Returns whether it may be performed, which a connection that has to give way may not.
    pub(super) fn try_begin(&self) -> bool {
        let mut phase = self.phase.lock();
        if matches!(*phase, Phase::Displaced) {
            return false;
        }
        *phase = Phase::Busy;
        true
    }

    /// Waits for the next request.
    pub(super) fn rest(&self) {
        *self.phase.lock() = Phase::Idle { has_asked: true, since: Instant::now() };
    }

    /// Returns the place in the order in which connections give way: those that never asked first, then those that have
    /// been idle longest; `None` for one that is not idle.
    pub(super) fn order(&self) -> Option<(bool, Instant)> {
        match *self.phase.lock() {
            Phase::Idle { has_asked, since } => Some((has_asked, since)),
            Phase::Busy | Phase::Displaced => None,
        }
    }

    /// Makes the connection give way if it is idle. Returns whether it does.
    pub(super) fn try_displace(&self) -> bool {
        let mut phase = self.phase.lock();
        let is_idle = matches!(*phase, Phase::Idle { .. });
        if is_idle {
            *phase = Phase::Displaced;
            self.displaced.cancel();
        }
        is_idle
    }

    /// Completes when the connection has to give way.
    pub(super) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}
