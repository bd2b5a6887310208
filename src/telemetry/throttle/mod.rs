//! The rate limit of events and log lines that peers and users can cause.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{CommandOutcome, EventKind, LIFECYCLE_TARGET};

#[cfg(test)]
mod tests;

/// How many refusals and errors of one kind are emitted in a second: users and peers cause them at no cost.
pub const MAX_REFUSALS_PER_SECOND: u32 = 100;

/// How many beginnings of one kind of object are emitted in a second, and how many users' ends. It keeps each of a
/// usual number of connections in the log; without it, 15,000 connections a second would be 4 MB of log lines a second,
/// and would displace all others from the log's queue.
pub const MAX_LIFECYCLE_PER_SECOND: u32 = 500;

/// Limits the rate of one kind of event, so that a flood of connections does not become a flood of log lines.
#[derive(Debug)]
pub struct Throttle {
    /// How many events are admitted in a second. Further ones are only counted.
    max_per_second: u32,
    /// The current second and its counts.
    state: Mutex<ThrottleState>,
}

/// The current second of a [`Throttle`], and its counts.
#[derive(Debug, Default)]
struct ThrottleState {
    /// When the present second began; `None` before the first event.
    second_began: Option<Instant>,
    /// Events emitted in the present second.
    emitted_this_second: u32,
    /// Events suppressed since the last one that was emitted.
    suppressed: u64,
}

impl Throttle {
    /// Creates a throttle that admits `max_per_second` events in a second.
    pub fn new(max_per_second: u32) -> Self {
        Self { max_per_second, state: Mutex::default() }
    }

    /// Returns `None` if the event must be suppressed, and counts it. Otherwise returns how many events were suppressed
    /// since the last one that was emitted.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        let is_over = |began| now.saturating_duration_since(began) >= Duration::from_secs(1);
        if state.second_began.is_none_or(is_over) {
            (state.second_began, state.emitted_this_second) = (Some(now), 0);
        }
        if state.emitted_this_second >= self.max_per_second {
            state.suppressed += 1;
            return None;
        }
        state.emitted_this_second += 1;
        Some(std::mem::take(&mut state.suppressed))
    }

    /// Runs `log`, which writes a line to the log, unless the line must be suppressed. Logs before how many were
    /// suppressed since the last one, if any were.
    pub fn log(&self, log: impl FnOnce()) {
        if let Some(suppressed) = self.admit(Instant::now()) {
            if suppressed > 0 {
                let max = self.max_per_second;
                tracing::warn!(target: LIFECYCLE_TARGET, "{suppressed} lines of the same kind as the next one were not logged: at most {max} per second are");
            }
            log();
        }
    }

    /// Logs that `suppressed` events of the kind of `next` were suppressed, if it is not 0. Steps are logged at the
    /// level debug, and so is what is missing of them: an operator who does not see them need not read that some are
    /// missing.
    pub(super) fn log_suppressed(&self, suppressed: u64, next: &EventKind) {
        if suppressed == 0 {
            return;
        }
        let line = format!(
            "{suppressed} {} were not logged: at most {} per second are",
            plural(next),
            self.max_per_second
        );
        let is_step = next.is_detail() && !matches!(next, EventKind::StreamEnded { .. });
        if is_step {
            tracing::debug!(target: LIFECYCLE_TARGET, "{line}");
        } else {
            tracing::warn!(target: LIFECYCLE_TARGET, "{line}");
        }
    }
}

/// Returns the name of several events of this kind.
fn plural(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::UserRejected { .. } => "refused user connections",
        EventKind::HandshakeFailed { .. } => "failed handshakes",
        EventKind::UnknownStream { .. } => "messages for unknown streams",
        EventKind::RegistrationRefused { .. } => "refused registrations",
        EventKind::UserJoined { .. } => "arrivals of users",
        EventKind::UserLeft { .. } => "departures of users",
        EventKind::StreamOpened { .. } => "openings of streams",
        EventKind::StreamAssigned { .. } => "assignments of streams",
        EventKind::StreamEnded { .. } => "ends of streams",
        EventKind::ProxyConnected { .. } => "arrivals of proxies",
        EventKind::ProxyDisconnected { .. } => "departures of proxies",
        EventKind::ChannelConnected { .. } => "new channels",
        EventKind::ChannelDisconnected { .. } => "ends of channels",
        EventKind::ServiceOpened { .. } => "opened services",
        EventKind::ServiceClosed { .. } => "closed services",
        EventKind::ProxyRegistered { .. } => "registrations",
        EventKind::ProxyDeregistered { .. } => "withdrawn registrations",
        EventKind::GracePeriodStarted { .. } => "grace periods",
        EventKind::ProxyResumed { .. } => "resumptions of proxies",
        EventKind::ChannelsPlanned { .. } => "changes of the number of channels",
        EventKind::AcceptFailed { .. } => "failures to accept a connection",
        EventKind::OperatorActed { .. } => "commands of operators that failed",
        _ => "events",
    }
}

