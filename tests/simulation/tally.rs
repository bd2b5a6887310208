//! Counters of faults, results and server events over all seeds.

use std::{collections::BTreeMap, fmt};

use underpass::telemetry::EventKind;

use crate::script::Act;

/// Number of occurrences by name.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<String, u64>);

/// Events of the servers that show that the faults took effect; that a script contains a fault proves nothing. A
/// permanently dead connection is nearly always detected by the proxy first, which then replaces or closes it.
const EXPECTED_EVENTS: [&str; 16] = [
    "channel Reset",
    "channel Closed",
    "channel ChecksumMismatch",
    "channel Replaced",
    "proxy Kicked",
    "proxy GoAway",
    "proxy Reset",
    "proxy waits",
    "proxy resumed",
    "stream Finished",
    "stream Killed",
    "stream ProxyGone",
    "stream ProxyKicked",
    "stream Shutdown",
    "stream TargetSocketError",
    "stream UserSocketError",
];

impl Tally {
    pub fn count(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what.clone()).or_default() += count;
        }
    }

    /// Counts the events of a server.
    pub fn events(&mut self, events: &[EventKind]) {
        // `Failed("...")` counts as one reason, whatever its text is.
        let kind = |reason: &dyn fmt::Debug| format!("{reason:?}").split('(').next().unwrap().to_owned();
        for event in events {
            match event {
                EventKind::ChannelDisconnected { reason, .. } => {
                    self.count(format!("channel {}", kind(reason)))
                }
                EventKind::ProxyDisconnected { reason, .. } => self.count(format!("proxy {}", kind(reason))),
                EventKind::StreamEnded { reason, .. } => self.count(format!("stream {}", kind(reason))),
                EventKind::GracePeriodStarted { .. } => self.count("proxy waits"),
                EventKind::ProxyResumed { .. } => self.count("proxy resumed"),
                EventKind::TaskPanicked { task } => panic!("task {task} panicked"),
                _ => {}
            }
        }
    }

    fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    /// Asserts that every kind of fault was injected and took effect, and that most transfers that could complete did.
    pub fn assert_every_fault_had_an_effect(&self) {
        let acts = Act::NAMES.iter().map(|name| format!("act {name}"));
        let missing: Vec<_> =
            acts.chain(EXPECTED_EVENTS.map(String::from)).filter(|what| self.of(what) == 0).collect();
        assert_eq!(missing, Vec::<String>::new(), "never happened");
        let (whole, failed) = (self.of("transfer whole"), self.of("transfer failed"));
        assert!(failed > 0 && whole >= 4 * failed, "{whole} whole, {failed} failed");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(what, count)| writeln!(f, "{count:>8} {what}"))
    }
}
