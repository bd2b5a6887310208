//! The cockpit of something else than a server in this process: one that is attached, or a recording.

use std::sync::{Arc, atomic::AtomicBool};

use anyhow::bail;

use super::terminal::{self, Obstacle};
use crate::tui::{self, Exit, Labels, Settings, Source};

/// Shows the cockpit on this thread until the operator quits or the terminal is gone. `alternative` says what to do
/// without a terminal.
pub(super) fn show(
    source: Box<dyn Source>,
    labels: Labels,
    settings: Settings,
    alternative: &str,
) -> anyhow::Result<Exit> {
    match terminal::obstacle() {
        None => {}
        Some(Obstacle::NoTerminal) => bail!("the cockpit needs a terminal; {alternative}"),
        Some(obstacle) => bail!("no cockpit here, because {obstacle}; {alternative}"),
    }
    // This process logs nothing: the log screen shows the log of the server.
    let options = tui::Options {
        source,
        labels,
        settings,
        ignored_signals: terminal::ignored_signals(),
        stop: Arc::new(AtomicBool::new(false)),
        on_drain: None,
    };
    Ok(tui::run(options)?)
}
