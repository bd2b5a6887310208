//! The newest refusals and failures, for an operator who looks only after they have happened.
//!
//! Events are broadcast and forgotten: an operator who attaches later would find that a user was refused in the log
//! alone, which is on another terminal or in the journal. Each group of events has a share of its own, because scanners
//! of the tunnel port would otherwise displace the one refused user whom the operator looks for.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{DisconnectReason, EndReason, Event, EventKind};

#[cfg(test)]
mod tests;

/// How many events of each group are kept. An event takes about 400 bytes, and at most two kilobytes: all together at
/// most one megabyte.
pub(super) const MAX_OF_GROUP: usize = 128;

/// The longest reason that is kept, in characters: a peer may cause it.
const MAX_REASON_CHARS: usize = 300;

/// The groups of events, each of which has its own share of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    /// Users that were refused.
    Users,
    /// Proxies that were refused or lost, and the links of a proxy that were.
    Proxies,
    /// Connections to the tunnel port that failed the handshake.
    Handshakes,
    /// Streams that failed.
    Streams,
}

impl Group {
    /// The number of groups.
    const COUNT: usize = 4;

    /// Returns the group of an event; `None` if it is neither a refusal nor a failure.
    fn of(kind: &EventKind) -> Option<Self> {
        match kind {
            EventKind::UserRejected { .. } => Some(Self::Users),
            EventKind::HandshakeFailed { .. } => Some(Self::Handshakes),
            EventKind::RegistrationRefused { .. } | EventKind::AddressBlocked { .. } => Some(Self::Proxies),
            EventKind::ProxyDisconnected { .. } | EventKind::ServerDisconnected { .. } => {
                kind.is_warning().then_some(Self::Proxies)
            }
            EventKind::StreamEnded { .. } => kind.is_warning().then_some(Self::Streams),
            _ => None,
        }
    }
}

/// The newest refusals and failures of a server or a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentFailures {
    /// The events in the order in which they happened. What a stream carried is not among them.
    pub events: Vec<Event>,
    /// How many others there were since the start: older ones, and those of a flood.
    #[serde(default)]
    pub dropped: u64,
}

/// Keeps the newest refusals and failures.
#[derive(Debug, Default)]
pub(super) struct FailureHistory(Mutex<Kept>);

/// What is kept.
#[derive(Debug, Default)]
struct Kept {
    /// The number of the last event: groups are merged by it, because the clock may be set back.
    last_number: u64,
    /// The events of each group, the oldest first.
    groups: [VecDeque<(u64, Event)>; Group::COUNT],
    /// How many are not kept.
    dropped: u64,
}

impl FailureHistory {
    /// Keeps an event if it is a refusal or a failure, in the place of the oldest one of its group if that is full.
    pub(super) fn keep(&self, event: &Event) {
        let Some(group) = Group::of(&event.kind) else { return };
        // Outside the lock: it allocates.
        let event = Event { epoch_ms: event.epoch_ms, kind: bounded(event.kind.clone()) };
        let mut kept = self.0.lock();
        kept.last_number += 1;
        let number = kept.last_number;
        let events = &mut kept.groups[group as usize];
        let is_full = events.len() == MAX_OF_GROUP;
        if is_full {
            events.pop_front();
        }
        events.push_back((number, event));
        kept.dropped += u64::from(is_full);
    }

    /// Counts an event that was suppressed because there were too many, if it is a refusal or a failure.
    pub(super) fn count_suppressed(&self, kind: &EventKind) {
        if Group::of(kind).is_some() {
            self.0.lock().dropped += 1;
        }
    }

    /// Returns what is kept, in the order in which it happened.
    pub(super) fn recent(&self) -> RecentFailures {
        let (mut events, dropped) = {
            let kept = self.0.lock();
            (kept.groups.iter().flatten().cloned().collect::<Vec<_>>(), kept.dropped)
        };
        events.sort_unstable_by_key(|(number, _)| *number);
        RecentFailures { events: events.into_iter().map(|(_, event)| event).collect(), dropped }
    }
}

/// Returns an event of bounded size, without what a stream carried: a request may name what its user keeps secret, and
/// is shown while the stream is on the screen, not kept for those who look later.
fn bounded(mut kind: EventKind) -> EventKind {
    match &mut kind {
        EventKind::UserRejected { reason, .. }
        | EventKind::HandshakeFailed { reason, .. }
        | EventKind::RegistrationRefused { reason, .. } => shorten(reason),
        EventKind::ProxyDisconnected { reason, .. } | EventKind::ServerDisconnected { reason, .. } => {
            if let DisconnectReason::Tls(why)
            | DisconnectReason::IoError(why)
            | DisconnectReason::Protocol(why) = reason
            {
                shorten(why);
            }
        }
        EventKind::StreamEnded { reason, content, .. } => {
            *content = None;
            if let EndReason::TargetConnectFailed(why)
            | EndReason::Protocol(why)
            | EndReason::ProxyReset(why) = reason
            {
                shorten(why);
            }
        }
        _ => {}
    }
    kind
}

/// Cuts a reason that is too long.
fn shorten(reason: &mut String) {
    if let Some((end, _)) = reason.char_indices().nth(MAX_REASON_CHARS) {
        reason.truncate(end);
        reason.push('…');
        reason.shrink_to_fit();
    }
}
