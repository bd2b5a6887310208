//! Why the cockpit ended.

use std::io;

/// Why the cockpit ended. The terminal has been restored before it is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The operator quit (`q`): open streams end now.
    Quit,
    /// The operator left the terminal (`:detach`): the server continues.
    Detached,
    /// The operator asked to drain, and the host has no [`Options::on_drain`](super::Options::on_drain) to call.
    Drain,
    /// A second SIGINT or SIGTERM arrived, where two between which the cockpit did not look count as one: the drain
    /// ends, and open streams are aborted as after [`Quit`](Self::Quit).
    Now,
    /// The host set [`Options::stop`](super::Options::stop).
    Stopped,
    /// The terminal disappeared, or its session hung up (SIGHUP).
    TerminalGone,
}

/// Why the cockpit could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The terminal cannot be opened, configured or polled.
    #[error("cannot use the terminal: {0}")]
    Terminal(#[from] io::Error),
    /// The cockpit panicked. The terminal has been restored and the panic printed; the tunnel continues.
    #[error("the cockpit panicked: {0}")]
    Panicked(String),
}
