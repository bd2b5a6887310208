//! From a key to an order: who is meant, the question, the order, what became of it.

use super::{interrupt, screens::selected_user};
use crate::{
    control::{Command, CommandError, CommandReply},
    ids::{Priority, ProxyId, UserChannelId},
    tui::{
        Exit, format,
        keymap::Action,
        model::{
            Button, Confirmation, Dialog, KillTarget, Model, NoticeLevel, Overlay, ProxyLine, RowId,
            ScreenId, StreamAttributes, StreamRow, UserLine,
        },
        msg::{CommandId, Effect},
    },
};

/// Asks whether to kill the marked streams, or the selected one. Looked at closely, it is that one.
pub(super) fn ask_to_kill(model: &mut Model) {
    model.streams_screen.cursor.choose();
    if !model.streams_screen.marks.is_empty() && marks_count(model) {
        let targets = model.streams_screen.marks.iter().filter_map(|id| {
            let row = model.live.streams.get(*id).filter(|row| row.is_live() && !row.killing)?;
            Some(KillTarget { row: *id, key: row.key })
        });
        return ask(model, Confirmation::Kill(targets.collect()));
    }
    let Some((id, row)) = model.selected() else {
        return model.notify(NoticeLevel::Info, "no stream to kill");
    };
    let key = row.key;
    // A stopped display may show one that has long ended.
    let now = model.live.streams.get(id);
    let (live, killing) = now.map_or((false, false), |row| (row.is_live(), row.killing));
    if !live {
        model.notify(NoticeLevel::Info, format!("{key} has ended already"));
    } else if killing {
        model.notify(NoticeLevel::Info, format!("{key} is being killed already"));
    } else {
        ask(model, Confirmation::Kill(vec![KillTarget { row: id, key }]));
    }
}

/// Marks are made in the table, and stand for its rows only.
fn marks_count(model: &Model) -> bool {
    model.screen == ScreenId::Streams && model.detail_screen.open.is_none()
}

/// Asks whether to kill every open stream that passes the filter. Which those are is settled now: one that comes while
/// the question is open is not meant.
pub(super) fn ask_to_kill_shown(model: &mut Model) {
    let streams = &model.live.streams;
    let targets = model.rows().iter().filter_map(|id| {
        let row = streams.get(*id).filter(|row| row.is_live() && !row.killing)?;
        Some(KillTarget { row: *id, key: row.key })
    });
    let targets: Vec<_> = targets.collect();
    if targets.is_empty() {
        return model.notify(NoticeLevel::Info, "no open stream is shown");
    }
    ask(model, Confirmation::Kill(targets));
}

/// What to do about the holding of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PauseChange {
    Pause,
    Resume,
    /// Resume if all of them are held, else pause.
    Toggle,
}

/// Holds streams or lets them go on, at once: nothing is lost by it.
pub(super) fn hold(model: &mut Model, hold: PauseChange) -> Vec<Effect> {
    let targets = targets(model, if hold == PauseChange::Resume { "resume" } else { "pause" });
    let held = |id: &RowId| model.live.streams.get(*id).is_some_and(|row| row.paused);
    let pause = match hold {
        PauseChange::Pause => true,
        PauseChange::Resume => false,
        PauseChange::Toggle => !targets.iter().all(held),
    };
    let verb = if pause { "paused" } else { "resumed" };
    let idle = if pause { "is paused already" } else { "is not paused" };
    order_each(model, &targets, verb, idle, |row| {
        let changed = row.paused != pause;
        row.paused = pause;
        let command = if pause { Command::PauseStream(row.key) } else { Command::ResumeStream(row.key) };
        changed.then_some(command)
    })
}

/// Gives streams another priority, made from the one that each has.
pub(super) fn give_priority(
    model: &mut Model,
    verb: &'static str,
    other: impl Fn(Priority) -> Priority,
) -> Vec<Effect> {
    let targets = targets(model, "give a priority");
    order_each(model, &targets, verb, "has that priority already", |row| {
        let before = row.priority;
        row.priority = other(before);
        (row.priority != before).then_some(Command::SetPriority(row.key, row.priority))
    })
}

/// The marked streams, or the selected one. Looked at closely, it is that one. Says why where there is none.
pub(super) fn targets(model: &mut Model, to: &str) -> Vec<RowId> {
    model.streams_screen.cursor.choose();
    if !model.streams_screen.marks.is_empty() && marks_count(model) {
        return model.streams_screen.marks.clone();
    }
    let Some((id, row)) = model.selected() else {
        model.notify(NoticeLevel::Info, format!("no stream to {to}"));
        return Vec::new();
    };
    let key = row.key;
    if model.live.streams.get(id).is_some_and(StreamRow::is_live) {
        return vec![id];
    }
    model.notify(NoticeLevel::Info, format!("{key} has ended already"));
    Vec::new()
}