/// The throttles of all kinds of events that users and peers can cause at any rate.
#[derive(Debug)]
pub(super) struct EventThrottles {
    /// Of user connections that are refused.
    rejected_users: Throttle,
    /// Of handshakes that fail.
    failed_handshakes: Throttle,
    /// Of frames for unknown streams.
    unknown_streams: Throttle,
    /// Of registrations that are refused.
    refused_registrations: Throttle,
    /// Of users that join, and of those that leave.
    users: [Throttle; 2],
    /// Of streams that are opened, and of those that are assigned to a proxy.
    streams: [Throttle; 2],
    /// Of the log lines, not the events, of ends of streams whose opening was emitted. Twice as many as are opened,
    /// because streams of different ages may end in the same second.
    pub(super) stream_ends: Throttle,
    /// Of ends of streams whose opening was suppressed: nobody knows them but by a snapshot.
    pub(super) unannounced_stream_ends: Throttle,
    /// Of proxies that connect, and of those that disconnect.
    proxies: [Throttle; 2],
    /// Of channels that connect, and of those that disconnect.
    channels: [Throttle; 2],
    /// Of services that are opened, and of those that are closed.
    services: [Throttle; 2],
    /// Of proxies that register for a service, and of those that withdraw a registration.
    registrations: [Throttle; 2],
    /// Of proxies that lose their last channel, and of those that resume.
    interruptions: [Throttle; 2],
    /// Of changes of the number of channels.
    channel_plans: Throttle,
    /// Of failures to accept a connection: each listener pauses after one, and there may be thousands.
    failed_accepts: Throttle,
    /// Of commands of operators that were refused or have failed: a program that may only read can send them at any
    /// rate.
    failed_commands: Throttle,
}

impl Default for EventThrottles {
    fn default() -> Self {
        let refusals = || Throttle::new(MAX_REFUSALS_PER_SECOND);
        let lifecycle = || Throttle::new(MAX_LIFECYCLE_PER_SECOND);
        Self {
            rejected_users: refusals(),
            failed_handshakes: refusals(),
            unknown_streams: refusals(),
            refused_registrations: refusals(),
            users: [lifecycle(), lifecycle()],
            streams: [lifecycle(), lifecycle()],
            stream_ends: Throttle::new(2 * MAX_LIFECYCLE_PER_SECOND),
            unannounced_stream_ends: refusals(),
            proxies: [lifecycle(), lifecycle()],
            channels: [lifecycle(), lifecycle()],
            services: [lifecycle(), lifecycle()],
            registrations: [lifecycle(), lifecycle()],
            interruptions: [lifecycle(), lifecycle()],
            channel_plans: refusals(),
            failed_accepts: refusals(),
            failed_commands: refusals(),
        }
    }
}

impl EventThrottles {
    /// Returns the throttle of an event; `None` for one that only the server or its operator causes.
    pub(super) fn of(&self, kind: &EventKind) -> Option<&Throttle> {
        Some(match kind {
            EventKind::UserRejected { .. } => &self.rejected_users,
            EventKind::HandshakeFailed { .. } => &self.failed_handshakes,
            EventKind::UnknownStream { .. } => &self.unknown_streams,
            EventKind::RegistrationRefused { .. } => &self.refused_registrations,
            EventKind::UserJoined { .. } => &self.users[0],
            EventKind::UserLeft { .. } => &self.users[1],
            EventKind::StreamOpened { .. } => &self.streams[0],
            EventKind::StreamAssigned { .. } => &self.streams[1],
            EventKind::StreamEnded { .. } => &self.stream_ends,
            EventKind::ProxyConnected { .. } => &self.proxies[0],
            EventKind::ProxyDisconnected { .. } => &self.proxies[1],
            EventKind::ChannelConnected { .. } => &self.channels[0],
            EventKind::ChannelDisconnected { .. } => &self.channels[1],
            EventKind::ServiceOpened { .. } => &self.services[0],
            EventKind::ServiceClosed { .. } => &self.services[1],
            EventKind::ProxyRegistered { .. } => &self.registrations[0],
            EventKind::ProxyDeregistered { .. } => &self.registrations[1],
            EventKind::GracePeriodStarted { .. } => &self.interruptions[0],
            EventKind::ProxyResumed { .. } => &self.interruptions[1],
            EventKind::ChannelsPlanned { .. } => &self.channel_plans,
            EventKind::AcceptFailed { .. } => &self.failed_accepts,
            EventKind::OperatorActed { outcome: CommandOutcome::Failed(_), .. } => &self.failed_commands,
            _ => return None,
        })
    }
}
