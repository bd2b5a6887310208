//! From a key to an order: who is meant, the question, the order, what became of it.

use super::{interrupt, screens::selected_user};
use crate::{
    control::{Command, Reply},
    ids::{ProxyId, UserChannelId},
    tui::{
        Exit, format,
        keymap::Action,
        model::{Button, Dialog, Model, Overlay, ProxyLine, Question, Screen, Target, Tone},
        msg::{Effect, OrderId},
    },
};

/// Asks whether to kill the marked streams, or the selected one. Looked at closely, it is that one.
pub(super) fn ask_to_kill(model: &mut Model) {
    model.cursor.choose();
    if !model.marks.is_empty() && model.detail.is_none() {
        let targets = model.marks.iter().filter_map(|id| {
            let row = model.live.streams.get(*id).filter(|row| row.is_live() && !row.killing)?;
            Some(Target { row: *id, key: row.key })
        });
        return ask(model, Question::Kill(targets.collect()));
    }
    let Some((id, row)) = model.selected() else {
        return model.say(Tone::Plain, "no stream to kill");
    };
    let key = row.key;
    // A stopped display may show one that has long ended.
    let now = model.live.streams.get(id);
    let (live, killing) = now.map_or((false, false), |row| (row.is_live(), row.killing));
    if !live {
        model.say(Tone::Plain, format!("{key} has ended already"));
    } else if killing {
        model.say(Tone::Plain, format!("{key} is being killed already"));
    } else {
        ask(model, Question::Kill(vec![Target { row: id, key }]));
    }
}

/// Asks whether to kill the selected user, or the user of the selected stream.
pub(super) fn ask_to_kill_user(model: &mut Model) {
    model.cursor.choose();
    let Some(user) = selected_user(model) else {
        return model.say(Tone::Plain, "no user to kill");
    };
    let streams = model.live.streams_of(user);
    if streams == 0 {
        return model.say(Tone::Plain, format!("user {user} has no open stream"));
    }
    ask(model, Question::KillUser { user, streams });
}

/// Asks whether to kick the selected proxy, or the proxy of the selected stream.
pub(super) fn ask_to_kick(model: &mut Model) {
    model.cursor.choose();
    let proxy = match (model.screen, model.proxy_cursor.selected()) {
        (Screen::Proxies, Some(ProxyLine::Proxy(id))) => Some(id),
        (Screen::Proxies, Some(ProxyLine::Channel(id))) => Some(id.proxy),
        _ => model.selected().and_then(|(_, row)| row.proxy),
    };
    let Some(proxy) = proxy else {
        return model.say(Tone::Plain, "no proxy to kick");
    };
    let streams = model.live.proxies.up().find(|known| known.id == proxy).map(|known| known.streams);
    match streams {
        Some(streams) => ask(model, Question::Kick { proxy, streams }),
        None => {
            let name = model.live.proxies.name(proxy);
            model.say(Tone::Plain, format!("{name} is gone already"));
        }
    }
}

fn ask(model: &mut Model, question: Question) {
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
        Action::Drain if dialog.buttons().contains(&Button::Drain) => Button::Drain,
        Action::Close => Button::Cancel,
        _ => return Vec::new(),
    };
    if !dialog.allows(button) {
        // The number is the answer here; one key too many must not be.
        let number = dialog.number().unwrap_or_default();
        model.say(Tone::Plain, format!("type {number} to confirm"));
        return Vec::new();
    }
    model.overlay = None;
    match (button, dialog.question) {
        (Button::Kill, Question::Kill(targets)) => kill(model, &targets),
        (Button::Kill, Question::KillUser { user, .. }) => kill_user(model, user),
        (Button::Kick, Question::Kick { proxy, .. }) => kick(model, proxy),
        (Button::Quit, _) => vec![Effect::Exit(Exit::Quit)],
        (Button::Drain, _) => interrupt(model),
        _ => Vec::new(),
    }
}

/// Orders to kill the streams that the dialog named. Those that ended while the dialog was open are left out: a key
/// may belong to another stream by now.
fn kill(model: &mut Model, targets: &[Target]) -> Vec<Effect> {
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
        model.say(Tone::Plain, format!("{name}; nothing was killed"));
        return Vec::new();
    };
    let batch = model.orders.begin(first.key.to_string());
    model.marks.retain(|mark| !left.iter().any(|target| target.row == *mark));
    left.into_iter()
        .map(|target| {
            let command = Command::KillStream(target.key);
            let id = model.orders.add(batch, command.clone(), Some(target.row), model.live.now);
            Effect::Order(id, command)
        })
        .collect()
}

fn kill_user(model: &mut Model, user: UserChannelId) -> Vec<Effect> {
    one(model, format!("user {user}"), Command::KillUser(user))
}

fn kick(model: &mut Model, proxy: ProxyId) -> Vec<Effect> {
    let name = model.live.proxies.name(proxy);
    one(model, name, Command::KickProxy(proxy))
}

fn one(model: &mut Model, name: String, command: Command) -> Vec<Effect> {
    let batch = model.orders.begin(name);
    let id = model.orders.add(batch, command.clone(), None, model.live.now);
    vec![Effect::Order(id, command)]
}

/// What became of an order.
pub(super) fn answered(model: &mut Model, id: OrderId, reply: Reply) {
    let reply = reply.map(|done| done.streams).map_err(|why| why.to_string());
    let (free, outcome) = model.orders.answered(id, reply);
    if let Some(row) = free.and_then(|row| model.live.streams.get_mut(row)) {
        row.killing = false;
    }
    if let Some(outcome) = outcome {
        let tone = if outcome.good { Tone::Good } else { Tone::Warning };
        model.say(tone, format::cut(&outcome.text, 200));
    }
}