/// Orders what `command` makes of each row. It changes the row ahead of the server, so that the next key builds on
/// this one; the next sample says what is really so.
pub(super) fn order_each(
    model: &mut Model,
    targets: &[RowId],
    verb: &'static str,
    idle: &str,
    mut command: impl FnMut(&mut StreamAttributes) -> Option<Command>,
) -> Vec<Effect> {
    if is_crowded(model, targets.len()) {
        return Vec::new();
    }
    let streams = &mut model.live.streams;
    let mut keys = Vec::new();
    let mut commands = Vec::new();
    for id in targets {
        if let Some(row) = streams.get_mut(*id).filter(|row| row.is_live()) {
            keys.push(row.key);
            commands.extend(command(row).map(|command| (row.key, command)));
        }
    }
    let Some((first, _)) = commands.first() else {
        match keys.as_slice() {
            [] => {}
            [key] => model.notify(NoticeLevel::Info, format!("{key} {idle}")),
            _ => model.notify(NoticeLevel::Info, format!("each of them {idle}")),
        }
        return Vec::new();
    };
    let batch = model.pending_commands.begin(first.to_string(), verb);
    let now = model.live.now;
    commands.into_iter().for_each(|(_, command)| model.pending_commands.add(batch, command, None, now));
    feed(model)
}

/// Asks whether to kill the selected user, or the user of the selected stream.
pub(super) fn ask_to_kill_user(model: &mut Model) {
    model.streams_screen.cursor.choose();
    // Under an unfolded user one of its streams may be selected: then that one is meant.
    if let (ScreenId::Sessions, None, Some(UserLine::Stream(..))) =
        (model.screen, &model.detail_screen.open, model.sessions_screen.cursor.selected())
    {
        return ask_to_kill(model);
    }
    let Some(user) = selected_user(model) else {
        return model.notify(NoticeLevel::Info, "no user to kill");
    };
    let streams = model.live.streams_of(user);
    if streams == 0 {
        return model.notify(NoticeLevel::Info, format!("user {user} has no open stream"));
    }
    ask(model, Confirmation::KillUser { user, streams });
}

/// Asks whether to kick the selected proxy, or the proxy of the selected stream.
pub(super) fn ask_to_kick(model: &mut Model) {
    model.streams_screen.cursor.choose();
    let Some(proxy) = selected_proxy(model) else {
        return model.notify(NoticeLevel::Info, "no proxy to kick");
    };
    let streams = model.live.proxies.up().find(|known| known.id == proxy).map(|known| known.streams);
    match streams {
        Some(streams) => ask(model, Confirmation::Kick { proxy, streams }),
        None => {
            let name = model.live.proxies.name(proxy);
            model.notify(NoticeLevel::Info, format!("{name} is gone already"));
        }
    }
}

/// The selected proxy, or the one that has the selected stream.
pub(super) fn selected_proxy(model: &Model) -> Option<ProxyId> {
    match (model.screen, model.proxies_screen.cursor.selected()) {
        (ScreenId::Proxies, Some(ProxyLine::Proxy(id))) => Some(id),
        (ScreenId::Proxies, Some(ProxyLine::Channel(id))) => Some(id.proxy),
        (ScreenId::Proxies, _) => None,
        _ => model.selected().and_then(|(_, row)| row.proxy),
    }
}

fn ask(model: &mut Model, question: Confirmation) {
    model.overlay = Some(Overlay::Dialog(Dialog::new(question)));
}

/// A key while a question is open.
pub(super) fn in_dialog(model: &mut Model, mut dialog: Dialog, action: Action) -> Vec<Effect> {
    let button = match action {
        Action::Next | Action::Previous => {
            dialog.turn(action == Action::Next);
            model.overlay = Some(Overlay::Dialog(dialog));
            return Vec::new();
        }
        Action::Press => dialog.focused(),
        Action::Yes => dialog.yes(),
        Action::DrainFirst if dialog.buttons().contains(&Button::Drain) => Button::Drain,
        Action::Close => Button::Cancel,
        _ => return Vec::new(),
    };
    if !dialog.allows(button) {
        // The number is the answer here; one key too many must not be.
        let number = dialog.number().unwrap_or_default();
        model.notify(NoticeLevel::Info, format!("type {number} to confirm"));
        return Vec::new();
    }
    model.overlay = None;
    match (button, dialog.question) {
        (Button::Kill, Confirmation::Kill(targets)) => kill(model, &targets),
        (Button::Kill, Confirmation::KillUser { user, .. }) => kill_user(model, user),
        (Button::Kick, Confirmation::Kick { proxy, .. }) => kick(model, proxy),
        (Button::Quit, _) => vec![Effect::Exit(Exit::Quit)],
        (Button::Drain, _) => interrupt(model),
        _ => Vec::new(),
    }
}

