//! A message and the model as it is make the model as it will be, and what is to be done. Nothing here reads a clock,
//! a descriptor or a channel.

mod orders;

use std::time::Instant;

use super::{
    Exit, format,
    keymap::{self, Action},
    model::{Dialog, Model, Overlay, Question, Sort, Step, Tone},
    msg::{Effect, Msg},
    terminal::{Key, KeyCode},
    view,
};
use crate::telemetry::{EventKind, Snapshot};

/// Takes one message.
pub(crate) fn update(model: &mut Model, msg: Msg, now: Instant) -> Vec<Effect> {
    // The clock of a test may stand still, but time never runs back.
    model.now = model.now.max(now);
    match msg {
        Msg::Key(key) => return press(model, key),
        Msg::Interrupted => return interrupt(model),
        Msg::Resized(size) => {
            model.size = size;
            if !model.layout().fits {
                // What cannot be seen must not be answered.
                model.overlay = None;
            }
            model.follow();
            return vec![Effect::Repaint];
        }
        Msg::Event(event) => happened(model, &event.kind),
        Msg::Missed(count) => {
            model.missed += count;
            let events = format::things(count, "lifecycle event");
            model.say(Tone::Warning, format!("{events} missed, resynced"));
        }
        Msg::Answered(id, reply) => orders::answered(model, id, reply),
        Msg::NoShell => model.say(Tone::Plain, "there is no shell to go back to"),
    }
    Vec::new()
}

fn happened(model: &mut Model, event: &EventKind) {
    let now = model.now;
    match event {
        EventKind::StreamOpened { key, addr, service } => model.streams.opened(*key, *addr, service, now),
        EventKind::StreamAssigned { key, proxy } => model.streams.assigned(*key, *proxy),
        EventKind::StreamEnded { key, reason, down, up, .. } => {
            model.streams.over(*key, reason, *down, *up, now);
        }
        EventKind::ProxyGone { proxy, reason, .. } => model.proxies.gone(*proxy, reason, now),
        EventKind::Draining { .. } => model.draining = true,
        // The others only go to the log; what they change is in the counters.
        _ => {}
    }
}

/// Takes where everything stands. Beside [`update`], because a sample is large, and its room is used again.
pub(crate) fn sample(model: &mut Model, snapshot: &Snapshot, now: Instant) {
    model.now = model.now.max(now);
    let now = model.now;
    model.sampled = true;
    model.uptime = snapshot.uptime;
    model.totals = snapshot.totals;
    model.throughput.note(now, &snapshot.totals);
    model.proxies.sample(&snapshot.proxies, now);
    model.streams.sample(&snapshot.streams, now);
    model.follow();
    model.expire_notice();
    if let Some(text) = model.orders.late(now) {
        model.say(Tone::Warning, text);
    }
}

fn press(model: &mut Model, key: Key) -> Vec<Effect> {
    if let Some(Overlay::Dialog(dialog)) = &mut model.overlay
        && dialog.number().is_some()
        && let KeyCode::Char('0'..='9') | KeyCode::Backspace = key.code
    {
        dialog.type_in(key.code.as_char());
        return Vec::new();
    }
    let Some(action) = keymap::action(model.context(), key) else { return Vec::new() };
    match (action, &mut model.overlay) {
        (Action::Interrupt, _) => interrupt(model),
        (Action::Redraw, _) => vec![Effect::Repaint],
        (Action::Suspend, _) => vec![Effect::Suspend],
        (_, Some(Overlay::Dialog(dialog))) => {
            let dialog = dialog.clone();
            orders::in_dialog(model, dialog, action)
        }
        (_, Some(Overlay::Help { scroll })) => {
            let scroll = *scroll;
            in_help(model, scroll, action);
            Vec::new()
        }
        (_, None) => in_table(model, action),
    }
}

fn in_table(model: &mut Model, action: Action) -> Vec<Effect> {
    let step = match action {
        Action::Down => Step::By(1),
        Action::Up => Step::By(-1),
        Action::PageDown => Step::Pages(1),
        Action::PageUp => Step::Pages(-1),
        Action::HalfPageDown => Step::HalfPages(1),
        Action::HalfPageUp => Step::HalfPages(-1),
        Action::First => Step::First,
        Action::Last => Step::Last,
        other => return act(model, other),
    };
    let mut cursor = model.cursor;
    cursor.step(step, model.rows(), model.layout().page());
    model.put_cursor(cursor);
    Vec::new()
}

fn act(model: &mut Model, action: Action) -> Vec<Effect> {
    let blind = !model.layout().fits;
    match action {
        // Nothing to see: only the ways out.
        Action::Kill | Action::KillUser | Action::Kick | Action::Mark | Action::Help if blind => {}
        Action::Kill => orders::ask_to_kill(model),
        Action::KillUser => orders::ask_to_kill_user(model),
        Action::Kick => orders::ask_to_kick(model),
        Action::Mark => return mark(model),
        Action::Unmark => model.marks.clear(),
        Action::SortNext | Action::SortPrevious => {
            let by = model.streams.sort().by.next(action == Action::SortNext);
            sort(model, Sort { by, reversed: false });
        }
        Action::Reverse => {
            let Sort { by, reversed } = model.streams.sort();
            sort(model, Sort { by, reversed: !reversed });
        }
        Action::ToggleEnded => {
            model.show_ended = !model.show_ended;
            model.follow();
        }
        Action::Help => model.overlay = Some(Overlay::Help { scroll: 0 }),
        Action::Quit if model.streams.live() == 0 => return vec![Effect::Exit(Exit::Quit)],
        Action::Quit => model.overlay = Some(Overlay::Dialog(Dialog::new(Question::Quit))),
        _ => {}
    }
    Vec::new()
}

/// Marks the selected stream, or takes its mark away, and goes on to the next one.
fn mark(model: &mut Model) -> Vec<Effect> {
    if let Some((id, row)) = model.selected() {
        if let Some(at) = model.marks.iter().position(|mark| *mark == id) {
            model.marks.remove(at);
        } else if row.is_live() {
            model.marks.push(id);
        }
    }
    in_table(model, Action::Down)
}

fn sort(model: &mut Model, sort: Sort) {
    let now = model.now;
    model.streams.set_sort(sort, now);
    model.follow();
}

fn in_help(model: &mut Model, scroll: usize, action: Action) {
    let (page, last) = view::help::extent(model);
    let scroll = match action {
        Action::Down => scroll + 1,
        Action::Up => scroll.saturating_sub(1),
        Action::PageDown => scroll + page,
        Action::PageUp => scroll.saturating_sub(page),
        Action::First => 0,
        Action::Last => last,
        Action::Close | Action::Help => {
            model.overlay = None;
            return;
        }
        _ => scroll,
    };
    model.overlay = Some(Overlay::Help { scroll: scroll.min(last) });
}

/// `^C`: the first one lets streams finish, the second one does not.
pub(super) fn interrupt(model: &mut Model) -> Vec<Effect> {
    model.overlay = None;
    if model.asked_to_drain {
        return vec![Effect::Exit(Exit::Now)];
    }
    model.asked_to_drain = true;
    model.draining = true;
    vec![Effect::Drain]
}
