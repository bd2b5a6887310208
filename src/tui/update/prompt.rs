//! Lines that are typed: the filter, a word to find, a command.

use super::{command, screens, steer};
use crate::tui::{
    keymap::{self, Action},
    model::{Asked, Cursor, Edit, Filter, LineEdit, Model, Overlay, Prompt, RowId},
    msg::Effect,
    terminal::Key,
};

pub(super) fn ask(model: &mut Model, what: Asked, text: String) {
    model.overlay = Some(Overlay::Prompt(Prompt { what, line: LineEdit::new(text), wrong: None }));
}

pub(super) fn ask_filter(model: &mut Model) {
    let before = model.filter.text().to_owned();
    ask(model, Asked::Filter { before: before.clone(), cursor: model.cursor }, before);
}

pub(super) fn ask_log_filter(model: &mut Model) {
    let before = model.log.only().to_owned();
    ask(model, Asked::LogFilter { before: before.clone() }, before);
}

pub(super) fn ask_command(model: &mut Model) {
    ask(model, Asked::Command, String::new());
}

pub(super) fn ask_help(model: &mut Model) {
    ask(model, Asked::Help, String::new());
}

/// A key that no binding wants: a character of the line.
pub(super) fn type_in(model: &mut Model, key: Key) {
    if let Some(c) = keymap::typed(key) {
        edit(model, Edit::Insert(c));
    }
}

fn edit(model: &mut Model, edit: Edit) {
    if let Some(Overlay::Prompt(prompt)) = &mut model.overlay {
        prompt.line.edit(edit);
        prompt.wrong = None;
    }
    changed(model);
}

/// What is typed takes effect while it is typed, where that harms nothing.
fn changed(model: &mut Model) {
    let Some(Overlay::Prompt(prompt)) = &mut model.overlay else { return };
    let text = prompt.line.text().to_owned();
    match prompt.what {
        Asked::Filter { cursor, .. } => match Filter::parse(&text) {
            Ok(filter) => try_filter(model, filter, cursor),
            // The last one that could be understood stays.
            Err(why) => prompt.wrong = Some(why.to_string()),
        },
        Asked::LogFilter { .. } => model.log.show_only(text),
        Asked::Help | Asked::Command | Asked::Limit(_) | Asked::Weight(_) | Asked::Policy(_) => {}
    }
}

/// Filters the table, and selects what was selected before anything was typed, where it is shown.
fn try_filter(model: &mut Model, filter: Filter, cursor: Cursor<RowId>) {
    model.put_cursor(cursor);
    screens::set_filter(model, filter);
}

/// A key that means something to the line.
pub(super) fn in_prompt(model: &mut Model, action: Action) -> Vec<Effect> {
    match action {
        Action::Press => return take(model),
        Action::Close => cancel(model),
        Action::Complete => complete(model),
        Action::Backspace => {
            let Some(Overlay::Prompt(prompt)) = &model.overlay else { return Vec::new() };
            // One more than there is to take back: the operator wants out.
            if prompt.line.text().is_empty() {
                cancel(model);
            } else {
                edit(model, Edit::Backspace);
            }
        }
        Action::Delete => edit(model, Edit::Delete),
        Action::DeleteWord => edit(model, Edit::DeleteWord),
        Action::DeleteAll => edit(model, Edit::DeleteAll),
        Action::Left => edit(model, Edit::Left),
        Action::Right => edit(model, Edit::Right),
        Action::First => edit(model, Edit::Home),
        Action::Last => edit(model, Edit::End),
        _ => {}
    }
    Vec::new()
}

fn take(model: &mut Model) -> Vec<Effect> {
    let Some(Overlay::Prompt(prompt)) = &model.overlay else { return Vec::new() };
    if prompt.wrong.is_some() {
        return Vec::new();
    }
    let (what, text) = (prompt.what.clone(), prompt.line.text().trim().to_owned());
    if let Some(result) = steer::answer(model, &what, &text) {
        match (result, &mut model.overlay) {
            (Ok(effects), overlay) => {
                *overlay = None;
                return effects;
            }
            // The line stays, to be mended.
            (Err(why), Some(Overlay::Prompt(prompt))) => prompt.wrong = Some(why),
            (Err(_), _) => {}
        }
        return Vec::new();
    }
    model.overlay = None;
    match what {
        Asked::Command if !text.is_empty() => return command::run(model, &text),
        Asked::Help => model.overlay = Some(Overlay::Help { scroll: 0, search: text }),
        _ => {}
    }
    Vec::new()
}

fn cancel(model: &mut Model) {
    let Some(Overlay::Prompt(prompt)) = model.overlay.take() else { return };
    match prompt.what {
        Asked::Filter { before, cursor } => {
            try_filter(model, Filter::parse(&before).unwrap_or_default(), cursor);
        }
        Asked::LogFilter { before } => model.log.show_only(before),
        Asked::Help => model.overlay = Some(Overlay::Help { scroll: 0, search: String::new() }),
        Asked::Command | Asked::Limit(_) | Asked::Weight(_) | Asked::Policy(_) => {}
    }
}

/// What the word that is being typed may become, and what stands before it.
pub(crate) fn candidates(model: &Model) -> (String, Vec<String>) {
    let Some(Overlay::Prompt(prompt)) = &model.overlay else { return Default::default() };
    let text = prompt.line.text();
    let (kept, word) = match text.rsplit_once(' ') {
        Some((kept, word)) => (format!("{kept} "), word),
        None => (String::new(), text),
    };
    let candidates: Vec<String> = match prompt.what {
        Asked::Command => command::candidates(model, text),
        Asked::Limit(_) => command::words("limit"),
        Asked::Policy(_) => command::words("policy"),
        Asked::Filter { .. } => {
            Filter::FIELDS.iter().chain(&Filter::FIGURES).map(ToString::to_string).collect()
        }
        _ => Vec::new(),
    };
    (kept, candidates.into_iter().filter(|name| name.starts_with(word)).collect())
}

/// Goes on with the word as far as there is only one way to.
fn complete(model: &mut Model) {
    let (kept, fitting) = candidates(model);
    let mut fitting = fitting.iter();
    let Some(first) = fitting.next() else { return };
    let common = fitting.fold(first.as_str(), |common, name| {
        let same = common.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        &common[..same]
    });
    let text = format!("{kept}{common}");
    if let Some(Overlay::Prompt(prompt)) = &mut model.overlay {
        prompt.line = LineEdit::new(text);
    }
    changed(model);
}