/// Orders to kill the streams that the dialog named. Those that ended while the dialog was open are left out: a key
/// may belong to another stream by now.
fn kill(model: &mut Model, targets: &[KillTarget]) -> Vec<Effect> {
    if is_crowded(model, targets.len()) {
        return Vec::new();
    }
    let mut left = Vec::new();
    for target in targets {
        match model.live.streams.get_mut(target.row) {
            Some(row) if row.is_live() && row.key == target.key => {
                row.killing = true;
                left.push(*target);
            }
            _ => {}
        }
    }
    let Some(first) = left.first() else {
        let name = match targets {
            [only] => format!("{} ended by itself", only.key),
            _ => "all of them ended by themselves".to_owned(),
        };
        model.notify(NoticeLevel::Info, format!("{name}; nothing was killed"));
        return Vec::new();
    };
    let batch = model.pending_commands.begin(first.key.to_string(), "killed");
    let streams = &model.live.streams;
    model.streams_screen.marks.retain(|mark| streams.get(*mark).is_some_and(|row| !row.killing));
    for target in left {
        model.pending_commands.add(batch, Command::KillStream(target.key), Some(target.row), model.live.now);
    }
    feed(model)
}

fn kill_user(model: &mut Model, user: UserChannelId) -> Vec<Effect> {
    one(model, format!("user {user}"), "killed", Command::KillUser(user))
}

fn kick(model: &mut Model, proxy: ProxyId) -> Vec<Effect> {
    let name = model.live.proxies.name(proxy);
    one(model, name, "kicked", Command::KickProxy(proxy))
}

pub(super) fn one(model: &mut Model, name: String, verb: &'static str, command: Command) -> Vec<Effect> {
    if is_crowded(model, 1) {
        return Vec::new();
    }
    let batch = model.pending_commands.begin(name, verb);
    model.pending_commands.add(batch, command, None, model.live.now);
    feed(model)
}

/// Says so where so many orders are still to be sent that more would have no bound.
fn is_crowded(model: &mut Model, more: usize) -> bool {
    let crowd = model.pending_commands.crowd(more);
    if let Some(unsent) = crowd {
        let orders = format::counted(unsent as u64, "order");
        model.notify(
            NoticeLevel::Warning,
            format!("nothing done: {orders} before this one are still to be sent"),
        );
    }
    crowd.is_some()
}

/// Sends as many orders as may be on their way.
pub(super) fn feed(model: &mut Model) -> Vec<Effect> {
    let mut effects = Vec::new();
    while let Some((id, command, row)) = model.pending_commands.send(model.live.now) {
        let row = row.map(|row| model.live.streams.get(row).is_some_and(StreamRow::is_live));
        if row == Some(false) {
            // It ended by itself before its turn came, and its key may be another stream's by now.
            settle(model, id, Err(CommandError::NotFound));
        } else {
            effects.push(Effect::SendCommand(id, command));
        }
    }
    effects
}

/// What became of an order; and the next ones.
pub(super) fn answered(model: &mut Model, id: CommandId, reply: CommandReply) -> Vec<Effect> {
    if reply == Err(CommandError::QueueFull) {
        // Not at once, or there would be no end to it.
        model.pending_commands.put_back(id);
        return Vec::new();
    }
    settle(model, id, reply);
    feed(model)
}

fn settle(model: &mut Model, id: CommandId, reply: CommandReply) {
    let reply = reply.map(|done| done.affected_streams).map_err(|why| why.to_string());
    let (free, outcome) = model.pending_commands.answered(id, reply);
    if let Some(row) = free.and_then(|row| model.live.streams.get_mut(row)) {
        row.killing = false;
    }
    if let Some(outcome) = outcome {
        let tone = if outcome.good { NoticeLevel::Success } else { NoticeLevel::Warning };
        model.notify(tone, format::truncate(&outcome.text, 200));
    }
}
