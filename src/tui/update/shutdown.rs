//! Quitting and draining: how the operator ends the program.

use super::dialog;
use crate::tui::{
    Exit,
    model::{Confirmation, Model},
    msg::Effect,
};

/// Returns the effect that ends the cockpit; while streams are open, opens the dialog that asks for confirmation
/// instead.
pub(super) fn quit(model: &mut Model) -> Vec<Effect> {
    if model.live.streams.open_count() == 0 {
        return vec![Effect::Exit(Exit::Quit)];
    }
    let drain_timeout = model.labels.drain.filter(|_| !model.server_status.is_draining);
    dialog::open(model, Confirmation::Quit { drain_timeout });
    Vec::new()
}

/// Starts draining the server, as after `^C`, SIGINT or SIGTERM; the second time, ends the program at once. Closes
/// any overlay.
pub(super) fn interrupt(model: &mut Model) -> Vec<Effect> {
    model.overlay = None;
    if model.server_status.drain_requested {
        return vec![Effect::Exit(Exit::Now)];
    }
    model.server_status.drain_requested = true;
    model.server_status.is_draining = true;
    vec![Effect::Drain]
}
