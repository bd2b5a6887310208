use std::{
    fmt, io,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use super::{Settings, Source};

/// What the cockpit needs of its host.
pub struct Options {
    /// The server to show and to control.
    pub source: Box<dyn Source>,
    /// What only the host knows.
    pub labels: Labels,
    /// How the operator wants it.
    pub settings: Settings,
    /// The host sets it when everything is over; the cockpit gives the terminal back within a tenth of a second and
    /// returns [`Exit::Stopped`].
    pub stop: Arc<AtomicBool>,
    /// Called when the operator asks to drain (`^C` once, `SIGINT` or `SIGTERM` from outside, the button of the quit
    /// dialog). The cockpit stays and shows what is still open, until `stop` is set or the operator presses `^C`
    /// again. With none, [`run`](super::run) returns [`Exit::Drain`] instead.
    pub on_drain: Option<Box<dyn Fn() + Send>>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("labels", &self.labels).finish_non_exhaustive()
    }
}

/// Text for the header and for screens that have nothing else to show yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// What this is, beside the name of the program: `demo`. Empty for a plain server.
    pub title: String,
    /// Where proxies connect: `0.0.0.0:7000`.
    pub listen: String,
    /// The command that makes another machine a proxy of this server; shown while there is none.
    pub join: Option<String>,
    /// The command that makes a stream, where the host knows one: `curl -O http://127.0.0.1:8080/big.iso`. Shown while
    /// there is no stream, and beside [`join`](Self::join).
    pub curl: Option<String>,
    /// How long streams may go on once the operator asks to drain; `None` where nothing is waited for.
    pub drain: Option<Duration>,
}

/// Why the cockpit ended. The terminal has been given back already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The operator quit (`q`): streams that are open are to end now.
    Quit,
    /// The operator asked to drain, and there was no [`Options::on_drain`] to call.
    Drain,
    /// The operator asked twice (`^C` `^C`): everything is to end now.
    Now,
    /// The host set [`Options::stop`].
    Stopped,
    /// The terminal vanished, or its session hung up. Nobody is watching any more.
    TerminalGone,
}

/// Why there is no cockpit.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The terminal cannot be taken over.
    #[error("cannot use the terminal: {0}")]
    Terminal(#[from] io::Error),
    /// The cockpit panicked. The terminal has been given back and the panic printed; the tunnel itself is unharmed.
    #[error("the cockpit failed: {0}")]
    Panicked(String),
}
