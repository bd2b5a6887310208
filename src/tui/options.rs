//! What the host passes to the cockpit.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
};

use super::{labels::Labels, settings::Settings, source::Source};

/// What the cockpit needs from its host.
pub struct Options {
    /// The server to show and to control.
    pub source: Box<dyn Source>,
    /// Texts that only the host knows.
    pub labels: Labels,
    /// The operator's settings of the cockpit, validated: theme, columns, keys, refresh interval, read-only mode.
    pub settings: Settings,
    /// The signals that the parent process ignored: they stay ignored.
    pub ignored_signals: Vec<i32>,
    /// The host sets this when the program ends; the cockpit then restores the terminal within a tenth of a second
    /// and returns [`Exit::Stopped`](super::Exit::Stopped).
    pub stop: Arc<AtomicBool>,
    /// Called when the operator asks to drain: SIGINT or SIGTERM from outside, or the button of the quit dialog. The
    /// cockpit keeps running and shows the open streams, until `stop` is set, a second signal arrives or the operator
    /// quits. Where this is `None`, [`run`](super::run) returns [`Exit::Drain`](super::Exit::Drain) instead.
    pub on_drain: Option<Box<dyn Fn() + Send>>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("labels", &self.labels).finish_non_exhaustive()
    }
}
