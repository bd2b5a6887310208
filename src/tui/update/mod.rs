//! A message and the model as it is make the model as it will be, and what is to be done. Nothing here reads a clock,
//! a descriptor or a channel.

mod columns;
mod command;
mod mouse;
mod orders;
mod prompt;
mod screens;
mod steer;

use std::time::Instant;

use super::{
    Exit, format, help,
    keymap::Action,
    model::{Model, NoticeLevel, Overlay},
    msg::{Effect, Msg},
    terminal::{Key, KeyCode},
};
use crate::{
    ids::clean,
    telemetry::{EventKind, Snapshot},
};

/// Takes one message.
pub(crate) fn update(model: &mut Model, msg: Msg, now: Instant) -> Vec<Effect> {
    // The clock of a test may stand still, but time never runs back.
    model.live.now = model.live.now.max(now);
    match msg {
        Msg::Key(key) => return press(model, key),
        Msg::Mouse(mouse) => mouse::take(model, mouse),
        Msg::Interrupted => return interrupt(model),
        Msg::Resized(size) => {
            model.size = size;
            if !model.layout().has_table {
                // What cannot be seen must not be answered.
                model.overlay = None;
            }
            model.refresh_rows();
            return vec![Effect::Repaint];
        }
        Msg::Event(event) => {
            happened(model, &event.kind);
            model.journal.note(&event);
        }
        Msg::Missed(count) => {
            model.server_status.missed_events += count;
            let events = format::counted(count, "lifecycle event");
            model.notify(NoticeLevel::Warning, format!("{events} missed, resynced"));
        }
        Msg::Replied(id, reply) => return orders::answered(model, id, reply),
        Msg::FileWritten(Ok(path)) => model.notify(NoticeLevel::Success, format!("written to {path}")),
        Msg::FileWritten(Err(why)) => model.notify(NoticeLevel::Warning, why),
        Msg::NoShell => model.notify(NoticeLevel::Info, "there is no shell to go back to"),
    }
    Vec::new()
}

fn happened(model: &mut Model, event: &EventKind) {
    let live = &mut model.live;
    let now = live.now;
    match event {
        EventKind::StreamOpened { key, addr, service } => live.streams.opened(*key, *addr, service, now),
        EventKind::StreamAssigned { key, proxy } => live.streams.assigned(*key, *proxy),
        EventKind::StreamEnded { key, reason, down, up, content } => {
            live.streams.over(*key, reason, (*down, *up), content.as_ref(), now);
        }
        EventKind::ProxyDisconnected { proxy, reason, .. } => live.proxies.gone(*proxy, reason, now),
        EventKind::ProxyRegistered { proxy, .. } => live.proxies.registered(*proxy),
        EventKind::RegistrationRefused { proxy, reason } => {
            live.proxies.refused(*proxy, reason);
            let text = format!("{} was refused its port: {reason}", live.proxies.name(*proxy));
            model.notify(NoticeLevel::Warning, format::truncate(&clean(&text, 200), 200));
        }
        EventKind::ServiceClosed { service } => {
            live.services.closed(service, now);
            // A server that drains closes them all, as it was told to.
            if !model.server_status.is_draining {
                model.notify(
                    NoticeLevel::Warning,
                    format!("port {} is closed: no proxy serves it", service.port),
                );
            }
        }
        EventKind::DrainStarted { .. } => model.server_status.is_draining = true,
        EventKind::DrainDeadlineSet { within, .. } => {
            model.server_status.drain_deadline = now.checked_add(*within)
        }
        // The others only go to the log; what they change is in the counters.
        _ => {}
    }
}

/// Takes where everything stands. Beside [`update`], because a sample is large, and its room is used again.
pub(crate) fn sample(model: &mut Model, snapshot: &Snapshot, now: Instant) -> Vec<Effect> {
    model.live.now = model.live.now.max(now);
    let now = model.live.now;
    model.server_status.has_sample = true;
    model.live.sample(snapshot);
    if let Some(detail) = &mut model.detail_screen.open
        && let Some(row) = model.live.streams.get(detail.row)
    {
        let number = model.live.streams.snapshot_number(detail.row);
        let selected = snapshot.selected.iter().find(|stream| Some(stream.number) == number);
        detail.note(row, selected.map(|stream| &stream.details), now);
    }
    model.refresh_rows();
    model.expire_notice();
    if let Some(text) = model.pending_commands.late(now) {
        model.notify(NoticeLevel::Warning, text);
    }
    orders::feed(model)
}

fn press(model: &mut Model, key: Key) -> Vec<Effect> {
    if let Some(Overlay::Dialog(dialog)) = &mut model.overlay
        && dialog.number().is_some()
        && let KeyCode::Char('0'..='9') | KeyCode::Backspace = key.code
    {
        dialog.type_in(key.code.as_char());
        return Vec::new();
    }
    let Some(action) = model.keymap.action(model.context(), key) else {
        prompt::type_in(model, key);
        return Vec::new();
    };
    perform(model, action)
}

/// Does what a key or a command asks for.
fn perform(model: &mut Model, action: Action) -> Vec<Effect> {
    match (action, &model.overlay) {
        (Action::Interrupt, _) => interrupt(model),
        (Action::Redraw, _) => vec![Effect::Repaint],
        (Action::Suspend, _) => vec![Effect::Suspend],
        (_, Some(Overlay::Dialog(dialog))) => {
            let dialog = dialog.clone();
            orders::in_dialog(model, dialog, action)
        }
        (_, Some(Overlay::Help { scroll, .. })) => {
            let scroll = *scroll;
            in_help(model, scroll, action);
            Vec::new()
        }
        (_, Some(Overlay::Columns { focus })) => {
            let at = *focus;
            columns::act(model, at, action);
            Vec::new()
        }
        (_, Some(Overlay::Prompt(_))) => prompt::in_prompt(model, action),
        (_, Some(Overlay::AddProxy)) => {
            model.overlay = None;
            match (&model.labels.join, action) {
                (Some(join), Action::Copy) => {
                    let join = join.clone();
                    model.notify(
                        NoticeLevel::Success,
                        "the command is in the clipboard, where the terminal allows it",
                    );
                    vec![Effect::Copy(join)]
                }
                _ => Vec::new(),
            }
        }
        (_, None) => screens::act(model, action),
    }
}

fn in_help(model: &mut Model, scroll: usize, action: Action) {
    let (page, last) = help::extent(model);
    let to = match action {
        Action::Down => scroll + 1,
        Action::Up => scroll.saturating_sub(1),
        Action::PageDown => scroll + page,
        Action::PageUp => scroll.saturating_sub(page),
        Action::First => 0,
        Action::Last => last,
        Action::Filter => return prompt::ask_help(model),
        Action::Close | Action::Help => {
            model.overlay = None;
            return;
        }
        _ => scroll,
    };
    if let Some(Overlay::Help { scroll, .. }) = &mut model.overlay {
        *scroll = to.min(last);
    }
}

/// `^C`: the first one lets streams finish, the second one does not.
fn interrupt(model: &mut Model) -> Vec<Effect> {
    model.overlay = None;
    if model.server_status.drain_requested {
        return vec![Effect::Exit(Exit::Now)];
    }
    model.server_status.drain_requested = true;
    model.server_status.is_draining = true;
    vec![Effect::Drain]
}
