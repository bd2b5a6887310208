//! Quitting and draining: how the operator ends the program.

use super::{dialog, prompt};
use crate::tui::{
    Exit,
    intent::{DialogIntent, PromptIntent},
    model::{Confirmation, Dialog, Model, NoticeLevel, Overlay},
    msg::Effect,
};

/// Returns the effect that ends the cockpit; while streams are open, opens the dialog that asks for confirmation
/// instead.
pub(super) fn quit(model: &mut Model) -> Vec<Effect> {
    if !model.keymap.may_shut_down() {
        model.notify(
            NoticeLevel::Info,
            "quit is disabled: this cockpit is read-only, and would end the server",
        );
        return Vec::new();
    }
    if model.live.streams.open_count() == 0 {
        return vec![Effect::Exit(Exit::Quit)];
    }
    let drain_timeout = model.labels.drain.filter(|_| !model.server_status.is_draining);
    dialog::open(model, Confirmation::Quit { drain_timeout });
    Vec::new()
}

/// Closes the open overlay as Escape does, as `^C` does in a shell and an editor; without one, quits like
/// [`quit`]. The dialog that this opens is not answered by `^C`: who presses it to copy text presses it twice.
pub(super) fn interrupt(model: &mut Model) -> Vec<Effect> {
    match &model.overlay {
        None => return quit(model),
        Some(Overlay::Dialog(Dialog { question: Confirmation::Quit { .. }, .. })) => {
            model.notify(NoticeLevel::Info, dialog::QUIT_ANSWERS);
        }
        Some(Overlay::Dialog(_)) => _ = dialog::handle(model, DialogIntent::Cancel),
        Some(Overlay::Prompt(_)) => _ = prompt::handle(model, PromptIntent::Cancel),
        Some(Overlay::Help { .. } | Overlay::AddProxy { .. } | Overlay::Columns { .. }) => {
            model.overlay = None
        }
    }
    Vec::new()
}

/// Starts draining the server, as after SIGINT or SIGTERM; the second time, ends the program at once. Closes any
/// overlay.
pub(super) fn drain(model: &mut Model) -> Vec<Effect> {
    model.overlay = None;
    if model.server_status.drain_requested {
        return vec![Effect::Exit(Exit::Now)];
    }
    model.server_status.drain_requested = true;
    model.server_status.is_draining = true;
    vec![Effect::Drain]
}
