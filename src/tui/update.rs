//! A message and the model as it is make the model as it will be, and what is to be done. Nothing here reads a clock,
//! a descriptor or a channel.

use std::time::{Duration, Instant};

use super::{
    Exit, format,
    keymap::{self, Action},
    model::{Button, Dialog, Model, Order, Overlay, Question, RowId, Sort, Step, Tone},
    msg::{Effect, Msg, OrderId},
    terminal::Key,
    view,
};
use crate::{
    control::{Command, Reply},
    ids::StreamKey,
    telemetry::{EventKind, Snapshot},
};

/// When an answer is late enough to say so.
const LATE: Duration = Duration::from_secs(5);

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
        Msg::Sample(snapshot) => sample(model, &snapshot),
        Msg::Answered(id, reply) => answered(model, id, reply),
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

fn sample(model: &mut Model, snapshot: &Snapshot) {
    let now = model.now;
    model.sampled = true;
    model.uptime = snapshot.uptime;
    model.totals = snapshot.totals;
    model.throughput.note(now, &snapshot.totals);
    model.proxies.sample(&snapshot.proxies, now);
    model.streams.sample(&snapshot.streams, now);
    model.follow();
    model.expire_notice();
    if let Some(order) = model.orders.iter_mut().find(|order| !order.late && now - order.since >= LATE) {
        order.late = true;
        let text = format!("no answer yet: kill {}", order.key);
        model.say(Tone::Warning, text);
    }
}

fn answered(model: &mut Model, id: OrderId, reply: Reply) {
    let Some(at) = model.orders.iter().position(|order| order.id == id) else { return };
    let order = model.orders.swap_remove(at);
    match reply {
        Ok(_) => model.say(Tone::Good, format!("killed {}", order.key)),
        Err(why) => {
            if let Some(row) = model.streams.get_mut(order.row) {
                row.killing = false;
            }
            model.say(Tone::Warning, format!("{} was not killed: {why}", order.key));
        }
    }
}

fn press(model: &mut Model, key: Key) -> Vec<Effect> {
    let Some(action) = keymap::action(model.context(), key) else { return Vec::new() };
    match (action, &mut model.overlay) {
        (Action::Interrupt, _) => interrupt(model),
        (Action::Redraw, _) => vec![Effect::Repaint],
        (Action::Suspend, _) => vec![Effect::Suspend],
        (_, Some(Overlay::Dialog(dialog))) => {
            let mut dialog = *dialog;
            in_dialog(model, &mut dialog, action)
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
    cursor.step(step, model.rows(), model.streams.unsettled(), model.layout().page());
    model.cursor = cursor;
    Vec::new()
}

fn act(model: &mut Model, action: Action) -> Vec<Effect> {
    let blind = !model.layout().fits;
    match action {
        // Nothing to see: only the ways out.
        Action::Kill | Action::Help if blind => {}
        Action::Kill => ask_to_kill(model),
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

fn sort(model: &mut Model, sort: Sort) {
    let now = model.now;
    model.streams.set_sort(sort, now);
    model.follow();
}

fn ask_to_kill(model: &mut Model) {
    let Some((id, row)) = model.selected() else {
        return model.say(Tone::Plain, "no stream to kill");
    };
    let (key, live, killing) = (row.key, row.is_live(), row.killing);
    if !live {
        model.say(Tone::Plain, format!("{key} has ended already"));
    } else if killing {
        model.say(Tone::Plain, format!("{key} is being killed already"));
    } else {
        model.overlay = Some(Overlay::Dialog(Dialog::new(Question::Kill { row: id, key })));
    }
}

fn in_dialog(model: &mut Model, dialog: &mut Dialog, action: Action) -> Vec<Effect> {
    let button = match action {
        Action::Next | Action::Previous => {
            dialog.turn(action == Action::Next);
            model.overlay = Some(Overlay::Dialog(*dialog));
            return Vec::new();
        }
        Action::Press => dialog.focused(),
        Action::Yes => dialog.yes(),
        Action::Drain if dialog.buttons().contains(&Button::Drain) => Button::Drain,
        Action::Close => Button::Cancel,
        _ => return Vec::new(),
    };
    model.overlay = None;
    match (button, dialog.question) {
        (Button::Kill, Question::Kill { row, key }) => kill(model, row, key),
        (Button::Quit, _) => vec![Effect::Exit(Exit::Quit)],
        (Button::Drain, _) => interrupt(model),
        _ => Vec::new(),
    }
}

/// Orders to kill the stream that the dialog named. If it ended while the dialog was open nothing is ordered: its key
/// may belong to another stream by now.
fn kill(model: &mut Model, row: RowId, key: StreamKey) -> Vec<Effect> {
    match model.streams.get_mut(row) {
        Some(target) if target.is_live() && target.key == key => target.killing = true,
        _ => {
            model.say(Tone::Plain, format!("{key} ended by itself; nothing was killed"));
            return Vec::new();
        }
    }
    model.next_order += 1;
    let id = OrderId(model.next_order);
    model.orders.push(Order { id, row, key, since: model.now, late: false });
    vec![Effect::Order(id, Command::KillStream(key))]
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
fn interrupt(model: &mut Model) -> Vec<Effect> {
    model.overlay = None;
    if model.asked_to_drain {
        return vec![Effect::Exit(Exit::Now)];
    }
    model.asked_to_drain = true;
    model.draining = true;
    vec![Effect::Drain]
}
