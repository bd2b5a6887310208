//! Quitting and draining: how the operator ends the program.

use super::{dialog, prompt};
use crate::tui::{
    Exit,
    intent::{DialogIntent, PromptIntent},
    labels::Role,
    model::{Confirmation, Dialog, Model, NoticeLevel, Overlay},
    msg::Effect,
};

/// Returns the effect that ends the cockpit; where that ends open streams, opens the dialog that asks for confirmation
/// instead.
pub(super) fn quit(model: &mut Model) -> Vec<Effect> {
    if !model.keymap.may_shut_down() {
        model.notify(
            NoticeLevel::Info,
            "quit is disabled: this cockpit is read-only, and would end the server",
        );
        return Vec::new();
    }
    // Detaching ends nothing, and neither does the end of a replay.
    if model.live.streams.open_count() == 0 || model.labels.role != Role::Server {
        return vec![Effect::Exit(Exit::Quit)];
    }
    let drain_timeout = model.labels.drain.filter(|_| !model.server_status.is_draining);
    dialog::open(model, Confirmation::Quit { drain_timeout });
    Vec::new()
}

/// Returns the effect that ends the cockpit while the server continues, which needs no confirmation: no stream ends.
/// Without a control socket nothing could show the server again, so that it stays. A cockpit of another process
/// [quits](quit).
pub(super) fn detach(model: &mut Model) -> Vec<Effect> {
    if model.labels.role != Role::Server {
        return quit(model);
    }
    if model.labels.attach.is_none() {
        let why = "cannot detach: without a control socket nothing could show the server again";
        model.notify(NoticeLevel::Warning, why);
        return Vec::new();
    }
    vec![Effect::Exit(Exit::Detached)]
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

/// Closes any overlay without an effect. A filter prompt, which applies its text at once, restores the filter before
/// it.
pub(super) fn close_overlay(model: &mut Model) {
    prompt::handle(model, PromptIntent::Cancel);
    model.overlay = None;
}

/// Reacts to SIGINT or SIGTERM: the first one drains the server, also after the operator has asked for it, and the
/// second one ends the program at once. Closes any overlay.
pub(super) fn interrupted(model: &mut Model) -> Vec<Effect> {
    if model.labels.role != Role::Server {
        // The signal is for this process, and not for the server.
        return vec![Effect::Exit(Exit::Quit)];
    }
    if std::mem::replace(&mut model.server_status.was_interrupted, true) {
        close_overlay(model);
        return vec![Effect::Exit(Exit::Now)];
    }
    drain(model)
}

/// Starts draining the server. Does nothing more the second time. Closes any overlay.
pub(super) fn drain(model: &mut Model) -> Vec<Effect> {
    close_overlay(model);
    if model.server_status.drain_requested {
        return Vec::new();
    }
    model.server_status.drain_requested = true;
    model.server_status.is_draining = true;
    vec![Effect::Drain]
}
